//! What the chart has a pod run, run here: with the programs that its images hold, in the pod's order, on folders in the place
//! of its volumes.

use framewake_tests::chart::{Case, containers, render};
use framewake_tests::farm::{SOON, TestFarm};
use framewake_tests::jobs;
use framewake_tests::parts::{Running, built, tool};
use framewake_tests::wait::until;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// The words that a container of the scheduler's pod is started with, its volumes being these folders.
fn words(pod: &Value, container: &str, data: &Path, copy: &Path) -> Vec<String> {
    let container = containers(pod).find(|one| one["name"] == container).expect("it is in the pod");
    let words = container["args"].as_array().expect("words").iter();
    let place = |word: &str| match (word.strip_prefix("/data"), word.strip_prefix("/copy")) {
        (Some(rest), _) => format!("{}{rest}", data.display()),
        (_, Some(rest)) => format!("{}{rest}", copy.display()),
        _ => word.to_owned(),
    };
    words.map(|word| place(word.as_str().expect("text"))).collect()
}

#[tokio::test]
async fn a_new_pod_without_a_volume_goes_on_where_the_last_one_ended() {
    let mut farm = TestFarm::start(2).await;
    let (data, replica) = (farm.data(), farm.folder().join("replica"));
    let values = json!({
        "persistence": { "enabled": false },
        "replication": { "enabled": true, "url": format!("file://{}", replica.display()) },
    });
    let rendered = render(&[Case::new("without a volume", Some("bare"), values)]).remove(0);
    let pod = &rendered.one("Deployment", "farm-framewake")["spec"]["template"]["spec"];
    let begin = |data: &Path| {
        let copy = tempfile::tempdir().expect("room for a folder");
        for (program, container) in [(tool("litestream"), "fetch-copy"), (built("framewake-scheduler"), "restore")] {
            let output =
                Command::new(program).args(words(pod, container, data, copy.path())).output().expect("it runs");
            assert!(output.status.success(), "{container}: {}", String::from_utf8_lossy(&output.stderr));
        }
    };
    // The first pod of all: there is no copy, and it has to begin all the same.
    let first = tempfile::tempdir().expect("room for a folder");
    begin(first.path());
    assert!(std::fs::read_dir(first.path()).expect("it is there").next().is_none(), "it begins with nothing");
    // Each pod follows what the one before has left in the replica.
    let mut ids = Vec::new();
    for pods in 1..=2 {
        let mut command = Command::new(tool("litestream"));
        command.args(words(pod, "replicate", &data, Path::new("/none")));
        let mut replicate =
            Running::start("litestream", &mut command, &farm.folder().join(format!("litestream-{pods}.log")));
        let id = farm.submit(&jobs::command(&["/bin/true"], "1-20")).await;
        assert_eq!(farm.over(id).await.tasks.done, 20);
        ids.push(id);
        // A new copy, or the one of the pod before, which it goes on with.
        let begun = ["snapshot complete", "fetched latest L0 file from replica"];
        let has_begun = || begun.iter().any(|word| replicate.log().contains(word)).then_some(());
        until(SOON, "the copy has begun", || async { has_begun() }).await;
        // The pod is gone with its node. Kubernetes ends the scheduler first, then what accompanies it.
        farm.kill_scheduler();
        replicate.signal(Signal::TERM);
        replicate.wait(SOON);
        std::fs::rename(&data, farm.folder().join(format!("gone-{pods}"))).expect("it can be moved");
        begin(&data);
        farm.restart_scheduler().await;
        for id in &ids {
            let view =
                farm.client.job(*id).await.unwrap_or_else(|error| panic!("pod {pods} does not know a job: {error}"));
            assert_eq!(view.tasks.done, 20);
        }
    }
    // A container that starts again in the same pod keeps its database, which is newer than the copy.
    let later = farm.submit(&jobs::command(&["/bin/true"], "1-2")).await;
    farm.over(later).await;
    farm.kill_scheduler();
    begin(&data);
    farm.restart_scheduler().await;
    assert_eq!(farm.client.job(later).await.expect("what came since is there").tasks.done, 2);
}
