//! The client against answers of any kind, given by a listener that says exactly what it is told.

use super::*;
use crate::api::Happening;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

/// Answers one request with `answer` and gives back what was asked.
fn serve(answer: impl Into<Vec<u8>>) -> (Client, std::thread::JoinHandle<String>) {
    let answer = answer.into();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let client = Client::new(&format!("http://{}", listener.local_addr().expect("bound"))).expect("a good address");
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut asked = Vec::new();
        let mut buffer = [0; 4096];
        while !asked.windows(4).any(|window| window == b"\r\n\r\n") {
            let count = stream.read(&mut buffer).expect("a request");
            asked.extend_from_slice(&buffer[..count]);
        }
        // The client may have heard enough before the end.
        let _ = stream.write_all(&answer);
        String::from_utf8_lossy(&asked).into_owned()
    });
    (client, asked)
}

fn answer(status: &str, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn job() -> JobId {
    "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().expect("an id")
}

#[tokio::test]
async fn a_refusal_carries_every_fault() {
    let body = r#"{"type":"urn:framewake:invalid","title":"t","status":422,"detail":"2 fields are wrong",
        "faults":[{"field":"/name","reason":"empty"},{"field":"/steps","reason":"none"}],"request_id":"r"}"#;
    let (client, asked) = serve(answer("422 Unprocessable Content", "application/problem+json", body));
    let error = client.submit(&serde_json::json!({}), "key-1").await.expect_err("refused");
    let Error::Refused(problem) = error else { panic!("{error:?}") };
    assert_eq!(problem.faults.len(), 2);
    let asked = asked.join().expect("served");
    assert!(asked.starts_with("POST /v1/jobs HTTP/1.1\r\n") && asked.contains("idempotency-key: key-1"), "{asked}");
}

#[tokio::test]
async fn what_finds_too_much_going_on_is_tried_again_for_a_moment() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let client = Client::new(&format!("http://{}", listener.local_addr().expect("bound"))).expect("a good address");
    let crowded = r#"{"type":"urn:framewake:too-many","title":"t","status":429,"detail":"64 lists","request_id":"r"}"#;
    let crowded = format!(
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: 0\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{crowded}",
        crowded.len()
    );
    let answers = [crowded.clone(), crowded.clone(), answer("200 OK", "application/json", r#"{"items":[]}"#), crowded];
    let asked = std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut asked = [0; 4096];
            let _ = stream.read(&mut asked).expect("a request");
            stream.write_all(answer.as_bytes()).expect("sent");
        }
    });
    assert!(client.workers(None).await.expect("the third try").items.is_empty());
    // Without a key nobody knows what the first try did.
    let error = client.add_function(&serde_json::json!({})).await.expect_err("not tried again");
    assert!(error.is_crowded() && error.is_passing(), "{error:?}");
    asked.join().expect("asked four times");
}

#[tokio::test]
async fn answers_of_something_else_are_told_apart() {
    let (client, _asked) = serve(answer("404 Not Found", "text/html", "<h1>nginx</h1>"));
    assert!(matches!(client.job(job()).await, Err(Error::Strange { status: 404, .. })));
    let (client, _asked) = serve(answer("200 OK", "application/json", r#"{"hello":"world"}"#));
    assert!(matches!(client.job(job()).await, Err(Error::Misunderstood { .. })));
    let (client, _asked) = serve("HTTP/1.1 301 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n");
    assert!(matches!(client.job(job()).await, Err(Error::Strange { status: 301, .. })));
    let (client, _asked) = serve("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{");
    assert!(matches!(client.job(job()).await, Err(Error::Lost { .. })));
    let (client, _asked) = serve("SSH-2.0-OpenSSH_9.2\r\n");
    assert!(matches!(client.job(job()).await, Err(Error::Lost { .. })));
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let mut endless = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n\"".to_vec();
    endless.resize(endless.len() + ANSWER_SIZE_MAX + 1, b'x');
    let (client, _asked) = serve(endless);
    assert!(matches!(client.job(job()).await, Err(Error::TooLarge { .. })));
}

#[tokio::test]
async fn nobody_there_is_said_with_the_address() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
    let client = Client::new(&format!("http://127.0.0.1:{port}/")).expect("a good address");
    let error = client.readiness().await.expect_err("nobody there");
    assert!(matches!(error, Error::Unreachable { .. }) && error.is_passing());
    assert_eq!(error.to_string(), format!("can't reach the scheduler at http://127.0.0.1:{port}"));
}

#[tokio::test]
async fn filters_are_sent_escaped_and_the_address_may_have_a_path() {
    let (client, asked) = serve(answer("200 OK", "application/json", r#"{"items":[]}"#));
    let client = Client::new(&format!("{}/farm/", client.url())).expect("a good address");
    let query = JobQuery {
        states: vec![JobState::Failed, JobState::Canceled],
        labels: vec![("shot".into(), "a&b=c".into())],
        limit: Some(5),
        ..JobQuery::default()
    };
    assert!(client.jobs(&query).await.expect("a page").items.is_empty());
    let asked = asked.join().expect("served");
    assert!(asked.starts_with("GET /farm/v1/jobs?state=failed%2Ccanceled&label=shot%3Da%26b%3Dc&limit=5 "), "{asked}");
}

#[tokio::test]
async fn an_unknown_input_is_one_of_which_nothing_is_there() {
    let problem = r#"{"type":"urn:framewake:not-found","title":"t","status":404,"detail":"no such input"}"#;
    let (client, _asked) = serve(answer("404 Not Found", "application/problem+json", problem));
    let view = client.input(Digest::of(b"x")).await.expect("no error");
    assert!(!view.complete && view.received_bytes == 0);
}

#[tokio::test]
async fn a_scheduler_that_is_not_ready_still_says_why() {
    let body = r#"{"ready":false,"parts":{"nats":"connection refused"},"version":"0.1.0","store":"file:///x"}"#;
    let (client, _asked) = serve(answer("503 Service Unavailable", "application/json", body));
    assert!(!client.readiness().await.expect("an answer").ready);
}

#[tokio::test]
async fn events_resume_and_pass_over_what_is_newer() {
    let events = ": hello\n\nevent: comet\ndata: {\"seq\":8}\n\nevent: job_state\nid: 9\ndata: \
        {\"seq\":9,\"job\":\"01ARZ3NDEKTSV4RRFFQ69G5FAV\",\"at\":\"2026-01-01T00:00:00.000Z\",\
        \"event\":\"job_state\",\"state\":\"running\"}\n\n";
    let (client, asked) = serve(answer("200 OK", "text/event-stream", events));
    let mut events = client.events(Some(job()), Some(7)).await.expect("a stream");
    let event = events.next().await.expect("good").expect("one");
    assert_eq!(event.what, Happening::JobState { state: JobState::Running });
    assert_eq!(events.last_seq(), Some(9));
    assert!(events.next().await.expect("the end").is_none());
    assert!(asked.join().expect("served").contains("last-event-id: 7"));
}

#[test]
fn addresses_are_checked() {
    for bad in ["", "localhost:7700", "ftp://x", "http://", "mailto:a@b", "7700"] {
        assert!(matches!(Client::new(bad), Err(Error::Address(_))), "{bad}");
    }
    assert_eq!(Client::new("https://farm.example/").expect("good").url(), "https://farm.example");
}
