//! Notifications on real parts: a receiver that fails, hangs or leads astray, a mail server, NATS, and a scheduler that
//! is killed in between.

use framewake_proto::api::JobState;
use framewake_proto::client::Error;
use framewake_proto::ids::Name;
use framewake_proto::notify::{ADDRESS_LEN_MAX, JOB_TARGETS_MAX, MAIL_TO_MAX, TARGETS_MAX, TargetSpec, TargetView};
use framewake_tests::farm::{SOON, TestFarm};
use framewake_tests::jobs;
use framewake_tests::parts::{built, free_port, path, tool};
use framewake_tests::receiver::{Answer, Got, MailServer, Receiver, Tls};
use framewake_tests::tls::Authority;
use framewake_tests::wait::until;
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant};

/// 32 bytes that the receivers know.
const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

/// A farm that may call this machine, and gives up after `patience`.
async fn farm(patience: &str) -> TestFarm {
    let mut farm = TestFarm::start(2).await;
    farm.restart_scheduler_with(&[("FRAMEWAKE_NOTIFY_ALLOW", "127.0.0.1/32"), ("FRAMEWAKE_NOTIFY_FOR", patience)])
        .await;
    farm
}

async fn add(farm: &TestFarm, name: &str, on: &[&str], way: Value) {
    let spec = target(name, on, way);
    farm.client.add_target(&spec).await.unwrap_or_else(|error| panic!("{name} is refused: {error:?}"));
}

fn target(name: &str, on: &[&str], way: Value) -> TargetSpec {
    serde_json::from_value(json!({ "name": name, "on": on, "way": way })).expect("a target")
}

fn webhook(url: &str) -> Value {
    json!({ "kind": "webhook", "url": url, "secret": SECRET })
}

/// A job whose frames fail, each at its one try.
fn failing(frames: &str) -> Value {
    let mut job = jobs::command(&["/bin/sh", "-c", "echo no such texture; exit 3"], frames);
    job["steps"][0]["retries"] = json!({ "attempts": 1 });
    job
}

async fn told(receiver: &Receiver, count: usize) -> Vec<Got> {
    until(SOON, "the receiver is told", || async { Some(receiver.got()).filter(|got| got.len() >= count) }).await
}

async fn shown(farm: &TestFarm, target: &str, is: impl Fn(&TargetView) -> bool) -> TargetView {
    until(SOON, "the target is as it should be", || async {
        farm.client.target(&name(target)).await.ok().filter(|view| is(view))
    })
    .await
}

