//! How the rights of a worker end, and of whom they are: what it was given is of no use once it has ended, whatever starts again
//! meanwhile, and a join token that many have makes nobody another worker.

use framewake_proto::ids::WorkerId;
use framewake_proto::sealed::Opener;
use framewake_proto::wire::{Credential, Heartbeat, JoinAnswer, Renewal};
use framewake_tests::farm::{SOON, kill};
use framewake_tests::robbed::{Robbed, job, join_token, subjects};
use framewake_tests::thief::{Loot, Session, join};
use framewake_tests::wait::until;
use std::time::{Duration, Instant};

/// From the moment that the farm knows of an end. A second list may follow the first by ten seconds.
const REFUSED_WITHIN: Duration = Duration::from_secs(12);

/// Whether the credential opens anything.
async fn is_let_in(robbed: &Robbed, credential: &Credential) -> bool {
    let inbox = subjects().inbox(&robbed.loot.worker);
    Session::open(&robbed.url(), &credential.jwt, &inbox).await.is_ok()
}

async fn is_refused(robbed: &Robbed, credential: &Credential) {
    until(REFUSED_WITHIN, "what an ended worker had opens nothing", || async {
        (!is_let_in(robbed, credential).await).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_an_ended_worker_had_is_refused_within_seconds_whatever_starts_again() {
    let mut robbed = Robbed::start(&[]).await;
    let credential = robbed.join().await;
    let mut session = robbed.session(&credential).await;
    let (worker, function) = (robbed.loot.worker.clone(), robbed.loot.function.clone());
    let info =
        format!("$JS.API.CONSUMER.INFO.{}.{}", subjects().orders_stream(), subjects().orders_consumer(&function));
    session.client.request(info, "".into()).await.expect("while it lives, it may look at its orders");

    kill(robbed.loot.pid);
    let since = Instant::now();
    session.hears("authentication revoked").await;
    assert!(since.elapsed() < REFUSED_WITHIN, "{:?}", since.elapsed());
    assert!(!is_let_in(&robbed, &credential).await, "also as a new connection");

    // The scheduler remembers it: nobody joins in its name, and what it had stays shut out.
    robbed.farm.restart_scheduler().await;
    let refused = join(&robbed.url(), &subjects(), &robbed.loot, &Opener::make(), &credential.jwt).await;
    assert!(refused.as_ref().is_err_and(|why| why.contains("has ended")), "{refused:?}");
    assert!(!is_let_in(&robbed, &credential).await);

    // A server that was started again is told anew, by the scheduler that is there or by the next one.
    robbed.farm.nats.restart();
    is_refused(&robbed, &credential).await;
    robbed.farm.kill_scheduler();
    robbed.farm.nats.restart();
    assert!(is_let_in(&robbed, &credential).await, "nobody has told the server yet, or the rest shows nothing");
    robbed.farm.restart_scheduler().await;
    is_refused(&robbed, &credential).await;

    // Who lives has lost nothing by all that, and the next of the function is let in.
    let mut known = vec![robbed.loot.pid];
    let (next, joined) = loop {
        let next = Loot::find(robbed.folder.path(), &known).await;
        assert_ne!(next.worker, worker);
        match join(&robbed.url(), &subjects(), &next, &Opener::make(), "").await {
            Ok(joined) => break (next, joined),
            // One that was just being started when the scheduler was killed.
            Err(why) => assert!(why.contains("has ended"), "{why}"),
        }
        known.push(next.pid);
    };
    let inbox = subjects().inbox(&next.worker);
    let its_own = Session::open(&robbed.url(), &joined.jwt, &inbox).await.expect("it is let in");
    let renewed: Credential =
        its_own.ask(subjects().renewal(&function, &next.worker), &Renewal {}).await.expect("answered");
    assert_eq!(renewed.refused, "");
    kill(next.pid);
    robbed.unharmed().await;
}

#[tokio::test]
async fn who_said_good_bye_comes_again_under_its_name_and_not_with_what_it_had() {
    let robbed = Robbed::start(&[]).await;
    let seed = robbed.farm.folder().join("nats.seed");
    let mine: WorkerId = "mine".parse().expect("a good id");
    // As people start one: with a token of the function, and a name of their own.
    let started = Loot { worker: mine.clone(), ..robbed.loot.with("FRAMEWAKE_INVITATION", "") };
    let started = started.with("FRAMEWAKE_JOIN_TOKEN", &join_token(&seed, &["--function", "hostile"]));
    let function = &robbed.loot.function;
    let credential = join(&robbed.url(), &subjects(), &started, &Opener::make(), "").await.expect("it is let in");
    let inbox = subjects().inbox(&mine);
    let mut session = Session::open(&robbed.url(), &credential.jwt, &inbox).await.expect("it is let in");
    let beat = async |session: &Session, leaving: &str| {
        let beat = Heartbeat {
            worker: mine.to_string(),
            function: "hostile".to_owned(),
            function_version: 1,
            leaving: leaving.to_owned(),
            ..Heartbeat::default()
        };
        session.ask::<framewake_proto::wire::Control>(subjects().heartbeat(function, &mine), &beat).await
    };
    beat(&session, "").await.expect("answered");
    until(SOON, "the farm knows it", || async {
        let workers = robbed.farm.client.workers(None).await.ok()?.items;
        workers.iter().any(|worker| worker.id == mine).then_some(())
    })
    .await;
    // Good-byes are not answered.
    beat(&session, "idle").await;
    session.hears("authentication revoked").await;
    let again = join(&robbed.url(), &subjects(), &started, &Opener::make(), "").await.expect("it comes again");
    let session = Session::open(&robbed.url(), &again.jwt, &inbox).await.expect("with what it was given now");
    beat(&session, "").await.expect("answered");
    assert!(Session::open(&robbed.url(), &credential.jwt, &inbox).await.is_err(), "what it had stays of no use");
    robbed.unharmed().await;
}

#[tokio::test]
async fn a_join_token_of_many_makes_nobody_a_worker_that_the_farm_started() {
    let robbed = Robbed::start(&[]).await;
    let seed = robbed.farm.folder().join("nats.seed");
    // As all pods of a pool have it, or of all pools.
    for arguments in [&["--function", "hostile"][..], &[]] {
        let shared = robbed.loot.with("FRAMEWAKE_JOIN_TOKEN", &join_token(&seed, arguments));
        let invited = shared.environment["FRAMEWAKE_INVITATION"].clone();
        let bent = format!("{}{}", if invited.starts_with('A') { 'B' } else { 'A' }, &invited[1..]);
        for invitation in ["", "not base 64!", &bent, shared.token()] {
            let known = shared.with("FRAMEWAKE_INVITATION", invitation);
            let refused = join(&robbed.url(), &subjects(), &known, &Opener::make(), "").await;
            assert!(refused.as_ref().is_err_and(|why| why.contains("invitation")), "{invitation}: {refused:?}");
        }
        // The invitation is of this worker, and of this version of its function: of others, here or yet to come, it is none.
        let next: WorkerId = {
            let (before, number) = shared.worker.as_str().rsplit_once('-').expect("a name that the farm gave");
            format!("{before}-{}", number.parse::<u64>().expect("a number") + 1).parse().expect("a good id")
        };
        for worker in [robbed.victim.clone(), next] {
            let other = Loot { worker, ..shared.clone() };
            let refused = join(&robbed.url(), &subjects(), &other, &Opener::make(), "").await;
            assert!(refused.as_ref().is_err_and(|why| why.contains("invitation")), "{refused:?}");
        }
    }
    let any = robbed.loot.with("FRAMEWAKE_JOIN_TOKEN", &join_token(&seed, &[]));
    let of_theirs = Loot { function: robbed.victims.clone(), worker: robbed.victim.clone(), ..any.clone() };
    let refused = join(&robbed.url(), &subjects(), &of_theirs, &Opener::make(), "").await;
    assert!(refused.as_ref().is_err_and(|why| why.contains("invitation")), "{refused:?}");
    // The invitation alone opens nothing at all.
    assert!(Session::open(&robbed.url(), &robbed.loot.environment["FRAMEWAKE_INVITATION"], "any").await.is_err());
    let session = Session::open(&robbed.url(), any.token(), &subjects().joining_inbox()).await.expect("let in to ask");
    let answer: JoinAnswer = session
        .ask(subjects().join(&any.function, &any.worker), &Renewal {})
        .await
        .expect("who sends nothing is answered too");
    assert!(answer.refused.contains("invitation"), "{answer:?}");
    // Both together are one worker's way in.
    join(&robbed.url(), &subjects(), &any, &Opener::make(), "").await.expect("the one that the farm started");
    let _ours = robbed.farm.submit(&job("theirs", "ours", "true", "1")).await;
    robbed.unharmed().await;
}
