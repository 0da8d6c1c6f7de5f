//! Puts the parts of a scheduler together, runs them, and takes them apart.

use crate::access::{self, Access, ListenError, Oidc};
use crate::config::{Config, Shared};
use crate::credentials::Issuer;
use crate::engine::{self, Added, Engine, Handle, Health, Message};
use crate::functions::{self, Keepers, files, gpus};
use crate::keda;
use crate::metrics::Metrics;
use crate::notify::{Allowed, Delivery, Mail, Ways};
use crate::objects::{Address, Objects};
use crate::openfaas;
use crate::queue::{Connection, Owner, Queue};
use crate::rest::{self, App, UploadLimits, Uploads, UrlsAllowed};
use crate::scan::Scanner;
use crate::signing::Signing;
use crate::store::read::Reader;
use crate::store::{self, AccessWrite, Store};
use crate::traces::{Lane, Traces};
use anyhow::{Context, Result};
use framewake_core::event::Event;
use framewake_core::gpus::Handing;
use framewake_core::values::Settings;
use framewake_proto::chain::Chain;
use framewake_proto::pool::ProviderSpec;
use framewake_proto::subjects::Subjects;
use framewake_proto::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Longest wait for a part to end.
const PART_END_MAX: Duration = Duration::from_secs(15);

