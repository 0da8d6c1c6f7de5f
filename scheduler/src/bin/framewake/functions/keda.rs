//! `framewake functions keda`: what KEDA needs to start the workers of a function.

mod manifest;

use crate::Context;
use crate::failure::{BadInput, Outcome};
use crate::job_file;
use framewake_proto::function::{FunctionSpec, WORKERS_MAX};
use framewake_proto::ids::FunctionKey;
use framewake_proto::pool::{PoolSpec, ProviderSpec};
use manifest::{Reached, scaled_job};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `blender`, or one version of it: `blender@3`
    name: String,
    /// The scheduler's `--keda-listen`, as KEDA reaches it: `framewake.render.svc:7701`
    #[arg(long)]
    scaler: String,
    /// The scheduler speaks TLS there, as it does with `--tls-cert`
    #[arg(long)]
    tls: bool,
    /// Secret of Kubernetes whose `ca.crt` vouches for the scheduler's certificate, where KEDA does not trust it anyway
    #[arg(long, requires = "tls")]
    ca_secret: Option<String>,
    /// NATS, as the workers reach it; not needed where a secret has it as `FRAMEWAKE_NATS_URL`, with its password
    #[arg(long, required_unless_present_any = ["secrets", "pool"])]
    nats: Option<String>,
    /// The store, as the workers reach it: `s3://bucket/prefix`
    #[arg(long)]
    store: String,
    /// Prefix of the farm's subjects and streams on NATS
    #[arg(long, default_value = "framewake")]
    farm: String,
    /// File of a pool of kind kubernetes whose workers' pods these are like: their nodes, accounts, secrets and labels; `-`
    /// reads it from stdin
    #[arg(long, value_name = "FILE")]
    pool: Option<PathBuf>,
    /// Secret of Kubernetes whose keys become the environment of the workers, beside the pool's: the join token, credentials
    /// of the store; once for each
    #[arg(long = "secret")]
    secrets: Vec<String>,
    /// Resource of the nodes that a GPU is, where no pool says it [default: nvidia.com/gpu]
    #[arg(long, conflicts_with = "pool")]
    gpu_resource: Option<String>,
    /// Label of the pods, beside the pool's, as `KEY=VALUE`, once for each: what network policies and budgets select them by
    #[arg(long = "label", value_parser = label)]
    labels: Vec<(String, String)>,
}

fn label(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    pair.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or_else(|| format!("`{text}` is not KEY=VALUE"))
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<Outcome> {
    let function = context.client.function(&args.name).await?;
    let key = FunctionKey { name: function.name, version: function.version };
    let (pool, workers_max) = match &args.pool {
        Some(file) => {
            let pool = read_pool(file)?;
            let room = room(&pool, &key, &function.spec)?;
            (pool, room.min(function.spec.scaling.max))
        }
        None => (plain_pool(args.gpu_resource.as_deref()), function.spec.scaling.max),
    };
    let pool = with(pool, &args.secrets, &args.labels)?;
    let told =
        matches!(&pool.provider, ProviderSpec::Kubernetes(kubernetes) if !kubernetes.environment_from.is_empty());
    if args.nats.is_none() && !told {
        let missing = BadInput::new(format!("nothing tells the workers of {key} where NATS is"));
        return Err(missing.hint("say --nats, or by --secret the name of a secret that has FRAMEWAKE_NATS_URL").into());
    }
    let reached = Reached {
        scaler: args.scaler.clone(),
        tls: args.tls,
        ca_secret: args.ca_secret.clone(),
        nats: args.nats.clone(),
        store: args.store.clone(),
        farm: args.farm.clone(),
    };
    let manifest = scaled_job(&key, &function.spec, &pool, workers_max, &reached)?;
    if !function.spec.scaling.external {
        let pools = context.client.function_scaling(&key.to_string()).await?.pools;
        let pools: Vec<&str> =
            pools.iter().filter(|pool| pool.workers_max > 0).map(|pool| pool.pool.as_str()).collect();
        if !pools.is_empty() {
            context.printer.note(format_args!(
                "! The farm starts workers of {key} too, in {}: the same work would call twice as many. Say `scaling: {{ external: \
                 true }}` in the function's file, add it, and print this again for the version that comes of it.",
                pools.join(", ")
            ));
        }
    }
    context.printer.line(manifest.trim_end())?;
    Ok(Outcome::Done)
}

/// A pool's file, as the scheduler reads it.
fn read_pool(file: &Path) -> Result<PoolSpec, BadInput> {
    let text = job_file::read_text(file)?;
    let name = job_file::shown(file);
    if text.trim().is_empty() {
        return Err(BadInput::new(format!("{name} is empty, and no pool")).hint("is its name right?"));
    }
    job_file::parse(&text, &name)
}

/// How many workers of the function a pool holds, if it is one for them.
fn room(pool: &PoolSpec, key: &FunctionKey, spec: &FunctionSpec) -> Result<u32, BadInput> {
    if let Some(reason) = pool.unfit_itself(spec) {
        return Err(BadInput::new(format!("workers of {key} can't run in pods of the pool {}: {reason}", pool.name)));
    }
    let slots = spec.resources.slots;
    match pool.max / slots.max(1) {
        0 => Err(BadInput::new(format!(
            "a worker of {key} takes {slots} slots, and the pool {} has {}",
            pool.name, pool.max
        ))),
        room => Ok(room),
    }
}

/// Pods that go wherever Kubernetes puts them.
fn plain_pool(gpu_resource: Option<&str>) -> PoolSpec {
    let provider = match gpu_resource {
        Some(resource) => json!({ "kind": "kubernetes", "gpu_resource": resource }),
        None => json!({ "kind": "kubernetes" }),
    };
    let pool = json!({ "name": "plain", "max": WORKERS_MAX, "provider": provider });
    serde_json::from_value(pool).expect("a pool needs no more than this")
}

/// The pool with what the command line adds to it; all that is wrong with it is said.
fn with(mut pool: PoolSpec, secrets: &[String], labels: &[(String, String)]) -> Result<PoolSpec, BadInput> {
    let ProviderSpec::Kubernetes(kubernetes) = &mut pool.provider else {
        return Err(BadInput::new(format!("the pool {} is not of kind kubernetes", pool.name)));
    };
    for secret in secrets {
        if !kubernetes.environment_from.contains(secret) {
            kubernetes.environment_from.push(secret.clone());
        }
    }
    kubernetes.labels.extend(labels.iter().cloned());
    let faults = pool.faults();
    if faults.is_empty() {
        return Ok(pool);
    }
    Err(BadInput { faults, ..BadInput::new(format!("pods of the pool {} can't be made", pool.name)) })
}
