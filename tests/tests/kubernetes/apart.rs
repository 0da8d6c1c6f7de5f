//! Workers that could be taken for each other, and clocks that disagree.

use crate::ground::{Ground, start, until_state};
use framewake_functions::{End, InstanceState, Provider, StartStep};
use serde_json::json;

#[tokio::test]
async fn pools_of_one_name_in_two_namespaces_know_only_their_own() {
    let ground = Ground::new(&[8]).await;
    let Some(cluster) = ground.cluster().filter(|cluster| !cluster.is_elsewhere()) else { return };
    let (mut here, mut there) = (ground.provider(), ground.provider_with(&json!({ "namespace": "other" })));
    let start = start(&ground, 1);
    here.start(&start).await.expect("it is taken");
    there.start(&start).await.expect("the same name is free in another namespace");
    for provider in [&mut here, &mut there] {
        until_state(provider, &start.worker, |state| *state == InstanceState::Running).await;
        assert_eq!(provider.observe().await.expect("it answers").len(), 1);
    }
    ground.never_spoke(&start.worker);
    here.stop(&start.worker).await.expect("it never spoke");
    assert_eq!(here.observe().await.expect("it answers"), []);
    until_state(&mut there, &start.worker, |state| *state == InstanceState::Running).await;
    assert_eq!(cluster.calls_of("delete", "jobs.batch").len(), 1);
}

#[tokio::test]
async fn clocks_of_nodes_that_are_years_off_end_nobody_and_keep_nobody() {
    let ground = Ground::new(&[8]).await;
    let Some(cluster) = ground.cluster() else { return };
    let mut provider = ground.provider();
    for (at, written) in [("behind", "2000-01-01T00:00:00Z"), ("ahead", "2099-01-01T00:00:00Z")] {
        let start = start(&ground, 1);
        provider.start(&start).await.expect("it is taken");
        until_state(&mut provider, &start.worker, |state| *state == InstanceState::Running).await;
        cluster.with_pod(start.worker.as_str(), |pod| {
            pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = json!(written);
        });
        let running = until_state(&mut provider, &start.worker, |state| *state == InstanceState::Running).await;
        assert!(running.steps.contains_key(&StartStep::ProcessStarted), "{at}: {running:?}");
        cluster.exit(start.worker.as_str(), &json!({ "exitCode": 0 }));
        let left = |state: &InstanceState| *state == InstanceState::Ended(End::Left);
        until_state(&mut provider, &start.worker, left).await;
        provider.forget(&start.worker).await.expect("it has ended");
    }
}
