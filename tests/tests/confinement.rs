//! A renderer that attacks the farm it works for, on a machine that holds the farm's data too.

use framewake_proto::api::JobState;
use framewake_proto::client::PartQuery;
use framewake_tests::farm::TestFarm;
use framewake_tests::jobs;
use framewake_tests::parts::{built, path};
use std::process::Command;

/// What a program prints; it need not end well.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(built(program)).args(arguments).env("PATH", path()).env("NO_COLOR", "1").output();
    String::from_utf8(output.expect("the program runs").stdout).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renderer_harms_neither_database_nor_store_and_people_see_what_holds_it() {
    let mut farm = TestFarm::start(1).await;
    let own = farm.folder().join("own");
    std::fs::create_dir(&own).expect("makes");
    farm.restart_scheduler_with(&[("FRAMEWAKE_WRITABLE", own.to_str().expect("text"))]).await;
    let (data, store) = (farm.data(), farm.store_folder());
    let script = format!(
        "echo harm > {data}/harm; rm -rf {data} {store}; echo harm > {store}/harm; echo fine > {own}/done",
        data = data.display(),
        store = store.display(),
        own = own.display()
    );
    let id = farm.submit(&jobs::command(&["/bin/sh", "-c", &script], "1")).await;
    assert_eq!(farm.over(id).await.state, JobState::Succeeded);
    assert!(own.join("done").exists(), "it was let where it was told it might");

    let probed = said("framewake-worker", &["confinement"]);
    let held = probed.lines().next().expect("a line");
    let attempts = farm.client.attempts(id, &PartQuery::default()).await.expect("the database is well").items;
    assert_eq!(attempts[0].confinement, held);
    let doctor = said("framewake", &["--url", &farm.url(), "doctor"]);
    assert!(doctor.lines().any(|line| line.contains("confinement") && line.contains(held)), "{doctor}");
    let list = said("framewake", &["--url", &farm.url(), "logs", &id.to_string(), "--list"]);
    assert!(list.contains(&format!("(confined by {held})")), "{list}");

    // Where the kernel has nothing to hold it, there is nothing to see.
    if held.contains("Landlock") {
        let harm = [&data, &store].map(|folder| folder.join("harm").exists());
        assert_eq!(harm, [false, false]);
        farm.restart_scheduler().await;
        assert_eq!(farm.client.job(id).await.expect("it is still there").state, JobState::Succeeded);
    }
}
