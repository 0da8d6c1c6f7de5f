//! The REST interface under `/v1`: checks what comes in, asks the engine for changes and the store for views.
//!
//! Decides nothing about jobs: what a request means is the engine's and the core's.

mod attempts;
mod audit;
mod body;
mod border;
mod budgets;
mod cors;
mod costs;
mod door;
mod estimates;
mod events;
mod faults;
mod feeds;
mod functions;
mod gpus;
mod guard;
mod health;
mod inputs;
mod jobs;
mod logs;
mod narrow;
mod notifications;
mod oidc;
mod openapi;
mod outputs;
mod overview;
mod pictures;
mod places;
mod problem;
mod projects;
mod query;
mod schedules;
mod schema;
mod server;
mod session;
mod sessions;
mod shares;
mod tasks;
#[cfg(test)]
mod tests;
mod tls;
mod tokens;
mod workers;

pub(crate) use body::read as read_body;
pub use border::UrlsAllowed;
pub(crate) use border::store_away;
pub(crate) use events::{StreamPermit, stream_permit};
pub(crate) use guard::{RequestId, cross_origin, known_method, panicked};
pub use inputs::{UploadLimits, Uploads};
pub(crate) use jobs::refused;
pub(crate) use logs::AttemptLog;
pub use openapi::{function_schema, job_schema, openapi, schedule_schema};
pub(crate) use outputs::media_type;
pub(crate) use problem::{Answer, Code, Refusal, refusal_of};
pub(crate) use query::Query;
pub use server::serve;
pub(crate) use server::serve_router;
pub(crate) use shares::{Class, Pass, Peer, peer_of};
pub(crate) use tls::{Certificate, Speech};

use crate::access::{self, Access, CookieNames, HostName, Origin};
use crate::engine::handle::Handle;
use crate::metrics::Metrics;
use crate::notify::Ways;
use crate::objects::Objects;
use crate::queue::Queue;
use crate::store::read::Reader;
use axum::Router;
use axum::middleware::from_fn_with_state;
use shares::Shares;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::csrf::CsrfLayer;

/// How often tokens are looked for that were made on the machine itself, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Everything a request may need.
#[derive(Debug)]
pub struct App {
    pub handle: Handle,
    pub reader: Reader,
    pub objects: Objects,
    pub uploads: Uploads,
    pub metrics: Arc<Metrics>,
    pub urls: UrlsAllowed,
    /// For logs of attempts that run; without it there are only those in the store.
    pub logs: Option<Queue>,
    pub ways: Arc<Ways>,
    pub(crate) access: Access,
    /// With which clients speak TLS with this process.
    certificate: Option<Arc<Certificate>>,
    /// Origins whose pages may ask, with a token.
    origins: Vec<Origin>,
    pub(crate) cookies: CookieNames,
    /// Names under which is answered whoever is asked for no token.
    names: Vec<HostName>,
    inputs: border::KnownInputs,
    probe: health::LastProbe,
    shares: Shares,
    feeds: feeds::Feeds,
    glances: overview::Glances,
    /// Ends streams, so that the scheduler can stop.
    closing: CancellationToken,
}

impl App {
    pub fn new(
        handle: Handle,
        reader: Reader,
        objects: Objects,
        uploads: Uploads,
        metrics: Arc<Metrics>,
        urls: UrlsAllowed,
        ways: Arc<Ways>,
    ) -> App {
        App {
            handle,
            reader,
            objects,
            uploads,
            metrics,
            urls,
            logs: ways.queue().cloned(),
            ways,
            access: Access::default(),
            certificate: None,
            origins: Vec::new(),
            cookies: CookieNames::of(""),
            names: Vec::new(),
            inputs: border::KnownInputs::default(),
            probe: health::LastProbe::default(),
            feeds: feeds::Feeds::default(),
            glances: overview::Glances::default(),
            shares: Shares::new(server::files_max()),
            closing: CancellationToken::new(),
        }
    }

    /// With somebody at the door.
    pub(crate) fn with_access(mut self, access: Access) -> App {
        self.access = access;
        self
    }

    /// To be spoken to by TLS.
    pub(crate) fn with_certificate(mut self, certificate: Option<Arc<Certificate>>) -> App {
        self.certificate = certificate;
        self
    }

    /// `https` where clients must speak TLS.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.certificate.is_some() { "https" } else { "http" }
    }

    /// Pages of these origins may ask.
    pub(crate) fn with_origins(mut self, origins: Vec<Origin>) -> App {
        self.origins = origins;
        self
    }

    /// With cookies of its own.
    pub(crate) fn of_farm(mut self, id: &str) -> App {
        self.cookies = CookieNames::of(id);
        self
    }

    /// To be reached by these names too, where nobody is asked for a token.
    pub(crate) fn with_names(mut self, names: Vec<HostName>) -> App {
        self.names = names;
        self
    }

    /// Looks for tokens that were made on the machine itself, at most once in a while: true if there may be new ones. What
    /// doesn't look like a token is not looked for.
    async fn look_for_tokens(&self, text: &str) -> bool {
        if !access::is_token(text) {
            return false;
        }
        let mut looked = self.access.changing.lock().await;
        if looked.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return false;
        }
        *looked = Some(Instant::now());
        let Ok(tokens) = self.reader.tokens().await else { return false };
        for token in tokens {
            self.access.tokens.insert(token);
        }
        true
    }

    /// One more of this class for this client, until the pass is dropped.
    pub(crate) fn enter(&self, class: Class, peer: Peer) -> Answer<Pass> {
        self.shares.enter(class, peer)
    }

    /// Canceled once streams should end.
    pub(crate) fn closing(&self) -> &CancellationToken {
        &self.closing
    }
}

/// The whole interface.
pub fn router(app: Arc<App>) -> Router {
    guarded(answering(&app), app)
}

/// The whole interface, where nobody is asked who they are.
fn named_router(app: Arc<App>) -> Router {
    guarded(answering(&app).layer(from_fn_with_state(app.clone(), guard::only_our_names)), app)
}

fn answering(app: &App) -> Router<Arc<App>> {
    let own = CsrfLayer::new().with_rejection_response(|_| guard::cross_origin());
    let trusted = app
        .origins
        .iter()
        .fold(own, |layer, origin| layer.add_trusted_origin(origin.as_str()).expect("an origin was read as one"));
    let (routes, _) = openapi::routes().split_for_parts();
    routes
        .merge(crate::web::router())
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_method)
        .layer(trusted)
}

/// What every answer has: an id, a body of our shape when it is a refusal, and a place in the metrics.
fn guarded(routes: Router<Arc<App>>, app: Arc<App>) -> Router {
    routes
        .layer(from_fn_with_state(app.clone(), door::pass))
        .layer(CatchPanicLayer::custom(guard::panicked))
        .layer(from_fn_with_state(app.clone(), guard::observe))
        .layer(from_fn_with_state(app.clone(), cors::allow))
        .with_state(app)
}

async fn unknown_route(uri: axum::http::Uri) -> Refusal {
    let path: String = uri.path().chars().take(200).collect();
    Refusal::not_found(format!("there is nothing at `{path}`")).hint("GET /v1/openapi.json lists every address")
}

async fn unknown_method(method: axum::http::Method, uri: axum::http::Uri) -> Refusal {
    let path: String = uri.path().chars().take(200).collect();
    Refusal::new(Code::MethodNotAllowed, format!("`{path}` does not answer {method}"))
        .hint("GET /v1/openapi.json lists every address")
}
