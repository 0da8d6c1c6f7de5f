//! `framewake tail`: a job as it goes on.

use crate::Context;
use crate::failure::Outcome;
use crate::{find, follow};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of a job, the beginning of one, or `latest`
    #[arg(default_value = "latest")]
    job: String,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<Outcome> {
    let id = find::job(&context.client, &args.job).await?;
    follow::run(context, id).await
}
