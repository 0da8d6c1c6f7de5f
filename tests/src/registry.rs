//! An image registry on a port of this machine. Its images are all bad, each in its own way, but for one that an engine had.

use crate::docker::Engine;
use framewake_proto::objects::Digest;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// `absent` is not there, `private` wants a login, `foreign` is for another architecture, and of `slow` one layer comes
/// by halves: the second when the test says so. `good` is what [`Registry::take`] took.
#[derive(Debug)]
pub struct Registry {
    pub port: u16,
    /// The rest of `slow` may come.
    go_on: Arc<AtomicBool>,
    /// An image that an engine had.
    good: Arc<OnceLock<Good>>,
}

/// What `docker pull` asks for.
#[derive(Debug)]
struct Good {
    manifest: Vec<u8>,
    /// By digest.
    blobs: BTreeMap<String, Vec<u8>>,
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
        let good = Arc::<OnceLock<Good>>::default();
        let (shared, taken) = (go_on.clone(), good.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (go_on, good) = (shared.clone(), taken.clone());
                std::thread::spawn(move || {
                    if good.get().is_none_or(|good| !answer_good(&stream, good)) {
                        answer(&stream, &go_on);
                    }
                });
            }
        });
        Registry { port, go_on, good }
    }

    /// Takes an image from an engine, which has it no more; it is `good` from now on. Kept in `folder`.
    pub fn take(&self, engine: &Engine, name: &str, folder: &Path) {
        let file = folder.join("good.tar");
        engine.docker(&["save", "-o", &file.display().to_string(), name]);
        let tar = Command::new("tar").arg("-xf").arg(&file).arg("-C").arg(folder).status();
        assert!(tar.expect("tar runs").success());
        engine.docker(&["rmi", name]);
        let saved = std::fs::read(folder.join("manifest.json")).expect("an image has one");
        let saved: Value = serde_json::from_slice(&saved).expect("JSON");
        let mut blobs = BTreeMap::new();
        let mut part = |kind: &str, name: &Value| {
            let bytes = std::fs::read(folder.join(name.as_str().expect("a name"))).expect("it was saved");
            let (size, digest) = (bytes.len(), format!("sha256:{}", Digest::of(&bytes)));
            blobs.insert(digest.clone(), bytes);
            json!({ "mediaType": kind, "size": size, "digest": digest })
        };
        let config = part("application/vnd.docker.container.image.v1+json", &saved[0]["Config"]);
        let layers = saved[0]["Layers"].as_array().into_iter().flatten();
        let layers: Vec<Value> =
            layers.map(|layer| part("application/vnd.docker.image.rootfs.diff.tar.gzip", layer)).collect();
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        let manifest = manifest.to_string().into_bytes();
        self.good.set(Good { manifest, blobs }).expect("one is taken");
    }

    pub fn image(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}:1", self.port)
    }

    pub fn go_on(&self) {
        self.go_on.store(true, Ordering::Relaxed);
    }
}

/// Whether it was asked for something of `good`, which is then answered.
fn answer_good(mut stream: &TcpStream, good: &Good) -> bool {
    let mut head = [0; 256];
    let Ok(size) = stream.peek(&mut head) else { return false };
    let head = String::from_utf8_lossy(&head[..size]).into_owned();
    let Some(asked) = head.split(' ').nth(1).and_then(|path| path.strip_prefix("/v2/good/")) else { return false };
    let (what, name) = asked.split_once('/').expect("manifests or blobs, and which");
    let (kind, body) = match good.blobs.get(name).filter(|_| what == "blobs") {
        Some(blob) => ("application/octet-stream", blob),
        None => (MANIFEST, &good.manifest),
    };
    BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nDocker-Content-Digest: sha256:{}\r\n\
         Connection: close\r\n\r\n",
        body.len(),
        Digest::of(body)
    );
    let body: &[u8] = if head.starts_with("HEAD ") { &[] } else { body };
    let _hung_up = stream.write_all(answer.as_bytes()).and_then(|()| stream.write_all(body));
    true
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
