//! `framewake cancel`, `pause`, `resume`, `retry` and `priority`.

use crate::Context;
use crate::failure::{BadInput, Outcome};
use crate::{find, job, retry};
use framewake_proto::api::{JobChange, JobRetry, JobView};
use framewake_proto::client::Action;
use framewake_proto::ids::Name;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of a job, the beginning of one, or `latest`
    #[arg(required = true)]
    jobs: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RetryArgs {
    #[command(flatten)]
    jobs: Args,
    /// Of the failed frames only these: `7`, `3,7-9`
    #[arg(long, value_name = "FRAMES")]
    frames: Option<String>,
    /// The step that they are of; a job of one step needs no name
    #[arg(long, requires = "frames")]
    step: Option<Name>,
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

pub(crate) async fn retry(context: &Context, args: &RetryArgs) -> anyhow::Result<Outcome> {
    let Some(frames) = &args.frames else { return run(context, &args.jobs, Action::Retry).await };
    for job in &args.jobs.jobs {
        let id = find::job(&context.client, job).await?;
        let step = match &args.step {
            Some(step) => step.clone(),
            None => only_step(context.client.job(id).await?)?,
        };
        let which = JobRetry { step, frames: frames.clone() };
        let view = retry::while_passing(&context.printer, async || context.client.retry(id, &which).await).await?;
        job::say(context, &view)?;
    }
    Ok(Outcome::Done)
}

fn only_step(job: JobView) -> Result<Name, BadInput> {
    let names: Vec<String> = job.steps.iter().map(|step| step.name.to_string()).collect();
    match <[_; 1]>::try_from(job.steps) {
        Ok([step]) => Ok(step.name),
        Err(_) => Err(BadInput {
            message: format!("job {} has several steps", job.id),
            faults: Vec::new(),
            hint: Some(format!("say which with --step: {}", names.join(", "))),
        }),
    }
}

pub(crate) async fn set_priority(context: &Context, args: &PriorityArgs) -> anyhow::Result<Outcome> {
    let id = find::job(&context.client, &args.job).await?;
    let change = JobChange { priority: args.priority };
    let view = retry::while_passing(&context.printer, async || context.client.change_job(id, &change).await).await?;
    job::say(context, &view)?;
    Ok(Outcome::Done)
}
