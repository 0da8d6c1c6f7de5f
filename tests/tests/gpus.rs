//! GPUs as a farm meets them, with NVIDIA's library played by a stub and everything else real.

use framewake_proto::api::{AttemptOutcome, JobState, PlaceState, PlaceView, TaskView, WorkerState};
use framewake_proto::client::PartQuery;
use framewake_proto::ids::JobId;
use framewake_proto::verdict::Verdict;
use framewake_proto::wire::GpuSample;
use framewake_tests::farm::{SOON, TestFarm, unique};
use framewake_tests::nvml::{StubNvml, gpu};
use framewake_tests::parts::built;
use framewake_tests::wait::until;
use serde_json::{Value, json};
use std::process::{Command, Output};

/// The two that read GPUs: the worker itself, and the program that does it for a static worker.
fn probes() -> [String; 2] {
    ["nvml".to_owned(), format!("program:{}", built("framewake-gpu").display())]
}

/// What the worker's program says of the GPUs of a machine.
fn list(stub: &StubNvml, probe: &str) -> Output {
    let mut command = Command::new(built("framewake-worker"));
    command.arg("list-gpus").env("FRAMEWAKE_GPU_PROBE", probe).envs(stub.environment());
    command.output().expect("the program runs")
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
    let expected = [first, second];
    for probe in probes() {
        let output = list(&stub, &probe);
        let gpus: Vec<GpuSample> = serde_json::from_slice(&output.stdout).expect("a list of GPUs");
        assert_eq!(gpus, expected, "{probe}");
    }
}

#[test]
fn a_library_that_can_not_be_used_is_no_gpu_and_the_reason_is_said() {
    let folder = tempfile::tempdir().expect("room for a folder");
    let stub = StubNvml::build(folder.path());
    for (says, reason) in [("init 9\n", "driver"), ("init 999\n", "internal"), ("init 18\n", "mismatch")] {
        stub.says(&(gpu(0, "GPU-aa", 24, &[]) + says));
        for probe in probes() {
            let output = list(&stub, &probe);
            let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
            assert!(!output.status.success() && said.contains(reason), "{probe}: {says}: {said}");
        }
    }
    std::fs::write(folder.path().join("nvml/libnvidia-ml.so.1"), "no library").expect("writable");
    for probe in probes() {
        let said = String::from_utf8_lossy(&list(&stub, &probe).stderr).into_owned();
        assert!(said.contains("libnvidia-ml.so.1"), "{probe}: {said}");
    }
    let said = String::from_utf8_lossy(&list(&stub, "program:/not/there").stderr).into_owned();
    assert!(said.contains("`/not/there`, which reads GPUs for a worker, can't be started"), "{said}");
}

/// A farm with a function that runs a job's script on one GPU, and believes what the script says of its device.
async fn farm(slots: u32, lines: &str) -> TestFarm {
    let farm = TestFarm::start_with_gpus(slots, lines).await;
    let function = json!({
        "name": "gpu",
        "driver": { "kind": "command", "command": ["/bin/sh", "-c", "{script}", "sh", "{output}", "{frame}"] },
        "parameters": { "script": { "type": "text" } },
        "extra_rules": [{ "line": "^device: (?P<device>.+)$" }],
        "resources": { "gpus": 1 },
        "scaling": { "max": 4, "linger": "1s" },
    });
    farm.client.add_function(&function).await.expect("a good function");
    farm
}

/// One try for each frame, whose script may write more than that it was there into its file, `$1`.
fn job(script: &str, frames: &str) -> Value {
    let script = format!("echo it was there > $1; {script}");
    json!({ "name": unique(), "steps": [{
        "name": "render", "function": "gpu", "frames": frames, "parameters": { "script": script }, "output": "out/{frame:04}.txt",
        "retries": { "attempts": 1 }, "chunking": { "mode": "fixed", "size": 1 },
    }] })
}

