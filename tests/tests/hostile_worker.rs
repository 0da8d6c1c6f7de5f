//! What somebody gets who has all that a worker is given: a farm whose worker of one function is none, beside real ones that work
//! for another project.

use async_nats::jetstream::{self, consumer::PullConsumer};
use framewake_proto::api::JobState;
use framewake_proto::client::PartQuery;
use framewake_proto::ids::AttemptId;
use framewake_proto::objects::{Digest, input_key, job_prefix};
use framewake_proto::sealed::Opener;
use framewake_proto::wire::{
    self, Claim, ClaimAnswer, Control, Credential, Heartbeat, Hello, HelloAnswer, LogBatch, StoreCall,
};
use framewake_tests::audit::upload;
use framewake_tests::farm::{SOON, Store, TestFarm, kill};
use framewake_tests::parts::{Nats, Running, S3_SECRET, built};
use framewake_tests::robbed::{Robbed, functions, job, join_token, subjects};
use framewake_tests::thief::{Loot, Session, join, plant, plant_if};
use framewake_tests::tls::Authority;
use framewake_tests::wait::until;
use futures::StreamExt;
use prost::Message;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Chunks whose numbers are guessed: more than these farms have.
const GUESSES: u64 = 60;

#[tokio::test]
async fn a_worker_may_do_its_own_work_on_nats_and_nothing_else() {
    let robbed = Robbed::start(&[]).await;
    let (worker, function) = (&robbed.loot.worker, &robbed.loot.function);
    let (victim, victims) = (&robbed.victim, &robbed.victims);
    let credential = robbed.join().await;
    let mut session = robbed.session(&credential).await;

    // What a worker does goes on working, or the rest would show nothing.
    let hello = Hello { worker: worker.to_string(), function: "hostile".to_owned(), function_version: 1 };
    let welcome: HelloAnswer = session.ask(subjects().hello(function, worker), &hello).await.expect("answered");
    assert_eq!(welcome.refused, "");
    let beat = Heartbeat {
        worker: worker.to_string(),
        function: "hostile".to_owned(),
        function_version: 1,
        ..Heartbeat::default()
    };
    let control: Control = session.ask(subjects().heartbeat(function, worker), &beat).await.expect("answered");
    assert!(!control.drain);
    let context = jetstream::new(session.client.clone());
    let consumer: PullConsumer = context
        .get_consumer_from_stream(subjects().orders_consumer(function), subjects().orders_stream())
        .await
        .expect("its own consumer may be looked at");
    let mut orders = consumer.batch().max_messages(1).expires(SOON).messages().await.expect("orders may be pulled");
    let order = orders.next().await.expect("one is there").expect("it comes");
    let order = wire::Order::decode(&*order.payload).expect("an order");
    assert_eq!(order.job, robbed.ours.to_string());

    // Others' subjects, streams and consumers.
    let attempt: AttemptId = "1.1".parse().expect("a good id");
    let mut forbidden = vec![
        subjects().report(victim),
        subjects().log(victim, robbed.theirs, attempt),
        subjects().control(victim),
        subjects().control(worker),
        subjects().order(victims, robbed.theirs),
        subjects().order(function, robbed.ours),
        subjects().owner(),
        subjects().notification("job.failed", "theirs"),
        subjects().join(function, worker),
        format!("{}.x", subjects().inbox(victim)),
    ];
    for (of, who) in [(victims, victim), (function, victim), (victims, worker)] {
        forbidden.extend([
            subjects().hello(of, who),
            subjects().claim(of, who),
            subjects().heartbeat(of, who),
            subjects().renewal(of, who),
        ]);
    }
    let theirs = subjects().orders_consumer(victims);
    for stream in [subjects().orders_stream(), subjects().reports_stream(), subjects().logs_stream()] {
        for call in ["INFO", "CREATE", "UPDATE", "PURGE", "DELETE", "MSG.GET", "MSG.DELETE", "SNAPSHOT"] {
            forbidden.push(format!("$JS.API.STREAM.{call}.{stream}"));
        }
        forbidden.push(format!("$JS.API.CONSUMER.CREATE.{stream}"));
        forbidden.push(format!("$JS.API.CONSUMER.CREATE.{stream}.mine"));
        forbidden.push(format!("$JS.API.CONSUMER.DURABLE.CREATE.{stream}.mine"));
        forbidden.push(format!("$JS.API.CONSUMER.LIST.{stream}"));
        forbidden.push(format!("$JS.API.DIRECT.GET.{stream}"));
        forbidden.push(format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.scheduler"));
        forbidden.push(format!("$JS.API.CONSUMER.DELETE.{stream}.{theirs}"));
        forbidden.push(format!("$JS.API.CONSUMER.INFO.{stream}.{theirs}"));
        forbidden.push(format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{theirs}"));
        forbidden.push(format!("$JS.ACK.{stream}.{theirs}.1.1.1.1.0"));
    }
    forbidden.extend(["$JS.API.INFO", "$JS.API.STREAM.LIST", "$JS.API.STREAM.NAMES"].map(str::to_owned));
    forbidden.extend(["$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.INFO.x", "$KV.any.key"].map(str::to_owned));
    for subject in &forbidden {
        session.may_not_publish(subject, b"").await;
    }
    let everybody =
        [">", "framewake.>", "framewake.*.>", "*.reports.>", "_INBOX.>", "$JS.>", "$SYS.>", "framewake.inbox.*.>"];
    for subject in everybody {
        session.may_not_hear(subject).await;
    }
    for subject in [
        subjects().orders_all(),
        subjects().reports_all(),
        subjects().logs_all(),
        subjects().control(victim),
        subjects().requests("claim"),
        subjects().claim(victims, victim),
        format!("{}.>", subjects().inbox(victim)),
        format!("{}.>", subjects().joining_inbox()),
    ] {
        session.may_not_hear(&subject).await;
    }
    robbed.unharmed().await;
}

#[tokio::test]
async fn what_a_worker_says_on_its_own_subjects_does_nothing_in_the_name_of_others() {
    let robbed = Robbed::start(&[]).await;
    let (worker, function) = (&robbed.loot.worker, &robbed.loot.function);
    let (victim, victims) = (&robbed.victim, &robbed.victims);
    let session = robbed.session(&robbed.join().await).await;
    let attempt: AttemptId = {
        let attempts = robbed.farm.client.attempts(robbed.theirs, &PartQuery::default()).await.expect("listed").items;
        attempts[0].attempt.parse().expect("a good id")
    };

    // Chunks of others, by their numbers: what is granted is of its own function.
    let mut granted = 0;
    for chunk in 1..=GUESSES {
        let claim = Claim { worker: worker.to_string(), chunk, attempt: 1, want_step: true, ..Claim::default() };
        let answer: ClaimAnswer = session.ask(subjects().claim(function, worker), &claim).await.expect("answered");
        if answer.refused.is_empty() {
            granted += 1;
            let step: Value = serde_json::from_slice(&answer.step).expect("JSON");
            assert_eq!(step["job"], robbed.ours.to_string(), "an order of others was given out");
        }
    }
    assert!(granted > 0, "its own could have been guessed too, so others could have been");

    // As another, on its own subjects.
    let claim = Claim { worker: victim.to_string(), chunk: attempt.chunk.0, attempt: 1, ..Claim::default() };
    assert!(session.ask::<ClaimAnswer>(subjects().claim(function, worker), &claim).await.is_none(), "it is dropped");
    for (name, of) in [(victim, victims), (victim, function), (worker, victims)] {
        let beat = Heartbeat {
            worker: name.to_string(),
            function: of.name.to_string(),
            function_version: of.version,
            chunk: attempt.chunk.0,
            attempt: attempt.number,
            leaving: "for good".to_owned(),
            ..Heartbeat::default()
        };
        assert!(session.ask::<Control>(subjects().heartbeat(function, worker), &beat).await.is_none(), "it is dropped");
    }
    let context = jetstream::new(session.client.clone());
    for name in [victim, worker] {
        let report = wire::Report {
            worker: name.to_string(),
            chunk: attempt.chunk.0,
            attempt: attempt.number,
            failed: vec![wire::TaskFailed {
                task: 0,
                verdict: "scene_error".to_owned(),
                ..wire::TaskFailed::default()
            }],
            end: wire::AttemptEnd::HandedBack.into(),
            ..wire::Report::default()
        };
        let sent = context.publish(subjects().report(worker), report.encode_to_vec().into()).await.expect("sent");
        sent.await.expect("its own reports are taken");
    }
    // Into their log, which is read while it is live and later from the store.
    let words = LogBatch { offset: 0, text: b"not what they rendered\n".to_vec() };
    let subject = subjects().log(worker, robbed.theirs, attempt);
    let sent = context.publish(subject, words.encode_to_vec().into()).await.expect("sent");
    sent.await.expect("its own words are taken");
    let log = async || {
        let mut pieces = robbed.farm.client.log(robbed.theirs, attempt, false).await.expect("there is a log");
        let mut text = Vec::new();
        while let Some(piece) = pieces.next().await.expect("it is read") {
            text.extend_from_slice(&piece);
        }
        String::from_utf8(text).expect("text")
    };
    until(SOON, "their log is there", || async { log().await.contains("begun").then_some(()) }).await;
    assert!(!log().await.contains("not what they"), "{}", log().await);

    // Answers and orders that would become messages to others.
    let beat = Heartbeat {
        worker: worker.to_string(),
        function: "hostile".to_owned(),
        function_version: 1,
        ..Heartbeat::default()
    };
    let to = [subjects().control(victim), subjects().report(victim), format!("{}x.y", subjects().inbox(worker))];
    for reply in to {
        let body = beat.encode_to_vec().into();
        session.client.publish_with_reply(subjects().heartbeat(function, worker), reply, body).await.expect("sent");
    }
    let next =
        format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", subjects().orders_stream(), subjects().orders_consumer(function));
    for reply in [subjects().control(victim), subjects().report(victim), subjects().claim(victims, victim)] {
        let body = br#"{"batch":1,"no_wait":true}"#.to_vec().into();
        session.client.publish_with_reply(next.clone(), reply, body).await.expect("sent");
    }
    session.client.flush().await.expect("the server has it all");
    let said = [
        "speaks as another",
        "claims in the name of another",
        "its answer would go to somebody else",
        "it is in the name of",
    ];
    until(SOON, "the scheduler has seen it all", || async {
        let log = robbed.farm.scheduler_log();
        said.iter().all(|words| log.contains(words)).then_some(())
    })
    .await;
    robbed.unharmed().await;
}

#[tokio::test]
async fn a_join_token_lets_one_worker_in_once() {
    let robbed = Robbed::start_with_one_seed().await;
    let Loot { worker, function, .. } = &robbed.loot;
    let url = robbed.url();
    // Alone it opens nothing else.
    let mut waiting =
        Session::open(&url, robbed.loot.token(), &subjects().joining_inbox()).await.expect("let in to ask");
    for subject in [
        subjects().hello(function, worker),
        subjects().claim(function, worker),
        subjects().report(worker),
        subjects().renewal(function, worker),
        subjects().join(function, &robbed.victim),
        subjects().join(&robbed.victims, worker),
        "$JS.API.STREAM.LIST".to_owned(),
    ] {
        waiting.may_not_publish(&subject, b"").await;
    }
    waiting.may_not_hear("framewake.>").await;
    waiting.may_not_hear(&format!("{}.>", subjects().inbox(worker))).await;
    let opener = Opener::make();
    let credential = join(&url, &subjects(), &robbed.loot, &opener, "").await.expect("the first to come is let in");
    // The same process again, whose answer was lost; and another that has its environment.
    join(&url, &subjects(), &robbed.loot, &opener, "").await.expect("it asks again");
    for former in ["", "not.a.jwt", robbed.loot.token()] {
        let refused = join(&url, &subjects(), &robbed.loot, &Opener::make(), former).await.expect_err("another");
        assert!(refused.contains("has joined already"), "{refused}");
    }
    // Who has had the credential may come again, as after an outage in which it ran out.
    join(&url, &subjects(), &robbed.loot, &Opener::make(), &credential.jwt).await.expect("it shows what it had");

    // Nobody comes without one, nor with one that another has signed.
    assert!(async_nats::connect(&url).await.is_err(), "nobody is let in without");
    let elsewhere = tempfile::tempdir().expect("there is room");
    let seed = Nats::start(elsewhere.path()).guard();
    let signed = join_token(&seed, &[]);
    assert!(Session::open(&url, &signed, "any").await.is_err(), "the server trusts one seed");
    let (body, _) = credential.jwt.rsplit_once('.').expect("three parts");
    let (_, signature) = robbed.loot.token().rsplit_once('.').expect("three parts");
    assert!(Session::open(&url, &format!("{body}.{signature}"), "any").await.is_err(), "a signature is of one text");

    // A worker that has ended is let in no more, and where NATS can't be told that, what it still has is of no use.
    let session = robbed.session(&credential).await;
    kill(robbed.loot.pid);
    until(SOON, "its end is known", || async {
        let answer: Option<Credential> = session.ask(subjects().renewal(function, worker), &wire::Renewal {}).await;
        answer.filter(|answer| answer.refused.contains("has ended"))
    })
    .await;
    let refused = join(&url, &subjects(), &robbed.loot, &opener, &credential.jwt).await.expect_err("it has ended");
    assert!(refused.contains("has ended"), "{refused}");
    let hello = Hello { worker: worker.to_string(), function: "hostile".to_owned(), function_version: 1 };
    let answer: HelloAnswer = session.ask(subjects().hello(function, worker), &hello).await.expect("answered");
    assert!(answer.refused.contains("has ended"), "{answer:?}");
    for chunk in 1..=GUESSES {
        let claim = Claim { worker: worker.to_string(), chunk, attempt: 1, ..Claim::default() };
        let answer: ClaimAnswer = session.ask(subjects().claim(function, worker), &claim).await.expect("answered");
        assert!(answer.refused.contains("has ended"), "{answer:?}");
    }
    robbed.unharmed().await;
}

#[tokio::test]
async fn a_credential_ends_by_itself_and_real_workers_outlive_theirs() {
    let robbed = Robbed::start(&["--credentials-for", "2s"]).await;
    let credential = robbed.join().await;
    assert_eq!(credential.lasts_s, 2);
    let mut session = robbed.session(&credential).await;
    session.hears("authentication expired").await;
    let inbox = subjects().inbox(&robbed.loot.worker);
    // Within the second that it ends in, the server lets in and out again.
    until(SOON, "it opens nothing any more", || async {
        Session::open(&robbed.url(), &credential.jwt, &inbox).await.is_err().then_some(())
    })
    .await;
    // Their worker has been on one frame for longer than that.
    robbed.unharmed().await;
}

#[tokio::test]
async fn workers_go_on_when_nats_and_scheduler_were_gone_for_longer_than_their_credentials_last() {
    let mut robbed = Robbed::start(&["--credentials-for", "2s"]).await;
    robbed.farm.kill_scheduler();
    robbed.farm.nats.kill();
    let since = std::time::Instant::now();
    until(SOON, "what they had has run out", || async { (since.elapsed() > Duration::from_secs(3)).then_some(()) })
        .await;
    robbed.farm.nats.restart();
    robbed.farm.restart_scheduler().await;
    robbed.unharmed().await;
}

#[tokio::test]
async fn workers_that_others_start_join_with_a_token_of_their_function_over_tls() {
    let folder = tempfile::tempdir().expect("there is room");
    let functions = functions(folder.path());
    let authority = Authority::new(&folder.path().join("authority.pem"));
    let (chain, key) = (folder.path().join("nats.pem"), folder.path().join("nats.key"));
    authority.issue("localhost", &chain, &key);
    let mut seed = PathBuf::new();
    let farm = TestFarm::start_guarded(0, false, &functions, |farm| {
        let tls = format!("tls {{ cert_file: \"{}\", key_file: \"{}\" }}\n", chain.display(), key.display());
        farm.nats.configure(&tls);
        farm.nats.host = "localhost".to_owned();
        farm.arguments = vec!["--nats-ca".to_owned(), authority.file()];
        seed = farm.folder().join("nats.seed");
    })
    .await;
    let worker = |name: &str, function: &str, token: &str, ca: Option<&str>| {
        let mut command = Command::new(built("framewake-worker"));
        let file = folder.path().join(format!("{name}.token"));
        std::fs::write(&file, format!("{token}\n")).expect("writable");
        command
            .env("FRAMEWAKE_NATS_URL", farm.nats.url())
            .env("FRAMEWAKE_STORE", farm.store_url())
            .env("FRAMEWAKE_FUNCTION", function)
            .env("FRAMEWAKE_WORKER", name)
            .env("FRAMEWAKE_JOIN_TOKEN_FILE", &file)
            .env("FRAMEWAKE_SCRATCH", folder.path().join(format!("{name}.scratch")))
            .env("FRAMEWAKE_LINGER_MS", "300");
        if let Some(ca) = ca {
            command.env("FRAMEWAKE_NATS_CA", ca);
        }
        Running::start(name, &mut command, &folder.path().join(format!("{name}.log")))
    };
    let token = join_token(&seed, &["--function", "theirs"]);
    let id = farm.submit(&job("theirs", "theirs", "true", "1-3")).await;
    // Of another function; and of one that does not trust this server. They try for a minute, which nobody waits for.
    let other = worker("other", "hostile@1", &token, Some(&authority.file()));
    let stranger = worker("stranger", "theirs@1", &token, None);
    let mut good = worker("good", "theirs@1", &token, Some(&authority.file()));
    assert_eq!(farm.over(id).await.state, JobState::Succeeded, "{}", good.log());
    assert_eq!(good.wait(SOON), 0, "{}", good.log());
    for (who, words) in [(&other, "Permissions Violation"), (&stranger, "NATS is not reachable yet")] {
        until(SOON, words, || async { who.log().contains(words).then_some(()) }).await;
        assert!(!who.log().contains("is ready for orders"), "{}", who.log());
        assert!(!who.log().contains(&token), "a token is in no log");
    }
}

/// Much more than goes in one piece.
const LARGE_BYTES: u64 = 70 << 20;

/// As a worker asks for one address in the store.
struct Asking<'a> {
    robbed: &'a Robbed,
    session: Session,
    attempt: (u64, u32),
}

impl Asking<'_> {
    async fn sign(&self, call: StoreCall) -> Result<String, String> {
        let Loot { worker, function, .. } = &self.robbed.loot;
        let ask = wire::Sign { chunk: self.attempt.0, attempt: self.attempt.1, calls: vec![call] };
        let answer: wire::Signed = self.session.ask(subjects().sign(function, worker), &ask).await.expect("answered");
        match answer.calls.into_iter().next() {
            Some(signed) => Ok(signed.url),
            None => Err(answer.refused),
        }
    }

    async fn refuses(&self, call: StoreCall) {
        let what = format!("{call:?}");
        assert!(self.sign(call).await.is_err(), "{what} is signed");
    }
}

