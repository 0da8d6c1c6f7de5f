//! The server on a real socket.

use super::super::serve;
use super::super::shares::{Class, Peer};
use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

async fn ask(socket: &mut TcpStream, text: &str) {
    socket.write_all(text.as_bytes()).await.expect("sent");
}

async fn hear(socket: &mut TcpStream, until: &str) -> String {
    let mut heard = Vec::new();
    let hearing = async {
        while !String::from_utf8_lossy(&heard).contains(until) {
            if socket.read_buf(&mut heard).await.expect("read") == 0 {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, hearing).await.expect("in time");
    String::from_utf8_lossy(&heard).into_owned()
}

#[tokio::test]
async fn the_server_answers_on_its_socket_and_ends_streams_when_it_stops() {
    let farm = Farm::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, farm.app.clone(), stop.clone()));
    let mut idle = TcpStream::connect(address).await.expect("connected");
    let mut plain = TcpStream::connect(address).await.expect("connected");
    // One connection, two requests.
    for _ in 0..2 {
        ask(&mut plain, "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        assert!(hear(&mut plain, "ok\n").await.starts_with("HTTP/1.1 200 OK"));
    }
    let mut rebound = TcpStream::connect(address).await.expect("connected");
    ask(&mut rebound, "GET /v1/jobs HTTP/1.1\r\nhost: evil.example\r\n\r\n").await;
    assert!(hear(&mut rebound, "}").await.starts_with("HTTP/1.1 403"));
    let mut stream = TcpStream::connect(address).await.expect("connected");
    ask(&mut stream, "GET /v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    hear(&mut stream, "text/event-stream").await;
    stop.cancel();
    assert!(hear(&mut stream, "connect again").await.contains("connect again"));
    tokio::time::timeout(PATIENCE, serving).await.expect("in time").expect("no panic").expect("no error");
    assert!(hear(&mut idle, "anything").await.is_empty());
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn who_is_asked_for_no_token_is_answered_under_our_names_alone_wherever_one_listens() {
    let named = |mode| {
        move |app: App| {
            app.with_access(Access::new(mode, Vec::new())).with_names(vec!["farm.example".parse().expect("a name")])
        }
    };
    for (listen, mode) in [("127.0.0.1:0", Mode::Open), ("0.0.0.0:0", Mode::Open), ("127.0.0.1:0", Mode::Tokens)] {
        let farm = Farm::start().await.anew(named(mode));
        let listener = TcpListener::bind(listen).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, farm.app.clone(), stop.clone()));
        for (host, ours) in [
            ("evil.example", false),
            ("farm.example.evil.example", false),
            ("farm.example", true),
            ("FARM.example:7700", true),
            ("localhost:1", true),
            ("192.0.2.7", true),
        ] {
            let mut socket = TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
            ask(&mut socket, &format!("GET /v1/jobs HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await;
            let heard = hear(&mut socket, "no such text").await;
            let status = match (mode, ours) {
                (Mode::Tokens, _) => "401",
                (_, true) => "200",
                (_, false) => "403",
            };
            assert!(heard.starts_with(&format!("HTTP/1.1 {status}")), "{listen} {mode:?} {host}: {heard}");
            // Who meant well is told what to do.
            assert_eq!(heard.contains(&format!("--names {host}")), status == "403", "{heard}");
        }
        stop.cancel();
        tokio::time::timeout(PATIENCE, serving).await.expect("in time").expect("no panic").expect("no error");
    }
}

#[tokio::test]
async fn connections_past_a_clients_share_hear_why_and_the_others_go_on() {
    let farm = Farm::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(serve(listener, farm.app.clone(), CancellationToken::new()));
    let here = Peer::from(address.ip());
    let mut held = Vec::new();
    while let Ok(pass) = farm.app.shares.enter(Class::Connection, here) {
        held.push(pass);
    }
    let mut socket = TcpStream::connect(address).await.expect("connected");
    let _ = socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let heard = hear(&mut socket, "request_id").await;
    assert!(
        heard.starts_with("HTTP/1.1 429 Too Many Requests\r\n") && heard.contains("\r\nretry-after: 1\r\n"),
        "{heard}"
    );
    // A client of another address.
    let other = tokio::net::TcpSocket::new_v4().expect("a socket");
    other.bind("127.0.0.2:0".parse().expect("an address")).expect("all of 127/8 is this machine");
    let mut other = other.connect(address).await.expect("connected");
    ask(&mut other, "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(hear(&mut other, "ok\n").await.starts_with("HTTP/1.1 200 OK"));
    drop(held);
    let mut socket = TcpStream::connect(address).await.expect("connected");
    ask(&mut socket, "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(hear(&mut socket, "ok\n").await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn a_client_that_sends_too_much_hears_why() {
    let farm = Farm::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(serve(listener, farm.app.clone(), CancellationToken::new()));
    let mut socket = TcpStream::connect(address).await.expect("connected");
    let head = "POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 200000000\r\n\r\n";
    ask(&mut socket, head).await;
    let heard = hear(&mut socket, "request_id").await;
    assert!(heard.starts_with("HTTP/1.1 413"), "{heard}");
    let mut socket = TcpStream::connect(address).await.expect("connected");
    let head = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-long: {}\r\n\r\n", "x".repeat(200_000));
    // The rest may find the connection closed already.
    let _ = socket.write_all(head.as_bytes()).await;
    let mut heard = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut heard)).await.expect("in time");
    assert!(!String::from_utf8_lossy(&heard).starts_with("HTTP/1.1 200"));
}
