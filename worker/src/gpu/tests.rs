//! GPUs by script: what is told of them, and what is not.

use super::*;
use serde_json::{Value, json};
use std::path::Path;

const LOOK: Duration = Duration::from_millis(5);
/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(20);

fn write(path: &Path, script: &Value) {
    // Renamed, so that no look finds half of it.
    let half = path.with_extension("half");
    std::fs::write(&half, script.to_string()).expect("writes");
    std::fs::rename(&half, path).expect("renames");
}

struct Farm {
    folder: tempfile::TempDir,
    gpus: Gpus,
}

impl Farm {
    fn new(script: &Value, given: &[&str]) -> Farm {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gpus.json");
        write(&path, script);
        let gpus = Gpus::watch(Probe::Script(path), given.iter().map(ToString::to_string).collect(), LOOK);
        Farm { folder, gpus }
    }

    fn now(&self, script: &Value) {
        write(&self.folder.path().join("gpus.json"), script);
    }

    async fn broken(&self) -> GpuFault {
        tokio::time::timeout(SOON, self.gpus.broken()).await.expect("it breaks");
        self.gpus.faults().remove(0)
    }
}

fn gpu(uuid: &str) -> Value {
    json!({ "uuid": uuid, "model": "NVIDIA L4", "memory_total_bytes": 100, "memory_used_bytes": 10 })
}

#[test]
fn a_probe_is_named_by_its_words() {
    assert_eq!("nvml".parse(), Ok(Probe::Nvml));
    assert_eq!("program:/a/b".parse(), Ok(Probe::Program("/a/b".into())));
    assert_eq!("none".parse(), Ok(Probe::Nothing));
    assert_eq!("script:/a:b".parse(), Ok(Probe::Script("/a:b".into())));
    for text in ["", "script:", "program:", "script", "nvml:", "NVML"] {
        assert!(text.parse::<Probe>().is_err(), "{text}");
    }
}

#[tokio::test]
async fn a_worker_sees_the_gpus_that_it_was_given_or_all() {
    let both = json!({ "gpus": [gpu("GPU-1"), gpu("GPU-2")] });
    let farm = Farm::new(&both, &[]);
    farm.gpus.known().await;
    assert_eq!(farm.gpus.uuids(), ["GPU-1", "GPU-2"]);
    let farm = Farm::new(&both, &["GPU-2"]);
    assert_eq!(farm.gpus.uuids(), ["GPU-2"], "known without a look");
    farm.gpus.look_again().await;
    let samples = farm.gpus.samples();
    assert_eq!((samples.len(), samples[0].uuid.as_str()), (1, "GPU-2"));
}

#[tokio::test]
async fn a_machine_without_gpus_is_no_error() {
    for probe in [Probe::Nothing, Probe::Nvml, Probe::Script("/nowhere".into())] {
        let gpus = Gpus::watch(probe, Vec::new(), LOOK);
        gpus.known().await;
        assert!(gpus.uuids().is_empty() && gpus.samples().is_empty() && gpus.faults().is_empty());
        assert_eq!(gpus.meter().read(), None);
    }
}

#[tokio::test]
async fn what_cannot_be_is_left_out() {
    let largest = u64::MAX;
    let odd = json!({ "gpus": [{
        "uuid": "GPU-1\n", "memory_total_bytes": largest, "memory_used_bytes": largest, "busy_percent": 101,
        "power_milliwatts": u32::MAX, "energy_millijoules": 9_223_372_036_854_775_794_u64, "temperature_celsius": 4096,
        "sm_clock_mhz": u32::MAX, "ecc_uncorrected": largest, "encoder_percent": 100,
    }] });
    let farm = Farm::new(&odd, &[]);
    farm.gpus.known().await;
    let expected = GpuSample { uuid: "GPU-1".into(), encoder_percent: Some(100), ..GpuSample::default() };
    assert_eq!(farm.gpus.samples(), [expected]);
}

#[tokio::test]
async fn an_xid_of_the_hardware_breaks_a_gpu_and_one_of_the_scene_does_not() {
    let farm = Farm::new(&json!({ "gpus": [gpu("GPU-1")] }), &["GPU-1"]);
    let before = Instant::now();
    farm.now(&json!({ "gpus": [gpu("GPU-1")], "xids": [["GPU-1", 31]] }));
    farm.gpus.look_again().await;
    assert_eq!(farm.gpus.xid_since(before), Some(31));
    assert!(farm.gpus.faults().is_empty());
    assert_eq!(farm.gpus.samples()[0].xid, Some(31));
    farm.now(&json!({ "gpus": [gpu("GPU-1")], "xids": [["GPU-1", 31], ["GPU-1", 79]] }));
    let fault = farm.broken().await;
    assert_eq!(fault.uuid, "GPU-1");
    assert_eq!(fault.reason, "its driver tells of Xid 79 (it has fallen off the bus)");
}

#[tokio::test]
async fn a_gpu_that_vanishes_or_is_lost_or_fails_in_its_memory_is_broken() {
    let ecc = |count: u64| {
        let mut gpu = gpu("GPU-1");
        gpu["ecc_uncorrected"] = json!(count);
        json!({ "gpus": [gpu] })
    };
    for (later, reason) in [
        (json!({ "gpus": [] }), "its driver does not find it"),
        (json!({ "gpus": [gpu("GPU-1")], "lost": ["GPU-1"] }), "its driver has lost it"),
        (ecc(5), "2 uncorrectable memory errors since the worker began"),
    ] {
        let farm = Farm::new(&ecc(3), &[]);
        farm.gpus.known().await;
        assert!(farm.gpus.faults().is_empty(), "what was counted before is not this worker's");
        farm.now(&later);
        assert_eq!(farm.broken().await.reason, reason);
        assert_eq!(farm.gpus.faults().len(), 1);
    }
}

#[tokio::test]
async fn a_driver_that_fails_for_a_while_breaks_no_gpu() {
    let good = json!({ "gpus": [gpu("GPU-1")] });
    let farm = Farm::new(&good, &["GPU-1"]);
    // A driver that fails from the beginning is not looked at again.
    let found = async {
        while farm.gpus.samples().is_empty() {
            farm.gpus.look_again().await;
        }
    };
    tokio::time::timeout(SOON, found).await.expect("it is seen once");
    farm.now(&json!({ "fails": "the driver is being replaced" }));
    let meter = farm.gpus.meter();
    farm.now(&good);
    let looked = async {
        while meter.read().is_none() {
            farm.gpus.look_again().await;
        }
    };
    tokio::time::timeout(SOON, looked).await.expect("it is read again");
    assert!(farm.gpus.faults().is_empty());
    assert!(meter.read().is_some_and(|used| used.vram_peak_bytes == Some(10)));
}
