//! Staging of inputs, from the store, from earlier steps and from URLs.

mod common;

use common::{Bench, bench};
use framewake_proto::objects::{Digest, input_key};
use framewake_proto::verdict::Verdict;
use framewake_worker::inputs::{Cache, Error, Inputs, Staged};
use framewake_worker::store::Store;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

struct Desk {
    bench: Bench,
    inputs: Inputs,
}

fn desk(staged: &Value) -> Desk {
    let function = json!({"name": "f", "driver": {"kind": "command", "command": ["true"]}});
    let bench = bench(&function, &json!({"inputs": staged}));
    let url = format!("file://{}", bench.folder.path().join("store").display()).parse().expect("any text");
    let store = Store::open(&url, &"w1".parse().expect("a name")).expect("opens");
    let cache = Cache::open(&bench.folder.path().join("cache"), 1 << 20).expect("opens");
    let inputs = Inputs::new(store, cache, bench.setup.folders.inputs.clone(), 100);
    Desk { bench, inputs }
}

impl Desk {
    fn put(&self, key: &str, bytes: &[u8]) {
        let path = self.bench.folder.path().join("store").join(key);
        std::fs::create_dir_all(path.parent().expect("has one")).expect("makes");
        std::fs::write(path, bytes).expect("writes");
    }

    async fn stage(&mut self) -> Result<Staged, Error> {
        self.inputs.stage(&self.bench.step.order).await
    }
}

fn read(staged: &Staged, name: &str) -> Vec<u8> {
    std::fs::read(staged.folder.join(name)).expect(name)
}

#[tokio::test]
async fn inputs_lie_under_their_names_and_stay_while_they_are_the_same() {
    let scene = Digest::of(b"scene");
    let mut desk = desk(&json!([
        {"staged_as": "shots/scene.blend", "source": {"digest": scene}},
        {"staged_as": "plates", "source": {"outputs": {"frames": "1-20x19", "template": "f/{frame:03}.png"}}},
    ]));
    desk.put(&input_key(&scene), b"scene");
    desk.put("jobs/p/j/f/001.png", b"one");
    desk.put("jobs/p/j/f/020.png", b"twenty");
    let staged = desk.stage().await.expect("stages");
    assert_eq!(read(&staged, "shots/scene.blend"), b"scene");
    assert_eq!(read(&staged, "plates/f/001.png"), b"one");
    assert_eq!(read(&staged, "plates/f/020.png"), b"twenty");
    std::fs::remove_dir_all(desk.bench.folder.path().join("store")).expect("removes");
    assert_eq!(desk.stage().await.expect("is there already"), staged);
}

#[tokio::test]
async fn the_same_files_for_another_job_need_no_staging_and_other_files_replace_them() {
    let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
    let mut desk = desk(&json!([{"staged_as": "a", "source": {"digest": one}}]));
    desk.put(&input_key(&one), b"one");
    desk.put(&input_key(&two), b"two");
    let first = desk.stage().await.expect("stages");
    desk.bench.step.order.step = 5;
    assert_eq!(desk.stage().await.expect("keeps"), first);
    desk.bench.step.order.inputs[0].source = framewake_proto::order::OrderSource::Digest(two);
    let second = desk.stage().await.expect("stages");
    assert_ne!(second.content, first.content);
    assert!(!first.folder.exists());
    assert_eq!(read(&second, "a"), b"two");
}

#[tokio::test]
async fn what_is_not_there_is_the_jobs_fault_and_named() {
    let digest = Digest::of(b"never uploaded");
    let mut absent = desk(&json!([{"staged_as": "scene.blend", "source": {"digest": digest}}]));
    let failure = absent.stage().await.expect_err("absent").failure();
    assert_eq!(failure.verdict, Verdict::SceneError);
    assert!(failure.message.contains("`scene.blend`") && failure.message.contains(&digest.to_string()));
    let outputs = json!([{"staged_as": "", "source": {"outputs": {"frames": "1", "template": "f/{frame}.png"}}}]);
    let failure = desk(&outputs).stage().await.expect_err("absent").failure();
    assert_eq!(failure.message, "output `f/1.png` of an earlier step is not in the store");
}

/// Answers every request with `response`, and gives the address.
async fn serve(response: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("has one");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 2048];
            let _any = stream.read(&mut request).await;
            let _gone = stream.write_all(response.as_bytes()).await;
        }
    });
    format!("http://{address}/a.bin?token=secret")
}