fn call(method: &str, key: &str) -> StoreCall {
    StoreCall { method: method.to_owned(), key: key.to_owned(), ..StoreCall::default() }
}

fn create(key: &str) -> StoreCall {
    StoreCall { if_none_match: "*".to_owned(), ..call("PUT", key) }
}

#[tokio::test]
async fn a_worker_reaches_in_the_store_what_its_attempt_needs_and_nothing_else() {
    let folder = tempfile::tempdir().expect("there is room");
    let (program, functions) = (plant(folder.path(), "hostile"), functions(folder.path()));
    let farm = TestFarm::start_guarded(2, true, &functions, |farm| farm.worker = Some(program)).await;
    let Store::S3(s3) = &farm.store else { unreachable!("started so") };
    let bucket = format!("{}/made-by-framewake", s3.endpoint());
    let (their_input, our_input) = (upload(&farm.client, b"theirs").await, upload(&farm.client, b"ours").await);
    let with = |function: &str, project: &str, input: Digest, script: &str, frames: &str| {
        let mut job = job(function, project, script, frames);
        let words = json!(["-c", script, "sh", "{output}"]);
        job["steps"][0]["parameters"]["words"] = words;
        job["steps"][0]["inputs"] = json!([{ "digest": input, "as": "input.txt" }]);
        job["steps"][0]["output"] = json!("frames/{frame}.txt");
        job
    };
    // Real workers do all of their work with what is signed: small outputs, large ones, inputs, and outputs that are there.
    let large = format!("head -c {LARGE_BYTES} /dev/zero > \"$1\"");
    let theirs = farm.succeed(&with("theirs", "theirs", their_input, "echo theirs > \"$1\"", "1-20")).await.id;
    farm.succeed(&with("theirs", "theirs", their_input, &large, "1")).await;
    assert_eq!(farm.outputs(theirs).await.len(), 20);
    // And the pictures of outputs that are some.
    let picture = folder.path().join("picture.png");
    image::RgbImage::from_pixel(64, 36, image::Rgb([200, 100, 50])).save(&picture).expect("writable");
    let mut pictured = with("theirs", "theirs", their_input, &format!("cp {} \"$1\"", picture.display()), "1");
    pictured["steps"][0]["output"] = json!("frames/{frame}.png");
    let pictured = farm.succeed(&pictured).await.id;
    let thumbnail = reqwest::get(format!("{}/v1/jobs/{pictured}/outputs/run/0/thumbnail", farm.url())).await;
    assert_eq!(thumbnail.expect("answered").status(), 200, "the worker may keep pictures");
    for pid in farm.worker_pids() {
        // Who may not read it is no worker of this test's user, and no worse.
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let text = String::from_utf8_lossy(&environment).into_owned();
        assert!(!text.contains(S3_SECRET) && !text.contains("AWS_"), "worker {pid} has credentials of the store");
    }

    let ours = farm.submit(&with("hostile", "ours", our_input, "true", "1-3")).await;
    let loot = Loot::find(folder.path(), &[]).await;
    for (name, value) in &loot.environment {
        assert!(!value.contains(S3_SECRET) && !name.starts_with("AWS_"), "{name} is given to workers");
    }
    let robbed = Robbed {
        farm,
        loot,
        theirs,
        ours,
        victim: "nobody".parse().expect("a good id"),
        victims: "theirs@1".parse().expect("a good key"),
        go: PathBuf::new(),
        folder,
    };
    let session = robbed.session(&robbed.join().await).await;
    let Loot { worker, function, .. } = &robbed.loot;
    let hello = Hello { worker: worker.to_string(), function: "hostile".to_owned(), function_version: 1 };
    let welcome: HelloAnswer = session.ask(subjects().hello(function, worker), &hello).await.expect("answered");
    assert!(welcome.signed_store);
    let mut attempt = None;
    for chunk in 1..=GUESSES {
        let claim = Claim { worker: worker.to_string(), chunk, attempt: 1, want_step: true, ..Claim::default() };
        let answer: ClaimAnswer = session.ask(subjects().claim(function, worker), &claim).await.expect("answered");
        if answer.refused.is_empty() {
            attempt = Some((chunk, 1));
            break;
        }
    }
    let asking = Asking { robbed: &robbed, session, attempt: attempt.expect("its own order can be claimed") };
    let (our_prefix, their_prefix) =
        (job_prefix(&"ours".parse().expect("good"), ours), job_prefix(&"theirs".parse().expect("good"), theirs));
    let (our_frame, their_frame) = (format!("{our_prefix}frames/1.txt"), format!("{their_prefix}frames/1.txt"));
    let http = reqwest::Client::new();

    // What the attempt needs.
    let input = asking.sign(call("GET", &input_key(&our_input))).await.expect("its own input");
    assert_eq!(http.get(&input).send().await.expect("answered").text().await.expect("text"), "ours");
    let put = asking.sign(create(&our_frame)).await.expect("its own output");
    let store = async |with_condition: bool, text: &'static str| {
        let request = http.put(&put).body(text);
        let request = if with_condition { request.header("if-none-match", "*") } else { request };
        request.send().await.expect("answered").status().as_u16()
    };
    assert_eq!(store(false, "without the condition").await, 403);
    assert_eq!(store(true, "first").await, 200);
    assert_eq!(store(true, "second").await, 412, "what is committed is not overwritten");
    assert_eq!(store(false, "without the condition").await, 403);
    let get = asking.sign(call("GET", &our_frame)).await.expect("its own output");
    assert_eq!(http.get(&get).send().await.expect("answered").text().await.expect("text"), "first");

    // A signature is of one call.
    assert_eq!(http.delete(&get).send().await.expect("answered").status(), 403);
    assert_eq!(http.delete(&put).send().await.expect("answered").status(), 403);
    assert_eq!(http.put(&get).body("other").send().await.expect("answered").status(), 403);
    let led_elsewhere = get.replace(&our_frame, &their_frame);
    assert_ne!(led_elsewhere, get);
    assert_eq!(http.get(&led_elsewhere).send().await.expect("answered").status(), 403);
    let (_, signature) = get.split_once('?').expect("a signed address");
    for list in
        [format!("{bucket}?list-type=2&{signature}"), format!("{bucket}?{signature}"), format!("{bucket}?list-type=2")]
    {
        assert_eq!(http.get(&list).send().await.expect("answered").status(), 403, "the bucket is listed");
    }

    // What others have, and what nobody needs.
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        for key in [
            their_frame.as_str(),
            &input_key(&their_input),
            &their_prefix,
            "",
            "jobs/",
            "inputs/",
            "logs/",
            "staging/",
            "pictures/",
            &format!("pictures/{theirs}/x.thumbnail.jpg"),
            &format!("{our_prefix}../../theirs/{theirs}/frames/1.txt"),
            &format!("logs/{theirs}/1.1.log"),
        ] {
            asking.refuses(call(method, key)).await;
            asking.refuses(StoreCall { if_none_match: "*".to_owned(), ..call(method, key) }).await;
        }
    }
    asking.refuses(call("PUT", &our_frame)).await;
    asking.refuses(call("DELETE", &our_frame)).await;
    asking.refuses(create(&input_key(&our_input))).await;
    asking.refuses(StoreCall { query: "list-type=2".to_owned(), ..call("GET", &our_prefix) }).await;
    asking
        .refuses(StoreCall { bucket: "made-by-framewake".to_owned(), ..call("GET", &format!("farm/{their_frame}")) })
        .await;
    let copy =
        StoreCall { query: "partNumber=1&uploadId=x".to_owned(), copy_from: their_frame, ..call("PUT", &our_frame) };
    asking.refuses(copy).await;
    // Nor for an attempt of somebody else, or for one that is over.
    let others = Asking { attempt: (asking.attempt.0 + 1, 1), ..asking };
    others.refuses(call("GET", &our_frame)).await;
    let asking = Asking { attempt: (others.attempt.0 - 1, 1), ..others };
    let report = wire::Report {
        worker: worker.to_string(),
        chunk: asking.attempt.0,
        attempt: 1,
        end: wire::AttemptEnd::HandedBack.into(),
        ..wire::Report::default()
    };
    let context = jetstream::new(asking.session.client.clone());
    let sent = context.publish(subjects().report(worker), report.encode_to_vec().into()).await.expect("sent");
    sent.await.expect("stored");
    until(SOON, "the attempt is over", || async { asking.sign(call("GET", &our_frame)).await.err() }).await;
    kill(robbed.loot.pid);
}

