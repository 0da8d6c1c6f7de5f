//! A proxy in front of an S3 server that breaks requests: refused, late, answered with an error, cut half-way, or
//! carried out without a word.

use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, TRANSFER_ENCODING};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What the proxy does; `percent` of the requests are struck, the others pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// Ends every connection without an answer.
    Refuse,
    /// Answers nothing until the mode changes.
    Hang,
    Delay(Duration),
    /// Answers in the server's place.
    Answer {
        status: u16,
        percent: u64,
    },
    /// Lets half of a body through to the server and ends both connections.
    CutUploads {
        percent: u64,
    },
    /// Lets half of an answer's body through.
    CutAnswers {
        percent: u64,
    },
    /// Lets the server do its work and ends the connection without an answer.
    LoseAnswers {
        percent: u64,
    },
}

/// A proxy in front of an S3 server of this machine. Ends when dropped.
#[derive(Debug)]
pub struct S3Proxy {
    pub port: u16,
    mode: watch::Sender<Mode>,
    struck: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

#[derive(Debug, Clone)]
struct Way {
    to: u16,
    mode: watch::Receiver<Mode>,
    http: reqwest::Client,
    requests: Arc<AtomicU64>,
    struck: Arc<AtomicU64>,
}

impl S3Proxy {
    pub async fn start(to: u16) -> S3Proxy {
        let port = crate::parts::free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
        let (mode, modes) = watch::channel(Mode::Pass);
        let struck = Arc::new(AtomicU64::new(0));
        // An idle connection that its server has closed would make a fault that nobody ordered.
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
        let way = Way {
            to,
            mode: modes,
            http: http.build().expect("plain settings"),
            requests: Arc::default(),
            struck: Arc::clone(&struck),
        };
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                        let way = way.clone();
                        connections.spawn(async move {
                            let service = service_fn(move |request| way.clone().pass(request));
                            let server = hyper::server::conn::http1::Builder::new();
                            let _cut_on_purpose = server.serve_connection(TokioIo::new(stream), service).await;
                        });
                    },
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        S3Proxy { port, mode, struck, task }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Requests that were broken so far.
    pub fn struck(&self) -> u64 {
        self.struck.load(Ordering::Relaxed)
    }
}

impl Drop for S3Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn gone() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl Way {
    /// An error ends the connection without an answer.
    async fn pass(mut self, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let strikes = |percent: u64| number.wrapping_mul(37) % 100 < percent;
        let mut mode = *self.mode.borrow();
        if mode == Mode::Hang {
            self.struck.fetch_add(1, Ordering::Relaxed);
            mode = *self.mode.wait_for(|mode| *mode != Mode::Hang).await.map_err(io::Error::other)?;
        }
        let (head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let strike = |this: &Way| this.struck.fetch_add(1, Ordering::Relaxed);
        match mode {
            Mode::Refuse => {
                strike(&self);
                Err(gone())
            }
            Mode::Answer { status, percent } if strikes(percent) => {
                strike(&self);
                let text = "<Error><Code>InternalError</Code><Message>the proxy says so</Message></Error>";
                let body = Full::new(Bytes::from_static(text.as_bytes())).map_err(io::Error::other);
                Response::builder().status(status).body(body.boxed_unsync()).map_err(io::Error::other)
            }
            Mode::CutUploads { percent } if strikes(percent) && !body.is_empty() => {
                strike(&self);
                self.send_half(&head.method, &path, &head.headers, &body).await?;
                Err(gone())
            }
            Mode::LoseAnswers { percent } if strikes(percent) => {
                strike(&self);
                self.forward(head.method, &path, head.headers, body).await?;
                Err(gone())
            }
            Mode::CutAnswers { percent } if strikes(percent) => {
                strike(&self);
                let (status, headers, body) = self.forward(head.method, &path, head.headers, body).await?;
                let half = Ok(Frame::data(body.slice(..body.len() / 2)));
                let cut = StreamBody::new(stream::iter([half, Err(gone())]));
                answer(status, headers, cut.boxed_unsync())
            }
            Mode::Delay(wait) => {
                strike(&self);
                tokio::time::sleep(wait).await;
                let (status, headers, body) = self.forward(head.method, &path, head.headers, body).await?;
                answer(status, headers, Full::new(body).map_err(io::Error::other).boxed_unsync())
            }
            Mode::Pass
            | Mode::Hang
            | Mode::Answer { .. }
            | Mode::CutUploads { .. }
            | Mode::LoseAnswers { .. }
            | Mode::CutAnswers { .. } => {
                let (status, headers, body) = self.forward(head.method, &path, head.headers, body).await?;
                answer(status, headers, Full::new(body).map_err(io::Error::other).boxed_unsync())
            }
        }
    }

    /// The host in the headers stays the one that the request was signed for.
    async fn forward(
        &self,
        method: Method,
        path: &str,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> io::Result<(u16, HeaderMap, Bytes)> {
        headers.remove(TRANSFER_ENCODING);
        let url = format!("http://127.0.0.1:{}{path}", self.to);
        let request = self.http.request(method, url).headers(headers).body(body);
        let response = request.send().await.map_err(io::Error::other)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok((status, headers, response.bytes().await.map_err(io::Error::other)?))
    }

    async fn send_half(&self, method: &Method, path: &str, headers: &HeaderMap, body: &Bytes) -> io::Result<()> {
        let mut server = TcpStream::connect(("127.0.0.1", self.to)).await?;
        let mut text = format!("{method} {path} HTTP/1.1\r\n").into_bytes();
        for (name, value) in headers {
            text.extend_from_slice(name.as_str().as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"\r\n");
        text.extend_from_slice(&body[..body.len() / 2]);
        server.write_all(&text).await?;
        server.shutdown().await
    }
}

fn answer(status: u16, headers: HeaderMap, body: Body) -> io::Result<Response<Body>> {
    let mut response = Response::builder().status(status).body(body).map_err(io::Error::other)?;
    *response.headers_mut() = headers;
    response.headers_mut().remove(TRANSFER_ENCODING);
    Ok(response)
}
