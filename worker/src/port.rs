//! The worker's own port: whether it lives, whether it takes orders, what it has done; and in mode `http` the door at which
//! gateways knock to wake it. The farm hears all that it needs through heartbeats and reports.
//!
//! Three pages of text and one door don't want a web server: one request a connection, its head read to a bound, then
//! answered.

use crate::figures::Figures;
use crate::wakeups::{self, Wakeups};
use framewake_proto::ids::{FunctionKey, WorkerId};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Requests at once that are read or answered; more wait in the system's queue. Wake-ups that were let in don't count:
/// they have a bound of their own.
const REQUESTS_MAX: usize = 8;
/// Longest head of a request.
const HEAD_MAX: usize = 8 * 1024;
/// Most of a body that is taken, and thrown away: a wake-up is told all in its head.
const BODY_MAX: u64 = 1024 * 1024;
/// Longest time to read a request, or to hand over an answer, whoever is slow.
const REQUEST_WAIT: Duration = Duration::from_secs(5);
/// A port that takes no connection (too many open files) is tried again after this.
const AGAIN: Duration = Duration::from_millis(200);

/// What a port shows.
#[derive(Debug, Clone)]
pub struct Pages {
    pub worker: WorkerId,
    pub function: FunctionKey,
    pub figures: Figures,
    /// Where wake-ups go; without it there is no door for them.
    pub wakeups: Option<Wakeups>,
}

/// The port, open until it is dropped.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Port {
    pub async fn open(address: SocketAddr, pages: Pages) -> io::Result<Port> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Port { address, task: tokio::spawn(listen(listener, Arc::new(pages))) })
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

async fn listen(listener: TcpListener, pages: Arc<Pages>) {
    let room = Arc::new(Semaphore::new(REQUESTS_MAX));
    loop {
        let pass = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((mut stream, _)) => {
                let pages = Arc::clone(&pages);
                tokio::spawn(async move {
                    let Ok(Ok(Some(head))) = timeout(REQUEST_WAIT, read_head(&mut stream)).await else { return };
                    let request = Request::of(&head);
                    let answer = match &pages.wakeups {
                        Some(wakeups) if request.method == "POST" && !request.path.starts_with("/_/") => {
                            drop(pass);
                            wake(wakeups, &request).await
                        }
                        _ => page(&request, &pages),
                    };
                    let _hung_up = timeout(REQUEST_WAIT, tell(stream, &request, answer)).await;
                });
            }
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// The head of a request with its end; `None` if there is none within the bound.
async fn read_head(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() >= HEAD_MAX || stream.read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

struct Request<'a> {
    method: &'a str,
    path: &'a str,
    head: &'a str,
}

impl Request<'_> {
    fn of(head: &str) -> Request<'_> {
        let mut words = head.split([' ', '\r']);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        Request { method, path: path.split('?').next().unwrap_or_default(), head }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.split("\r\n").skip(1).take_while(|line| !line.is_empty());
        let mut pairs = lines.filter_map(|line| line.split_once(':'));
        pairs.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

struct Answer {
    status: &'static str,
    kind: &'static str,
    body: String,
}

impl Answer {
    fn text(status: &'static str, text: &str) -> Answer {
        // Prometheus' own type, which is plain text for everybody else.
        Answer { status, kind: "text/plain; version=0.0.4", body: format!("{text}\n") }
    }
}

async fn wake(wakeups: &Wakeups, request: &Request<'_>) -> Answer {
    let asked = wakeups::Asked::read(|name| request.header(name));
    let answered = match asked {
        Ok(asked) => wakeups.wake(asked).await,
        Err(fault) => Err(wakeups::Refused::Malformed(fault)),
    };
    let (status, body) = match answered {
        Ok(summary) => ("200 OK", serde_json::to_string(&summary).expect("a summary can be written as JSON")),
        Err(refused) => (refused.status(), serde_json::json!({ "error": refused.to_string() }).to_string()),
    };
    Answer { status, kind: "application/json", body: format!("{body}\n") }
}

fn page(request: &Request<'_>, pages: &Pages) -> Answer {
    match (request.method, request.path) {
        ("GET" | "HEAD", "/_/health" | "/healthz") => Answer::text("200 OK", "ok"),
        ("GET" | "HEAD", "/_/ready") => ready(pages),
        ("GET" | "HEAD", "/metrics") => {
            Answer { body: pages.figures.text(&pages.worker, &pages.function), ..Answer::text("200 OK", "") }
        }
        ("GET" | "HEAD", _) => Answer::text("404 Not Found", "there are /metrics, /_/health, /healthz and /_/ready"),
        _ => Answer::text("405 Method Not Allowed", "GET or HEAD"),
    }
}

fn ready(pages: &Pages) -> Answer {
    let is_ready = match &pages.wakeups {
        Some(wakeups) if wakeups.is_full() => return Answer::text("429 Too Many Requests", "has all it can take"),
        Some(_) => !pages.figures.is_leaving(),
        None => pages.figures.is_ready(),
    };
    if is_ready { Answer::text("200 OK", "ready") } else { Answer::text("503 Service Unavailable", "takes no orders") }
}

async fn tell(mut stream: TcpStream, request: &Request<'_>, answer: Answer) -> io::Result<()> {
    let Answer { status, kind, body } = answer;
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    if request.method != "HEAD" {
        stream.write_all(body.as_bytes()).await?;
    }
    stream.shutdown().await?;
    // A connection that is closed with something unread takes the answer with it.
    tokio::io::copy(&mut stream.take(BODY_MAX), &mut tokio::io::sink()).await.map(drop)
}

#[cfg(test)]
mod tests;