/// A script that says it uses a GPU, makes the file `rendering`, waits for the file `go`, and then does the rest.
fn waiting(farm: &TestFarm, rest: &str) -> String {
    let [rendering, go] = ["rendering", "go"].map(|name| farm.folder().join(name).display().to_string());
    format!("echo 'device: CUDA: NVIDIA Test'; : > {rendering}; until test -e {go}; do sleep 0.02; done; {rest}")
}

/// Waits until the script runs: only what its GPU does from then on is the frame's.
async fn rendering(farm: &TestFarm) {
    let mark = farm.folder().join("rendering");
    until(SOON, "a frame is rendered", || async { std::fs::remove_file(&mark).ok() }).await;
}

fn go(farm: &TestFarm) {
    std::fs::write(farm.folder().join("go"), "").expect("the test's folder is writable");
}

async fn busy_workers(farm: &TestFarm, count: usize) {
    until(SOON, &format!("{count} workers are busy"), || async {
        let workers = farm.client.workers(None).await.ok()?.items;
        (workers.iter().filter(|worker| worker.state == WorkerState::Busy).count() == count).then_some(())
    })
    .await;
}

async fn place(farm: &TestFarm, uuid: &str) -> Option<PlaceView> {
    let places = farm.client.places(None, None).await.expect("listed").items;
    places.into_iter().find(|place| place.name.ends_with(&format!("/{uuid}")))
}

async fn set_aside(farm: &TestFarm, uuid: &str) -> PlaceView {
    let aside = || async { place(farm, uuid).await.filter(|place| place.state == PlaceState::SetAside) };
    until(SOON, "the GPU is set aside", aside).await
}

async fn tasks(farm: &TestFarm, id: JobId) -> Vec<TaskView> {
    farm.client.tasks(id, &PartQuery::default()).await.expect("listed").items
}