/// The signature of a request, computed by another program from what came over the wire.
fn signature(got: &Got) -> String {
    let script = "import base64, hashlib, hmac, sys\n\
                  key = base64.b64decode(sys.argv[1].removeprefix('whsec_'))\n\
                  text = f'{sys.argv[2]}.{sys.argv[3]}.{sys.argv[4]}'.encode()\n\
                  print('v1,' + base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode())";
    let body = std::str::from_utf8(&got.body).expect("text");
    let words = [script, SECRET, got.header("webhook-id"), got.header("webhook-timestamp"), body];
    let output = Command::new(tool("python3")).arg("-c").args(words).output().expect("Python runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_twice_is_told_again_under_the_same_id_and_signed_each_time() {
    let farm = farm("1d").await;
    let elsewhere = Receiver::start(free_port(), |_| Answer::Status(204)).await;
    let lure = elsewhere.url();
    // An endless answer, a way to another place, then a good one.
    let receiver = Receiver::start(free_port(), move |number| match number {
        1 => Answer::Long(64 * 1024 * 1024),
        2 => Answer::Redirect(lure.clone()),
        _ => Answer::Status(200),
    })
    .await;
    add(&farm, "ops", &["failed"], webhook(&receiver.url())).await;
    let id = farm.submit(&failing("1-2")).await;
    assert_eq!(farm.over(id).await.state, JobState::Failed);

    let got = told(&receiver, 3).await;
    for one in &got {
        assert_eq!(one.body, got[0].body, "the same bytes at each try");
        assert_eq!(one.header("webhook-id"), got[0].header("webhook-id"));
        assert_eq!(one.header("webhook-signature"), signature(one));
        assert_eq!(one.header("content-type"), "application/cloudevents+json; charset=utf-8");
    }
    let event = got[0].json();
    let expected = json!({
        "specversion": "1.0", "id": got[0].header("webhook-id"), "source": "urn:framewake:framewake",
        "type": "framewake.job.failed", "subject": format!("jobs/{id}"), "time": event["time"],
        "datacontenttype": "application/json", "data": event["data"],
    });
    assert_eq!(event, expected);
    assert_eq!((&event["data"]["job"], &event["data"]["tasks"]["failed"]), (&json!(id), &json!(2)), "{event}");
    assert!(event["data"]["failure"]["message"].is_string(), "{event}");
    let view = shown(&farm, "ops", |view| view.waiting == 0).await;
    assert!(view.delivered_at.is_some() && view.dead == 0, "{view:?}");
    assert!(elsewhere.got().is_empty(), "nobody is led elsewhere");
    let metrics =
        reqwest::get(format!("{}/metrics", farm.url())).await.expect("it answers").text().await.expect("text");
    assert!(metrics.contains("framewake_notifications_total{outcome=\"delivered\",way=\"webhook\"} 1\n"), "{metrics}");
    assert!(metrics.contains("framewake_notifications_total{outcome=\"failed\",way=\"webhook\"} 2\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_hangs_holds_up_nobody_and_what_is_given_up_is_kept_and_can_be_sent_again() {
    let farm = farm("2s").await;
    let hanging = Receiver::start(free_port(), |_| Answer::Hang).await;
    let broken = Receiver::start(free_port(), |_| Answer::Status(500)).await;
    let good = Receiver::start(free_port(), |_| Answer::Status(204)).await;
    add(&farm, "hanging", &["succeeded"], webhook(&hanging.url())).await;
    add(&farm, "broken", &["succeeded"], webhook(&broken.url())).await;
    add(&farm, "good", &["succeeded", "failed", "first_error"], webhook(&good.url())).await;
    for _ in 0..6 {
        farm.succeed(&jobs::command(&["/bin/true"], "1")).await;
    }
    let since = Instant::now();
    told(&good, 6).await;
    // A try that hangs takes ten.
    assert!(since.elapsed() < Duration::from_secs(8), "one that hangs holds up another: {:?}", since.elapsed());
    assert!(!hanging.got().is_empty());
    // On a slow machine the first of them is given up by now.
    let view = shown(&farm, "hanging", |_| true).await;
    assert_eq!(view.waiting + view.dead, 6, "{view:?}");
    let view = shown(&farm, "broken", |view| view.dead == 6).await;
    assert!(view.failure.contains("500"), "{view:?}");

    let dead = farm.client.dead_notifications(None).await.expect("listed").items;
    assert!(dead.iter().all(|dead| dead.target == name("broken") && dead.tries >= 2), "{dead:?}");
    broken.behave(|_| Answer::Status(200));
    let before = broken.got().len();
    farm.client.resend_notification(&dead[0].id).await.expect("it can be sent again");
    let again = told(&broken, before + 1).await.pop().expect("the last one");
    assert_eq!(again.header("webhook-id"), dead[0].id);
    shown(&farm, "broken", |view| view.dead == 5 && view.waiting == 0).await;
    let refused = farm.client.resend_notification(&dead[0].id).await.expect_err("it is delivered");
    assert!(matches!(&refused, Error::Refused(problem) if problem.status == 404), "{refused:?}");
    farm.client.remove_target(&name("broken")).await.expect("it can be removed");
    assert!(farm.client.dead_notifications(None).await.expect("listed").items.is_empty(), "its letters go with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_killed_while_it_tells_somebody_tells_it_at_its_return() {
    let mut farm = farm("1d").await;
    let receiver =
        Receiver::start(free_port(), |number| if number <= 2 { Answer::Hang } else { Answer::Status(200) }).await;
    add(&farm, "ops", &["first_error", "succeeded", "failed"], webhook(&receiver.url())).await;
    let id = farm.submit(&failing("1-3")).await;
    farm.over(id).await;
    // Both notices are durable, and under way.
    let cut_off = told(&receiver, 2).await;
    farm.kill_scheduler();
    farm.restart_scheduler().await;
    let got = told(&receiver, 4).await;
    let ids = |got: &[Got]| {
        let mut ids: Vec<String> = got.iter().map(|got| got.header("webhook-id").to_owned()).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(&got[2..4]), ids(&cut_off), "the same two");
    let kinds: Vec<Value> = got[2..4].iter().map(|got| got.json()["type"].clone()).collect();
    assert!(
        kinds.contains(&json!("framewake.job.failed")) && kinds.contains(&json!("framewake.job.first_error")),
        "{kinds:?}"
    );
    shown(&farm, "ops", |view| view.waiting == 0).await;
    assert_eq!(receiver.got().len(), 4, "the other two errors of the job are not told");
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_of_this_network_are_refused_by_number_by_name_and_when_they_are_called() {
    let farm = TestFarm::start(1).await;
    let receiver = Receiver::start(free_port(), |_| Answer::Status(204)).await;
    let port = receiver.port;
    for url in [
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:127.0.0.1]/",
        "http://2130706433/",
        "http://[fd00::1]/",
    ] {
        let refused = farm.client.add_target(&target("inner", &[], webhook(url))).await.expect_err("refused");
        let Error::Refused(problem) = refused else { panic!("{refused:?}") };
        assert_eq!((problem.status, problem.faults[0].field.as_str()), (422, "/way/url"), "{url}: {problem:?}");
        assert!(problem.faults[0].reason.contains("--notify-allow"), "{problem:?}");
    }
    // A name may lead anywhere at any time, so it is looked at when it is called.
    add(&farm, "named", &[], webhook(&format!("http://localhost:{port}/"))).await;
    let tried = farm.client.test_target(&name("named")).await.expect("tried");
    assert!(!tried.delivered && tried.reason.contains("an internal address"), "{tried:?}");
    assert!(receiver.got().is_empty(), "nothing was sent");
    for (way, field) in [
        (json!({ "kind": "webhook", "url": "ftp://hooks.example/", "secret": "short" }), "/way/url"),
        (json!({ "kind": "webhook", "url": "https://hooks.example/", "secret": "short" }), "/way/secret"),
        (json!({ "kind": "slack", "url": "https://me:pw@hooks.example/" }), "/way/url"),
        (json!({ "kind": "mail", "to": ["ops@example.org"] }), "/way/kind"),
    ] {
        let refused = farm.client.add_target(&target("bad", &[], way)).await.expect_err("refused");
        let Error::Refused(problem) = refused else { panic!("{refused:?}") };
        assert_eq!(problem.faults[0].field, field, "{problem:?}");
    }
    // Jobs name targets, and nothing else.
    let mut job = jobs::command(&["/bin/true"], "1");
    job["notify"] = json!([{ "on": ["failed"], "target": "nmaed" }, { "on": ["late"], "target": "named" }]);
    let refused = farm.client.submit(&job, "one").await.expect_err("refused");
    let Error::Refused(problem) = refused else { panic!("{refused:?}") };
    let faults: Vec<&str> = problem.faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(faults, ["/notify/0/target", "/notify/1/on"], "{problem:?}");
    assert!(problem.faults[0].reason.contains("did you mean `named`"), "{problem:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_told_by_mail_to_those_it_names_and_a_late_run_on_nats() {
    let mut farm = TestFarm::start(1).await;
    let mails = MailServer::start(free_port()).await;
    let smtp = format!("smtp://127.0.0.1:{}", mails.port);
    farm.restart_scheduler_with(&[("FRAMEWAKE_SMTP", &smtp), ("FRAMEWAKE_SMTP_FROM", "Farm <farm@example.org>")]).await;
    add(&farm, "people", &[], json!({ "kind": "mail", "to": ["ann@example.org", "Bob <bob@example.org>"] })).await;
    let mut job = jobs::command(&["/bin/true"], "1-3");
    job["name"] = json!("nächtlich");
    job["notify"] = json!([{ "on": ["succeeded"], "target": "people" }]);
    let done = farm.succeed(&job).await;
    let mail = until(SOON, "the mail is there", || async { mails.mails().pop() }).await;
    for part in
        ["MAIL FROM:<farm@example.org>", "RCPT TO:<ann@example.org>", "RCPT TO:<bob@example.org>", "Message-ID: <"]
    {
        assert!(mail.contains(part), "{part}: {mail}");
    }
    assert!(mail.contains(&done.id.to_string()) && mail.contains("3 done, 0 failed, of 3"), "{mail}");

    let nats = async_nats::connect(farm.nats.url()).await.expect("NATS is there");
    let mut events = nats.subscribe("framewake.events.>").await.expect("it can be listened to");
    nats.flush().await.expect("it answers");
    add(&farm, "bus", &["late"], json!({ "kind": "nats" })).await;
    let slow = jobs::command(&["/bin/sh", "-c", "sleep 30"], "1");
    let spec = json!({ "name": "slow", "cron": "0 0 1 1 *", "deadline": { "finish": "1s" }, "job": slow });
    farm.client.add_schedule(&spec).await.expect("a good schedule");
    let made = farm.client.run_schedule(&name("slow"), "one").await.expect("by hand");
    let message = tokio::time::timeout(SOON, events.next()).await.expect("in time").expect("an event");
    assert_eq!(message.subject.as_str(), "framewake.events.late.default");
    let event: Value = serde_json::from_slice(&message.payload).expect("JSON");
    assert_eq!((&event["type"], &event["subject"]), (&json!("framewake.schedule.late"), &json!("schedules/slow")));
    assert_eq!((&event["data"]["job"], &event["data"]["deadline"]), (&json!(made.id), &json!("finish")), "{event}");
    farm.client.act(made.id, framewake_proto::client::Action::Cancel).await.expect("it can be canceled");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_keeps_targets_and_shows_no_secret() {
    let farm = farm("0s").await;
    let receiver = Receiver::start(free_port(), |_| Answer::Status(200)).await;
    let framewake = |arguments: &[&str]| {
        let mut command = Command::new(built("framewake"));
        command.arg("notify").args(arguments).env("FRAMEWAKE_URL", farm.url()).env("NO_COLOR", "1").env("PATH", path());
        let output = command.output().expect("the program runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    };
    let good = |arguments: &[&str]| {
        let (code, out, err) = framewake(arguments);
        assert_eq!(code, 0, "{arguments:?}\n{out}\n{err}");
        out
    };
    let (secret, chat) = (farm.folder().join("secret"), farm.folder().join("chat"));
    std::fs::write(&secret, format!("{SECRET}\n")).expect("writable");
    let path_of_chat = "/services/T000/t0ken";
    std::fs::write(&chat, format!("http://127.0.0.1:{}{path_of_chat}", receiver.port)).expect("writable");
    let (secret, chat) = (secret.display().to_string(), chat.display().to_string());
    let added =
        good(&["add", "ops", "--webhook", &receiver.url(), "--secret-file", &secret, "--on", "failed,first_error"]);
    assert!(added.contains("target ops: created, webhook http://127.0.0.1:"), "{added}");
    assert!(good(&["add", "chat", "--slack-file", &chat, "--on", "failed", "--project", "film"]).contains("created"));
    let (code, _, err) = framewake(&["add", "ops", "--nats"]);
    assert!(code != 0 && err.contains("is another"), "{code} {err}");
    let (code, _, err) = framewake(&["add", "both", "--nats", "--mail", "a@example.org"]);
    assert!(code == 2 && err.contains("cannot be used with"), "{code} {err}");
    assert!(good(&["test", "ops"]).contains("has taken a test"));
    let listed = good(&["list"]);
    assert!(listed.contains("ops") && listed.contains("film"), "{listed}");

    let mut job = failing("1");
    job["project"] = json!("film");
    job["name"] = json!("<!channel> & co");
    let id = farm.submit(&job).await;
    farm.over(id).await;
    let got = told(&receiver, 4).await;
    let text = got.iter().find_map(|got| got.json()["text"].as_str().map(str::to_owned)).expect("one is for the chat");
    assert!(text.starts_with("job &lt;!channel&gt; &amp; co failed: 1 of 1 frames"), "{text}");

    receiver.behave(|_| Answer::Status(503));
    let (code, out, _) = framewake(&["test", "ops"]);
    assert!(code == 1 && out.contains("503"), "{code} {out}");
    let id = farm.submit(&job).await;
    farm.over(id).await;
    shown(&farm, "ops", |view| view.dead == 2).await;
    shown(&farm, "chat", |view| view.dead == 1).await;
    let dead = good(&["dead"]);
    assert!(dead.contains("first error of job <!channel> & co") && dead.contains("503"), "{dead}");
    receiver.behave(|_| Answer::Status(200));
    assert!(good(&["resend", "--all"]).contains("3 notifications sent again"));
    shown(&farm, "ops", |view| view.dead == 0 && view.waiting == 0).await;
    let shown = good(&["show", "ops"]);
    assert!(shown.contains("on failed, first_error, project any") && shown.contains("last told"), "{shown}");
    good(&["rm", "chat"]);
    let views = reqwest::get(format!("{}/v1/notifications/targets", farm.url())).await.expect("it answers");
    let views = views.text().await.expect("text");
    for (what, text) in
        [("the list", &listed), ("the view", &views), ("the log", &farm.scheduler_log()), ("show", &shown)]
    {
        for hidden in [&SECRET[6..], "t0ken", "/hook"] {
            assert!(!text.contains(hidden), "{what} has `{hidden}`: {text}");
        }
    }
    assert_eq!(receiver.got().len(), 11, "two tests, three notices, three more that were sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_and_mail_servers_are_told_under_tls_if_the_machine_trusts_them_and_not_otherwise() {
    let mut farm = TestFarm::start(1).await;
    let trusted = Authority::new(&farm.folder().join("trusted.pem"));
    let stranger = Authority::new(&farm.folder().join("stranger.pem"));
    let at_once = MailServer::start_with(free_port(), Tls::AtOnce(trusted.acceptor("localhost"))).await;
    let when_asked = MailServer::start_with(free_port(), Tls::WhenAsked(trusted.acceptor("localhost"))).await;
    let strange = MailServer::start_with(free_port(), Tls::AtOnce(stranger.acceptor("localhost"))).await;
    let never = MailServer::start(free_port()).await;
    for (smtp, server, taken) in [
        (format!("smtps://me:pa55word@localhost:{}", at_once.port), &at_once, true),
        (format!("smtp://me:pa55word@localhost:{}?tls=required", when_asked.port), &when_asked, true),
        (format!("smtps://me:pa55word@localhost:{}", strange.port), &strange, false),
        (format!("smtp://me:pa55word@localhost:{}?tls=required", never.port), &never, false),
    ] {
        farm.restart_scheduler_with(&[
            ("SSL_CERT_FILE", &trusted.file()),
            ("FRAMEWAKE_NOTIFY_ALLOW", "127.0.0.0/8,::1/128"),
            ("FRAMEWAKE_SMTP", &smtp),
            ("FRAMEWAKE_SMTP_FROM", "farm@example.org"),
        ])
        .await;
        add(&farm, "people", &[], json!({ "kind": "mail", "to": ["ann@example.org"] })).await;
        let tried = farm.client.test_target(&name("people")).await.expect("tried");
        assert_eq!(tried.delivered, taken, "{smtp}: {tried:?}");
        assert!(!tried.reason.contains("pa55word") && !farm.scheduler_log().contains("pa55word"), "{tried:?}");
        let mails = server.mails();
        if taken {
            assert!(mails[0].contains("AUTH PLAIN") && mails[0].contains("RCPT TO:<ann@example.org>"), "{mails:?}");
        } else {
            assert!(mails.iter().all(|mail| !mail.contains("AUTH") && !mail.contains("RCPT")), "{mails:?}");
        }
    }
    let good = Receiver::start_with(free_port(), Some(trusted.acceptor("localhost")), |_| Answer::Status(204)).await;
    let strange =
        Receiver::start_with(free_port(), Some(stranger.acceptor("localhost")), |_| Answer::Status(204)).await;
    let renamed =
        Receiver::start_with(free_port(), Some(trusted.acceptor("other.example")), |_| Answer::Status(204)).await;
    for (target, receiver, taken) in [("good", &good, true), ("strange", &strange, false), ("renamed", &renamed, false)]
    {
        add(&farm, target, &[], webhook(&format!("https://localhost:{}/hook", receiver.port))).await;
        let tried = farm.client.test_target(&name(target)).await.expect("tried");
        assert_eq!((tried.delivered, receiver.got().len()), (taken, usize::from(taken)), "{target}: {tried:?}");
        assert!(taken || tried.reason.to_lowercase().contains("certificate"), "{target}: {tried:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_past_their_bounds_are_refused() {
    let mut farm = TestFarm::start(1).await;
    farm.restart_scheduler_with(&[
        ("FRAMEWAKE_SMTP", "smtp://127.0.0.1:9"),
        ("FRAMEWAKE_SMTP_FROM", "farm@example.org"),
    ])
    .await;
    let to = |count: usize| -> Vec<String> { (0..count).map(|at| format!("a{at}@example.org")).collect() };
    for (way, field) in [
        (json!({ "kind": "mail", "to": to(0) }), "/way/to"),
        (json!({ "kind": "mail", "to": to(MAIL_TO_MAX + 1) }), "/way/to"),
        (json!({ "kind": "mail", "to": [format!("{}@example.org", "a".repeat(ADDRESS_LEN_MAX))] }), "/way/to/0"),
        (webhook(&format!("https://hooks.example/{}", "a".repeat(ADDRESS_LEN_MAX))), "/way/url"),
    ] {
        let refused = farm.client.add_target(&target("bad", &[], way)).await.expect_err("refused");
        let Error::Refused(problem) = refused else { panic!("{refused:?}") };
        assert_eq!((problem.status, problem.faults[0].field.as_str()), (422, field), "{problem:?}");
    }
    add(&farm, "t0", &[], json!({ "kind": "mail", "to": to(MAIL_TO_MAX) })).await;
    for at in 1..TARGETS_MAX {
        add(&farm, &format!("t{at}"), &[], json!({ "kind": "nats" })).await;
    }
    let more = farm.client.add_target(&target("more", &[], json!({ "kind": "nats" }))).await.expect_err("refused");
    let Error::Refused(problem) = more else { panic!("{more:?}") };
    assert!(format!("{problem:?}").contains(&format!("there are {TARGETS_MAX} notification targets")), "{problem:?}");
    farm.client.remove_target(&name("t7")).await.expect("it is there");
    add(&farm, "more", &[], json!({ "kind": "nats" })).await;
    // A job names as many as it may.
    let asked = |count: usize| {
        let mut job = jobs::command(&["/bin/true"], "1");
        let entries: Vec<Value> =
            (0..count).map(|at| json!({ "on": ["failed"], "target": format!("t{}", at + 10) })).collect();
        job["notify"] = json!(entries);
        job
    };
    farm.submit(&asked(JOB_TARGETS_MAX)).await;
    let refused = farm.client.submit(&asked(JOB_TARGETS_MAX + 1), "one").await.expect_err("refused");
    let Error::Refused(problem) = refused else { panic!("{refused:?}") };
    assert_eq!(problem.faults[0].field, "/notify", "{problem:?}");
}
