//! Everything that a farm is trusted with, in one farm: it is in no log, answer, trace or list of processes.

use framewake_proto::ids::Name;
use framewake_proto::notify::TargetSpec;
use framewake_tests::farm::{SOON, TestFarm, processes};
use framewake_tests::jobs;
use framewake_tests::parts::{S3_SECRET, built, files_below, free_port, path, root};
use framewake_tests::provider::{self, Provider};
use framewake_tests::receiver::{Answer, MailServer, Receiver, Tls};
use framewake_tests::tls::Authority;
use framewake_tests::tokens::ask_for_tokens;
use framewake_tests::wait::until;
use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use serde_json::json;
use std::path::Path;
use std::process::Command;

/// 32 bytes that the receivers know.
const SIGNING: &str = "whsec_c2VjcmV0LW9mLXdlYmhvb2tzLTAxMjM0NTY3ODlhYmM=";
const HOOK: &str = "hook-address-nobody-else-knows";
const CHAT: &str = "chat-address-nobody-else-knows";
const MAIL: &str = "mail-pa55word-nobody-else-knows";
const COLLECTOR: &str = "collectors-key-nobody-else-knows";

/// Logs somebody in by the provider; the cookie of their session.
async fn log_in(farm: &TestFarm) -> String {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let (mut at, mut kept) = (format!("{}/v1/session/oidc", farm.url()), String::new());
    loop {
        let ours = at.starts_with(&farm.url());
        let answer = client.get(&at).header(COOKIE, if ours { &kept } else { "" }).send().await.expect("an answer");
        let cookies = answer.headers().get_all(SET_COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut pairs = cookies.filter_map(|line| line.split(';').next()).filter(|pair| !pair.ends_with('='));
        if let Some(pair) = pairs.next_back().filter(|_| ours) {
            kept = pair.to_owned();
        }
        let to = answer.headers()[LOCATION].to_str().expect("text").to_owned();
        if to.starts_with('/') {
            assert_eq!(to, "/", "logged in");
            return kept;
        }
        at = to;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_farm_is_trusted_with_is_in_no_log_answer_trace_or_list_of_processes() {
    let provider = Provider::start(free_port()).await;
    let mut farm = TestFarm::start_guarded(1, true, &root().join("samples/functions"), |_| {}).await;
    let authority = Authority::new(&farm.folder().join("authority.pem"));
    let mails = MailServer::start_with(free_port(), Tls::AtOnce(authority.acceptor("localhost"))).await;
    let collector = Receiver::start(free_port(), |_| Answer::Status(200)).await;
    let receiver = Receiver::start(free_port(), |at| Answer::Status(if at == 1 { 500 } else { 204 })).await;
    let seed = farm.folder().join("nats.seed");
    let environment = [
        ("FRAMEWAKE_NATS_SEED_FILE", seed.display().to_string()),
        ("FRAMEWAKE_SMTP", format!("smtps://farm:{MAIL}@localhost:{}", mails.port)),
        ("FRAMEWAKE_SMTP_FROM", "farm@example.org".to_owned()),
        ("FRAMEWAKE_NOTIFY_ALLOW", "127.0.0.0/8,::1/128".to_owned()),
        ("FRAMEWAKE_NOTIFY_FOR", "0s".to_owned()),
        ("SSL_CERT_FILE", authority.file()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{}", collector.port)),
        ("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization=Bearer%20{COLLECTOR}")),
        ("FRAMEWAKE_LOG", "trace".to_owned()),
    ];
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    let arguments = provider.arguments(&farm, &farm.url(), "lighting=admin");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(["--log", "trace"]).skip(2).collect();
    let first = ask_for_tokens(&mut farm, &arguments, &environment).await;

    // Each is used, and not all of it goes well: what fails is told of.
    let cookie = log_in(&farm).await;
    let hook = |port: u16| format!("http://127.0.0.1:{port}/{HOOK}");
    let ways = [
        ("ops", json!({ "kind": "webhook", "url": hook(receiver.port), "secret": SIGNING })),
        ("away", json!({ "kind": "webhook", "url": hook(free_port()), "secret": SIGNING })),
        ("chat", json!({ "kind": "slack", "url": format!("http://127.0.0.1:{}/{CHAT}", free_port()) })),
        ("people", json!({ "kind": "mail", "to": ["ann@example.org"] })),
    ];
    let mut told = Vec::new();
    for (name, way) in ways {
        let spec: TargetSpec =
            serde_json::from_value(json!({ "name": name, "on": ["succeeded", "failed"], "way": way }))
                .expect("a target");
        told.push(format!("{:?}", farm.client.add_target(&spec).await.expect("it is taken")));
        let name: Name = name.parse().expect("a name");
        told.push(format!("{:?}", farm.client.test_target(&name).await.expect("it is tried")));
    }
    let job = jobs::command_with_output(&["/bin/sh", "-c", "echo > \"$0\"", "{output}"], "1-2", "{frame}.txt");
    let done = farm.succeed(&job);
    let id = done.await.id;
    farm.over(farm.submit(&jobs::command(&["/bin/false"], "1")).await).await;
    until(SOON, "all have been told, or given up", || async {
        let view = farm.client.target(&"people".parse().expect("a name")).await.ok()?;
        (view.waiting == 0 && !mails.mails().is_empty() && receiver.got().len() > 2).then_some(())
    })
    .await;
    until(SOON, "the collector has spans", || async { (!collector.got().is_empty()).then_some(()) }).await;

    // What people are shown.
    let http = reqwest::Client::new();
    let addresses =
        ["jobs", "audit", "tokens", "session", "notifications/targets", "notifications/dead", "workers", "overview"];
    let mut pages: Vec<String> = addresses.iter().map(|address| format!("/v1/{address}")).collect();
    pages.extend([format!("/v1/jobs/{id}/attempts"), "/metrics".to_owned(), "/readyz".to_owned()]);
    for page in &pages {
        let answer = http.get(format!("{}{page}", farm.url())).header(COOKIE, &cookie).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{page}");
        told.push(answer.text().await.expect("text"));
    }
    for arguments in
        [&["notify", "list"][..], &["notify", "dead"], &["audit"], &["--json", "audit"], &["doctor"], &["tokens"]]
    {
        let mut command = Command::new(built("framewake"));
        command.args(arguments).env("FRAMEWAKE_URL", farm.url()).env("FRAMEWAKE_TOKEN", first.reveal());
        let output = command.env("PATH", path()).env("NO_COLOR", "1").output().expect("it runs");
        told.extend([output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()));
    }
    told.extend(collector.got().iter().map(|got| String::from_utf8_lossy(&got.body).into_owned()));
    let told = told.join("\n");
    let lines: Vec<String> = processes().into_iter().map(|process| process.line).collect();
    farm.scheduler().signal(rustix::process::Signal::TERM);
    farm.scheduler().wait(SOON);

    let (_, session) = cookie.split_once('=').expect("a cookie");
    let seeds = std::fs::read_to_string(&seed).expect("it is there");
    let mut secrets = vec![
        ("the secret that webhooks are signed with", SIGNING.trim_start_matches("whsec_").to_owned()),
        ("the address of a webhook", HOOK.to_owned()),
        ("the address of a chat", CHAT.to_owned()),
        ("the password of the mail server", MAIL.to_owned()),
        ("the key of the collector", COLLECTOR.to_owned()),
        ("the secret of OIDC", provider::SECRET.to_owned()),
        ("the secret of OIDC, as it is sent", "p%40ss".to_owned()),
        ("the secret key of S3", S3_SECRET.to_owned()),
        ("the cookie of a session", session.to_owned()),
        ("a token", first.reveal().rsplit('_').next().expect("a secret").to_owned()),
    ];
    secrets.extend(seeds.lines().map(|line| ("a seed of NATS", line.to_owned())));
    let kept = |file: &Path| {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // Where they are kept: files of theirs, what a server of others keeps, and the database, which must call webhooks.
        let own = ["nats.seed", "oidc-secret"].contains(&name) || file.starts_with(farm.folder().join("s3"));
        (own, name.starts_with("framewake.db"))
    };
    for (what, secret) in &secrets {
        assert!(!told.contains(secret), "{what} is told: {}", around(&told, secret));
        assert!(lines.iter().all(|line| !line.contains(secret)), "{what} is in {lines:?}");
    }
    let mut searched = 0;
    for file in files_below(farm.folder()) {
        let (own, database) = kept(&file);
        let bytes = std::fs::read(&file).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        searched += bytes.len();
        for (what, secret) in secrets.iter().filter(|_| !own) {
            let to_call = database && [HOOK, CHAT, SIGNING.trim_start_matches("whsec_")].contains(&secret.as_str());
            assert!(to_call || !text.contains(secret), "{what} is in {}: {}", file.display(), around(&text, secret));
        }
    }
    assert!(searched > 1_000_000 && farm.scheduler_log().contains("TRACE"), "{searched} bytes searched");
    assert!(told.contains("session.begin") && told.contains("oidc-jane"), "the search sees what is there");
}

/// The line that has it.
fn around(text: &str, secret: &str) -> String {
    text.lines().find(|line| line.contains(secret)).map(|line| line.chars().take(600).collect()).unwrap_or_default()
}
