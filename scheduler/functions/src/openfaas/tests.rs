//! Against a gateway that knows the published shapes, byte for byte where clients depend on them. With real workers behind
//! it: `tests/tests/gateways.rs`.

use super::*;
use crate::End;
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::IntoResponse;
use framewake_proto::function::FunctionSpec;
use std::sync::{Arc, Mutex};

/// What was asked of the gateway: method, path with query, body.
type Asked = Arc<Mutex<Vec<(Method, String, Value)>>>;
/// What it answers, by method and path; else 404.
type Answers = Arc<Mutex<BTreeMap<(Method, &'static str), (u16, &'static str)>>>;

struct Played {
    url: String,
    asked: Asked,
    answers: Answers,
}

impl Played {
    async fn start() -> Played {
        let (asked, answers) = (Asked::default(), Answers::default());
        let (told, known) = (asked.clone(), answers.clone());
        let handler = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let (told, known) = (told.clone(), known.clone());
            async move {
                // `admin:hunter2`
                if headers.get("authorization").is_none_or(|value| value != "Basic YWRtaW46aHVudGVyMg==") {
                    return (StatusCode::UNAUTHORIZED, "invalid credentials\n").into_response();
                }
                let body = serde_json::from_slice(&body).unwrap_or_default();
                told.lock().expect("no panic").push((method.clone(), uri.to_string(), body));
                let known = known.lock().expect("no panic");
                let answer = known.iter().find(|((of, path), _)| *of == method && *path == uri.path());
                let (status, text) = answer.map_or((404, "not found"), |(_, answer)| *answer);
                (StatusCode::from_u16(status).expect("a status"), text).into_response()
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it listens"));
        tokio::spawn(axum::serve(listener, Router::new().fallback(handler)).into_future());
        Played { url, asked, answers }
    }

    fn answers(&self, method: Method, path: &'static str, answer: (u16, &'static str)) {
        self.answers.lock().expect("no panic").insert((method, path), answer);
    }

    fn asked(&self) -> Vec<(Method, String, Value)> {
        std::mem::take(&mut self.asked.lock().expect("no panic"))
    }
}

fn surroundings() -> Surroundings {
    Surroundings {
        nats: "nats://10.0.0.1:4222".to_owned(),
        farm: "studio".to_owned(),
        store: "s3://frames/farm".to_owned(),
        environment: BTreeMap::from([("AWS_REGION".to_owned(), "eu".to_owned())]),
    }
}

fn provider(folder: &tempfile::TempDir, gateway: &str, password: &str) -> OpenfaasProvider {
    let file = folder.path().join("password");
    std::fs::write(&file, password).expect("written");
    let spec = json!({
        "gateway": gateway, "namespace": "render", "longest_run": "5m", "password": { "file": file },
        "environment": { "AWS_REGION": "us" }, "secrets": ["store"],
    });
    let spec = serde_json::from_value(spec).expect("a pool");
    OpenfaasProvider::open("faas".parse().expect("a name"), 4, spec, surroundings(), folder.path().join("notes"))
        .expect("usable")
}

fn start(worker: &str, function: &str) -> Start {
    let spec: FunctionSpec = serde_json::from_value(json!({
        "name": "paint", "image": "registry.example/paint:3", "driver": { "kind": "command", "command": ["paint"] },
        "resources": { "memory": "1GiB", "cpu_millis": 1500 },
    }))
    .expect("a function");
    Start {
        worker: worker.parse().expect("a name"),
        function: function.parse().expect("a key"),
        spec: Arc::new(spec),
        gpus: Vec::new(),
        linger: Duration::from_secs(7),
        join_token: None,
        invitation: None,
    }
}

fn full(result: Result<(), StartError>) -> String {
    match result {
        Err(StartError::Full(said)) => said,
        other => panic!("{other:?}"),
    }
}

const STATUS: &str = "/system/function/studio-faas-paint-v3";
const SCALE: &str = "/system/scale-function/studio-faas-paint-v3";
const CALL: &str = "/function/studio-faas-paint-v3.render";
const ALL: &str = "/system/functions";

