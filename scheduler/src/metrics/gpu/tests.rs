#![allow(clippy::float_cmp)] // Few numbers, all of them exact.

use super::super::{Alias, Metrics};
use super::*;

const START: Timestamp = Timestamp(1_000_000);

fn at(seconds: u64) -> Timestamp {
    START.after(Duration::from_secs(seconds))
}

fn worker(number: usize) -> WorkerId {
    format!("w{number}").parse().expect("a good id")
}

fn sample(uuid: &str) -> GpuSample {
    GpuSample {
        uuid: uuid.to_owned(),
        model: "NVIDIA L40S".to_owned(),
        index: Some(0),
        memory_total_bytes: Some(48 << 30),
        memory_used_bytes: Some(3 << 30),
        busy_percent: Some(50),
        energy_millijoules: Some(10_000_000),
        power_milliwatts: Some(300_000),
        temperature_celsius: Some(61),
        ..GpuSample::default()
    }
}

fn beat(metrics: &Metrics, number: usize, seconds: u64, chunk: u64, sample: GpuSample) {
    let function = "blender@3".parse().expect("a key");
    let host = format!("node{number}");
    let heartbeat = Heartbeat { host, chunk, attempt: 1, gpu_samples: vec![sample], ..Heartbeat::default() };
    metrics.gpus.observe(&worker(number), &function, &heartbeat, at(seconds));
}

fn value(text: &str, series: &str) -> f64 {
    let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().expect("a number")
}

const KIND: &str = "{function=\"blender\",gpu=\"L40S\"}";

#[test]
fn sums_stay_when_a_worker_of_a_few_seconds_has_left() {
    let metrics = Metrics::default();
    beat(&metrics, 1, 0, 0, sample("GPU-1"));
    beat(&metrics, 1, 1, 7, GpuSample { energy_millijoules: Some(10_300_000), ..sample("GPU-1") });
    let peak = GpuSample { memory_used_bytes: Some(20 << 30), busy_percent: Some(100), ..sample("GPU-1") };
    beat(&metrics, 1, 3, 7, GpuSample { energy_millijoules: Some(10_900_000), throttle_reasons: Some(0x45), ..peak });
    let text = metrics.text(at(3));
    assert_eq!(value(&text, "framewake_gpu_busy_ratio{uuid=\"GPU-1\"}"), 1.0);
    assert_eq!(value(&text, "framewake_gpu_working{uuid=\"GPU-1\"}"), 1.0);
    assert!(text.contains("framewake_gpu_info{uuid=\"GPU-1\",gpu=\"L40S\",host=\"node1\""), "{text}");
    let listed = metrics.gpus.list(None, 10, at(3));
    assert_eq!((listed.len(), listed[0].uuid.as_str(), listed[0].host.as_str()), (1, "GPU-1", "node1"));
    assert_eq!(
        (listed[0].working, listed[0].busy_percent, listed[0].memory_used_bytes),
        (true, Some(100), Some(20 << 30))
    );
    assert!(metrics.gpus.list(Some("GPU-1"), 10, at(3)).is_empty(), "those past the first page");
    let later = metrics.text(at(60));
    assert!(!later.contains("GPU-1"), "forgotten:\n{later}");
    assert!(metrics.gpus.list(None, 10, at(60)).is_empty());
    assert_eq!(value(&later, "framewake_gpus"), 0.0);
    for (name, expected) in [
        ("framewake_gpu_seconds_total", 3.0),
        ("framewake_gpu_busy_seconds_total", 2.5),
        ("framewake_gpu_energy_joules_total", 900.0),
        ("framewake_gpu_samples_total", 3.0),
        ("framewake_gpu_memory_peak_bytes_count", 1.0),
    ] {
        assert_eq!(value(&later, &format!("{name}{KIND}")), expected, "{name}");
    }
    assert_eq!(value(&later, &format!("framewake_gpu_memory_peak_bytes_sum{KIND}")), (20u64 << 30) as f64);
    for (reason, expected) in [("power_cap", 2.0), ("hardware_thermal", 2.0)] {
        let series =
            format!("framewake_gpu_throttled_seconds_total{{function=\"blender\",gpu=\"L40S\",reason=\"{reason}\"}}");
        assert_eq!(value(&later, &series), expected, "{reason}");
    }
    assert!(!later.contains("reason=\"hardware\"") && !later.contains("idle"), "bits that are not set:\n{later}");
}