/// Waits until heartbeats have told that a GPU is so busy.
async fn seen_busy(farm: &TestFarm, ratio: &str) {
    until(SOON, "the farm sees it work", || async {
        let shown = reqwest::get(format!("{}/metrics", farm.url())).await.ok()?.text().await.ok()?;
        let line = format!("framewake_gpu_busy_ratio{{uuid=\"GPU-aa\"}} {ratio}");
        shown.lines().any(|shown| shown == line).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gpu_does_is_seen_while_it_does_it_and_counted_for_the_frame() {
    let farm = farm(1, &gpu(0, "GPU-aa", 24, &[("energy", 1_000_000)])).await;
    let id = farm.submit(&job(&waiting(&farm, "true"), "1")).await;
    rendering(&farm).await;
    let at_work = [("busy", 87), ("memory_used", 5 << 30), ("energy", 1_250_000), ("power", 71_500)];
    farm.nvml().says(&gpu(0, "GPU-aa", 24, &at_work));
    seen_busy(&farm, "0.87").await;
    go(&farm);
    assert_eq!(farm.over(id).await.state, JobState::Succeeded);
    let gpu = tasks(&farm, id).await.remove(0).gpu.expect("it was measured");
    assert_eq!((gpu.energy_millijoules, gpu.vram_peak_bytes), (Some(250_000), Some(5 << 30)));
    assert_eq!(gpu.busy_max_permille, Some(870));
    assert!(gpu.busy_permille.is_some_and(|mean| (1..=870).contains(&mean)), "{gpu:?}");
    let workers = farm.client.workers(None).await.expect("listed").items;
    assert_eq!(workers[0].gpus, ["GPU-aa"]);
    let mut command = Command::new(built("framewake"));
    command.args(["frames", "latest"]).env("FRAMEWAKE_URL", farm.url()).env("NO_COLOR", "1");
    let shown = String::from_utf8(command.output().expect("the program runs").stdout).expect("text");
    assert!(shown.contains("5.00 GiB, 250.0 J"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_begins_anew_is_unknown_and_not_negative() {
    let farm = farm(1, &gpu(0, "GPU-aa", 24, &[("energy", 1_000_000)])).await;
    let id = farm.submit(&job(&waiting(&farm, "true"), "1")).await;
    rendering(&farm).await;
    farm.nvml().says(&gpu(0, "GPU-aa", 24, &[("energy", 1_500_000), ("busy", 41)]));
    seen_busy(&farm, "0.41").await;
    farm.nvml().says(&gpu(0, "GPU-aa", 24, &[("energy", 20), ("busy", 42)]));
    seen_busy(&farm, "0.42").await;
    go(&farm);
    assert_eq!(farm.over(id).await.state, JobState::Succeeded);
    let gpu = tasks(&farm, id).await.remove(0).gpu.expect("it was measured");
    assert_eq!((gpu.energy_millijoules, gpu.busy_max_permille), (None, Some(420)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_left_its_gpu_idle_is_not_believed() {
    let farm = farm(1, &gpu(0, "GPU-aa", 24, &[])).await;
    let lie = "echo 'device: CUDA: NVIDIA Test'; sleep 0.6";
    let id = farm.submit(&job(lie, "1")).await;
    assert_eq!(farm.over(id).await.state, JobState::Failed);
    let failure = farm.failures(id).await.remove(0).failure.expect("it says why");
    assert_eq!(failure.verdict, Verdict::RetryElsewhere);
    assert!(failure.message.contains("CUDA: NVIDIA Test") && failure.message.contains("was idle"), "{failure:?}");
    // The same from a GPU at work, and from one whose driver does not tell.
    farm.nvml().says(&gpu(0, "GPU-aa", 24, &[("busy", 3)]));
    farm.succeed(&job(lie, "1")).await;
    farm.nvml().says(&(gpu(0, "GPU-aa", 24, &[]) + "fail nvmlDeviceGetUtilizationRates 3\n"));
    farm.succeed(&job(lie, "1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_breaks_under_a_frame_is_set_aside_and_the_frame_pays_nothing() {
    let well = gpu(0, "GPU-aa", 24, &[("ecc_uncorrected", 1)]);
    let farm = farm(1, &well).await;
    for (breaks, reason) in [
        (well.clone() + "xid 0 79\n", "Xid 79 (it has fallen off the bus)"),
        (well.clone() + "lost 0\n", "its driver has lost it"),
        (String::new(), "its driver does not find it"),
        (gpu(0, "GPU-aa", 24, &[("ecc_uncorrected", 3)]), "2 uncorrectable memory errors"),
    ] {
        let id = farm.submit(&job(&waiting(&farm, "true"), "1")).await;
        rendering(&farm).await;
        // It was looked at while it was well.
        farm.nvml().says(&(well.clone() + "gpu 0 busy 55\n"));
        seen_busy(&farm, "0.55").await;
        farm.nvml().says(&breaks);
        let aside = set_aside(&farm, "GPU-aa").await;
        assert!(aside.reason.contains(reason), "{}", aside.reason);
        until(SOON, "its worker has left", || async { farm.worker_pids().is_empty().then_some(()) }).await;
        let attempts = farm.client.attempts(id, &PartQuery::default()).await.expect("listed").items;
        assert_eq!(attempts[0].outcome, AttemptOutcome::HandedBack, "{attempts:?}");
        // Mended.
        farm.nvml().says(&well);
        go(&farm);
        farm.client.restore_place(&aside.name).await.expect("it was set aside");
        assert_eq!(farm.over(id).await.state, JobState::Succeeded, "{reason}: it had one try only");
        std::fs::remove_file(farm.folder().join("go")).expect("it is there");
        farm.no_workers().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_xid_that_the_scene_caused_counts_against_the_scene() {
    let farm = farm(1, &gpu(0, "GPU-aa", 24, &[])).await;
    let id = farm.submit(&job(&waiting(&farm, "exit 3"), "1")).await;
    rendering(&farm).await;
    farm.nvml().says(&(gpu(0, "GPU-aa", 24, &[("busy", 42)]) + "xid 0 31\n"));
    seen_busy(&farm, "0.42").await;
    go(&farm);
    assert_eq!(farm.over(id).await.state, JobState::Failed);
    let failure = farm.failures(id).await.remove(0).failure.expect("it says why");
    assert!(failure.message.contains("code 3") && failure.message.contains("Xid 31"), "{failure:?}");
    assert_eq!(place(&farm, "GPU-aa").await.expect("it is known").state, PlaceState::Good);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_is_broken_stops_nobody() {
    let farm = farm(1, &(gpu(0, "GPU-aa", 24, &[]) + "init 999\n")).await;
    let view = farm.succeed(&job("echo 'device: CUDA: NVIDIA Test'", "1-3")).await;
    assert!(tasks(&farm, view.id).await.iter().all(|task| task.gpu.is_none()));
}

/// A figure of the farm; `None` where it is not shown.
async fn figure(farm: &TestFarm, series: &str) -> Option<f64> {
    let shown = reqwest::get(format!("{}/metrics", farm.url())).await.ok()?.text().await.ok()?;
    shown.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_hangs_takes_its_samples_away_and_nothing_else() {
    const HEARTBEATS: &str = "framewake_heartbeats_total{function=\"gpu\"}";
    const SAMPLES: &str = "framewake_gpu_samples_total{function=\"gpu\",gpu=\"Test 24\"}";
    let well = gpu(0, "GPU-aa", 24, &[("busy", 66)]);
    let hangs = well.clone() + "hang nvmlDeviceGetUtilizationRates\n";
    let farm = farm(1, &well).await;
    let id = farm.submit(&job(&waiting(&farm, "true"), "1-2")).await;
    rendering(&farm).await;
    seen_busy(&farm, "0.66").await;
    let pids = farm.worker_pids();
    farm.nvml().says(&hangs);
    // What is old is not told: heartbeats come without samples.
    until(SOON, "samples stop and heartbeats go on", || async {
        let before = (figure(&farm, SAMPLES).await?, figure(&farm, HEARTBEATS).await?);
        until(SOON, "three more heartbeats", || async {
            (figure(&farm, HEARTBEATS).await? >= before.1 + 3.0).then_some(())
        })
        .await;
        (figure(&farm, SAMPLES).await? <= before.0).then_some(())
    })
    .await;
    go(&farm);
    assert_eq!(farm.over(id).await.state, JobState::Succeeded);
    assert_eq!(farm.worker_pids(), pids, "the same worker rendered both frames");
    let workers = farm.client.workers(None).await.expect("listed").items;
    assert_eq!(workers[0].gpus, ["GPU-aa"], "which GPU it has is known as ever");
    assert_eq!(place(&farm, "GPU-aa").await.expect("it is known").state, PlaceState::Good);
    // A worker that finds it hanging begins all the same, and knows nothing of its GPU.
    farm.no_workers().await;
    let blind = farm.succeed(&job("echo 'device: CUDA: NVIDIA Test'", "1")).await;
    assert!(tasks(&farm, blind.id).await[0].gpu.is_none());
    // It comes back by itself.
    std::fs::remove_file(farm.folder().join("go")).expect("it is there");
    let before = figure(&farm, SAMPLES).await.expect("counted");
    let id = farm.submit(&job(&waiting(&farm, "true"), "1")).await;
    rendering(&farm).await;
    farm.nvml().says(&well);
    until(SOON, "samples come again", || async { (figure(&farm, SAMPLES).await? > before).then_some(()) }).await;
    go(&farm);
    assert_eq!(farm.over(id).await.state, JobState::Succeeded);
}

/// What each frame wrote, in order.
fn written(farm: &TestFarm, id: JobId) -> Vec<String> {
    let folder = farm.store_folder().join(format!("jobs/default/{id}/out"));
    let mut files: Vec<_> = std::fs::read_dir(folder).expect("outputs").flatten().map(|entry| entry.path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read_to_string(file).expect("text").trim().to_owned()).collect()
}

/// Waits until workers have these GPUs and no other. Four would fit the slots and the function.
async fn given(farm: &TestFarm, expected: &[&str]) {
    until(SOON, "each worker has said which GPU is its own", || async {
        let workers = farm.client.workers(None).await.ok()?.items;
        let mut gpus: Vec<String> = workers.into_iter().flat_map(|worker| worker.gpus).collect();
        gpus.sort();
        (gpus == expected).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_worker_of_a_machine_has_a_gpu_of_its_own_and_a_new_scheduler_knows_whose() {
    let mut farm = farm(4, &(gpu(0, "GPU-aa", 24, &[("busy", 30)]) + &gpu(1, "GPU-bb", 24, &[("busy", 30)]))).await;
    let script = waiting(&farm, "echo $CUDA_VISIBLE_DEVICES > $1");
    let id = farm.submit(&job(&script, "1-6")).await;
    busy_workers(&farm, 2).await;
    given(&farm, &["GPU-aa", "GPU-bb"]).await;
    let pids = farm.worker_pids();
    farm.kill_scheduler();
    farm.restart_scheduler().await;
    busy_workers(&farm, 2).await;
    // Whoever is free for the four frames that wait has no GPU to go with.
    let other = farm.submit(&job(&script, "1-2")).await;
    until(SOON, "people are told", || async {
        let said = serde_json::to_string(&farm.client.explain(other).await.ok()?).ok()?;
        (said.contains("are busy") || said.contains("GPUs: ")).then_some(())
    })
    .await;
    assert_eq!(farm.worker_pids(), pids);
    given(&farm, &["GPU-aa", "GPU-bb"]).await;
    go(&farm);
    assert_eq!(farm.over(id).await.state, JobState::Succeeded);
    assert_eq!(farm.over(other).await.state, JobState::Succeeded);
    let seen = written(&farm, id);
    assert!(seen.iter().all(|gpu| gpu == "GPU-aa" || gpu == "GPU-bb"), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_runs_out_of_gpu_memory_gets_a_larger_gpu_and_the_others_follow() {
    let mut farm =
        farm(4, &(gpu(0, "GPU-small", 8, &[("busy", 30)]) + &gpu(1, "GPU-large", 24, &[("busy", 30)]))).await;
    let script = "echo 'device: CUDA: NVIDIA Test'; case $CUDA_VISIBLE_DEVICES in \
                  GPU-small) echo 'CUDA error: out of memory'; exit 1;; esac; echo $CUDA_VISIBLE_DEVICES > $1";
    let id = farm.submit(&job(script, "1-6")).await;
    let view = farm.over(id).await;
    assert_eq!(view.state, JobState::Succeeded, "{:?}", farm.failures(id).await);
    assert_eq!(written(&farm, id), ["GPU-large"; 6]);
    // The next job of the scene begins there, also after a restart: no frame runs out again.
    farm.restart_scheduler().await;
    let next = farm.succeed(&job(script, "7-9")).await;
    assert_eq!(written(&farm, next.id), ["GPU-large"; 3]);
    let attempts = farm.client.attempts(next.id, &PartQuery::default()).await.expect("listed").items;
    assert_eq!(attempts.len(), 3, "{attempts:?}");
    // What no GPU can hold ends with a reason.
    let never = "echo 'device: CUDA: NVIDIA Test'; echo 'CUDA error: out of memory'; exit 1";
    let id = farm.submit(&job(never, "1")).await;
    assert_eq!(farm.over(id).await.state, JobState::Failed);
    let failure = farm.failures(id).await.remove(0).failure.expect("it says why");
    assert_eq!(failure.verdict, Verdict::NeedMoreVram);
    assert!(failure.message.contains("no GPU of this farm has more memory than 24GiB"), "{failure:?}");
    // What is declared is heeded at once.
    let mut declared = job("echo 'device: CUDA: NVIDIA Test'; echo $CUDA_VISIBLE_DEVICES > $1", "1-3");
    declared["steps"][0]["gpu_memory"] = json!("12GiB");
    let view = farm.succeed(&declared).await;
    assert_eq!(written(&farm, view.id), ["GPU-large"; 3]);
    declared["steps"][0]["gpu_memory"] = json!("48GiB");
    let id = farm.submit(&declared).await;
    let said = serde_json::to_string(&farm.client.explain(id).await.expect("it waits")).expect("text");
    assert!(said.contains("no GPU fits: a task needs one with 48GiB"), "{said}");
}
