//! Who is let in, as a user meets it: real programs, real tokens, and where their secrets must not be.

use framewake_proto::access::{Role, TokenAdd};
use framewake_proto::api::JobState;
use framewake_proto::client::Client;
use framewake_proto::notify::Secret;
use framewake_tests::browser::Browser;
use framewake_tests::farm::{SOON, TestFarm};
use framewake_tests::jobs;
use framewake_tests::parts::{built, files_below, free_port, path};
use framewake_tests::receiver::{Answer, Receiver};
use framewake_tests::tls::Authority;
use framewake_tests::tokens::{ask_for_tokens, made_here};
use framewake_tests::wait::until;
use serde_json::json;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A farm that asks for tokens, and writes down all it does; and its first one.
async fn guarded() -> (TestFarm, Secret) {
    let mut farm = TestFarm::start(1).await;
    let first = ask_for_tokens(&mut farm, &["--log", "trace"], &[]).await;
    (farm, first)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The command line of somebody with a home of their own; what is given stands on standard input.
fn framewake(home: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(built("framewake"));
    command.args(arguments).env("HOME", home).env_remove("XDG_CONFIG_HOME").env("NO_COLOR", "1").env("PATH", path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    // One that asks for nothing has ended already.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

#[tokio::test]
async fn a_scheduler_says_how_it_may_be_reached() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let scheduler = |access: &[&str]| {
        let mut command = Command::new(built("framewake-scheduler"));
        command.args(["--listen", "0.0.0.0:0", "--store", "file:///nowhere/to/be", "--urls-allowed", "nowhere"]);
        said(&command.arg("--data").arg(&data).args(access).env("NO_COLOR", "1").output().expect("it runs"))
    };
    let refused = scheduler(&[]);
    assert!(refused.contains("--access tokens") && refused.contains("--access open"), "{refused}");
    assert!(!data.exists(), "before anything is made");
    // It goes on, to what is wrong beside.
    for access in ["open", "tokens"] {
        let said = scheduler(&["--access", access]);
        assert!(said.contains("`nowhere` is not the beginning of an address") && !said.contains("--access"), "{said}");
    }
    for access in [&[][..], &["--access", "open"]] {
        let mut dev = Command::new(built("framewake"));
        dev.args(["dev", "--listen", "0.0.0.0:0", "--data"]).arg(&data).args(access);
        let output = dev.output().expect("it runs");
        assert!(!output.status.success() && said(&output).contains("--access tokens"), "{}", said(&output));
    }
    // Pages of others bring a token: where none is asked for, they would do as an admin does.
    for (program, before, access) in [
        ("framewake-scheduler", &["--store", "file:///nowhere/to/be"][..], &[][..]),
        ("framewake-scheduler", &["--store", "file:///nowhere/to/be"], &["--access", "open"]),
        ("framewake", &["dev"], &[]),
    ] {
        let mut command = Command::new(built(program));
        command.args(before).args(["--listen", "127.0.0.1:0", "--cors-allow", "https://tools.example", "--data"]);
        let output = command.arg(&data).args(access).output().expect("it runs");
        let told = said(&output);
        let ways = ["--cors-allow https://tools.example", "--access tokens"];
        assert!(!output.status.success() && ways.iter().all(|way| told.contains(way)), "{told}");
        assert!(!data.exists(), "before anything is made");
    }
    // Names of people are no names of tokens.
    let mut command = Command::new(built("framewake-scheduler"));
    let output = command.args(["token", "--name", "oidc-jane", "--data"]).arg(&data).output().expect("it runs");
    assert!(!output.status.success() && said(&output).contains("choose another"), "{}", said(&output));
    // KEDA brings no token: who listens for it beyond this machine has said that they mean it.
    let keda = ["--listen", "127.0.0.1:0", "--keda-listen", "0.0.0.0:0", "--data"];
    for (program, before, access) in [
        ("framewake-scheduler", &["--store", "file:///nowhere/to/be"][..], &[][..]),
        ("framewake", &["dev"], &[]),
        ("framewake", &["dev"], &["--access", "open"]),
    ] {
        let mut command = Command::new(built(program));
        let output = command.args(before).args(keda).arg(&data).args(access).output().expect("it runs");
        let told = said(&output);
        assert!(
            !output.status.success() && told.contains("--keda-listen") && told.contains("--access tokens"),
            "{told}"
        );
        assert!(!data.exists(), "before anything is made");
    }
}

#[tokio::test]
async fn people_log_in_work_and_are_shut_out_at_once() {
    let (farm, first) = guarded().await;
    let url = farm.url();
    let (admin, jane) = (tempfile::tempdir().expect("a home"), tempfile::tempdir().expect("a home"));
    let refused = framewake(jane.path(), &["--url", &url, "jobs"], "");
    assert!(refused.status.code() == Some(1) && said(&refused).contains("framewake login"), "{}", said(&refused));
    let wrong = framewake(jane.path(), &["login", &url], &first.reveal().replace("fw_", "fw-"));
    assert!(wrong.status.code() == Some(2) && said(&wrong).contains("nothing is stored"), "{}", said(&wrong));
    let login = framewake(admin.path(), &["login", &url, "--name", "farm"], first.reveal());
    assert!(login.status.success() && said(&login).contains("admin of all projects"), "{}", said(&login));
    let contexts = admin.path().join(".config/framewake/contexts.json");
    assert_eq!(std::fs::metadata(&contexts).expect("stored").permissions().mode() & 0o777, 0o600);
    // Without an address: the context has it.
    let made = framewake(
        admin.path(),
        &["tokens", "add", "jane", "--role", "artist", "--project", "film", "--lasts", "1d"],
        "",
    );
    let hers = String::from_utf8(made.stdout).expect("text");
    assert!(made.status.success() && hers.starts_with("fw_"), "{hers}");
    assert!(framewake(jane.path(), &["login", &url], &hers).status.success());
    let named = framewake(jane.path(), &["--json", "contexts"], "");
    assert!(said(&named).contains(&format!("\"context\":\"127.0.0.1:{}\"", farm.port())), "{}", said(&named));
    let job = jane.path().join("job.json");
    std::fs::write(&job, jobs::command(&["/bin/true"], "1-2").to_string()).expect("written");
    let job = job.to_str().expect("UTF-8");
    let submitted = framewake(jane.path(), &["submit", job, "--wait"], "");
    assert!(submitted.status.success(), "{}", said(&submitted));
    let listed = framewake(jane.path(), &["--json", "jobs"], "");
    assert!(said(&listed).contains("\"project\":\"film\""), "{}", said(&listed));
    for (home, filter, count) in [
        (&jane, &["--mine"][..], 1),
        (&admin, &["--mine"], 0),
        (&admin, &["--by", "jane"], 1),
        (&jane, &["--by", "j"], 0),
    ] {
        let listed = framewake(home.path(), &[&["--json", "jobs"], filter].concat(), "");
        let listed = String::from_utf8(listed.stdout).expect("text");
        assert_eq!(listed.lines().count(), count, "{filter:?}: {listed}");
        assert!(listed.lines().all(|job| job.contains("\"submitted_by\":\"jane\"")), "{listed}");
    }
    let shown = framewake(jane.path(), &["job", "latest"], "");
    assert!(said(&shown).contains(" by jane\n"), "{}", said(&shown));
    let forbidden = framewake(jane.path(), &["projects", "set", "film", "--weight", "9"], "");
    assert!(said(&forbidden).contains("is an artist, and this needs an operator"), "{}", said(&forbidden));
    let audit = framewake(admin.path(), &["audit"], "");
    assert!(["jane", "job.submit", "token.add"].iter().all(|word| said(&audit).contains(word)), "{}", said(&audit));
    // What others may read is no secret.
    std::fs::set_permissions(&contexts, std::fs::Permissions::from_mode(0o644)).expect("changed");
    let wide = framewake(admin.path(), &["tokens"], "");
    assert!(wide.status.code() == Some(2) && said(&wide).contains("chmod 600"), "{}", said(&wide));
    std::fs::set_permissions(&contexts, std::fs::Permissions::from_mode(0o600)).expect("changed");
    assert!(framewake(admin.path(), &["tokens", "revoke", "jane"], "").status.success());
    let out = framewake(jane.path(), &["jobs"], "");
    assert!(!out.status.success() && said(&out).contains("opens nothing"), "{}", said(&out));
    assert!(framewake(jane.path(), &["logout"], "").status.success());
    assert!(
        !std::fs::read_to_string(jane.path().join(".config/framewake/contexts.json")).expect("there").contains("fw_")
    );
}

#[tokio::test]
async fn a_farm_that_asks_for_no_token_has_a_context_without_one_until_it_does() {
    let mut farm = TestFarm::start(1).await;
    let url = farm.url();
    let home = tempfile::tempdir().expect("a home");
    // What is handed over is not looked for, nor kept.
    let login = framewake(home.path(), &["login", &url, "--name", "open"], "fw_of_another_farm");
    assert!(login.status.success(), "{}", said(&login));
    assert!(said(&login).contains("asks nobody for a token: whoever reaches it may do everything"), "{}", said(&login));
    let contexts = home.path().join(".config/framewake/contexts.json");
    assert!(!std::fs::read_to_string(&contexts).expect("stored").contains("fw_"));
    let jobs = framewake(home.path(), &["--json", "jobs"], "");
    assert!(jobs.status.success(), "the context has the address: {}", said(&jobs));
    let listed = framewake(home.path(), &["contexts"], "");
    assert!(["open", &url, "nobody is asked for one"].iter().all(|word| said(&listed).contains(word)), "{listed:?}");
    let listed = framewake(home.path(), &["--json", "contexts"], "");
    assert!(said(&listed).contains("\"token\":false"), "{}", said(&listed));

    let token = ask_for_tokens(&mut farm, &[], &[]).await;
    let refused = framewake(home.path(), &["jobs"], "");
    assert!(!refused.status.success() && said(&refused).contains("framewake login"), "{}", said(&refused));
    let login = framewake(home.path(), &["login", &farm.url(), "--name", "open"], token.reveal());
    assert!(login.status.success() && said(&login).contains("admin of all projects"), "{}", said(&login));
    assert!(framewake(home.path(), &["jobs"], "").status.success());
    let logout = framewake(home.path(), &["logout"], "");
    assert!(said(&logout).contains("its token is good until it is revoked"), "{}", said(&logout));
}

#[tokio::test]
async fn secrets_are_nowhere_but_where_they_were_shown() {
    let (mut farm, first) = guarded().await;
    // While it runs: found when it is used first.
    let second = made_here(&farm, &["--name", "second", "--role", "viewer", "--project", "film"]);
    let client = Client::with_token(&farm.url(), Some(&second)).expect("a good address");
    let who = client.who().await.expect("an answer").who.expect("it is found without a restart");
    assert!(who.role == Role::Viewer && who.name == "second", "{who:?}");
    farm.succeed(&jobs::command(&["/bin/true"], "1-2")).await;
    let home = tempfile::tempdir().expect("a home");
    let wrong = format!("{}0", &first.reveal()[..first.reveal().len() - 1]);
    let mut told = String::new();
    for secret in [first.reveal(), second.reveal(), &wrong] {
        for arguments in [&["login", &farm.url()][..], &["tokens"], &["audit"], &["doctor"], &["contexts"]] {
            told += &said(&framewake(home.path(), arguments, secret));
        }
    }
    let backup = farm.folder().join("backup.db");
    let mut command = Command::new(built("framewake-scheduler"));
    command.arg("backup").arg("--data").arg(farm.data()).arg("--to").arg(&backup);
    assert!(command.status().expect("it runs").success());
    let lines: Vec<String> = framewake_tests::farm::processes().into_iter().map(|process| process.line).collect();
    farm.scheduler().signal(rustix::process::Signal::TERM);
    farm.scheduler().wait(SOON);
    let mut searched = 0;
    for secret in [&first, &second] {
        let secret = secret.reveal().rsplit('_').next().expect("a secret");
        assert!(!told.contains(secret), "{told}");
        assert!(lines.iter().all(|line| !line.contains(secret)));
        for file in files_below(farm.folder()) {
            let bytes = std::fs::read(&file).unwrap_or_default();
            searched += bytes.len();
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{} has it", file.display());
        }
    }
    let log = farm.scheduler_log();
    assert!(searched > 100_000 && log.contains("TRACE"), "{searched} bytes searched");
    let id = first.reveal().split('_').nth(1).expect("an id");
    let found = std::fs::read(&backup).expect("there").windows(id.len()).any(|window| window == id.as_bytes());
    assert!(found, "the search sees what is there: the id, which may be said");
}

/// As somebody who may write to one part of a server, and leads from there to another.
#[tokio::test]
async fn an_address_leads_no_further_than_the_beginning_that_is_allowed() {
    let server = Receiver::start(free_port(), |_| Answer::Status(200)).await;
    let host = server.url().trim_end_matches("/hook").to_owned();
    let mut farm = TestFarm::start(1).await;
    farm.arguments = vec!["--urls-allowed".to_owned(), format!("{host}/pub/")];
    farm.restart_scheduler().await;
    for (to, state) in [("/pub/b.bin", JobState::Succeeded), ("/private/b.bin", JobState::Failed)] {
        let asked = server.got().len();
        server.behave(move |at| if at == asked + 1 { Answer::Redirect(to.to_owned()) } else { Answer::Status(200) });
        let mut job = jobs::command(&["/bin/true"], "1");
        job["steps"][0]["inputs"] = json!([{ "url": format!("{host}/pub/a.bin"), "as": "a.bin" }]);
        job["steps"][0]["retries"] = json!({ "attempts": 1 });
        let id = farm.submit(&job).await;
        let view = farm.over(id).await;
        assert_eq!(view.state, state, "{to}: {}", farm.scheduler_log());
        let followed = if state == JobState::Succeeded { 2 } else { 1 };
        assert_eq!(server.got().len() - asked, followed, "{to}");
    }
}

/// A browser keeps the cookies of all ports of a host in one place.
#[tokio::test]
async fn who_logs_in_to_two_farms_of_one_machine_stays_in_both() {
    let farms = [guarded().await, guarded().await];
    let http = reqwest::Client::new();
    let mut kept = std::collections::BTreeMap::new();
    for (farm, token) in &farms {
        let login = http.post(format!("{}/v1/session", farm.url())).json(&json!({ "token": token.reveal() }));
        let answer = login.send().await.expect("an answer");
        let set = answer.headers()["set-cookie"].to_str().expect("text").to_owned();
        let (name, value) = set.split(';').next().and_then(|pair| pair.split_once('=')).expect("a cookie");
        kept.insert(name.to_owned(), value.to_owned());
    }
    let cookies = kept.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
    let jobs = async |farm: &TestFarm| {
        let jobs = http.get(format!("{}/v1/jobs", farm.url())).header("cookie", &cookies);
        jobs.send().await.expect("an answer").status().as_u16()
    };
    let [(one, _), (two, _)] = &farms;
    assert_eq!((jobs(one).await, jobs(two).await), (200, 200));
    let out = http.delete(format!("{}/v1/session", one.url())).header("cookie", &cookies).header("origin", one.url());
    assert_eq!(out.send().await.expect("an answer").status(), 204);
    assert_eq!((jobs(one).await, jobs(two).await), (401, 200), "out of one is not out of the other");
}

#[tokio::test]
async fn a_page_asks_who_it_is_shows_what_they_may_and_ends_with_their_token() {
    let (farm, _) = guarded().await;
    let mut film = jobs::command(&["/bin/true"], "1-2");
    (film["project"], film["name"]) = (json!("film"), json!("of film"));
    let mut other = film.clone();
    (other["project"], other["name"]) = (json!("other"), json!("of others"));
    let theirs = farm.succeed(&other).await.id;
    farm.succeed(&film).await;
    let add = |name: &str, role| TokenAdd {
        name: name.parse().expect("a name"),
        role,
        project: Some("film".parse().expect("a name")),
        lasts: None,
    };
    let viewer = farm.client.add_token(&add("vera", Role::Viewer)).await.expect("made");
    let browser = Browser::start().await;
    browser.open(&format!("{}/jobs", farm.url())).await;
    browser.sees("This farm asks who you are.").await;
    browser.write("Token", "fw_000000000000_wrong").await;
    browser.press("Log in").await;
    browser.sees("opens nothing here").await;
    browser.write("Token", viewer.secret.reveal()).await;
    browser.press("Log in").await;
    browser.sees("of film").await;
    let header = browser.ask("return document.querySelector('header').innerText").await;
    let header = header.as_str().expect("text");
    assert!(header.contains("vera · viewer of film") && !header.contains("Submit"), "{header}");
    let text = browser.ask("return document.body.innerText").await;
    assert!(!text.as_str().expect("text").contains("of others"), "{text}");
    assert_eq!(browser.ask("return document.cookie").await, json!(""), "scripts can't read it");
    let kept = "return JSON.stringify(localStorage) + JSON.stringify(sessionStorage)";
    assert!(!browser.ask(kept).await.as_str().expect("text").contains("fw_"), "nor is the token kept");
    // Others' job is none, and what a viewer may not is refused even if the page asked for it.
    browser.open(&format!("{}/jobs/{theirs}", farm.url())).await;
    browser.sees("there is no job").await;
    let asked = "const answer = await fetch('/v1/jobs', { method: 'POST', body: '{}',
        headers: { 'content-type': 'application/json' } }); return (await answer.json()).detail";
    let refused = browser.ask(&format!("return (async () => {{ {asked} }})()")).await;
    assert!(refused.as_str().is_some_and(|said| said.contains("is a viewer")), "{refused}");
    // The page follows events; with the token they end, and the page says so.
    browser.open(&format!("{}/jobs", farm.url())).await;
    browser.sees("of film").await;
    farm.client.revoke_token(&viewer.token.id).await.expect("revoked");
    browser.sees("Your session is over").await;
    let artist = farm.client.add_token(&add("ann", Role::Artist)).await.expect("made");
    browser.write("Token", artist.secret.reveal()).await;
    browser.press("Log in").await;
    browser.sees("Submit a job").await;
    browser.press_in("header", "Log out").await;
    browser.sees("You are logged out.").await;
    browser.open(&format!("{}/", farm.url())).await;
    browser.sees("This farm asks who you are.").await;
    browser.close().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_and_a_bad_one_is_not() {
    let mut farm = TestFarm::start(1).await;
    let folder = farm.folder().to_owned();
    let (chain, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    let [one, two] = ["one.pem", "two.pem"].map(|name| Authority::new(&folder.join(name)));
    one.issue("localhost", &chain, &key);
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let password = folder.join("openfaas-password");
    std::fs::write(&password, "a long password").expect("written");
    let [openfaas, keda] = [free_port(), free_port()];
    let arguments = [
        ("--tls-cert", text(&chain)),
        ("--tls-key", text(&key)),
        ("--openfaas-listen", format!("127.0.0.1:{openfaas}")),
        ("--openfaas-password-file", text(&password)),
        ("--keda-listen", format!("127.0.0.1:{keda}")),
    ];
    farm.arguments = arguments.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
    farm.spawn_scheduler();
    let url = format!("https://localhost:{}", farm.port());
    let asked = |authority: &Authority| {
        let mut command = Command::new(built("framewake"));
        command.args(["--url", &url, "jobs"]).env("SSL_CERT_FILE", authority.file()).env("NO_COLOR", "1");
        command.output().expect("it runs").status.success()
    };
    until(SOON, "it speaks TLS", async || asked(&one).then_some(())).await;
    assert!(!asked(&two), "of another authority");
    // The doors for others' clients, and what they speak.
    let doors = [(openfaas, "http/1.1"), (keda, "h2")];
    for (port, speech) in doors {
        assert_eq!(one.greeted(port, speech).await.as_deref(), Some(speech), "{port}");
        assert_eq!(two.greeted(port, speech).await, None, "{port}: of another authority");
    }
    let root = std::fs::read(one.file()).expect("there");
    let root = reqwest::Certificate::from_pem(&root).expect("a certificate");
    let client = reqwest::Client::builder().tls_certs_only([root]).build().expect("a client");
    let functions = client.get(format!("https://localhost:{openfaas}/system/functions"));
    assert_eq!(functions.basic_auth("admin", Some("a long password")).send().await.expect("an answer").status(), 200);
    // In the clear each says what is wrong.
    for (port, hint) in [(farm.port(), "https://"), (openfaas, "https://"), (keda, "enableTLS")] {
        let mut plain = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        plain.write_all(b"GET /v1/jobs HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("sent");
        let mut said = String::new();
        plain.read_to_string(&mut said).expect("an answer");
        assert!(said.starts_with("HTTP/1.1 400") && said.contains(hint), "{said}");
    }
    std::fs::write(&chain, "not a certificate").expect("written");
    until(SOON, "the bad file is said", async || {
        farm.scheduler_log().contains("the certificate of before goes on").then_some(())
    })
    .await;
    assert!(asked(&one), "the old one stays");
    two.issue("localhost", &chain, &key);
    until(SOON, "the new one is taken", async || asked(&two).then_some(())).await;
    assert!(!asked(&one));
    for (port, speech) in doors {
        assert_eq!(two.greeted(port, speech).await.as_deref(), Some(speech), "{port}");
        assert_eq!(one.greeted(port, speech).await, None, "{port}");
    }
}