#[test]
fn energy_counters_that_begin_anew_or_jump_are_not_believed_blindly() {
    for (before, after, power, expected) in [
        (Some(1_000), Some(51_000), None, 50.0),
        // The driver was loaded anew: what it counted since.
        (Some(9_000_000), Some(20_000), None, 20.0),
        // Nobody takes a megawatt.
        (Some(0), Some(u64::MAX), Some(100_000), 100.0),
        (None, None, Some(100_000), 100.0),
        (Some(5), None, None, 0.0),
        (None, None, Some(u32::MAX), 2000.0),
    ] {
        let metrics = Metrics::default();
        let told = |energy| GpuSample { energy_millijoules: energy, power_milliwatts: power, ..sample("GPU-1") };
        beat(&metrics, 1, 0, 0, told(before));
        beat(&metrics, 1, 1, 0, told(after));
        let joules = value(&metrics.text(at(1)), &format!("framewake_gpu_energy_joules_total{KIND}"));
        assert_eq!(joules, expected, "{before:?} {after:?} {power:?}");
    }
}

#[test]
fn silence_is_not_summed() {
    let metrics = Metrics::default();
    beat(&metrics, 1, 0, 0, sample("GPU-1"));
    beat(&metrics, 1, 25, 0, sample("GPU-1"));
    beat(&metrics, 1, 27, 0, sample("GPU-1"));
    assert_eq!(value(&metrics.text(at(27)), &format!("framewake_gpu_seconds_total{KIND}")), 2.0);
}

#[test]
fn an_xid_counts_once_however_often_it_is_told() {
    let metrics = Metrics::default();
    let told = |xid| GpuSample { xid: Some(xid), ..sample("GPU-1") };
    for (number, second, xid) in
        [(1, 0, 0), (1, 2, 79), (2, 3, 0), (1, 4, 79), (2, 5, 0), (1, 6, 79), (1, 8, 31), (2, 9, 9999)]
    {
        beat(&metrics, number, second, 0, told(xid));
    }
    let text = metrics.text(at(9));
    for (xid, blame) in [("79", "hardware"), ("31", "application"), ("other", "unclear")] {
        let series = format!("framewake_gpu_xids_total{{blame=\"{blame}\",gpu=\"L40S\",xid=\"{xid}\"}}");
        assert_eq!(value(&text, &series), 1.0);
    }
    assert!(!text.contains("xid=\"0\""));
}

#[test]
fn memory_errors_count_what_was_added() {
    let metrics = Metrics::default();
    for (second, corrected) in [(0, 100), (1, 103), (2, 1), (3, u64::MAX), (4, 2)] {
        beat(&metrics, 1, second, 0, GpuSample { ecc_corrected: Some(corrected), ..sample("GPU-1") });
    }
    let series = "framewake_gpu_ecc_errors_total{gpu=\"L40S\",kind=\"corrected\"}";
    assert_eq!(value(&metrics.text(at(4)), series), 6.0, "three, one since the driver came back, and two since again");
}

#[test]
fn so_many_gpus_are_shown_and_the_others_are_counted() {
    let metrics = Metrics::new(&[Alias::Dcgm], "");
    let all = SHOWN_MAX + 100;
    for number in 0..all {
        beat(&metrics, number, 0, 0, sample(&format!("GPU-{number:04}")));
    }
    let text = metrics.text(at(1));
    let count = |text: &str, name: &str| text.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!(count(&text, "framewake_gpu_power_watts{"), SHOWN_MAX);
    assert_eq!(count(&text, "DCGM_FI_DEV_GPU_UTIL{"), SHOWN_DCGM_MAX);
    assert_eq!((value(&text, "framewake_gpus"), value(&text, "framewake_gpus_hidden")), (all as f64, 100.0));
    assert!(text.contains(
        "DCGM_FI_DEV_FB_USED{gpu=\"0\",UUID=\"GPU-0000\",device=\"nvidia0\",modelName=\"NVIDIA L40S\",Hostname=\"node0\"} 3072\n"
    ));
    // The last hundred go on, the others are gone: there is room.
    for number in SHOWN_MAX..all {
        beat(&metrics, number, 40, 0, sample(&format!("GPU-{number:04}")));
    }
    let text = metrics.text(at(41));
    assert_eq!((count(&text, "framewake_gpu_power_watts{"), value(&text, "framewake_gpus_hidden")), (100, 0.0));
}

#[test]
fn hostile_samples_fill_neither_memory_nor_page() {
    let metrics = Metrics::default();
    for number in 0..FOLLOWED_MAX + 10 {
        let model = format!("model {number}");
        let uuid = format!("{number}-{}", "x".repeat(500));
        beat(&metrics, 1, 0, 0, GpuSample { model, driver_version: "9".repeat(5000), ..sample(&uuid) });
    }
    beat(&metrics, 1, 0, 0, sample(""));
    let text = metrics.text(at(0));
    assert_eq!(value(&text, "framewake_gpus"), FOLLOWED_MAX as f64);
    assert_eq!(value(&text, "framewake_gpu_samples_dropped_total"), 10.0);
    assert!(text.len() < 2_000_000, "{} bytes", text.len());
}
