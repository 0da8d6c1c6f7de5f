//! Requests whose end two readers see in different places (request smuggling): what is behind such an end is carried out for nobody,
//! and the connection ends with it.

use super::access::{OWN, crowded, who};
use super::raw::{exchange, listen, status};
use super::*;
use framewake_proto::access::Role;

/// A change, whole, as it would stand behind the end of another request.
fn hidden(headers: &str) -> String {
    let body = job("hidden", 1).to_string();
    format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\n{headers}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// What two readers understand differently: its name, the headers that say how long it is, and what stands where its body would.
fn ambiguous(rest: &str) -> Vec<(&'static str, String, String)> {
    let all = rest.len();
    let with = |lines: &str, body: &str| (format!("{lines}\r\n"), format!("{body}{rest}"));
    let chunked = "transfer-encoding: chunked";
    // The size of a piece that takes in all of it, and of one beyond numbers.
    let (piece, beyond) = (format!("{all:x}\r\n"), format!("{}5\r\n", "f".repeat(16)));
    let cases = [
        ("a length and pieces", with(&format!("content-length: {}\r\n{chunked}", all + 5), "0\r\n\r\n")),
        ("pieces and a length", with(&format!("{chunked}\r\ncontent-length: {}", all + 5), "0\r\n\r\n")),
        ("a short length and pieces", with(&format!("content-length: 5\r\n{chunked}"), "0\r\n\r\n")),
        ("a length of nothing, and pieces", with(&format!("content-length: 0\r\n{chunked}"), "0\r\n\r\n")),
        ("two lengths", with(&format!("content-length: 0\r\ncontent-length: {all}"), "")),
        ("two lengths, the longer first", with(&format!("content-length: {all}\r\ncontent-length: 0"), "")),
        ("a list of lengths", with(&format!("content-length: 0, {all}"), "")),
        ("a list of the same length", with("content-length: 0, 0", "")),
        ("a length with a sign", with("content-length: +0", "")),
        ("a length with a space in it", with("content-length: 0 0", "")),
        ("a length in hexadecimal", with("content-length: 0x0", "")),
        ("an empty length", with("content-length:", "")),
        ("a folded length", with("content-length:\r\n 0", "")),
        ("folded pieces", with("transfer-encoding:\r\n chunked", "0\r\n\r\n")),
        ("a folded header before", with(&format!("x: y\r\n {chunked}"), "0\r\n\r\n")),
        ("a space before the colon", with("transfer-encoding : chunked", "0\r\n\r\n")),
        ("a tab before the colon", with("content-length\t: 0", "")),
        ("a coding that nobody knows", with("transfer-encoding: xchunked", "0\r\n\r\n")),
        ("two codings", with("transfer-encoding: gzip, chunked", "0\r\n\r\n")),
        ("pieces in pieces", with("transfer-encoding: chunked, chunked", "0\r\n\r\n")),
        ("no coding, then pieces", with(&format!("transfer-encoding: identity\r\n{chunked}"), "0\r\n\r\n")),
        ("pieces, then no coding", with(&format!("{chunked}\r\ntransfer-encoding: identity"), "0\r\n\r\n")),
        ("pieces twice", with(&format!("{chunked}\r\n{chunked}"), "0\r\n\r\n")),
        ("pieces behind a comma", with("transfer-encoding: , chunked", "0\r\n\r\n")),
        ("quoted pieces", with("transfer-encoding: \"chunked\"", "0\r\n\r\n")),
        ("a vertical tab", with("transfer-encoding: \u{b}chunked", "0\r\n\r\n")),
        ("a bare return in a header", with(&format!("x: y\r{chunked}"), "0\r\n\r\n")),
        ("a size beyond numbers", with(chunked, &format!("{beyond}0\r\n\r\n"))),
        ("a size with a sign", with(chunked, "+0\r\n\r\n")),
        ("a size with a prefix", with(chunked, "0x0\r\n\r\n")),
        ("a size that a bare line feed ends", with(chunked, "0\n\r\n")),
        ("a size with a note that a bare line feed ends", with(chunked, "0;x\n\r\n")),
        ("a piece that a bare line feed ends", with(chunked, "1\r\nx\n0\r\n\r\n")),
        ("a piece longer than it says", with(chunked, "1\r\nxxx\r\n0\r\n\r\n")),
        ("a piece without an end", with(chunked, &format!("1\r\nx{piece}"))),
    ];
    cases.into_iter().map(|(what, (headers, body))| (what, headers, body)).collect()
}

/// How often the bytes were answered.
fn answers(heard: &str) -> usize {
    heard.matches("HTTP/1.1 ").count()
}

#[tokio::test]
async fn what_is_behind_an_end_that_can_be_read_in_two_ways_is_carried_out_for_nobody() {
    let farm = Farm::start().await;
    let address = listen(&farm).await;
    // Whether the request takes a body or has no use for one.
    for first in ["POST /v1/jobs", "GET /v1/jobs", "GET /healthz", "DELETE /v1/session"] {
        for (what, headers, body) in ambiguous(&hidden("connection: close\r\n")) {
            let kind = "content-type: application/json";
            let text = format!("{first} HTTP/1.1\r\nhost: localhost\r\n{kind}\r\n{headers}\r\n{body}");
            // Comes back only when the connection is closed.
            let heard = exchange(address, text.as_bytes()).await;
            let what = format!("{first}, {what}: {heard:.300}");
            assert!(answers(&heard) <= 1, "{what}");
            // Who has no use for a body may have answered before it was looked at.
            assert!(heard.is_empty() || (400..500).contains(&status(&heard)) || !first.starts_with("POST"), "{what}");
            assert_eq!(farm.jobs().await, 0, "{what}");
        }
    }
    // What is not ambiguous is carried out, one after the other: or nothing of this would show anything.
    let plain = "GET /healthz HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";
    let pieces = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    let heard = exchange(address, format!("{plain}{pieces}{}", hidden("connection: close\r\n")).as_bytes()).await;
    assert_eq!((answers(&heard), farm.jobs().await), (3, 1), "{heard}");
}

#[tokio::test]
async fn nothing_is_carried_out_as_the_session_whose_request_it_hides_behind() {
    let (farm, askers, ..) = crowded().await;
    let secret = who(&askers, Role::Artist, Some(OWN));
    let login = farm.post("/v1/session", &json!({ "token": secret.reveal() })).await;
    let cookie = login.headers["set-cookie"].to_str().expect("text").split(';').next().expect("a value").to_owned();
    let address = listen(&farm).await;
    let jobs = async || {
        let request = Request::get("/v1/jobs").header("authorization", format!("Bearer {}", secret.reveal()));
        let listed = farm.send(request.body(Body::empty()).expect("a request")).await;
        assert_eq!(listed.status, StatusCode::OK, "{}", listed.text());
        listed.json::<Value>()["items"].as_array().expect("a list").len()
    };
    let before = jobs().await;
    let session = format!("host: farm\r\ncookie: {cookie}\r\norigin: http://farm\r\n");
    for (what, headers, body) in
        ambiguous(&hidden(&format!("cookie: {cookie}\r\norigin: http://localhost\r\nconnection: close\r\n")))
    {
        let text = format!("POST /v1/jobs HTTP/1.1\r\n{session}{headers}\r\n{body}");
        let heard = exchange(address, text.as_bytes()).await;
        assert!(answers(&heard) <= 1, "{what}: {heard}");
        assert_eq!(jobs().await, before, "{what}: {heard}");
    }
    // A connection is nobody's: what follows on it without a cookie is asked who it is.
    let own = format!("GET /v1/jobs HTTP/1.1\r\n{session}\r\n");
    let heard = exchange(address, format!("{own}{}", hidden("connection: close\r\n")).as_bytes()).await;
    assert_eq!(answers(&heard), 2, "{heard}");
    let second = heard.rsplit("HTTP/1.1 ").next().unwrap_or_default();
    assert!(status(&heard) == 200 && second.starts_with("401"), "{heard}");
    assert_eq!(jobs().await, before);
}
