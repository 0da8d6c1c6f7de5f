//! Those who are told: an HTTP receiver that behaves as the test wants, and a mail server that keeps what it gets.

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, LOCATION};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// How one request is answered.
#[derive(Debug, Clone)]
pub enum Answer {
    Status(u16),
    /// Never.
    Hang,
    /// With this place to go to.
    Redirect(String),
    /// An error of so many bytes.
    Long(usize),
    /// An error with these words.
    Says(String),
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Got {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Got {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

type Behavior = Box<dyn Fn(usize) -> Answer + Send + Sync>;

/// An HTTP server on this machine. It ends with its owner.
pub struct Receiver {
    pub port: u16,
    got: Arc<Mutex<Vec<Got>>>,
    behavior: Arc<Mutex<Behavior>>,
    server: JoinHandle<()>,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Receiver {
    /// `behavior` is asked how to answer the first, second, … request.
    pub async fn start(port: u16, behavior: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Receiver {
        Receiver::start_with(port, None, behavior).await
    }

    /// The same under `https`.
    pub async fn start_with(
        port: u16,
        tls: Option<TlsAcceptor>,
        behavior: impl Fn(usize) -> Answer + Send + Sync + 'static,
    ) -> Receiver {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port is the test's own");
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let behavior: Arc<Mutex<Behavior>> = Arc::new(Mutex::new(Box::new(behavior)));
        let (kept, shared) = (got.clone(), behavior.clone());
        let server = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (got, behavior, tls) = (kept.clone(), shared.clone(), tls.clone());
                tokio::spawn(async move {
                    let service = service_fn(|request| answer(request, got.clone(), behavior.clone()));
                    let http = hyper::server::conn::http1::Builder::new();
                    match tls {
                        None => drop(http.serve_connection(TokioIo::new(stream), service).await),
                        // Who does not trust it says so and is gone.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                let _ = http.serve_connection(TokioIo::new(stream), service).await;
                            }
                        }
                    }
                });
            }
        });
        Receiver { port, got, behavior, server }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    pub fn got(&self) -> Vec<Got> {
        self.got.lock().expect("nobody panics with it").clone()
    }

    pub fn behave(&self, behavior: impl Fn(usize) -> Answer + Send + Sync + 'static) {
        *self.behavior.lock().expect("nobody panics with it") = Box::new(behavior);
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    request: Request<Incoming>,
    got: Arc<Mutex<Vec<Got>>>,
    behavior: Arc<Mutex<Behavior>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let headers = request.headers().clone();
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let number = {
        let mut got = got.lock().expect("nobody panics with it");
        got.push(Got { headers, body });
        got.len()
    };
    let wanted = behavior.lock().expect("nobody panics with it")(number);
    let response = match wanted {
        Answer::Status(status) => Response::builder().status(status).body(Full::default()),
        Answer::Hang => std::future::pending().await,
        Answer::Redirect(to) => Response::builder().status(307).header(LOCATION, to).body(Full::default()),
        Answer::Says(words) => Response::builder().status(500).body(Full::from(words)),
        Answer::Long(size_bytes) => Response::builder().status(500).body(Full::from(vec![b'a'; size_bytes])),
    };
    Ok(response.expect("a good response"))
}

/// When a mail server speaks TLS.
#[derive(Clone)]
pub enum Tls {
    Never,
    /// `smtps`
    AtOnce(TlsAcceptor),
    /// `STARTTLS`
    WhenAsked(TlsAcceptor),
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Tls::Never => "Never",
            Tls::AtOnce(_) => "AtOnce",
            Tls::WhenAsked(_) => "WhenAsked",
        })
    }
}

/// A mail server that takes everything and keeps it, as a whole conversation each.
#[derive(Debug)]
pub struct MailServer {
    pub port: u16,
    mails: Arc<Mutex<Vec<String>>>,
    server: JoinHandle<()>,
}

impl MailServer {
    pub async fn start(port: u16) -> MailServer {
        MailServer::start_with(port, Tls::Never).await
    }

    pub async fn start_with(port: u16, tls: Tls) -> MailServer {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port is the test's own");
        let mails: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = mails.clone();
        let server = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (mails, tls) = (kept.clone(), tls.clone());
                tokio::spawn(async move {
                    let taken = match tls {
                        Tls::Never => talk(Box::new(stream), &mut String::new(), None).await,
                        Tls::AtOnce(tls) => match tls.accept(stream).await {
                            Ok(stream) => talk(Box::new(stream), &mut String::new(), None).await,
                            Err(error) => Err(error),
                        },
                        Tls::WhenAsked(tls) => talk(Box::new(stream), &mut String::new(), Some(tls)).await,
                    };
                    if let Ok(mail) = taken {
                        mails.lock().expect("nobody panics with it").push(mail);
                    }
                });
            }
        });
        MailServer { port, mails, server }
    }

    pub fn mails(&self) -> Vec<String> {
        self.mails.lock().expect("nobody panics with it").clone()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A connection, with TLS or without.
trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// RFC 5321, as far as one mail needs it. Gives everything that the client said, on a line of its own where it changed to
/// TLS.
async fn talk(stream: Box<dyn Duplex>, said: &mut String, tls: Option<TlsAcceptor>) -> std::io::Result<String> {
    let mut stream = BufReader::new(stream);
    let mut in_body = false;
    if said.is_empty() {
        stream.write_all(b"220 test\r\n").await?;
    }
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let word = line.trim_end().to_owned();
        line.clear();
        said.push_str(&word);
        said.push('\n');
        let answer: &[u8] = match (in_body, word.as_str()) {
            (true, ".") => {
                in_body = false;
                b"250 taken\r\n"
            }
            (true, _) => continue,
            (false, "DATA") => {
                in_body = true;
                b"354 go on\r\n"
            }
            (false, "QUIT") => b"221 bye\r\n",
            (false, "STARTTLS") => {
                let Some(tls) = tls else { return Err(std::io::ErrorKind::Unsupported.into()) };
                stream.write_all(b"220 now\r\n").await?;
                let secret = tls.accept(stream.into_inner()).await?;
                return Box::pin(talk(Box::new(secret), said, None)).await;
            }
            (false, word) if word.starts_with("EHLO") && tls.is_some() => b"250-test\r\n250 STARTTLS\r\n",
            (false, word) if word.starts_with("EHLO") => b"250-test\r\n250 AUTH PLAIN\r\n",
            (false, word) if word.starts_with("AUTH") => b"235 good\r\n",
            (false, _) => b"250 good\r\n",
        };
        stream.write_all(answer).await?;
        if word == "QUIT" {
            break;
        }
    }
    Ok(std::mem::take(said))
}
