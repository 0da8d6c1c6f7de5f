//! `framewake cancel`, `pause`, `resume`, `retry` and `priority`.

use crate::Context;
use crate::failure::Outcome;
use crate::{find, job, retry};
use framewake_proto::api::JobChange;
use framewake_proto::client::Action;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of a job, the beginning of one, or `latest`
    #[arg(required = true)]
    jobs: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PriorityArgs {
    /// Id of a job, the beginning of one, or `latest`
    job: String,
    /// 0 (last) to 100 (first) among the jobs of its project
    priority: u32,
}

pub(crate) async fn run(context: &Context, args: &Args, action: Action) -> anyhow::Result<Outcome> {
    for job in &args.jobs {
        let id = find::job(&context.client, job).await?;
        let view = retry::while_passing(&context.printer, async || context.client.act(id, action).await).await?;
        job::say(context, &view)?;
    }
    Ok(Outcome::Done)
}

pub(crate) async fn set_priority(context: &Context, args: &PriorityArgs) -> anyhow::Result<Outcome> {
    let id = find::job(&context.client, &args.job).await?;
    let change = JobChange { priority: args.priority };
    let view = retry::while_passing(&context.printer, async || context.client.change_job(id, &change).await).await?;
    job::say(context, &view)?;
    Ok(Outcome::Done)
}
