//! The sockets: how many, how slow, and how they end. `axum::serve` sets no such limits.

use super::{App, local_router, router};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, warn};

/// Connections open at once; the next one waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 4096;
/// Longest time for a request's head, and longest pause between two requests of one connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// A client that takes no byte for this long is gone or means harm.
const WRITE_STALL_MAX: Duration = Duration::from_secs(30);
/// Largest head of a request.
const HEAD_SIZE_MAX: usize = 64 * 1024;
/// How long open requests may take once the scheduler stops.
const GOODBYE: Duration = Duration::from_secs(10);
/// How often unfinished uploads are looked through.
const SWEEP_EVERY: Duration = Duration::from_mins(10);
/// Pause after a socket could not be accepted: out of file descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is canceled, then lets open requests finish.
pub async fn serve(listener: TcpListener, app: Arc<App>, shutdown: CancellationToken) -> io::Result<()> {
    let local = listener.local_addr()?.ip().is_loopback();
    let router = if local { local_router(app.clone()) } else { router(app.clone()) };
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let open = TaskTracker::new();
    let goodbye = CancellationToken::new();
    tokio::spawn(sweep(app.clone(), shutdown.clone()));
    loop {
        let accept = async {
            let permit = connections.clone().acquire_owned().await.expect("the semaphore is never closed");
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accept => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((socket, _)) => {
                let serving = connection(socket, router.clone(), goodbye.clone());
                open.spawn(async move {
                    serving.await;
                    drop(permit);
                });
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

async fn connection(socket: TcpStream, router: Router, goodbye: CancellationToken) {
    // Answers are small and waited for.
    let _ = socket.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| router.clone().oneshot(request.map(Body::new)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_SIZE_MAX)
        .serve_connection(TokioIo::new(Unstalled::new(socket)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = goodbye.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!("a connection broke: {error}");
    }
}

/// A socket whose writes fail when the other side takes nothing for too long.
struct Unstalled {
    socket: TcpStream,
    /// When the write that waits is given up.
    deadline: Pin<Box<Sleep>>,
    waiting: bool,
}

impl Unstalled {
    fn new(socket: TcpStream) -> Unstalled {
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

impl AsyncRead for Unstalled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Unstalled {
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
