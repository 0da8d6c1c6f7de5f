//! Images are scanned before their versions are active: with a real program as scanner, whatever it does.

use framewake_proto::api::FunctionView;
use framewake_proto::client::Error;
use framewake_proto::scan::{ScanState, Severity};
use framewake_tests::farm::{SOON, TestFarm, unique};
use framewake_tests::parts::{built, free_port, path};
use framewake_tests::wait::until;
use reqwest::Method;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

/// A scanner that prints what Trivy prints, or SARIF, by the image's name; it writes down what it was asked.
const SCANNER: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$1" >> "$here/asked"
[ -z "$FRAMEWAKE_DATA$AWS_SECRET_ACCESS_KEY$OTEL_EXPORTER_OTLP_HEADERS" ] || exit 9
trivy() {
  printf '{"SchemaVersion":2,"ArtifactName":"%s","Results":[{"Target":"%s (debian 12.7)","Class":"os-pkgs"%s}]}\n' "$1" "$1" "$2"
}
finding() {
  printf ',"Vulnerabilities":[{"VulnerabilityID":"CVE-2026-1111","PkgName":"zlib1g","InstalledVersion":"1:1.2.13","Severity":"%s","Title":"<b>overflow</b>"}]' "$1"
}
case $1 in
  *:good) trivy "$1" "$(finding MEDIUM)" ;;
  *:bad) trivy "$1" "$(finding CRITICAL)" ;;
  *:unjudged) trivy "$1" "$(finding UNKNOWN)" ;;
  *:sarif) echo '{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"grype","rules":[{"id":"CVE-2026-2222","properties":{"security-severity":"9.8"}}]}},"results":[{"ruleId":"CVE-2026-2222","level":"note","message":{"text":"remote"}}]}]}' ;;
  *:garbage) if [ -e "$here/mended" ]; then trivy "$1"; else echo "Trivy could not find its database"; fi ;;
  *:hangs) sleep 600 ;;
  *:clean) trivy "$1" ;;
  *:slow) echo $$ >> "$here/pids"; until [ -e "$here/go" ]; do sleep 0.05; done; trivy "$1" ;;
esac
"#;

struct Scanned {
    farm: TestFarm,
}