#[tokio::test]
async fn a_function_is_deployed_scaled_called_and_removed_as_the_gateway_knows_it() {
    let (folder, gateway) = (tempfile::tempdir().expect("a temporary folder"), Played::start().await);
    let mut provider = provider(&folder, &gateway.url, "hunter2\n");
    let first = start("w1-1", "paint@3");
    gateway.answers(Method::POST, ALL, (202, ""));
    let said = full(provider.start(&first).await);
    assert!(said.contains("`studio-faas-paint-v3` was deployed"), "{said}");
    let asked = gateway.asked();
    assert_eq!(
        (&asked[0].0, asked[0].1.as_str()),
        (&Method::GET, "/system/function/studio-faas-paint-v3?namespace=render")
    );
    let amounts = json!({ "cpu": "1500m", "memory": "1073741824" });
    let expected = json!({
        "service": "studio-faas-paint-v3", "image": "registry.example/paint:3", "namespace": "render",
        "envVars": {
            "AWS_REGION": "us", "FRAMEWAKE_FARM": "studio", "FRAMEWAKE_FUNCTION": "paint@3",
            "FRAMEWAKE_MAX_INFLIGHT": "1", "FRAMEWAKE_MODE": "http", "FRAMEWAKE_NATS_URL": "nats://10.0.0.1:4222",
            "FRAMEWAKE_STORE": "s3://frames/farm",
        },
        "labels": {
            "framewake.farm": "studio", "framewake.pool": "faas", "com.openfaas.scale.factor": "0",
            "com.openfaas.scale.zero": "false", "com.openfaas.scale.min": "1", "com.openfaas.scale.max": "4",
        },
        "constraints": [], "secrets": ["store"], "limits": amounts, "requests": amounts, "readOnlyRootFilesystem": true,
    });
    assert_eq!(
        (&asked[1].0, asked[1].1.as_str(), &asked[1].2),
        (&Method::POST, "/system/functions?namespace=render", &expected)
    );

    // No replica is up: what is 0 is left out of the answer.
    gateway.answers(Method::GET, STATUS, (200, r#"{"name": "studio-faas-paint-v3", "replicas": 1, "labels": null}"#));
    gateway.answers(Method::POST, SCALE, (202, ""));
    assert!(full(provider.start(&first).await).contains("no replica is up yet"));
    let second = start("w1-2", "paint@3");
    full(provider.start(&second).await);
    let scaled: Vec<Value> =
        gateway.asked().into_iter().filter(|asked| asked.0 == Method::POST).map(|asked| asked.2).collect();
    let body = json!({ "serviceName": "studio-faas-paint-v3", "replicas": 2, "namespace": "render" });
    assert_eq!(scaled, [body], "the second that waits has it scaled, and nobody is called");

    // One is up, answers the first, and the second waits for another.
    gateway.answers(Method::GET, STATUS, (200, r#"{"name": "x", "replicas": 2, "availableReplicas": 1}"#));
    gateway.answers(Method::POST, CALL, (202, ""));
    provider.start(&first).await.expect("woken");
    assert!(full(provider.start(&second).await).contains("all 1 replicas are busy"));
    let calls = gateway.asked().into_iter().filter(|asked| asked.1 == CALL).count();
    assert_eq!(calls, 1);

    // It is kept while anybody works or is to, and then removed; those of others are left alone.
    let listed = r#"[
        {"name": "studio-faas-paint-v3", "labels": {"framewake.farm": "studio", "framewake.pool": "faas"}},
        {"name": "other-faas-paint-v3", "labels": {"framewake.farm": "other", "framewake.pool": "faas"}},
        {"name": "figlet", "replicas": 1}
    ]"#;
    gateway.answers(Method::GET, ALL, (200, listed));
    gateway.answers(Method::DELETE, ALL, (202, ""));
    assert_eq!(provider.observe().await.expect("listed").len(), 1);
    let removed = |asked: Vec<(Method, String, Value)>| -> Vec<Value> {
        asked.into_iter().filter(|asked| asked.0 == Method::DELETE).map(|asked| asked.2).collect()
    };
    assert_eq!(removed(gateway.asked()), Vec::<Value>::new());
    for worker in [&first.worker, &second.worker] {
        provider.stop(worker).await.expect("given up");
    }
    provider.observe().await.expect("listed");
    assert_eq!(removed(gateway.asked()), [json!({ "functionName": "studio-faas-paint-v3", "namespace": "render" })]);
}

#[tokio::test]
async fn what_is_wrong_with_a_gateway_is_told_with_the_way_out() {
    let (folder, gateway) = (tempfile::tempdir().expect("a temporary folder"), Played::start().await);
    let mut wrong = provider(&folder, &gateway.url, "hunter3");
    let error = wrong.observe().await.expect_err("a wrong password");
    let said = Chain(&error).to_string();
    assert!(said.contains("401 Unauthorized: invalid credentials; hint: the pool's secret"), "{said}");

    let mut good = provider(&folder, &gateway.url, "hunter2");
    // An installation without functions.
    gateway.answers(Method::GET, ALL, (200, "null"));
    assert_eq!(good.observe().await.expect("nothing is there"), []);
    gateway.answers(Method::GET, ALL, (200, "<html>"));
    let error = good.observe().await.expect_err("no list");
    assert!(Chain(&error).to_string().contains("makes no sense"), "{error:?}");

    // As the free edition does where a function has five replicas.
    gateway.answers(Method::POST, ALL, (400, "scaling is limited"));
    match good.start(&start("w1-1", "paint@3")).await {
        Err(StartError::Refused(said)) => assert!(said.contains("400 Bad Request: scaling is limited"), "{said}"),
        other => panic!("{other:?}"),
    }
    let long = "a".repeat(60);
    match good.start(&start("w1-1", &format!("{long}@1"))).await {
        Err(StartError::Refused(said)) => assert!(said.contains("63 are allowed"), "{said}"),
        other => panic!("{other:?}"),
    }
    let mut away = provider(&folder, "http://127.0.0.1:9", "hunter2");
    assert_eq!(away.observe().await.expect_err("away").to_string(), "the gateway can't be reached");
    assert!(matches!(away.start(&start("w1-1", "paint@3")).await, Err(StartError::Away(_))));
    let spec =
        serde_json::from_value(json!({ "gateway": "http://gw", "longest_run": "5m", "password": { "env": "PATH" } }));
    let on_disk = Surroundings { store: "file:///srv/frames".to_owned(), ..surroundings() };
    let refused = OpenfaasProvider::open(
        "faas".parse().expect("a name"),
        4,
        spec.expect("a pool"),
        on_disk,
        folder.path().into(),
    );
    assert!(refused.expect_err("no folder is shared").to_string().contains("--store s3://"));
}

#[tokio::test]
async fn workers_of_an_earlier_scheduler_keep_their_function() {
    let (folder, gateway) = (tempfile::tempdir().expect("a temporary folder"), Played::start().await);
    let mut earlier = provider(&folder, &gateway.url, "hunter2");
    gateway.answers(Method::GET, STATUS, (200, r#"{"name": "x", "replicas": 1, "availableReplicas": 1}"#));
    gateway.answers(Method::POST, CALL, (202, ""));
    let start = start("w1-1", "paint@3");
    earlier.start(&start).await.expect("woken");
    drop(earlier);
    gateway.asked();
    let mut provider = provider(&folder, &gateway.url, "hunter2");
    let worker = start.worker;
    let listed =
        r#"[{"name": "studio-faas-paint-v3", "labels": {"framewake.farm": "studio", "framewake.pool": "faas"}}]"#;
    gateway.answers(Method::GET, ALL, (200, listed));
    let states: Vec<InstanceState> =
        provider.observe().await.expect("listed").into_iter().map(|instance| instance.state).collect();
    assert_eq!(states, [InstanceState::Running]);
    assert!(gateway.asked().iter().all(|asked| asked.0 == Method::GET), "nothing is removed");
    provider.stop(&worker).await.expect("given up");
    let states = provider.observe().await.expect("listed");
    assert!(matches!(&states[0].state, InstanceState::Ended(End::Failed { .. })), "{states:?}");
    assert!(gateway.asked().iter().any(|asked| asked.0 == Method::DELETE), "an orphan is removed");
}
