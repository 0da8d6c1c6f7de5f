//! Of several schedulers one acts.

use crate::ground::Ground;
use framewake_functions::kubernetes::lease::{Candidate, Held, LeaseName, Timing};
use framewake_tests::kubernetes::{Harm, Refusal};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Leases are told in whole seconds.
const TIMING: Timing = Timing {
    lease: Duration::from_secs(2),
    renew_within: Duration::from_millis(1200),
    every: Duration::from_millis(100),
};

/// A replica, and whether it was told that it lost.
struct Replica {
    candidate: Option<Candidate>,
    lost: Arc<AtomicBool>,
}

impl Replica {
    fn new(ground: &Ground, name: &str, lease: &str) -> Replica {
        let at = LeaseName { namespace: ground.access.namespace.clone(), name: lease.to_owned() };
        let candidate = Candidate::new(ground.access.clone(), at, name.to_owned(), TIMING);
        Replica { candidate: Some(candidate), lost: Arc::default() }
    }

    async fn win(&mut self) -> Result<Held, framewake_functions::Error> {
        let lost = Arc::clone(&self.lost);
        self.candidate.take().expect("asked once").win(move |_| lost.store(true, Ordering::SeqCst)).await
    }

    fn has_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }
}

fn lease_name() -> String {
    format!("lease-{:08x}", fastrand::u32(..))
}

#[tokio::test]
async fn one_of_two_acts_and_the_other_follows_at_once_when_it_is_given_back() {
    let ground = Ground::new(&[]).await;
    let name = lease_name();
    let (mut first, mut second) = (Replica::new(&ground, "first", &name), Replica::new(&ground, "second", &name));
    let held = first.win().await.expect("nobody holds it");
    let waiting = tokio::time::timeout(TIMING.lease * 2, second.win()).await;
    assert!(waiting.is_err(), "it is renewed");
    assert!(!first.has_lost());
    let mut third = Replica::new(&ground, "third", &name);
    let (won, given) = tokio::join!(third.win(), async {
        let begin = Instant::now();
        held.give_back().await;
        begin
    });
    let won = won.expect("it is free");
    eprintln!("another acts {:?} after the lease was given back", given.elapsed());
    assert!(given.elapsed() < TIMING.lease, "no lease has to run out");
    assert!(!first.has_lost(), "given back is not lost");
    won.give_back().await;
}

#[tokio::test]
async fn who_is_cut_off_ends_before_another_acts() {
    let mut ground = Ground::new(&[]).await;
    if ground.cluster().is_none() {
        return;
    }
    let name = lease_name();
    let mut first = Replica::new(&ground, "first", &name);
    let _held = first.win().await.expect("nobody holds it");
    let begin = Instant::now();
    ground.own.as_mut().expect("looked at above").down().await;
    framewake_tests::wait::until(Duration::from_secs(10), "it ends", || {
        let lost = first.has_lost();
        async move { lost.then_some(()) }
    })
    .await;
    let ended = begin.elapsed();
    eprintln!("ended {ended:?} after it was cut off");
    assert!(ended <= TIMING.renew_within + Duration::from_millis(400), "{ended:?}");
    ground.own.as_mut().expect("looked at above").up().await;
    let mut second = Replica::new(&ground, "second", &name);
    second.win().await.expect("it runs out").give_back().await;
    assert!(begin.elapsed() > ended, "and only then");
}

#[tokio::test]
async fn a_holder_that_is_killed_is_followed_when_its_lease_ran_out_and_not_before() {
    let ground = Ground::new(&[]).await;
    let name = lease_name();
    // As a scheduler of another node left it, whose clock is an hour ahead, and of one that is a day behind.
    let Some(cluster) = ground.cluster() else { return };
    for (at, written) in [("ahead", "2099-01-01T00:00:00.000000Z"), ("behind", "2000-01-01T00:00:00.000000Z")] {
        let lease = format!("{name}-{at}");
        let spec = json!({ "holderIdentity": "gone", "leaseDurationSeconds": 1, "renewTime": written, "acquireTime": written });
        let object = json!({ "metadata": { "name": lease }, "spec": spec });
        cluster.create("leases.coordination.k8s.io", object);
        let begin = Instant::now();
        let held = Replica::new(&ground, "next", &lease).win().await.expect("it runs out");
        eprintln!("{at}: {:?}", begin.elapsed());
        assert!(begin.elapsed() >= Duration::from_secs(1), "{at}: not before it was seen unchanged for so long");
        assert!(begin.elapsed() < Duration::from_secs(5), "{at}: whatever the time on it");
        held.give_back().await;
    }
}

#[tokio::test]
async fn of_many_that_reach_for_it_at_once_one_gets_it() {
    let ground = Ground::new(&[]).await;
    let name = lease_name();
    let mut replicas: Vec<Replica> = (0..5).map(|at| Replica::new(&ground, &format!("r{at}"), &name)).collect();
    let tries = replicas.iter_mut().map(|replica| tokio::time::timeout(Duration::from_millis(900), replica.win()));
    let won: Vec<Held> =
        futures::future::join_all(tries).await.into_iter().filter_map(|tried| tried.ok()?.ok()).collect();
    assert_eq!(won.len(), 1);
}

#[tokio::test]
async fn without_the_right_it_says_which_and_does_not_wait() {
    let ground = Ground::new(&[]).await;
    let Some(cluster) = ground.cluster() else { return };
    let forbidden = Refusal::new(403, "Forbidden", "leases.coordination.k8s.io is forbidden: User \"x\" cannot get");
    cluster.harm("get", "leases.coordination.k8s.io", 1, Harm::Refused(forbidden, None));
    let refused = Replica::new(&ground, "first", &lease_name()).win().await.expect_err("forbidden");
    assert!(refused.what.contains("may not `get leases.coordination.k8s.io` in namespace `render`"), "{refused}");
}
