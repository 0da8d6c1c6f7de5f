//! The sockets: how many, how slow, and how they end. `axum::serve` sets no such limits.

use super::problem::{self, Code, Refusal};
use super::shares::{Class, Peer};
use super::{App, Speech, named_router, router};
use crate::store::AccessWrite;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use axum::response::Response;
use framewake_proto::time::Timestamp;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, warn};
use ulid::Ulid;

/// Files this process wants to have open: a connection is one. Not more: programs it starts inherit the number, and some
/// walk through all of them.
const FILES_WANTED: u64 = 16_384;
/// Connections that are being told that there are too many; past it they are closed without a word.
const REFUSED_AT_ONCE: usize = 64;
/// How long one that is refused may take to hear it.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time for a request's head, and longest pause between two requests of one connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// A client that takes no byte for this long is gone or means harm.
const WRITE_STALL_MAX: Duration = Duration::from_secs(30);
/// Largest head of a request.
const HEAD_SIZE_MAX: usize = 64 * 1024;
/// The same where one connection carries several requests.
const GRPC_HEAD_SIZE_MAX: u32 = 16 * 1024;
/// Requests of one connection at once, where it can carry several; KEDA has one connection, and a stream for each `ScaledJob`.
const REQUESTS_MAX: u32 = 512;
/// A client of such a connection that is gone without a word is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long open requests may take once the scheduler stops.
const GOODBYE: Duration = Duration::from_secs(10);
/// How often unfinished uploads are looked through.
const SWEEP_EVERY: Duration = Duration::from_mins(10);
/// The first byte of a connection by TLS.
const TLS_HANDSHAKE: u8 = 22;
/// How often it is looked which tokens and sessions were used.
const USES_EVERY: Duration = Duration::from_mins(1);
/// Pause after a socket could not be accepted: out of file descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is canceled, then lets open requests finish.
pub async fn serve(listener: TcpListener, app: Arc<App>, shutdown: CancellationToken) -> io::Result<()> {
    // Whoever must show a token may come by any name: a page that had its name point here has none.
    let router = if app.access.asks() { router(app.clone()) } else { named_router(app.clone()) };
    tokio::spawn(sweep(app.clone(), shutdown.clone()));
    tokio::spawn(note_uses(app.clone(), shutdown.clone()));
    // Every address shows the same one.
    if let Some(certificate) = &app.certificate {
        tokio::spawn(certificate.clone().keep(shutdown.clone()));
    }
    serve_router(listener, app, router, Speech::Http, shutdown).await
}

/// The same for another interface to the farm, within the same bounds and by the same certificate.
pub(crate) async fn serve_router(
    listener: TcpListener,
    app: Arc<App>,
    router: Router,
    speech: Speech,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let certificate = app.certificate.clone();
    let refused = Arc::new(Semaphore::new(REFUSED_AT_ONCE));
    let open = TaskTracker::new();
    let goodbye = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((mut socket, address)) => {
                let peer = Peer::from(address.ip());
                match app.shares.enter(Class::Connection, peer) {
                    Ok(pass) => {
                        let acceptor = certificate.as_ref().map(|certificate| certificate.acceptor(speech));
                        let speaking = Speaking { speech, peer, router: router.clone(), goodbye: goodbye.clone() };
                        let serving = speaking.connection(socket, acceptor);
                        open.spawn(async move {
                            serving.await;
                            drop(pass);
                        });
                    }
                    Err(refusal) => {
                        app.metrics.parts.problems.with_label_values(&[refusal.code().as_str()]).inc();
                        // By TLS it would take a handshake to say it.
                        if certificate.is_none()
                            && let Ok(turn) = refused.clone().try_acquire_owned()
                        {
                            tokio::spawn(async move {
                                let _ = timeout(REFUSAL_TIMEOUT, refuse(&mut socket, &problem::plain(refusal))).await;
                                drop(turn);
                            });
                        }
                    }
                }
            }
            Err(error) => {
                warn!("can't accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    app.closing.cancel();
    goodbye.cancel();
    open.close();
    if timeout(GOODBYE, open.wait()).await.is_err() {
        warn!("{} connections are cut: their requests took longer than {} s", open.len(), GOODBYE.as_secs());
    }
    Ok(())
}

/// Drops uploads that nobody goes on with.
#[allow(clippy::disallowed_methods)] // It is compared with the times of files.
async fn sweep(app: Arc<App>, shutdown: CancellationToken) {
    let mut tick = tokio::time::interval(SWEEP_EVERY);
    while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
        let app = app.clone();
        let _ = tokio::task::spawn_blocking(move || app.uploads.expire(std::time::SystemTime::now())).await;
    }
}

/// Writes down now and then when tokens and sessions were used last.
async fn note_uses(app: Arc<App>, shutdown: CancellationToken) {
    let mut tick = tokio::time::interval(USES_EVERY);
    while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
        let used = app.access.tokens.used();
        let sessions = app.access.sessions.used(Timestamp::now());
        if !used.is_empty() || !sessions.is_empty() {
            let writes = vec![AccessWrite::TokensUsed(used), AccessWrite::SessionsUsed(sessions)];
            app.handle.tell_access(writes).await;
        }
    }
}

