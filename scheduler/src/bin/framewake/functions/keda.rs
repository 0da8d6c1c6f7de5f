//! `framewake functions keda`: what KEDA needs to start the workers of a function.

mod manifest;

use crate::Context;
use crate::failure::Outcome;
use framewake_proto::ids::FunctionKey;
use manifest::{Reached, scaled_job};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `blender`, or one version of it: `blender@3`
    name: String,
    /// The scheduler's `--keda-listen`, as KEDA reaches it: `framewake.render.svc:7701`
    #[arg(long)]
    scaler: String,
    /// NATS, as the workers reach it
    #[arg(long)]
    nats: String,
    /// The store, as the workers reach it: `s3://bucket/prefix`
    #[arg(long)]
    store: String,
    /// Prefix of the farm's subjects and streams on NATS
    #[arg(long, default_value = "framewake")]
    farm: String,
    /// Secret of Kubernetes whose keys become the environment of the workers: credentials of the store
    #[arg(long)]
    secret: Option<String>,
    /// Resource of the nodes that a GPU is
    #[arg(long, default_value = "nvidia.com/gpu")]
    gpu_resource: String,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<Outcome> {
    let function = context.client.function(&args.name).await?;
    let key = FunctionKey { name: function.name, version: function.version };
    let reached = Reached {
        scaler: args.scaler.clone(),
        nats: args.nats.clone(),
        store: args.store.clone(),
        farm: args.farm.clone(),
        secret: args.secret.clone(),
        gpu_resource: args.gpu_resource.clone(),
    };
    let manifest = scaled_job(&key, &function.spec, &reached).map_err(anyhow::Error::msg)?;
    context.printer.line(manifest.trim_end())?;
    Ok(Outcome::Done)
}
