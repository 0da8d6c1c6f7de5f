//! What the tools of `OpenFaaS` do, over the same HTTP that they speak: real scheduler, NATS, workers from zero.

use framewake_proto::api::{JobState, WorkerState};
use framewake_proto::ids::JobId;
use framewake_tests::farm::{SOON, TestFarm};
use framewake_tests::jobs;
use framewake_tests::parts::{free_port, tool};
use framewake_tests::receiver::{Answer, Got, Receiver};
use framewake_tests::wait::until;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;

/// 32 bytes that the receivers know.
const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// A farm with a door for these clients.
struct Door {
    farm: TestFarm,
    url: String,
    http: reqwest::Client,
}

impl Door {
    async fn open() -> Door {
        Door::open_with(&[]).await
    }

    async fn open_with(more: &[(&str, &str)]) -> Door {
        Door::open_over(4, more).await
    }

    /// So many slots of this machine; 0: only the pools that are named.
    async fn open_over(slots: u32, more: &[(&str, &str)]) -> Door {
        let mut farm = TestFarm::start(4).await;
        farm.slots = slots;
        let port = free_port();
        let (password, secret) = (farm.folder().join("password"), farm.folder().join("secret"));
        std::fs::write(&password, "hunter2\n").expect("the test's folder is writable");
        std::fs::write(&secret, SECRET).expect("the test's folder is writable");
        let listen = format!("127.0.0.1:{port}");
        let mut environment = vec![
            ("FRAMEWAKE_OPENFAAS_LISTEN", listen.as_str()),
            ("FRAMEWAKE_OPENFAAS_PASSWORD_FILE", password.to_str().expect("UTF-8")),
            ("FRAMEWAKE_OPENFAAS_CALLBACK_SECRET_FILE", secret.to_str().expect("UTF-8")),
            ("FRAMEWAKE_NOTIFY_ALLOW", "127.0.0.1/32"),
        ];
        environment.extend_from_slice(more);
        farm.restart_scheduler_with(&environment).await;
        let url = format!("http://{listen}");
        let door = Door { farm, url, http: reqwest::Client::new() };
        until(SOON, "the door is open", || async { door.http.get(format!("{}/healthz", door.url)).send().await.ok() })
            .await;
        door
    }

    fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).basic_auth("admin", Some("hunter2"))
    }

    async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path).send().await.expect("it answers")
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> (StatusCode, String) {
        let response = self.ask(method, path).json(body).send().await.expect("it answers");
        (response.status(), response.text().await.expect("text"))
    }

    async fn deploy(&self, body: &Value) -> (StatusCode, String) {
        self.send(Method::POST, "/system/functions", body).await
    }

    async fn deployed(&self, body: &Value) {
        let (status, said) = self.deploy(body).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{said}");
    }

    async fn status(&self, name: &str) -> Value {
        let response = self.get(&format!("/system/function/{name}")).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.json().await.expect("JSON")
    }

    async fn scale(&self, name: &str, replicas: u32) -> (StatusCode, String) {
        let body = json!({ "serviceName": name, "replicas": replicas });
        self.send(Method::POST, &format!("/system/scale-function/{name}"), &body).await
    }

    async fn call(&self, name: &str, body: &'static str) -> Response {
        let asked = self.ask(Method::POST, &format!("/function/{name}")).body(body);
        asked.send().await.expect("it answers")
    }

    async fn listed(&self) -> Vec<String> {
        let all: Vec<Value> = self.get("/system/functions").await.json().await.expect("a list");
        all.iter().map(|function| function["name"].as_str().expect("a name").to_owned()).collect()
    }
}