/// How many files the system lets this process have open, after asking it for as many as are wanted.
pub(super) fn files_max() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(FILES_WANTED, |most| most.min(FILES_WANTED));
    let mut current = limit.current.unwrap_or(FILES_WANTED);
    if current < wanted && setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).is_ok() {
        current = wanted;
    }
    usize::try_from(current).unwrap_or(usize::MAX)
}

/// Answers without having read what is asked: there is no room for that.
async fn refuse(socket: &mut TcpStream, answer: &str) -> io::Result<()> {
    socket.write_all(answer.as_bytes()).await?;
    socket.shutdown().await?;
    // Closed with something unread, the connection would be reset, and the answer lost on its way.
    let mut dropped = [0; 4096];
    while socket.read(&mut dropped).await? > 0 {}
    Ok(())
}

/// One connection.
struct Speaking {
    speech: Speech,
    peer: Peer,
    router: Router,
    goodbye: CancellationToken,
}

impl Speaking {
    /// By TLS, where there is a certificate.
    async fn connection(self, socket: TcpStream, acceptor: Option<TlsAcceptor>) {
        // Answers are small and waited for.
        let _ = socket.set_nodelay(true);
        let Some(acceptor) = acceptor else { return self.speak(socket).await };
        let greeted = timeout(HEAD_TIMEOUT, async {
            let mut first = [0];
            let read = socket.peek(&mut first).await?;
            if read == 1 && first[0] != TLS_HANDSHAKE {
                let mut socket = socket;
                let hint = match self.speech {
                    Speech::Http => "write it with `https://`",
                    Speech::Grpc => "have the client speak TLS: KEDA's trigger needs `enableTLS: \"true\"`",
                };
                let said = Refusal::new(Code::InvalidQuery, "this address speaks TLS").hint(hint);
                return refuse(&mut socket, &problem::plain(said)).await.map(|()| None);
            }
            acceptor.accept(socket).await.map(Some)
        });
        match tokio::select! { greeted = greeted => greeted, () = self.goodbye.cancelled() => return } {
            Ok(Ok(Some(socket))) => self.speak(socket).await,
            Ok(Ok(None)) => {}
            Ok(Err(error)) => debug!("a connection did not come to TLS: {error}"),
            Err(_) => debug!("a connection did not come to TLS in time"),
        }
    }

    async fn speak<S>(self, socket: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Speaking { speech, peer, router, goodbye } = self;
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            let router = (!is_ambiguous(request.headers())).then(|| router.clone());
            async move {
                match router {
                    Some(router) => router.oneshot(request.map(Body::new)).await,
                    None => Ok(ambiguous()),
                }
            }
        });
        let socket = TokioIo::new(Unstalled::new(socket));
        let ended = match speech {
            Speech::Http => {
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIMEOUT)
                    .max_buf_size(HEAD_SIZE_MAX)
                    .serve_connection(socket, service);
                attend(connection, http1::Connection::graceful_shutdown, &goodbye).await
            }
            Speech::Grpc => {
                let connection = http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .keep_alive_interval(KEEP_ALIVE)
                    .max_concurrent_streams(REQUESTS_MAX)
                    .max_header_list_size(GRPC_HEAD_SIZE_MAX)
                    .serve_connection(socket, service);
                attend(connection, http2::Connection::graceful_shutdown, &goodbye).await
            }
        };
        if let Err(error) = ended {
            debug!("a connection broke: {error}");
        }
    }
}

/// Serves a connection to its end. Once it is time to go, what was begun on it is finished and nothing more is.
async fn attend<C: Future>(connection: C, wind_up: impl FnOnce(Pin<&mut C>), goodbye: &CancellationToken) -> C::Output {
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = goodbye.cancelled() => {
            wind_up(connection.as_mut());
            connection.await
        }
    }
}

/// Whether another reader, as a proxy before us, may see the end of the request elsewhere: what it takes for a body we would carry
/// out. A length beside pieces hyper takes away if it comes first, and then ends the connection itself.
fn is_ambiguous(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(first) = codings.next() else { return false };
    let is_plain = first.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
    !is_plain || headers.contains_key(CONTENT_LENGTH)
}

fn ambiguous() -> Response {
    let refusal = Refusal::new(Code::InvalidQuery, "the request says in several ways where it ends");
    let mut response = problem::finish(refusal, &Ulid::generate().to_string());
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A socket whose writes fail when the other side takes nothing for too long.
struct Unstalled<S> {
    socket: S,
    /// When the write that waits is given up.
    deadline: Pin<Box<Sleep>>,
    waiting: bool,
}

impl<S> Unstalled<S> {
    fn new(socket: S) -> Unstalled<S> {
        Unstalled { socket, deadline: Box::pin(sleep_until(Instant::now() + WRITE_STALL_MAX)), waiting: false }
    }

    fn bounded<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = false;
            return polled;
        }
        if !self.waiting {
            self.waiting = true;
            self.deadline.as_mut().reset(Instant::now() + WRITE_STALL_MAX);
        }
        ready!(self.deadline.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unstalled<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unstalled<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.bounded(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.bounded(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.socket).poll_flush(context);
        self.bounded(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.socket).poll_shutdown(context);
        self.bounded(context, polled)
    }
}
