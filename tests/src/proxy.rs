//! Proxies that stand between the parts of a farm and break what passes through: this one knows bytes, and serves
//! for NATS and REST; [`s3`] and [`rest`] know requests.

pub mod rest;
pub mod s3;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Bytes carried at once.
const PIECE: usize = 16 * 1024;

/// What a proxy does to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// Ends connections at once, those there are and new ones.
    Refuse,
    /// Keeps connections and carries nothing, as a network does that drops packets. What was sent arrives later.
    Hang,
    Slow {
        bytes_per_s: u64,
    },
    /// Ends a connection after this many further bytes.
    Cut {
        after: u64,
    },
}

/// A mode, and for how many of a hundred connections it holds; the others pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    mode: Mode,
    percent: u64,
}

impl Rule {
    fn of(self, connection: u64) -> Mode {
        // A multiplier without a factor in common with 100 spreads neighbors.
        let struck = connection.wrapping_mul(37) % 100 < self.percent;
        if struck { self.mode } else { Mode::Pass }
    }
}

/// A proxy in front of a port of this machine. Ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    pub port: u16,
    rule: watch::Sender<Rule>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(to: u16) -> Proxy {
        let port = crate::parts::free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
        let (rule, rules) = watch::channel(Rule { mode: Mode::Pass, percent: 100 });
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            let mut number = 0;
            loop {
                tokio::select! {
                    accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                        number += 1;
                        connections.spawn(carry(stream, to, Way { rules: rules.clone(), connection: number }));
                    },
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Proxy { port, rule, task }
    }

    pub fn set(&self, mode: Mode) {
        self.set_for(mode, 100);
    }

    /// The mode for this many of a hundred connections.
    pub fn set_for(&self, mode: Mode, percent: u64) {
        self.rule.send_replace(Rule { mode, percent });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection's view of the rule.
#[derive(Debug, Clone)]
struct Way {
    rules: watch::Receiver<Rule>,
    connection: u64,
}

impl Way {
    /// The mode, once it is not to hang.
    async fn open(&mut self) -> io::Result<Mode> {
        let connection = self.connection;
        let open = self.rules.wait_for(|rule| rule.of(connection) != Mode::Hang).await;
        match open.map(|rule| rule.of(connection)) {
            Ok(Mode::Refuse) | Err(_) => Err(io::ErrorKind::ConnectionReset.into()),
            Ok(mode) => Ok(mode),
        }
    }
}

async fn carry(client: TcpStream, to: u16, mut way: Way) -> io::Result<()> {
    let _ = client.set_nodelay(true);
    way.open().await?;
    let server = TcpStream::connect(("127.0.0.1", to)).await?;
    let _ = server.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let carried = Arc::new(AtomicU64::new(0));
    tokio::select! {
        done = pump(from_client, to_server, way.clone(), Arc::clone(&carried)) => done,
        done = pump(from_server, to_client, way, carried) => done,
    }
}

/// Carries one direction until it ends. `carried`: bytes of both directions since the rule changed.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut way: Way,
    carried: Arc<AtomicU64>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let count = tokio::select! {
            count = from.read(&mut piece) => count?,
            changed = way.rules.changed() => {
                changed.map_err(io::Error::other)?;
                carried.store(0, Ordering::Relaxed);
                way.open().await?;
                continue;
            }
        };
        if count == 0 {
            return Ok(());
        }
        let mut length = count;
        let mode = way.open().await?;
        if let Mode::Slow { bytes_per_s } = mode {
            tokio::time::sleep(Duration::from_secs_f64(count as f64 / bytes_per_s as f64)).await;
            way.open().await?;
        }
        let before = carried.fetch_add(count as u64, Ordering::Relaxed);
        if let Mode::Cut { after } = mode {
            length = length.min(usize::try_from(after.saturating_sub(before)).unwrap_or(usize::MAX));
        }
        to.write_all(&piece[..length]).await?;
        if length < count {
            return Ok(());
        }
    }
}
