//! The worker's own port, for who looks into one worker: whether it lives, whether it takes orders, what it has done. Off
//! unless asked for; the farm hears all that it needs through heartbeats and reports.
//!
//! Three pages of text don't want a web server: one request a connection, its head read to a bound, then answered.

use framewake_proto::ids::{FunctionKey, WorkerId};
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// Requests at once; more wait in the system's queue.
const REQUESTS_MAX: usize = 8;
/// Longest head of a request.
const HEAD_MAX: usize = 8 * 1024;
/// Longest time of a request, whoever is slow.
const REQUEST_WAIT: Duration = Duration::from_secs(5);
/// A port that takes no connection (too many open files) is tried again after this.
const AGAIN: Duration = Duration::from_millis(200);

/// What a worker counts. Handles are the same figures.
#[derive(Debug, Clone, Default)]
pub struct Figures(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    ready: AtomicBool,
    working: AtomicBool,
    done: AtomicU64,
    failed: AtomicU64,
    done_ms: AtomicU64,
    attempts: AtomicU64,
    answered_at: Mutex<Option<Instant>>,
}

impl Figures {
    /// Whether it takes orders.
    pub fn set_ready(&self, ready: bool) {
        self.0.ready.store(ready, Ordering::Relaxed);
    }

    pub fn begin_attempt(&self) {
        self.0.working.store(true, Ordering::Relaxed);
        self.0.attempts.fetch_add(1, Ordering::Relaxed);
    }

    pub fn end_attempt(&self) {
        self.0.working.store(false, Ordering::Relaxed);
    }

    pub fn done(&self, elapsed_ms: u32) {
        self.0.done.fetch_add(1, Ordering::Relaxed);
        self.0.done_ms.fetch_add(elapsed_ms.into(), Ordering::Relaxed);
    }

    pub fn failed(&self) {
        self.0.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// The scheduler answered a heartbeat.
    pub fn answered(&self) {
        *self.0.answered_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Relaxed)
    }

    fn text(&self, worker: &WorkerId, function: &FunctionKey) -> String {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let flag = |of: &AtomicBool| u8::from(of.load(Ordering::Relaxed));
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(&str, String)]| {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        // Ids and names have no letters that would have to be escaped.
        let version = env!("CARGO_PKG_VERSION");
        let who = format!("{{worker=\"{worker}\",function=\"{}\",version=\"{version}\"}}", function.name);
        family("framewake_worker_info", "gauge", "Who this is.", &[(&who, "1".to_owned())]);
        let tasks = [
            ("{result=\"done\"}", count(&self.0.done).to_string()),
            ("{result=\"failed\"}", count(&self.0.failed).to_string()),
        ];
        family("framewake_worker_tasks_total", "counter", "Tries at tasks.", &tasks);
        let seconds = count(&self.0.done_ms) as f64 / 1000.0;
        let one = |value: String| [("", value)];
        family("framewake_worker_task_seconds_total", "counter", "Time of tasks done.", &one(seconds.to_string()));
        let attempts = count(&self.0.attempts).to_string();
        family("framewake_worker_attempts_total", "counter", "Chunks worked on.", &one(attempts));
        let (ready, working) = (flag(&self.0.ready).to_string(), flag(&self.0.working).to_string());
        family("framewake_worker_ready", "gauge", "1 while it takes orders.", &one(ready));
        family("framewake_worker_working", "gauge", "1 while it holds a chunk.", &one(working));
        let answered_at = *self.0.answered_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = answered_at {
            let age = at.elapsed().as_secs_f64().to_string();
            family("framewake_worker_heartbeat_age_seconds", "gauge", "Since a heartbeat was answered.", &one(age));
        }
        text
    }
}

/// The port, open until it is dropped.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Port {
    pub async fn open(
        address: SocketAddr,
        worker: WorkerId,
        function: FunctionKey,
        figures: Figures,
    ) -> io::Result<Port> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let pages = Arc::new(Pages { worker, function, figures });
        Ok(Port { address, task: tokio::spawn(listen(listener, pages)) })
    }

    /// Where it is, also when any free port was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Pages {
    worker: WorkerId,
    function: FunctionKey,
    figures: Figures,
}

