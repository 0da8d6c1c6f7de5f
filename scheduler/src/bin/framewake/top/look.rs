//! One look at the farm: what a screen shows of it.

use framewake_proto::api::{
    FunctionView, GpuState, JobState, JobView, Page, PlaceState, PlaceView, TaskState, TaskView, WorkerView,
};
use framewake_proto::client::{Client, Error, JobQuery, PartQuery};
use framewake_proto::ids::JobId;
use framewake_proto::overview::OverviewView;

/// More jobs than a screen is high are not asked for.
const JOBS_MAX: u32 = 200;
/// Jobs that are over and still shown, beneath those that are not.
const OVER_MAX: u32 = 10;
/// Failed frames of the selected job.
const FAILED_MAX: u32 = 50;

#[derive(Debug, Clone)]
pub(super) struct Look {
    /// Those that are not over, the newest first, and after them those that ended.
    pub(super) jobs: Vec<JobView>,
    /// The whole farm in counts, of which the lists have a first page, and what failed in it.
    pub(super) farm: OverviewView,
    pub(super) functions: Vec<FunctionView>,
    pub(super) workers: Vec<WorkerView>,
    pub(super) gpus: Vec<GpuState>,
    /// Machines and GPUs that are not well.
    pub(super) places: Vec<PlaceView>,
    /// Of the selected job.
    pub(super) failed: Vec<TaskView>,
    pub(super) reasons: Vec<String>,
}

impl Look {
    pub(super) async fn take(client: &Client, selected: Option<JobId>) -> Result<Look, Error> {
        let list = |states: &[JobState], limit| JobQuery {
            states: states.to_vec(),
            limit: Some(limit),
            ..JobQuery::default()
        };
        let open = list(&[JobState::Running, JobState::Queued, JobState::Paused], JOBS_MAX);
        let over = list(&[JobState::Succeeded, JobState::Failed, JobState::Canceled], OVER_MAX);
        let (farm, open, over, functions, workers, gpus, places) = tokio::try_join!(
            client.overview(),
            client.jobs(&open),
            client.jobs(&over),
            client.functions(None),
            client.workers(None),
            client.gpus(None),
            unwell(client),
        )?;
        let selected = selected.or_else(|| open.items.first().or(over.items.first()).map(|job| job.id));
        let (failed, reasons) = match selected {
            Some(id) => about(client, id).await?,
            None => (Vec::new(), Vec::new()),
        };
        Ok(Look {
            farm,
            jobs: open.items.into_iter().chain(over.items).collect(),
            functions: functions.items,
            workers: workers.items,
            gpus: gpus.items,
            places,
            failed,
            reasons,
        })
    }
}

async fn unwell(client: &Client) -> Result<Vec<PlaceView>, Error> {
    let of = async |state| Ok::<_, Error>(client.places(Some(state), None).await?.items);
    let mut places = of(PlaceState::SetAside).await?;
    places.extend(of(PlaceState::OnTrial).await?);
    places.extend(of(PlaceState::Suspect).await?);
    Ok(places)
}

/// What failed in a job, and why it waits. A job that is gone meanwhile has nothing to tell.
async fn about(client: &Client, id: JobId) -> Result<(Vec<TaskView>, Vec<String>), Error> {
    let failed = PartQuery { state: Some(TaskState::Failed), limit: Some(FAILED_MAX), ..PartQuery::default() };
    let told = tokio::try_join!(client.tasks(id, &failed), client.explain(id));
    match told {
        Ok((Page { items, .. }, explained)) => {
            let reasons = explained.steps.into_iter().flat_map(|step| step.reasons).collect();
            Ok((items, reasons))
        }
        Err(Error::Refused(problem)) if problem.status == 404 => Ok((Vec::new(), Vec::new())),
        Err(error) => Err(error),
    }
}
