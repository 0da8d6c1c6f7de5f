//! Requests that no client of ours sends, written by hand on a real socket: each is refused as a problem or cut off,
//! nothing comes of it, and the server goes on.

use super::super::serve;
use super::*;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

pub(super) async fn listen(farm: &Farm) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(serve(listener, farm.app.clone(), CancellationToken::new()));
    address
}

/// Sends bytes and hears all that is answered until the server closes.
pub(super) async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    hear(TcpStream::connect(address).await.expect("connected"), bytes, false).await
}

/// The same of one that says after its last byte that no more will come.
async fn cut_off(address: SocketAddr, bytes: &[u8]) -> String {
    hear(TcpStream::connect(address).await.expect("connected"), bytes, true).await
}

async fn hear(mut socket: TcpStream, bytes: &[u8], ends: bool) -> String {
    // The server may have heard enough before the end.
    let _ = socket.write_all(bytes).await;
    if ends {
        let _ = socket.shutdown().await;
    }
    let mut heard = Vec::new();
    let _reset = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut heard)).await.expect("in time");
    String::from_utf8_lossy(&heard).into_owned()
}

pub(super) fn status(answer: &str) -> u16 {
    answer.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok()).unwrap_or(0)
}

/// What the answers to a request of ours look like: problems, where they are refusals.
fn check(what: &str, answer: &str, expected: &[u16]) {
    assert!(expected.contains(&status(answer)), "{what:.80}: expected {expected:?}: {answer:.500}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    // What can't be read as HTTP is refused by the library that reads it, in its own few words.
    if status(answer) >= 400 && !body.is_empty() && !what.starts_with("HEAD") {
        assert!(head.contains("application/problem+json"), "{what}: {answer}");
        assert!(serde_json::from_str::<Problem>(body).is_ok(), "{what}: {answer}");
    }
    assert!(!head.to_ascii_lowercase().contains("x-injected"), "{what}: {answer}");
}

const CLOSE: &str = "host: localhost\r\nconnection: close\r\n";

#[tokio::test]
async fn requests_by_hand_are_refused_and_nothing_comes_of_them() {
    let farm = Farm::start().await;
    let address = listen(&farm).await;
    let good = job("by hand", 3).to_string();
    let length = good.len();
    let json = "content-type: application/json\r\n";
    let post = |more: &str, body: &str| format!("POST /v1/jobs HTTP/1.1\r\n{CLOSE}{json}{more}\r\n{body}");
    let get = |target: &str, more: &str| format!("GET {target} HTTP/1.1\r\n{CLOSE}{more}\r\n");
    let headers = (0..10_000).map(|at| format!("x-{at}: y\r\n")).collect::<Vec<_>>().concat();
    let long = "y".repeat(60_000);
    let cases = [
        // Bodies.
        ("packed", post(&format!("content-encoding: gzip\r\ncontent-length: {length}\r\n"), &good), &[415][..]),
        ("two lengths", post(&format!("content-length: {length}\r\ncontent-length: 5\r\n"), &good), &[400]),
        ("a length with a sign", post(&format!("content-length: +{length}\r\n"), &good), &[400]),
        ("a negative length", post("content-length: -1\r\n", &good), &[400]),
        ("a length beyond numbers", post("content-length: 99999999999999999999999\r\n", &good), &[400, 431]),
        ("pieces that are none", post("transfer-encoding: chunked\r\n", "zz\r\n{}\r\n0\r\n\r\n"), &[400]),
        (
            "a piece of a huge size",
            post("transfer-encoding: chunked\r\n", "fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
            &[400],
        ),
        ("another coding", post("transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n"), &[400, 501]),
        ("a coding that is not last", post("transfer-encoding: chunked, gzip\r\n", "0\r\n\r\n"), &[400]),
        // Targets.
        ("dots in the path", get("/v1/jobs/%2e%2e/%2e%2e/healthz", ""), &[404]),
        ("plain dots", get("/v1/../../../etc/passwd", ""), &[404]),
        ("a NUL in the path", get("/v1/jobs/%00", ""), &[404]),
        ("a slash in a name", get("/v1/jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV%2Foutputs", ""), &[404]),
        ("a line in a name", get("/v1/jobs/x%0d%0ax-injected:%20y", ""), &[404]),
        ("no UTF-8", get("/v1/jobs/%ff%fe", ""), &[400]),
        ("a broken escape", get("/v1/jobs/%zz", ""), &[400, 404]),
        ("an upload out of its folder", get("/v1/inputs/..%2f..%2fframewake.db", ""), &[404]),
        ("a schedule out of its folder", get("/v1/schedules/..%2f..%2fetc", ""), &[400, 404]),
        ("a function out of its folder", get("/v1/functions/..%2f..%2fetc", ""), &[400, 404]),
        ("the address of another site", get("http://evil.example/v1/jobs", ""), &[403]),
        ("a whole address", get("http://localhost/v1/jobs", ""), &[200]),
        ("a long query", get(&format!("/v1/jobs?cursor={long}"), ""), &[400, 414, 431]),
        ("a thousand words", get(&format!("/v1/jobs?{}", "limit=1&".repeat(1000)), ""), &[400]),
        ("an unreadable query", get("/v1/jobs?limit=%ff%00", ""), &[400]),
        ("a line in a query", get("/v1/jobs?state=x%0d%0ax-injected:%20y", ""), &[400]),
        // Methods and versions.
        ("TRACE", format!("TRACE /v1/jobs HTTP/1.1\r\n{CLOSE}x-secret: 1\r\n\r\n"), &[405]),
        ("CONNECT", format!("CONNECT evil.example:443 HTTP/1.1\r\n{CLOSE}\r\n"), &[400, 403, 404, 405]),
        ("OPTIONS of all", format!("OPTIONS * HTTP/1.1\r\n{CLOSE}\r\n"), &[400, 404, 405]),
        ("OPTIONS", format!("OPTIONS /v1/jobs HTTP/1.1\r\n{CLOSE}origin: https://evil.example\r\n\r\n"), &[403, 405]),
        ("HEAD", format!("HEAD /v1/jobs HTTP/1.1\r\n{CLOSE}\r\n"), &[200]),
        ("HEAD of nothing", format!("HEAD /v1/none HTTP/1.1\r\n{CLOSE}\r\n"), &[404]),
        ("a method of its own", format!("PWN /v1/jobs HTTP/1.1\r\n{CLOSE}\r\n"), &[405]),
        ("HTTP/1.0", "GET /v1/jobs HTTP/1.0\r\n\r\n".to_owned(), &[200]),
        ("an upgrade", get("/v1/jobs", "upgrade: websocket\r\nconnection: upgrade\r\n"), &[200]),
        // Heads.
        ("ten thousand headers", get("/v1/jobs", &headers), &[431]),
        ("a long header", get("/v1/jobs", &format!("x-long: {}\r\n", "y".repeat(200_000))), &[431]),
        ("a folded header", get("/v1/jobs", "x-a: b\r\n c\r\n"), &[400]),
        ("a bare return", get("/v1/jobs", "x-a: b\rx-injected: y\r\n"), &[400]),
        ("a NUL in a header", get("/v1/jobs", "x-a: b\0c\r\n"), &[400]),
        ("a space before the colon", get("/v1/jobs", "x-a : b\r\n"), &[400]),
        ("two hosts", get("/v1/jobs", "host: evil.example\r\n"), &[400, 403]),
        ("another host", "GET /v1/jobs HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n".to_owned(), &[403]),
        (
            "a host with a name in it",
            "GET /v1/jobs HTTP/1.1\r\nhost: localhost@evil.example\r\nconnection: close\r\n\r\n".to_owned(),
            &[400, 403],
        ),
        (
            "a site that cancels",
            format!("POST /v1/jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV/cancel HTTP/1.1\r\n{CLOSE}origin: null\r\n\r\n"),
            &[403],
        ),
        ("a garbled event", get("/v1/events", "last-event-id: 1e9\r\n"), &[400]),
        ("a huge event", get("/v1/events", "last-event-id: 99999999999999999999\r\n"), &[400]),
        ("a negative event", get("/v1/events", "last-event-id: -1\r\n"), &[400]),
        ("an event that is no text", get("/v1/events", "last-event-id: \u{e4}\r\n"), &[400]),
        (
            "a key that is no text",
            post(&format!("idempotency-key: \u{e4}\u{202e}\r\ncontent-length: {length}\r\n"), &good),
            &[400, 422],
        ),
        (
            "a long key",
            post(&format!("idempotency-key: {}\r\ncontent-length: {length}\r\n", "k".repeat(5000)), &good),
            &[400, 422],
        ),
    ];
    for (what, request, expected) in &cases {
        check(what, &exchange(address, request.as_bytes()).await, expected);
    }
    // What can't be answered is cut off.
    let unfinished = [
        ("a body shorter than said", post(&format!("content-length: {}\r\n", length + 9), &good)),
        ("pieces that lie", post("transfer-encoding: chunked\r\n", &format!("ffffffff\r\n{good}\r\n0\r\n\r\n"))),
        ("pieces without end", post("transfer-encoding: chunked\r\n", &format!("{length:x}\r\n{good}\r\n"))),
        ("another protocol", "\x16\x03\x01\x02\0\x01\0\x01".to_owned()),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("HTTP/9", format!("GET /v1/jobs HTTP/9.9\r\n{CLOSE}\r\n")),
        ("half a head", format!("POST /v1/jobs HTTP/1.1\r\n{CLOSE}{json}")),
    ];
    for (what, request) in &unfinished {
        check(what, &cut_off(address, request.as_bytes()).await, &[0, 400, 505]);
    }
    assert_eq!(farm.jobs().await, 0, "nothing came of any of them");
    let last = exchange(address, post(&format!("content-length: {length}\r\n"), &good).as_bytes()).await;
    assert_eq!(status(&last), 201, "the server goes on: {last}");
}

#[tokio::test]
async fn requests_in_a_row_are_answered_in_their_order() {
    let farm = Farm::start().await;
    let address = listen(&farm).await;
    let row = (0..100).map(|at| format!("GET /v1/jobs/{at} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
    let last = format!("GET /v1/jobs/100 HTTP/1.1\r\n{CLOSE}\r\n");
    let row = row.chain([last]).collect::<Vec<_>>().concat();
    let heard = exchange(address, row.as_bytes()).await;
    let asked: Vec<&str> = heard.split("\"detail\":\"`").skip(1).filter_map(|rest| rest.split('`').next()).collect();
    assert_eq!(asked, (0..=100).map(|at: u32| at.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn ranges_by_hand_give_bytes_of_the_output_or_a_problem() {
    let (farm, id, bytes) = super::outputs::farm_with_outputs().await;
    let address = listen(&farm).await;
    let ask = async |more: &str| {
        let request = format!("GET /v1/jobs/{id}/outputs/render/0 HTTP/1.1\r\n{CLOSE}{more}\r\n");
        exchange(address, request.as_bytes()).await
    };
    let many = format!("range: bytes={}\r\n", "0-0,".repeat(10_000));
    for (more, expected) in [
        (many.as_str(), 200),
        ("range: bytes=0-18446744073709551616\r\n", 200),
        ("range: bytes=--1\r\n", 200),
        ("range: bytes=0-9\r\nrange: bytes=5-\r\n", 206),
        ("range: bytes=0-9\r\nif-range: Sat, 21 Nov 2026 11:00:00 GMT\r\n", 200),
        ("range: bytes=0-9\r\nif-range: W/\"x\"\r\n", 200),
        ("range: bytes=18446744073709551614-18446744073709551615\r\n", 416),
        ("range: \u{e4}\r\n", 200),
    ] {
        let answer = ask(more).await;
        check(more, &answer, &[expected]);
        if expected == 200 {
            assert!(answer.contains(&format!("content-length: {}\r\n", bytes.len())), "{answer}");
        }
    }
}
