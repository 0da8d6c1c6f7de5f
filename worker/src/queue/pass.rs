//! What the worker is let into NATS with, where the scheduler says who may do what there: a credential, which it gets for its join
//! token and renews while it lives. The credential is nowhere but in this process.

use super::{Error, REQUEST_WAIT, RETRY_WAIT, RETRY_WAIT_MAX, START_WAIT, options};
use crate::config::Config;
use async_nats::{Auth, Client, ConnectOptions};
use framewake_proto::chain::Chain;
use framewake_proto::ids::WorkerId;
use framewake_proto::notify::Secret;
use framewake_proto::sealed::Opener;
use framewake_proto::subjects::Subjects;
use framewake_proto::wire::{Credential, Join, JoinAnswer, Renewal};
use prost::Message;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// Between two tries to renew: a part of how long the credential is good, and this at most.
const RENEW_AGAIN_MAX: Duration = Duration::from_secs(15);
const RENEW_TRIES: u32 = 20;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Pass(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: Config,
    subjects: Subjects,
    worker: WorkerId,
    token: Secret,
    /// The same for all of this worker's life: nobody else can join in its place.
    opener: Opener,
    held: Mutex<Held>,
    /// NATS does not let it in with what it has.
    denied: Arc<Notify>,
}

#[derive(Debug, Clone)]
struct Held {
    jwt: Secret,
    since: Instant,
    lasts: Duration,
}

/// Why there is no credential.
#[derive(Debug)]
enum Failed {
    Connect(async_nats::ConnectError),
    /// For now.
    Later(String),
    Refused(String),
}

impl Pass {
    /// Joins, waiting for a NATS and a scheduler that are not there yet. `None` without a join token.
    pub(super) async fn get(config: &Config, subjects: &Subjects, worker: &WorkerId) -> Result<Option<Pass>, Error> {
        let Some(token) = config.join_token()? else { return Ok(None) };
        let held = Held { jwt: Secret::new(""), since: Instant::now(), lasts: Duration::ZERO };
        let pass = Pass(Arc::new(Shared {
            config: config.clone(),
            subjects: subjects.clone(),
            worker: worker.clone(),
            token,
            opener: Opener::make(),
            held: Mutex::new(held),
            denied: Arc::new(Notify::new()),
        }));
        let deadline = Instant::now() + START_WAIT;
        let mut wait = RETRY_WAIT;
        loop {
            let failed = match pass.join().await {
                Ok(()) => return Ok(Some(pass)),
                Err(failed) => failed,
            };
            let is_over = Instant::now() + wait > deadline;
            match failed {
                Failed::Refused(why) => return Err(Error::Refused(why)),
                Failed::Later(_) if is_over => return Err(Error::NoScheduler { farm: subjects.farm().to_string() }),
                Failed::Connect(error) if is_over => {
                    return Err(Error::Connect { url: config.nats_url.clone(), error });
                }
                Failed::Later(why) => tracing::debug!("not let in yet: {why}"),
                Failed::Connect(error) => {
                    tracing::warn!(%error, url = %config.nats_url, "NATS is not reachable yet; trying again");
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_WAIT_MAX);
        }
    }

    /// To connect with whatever credential is the newest then.
    pub(super) fn connecting(&self) -> ConnectOptions {
        let pass = self.clone();
        with_jwt(move || pass.held().jwt)
    }

    /// To be told when NATS does not let this worker in with what it has.
    pub(super) fn denied(&self) -> Arc<Notify> {
        Arc::clone(&self.0.denied)
    }

    /// Renews for as long as this is held.
    pub(super) fn keep(self, client: Client) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(tokio::spawn(self.renew_always(client)))
    }

    async fn renew_always(self, client: Client) {
        loop {
            let held = self.held();
            let is_denied = tokio::select! {
                () = tokio::time::sleep_until(held.since + held.lasts / 2) => false,
                () = self.0.denied.notified() => true,
            };
            let again = (held.lasts / RENEW_TRIES).min(RENEW_AGAIN_MAX);
            while let Err(failed) = self.renew(&client, &held, is_denied).await {
                match failed {
                    // The heartbeats are told the same, and that it should leave.
                    Failed::Refused(why) => return tracing::error!("the credential for NATS is not renewed: {why}"),
                    Failed::Later(why) => tracing::debug!("the credential for NATS is not renewed yet: {why}"),
                    Failed::Connect(error) => {
                        tracing::debug!("the credential for NATS is not renewed yet: {}", Chain(&error));
                    }
                }
                tokio::time::sleep(again).await;
            }
        }
    }

    /// With the credential, or once that is over or was taken back, with the join token.
    async fn renew(&self, client: &Client, held: &Held, is_denied: bool) -> Result<(), Failed> {
        if is_denied || held.since.elapsed() >= held.lasts {
            return self.join().await;
        }
        let Shared { subjects, worker, config, .. } = &*self.0;
        let subject = subjects.renewal(&config.function, worker);
        let asked = Instant::now();
        let answer = client.request(subject, Renewal {}.encode_to_vec().into()).await;
        let answer = answer.map_err(|error| Failed::Later(error.to_string()))?;
        self.take(&answer.payload, asked)
    }

    async fn join(&self) -> Result<(), Failed> {
        let Shared { config, subjects, worker, token, opener, .. } = &*self.0;
        let token = token.clone();
        let options = options(with_jwt(move || token.clone()), config, worker, None);
        let options = options.custom_inbox_prefix(subjects.joining_inbox());
        let client = options.connect(super::servers(config)).await.map_err(Failed::Connect)?;
        let former = self.held().jwt.reveal().to_owned();
        let invitation = config.invitation();
        let join = Join { key: opener.key().to_vec(), former, invitation };
        let subject = subjects.join(&config.function, worker);
        let asked = Instant::now();
        let answer = tokio::time::timeout(REQUEST_WAIT, client.request(subject, join.encode_to_vec().into())).await;
        let answer = answer.map_err(|_| Failed::Later("no scheduler answers".to_owned()))?;
        let answer = answer.map_err(|error| Failed::Later(error.to_string()))?;
        let answer = JoinAnswer::decode(answer.payload).map_err(|error| Failed::Later(error.to_string()))?;
        if !answer.refused.is_empty() {
            return Err(if answer.later { Failed::Later(answer.refused) } else { Failed::Refused(answer.refused) });
        }
        let credential = opener.open(&answer.credential).map_err(|error| Failed::Later(error.to_string()))?;
        self.take(&credential, asked)
    }

    fn take(&self, credential: &[u8], asked: Instant) -> Result<(), Failed> {
        let credential = Credential::decode(credential).map_err(|error| Failed::Later(error.to_string()))?;
        if !credential.refused.is_empty() {
            return Err(Failed::Refused(credential.refused));
        }
        // 0 would be a renewal without a pause.
        let lasts = Duration::from_secs(credential.lasts_s.max(1).into());
        let held = Held { jwt: Secret::new(credential.jwt), since: asked, lasts };
        *self.0.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
        Ok(())
    }

    fn held(&self) -> Held {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn with_jwt(jwt: impl Fn() -> Secret + Send + Sync + 'static) -> ConnectOptions {
    ConnectOptions::with_auth_callback(move |_| {
        let jwt = jwt();
        async move {
            let mut auth = Auth::new();
            auth.jwt = Some(jwt.reveal().to_owned());
            Ok(auth)
        }
    })
}