/// What `faas-cli deploy` sends for a function without labels: its empty maps are `null`.
fn shout() -> Value {
    json!({
        "service": "shout", "image": "registry.example/shout:1", "envProcess": "tr a-z A-Z",
        "labels": null, "annotations": null,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_deployed_listed_described_called_updated_and_removed() {
    let door = Door::open().await;
    // As the client does: an update first, and a deployment once it hears that there is none.
    let (status, _) = door.send(Method::PUT, "/system/functions", &shout()).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    door.deployed(&shout()).await;
    let (status, said) = door.deploy(&shout()).await;
    assert_eq!((status, said.contains("deployed already")), (StatusCode::CONFLICT, true), "{said}");

    let all: Vec<Value> = door.get("/system/functions").await.json().await.expect("a list");
    let listed = all.iter().find(|function| function["name"] == "shout").expect("it is listed");
    let described = door.status("shout").await;
    assert_eq!(listed, &described);
    let expected = json!({
        "name": "shout", "image": "registry.example/shout:1", "namespace": "openfaas-fn", "envProcess": "tr a-z A-Z",
        "createdAt": described["createdAt"],
    });
    assert_eq!(described, expected, "what is empty or 0 is left out");

    let response = door.call("shout", "hello").await;
    assert_eq!(response.status(), StatusCode::OK);
    for header in ["x-call-id", "x-start-time", "x-duration-seconds"] {
        assert!(response.headers().contains_key(header), "{header}");
    }
    assert_eq!(response.text().await.expect("text"), "HELLO");
    assert_eq!(door.status("shout").await["invocationCount"], 1);

    let mut whisper = shout();
    whisper["envProcess"] = json!("tr A-Z a-z");
    let (status, said) = door.send(Method::PUT, "/system/functions", &whisper).await;
    assert_eq!(status, StatusCode::OK, "{said}");
    assert_eq!(door.call("shout.openfaas-fn", "QUIET").await.text().await.expect("text"), "quiet");
    let newest = door.farm.client.function("shout").await.expect("it answers");
    assert_eq!(newest.version, 2, "an update adds a version, and changes none");

    let gone = json!({ "functionName": "shout" });
    let (status, _) = door.send(Method::DELETE, "/system/functions", &gone).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let (status, said) = door.send(Method::DELETE, "/system/functions", &gone).await;
    assert_eq!((status, said.as_str()), (StatusCode::NOT_FOUND, "function `shout` not found\n"));
    assert!(!door.listed().await.contains(&"shout".to_owned()));
    assert_eq!(door.call("shout", "x").await.status(), StatusCode::NOT_FOUND);
    door.deployed(&shout()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_kept_from_0_to_3_to_0_also_by_a_scheduler_that_is_killed() {
    let mut door = Door::open().await;
    let mut body = shout();
    body["labels"] = json!({ "com.openfaas.scale.max": "3", "com.openfaas.scale.zero-duration": "2s" });
    door.deployed(&body).await;
    assert!(door.status("shout").await.get("replicas").is_none(), "it begins with none");
    assert_eq!(door.scale("shout", 4).await.0, StatusCode::BAD_REQUEST, "more than its label allows");

    assert_eq!(door.scale("shout", 3).await.0, StatusCode::ACCEPTED);
    let there = |wanted: Value| async move { Some(()).filter(|()| wanted["availableReplicas"] == 3) };
    until(SOON, "three workers are there", || async { there(door.status("shout").await).await }).await;
    let ids = |page: framewake_proto::api::Page<framewake_proto::api::WorkerView>| {
        page.items.into_iter().map(|worker| worker.id).collect::<Vec<_>>()
    };
    let before = ids(door.farm.client.workers(None).await.expect("it answers"));

    door.farm.kill_scheduler();
    door.farm.restart_scheduler().await;
    // Longer than they would stay without work.
    let began = std::time::Instant::now();
    until(SOON, "five seconds are over", || async { (began.elapsed() > Duration::from_secs(5)).then_some(()) }).await;
    let status = door.status("shout").await;
    assert_eq!((&status["replicas"], &status["availableReplicas"]), (&json!(3), &json!(3)), "{status}");
    assert_eq!(ids(door.farm.client.workers(None).await.expect("it answers")), before, "the same three");

    assert_eq!(door.scale("shout", 0).await.0, StatusCode::ACCEPTED);
    door.farm.no_workers().await;
    let status = door.status("shout").await;
    assert!(status.get("replicas").is_none() && status.get("availableReplicas").is_none(), "{status}");
    // From zero again, by a call alone.
    assert_eq!(door.call("shout", "back").await.text().await.expect("text"), "BACK");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_followed_from_before_a_call_to_after_it() {
    let door = Door::open().await;
    let mut body = shout();
    body["envProcess"] = json!("[\"/bin/sh\", \"-c\", \"echo began >&2; cat; echo ended >&2\"]");
    door.deployed(&body).await;
    let mut stream = door.get("/system/logs?name=shout&follow=true&tail=-1").await;
    assert_eq!(stream.headers()["content-type"], "application/x-ndjson");
    // Others render by the same functions, and what their renderers say is theirs: here that there is no body.
    let film = json!({
        "name": "film", "project": "film",
        "steps": [{ "name": "run", "function": "shout", "frames": "1", "output": "film.bin", "retries": { "attempts": 1 } }],
    });
    let film = door.farm.submit(&film).await;
    assert_eq!(door.farm.over(film).await.state, JobState::Failed);
    let mut plain = jobs::command(&["/bin/echo", "the secret of film"], "1");
    plain["project"] = json!("film");
    door.farm.succeed(&plain).await;
    let name = plain["steps"][0]["function"].as_str().expect("a name").to_owned();
    let theirs = door.get(&format!("/system/logs?name={name}")).await;
    assert_eq!((theirs.status(), theirs.text().await.expect("text").as_str()), (StatusCode::OK, ""));
    assert_eq!(door.call("shout", "hello").await.status(), StatusCode::OK);
    let mut text = String::new();
    let lines = async {
        while !text.contains("ended") {
            let piece = stream.chunk().await.expect("a whole piece").expect("it has no end");
            text.push_str(std::str::from_utf8(&piece).expect("text"));
        }
    };
    tokio::time::timeout(SOON, lines).await.expect("the lines come while it is followed");
    let messages: Vec<Value> =
        text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let words: Vec<&str> = messages.iter().filter_map(|message| message["text"].as_str()).collect();
    assert!(!words.iter().any(|words| words.contains("body")), "{words:?}");
    let began = messages.iter().find(|message| message["text"] == "began").expect("a line of the program's own");
    assert_eq!((&began["name"], &began["namespace"]), (&json!("shout"), &json!("openfaas-fn")));
    assert!(began["timestamp"].as_str().is_some_and(|at| at.ends_with('Z')), "{began}");
    let instance = began["instance"].as_str().expect("a worker");

    // And once it is over, by whoever asks.
    for (query, expected) in [
        (String::new(), true),
        (format!("&instance={instance}"), true),
        ("&instance=other".to_owned(), false),
        ("&since=2999-01-01T00:00:00Z".to_owned(), false),
        ("&since=2020-01-01T00:00:00%2B02:00".to_owned(), true),
    ] {
        let said = door.get(&format!("/system/logs?name=shout{query}")).await.text().await.expect("text");
        assert_eq!(said.contains("\"began\""), expected, "{query}: {said}");
    }
    let last = door.get("/system/logs?name=shout&tail=1").await.text().await.expect("text");
    assert_eq!(last.lines().count(), 1, "{last}");
    assert_eq!(door.get("/system/logs?name=nobody").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(door.get("/system/logs?name=shout&since=yesterday").await.status(), StatusCode::BAD_REQUEST);
}

async fn told(receiver: &Receiver, count: usize) -> Vec<Got> {
    until(SOON, "the receiver is told", || async { Some(receiver.got()).filter(|got| got.len() >= count) }).await
}

/// Both signatures of a request, computed by another program from what came over the wire.
fn signatures(got: &Got) -> (String, String) {
    let script = "import base64, hashlib, hmac, sys\n\
                  key = base64.b64decode(sys.argv[1].removeprefix('whsec_'))\n\
                  text = f'{sys.argv[2]}.{sys.argv[3]}.{sys.argv[4]}'.encode()\n\
                  print('v1,' + base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode())\n\
                  print('sha256=' + hmac.new(key, sys.argv[4].encode(), hashlib.sha256).hexdigest())";
    let body = std::str::from_utf8(&got.body).expect("text");
    let words = [script, SECRET, got.header("webhook-id"), got.header("webhook-timestamp"), body];
    let output = Command::new(tool("python3")).arg("-c").args(words).output().expect("Python runs");
    let said = String::from_utf8(output.stdout).expect("text");
    let (first, second) = said.trim().split_once('\n').expect("two lines");
    (first.to_owned(), second.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_sent_signed_and_again_until_it_arrives_also_after_the_scheduler_was_killed() {
    let mut door = Door::open().await;
    door.deployed(&shout()).await;
    let mut failing = shout();
    failing["service"] = json!("failing");
    failing["envProcess"] = json!("[\"/bin/sh\", \"-c\", \"echo no such texture >&2; exit 3\"]");
    door.deployed(&failing).await;
    let receiver = Receiver::start(free_port(), |_| Answer::Status(500)).await;
    let later = async |door: &Door, name: &str, call: &str| {
        let asked = door.ask(Method::POST, &format!("/async-function/{name}")).header("X-Callback-Url", receiver.url());
        asked.header("X-Call-Id", call.to_owned()).body("hello").send().await.expect("it answers")
    };
    let response = later(&door, "shout", "call-1").await;
    assert_eq!(
        (response.status(), &response.headers()["x-call-id"]),
        (StatusCode::ACCEPTED, &"call-1".parse().expect("a header"))
    );
    assert!(response.headers()["x-start-time"].to_str().is_ok_and(|text| text.parse::<u64>().is_ok()));
    told(&receiver, 1).await;
    door.farm.kill_scheduler();
    receiver.behave(|_| Answer::Status(200));
    door.farm.restart_scheduler().await;
    let got = told(&receiver, 2).await;
    let last = got.last().expect("told");
    assert_eq!(std::str::from_utf8(&last.body), Ok("HELLO"));
    for (header, expected) in
        [("x-call-id", "call-1"), ("x-function-status", "200"), ("x-function-name", "shout.openfaas-fn")]
    {
        assert_eq!(last.header(header), expected, "{header}");
    }
    assert!(last.header("x-duration-seconds").parse::<f64>().is_ok_and(|took| took > 0.0));
    assert_eq!((last.header("webhook-signature").to_owned(), last.header("hmac").to_owned()), signatures(last));

    later(&door, "failing", "call-2").await;
    let failed = until(SOON, "the failure is told", || async {
        receiver.got().into_iter().find(|got| got.header("x-call-id") == "call-2")
    })
    .await;
    assert_eq!(failed.header("x-function-status"), "500");
    assert!(String::from_utf8_lossy(&failed.body).contains("no such texture"), "{failed:?}");
    let count = receiver.got().len();
    let began = std::time::Instant::now();
    until(SOON, "two seconds are over", || async { (began.elapsed() > Duration::from_secs(2)).then_some(()) }).await;
    assert_eq!(receiver.got().len(), count, "what arrived is not sent again");

    for (url, said) in [
        ("http://169.254.169.254/latest", "internal address"),
        ("ftp://example.org/", "X-Callback-Url"),
        ("http://10.0.0.7/", "--notify-allow"),
    ] {
        let asked = door.ask(Method::POST, "/async-function/shout").header("X-Callback-Url", url).body("x");
        let response = asked.send().await.expect("it answers");
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let text = response.text().await.expect("text");
        assert!(text.contains(said), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_outlasts_its_caller_goes_on_and_one_that_fails_says_why() {
    let door = Door::open_with(&[("FRAMEWAKE_OPENFAAS_WAIT", "1s")]).await;
    let mut slow = shout();
    let gate = door.farm.folder().join("gate");
    slow["service"] = json!("slow");
    slow["envProcess"] =
        json!(format!("[\"/bin/sh\", \"-c\", \"until test -e {}; do sleep 0.05; done; echo done\"]", gate.display()));
    door.deployed(&slow).await;
    let response = door.call("slow", "x").await;
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    let job: JobId = response.headers()["x-framewake-job"].to_str().expect("ASCII").parse().expect("an id");
    let said = response.text().await.expect("text");
    assert!(said.contains(&job.to_string()) && said.contains("/async-function/slow"), "{said}");
    std::fs::write(&gate, "").expect("the test's folder is writable");
    assert_eq!(door.farm.over(job).await.state, JobState::Succeeded);

    let mut failing = shout();
    failing["service"] = json!("failing");
    failing["envProcess"] = json!("[\"/bin/sh\", \"-c\", \"echo no such texture >&2; exit 3\"]");
    door.deployed(&failing).await;
    let response = door.call("failing", "x").await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let said = response.text().await.expect("text");
    assert!(said.contains("no such texture"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_password_or_asks_for_what_is_not_there_is_told_so() {
    let door = Door::open().await;
    let url = |path: &str| format!("{}{path}", door.url);
    assert_eq!(door.http.get(url("/healthz")).send().await.expect("it answers").status(), StatusCode::OK);
    for (method, path) in [
        (Method::GET, "/system/functions"),
        (Method::GET, "/system/info"),
        (Method::GET, "/system/namespaces"),
        (Method::GET, "/system/secrets"),
        (Method::GET, "/system/logs?name=x"),
        (Method::POST, "/function/x"),
        (Method::POST, "/async-function/x"),
        (Method::GET, "/nowhere"),
    ] {
        for password in [None, Some("hunter3"), Some(""), Some("hunter2 ")] {
            let mut asked = door.http.request(method.clone(), url(path));
            if let Some(password) = password {
                asked = asked.basic_auth("admin", Some(password));
            }
            let response = asked.send().await.expect("it answers");
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path} {password:?}");
            assert_eq!(response.headers()["www-authenticate"], "Basic realm=\"Restricted\"");
            assert_eq!(response.text().await.expect("text"), "invalid credentials");
        }
    }
    for path in ["/system/function/nobody", "/function/nobody", "/async-function/nobody", "/function/shout.elsewhere"] {
        let asked = door.ask(if path.starts_with("/system") { Method::GET } else { Method::POST }, path).send().await;
        assert_eq!(asked.expect("it answers").status(), StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(door.scale("nobody", 1).await.0, StatusCode::NOT_FOUND);
    let info: Value = door.get("/system/info").await.json().await.expect("JSON");
    assert_eq!(info["provider"]["provider"], "framewake");
    assert!(info["version"]["release"].is_string() && info["arch"].is_string(), "{info}");
    let namespaces: Value = door.get("/system/namespaces").await.json().await.expect("JSON");
    assert_eq!(namespaces, json!(["openfaas-fn"]));
    let secrets: Value = door.get("/system/secrets").await.json().await.expect("JSON");
    assert_eq!(secrets, json!([]));
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        let (status, said) = door.send(method, "/system/secrets", &json!({ "name": "s3", "value": "x" })).await;
        assert_eq!(status, StatusCode::NOT_IMPLEMENTED);
        assert!(said.contains("no secrets"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deployments_that_no_pool_can_run_are_refused_with_what_each_pool_says() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let docker = json!({ "kind": "docker", "network": "host", "host": "unix:///nowhere/socket", "gpus": ["GPU-1"] });
    let pools = [
        json!({
            "name": "small", "max": 2, "provider": docker, "gpu": { "model": "NVIDIA L4", "memory": "24GiB" },
            "machine": { "cpu_millis": 4000, "memory": "16GiB", "architecture": "amd64" },
        }),
        json!({
            "name": "gateway", "max": 2, "machine": { "cpu_millis": 2000, "memory": "4GiB" },
            "provider": { "kind": "http", "url": "http://127.0.0.1:9/", "longest_run": "5m" },
        }),
    ];
    for pool in &pools {
        let file = folder.path().join(format!("{}.yaml", pool["name"].as_str().expect("named")));
        std::fs::write(file, pool.to_string()).expect("the test's folder is writable");
    }
    let pools = folder.path().display().to_string();
    let door = Door::open_over(0, &[("FRAMEWAKE_POOLS", &pools)]).await;
    let labels = |labels: Value| {
        let mut body = shout();
        body["labels"] = labels;
        body
    };
    let limits = |limits: Value| {
        let mut body = shout();
        body["limits"] = limits;
        body
    };
    for (body, small, gateway) in [
        (labels(json!({ "framewake.gpus": "9" })), "a worker needs 9 GPUs, and a machine has 1", "it has no GPUs"),
        (
            labels(json!({ "framewake.gpus": "1", "framewake.gpu-memory": "500GiB" })),
            "a worker needs GPUs of 500GiB, and these have 24GiB",
            "it has no GPUs",
        ),
        (
            labels(json!({ "framewake.gpu-models": "L9000" })),
            "its GPUs are NVIDIA L4, and the function wants L9000",
            "it has no GPUs",
        ),
        (
            limits(json!({ "memory": "64Gi" })),
            "a worker needs 64GiB of memory, and a machine has 16GiB",
            "a worker needs 64GiB of memory, and a machine has 4GiB",
        ),
        (
            limits(json!({ "cpu": "8" })),
            "a worker needs 8000 thousandths of a processor, and a machine has 4000",
            "a worker needs 8000 thousandths",
        ),
        (
            labels(json!({ "framewake.pools": "large" })),
            "the function names others: large",
            "the function names others: large",
        ),
    ] {
        let (status, said) = door.deploy(&body).await;
        assert!(status.is_client_error(), "{body} is taken: {status}");
        for words in [&format!("pool small: {small}"), &format!("pool gateway: {gateway}"), "--pools"] {
            assert!(said.contains(words), "{words} is not in {said}");
        }
        assert!(!door.listed().await.contains(&"shout".to_owned()), "nothing was stored");
    }
    // What one of them can run is taken.
    door.deployed(&limits(json!({ "memory": "8Gi" }))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deployments_that_can_not_be_are_refused_and_change_nothing() {
    let door = Door::open().await;
    let before = door.listed().await;
    let bad = |field: &str, value: Value| {
        let mut body = shout();
        body[field] = value;
        body
    };
    for (body, said) in [
        (bad("service", json!("Not A Name")), "service"),
        (bad("image", json!("")), "`image` is empty"),
        (bad("envProcess", json!("")), "--fprocess"),
        (bad("secrets", json!(["s3"])), "secrets"),
        (bad("namespace", json!("elsewhere")), "elsewhere"),
        (bad("constraints", json!(["zone=eu"])), "means nothing here"),
        (bad("labels", json!({ "framewake.gpu": "1" })), "framewake.gpus"),
        (bad("labels", json!({ "framewake.gpus": "900" })), "at most 16"),
        (bad("labels", json!({ "framewake.gpus": "-1" })), "whole number"),
        (bad("labels", json!({ "com.openfaas.scale.min": "5", "com.openfaas.scale.max": "2" })), "scale.min"),
        (bad("limits", json!({ "memory": "a lot" })), "512Mi"),
        (bad("limits", json!({ "memory": "-1Gi" })), "512Mi"),
        (bad("limits", json!({ "memory": "90000Ti" })), "resources/memory"),
        (bad("limits", json!({ "cpu": "-2" })), "`2` or `500m`"),
        (bad("limits", json!({ "cpu": "100000" })), "resources/cpu_millis"),
        (bad("limits", json!({ "nvidia.com/gpu": "9000" })), "at most 16"),
        (bad("limits", json!({ "nvidia.com/gpu": "some" })), "not a number of GPUs"),
        (bad("labels", json!({ "framewake.gpus": "1", "framewake.gpu-memory": "2TiB" })), "resources/gpu_memory"),
        (bad("labels", json!({ "framewake.gpu-memory": "much" })), "not a size"),
        (bad("labels", json!({ "com.openfaas.scale.max": "1000000" })), "scaling/max"),
        (bad("annotations", json!({ "framewake.output": "../up.png" })), "framewake.output"),
        (bad("service", json!("povray")), "choose another name"),
    ] {
        let (status, text) = door.deploy(&body).await;
        assert!(status.is_client_error(), "{body} is taken: {status}");
        assert!(text.contains(said), "{body}: {text}");
    }
    let large = vec![b'x'; 17 * 1024 * 1024];
    door.deployed(&shout()).await;
    let response = door.ask(Method::POST, "/function/shout").body(large).send().await;
    // The connection may be closed while the rest is still being sent.
    if let Ok(response) = response {
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert!(response.text().await.expect("text").contains("framewake submit"));
    }
    let response = door.ask(Method::POST, "/system/functions").body("{").send().await.expect("it answers");
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let mut after = door.listed().await;
    after.retain(|name| name != "shout");
    assert_eq!(after, before);
    // Functions of files are shown and scaled, and take jobs, not calls.
    assert!(before.contains(&"povray".to_owned()));
    let response = door.call("povray", "x").await;
    assert_eq!(response.status(), StatusCode::CONFLICT);
    assert!(response.text().await.expect("text").contains("framewake submit"));
    assert_eq!(door.scale("command", 1).await.0, StatusCode::ACCEPTED);
    until(SOON, "its worker is there", || async {
        let page = door.farm.client.workers(None).await.ok()?;
        page.items.iter().any(|worker| worker.state == WorkerState::Idle).then_some(())
    })
    .await;
}

/// `faas-cli` itself, where there is one: it is in no registry, so most machines have none.
struct FaasCli<'a> {
    program: std::path::PathBuf,
    door: &'a Door,
}

impl FaasCli<'_> {
    /// Whether it ended well, and all that it said.
    fn run(&self, words: &[&str]) -> (bool, String) {
        let mut command = Command::new(&self.program);
        command.args(words).env("HOME", self.door.farm.folder()).env("OPENFAAS_URL", &self.door.url);
        let output = command.output().expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    fn says(&self, words: &[&str], good: bool, expected: &str) {
        let (well, said) = self.run(words);
        assert!(well == good && said.contains(expected), "{words:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_of_openfaas_deploys_lists_describes_follows_and_removes() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("faas-cli")).find(|file| file.is_file());
    let Some(program) = found else {
        eprintln!("\n*** NOT TESTED: there is no faas-cli in PATH; what it sends is sent by the other tests. ***\n");
        return;
    };
    let door = Door::open().await;
    let client = FaasCli { program, door: &door };
    client.says(&["list"], false, "Unauthorized access");
    client.says(&["login", "--password", "hunter3"], false, "either username or password is incorrect");
    client.says(&["login", "--password", "hunter2"], true, "credentials saved");
    let talk = r#"["/bin/sh", "-c", "echo began >&2; cat; echo ended >&2"]"#;
    let words = ["deploy", "--name", "talk", "--image", "registry.example/talk:1", "--fprocess", talk];
    client.says(&words, true, "Deployed. 202 Accepted.");
    client.says(&words, true, "Deployed. 200 OK.");
    client.says(&["list"], true, "talk");
    client.says(&["describe", "talk"], true, "Image:              registry.example/talk:1");
    client.says(&["describe", "nobody"], false, "No such function: nobody");
    assert_eq!(door.call("talk", "hello").await.text().await.expect("text"), "hello");
    until(SOON, "its log is there", || async {
        client.run(&["logs", "talk", "--tail=false"]).1.contains("ended").then_some(())
    })
    .await;
    client.says(&["logs", "talk", "--tail=false", "-o", "json"], true, r#""text":"began"}"#);
    let (_, last) = client.run(&["logs", "talk", "--tail=false", "--lines", "1"]);
    assert_eq!(last.trim().lines().count(), 1, "{last}");
    client.says(&["logs", "nobody", "--tail=false"], false, "function `nobody` not found");
    client.says(&["remove", "talk"], true, "Removing old function.");
    client.says(&["remove", "talk"], false, "No existing function to remove");
}
