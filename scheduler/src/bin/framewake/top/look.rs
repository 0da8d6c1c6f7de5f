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
    /// What was looked for.
    pub(super) words: String,
    /// Whether there are more that are not over, and more that are.
    pub(super) more_open: bool,
    pub(super) more_over: bool,
    /// The whole farm in counts, of which the lists have a first page, and what failed in it.
    pub(super) farm: OverviewView,
    pub(super) functions: Page<FunctionView>,
    pub(super) workers: Page<WorkerView>,
    pub(super) gpus: Page<GpuState>,
    /// Machines and GPUs that are not well.
    pub(super) places: Page<PlaceView>,
    /// The job that the rest is of.
    pub(super) about: Option<JobId>,
    pub(super) failed: Page<TaskView>,
    pub(super) reasons: Vec<String>,
}

impl Look {
    /// With the jobs that have these words in their names, if any are looked for: they may be further down than the list goes.
    pub(super) async fn take(client: &Client, selected: Option<JobId>, words: &str) -> Result<Look, Error> {
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
        let is_cut = open.next.is_some() || over.next.is_some();
        let named = match words.trim() {
            words if is_cut && !words.is_empty() => {
                client.jobs(&JobQuery { name: Some(words.to_owned()), ..list(&[], JOBS_MAX) }).await?.items
            }
            _ => Vec::new(),
        };
        let selected = selected.or_else(|| open.items.first().or(over.items.first()).map(|job| job.id));
        let (failed, reasons) = match selected {
            Some(id) => about(client, id).await?,
            None => (nothing(), Vec::new()),
        };
        let (more_open, more_over) = (open.next.is_some(), over.next.is_some());
        let mut jobs: Vec<JobView> = open.items.into_iter().chain(over.items).collect();
        let others: Vec<JobView> =
            named.into_iter().filter(|named| jobs.iter().all(|job| job.id != named.id)).collect();
        jobs.extend(others);
        Ok(Look {
            farm,
            more_open,
            more_over,
            jobs,
            words: words.to_owned(),
            functions,
            workers,
            gpus,
            places,
            about: selected,
            failed,
            reasons,
        })
    }
}

fn nothing<T>() -> Page<T> {
    Page { items: Vec::new(), next: None }
}

async fn unwell(client: &Client) -> Result<Page<PlaceView>, Error> {
    let mut places = nothing();
    for state in [PlaceState::SetAside, PlaceState::OnTrial, PlaceState::Suspect] {
        let page = client.places(Some(state), None).await?;
        places.items.extend(page.items);
        places.next = places.next.or(page.next);
    }
    Ok(places)
}

/// What failed in a job, and why it waits. A job that is gone meanwhile has nothing to tell.
async fn about(client: &Client, id: JobId) -> Result<(Page<TaskView>, Vec<String>), Error> {
    let failed = PartQuery { state: Some(TaskState::Failed), limit: Some(FAILED_MAX), ..PartQuery::default() };
    let told = tokio::try_join!(client.tasks(id, &failed), client.explain(id));
    match told {
        Ok((failed, explained)) => {
            let reasons = explained.steps.into_iter().flat_map(|step| step.reasons).collect();
            Ok((failed, reasons))
        }
        Err(Error::Refused(problem)) if problem.status == 404 => Ok((nothing(), Vec::new())),
        Err(error) => Err(error),
    }
}