async fn fetch(response: &'static str) -> Result<Vec<u8>, Error> {
    let url = serve(response).await;
    let mut desk = desk(&json!([{"staged_as": "a.bin", "source": {"url": url}}]));
    desk.stage().await.map(|staged| read(&staged, "a.bin"))
}

#[tokio::test]
async fn urls_are_fetched_within_their_bounds() {
    let good = fetch("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello").await;
    assert_eq!(good.expect("fetches"), b"hello");
    let gone = fetch("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    let gone = gone.expect_err("refused").failure();
    assert_eq!(gone.verdict, Verdict::SceneError);
    assert!(gone.message.ends_with("was answered with 404") && !gone.message.contains("secret"), "{}", gone.message);
    let large = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n\
        0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789!";
    assert!(matches!(fetch(large).await, Err(Error::TooLarge { size_max: 100, .. })));
}

#[tokio::test]
async fn a_redirect_may_not_leave_its_host_nor_reach_other_services_of_it() {
    for away in [
        "HTTP/1.1 302 Found\r\nlocation: http://localhost:1/x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "HTTP/1.1 302 Found\r\nlocation: https://127.0.0.1/x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "HTTP/1.1 302 Found\r\nlocation: file:///etc/passwd\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        // To itself, for ever.
        "HTTP/1.1 302 Found\r\nlocation: /a.bin\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    ] {
        let error = fetch(away).await.expect_err("refused");
        let failure = error.failure();
        assert_eq!(failure.verdict, Verdict::SceneError, "{}", failure.message);
        assert!(!failure.message.contains("secret"), "{}", failure.message);
    }
}

/// Where `/pub/a.bin` leads to `to`, and everything else says `hello`; with which beginning of it is allowed.
async fn led(to: &str, within: Option<&str>) -> Result<Vec<u8>, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let host = format!("http://{}", listener.local_addr().expect("has one"));
    let away = format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 2048];
            let read = stream.read(&mut request).await.unwrap_or_default();
            let first = request[..read].starts_with(b"GET /pub/a.bin ");
            let found = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
            let _gone = stream.write_all(if first { away.as_bytes() } else { found.as_bytes() }).await;
        }
    });
    let within = within.map(|path| host.len() + path.len());
    let source = json!({"url": format!("{host}/pub/a.bin")});
    let mut desk = desk(&json!([{"staged_as": "a.bin", "source": source, "within": within}]));
    desk.stage().await.map(|staged| read(&staged, "a.bin"))
}

#[tokio::test]
async fn a_redirect_may_not_leave_the_beginning_that_is_allowed() {
    for inside in ["/pub/b.bin", "b.bin", "/pub/deep/c.bin?signed=1", "/pub/deep/../b.bin"] {
        assert_eq!(led(inside, Some("/pub/")).await.expect(inside), b"hello");
    }
    for outside in [
        "/private/a.bin",
        "../private/a.bin",
        "/pub/../private/a.bin",
        "/pub/%2e%2e/private/a.bin",
        "/pub/..%2fprivate/a.bin",
        "/public/a.bin",
        "/",
        // To itself, for ever.
        "/pub/a.bin",
    ] {
        let error = led(outside, Some("/pub/")).await.expect_err(outside);
        assert!(matches!(error, Error::Led { .. }), "{outside}: {error:?}");
        assert_eq!(error.failure().verdict, Verdict::SceneError, "{outside}");
    }
    // Of the whole host, or where an older scheduler says nothing.
    for within in [Some("/"), None] {
        assert_eq!(led("/private/a.bin", within).await.expect("allowed"), b"hello");
    }
}

#[tokio::test]
async fn lengths_that_lie_are_not_believed() {
    let longer = fetch("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello and more").await;
    assert_eq!(longer.expect("what was announced"), b"hello");
    let huge = fetch("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\nhello").await;
    assert!(matches!(huge, Err(Error::TooLarge { .. })), "{huge:?}");
    let endless = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\n\
        0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\r\n\
        5\r\nhello\r\n";
    assert!(matches!(fetch(endless).await, Err(Error::TooLarge { .. })));
}

#[tokio::test]
async fn inputs_that_want_the_same_place_are_the_jobs_fault() {
    let scene = Digest::of(b"scene");
    let mut desk = desk(&json!([
        {"staged_as": "shots", "source": {"digest": scene}},
        {"staged_as": "shots/a.blend", "source": {"digest": scene}},
    ]));
    desk.put(&input_key(&scene), b"scene");
    assert_eq!(desk.stage().await.expect_err("no room").failure().verdict, Verdict::SceneError);
}