/// A job with an input, whose script is given the place of its output.
fn with_files(function: &str, project: &str, input: Digest, script: &str) -> Value {
    let mut job = job(function, project, script, "1");
    job["steps"][0]["parameters"]["words"] = json!(["-c", script, "sh", "{output}"]);
    job["steps"][0]["inputs"] = json!([{ "digest": input, "as": "input.txt" }]);
    job["steps"][0]["output"] = json!("frames/{frame}.txt");
    job
}

#[tokio::test]
async fn of_a_function_of_two_projects_a_worker_reaches_what_its_own_attempt_needs_alone() {
    let folder = tempfile::tempdir().expect("there is room");
    let (now, go) = (folder.path().join("now"), folder.path().join("go"));
    let program = plant_if(folder.path(), "shared", &format!("test -e {}", now.display()));
    let functions = functions(folder.path());
    let farm = TestFarm::start_guarded(2, true, &functions, |farm| farm.worker = Some(program)).await;
    let (their_input, our_input) = (upload(&farm.client, b"theirs").await, upload(&farm.client, b"ours").await);
    let done = farm.succeed(&with_files("shared", "theirs", their_input, "echo theirs > \"$1\"")).await.id;
    let waits = format!("until test -e {}; do sleep 0.05; done; echo theirs > \"$1\"", go.display());
    let mut open = with_files("shared", "theirs", their_input, &waits);
    open["steps"][0]["timeouts"] = json!({ "silent": "2m" });
    let open = farm.submit(&open).await;
    let victim = until(SOON, "a real worker is at theirs", || async {
        let attempts = farm.client.attempts(open, &PartQuery::default()).await.ok()?;
        attempts.items.first().map(|attempt| attempt.worker.clone())
    })
    .await;
    std::fs::write(&now, "").expect("writable");
    let mut once = with_files("shared", "ours", our_input, "true");
    once["steps"][0]["retries"] = json!({ "attempts": 1 });
    let ours = farm.submit(&once).await;
    let loot = Loot::find(folder.path(), &[]).await;
    let victims = loot.function.clone();
    let robbed = Robbed { farm, loot, theirs: open, ours, victim, victims, go, folder };
    let mut session = robbed.session(&robbed.join().await).await;
    let Loot { worker, function, .. } = &robbed.loot;
    let hello = Hello { worker: worker.to_string(), function: "shared".to_owned(), function_version: 1 };
    let welcome: HelloAnswer = session.ask(subjects().hello(function, worker), &hello).await.expect("answered");
    assert_eq!(welcome.refused, "");

    // Whatever it claims, it is given its own order and no other: theirs is somebody's already.
    let mut granted = Vec::new();
    for (chunk, attempt) in (1..=GUESSES).flat_map(|chunk| [(chunk, 1), (chunk, 2)]) {
        let claim = Claim { worker: worker.to_string(), chunk, attempt, want_step: true, ..Claim::default() };
        let answer: ClaimAnswer = session.ask(subjects().claim(function, worker), &claim).await.expect("answered");
        if answer.refused.is_empty() {
            let step: Value = serde_json::from_slice(&answer.step).expect("a step");
            assert_eq!(step["job"], json!(ours), "an attempt of {step} is given to it");
            granted.push((chunk, attempt));
        }
    }
    let &[own] = &granted[..] else { panic!("one order is its own: {granted:?}") };

    // In their name it says nothing, and what it says as itself of their attempt is nobody's word.
    let victim = robbed.victim.clone();
    session.may_not_publish(&subjects().report(&victim), b"").await;
    session.may_not_publish(&subjects().claim(function, &victim), b"").await;
    let theirs = |job| job_prefix(&"theirs".parse().expect("good"), job);
    let attempts = robbed.farm.client.attempts(open, &PartQuery::default()).await.expect("a list").items;
    let held: AttemptId = attempts[0].attempt.parse().expect("a good id");
    let lie = wire::Report {
        worker: worker.to_string(),
        chunk: held.chunk.0,
        attempt: held.number,
        done: vec![wire::TaskDone {
            task: 0,
            key: format!("{}frames/1.txt", theirs(open)),
            size_bytes: 4,
            sha256: vec![7; 32],
            ..wire::TaskDone::default()
        }],
        end: wire::AttemptEnd::Finished.into(),
        ..wire::Report::default()
    };
    let context = jetstream::new(session.client.clone());
    let sent = context.publish(subjects().report(worker), lie.encode_to_vec().into()).await.expect("sent");
    sent.await.expect("stored");

    // Their inputs by digest, what they have made and what they are to make, for its own attempt and for all that it can guess.
    let (their_frame, next_frame) = (format!("{}frames/1.txt", theirs(done)), format!("{}frames/1.txt", theirs(open)));
    let our_frame = format!("{}frames/1.txt", job_prefix(&"ours".parse().expect("good"), ours));
    let mut asking = Asking { robbed: &robbed, session, attempt: own };
    let get = asking.sign(call("GET", &input_key(&our_input))).await.expect("its own input");
    for guess in (1..=GUESSES).flat_map(|chunk| [(chunk, 1), (chunk, 2)]) {
        asking.attempt = guess;
        asking.refuses(call("GET", &input_key(&their_input))).await;
        asking.refuses(create(&next_frame)).await;
        if guess != own {
            asking.refuses(call("GET", &our_frame)).await;
        }
    }
    asking.attempt = own;
    for key in
        [&their_frame, &next_frame, &theirs(done), &theirs(open), &input_key(&their_input), "", "jobs/", "inputs/"]
    {
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            asking.refuses(call(method, key)).await;
            asking.refuses(StoreCall { if_none_match: "*".to_owned(), ..call(method, key) }).await;
        }
        asking.refuses(StoreCall { query: "list-type=2".to_owned(), ..call("GET", key) }).await;
    }
    let Store::S3(s3) = &robbed.farm.store else { unreachable!("started so") };
    let (bucket, http) = (format!("{}/made-by-framewake", s3.endpoint()), reqwest::Client::new());
    let (_, signature) = get.split_once('?').expect("a signed address");
    for other in [
        get.replace(&input_key(&our_input), &input_key(&their_input)),
        format!("{bucket}?list-type=2&{signature}"),
        format!("{bucket}?list-type=2"),
    ] {
        assert_ne!(other, get);
        assert_eq!(http.get(&other).send().await.expect("answered").status(), 403, "{other}");
    }
    assert_eq!(http.get(&get).send().await.expect("answered").text().await.expect("text"), "ours");

    // Nor is it believed that what they made is its own: whoever sees its job would be sent it.
    let lie = wire::Report {
        worker: worker.to_string(),
        chunk: own.0,
        attempt: own.1,
        done: vec![wire::TaskDone {
            key: their_frame.clone(),
            size_bytes: 7,
            sha256: Digest::of(b"theirs\n").0.to_vec(),
            ..wire::TaskDone::default()
        }],
        end: wire::AttemptEnd::Finished.into(),
        ..wire::Report::default()
    };
    let sent = context.publish(subjects().report(worker), lie.encode_to_vec().into()).await.expect("sent");
    sent.await.expect("stored");
    assert_eq!(robbed.farm.over(ours).await.state, JobState::Failed);
    assert_eq!(robbed.farm.outputs(ours).await.len(), 0);

    // Theirs ends as if nobody had been there.
    std::fs::write(&robbed.go, "").expect("writable");
    let view = robbed.farm.over(open).await;
    assert_eq!((view.state, view.tasks.done), (JobState::Succeeded, 1), "{}", robbed.farm.scheduler_log());
    let outputs = robbed.farm.outputs(open).await;
    assert_eq!(outputs[0].sha256, Digest::of(b"theirs\n"), "{outputs:?}");
    kill(robbed.loot.pid);
}
