//! What an API server does to its clients: it is away, overrun, forgetful, or does what it was asked and never says so.

use crate::ground::{Ground, start, until_known, until_state, until_trouble};
use framewake_functions::{InstanceState, Provider, StartError};
use framewake_tests::kubernetes::{Harm, Refusal};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(30);

fn unavailable() -> Harm {
    Harm::Refused(Refusal::new(503, "ServiceUnavailable", "etcd has no leader"), None)
}

#[tokio::test]
async fn a_request_whose_answer_is_lost_makes_one_worker() {
    let ground = Ground::new(&[8]).await;
    let Some(cluster) = ground.cluster() else { return };
    let mut provider = ground.provider();
    let start = start(&ground, 1);
    cluster.harm("create", "jobs.batch", 1, Harm::AnswerLost);
    let lost = provider.start(&start).await.expect_err("nobody knows");
    assert!(matches!(lost, StartError::Away(_)), "{lost:?}");
    until_state(&mut provider, &start.worker, |state| *state == InstanceState::Running).await;
    provider.start(&start).await.expect("there already");
    assert_eq!(cluster.jobs().len(), 1);

    // And asked again before any watch has told of it.
    let second = crate::ground::start(&ground, 1);
    cluster.harm("create", "jobs.batch", 1, Harm::AnswerLost);
    cluster.harm("watch", "jobs.batch", 1000, unavailable());
    cluster.harm("list", "jobs.batch", 1000, unavailable());
    cluster.cut_watches();
    provider.start(&second).await.expect_err("nobody knows");
    provider.start(&second).await.expect("a Job of that name is ours");
    assert_eq!(cluster.jobs().len(), 2);
}

#[tokio::test]
async fn away_for_a_while_it_is_an_error_and_never_an_empty_list() {
    let mut ground = Ground::new(&[8]).await;
    if ground.cluster().is_none() {
        return;
    }
    let mut provider = ground.provider();
    let starts: Vec<_> = (0..3).map(|_| start(&ground, 1)).collect();
    for start in &starts {
        provider.start(start).await.expect("it is taken");
    }
    let cluster = ground.own.as_mut().expect("looked at above");
    cluster.down().await;
    let trouble = until_trouble(&mut provider).await;
    assert!(trouble.what.contains("does not answer"), "{trouble}");
    let away = provider.start(&starts[0]).await;
    assert!(away.is_ok(), "known to be there");
    let new = start(&ground, 1);
    let away = provider.start(&new).await.expect_err("nobody takes it");
    assert!(matches!(&away, StartError::Away(error) if error.what.contains("does not answer")), "{away:?}");
    let cluster = ground.own.as_mut().expect("looked at above");
    let begin = Instant::now();
    cluster.up().await;
    let known = until_known(&mut provider).await;
    eprintln!("known again {:?} after the API server is", begin.elapsed());
    assert_eq!(known.len(), 3);
    assert_eq!(cluster.jobs().len(), 3, "nothing double");
    provider.start(&new).await.expect("taken now");
}

#[tokio::test]
async fn a_list_that_fails_is_told_and_what_was_known_is_not_lost() {
    let ground = Ground::new(&[8]).await;
    let Some(cluster) = ground.cluster() else { return };
    for resource in ["jobs.batch", "pods"] {
        let forbidden = Refusal::new(403, "Forbidden", format!("{resource} is forbidden: User \"x\" cannot list"));
        cluster.harm("list", resource, 1000, Harm::Refused(forbidden, None));
        let mut provider = ground.provider();
        let error = provider.observe().await.expect_err("it can't be known");
        assert!(error.what.contains(&format!("may not `list {resource}` in namespace `render`")), "{error}");
        cluster.heal();
        until_known(&mut provider).await;
    }
    // In the middle: what was started is still there when lists come back.
    let mut provider = ground.provider();
    let one = start(&ground, 1);
    provider.start(&one).await.expect("it is taken");
    cluster.harm("list", "*", 6, unavailable());
    cluster.harm("watch", "*", 2, unavailable());
    cluster.cut_watches();
    until_state(&mut provider, &one.worker, |state| *state == InstanceState::Running).await;
    assert_eq!(cluster.jobs().len(), 1);
}

#[tokio::test]
async fn a_watch_that_is_cut_or_too_old_is_begun_anew_and_misses_nothing() {
    let ground = Ground::new(&[8]).await;
    let Some(cluster) = ground.cluster() else { return };
    let mut provider = ground.provider();
    for round in 0..6 {
        let start = start(&ground, 1);
        provider.start(&start).await.expect("it is taken");
        until_state(&mut provider, &start.worker, |state| *state == InstanceState::Running).await;
        match round % 3 {
            0 => cluster.cut_watches(),
            // Compacted while the watch is down: what happens now is in no watch.
            1 => {
                cluster.exit(start.worker.as_str(), &serde_json::json!({ "exitCode": 0 }));
                cluster.forget_changes();
                cluster.cut_watches();
            }
            _ => cluster.harm("watch", "pods", 1, unavailable()),
        }
        if round % 3 != 1 {
            cluster.exit(start.worker.as_str(), &serde_json::json!({ "exitCode": 0 }));
        }
        until_state(&mut provider, &start.worker, |state| matches!(state, InstanceState::Ended(_))).await;
        provider.forget(&start.worker).await.expect("it has ended");
    }
    assert_eq!(provider.observe().await.expect("it answers"), []);
}

#[tokio::test]
async fn an_overrun_server_is_left_alone_as_long_as_it_asks() {
    let ground = Ground::new(&[8]).await;
    let Some(cluster) = ground.cluster() else { return };
    let mut provider = ground.provider();
    let overrun = Refusal::new(429, "TooManyRequests", "too many requests, please try again later");
    cluster.harm("create", "jobs.batch", 1, Harm::Refused(overrun, Some(1)));
    let start = start(&ground, 1);
    let refused = provider.start(&start).await.expect_err("overrun");
    assert!(matches!(refused, StartError::Away(_)), "{refused:?}");
    let again = provider.start(&start).await.expect_err("it is not even asked");
    assert!(matches!(&again, StartError::Away(error) if error.what.contains("left alone")), "{again:?}");
    assert_eq!(cluster.calls_of("create", "jobs.batch").len(), 1);
    let begin = Instant::now();
    while provider.start(&start).await.is_err() {
        assert!(begin.elapsed() < SOON, "it is never asked again");
        let _ = tokio::time::timeout(Duration::from_millis(100), provider.changed()).await;
    }
    assert!(begin.elapsed() > Duration::from_millis(500), "{:?}", begin.elapsed());
    assert_eq!(cluster.calls_of("create", "jobs.batch").len(), 2);
}
