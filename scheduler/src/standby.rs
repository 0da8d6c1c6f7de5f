//! What a scheduler does while another one acts: it waits for the lease, and opens nothing, neither the database nor the
//! streams. Whoever asks is told so.

use crate::config::Config;
use anyhow::{Context, Result};
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use framewake_functions::kubernetes::Access;
use framewake_functions::kubernetes::lease::{Candidate, Held, LeaseName, Timing};
use framewake_proto::api::{Problem, Readiness};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Connections at once: probes, and clients that came to the wrong place.
const OPEN_MAX: usize = 32;
/// Longest time for a request's head, and longest pause between two requests of one connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Waits for the lease, where one is asked for; `None`: none is, or `stop` came first. `lost` ends the process.
pub async fn wait(
    config: &Config,
    stop: &CancellationToken,
    lost: impl FnOnce(&str) + Send + 'static,
) -> Result<Option<Held>> {
    let Some(lease) = &config.leader_lease else { return Ok(None) };
    let access = Access::new(&config.kubeconfig).await.context("--leader-lease")?;
    let timing = Timing::of(config.lease_for.0);
    let candidate = Candidate::new(access, lease.clone(), holder(), timing);
    let listener = TcpListener::bind(config.shared.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.shared.listen))?;
    tokio::select! {
        won = candidate.win(lost) => Ok(Some(won.context("--leader-lease")?)),
        () = stop.cancelled() => Ok(None),
        () = answer(listener, lease) => unreachable!("it answers until it is dropped"),
    }
}

/// The pod, and which run of it.
fn holder() -> String {
    format!("{}-{}", rustix::system::uname().nodename().to_string_lossy(), ulid::Ulid::generate())
}

/// Answers whoever asks, until it is dropped.
async fn answer(listener: TcpListener, lease: &LeaseName) {
    let mut open = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while open.try_join_next().is_some() {}
        let Ok((stream, _)) = accepted else {
            tokio::task::yield_now().await;
            continue;
        };
        if open.len() >= OPEN_MAX {
            continue;
        }
        let lease = lease.to_string();
        open.spawn(async move {
            let service = service_fn(|request: Request<_>| {
                let said = say(request.uri().path(), &lease);
                async { Ok::<_, Infallible>(said) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn say(path: &str, lease: &str) -> Response<Body> {
    let waits = format!("standby: another scheduler holds the lease {lease}");
    let (status, kind, body) = match path {
        "/healthz" => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
        "/readyz" => {
            let readiness = Readiness {
                ready: false,
                parts: BTreeMap::from([("lease".to_owned(), waits)]),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                store: String::new(),
            };
            (StatusCode::SERVICE_UNAVAILABLE, "application/json", json(&readiness))
        }
        _ => {
            let problem = Problem {
                kind: "urn:framewake:unavailable".to_owned(),
                title: "A part of the farm is away".to_owned(),
                status: StatusCode::SERVICE_UNAVAILABLE.as_u16(),
                detail: waits,
                hint: Some("ask again: the address of the farm leads to the scheduler that acts".to_owned()),
                faults: Vec::new(),
                request_id: String::new(),
            };
            (StatusCode::SERVICE_UNAVAILABLE, "application/problem+json", json(&problem))
        }
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", axum::http::HeaderValue::from_static(kind));
    response
}

fn json(body: &impl serde::Serialize) -> String {
    serde_json::to_string(body).expect("texts and numbers")
}
