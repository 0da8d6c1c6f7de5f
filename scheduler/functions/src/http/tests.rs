//! Against a gateway on a socket of its own.

use super::*;
use crate::{End, InstanceState};
use axum::Router;
use axum::http::{HeaderMap, Uri};
use axum::response::IntoResponse;
use framewake_proto::function::FunctionSpec;
use framewake_proto::time::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway that answers as told, once it is let.
struct Gateway {
    url: String,
    asked: mpsc::UnboundedReceiver<(Uri, HeaderMap)>,
    answer: watch::Sender<Option<(u16, &'static str)>>,
}

impl Gateway {
    async fn start() -> Gateway {
        let (told, asked) = mpsc::unbounded_channel();
        let (answer, wanted) = watch::channel(None);
        let handler = move |uri: Uri, headers: HeaderMap| {
            let (told, mut wanted) = (told.clone(), wanted.clone());
            async move {
                let _ = told.send((uri, headers));
                let answer = wanted.wait_for(Option::is_some).await.ok().and_then(|answer| *answer);
                let (status, text) = answer.unwrap_or((500, "gone"));
                (axum::http::StatusCode::from_u16(status).expect("a status"), text).into_response()
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/function/{{function}}-{{version}}", listener.local_addr().expect("it listens"));
        tokio::spawn(axum::serve(listener, Router::new().fallback(handler)).into_future());
        Gateway { url, asked, answer }
    }

    fn provider(&self, more: Value) -> HttpProvider {
        provider(&self.url, more)
    }
}

/// With notes that nobody reads again.
fn provider(url: &str, more: Value) -> HttpProvider {
    opened(url, more, tempfile::tempdir().expect("a temporary folder").keep())
}

fn opened(url: &str, more: Value, notes: PathBuf) -> HttpProvider {
    let mut pool = json!({ "url": url, "longest_run": "9m" });
    pool.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    HttpProvider::open(serde_json::from_value(pool).expect("a pool"), notes).expect("usable")
}

fn start(worker: &str) -> Start {
    let spec: FunctionSpec =
        serde_json::from_value(json!({ "name": "paint", "driver": { "kind": "command", "command": ["paint"] } }))
            .expect("a function");
    Start {
        worker: id(worker),
        function: "paint@3".parse().expect("a key"),
        spec: Arc::new(spec),
        gpus: Vec::new(),
        linger: Duration::from_secs(7),
        join_token: None,
        invitation: Some(framewake_proto::notify::Secret::new("come")),
    }
}

fn id(worker: &str) -> WorkerId {
    worker.parse().expect("a name")
}

async fn state(provider: &mut HttpProvider) -> Option<InstanceState> {
    provider.observe().await.expect("it can tell").into_iter().next().map(|instance| instance.state)
}

/// Waits until it is in another state than running.
async fn changed(provider: &mut HttpProvider) -> InstanceState {
    let wait = async {
        loop {
            match state(provider).await {
                Some(InstanceState::Running) | None => provider.changed().await,
                Some(state) => return state,
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("something changes")
}

fn failed(state: &InstanceState) -> &str {
    match state {
        InstanceState::Ended(End::Failed { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_worker_is_there_while_its_request_is_open_and_is_told_who_it_is_and_how_long() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("token");
    std::fs::write(&file, "Bearer hunter2\n").expect("written");
    let mut gateway = Gateway::start().await;
    let mut provider =
        gateway.provider(json!({ "authorization": { "file": file }, "headers": { "X-Nuclio-Target": "paint" } }));
    provider.start(&start("w1-1")).await.expect("taken");
    provider.start(&start("w1-1")).await.expect("there already");
    assert!(!format!("{provider:?}").contains("hunter2"), "{provider:?}");
    let (uri, headers) = gateway.asked.recv().await.expect("asked");
    assert_eq!(uri.path(), "/function/paint-3");
    for (name, expected) in [
        ("x-framewake-worker", "w1-1"),
        ("x-deadline", "540"),
        ("x-framewake-linger-ms", "7000"),
        ("x-framewake-invitation", "come"),
        ("x-nuclio-target", "paint"),
        ("authorization", "Bearer hunter2"),
    ] {
        assert_eq!(headers[name], expected, "{name}");
    }
    assert_eq!(state(&mut provider).await, Some(InstanceState::Running));
    // A secret that is replaced is used from then on.
    std::fs::write(&file, "Bearer hunter3\n").expect("written");
    provider.start(&start("w1-2")).await.expect("taken");
    assert_eq!(gateway.asked.recv().await.expect("asked").1["authorization"], "Bearer hunter3");
    provider.forget(&id("w1-2")).await.expect("forgotten");
    gateway.answer.send_replace(Some((200, r#"{"worker": "w1-1", "tasks_done": 3, "draining": false}"#)));
    assert_eq!(changed(&mut provider).await, InstanceState::Ended(End::Left));
    assert!(gateway.asked.try_recv().is_err(), "asked once");
    provider.forget(&id("w1-1")).await.expect("forgotten");
    assert_eq!(state(&mut provider).await, None);
}

#[tokio::test]
async fn what_a_gateway_answers_at_once_is_told_for_what_it_is() {
    let gateway = Gateway::start().await;
    let mut provider = gateway.provider(json!({}));
    for (answer, full, words) in [
        ((429, "no room\n"), true, "answered 429 Too Many Requests: no room"),
        ((503, ""), true, "answered 503"),
        ((401, "who?"), false, "the pool's secret"),
        ((404, ""), false, "is the function there"),
        ((500, "panic"), false, "500 Internal Server Error: panic"),
        ((302, ""), false, "302"),
        ((200, "<!doctype html>"), false, "what answers there is no worker: `<!doctype html>`"),
        ((200, r#"{"worker": "w9-9"}"#), false, "worker w9-9, who was awake already"),
    ] {
        gateway.answer.send_replace(Some(answer));
        let refused = provider.start(&start("w1-1")).await.expect_err("refused");
        let (is_full, said) = match &refused {
            StartError::Full(said) => (true, said),
            StartError::Refused(said) => (false, said),
            StartError::Away(error) => panic!("{error:?}"),
        };
        assert!(is_full == full && said.contains(words), "{answer:?}: {refused:?}");
        assert_eq!(state(&mut provider).await, None, "nobody was started");
    }
    // A worker that found nothing to do.
    gateway.answer.send_replace(Some((200, r#"{"worker": "w1-2", "draining": false}"#)));
    provider.start(&start("w1-2")).await.expect("taken");
    assert_eq!(changed(&mut provider).await, InstanceState::Ended(End::Left));
}

#[tokio::test]
async fn a_gateway_that_is_away_is_not_the_functions_fault_and_is_asked_at_its_root_until_it_is_back() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it listens");
    drop(listener);
    let mut provider = provider(&format!("http://{address}/wake/{{function}}"), json!({}));
    assert_eq!(provider.observe().await.expect("nobody has asked it anything yet"), []);
    assert!(matches!(provider.start(&start("w1-1")).await, Err(StartError::Away(_))));
    let error = provider.observe().await.expect_err("it is away");
    assert_eq!(error.to_string(), "the gateway can't be reached");
    let (told, mut asked) = mpsc::unbounded_channel();
    let listener = tokio::net::TcpListener::bind(address).await.expect("still free");
    let handler = move |uri: Uri| async move {
        let _ = told.send(uri);
    };
    tokio::spawn(axum::serve(listener, Router::new().fallback(handler)).into_future());
    assert_eq!(provider.observe().await.expect("it is back"), []);
    assert_eq!(asked.recv().await.expect("asked").path(), "/", "no function is woken by that");
    assert_eq!(provider.observe().await.expect("it is back"), []);
    assert!(asked.try_recv().is_err(), "asked once");
}

#[tokio::test]
async fn a_worker_of_whom_nobody_knows_counts_until_its_time_is_up() {
    for (answer, words) in [
        ((504, "upstream request timeout"), "hint: is the pool's `longest_run` longer"),
        ((408, ""), "408"),
        ((202, ""), ""),
        ((200, r#"{"worker": "w1-1", "draining": true}"#), ""),
    ] {
        let gateway = Gateway::start().await;
        let mut provider = gateway.provider(json!({}));
        provider.start(&start("w1-1")).await.expect("taken");
        gateway.answer.send_replace(Some(answer));
        if words.is_empty() {
            provider.changed().await;
            assert_eq!(state(&mut provider).await, Some(InstanceState::Running), "{answer:?}");
        } else {
            match changed(&mut provider).await {
                InstanceState::Waiting { reason } => assert!(reason.contains(words), "{reason}"),
                other => panic!("{answer:?}: {other:?}"),
            }
        }
        // One that speaks, and says good-bye, is gone.
        if answer.0 != 200 {
            provider.start(&start("w1-2")).await.expect("taken");
            provider.left(&id("w1-2"));
            let listed = provider.observe().await.expect("listed");
            assert_eq!(listed[1].state, InstanceState::Ended(End::Left), "{answer:?}");
        }
        // And if it never speaks, it is given up, with the reason.
        provider.stop(&id("w1-1")).await.expect("given up");
        assert!(failed(&state(&mut provider).await.expect("listed")).contains(words), "{answer:?}");
    }
    // A connection that breaks off.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mut provider = provider(&format!("http://{}/", listener.local_addr().expect("it listens")), json!({}));
    let (cut, is_cut) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        let stream = listener.accept().await;
        let _ = is_cut.await;
        drop(stream);
    });
    provider.start(&start("w1-1")).await.expect("taken");
    cut.send(()).expect("it waits");
    match changed(&mut provider).await {
        InstanceState::Waiting { reason } => assert!(reason.contains("its request broke off"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn workers_of_an_earlier_scheduler_count_until_their_time_is_up() {
    let gateway = Gateway::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let open = || opened(&gateway.url, json!({}), folder.path().to_owned());
    let mut first = open();
    first.start(&start("w1-1")).await.expect("taken");
    first.start(&start("w1-3")).await.expect("taken");
    first.forget(&id("w1-3")).await.expect("forgotten");
    gateway.answer.send_replace(Some((429, "")));
    assert!(first.start(&start("w1-4")).await.is_err(), "one that was refused is nobody");
    drop(first);
    let ago = Timestamp::now().0 - 600_000;
    std::fs::write(folder.path().join("w1-2"), format!("paint@3 {ago}")).expect("written");
    std::fs::write(folder.path().join("w1-5"), "paint").expect("written");
    let mut second = open();
    let listed = second.observe().await.expect("listed");
    let states: Vec<_> = listed.iter().map(|instance| (instance.worker.as_str(), &instance.state)).collect();
    assert_eq!(states[0], ("w1-1", &InstanceState::Running));
    assert!(matches!(states[1], ("w1-2", InstanceState::Ended(End::TakenAway { .. }))), "{states:?}");
    assert_eq!(states.len(), 2, "{states:?}");
    for worker in ["w1-1", "w1-2"] {
        second.forget(&id(worker)).await.expect("forgotten");
    }
    assert_eq!(open().observe().await.expect("listed"), []);
    // Where nothing can be noted nobody is woken.
    std::fs::remove_dir_all(folder.path()).expect("removed");
    assert!(matches!(second.start(&start("w1-6")).await, Err(StartError::Away(_))));
}