/// Runs a scheduler until `stop`. `ready` is told the address once it answers.
pub async fn run(config: Config, end_workers: bool, ready: impl FnOnce(&str), stop: CancellationToken) -> Result<()> {
    let shared = &config.shared;
    shared.access.check(shared.listen)?;
    shared.access.check_origins(&shared.cors_allow)?;
    if let Some(keda) = shared.keda_listen {
        shared.access.check(keda).map_err(ListenError::of_keda)?;
    }
    shared.oidc.check(shared.access)?;
    let oidc = Oidc::open(&shared.oidc)?.map(Arc::new);
    let specs = files::functions(&shared.functions)?;
    let pools = files::pools(&shared.pools, slots(shared))?;
    let urls = UrlsAllowed::new(shared.urls_allowed.clone()).map_err(anyhow::Error::msg).context("--urls-allowed")?;
    let certificate = match (&shared.tls_cert, &shared.tls_key) {
        (Some(chain), Some(key)) => {
            Some(Arc::new(rest::Certificate::open(chain.clone(), key.clone()).context("--tls-cert")?))
        }
        _ => None,
    };
    let seed = config.credentials.nats_seed.as_deref();
    let issuer = seed.map(|file| Issuer::open(file, Subjects::new(config.farm.clone()))).transpose()?;
    let address: Address = config.store.parse()?;
    let store = Store::open(&shared.data).await?;
    let farm = store.farm().to_owned();
    let owner = Owner::this(&farm, &std::path::absolute(&shared.data).context("the data folder")?);
    let mail = shared.smtp.as_deref().map(|url| Mail::new(url, shared.smtp_from.as_deref())).transpose()?;
    let listener = TcpListener::bind(shared.listen).await.with_context(|| {
        format!("cannot listen on {}: is another program there? Choose another address with --listen", shared.listen)
    })?;
    let keda = keda::listen(shared.keda_listen).await?;
    let openfaas = openfaas::listen(&shared.openfaas).await?;
    let objects = Objects::open(&address)?;
    if config.store_setup {
        objects.set_up().await?;
    }
    objects.probe().await?;
    let metrics = Arc::new(Metrics::new(&shared.metrics_aliases, shared.openfaas.openfaas_namespace.as_str()));
    let (health_in, health) = watch::channel(Health { nats: "not connected yet".to_owned(), ..Health::default() });
    let settings = Settings { aside: shared.set_aside.0, ..Settings::default() };
    let (engine, handle, commands) = Engine::load(store, settings, health, Arc::clone(&metrics)).await?;
    let mut engine = engine.with_jobs_max(shared.jobs_max).with_urls(shared.urls_allowed.clone());
    let tracing = CancellationToken::new();
    let mut lane = None;
    if let Some((outlet, opened)) = Lane::open(&shared.traces, &metrics)? {
        metrics.with_exemplars();
        engine = Box::pin(engine.with_traces(Traces::new(&shared.traces, outlet))).await?;
        lane = Some(tokio::spawn(opened.run(tracing.clone())));
    }
    let (scans_in, scans) = tokio::sync::mpsc::unbounded_channel();
    let scanner = Scanner::open(&shared.scans, &shared.data).await;
    if scanner.is_some() {
        engine = engine.with_scanner(scans_in);
    }
    let clock = engine.clock();
    let providers = functions::open(&pools, &config).await?;
    let remembered = engine.workers_of_providers();
    let subjects = Subjects::new(config.farm.clone());
    let connection = Connection {
        url: &config.nats,
        issuer: issuer.clone().map(|issuer| (issuer, config.credentials.credentials_for.0)),
        ca: config.credentials.nats_ca.clone(),
        signing: issuer.as_ref().and_then(|_| Signing::over(&objects)),
    };
    let queue = Queue::connect(connection, subjects, owner, config.take_streams, Arc::clone(&metrics)).await?;
    queue.ask_before_start().await?;
    let reader = Reader::open(&shared.data.join("framewake.db")).await?;
    let allowed = Allowed::new(shared.notify_allow.clone());
    let ways = Arc::new(Ways::new(config.farm.clone(), allowed, mail, Some(queue.clone())).context("HTTP client")?);
    let uploads = Uploads::open(shared.data.join("uploads"), UploadLimits::default())?;

    let mut checked = tokio::spawn(store::check_large(shared.data.clone()));
    let mut engine = tokio::spawn(engine.run());
    let here = pools.iter().any(|pool| pool.provider == ProviderSpec::Local {});
    handle.set_pools(pools).await;
    let listing = if here { Some(hand_out_gpus(&config, &handle).await?) } else { None };
    // Before anything else, so that nobody is started in the place of a worker that lives.
    let mut keepers = Keepers::begin(providers, handle.clone(), health_in.clone(), remembered, end_workers);
    keepers.issuer = issuer;
    keepers.look().await;
    for spec in specs {
        let name = spec.name.clone();
        let Added { key, active } = handle.add_function(spec).await.with_context(|| format!("function {name}"))?;
        info!("function {key} {}", if active { "is registered" } else { "waits for the scan of its image" });
    }
    let (serving, providing, queueing) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let delivery = Delivery {
        handle: handle.clone(),
        reader: reader.clone(),
        ways: ways.clone(),
        metrics: metrics.clone(),
        patience: shared.notify_for.0,
        clock,
    };
    let delivering = CancellationToken::new();
    let delivery = tokio::spawn(delivery.run(delivering.clone()));
    let scanning = CancellationToken::new();
    let scanner = scanner.map(|scanner| tokio::spawn(scanner.run(handle.clone(), scans, scanning.clone())));
    let keepers = tokio::spawn(keepers.run(commands.provider, providing.clone()));
    let mut queue_task = tokio::spawn(queue.clone().run(
        handle.clone(),
        commands.queue,
        objects.clone(),
        health_in,
        config.nats.clone(),
        queueing.clone(),
    ));
    let scheme = if certificate.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", listener.local_addr()?);
    info!("listening on {url}");
    let tokens = reader.tokens().await?;
    if shared.access == access::Mode::Tokens && tokens.is_empty() {
        warn!(
            "nobody has a token yet: `framewake-scheduler token --data {}` on this machine makes the first one",
            shared.data.display()
        );
    }
    if let Some(oidc) = oidc.clone() {
        // Said now, and not only to the first who wants to log in; it is no reason to do no work.
        tokio::spawn(async move {
            if let Err(error) = oidc.look().await {
                warn!("nobody can log in by the provider of identities: {}", Chain(&error));
            }
        });
    }
    let access = Access::new(shared.access, tokens).with_oidc(oidc);
    let over = access.restore(reader.sessions().await?, Timestamp::now());
    handle.tell_access(over.into_iter().map(AccessWrite::SessionEnded).collect()).await;
    let app = App::new(handle, reader, objects, uploads, metrics, urls, ways).with_access(access);
    let app = app.with_certificate(certificate).with_origins(shared.cors_allow.clone());
    let app = Arc::new(app.with_names(shared.names.clone()).of_farm(&farm));
    let mut scaler = tokio::spawn(keda::serve(keda, app.clone(), serving.clone()));
    let mut clients = tokio::spawn(openfaas::serve(
        shared.openfaas.clone(),
        openfaas,
        app.clone(),
        shared.notify_for.0,
        clock,
        serving.clone(),
    ));
    let mut server = tokio::spawn(rest::serve(listener, app, serving.clone()));
    ready(&url);

    // Whatever ends first ends the rest.
    let outcome = tokio::select! {
        () = stop.cancelled() => Ok(()),
        Ok(Err(error)) = &mut checked => Err(error.into()),
        ended = &mut engine => engine_outcome(ended),
        // These end by themselves only because the engine did, and it knows why.
        ended = &mut queue_task => match ended.context("the queue broke").and_then(|ended| Ok(ended?)) {
            Ok(()) => engine_outcome((&mut engine).await),
            failed => failed,
        },
        ended = &mut clients => match ended.context("the interface for OpenFaaS broke").and_then(|ended| ended) {
            Ok(()) => engine_outcome((&mut engine).await),
            failed => failed,
        },
        ended = &mut scaler => match ended.context("the scaler for KEDA broke").and_then(|ended| Ok(ended?)) {
            Ok(()) => engine_outcome((&mut engine).await),
            failed => failed,
        },
        ended = &mut server => match ended.context("the REST interface broke").and_then(|ended| Ok(ended?)) {
            Ok(()) => engine_outcome((&mut engine).await),
            failed => failed,
        },
    };
    info!("stopping");
    checked.abort();
    if let Some(listing) = listing {
        listing.abort();
    }
    // From the outside in: open requests get their answers, workers that are told to leave are heard to the end, and
    // the engine ends when nobody can speak to it any more.
    serving.cancel();
    ended("the REST interface", server).await;
    ended("the interface for OpenFaaS", clients).await;
    ended("the scaler for KEDA", scaler).await;
    scanning.cancel();
    if let Some(scanner) = scanner {
        ended("the scanning of images", scanner).await;
    }
    delivering.cancel();
    ended("the delivery of notifications", delivery).await;
    providing.cancel();
    ended("the keeping of pools", keepers).await;
    queueing.cancel();
    ended("the queue", queue_task).await;
    ended("the engine", engine).await;
    tracing.cancel();
    if let Some(lane) = lane {
        ended("the sending of traces", lane).await;
    }
    outcome
}

fn engine_outcome(ended: Result<Result<(), engine::Error>, tokio::task::JoinError>) -> Result<()> {
    Ok(ended.context("the engine broke")??)
}

/// Waits for a part that was told to end, or that is what all the others end for.
async fn ended<T>(what: &str, mut part: JoinHandle<T>) {
    if !part.is_finished() && tokio::time::timeout(PART_END_MAX, &mut part).await.is_err() {
        warn!("{what} did not end within {} s and is cut off", PART_END_MAX.as_secs());
        part.abort();
    }
}

fn slots(shared: &Shared) -> u32 {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    shared.slots.unwrap_or_else(|| u32::try_from(processors).unwrap_or(1))
}

/// Begins to give the GPUs of this machine to workers one by one.
async fn hand_out_gpus(config: &Config, handle: &Handle) -> Result<JoinHandle<()>> {
    let program = functions::worker_program(config)?;
    handle.tell(Message::Happened(Event::GpusHanded(Handing::Awaited { why: gpus::AWAITED.to_owned() }))).await;
    Ok(tokio::spawn(gpus::hand_out(program, handle.clone())))
}