async fn listen(listener: TcpListener, pages: Arc<Pages>) {
    let room = Arc::new(Semaphore::new(REQUESTS_MAX));
    loop {
        let pass = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let pages = Arc::clone(&pages);
                tokio::spawn(async move {
                    let _hung_up = timeout(REQUEST_WAIT, answer(stream, &pages)).await;
                    drop(pass);
                });
            }
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

async fn answer(mut stream: TcpStream, pages: &Pages) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() >= HEAD_MAX {
            return Ok(());
        }
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let line = String::from_utf8_lossy(&head);
    let mut words = line.split([' ', '\r']);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, body) = page(method, path, pages);
    // Prometheus' own type, which is plain text for everybody else.
    let kind = "text/plain; version=0.0.4";
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    if method != "HEAD" {
        stream.write_all(body.as_bytes()).await?;
    }
    stream.shutdown().await
}

fn page(method: &str, path: &str, pages: &Pages) -> (&'static str, String) {
    let said = |status, text: &str| (status, format!("{text}\n"));
    match (method, path.split('?').next().unwrap_or_default()) {
        ("GET" | "HEAD", "/_/health") => said("200 OK", "ok"),
        ("GET" | "HEAD", "/_/ready") if pages.figures.is_ready() => said("200 OK", "ready"),
        ("GET" | "HEAD", "/_/ready") => said("503 Service Unavailable", "takes no orders"),
        ("GET" | "HEAD", "/metrics") => ("200 OK", pages.figures.text(&pages.worker, &pages.function)),
        ("GET" | "HEAD", _) => said("404 Not Found", "there are /metrics, /_/health and /_/ready"),
        _ => said("405 Method Not Allowed", "GET or HEAD"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(request).await.expect("it reads");
        let mut answer = Vec::new();
        let _cut_off = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).expect("text")
    }

    async fn open(figures: &Figures) -> Port {
        let any = "127.0.0.1:0".parse().expect("an address");
        let (worker, function) = ("w1".parse().expect("an id"), "paint@2".parse().expect("a key"));
        Port::open(any, worker, function, figures.clone()).await.expect("a free port")
    }

    #[tokio::test]
    async fn it_is_ready_while_it_takes_orders_and_alive_all_the_time() {
        let figures = Figures::default();
        let port = open(&figures).await;
        for (ready, status) in [(false, "503"), (true, "200"), (false, "503")] {
            figures.set_ready(ready);
            assert!(
                ask(port.address(), b"GET /_/ready HTTP/1.1\r\n\r\n").await.starts_with(&format!("HTTP/1.1 {status} "))
            );
            assert!(ask(port.address(), b"GET /_/health HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
        }
    }

    #[tokio::test]
    async fn what_it_did_is_counted() {
        let figures = Figures::default();
        let port = open(&figures).await;
        figures.begin_attempt();
        figures.done(1500);
        figures.done(250);
        figures.failed();
        figures.answered();
        let text = ask(port.address(), b"GET /metrics?x=1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
        for line in [
            "framewake_worker_info{worker=\"w1\",function=\"paint\",version=",
            "framewake_worker_tasks_total{result=\"done\"} 2\n",
            "framewake_worker_tasks_total{result=\"failed\"} 1\n",
            "framewake_worker_task_seconds_total 1.75\n",
            "framewake_worker_working 1\n",
            "framewake_worker_heartbeat_age_seconds ",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[tokio::test]
    async fn strange_requests_are_refused_and_harm_nobody() {
        let port = open(&Figures::default()).await;
        for (request, begin) in [
            (&b"POST /metrics HTTP/1.1\r\n\r\n"[..], "HTTP/1.1 405 "),
            (b"GET /etc/passwd HTTP/1.1\r\n\r\n", "HTTP/1.1 404 "),
            (b"\r\n\r\n", "HTTP/1.1 405 "),
            (b"\xff\xfe \x00\r\n\r\n", "HTTP/1.1 405 "),
        ] {
            assert!(ask(port.address(), request).await.starts_with(begin), "{request:?}");
        }
        assert_eq!(ask(port.address(), &vec![b'x'; 2 * HEAD_MAX]).await, "", "a head without an end");
        // Silent ones hold no place for longer than a request may take, and do not keep others from theirs.
        let mut silent = Vec::new();
        for _ in 0..REQUESTS_MAX - 1 {
            silent.push(TcpStream::connect(port.address()).await.expect("it listens"));
        }
        assert!(ask(port.address(), b"HEAD /_/health HTTP/1.1\r\n\r\n").await.ends_with("\r\n\r\n"));
    }
}