impl Scanned {
    async fn start(more: &[&str]) -> Scanned {
        let mut farm = TestFarm::start(1).await;
        let scanner = farm.folder().join("scanner");
        std::fs::write(&scanner, SCANNER).expect("writable");
        std::fs::set_permissions(&scanner, std::fs::Permissions::from_mode(0o755)).expect("ours");
        farm.arguments = vec!["--scan-images".to_owned(), format!("{} {{image}}", scanner.display())];
        farm.arguments.extend(more.iter().map(|word| (*word).to_owned()));
        // What the scanner must not see.
        let secrets = [("AWS_SECRET_ACCESS_KEY", "secret"), ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret")];
        farm.restart_scheduler_with(&secrets).await;
        Scanned { farm }
    }

    fn asked(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.farm.folder().join("asked")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    async fn add(&self, tag: &str) -> FunctionView {
        self.farm.client.add_function(&function("shot", tag)).await.expect("a good function")
    }

    async fn show(&self, name: &str) -> FunctionView {
        self.farm.client.function(name).await.expect("it is known")
    }

    /// Once its scan is over.
    async fn over(&self, name: &str) -> FunctionView {
        until(SOON, "the scan is over", || async {
            let view = self.farm.client.function(name).await.ok()?;
            (view.scan.as_ref()?.state != ScanState::Waiting).then_some(view)
        })
        .await
    }

    fn framewake(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(built("framewake"));
        command.args(arguments).env("FRAMEWAKE_URL", self.farm.url()).env("NO_COLOR", "1").env("PATH", path());
        command.output().expect("it runs")
    }
}

fn function(name: &str, tag: &str) -> Value {
    json!({
        "name": name, "image": format!("registry.example/shot:{tag}"),
        "driver": { "kind": "command", "command": ["/bin/true"] }, "scaling": { "linger": "1s" },
    })
}

fn job(function: &str) -> Value {
    json!({ "name": unique(), "steps": [{ "name": "run", "function": function, "frames": "1-2" }] })
}

fn state(view: &FunctionView) -> ScanState {
    view.scan.as_ref().expect("it has an image").state
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_has_judged_yet_is_told_and_is_kept_out_where_everything_is() {
    for (limit, expected) in [("medium", ScanState::Passed), ("low", ScanState::Refused)] {
        let scanned = Scanned::start(&["--scan-refuse", limit]).await;
        scanned.add("unjudged").await;
        assert_eq!(state(&scanned.over("shot@1").await), expected, "{limit}");
        let shown = String::from_utf8(scanned.framewake(&["functions", "show", "shot@1"]).stdout).expect("text");
        assert!(shown.contains("1 of unknown severity") && shown.contains("CVE-2026-1111"), "{limit}: {shown}");
        let kept_out = "low or worse, or of a severity that nobody has told";
        assert_eq!(shown.contains(kept_out), expected == ScanState::Refused, "{limit}: {shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_active_once_its_image_has_passed_and_the_one_before_stays() {
    let scanned = Scanned::start(&[]).await;
    let added = scanned.add("good").await;
    assert_eq!((added.version, added.newest, state(&added)), (1, false, ScanState::Waiting));
    let first = scanned.over("shot@1").await;
    assert_eq!((state(&first), first.newest), (ScanState::Passed, true));
    let scan = first.scan.clone().expect("told");
    assert_eq!((scan.found.medium, scan.found.from(Severity::High), scan.reason.as_str()), (1, 0, ""));
    assert_eq!(scan.worst[0].place, "zlib1g 1:1.2.13");
    scanned.farm.succeed(&job("shot")).await;

    // The same again is the same, and is not scanned again.
    assert_eq!(scanned.add("good").await.version, 1);
    for (tag, version, id) in [("bad", 2, "CVE-2026-1111"), ("sarif", 3, "CVE-2026-2222")] {
        assert_eq!(scanned.add(tag).await.version, version);
        let kept_out = scanned.over(&format!("shot@{version}")).await;
        let scan = kept_out.scan.expect("told");
        assert_eq!((scan.state, kept_out.newest, scan.worst[0].id.as_str()), (ScanState::Refused, false, id));
        assert!(scan.reason.contains("1 findings") && scan.reason.contains("critical"), "{}", scan.reason);
        let now = scanned.show("shot").await;
        assert_eq!((now.version, now.newest, now.candidates[0].version), (1, true, version), "the one before stays");
        let refused = scanned.farm.client.submit(&job(&format!("shot@{version}")), &unique()).await;
        assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    }
    scanned.farm.succeed(&job("shot")).await;
    assert_eq!(
        scanned.asked(),
        ["registry.example/shot:good", "registry.example/shot:bad", "registry.example/shot:sarif"]
    );

    // At a terminal, and in the audit.
    let shown = String::from_utf8(scanned.framewake(&["functions", "show", "shot"]).stdout).expect("text");
    assert!(
        shown.contains("scan: passed, 1 medium")
            && shown.contains("shot@3 is not active")
            && shown.contains("CVE-2026-1111"),
        "{shown}"
    );
    let listed = String::from_utf8(scanned.framewake(&["functions"]).stdout).expect("text");
    assert!(listed.contains("its scan is refused"), "{listed}");
    let audit = scanned.farm.client.audit(None, Some("function."), None, None).await.expect("an audit");
    let noted: Vec<_> =
        audit.items.iter().map(|one| (one.who.as_str(), one.action.as_str(), one.subject.as_str())).collect();
    assert_eq!(
        noted.iter().filter(|(who, action, _)| (*who, *action) == ("scanner", "function.scan")).count(),
        3,
        "{noted:?}"
    );
    assert!(
        audit.items.iter().any(|one| one.subject.ends_with("shot@2") && one.after.contains("refused")),
        "{noted:?}"
    );

    // A version that passes later is the newest, above those that did not.
    let added = scanned.framewake(&["functions", "add", &file(&scanned, "good", "other")]);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let added = scanned.framewake(&["functions", "add", &file(&scanned, "bad", "other")]);
    assert_eq!(added.status.code(), Some(1), "who adds it at a terminal is told by the exit code");
}

fn file(scanned: &Scanned, tag: &str, name: &str) -> String {
    let file = scanned.farm.folder().join(format!("{name}-{tag}.json"));
    std::fs::write(&file, function(name, tag).to_string()).expect("writable");
    file.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scanner_that_breaks_lets_nothing_in_and_is_asked_again() {
    let mut scanned = Scanned::start(&["--scan-within", "1s"]).await;
    for (tag, said) in [("garbage", "no JSON"), ("hangs", "did not end within 1s")] {
        let version = scanned.add(tag).await.version;
        let view = scanned.over(&format!("shot@{version}")).await;
        let reason = view.scan.expect("told").reason;
        assert!(reason.contains(said) && reason.contains("add the same file again"), "{reason}");
        assert!(scanned.farm.client.submit(&job("shot"), &unique()).await.is_err(), "no version of it is active");
    }
    // Mended, and asked again: it is the same version.
    std::fs::write(scanned.farm.folder().join("mended"), "").expect("writable");
    let again = scanned.add("garbage").await;
    let view = scanned.over(&format!("shot@{}", again.version)).await;
    assert_eq!((state(&view), view.newest), (ScanState::Passed, true));
    scanned.farm.succeed(&job("shot")).await;

    // What was kept out is known to be so by the next scheduler, also by one that has no scanner.
    scanned.farm.arguments.clear();
    scanned.farm.restart_scheduler().await;
    let view = scanned.show("shot@2").await;
    assert_eq!((state(&view), view.is_active()), (ScanState::Failed, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_that_dies_during_a_scan_scans_again() {
    let mut scanned = Scanned::start(&[]).await;
    let added = scanned.add("slow").await;
    assert_eq!((added.version, state(&added)), (1, ScanState::Waiting));
    until(SOON, "the scan goes on", || async { (!scanned.asked().is_empty()).then_some(()) }).await;
    scanned.farm.scheduler().kill();
    let pids = std::fs::read_to_string(scanned.farm.folder().join("pids")).expect("it began");
    let orphan = format!("/proc/{}/environ", pids.trim());
    assert!(std::fs::read(&orphan).is_ok_and(|environ| !environ.is_empty()), "the scanner outlives the scheduler");
    scanned.farm.restart_scheduler().await;
    assert!(std::fs::read(&orphan).map_or(true, |environ| environ.is_empty()), "but not the next one's start");
    until(SOON, "it is scanned again", || async { (scanned.asked().len() == 2).then_some(()) }).await;
    assert_eq!(state(&scanned.show("shot").await), ScanState::Waiting, "and is not active for that");
    assert!(scanned.farm.client.submit(&job("shot"), &unique()).await.is_err());
    std::fs::write(scanned.farm.folder().join("go"), "").expect("writable");
    assert_eq!(state(&scanned.over("shot").await), ScanState::Passed);
    scanned.farm.succeed(&job("shot")).await;
}

/// A farm that clients of `OpenFaaS` deploy to.
struct Deploying {
    scanned: Scanned,
    url: String,
    client: reqwest::Client,
    _password: tempfile::TempDir,
}

impl Deploying {
    async fn start(more: &[&str]) -> Deploying {
        let folder = tempfile::tempdir().expect("a folder");
        let password = folder.path().join("password");
        std::fs::write(&password, "pa55word").expect("writable");
        let listen = format!("127.0.0.1:{}", free_port());
        let words = ["--openfaas-listen", &listen, "--openfaas-password-file", password.to_str().expect("UTF-8")];
        let scanned = Scanned::start(&[&words, more].concat()).await;
        Deploying { scanned, url: format!("http://{listen}"), client: reqwest::Client::new(), _password: folder }
    }

    /// Asks, and gives the status of the answer.
    async fn ask(&self, method: Method, path: &str, body: &Value) -> u16 {
        let request = self.client.request(method, format!("{}{path}", self.url)).basic_auth("admin", Some("pa55word"));
        request.json(body).send().await.expect("an answer").status().as_u16()
    }

    async fn deploy(&self, method: Method, name: &str, tag: &str) -> u16 {
        let image = format!("registry.example/{name}:{tag}");
        self.ask(method, "/system/functions", &json!({ "service": name, "image": image, "envProcess": "cat" })).await
    }

    async fn images(&self) -> Vec<String> {
        let request = self.client.get(format!("{}/system/functions", self.url)).basic_auth("admin", Some("pa55word"));
        let all: Vec<Value> = request.send().await.expect("an answer").json().await.expect("a list");
        let images = all.iter().filter_map(|one| one["image"].as_str()).map(str::to_owned);
        images.filter(|image| image.starts_with("registry.example")).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deployed_from_outside_is_scanned_too() {
    let farm = Deploying::start(&["--scan-refuse", "medium"]).await;
    let scanned = &farm.scanned;
    assert_eq!(farm.deploy(Method::POST, "shout", "garbage").await, 202);
    assert_eq!(state(&scanned.over("shout").await), ScanState::Failed);
    assert_eq!(farm.images().await, Vec::<String>::new(), "what did not pass is not deployed");
    std::fs::write(scanned.farm.folder().join("mended"), "").expect("writable");
    assert_eq!(farm.deploy(Method::POST, "shout", "garbage").await, 202);
    until(SOON, "it is deployed", || async { (farm.images().await.len() == 1).then_some(()) }).await;
    // An update that finds too much leaves what is there.
    assert_eq!(farm.deploy(Method::PUT, "shout", "good").await, 200);
    assert_eq!(state(&scanned.over("shout@2").await), ScanState::Refused);
    assert_eq!(farm.images().await, ["registry.example/shout:garbage"]);

    // Who asks from outside changes the farm too, and is noted for it.
    let scale = json!({ "serviceName": "shout", "replicas": 0 });
    assert_eq!(farm.ask(Method::POST, "/system/scale-function/shout", &scale).await, 202);
    let remove = json!({ "functionName": "shout" });
    assert_eq!(farm.ask(Method::DELETE, "/system/functions", &remove).await, 202);
    assert_eq!(farm.ask(Method::DELETE, "/system/functions", &remove).await, 404, "and is not noted");
    let audit = scanned.farm.client.audit(Some("openfaas"), None, None, None).await.expect("an audit");
    let noted: Vec<_> = audit.items.iter().rev().map(|one| (one.action.as_str(), one.subject.as_str())).collect();
    let expected = [
        ("deployment.put", "/v1/functions/shout@1"),
        ("deployment.put", "/v1/functions/shout@1"),
        ("deployment.put", "/v1/functions/shout@2"),
        ("deployment.scale", "/system/function/shout"),
        ("deployment.remove", "/system/function/shout"),
    ];
    assert_eq!(noted, expected);
    assert!(
        audit.items[2].before.contains("shout@1") && audit.items[2].after.contains("shout:good"),
        "{:?}",
        audit.items[2]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deployed_last_stays_whatever_scan_ends_after_it() {
    let farm = Deploying::start(&[]).await;
    let scanned = &farm.scanned;
    let go = scanned.farm.folder().join("go");
    let begun = async |image: &str| {
        let asked = || async { scanned.asked().iter().any(|asked| asked == image).then_some(()) };
        until(SOON, "its scan goes on", asked).await;
    };
    assert_eq!(farm.deploy(Method::POST, "shout", "clean").await, 202);
    assert_eq!(state(&scanned.over("shout").await), ScanState::Passed);
    assert_eq!(farm.deploy(Method::PUT, "shout", "slow").await, 200);
    begun("registry.example/shout:slow").await;
    // Somebody thinks better of it while the scan goes on.
    assert_eq!(farm.deploy(Method::PUT, "shout", "clean").await, 200);
    // A name that is being deployed, and is taken by a function file meanwhile.
    assert_eq!(farm.deploy(Method::POST, "theirs", "clean").await, 202);
    let plain = json!({ "name": "theirs", "driver": { "kind": "command", "command": ["/bin/true"] } });
    scanned.farm.client.add_function(&plain).await.expect("a good function");
    std::fs::write(&go, "").expect("writable");
    assert_eq!(state(&scanned.over("shout@2").await), ScanState::Passed);
    assert_eq!(state(&scanned.over("theirs@1").await), ScanState::Passed);
    assert_eq!(farm.images().await, ["registry.example/shout:clean"]);
    assert_eq!(farm.ask(Method::DELETE, "/system/functions", &json!({ "functionName": "theirs" })).await, 409);
}
