//! An image registry whose images are all bad, each in its own way, on a port of this machine.

use framewake_proto::objects::Digest;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// `absent` is not there, `private` wants a login, `foreign` is for another architecture, and of `slow` one layer comes
/// by halves: the second when the test says so.
#[derive(Debug)]
pub struct Registry {
    pub port: u16,
    /// The rest of `slow` may come.
    go_on: Arc<AtomicBool>,
}

/// Size of the layer of `slow`, of which half comes at once.
const LAYER: usize = 4 << 20;
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

impl Registry {
    pub fn start() -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("bound").port();
        let go_on = Arc::new(AtomicBool::new(false));
        let shared = go_on.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let go_on = shared.clone();
                std::thread::spawn(move || answer(&stream, &go_on));
            }
        });
        Registry { port, go_on }
    }

    pub fn image(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}:1", self.port)
    }

    pub fn go_on(&self) {
        self.go_on.store(true, Ordering::Relaxed);
    }
}

fn answer(mut stream: &TcpStream, go_on: &AtomicBool) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    let path = first.split(' ').nth(1).unwrap_or_default();
    let digest = |letter: &str| format!("sha256:{}", letter.repeat(64));
    let said = |status: &str, kind: &str, more: &str, body: &str| {
        let size = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}Content-Length: {size}\r\nConnection: close\r\n\r\n{body}"
        )
    };
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        digest("d")
    );
    let config = format!("{config:<300}");
    let config_digest = format!("sha256:{}", Digest::of(config.as_bytes()));
    let reply = if path == "/v2/" {
        said("200 OK", "application/json", "", "{}")
    } else if path.starts_with("/v2/private/") {
        said("401 Unauthorized", "application/json", "WWW-Authenticate: Basic realm=\"test\"\r\n", "{}")
    } else if path.starts_with("/v2/foreign/manifests/") {
        let body = format!(
            r#"{{"schemaVersion":2,"mediaType":"{LIST}","manifests":[{{"mediaType":"{MANIFEST}","size":10,"digest":"{}","platform":{{"architecture":"arm64","os":"linux"}}}}]}}"#,
            digest("a")
        );
        said("200 OK", LIST, "", &body)
    } else if path.starts_with("/v2/slow/manifests/") {
        let kind = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        let body = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.docker.container.image.v1+json","size":300,"digest":"{}"}},"layers":[{{"mediaType":"{kind}","size":{LAYER},"digest":"{}"}}]}}"#,
            config_digest,
            digest("c")
        );
        said("200 OK", MANIFEST, "", &body)
    } else if path.ends_with(&config_digest) {
        said("200 OK", "application/json", "", &config)
    } else if path.ends_with(&digest("c")) {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LAYER}\r\nConnection: close\r\n\r\n");
        let half = vec![0; LAYER / 2];
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&half));
        while !go_on.load(Ordering::Relaxed) {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let _ = stream.write_all(&half);
        return;
    } else {
        let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
        said("404 Not Found", "application/json", "", body)
    };
    let _ = stream.write_all(reply.as_bytes());
}
