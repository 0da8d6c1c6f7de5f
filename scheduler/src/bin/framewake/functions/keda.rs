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
    /// NATS, as the workers reach it; not needed where a secret has it as `FRAMEWAKE_NATS_URL`, with its password
    #[arg(long, required_unless_present = "secrets")]
    nats: Option<String>,
    /// The store, as the workers reach it: `s3://bucket/prefix`
    #[arg(long)]
    store: String,
    /// Prefix of the farm's subjects and streams on NATS
    #[arg(long, default_value = "framewake")]
    farm: String,
    /// Secret of Kubernetes whose keys become the environment of the workers: credentials of the store; once for each
    #[arg(long = "secret")]
    secrets: Vec<String>,
    /// Resource of the nodes that a GPU is
    #[arg(long, default_value = "nvidia.com/gpu")]
    gpu_resource: String,
    /// Label of the pods, as `KEY=VALUE`, once for each: what network policies and budgets select them by
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
    let reached = Reached {
        scaler: args.scaler.clone(),
        nats: args.nats.clone(),
        store: args.store.clone(),
        farm: args.farm.clone(),
        secrets: args.secrets.clone(),
        gpu_resource: args.gpu_resource.clone(),
        labels: args.labels.clone(),
    };
    let manifest = scaled_job(&key, &function.spec, &reached).map_err(anyhow::Error::msg)?;
    context.printer.line(manifest.trim_end())?;
    Ok(Outcome::Done)
}
