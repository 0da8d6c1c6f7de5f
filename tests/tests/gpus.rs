//! GPUs as a farm meets them, with NVIDIA's library played by a stub and everything else real.

use framewake_proto::wire::GpuSample;
use framewake_tests::nvml::{StubNvml, gpu};
use framewake_tests::parts::built;
use std::process::{Command, Output};

/// What the worker's program says of the GPUs of a machine.
fn list(stub: &StubNvml) -> Output {
    let mut command = Command::new(built("framewake-worker"));
    command.arg("list-gpus").envs(stub.environment()).output().expect("the program runs")
}

#[test]
fn every_field_that_the_driver_tells_is_read_and_no_other() {
    let folder = tempfile::tempdir().expect("room for a folder");
    let stub = StubNvml::build(folder.path());
    let all = [
        ("memory_used", 5 << 30),
        ("busy", 87),
        ("encoder", 12),
        ("power", 71_500),
        ("energy", 123_456_789),
        ("temperature", 64),
        ("clock", 2040),
        ("memory_clock", 6251),
        ("throttle", 4),
        ("ecc_corrected", 3),
        ("ecc_uncorrected", 0),
        ("processes", 2),
    ];
    stub.says(&(gpu(0, "GPU-aa", 24, &all) + "gpu 1 uuid GPU-bb\nfail nvmlDeviceGetTemperature 999\n"));
    let output = list(&stub);
    let gpus: Vec<GpuSample> = serde_json::from_slice(&output.stdout).expect("a list of GPUs");
    let first = GpuSample {
        uuid: "GPU-aa".into(),
        model: "NVIDIA Test 24".into(),
        driver_version: "570.86.15".into(),
        index: Some(0),
        memory_total_bytes: Some(24 << 30),
        memory_used_bytes: Some(5 << 30),
        busy_percent: Some(87),
        memory_busy_percent: Some(0),
        encoder_percent: Some(12),
        // The stub has no such function.
        decoder_percent: None,
        power_milliwatts: Some(71_500),
        energy_millijoules: Some(123_456_789),
        // It failed.
        temperature_celsius: None,
        sm_clock_mhz: Some(2040),
        memory_clock_mhz: Some(6251),
        throttle_reasons: Some(4),
        ecc_corrected: Some(3),
        ecc_uncorrected: Some(0),
        processes: Some(2),
        xid: None,
    };
    let second =
        GpuSample { uuid: "GPU-bb".into(), driver_version: "570.86.15".into(), index: Some(1), ..GpuSample::default() };
    assert_eq!(gpus, [first, second]);
}

#[test]
fn a_library_that_can_not_be_used_is_no_gpu_and_the_reason_is_said() {
    let folder = tempfile::tempdir().expect("room for a folder");
    let stub = StubNvml::build(folder.path());
    for (says, reason) in [("init 9\n", "driver"), ("init 999\n", "internal"), ("init 18\n", "mismatch")] {
        stub.says(&(gpu(0, "GPU-aa", 24, &[]) + says));
        let output = list(&stub);
        let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert!(!output.status.success() && said.contains(reason), "{says}: {said}");
    }
    std::fs::write(folder.path().join("nvml/libnvidia-ml.so.1"), "no library").expect("writable");
    let said = String::from_utf8_lossy(&list(&stub).stderr).into_owned();
    assert!(said.contains("libnvidia-ml.so.1"), "{said}");
}
