//! TLS with a certificate out of files, which somebody renews while the scheduler runs: what is on disk is taken without a
//! restart, and what can't be used is said and leaves the old one in its place.

use anyhow::{Context as _, Result};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often it is looked whether the files have changed.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What is spoken at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speech {
    Http,
    /// Over HTTP/2, which clients that speak TLS want to be told.
    Grpc,
}

/// A certificate, as it is shown where each is spoken.
#[derive(Debug)]
struct Shown {
    http: Arc<ServerConfig>,
    grpc: Arc<ServerConfig>,
}

/// Of each file: when it was written, and its size.
type Stamp = [Option<(SystemTime, u64)>; 2];

/// A certificate with its key, as they are in their files.
#[derive(Debug)]
pub(crate) struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    now: RwLock<Shown>,
}

impl Certificate {
    /// As it is now; what is wrong with it ends the start.
    pub(crate) fn open(chain: PathBuf, key: PathBuf) -> Result<Certificate> {
        let now = RwLock::new(read(&chain, &key)?);
        Ok(Certificate { chain, key, now })
    }

    /// For the next connection.
    pub(crate) fn acceptor(&self, speech: Speech) -> TlsAcceptor {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(match speech {
            Speech::Http => now.http.clone(),
            Speech::Grpc => now.grpc.clone(),
        })
    }

    /// Takes what is renewed, until `shutdown`.
    pub(crate) async fn keep(self: Arc<Self>, shutdown: CancellationToken) {
        // Read before the loop begins: it may have changed since.
        let mut seen: Stamp = [None, None];
        let mut tick = tokio::time::interval(LOOK_EVERY);
        while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
            let stamp = [stamp(&self.chain), stamp(&self.key)];
            if stamp == seen {
                continue;
            }
            let first = seen == [None, None];
            seen = stamp;
            match read(&self.chain, &self.key) {
                Ok(shown) => {
                    *self.now.write().unwrap_or_else(PoisonError::into_inner) = shown;
                    if !first {
                        info!("the certificate in `{}` is taken", self.chain.display());
                    }
                }
                // Often one of the two files is new and the other not yet.
                Err(error) => {
                    warn!("{error:#}: the certificate of before goes on; the files are read again when they change");
                }
            }
        }
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.modified().ok()?, file.len()))
}

/// The certificates of a file, the scheduler's own first, and the key of another.
fn read(chain: &Path, key: &Path) -> Result<Shown> {
    let named = |path: &Path| format!("`{}` is no use as a certificate or key", path.display());
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| named(chain))?;
    anyhow::ensure!(!certificates.is_empty(), "`{}` has no certificate in it (PEM)", chain.display());
    let private = PrivateKeyDer::from_pem_file(key).with_context(|| named(key))?;
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, private).with_context(|| {
            format!("the key in `{}` is not that of the certificate in `{}`", key.display(), chain.display())
        })?;
    let speaking = |protocol: &[u8]| {
        let mut config = config.clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    };
    Ok(Shown { http: speaking(b"http/1.1"), grpc: speaking(b"h2") })
}
