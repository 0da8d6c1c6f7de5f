//! The typed REST client: one method a route, typed refusals, bounded answers. What is refused because too much goes on
//! at once is tried again for a moment; any other waiting is left to the caller, who knows how long is too long.

mod access;
mod download;
mod error;
mod events;
mod notifications;

pub use download::Download;
pub use error::Error;
pub use events::Events;

use crate::api::{
    AttemptView, Explanation, FunctionView, GpuState, InputView, JobChange, JobRetry, JobState, JobView, OutputView,
    PAGE_SIZE_MAX, Page, PlaceState, PlaceView, ProjectChange, ProjectView, Readiness, StepMap, StoredJob, Submitted,
    TaskState, TaskView, WorkerView,
};
use crate::budget::{BudgetView, JobBudgetChange, Period, ProjectBudget};
use crate::cost::{CostsView, JobCostView};
use crate::estimate::EstimateView;
use crate::ids::{AttemptId, JobId, Name};
use crate::notify::Secret;
use crate::objects::Digest;
use crate::overview::OverviewView;
use crate::price::{PaidByChange, PaidByView, PaidFor, PriceRow, PricesAdd, PricesAdded};
use crate::scaling::ScalingExplained;
use crate::schedule::{RunView, ScheduleStored, ScheduleView, Upcoming};
use crate::start::WorkerStart;
use crate::time::Day;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Where a scheduler listens by default.
pub const URL_DEFAULT: &str = "http://127.0.0.1:7700";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Silence after which a connection counts as lost. The scheduler sends a sign of life on event streams more often.
const SILENCE_MAX: Duration = Duration::from_mins(1);
/// Longest time of one request that is not a stream, body included.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(2);
/// The same for a piece of an input: the last one is answered when the whole is in the store.
const PIECE_TIMEOUT: Duration = Duration::from_mins(3);
/// How long a request that finds too much going on is tried again. Each try waits longer than the one before.
const CROWDED_PATIENCE: Duration = Duration::from_secs(30);
/// Shortest and longest wait between two tries, whatever the scheduler asks for.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(50);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
/// Largest JSON answer: a page of 1000 failed tasks with all their evidence is about 6 MB.
const ANSWER_SIZE_MAX: usize = 32 * 1024 * 1024;

/// A connection to one scheduler. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    base: Url,
    http: reqwest::Client,
    /// Without a limit on silence: a renderer may say nothing for minutes, and a store may take its time.
    patient: reqwest::Client,
}

/// Which jobs to list. Newest first.
#[derive(Debug, Clone, Default)]
pub struct JobQuery {
    /// Any of these; all states when empty.
    pub states: Vec<JobState>,
    pub project: Option<Name>,
    /// Labels that must all be there.
    pub labels: Vec<(String, String)>,
    pub name: Option<String>,
    /// Who submitted it, as [`JobView::submitted_by`] says it.
    pub by: Option<String>,
    pub cursor: Option<String>,
    pub limit: Option<u32>,
}

/// Which of a job's tasks, outputs or attempts to list.
#[derive(Debug, Clone, Default)]
pub struct PartQuery {
    pub step: Option<Name>,
    /// Of tasks only.
    pub state: Option<TaskState>,
    pub cursor: Option<String>,
    pub limit: Option<u32>,
}

/// What can be done to a job without further words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Cancel,
    Pause,
    Resume,
    Retry,
}

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Cancel => "cancel",
            Action::Pause => "pause",
            Action::Resume => "resume",
            Action::Retry => "retry",
        }
    }
}

impl Client {
    /// A client for the scheduler at `url`. Connects to nothing yet.
    pub fn new(url: &str) -> Result<Client, Error> {
        Client::with_token(url, None)
    }

    /// The same, for a scheduler that asks for tokens.
    pub fn with_token(url: &str, token: Option<&Secret>) -> Result<Client, Error> {
        let base: Url = url.parse().map_err(|_| Error::Address(url.to_owned()))?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(Error::Address(url.to_owned()));
        }
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let value = HeaderValue::from_str(&format!("Bearer {}", token.reveal()));
            let mut value = value.map_err(|_| Error::Token)?;
            // It is left out where headers are printed.
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let builder = || {
            let builder = reqwest::Client::builder()
                .default_headers(headers.clone())
                .user_agent(concat!("framewake/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_TIMEOUT)
                .tcp_keepalive(Duration::from_secs(15))
                // A redirect turns a POST into a GET; whoever moved the scheduler must say so.
                .redirect(reqwest::redirect::Policy::none());
            // A proxy can't reach this machine's own loopback.
            if is_loopback(&base) { builder.no_proxy() } else { builder }
        };
        let setup = |error| Error::Setup { error };
        Ok(Client {
            http: builder().read_timeout(SILENCE_MAX).build().map_err(setup)?,
            patient: builder().build().map_err(setup)?,
            base,
        })
    }

    /// The scheduler's address, for people.
    pub fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Submits a job. The same key and body again is the same job, so trying again is harmless.
    ///
    /// Takes any JSON, so that the scheduler, which knows all fields, names those that are wrong.
    pub async fn submit(&self, job: &impl Serialize, idempotency_key: &str) -> Result<Submitted, Error> {
        let request = self.request(Method::POST, self.at(&["v1", "jobs"]));
        self.json(request.header("idempotency-key", idempotency_key).json(job)).await
    }

    pub async fn jobs(&self, query: &JobQuery) -> Result<Page<JobView>, Error> {
        let mut url = self.at(&["v1", "jobs"]);
        let mut add = |key: &str, value: &str| {
            url.query_pairs_mut().append_pair(key, value);
        };
        if !query.states.is_empty() {
            let states: Vec<&str> = query.states.iter().map(|state| state.as_str()).collect();
            add("state", &states.join(","));
        }
        if let Some(project) = &query.project {
            add("project", project.as_str());
        }
        for (key, value) in &query.labels {
            add("label", &format!("{key}={value}"));
        }
        if let Some(name) = &query.name {
            add("name", name);
        }
        if let Some(by) = &query.by {
            add("by", by);
        }
        page_of(&mut url, query.cursor.as_deref(), query.limit);
        self.get(url).await
    }

    pub async fn job(&self, id: JobId) -> Result<JobView, Error> {
        self.get(self.at_job(id, &[])).await
    }

    pub async fn job_spec(&self, id: JobId) -> Result<StoredJob, Error> {
        self.get(self.at_job(id, &["spec"])).await
    }

    pub async fn change_job(&self, id: JobId, change: &JobChange) -> Result<JobView, Error> {
        self.json(self.request(Method::PATCH, self.at_job(id, &[])).json(change)).await
    }

    pub async fn act(&self, id: JobId, action: Action) -> Result<JobView, Error> {
        self.json(self.request(Method::POST, self.at_job(id, &[action.as_str()]))).await
    }

    /// Those of these frames that failed are tried again.
    pub async fn retry(&self, id: JobId, which: &JobRetry) -> Result<JobView, Error> {
        self.json(self.request(Method::POST, self.at_job(id, &["retry"])).json(which)).await
    }

    /// The farm at a glance.
    pub async fn overview(&self) -> Result<OverviewView, Error> {
        self.get(self.at(&["v1", "overview"])).await
    }

    pub async fn tasks(&self, id: JobId, query: &PartQuery) -> Result<Page<TaskView>, Error> {
        self.get(self.at_part(id, "tasks", query)).await
    }

    pub async fn outputs(&self, id: JobId, query: &PartQuery) -> Result<Page<OutputView>, Error> {
        self.get(self.at_part(id, "outputs", query)).await
    }

    pub async fn attempts(&self, id: JobId, query: &PartQuery) -> Result<Page<AttemptView>, Error> {
        self.get(self.at_part(id, "attempts", query)).await
    }

    /// All tasks of a step in at most so many columns.
    pub async fn step_map(&self, id: JobId, step: &Name, columns: u32) -> Result<StepMap, Error> {
        let mut url = self.at_job(id, &["steps", step.as_str(), "map"]);
        url.query_pairs_mut().append_pair("columns", &columns.to_string());
        self.get(url).await
    }

    /// The bytes of a task's output, from `offset` on.
    pub async fn output(&self, id: JobId, step: &Name, task: u32, offset: u64) -> Result<Download, Error> {
        let url = self.at_job(id, &["outputs", step.as_str(), &task.to_string()]);
        let mut request = self.http.get(url);
        if offset > 0 {
            request = request.header("range", format!("bytes={offset}-"));
        }
        let response = self.send(request).await?;
        // A server may ignore the range and send all of it.
        let starts_at = if response.status() == StatusCode::PARTIAL_CONTENT { offset } else { 0 };
        Ok(Download::new(response, self.url().to_owned(), starts_at))
    }

    /// The log of an attempt as plain text; with `follow`, until the attempt ends.
    pub async fn log(&self, id: JobId, attempt: AttemptId, follow: bool) -> Result<Download, Error> {
        let mut url = self.at_job(id, &["attempts", &attempt.to_string(), "log"]);
        if follow {
            url.query_pairs_mut().append_pair("follow", "true");
        }
        let http = if follow { &self.patient } else { &self.http };
        let response = self.send(http.get(url)).await?;
        Ok(Download::new(response, self.url().to_owned(), 0))
    }

    /// The events of one job, or of all, after event number `after`.
    pub async fn events(&self, job: Option<JobId>, after: Option<u64>) -> Result<Events, Error> {
        let url = match job {
            Some(job) => self.at_job(job, &["events"]),
            None => self.at(&["v1", "events"]),
        };
        let mut request = self.http.get(url).header("accept", "text/event-stream");
        if let Some(after) = after {
            request = request.header("last-event-id", after.to_string());
        }
        Ok(Events::new(self.send(request).await?, self.url().to_owned(), after))
    }

    pub async fn explain(&self, id: JobId) -> Result<Explanation, Error> {
        self.get(self.at_job(id, &["explain"])).await
    }

    /// What the scheduler has of an input; nothing at all is no error.
    pub async fn input(&self, digest: Digest) -> Result<InputView, Error> {
        match self.get(self.at(&["v1", "inputs", &digest.to_string()])).await {
            Err(Error::Refused(problem)) if problem.status == 404 => {
                Ok(InputView { digest, complete: false, received_bytes: 0 })
            }
            answer => answer,
        }
    }

    /// Sends the bytes at `offset` of an input of `size` bytes. The piece that ends at `size` completes it.
    pub async fn send_input(&self, digest: Digest, offset: u64, size: u64, piece: Bytes) -> Result<InputView, Error> {
        let mut url = self.at(&["v1", "inputs", &digest.to_string()]);
        url.query_pairs_mut().append_pair("offset", &offset.to_string()).append_pair("size", &size.to_string());
        let request = self.patient.patch(url).timeout(PIECE_TIMEOUT).header("content-type", "application/octet-stream");
        self.json(request.body(piece)).await
    }

    pub async fn functions(&self, cursor: Option<&str>) -> Result<Page<FunctionView>, Error> {
        self.get(self.at_list("functions", cursor)).await
    }

    /// The newest version of a function, or the one that is named: `blender@3`.
    pub async fn function(&self, name: &str) -> Result<FunctionView, Error> {
        self.get(self.at(&["v1", "functions", name])).await
    }

    /// Why a function has the workers it has.
    pub async fn function_scaling(&self, name: &str) -> Result<ScalingExplained, Error> {
        self.get(self.at(&["v1", "functions", name, "scaling"])).await
    }

    /// Adds a version of a function; the newest version's text again adds none. Any JSON, as with [`Client::submit`].
    pub async fn add_function(&self, function: &impl Serialize) -> Result<FunctionView, Error> {
        self.json(self.request(Method::POST, self.at(&["v1", "functions"])).json(function)).await
    }

    pub async fn workers(&self, cursor: Option<&str>) -> Result<Page<WorkerView>, Error> {
        self.get(self.at_list("workers", cursor)).await
    }

    /// How a worker came that is here or was lately.
    pub async fn worker_start(&self, worker: &str) -> Result<WorkerStart, Error> {
        self.get(self.at(&["v1", "workers", worker, "start"])).await
    }

    /// What the GPUs that workers have do now.
    pub async fn gpus(&self, cursor: Option<&str>) -> Result<Page<GpuState>, Error> {
        self.get(self.at_list("gpus", cursor)).await
    }

    /// Only those in `state`, if given.
    pub async fn places(&self, state: Option<PlaceState>, cursor: Option<&str>) -> Result<Page<PlaceView>, Error> {
        let mut url = self.at_list("places", cursor);
        if let Some(state) = state {
            url.query_pairs_mut().append_pair("state", state.as_str());
        }
        self.get(url).await
    }

    /// Brings a place back that was set aside.
    pub async fn restore_place(&self, name: &str) -> Result<PlaceView, Error> {
        self.json(self.request(Method::POST, self.at(&["v1", "places", name, "restore"]))).await
    }

    pub async fn projects(&self, cursor: Option<&str>) -> Result<Page<ProjectView>, Error> {
        self.get(self.at_list("projects", cursor)).await
    }

    pub async fn project(&self, name: &Name) -> Result<ProjectView, Error> {
        self.get(self.at(&["v1", "projects", name.as_str()])).await
    }

    pub async fn change_project(&self, name: &Name, change: &ProjectChange) -> Result<ProjectView, Error> {
        self.json(self.request(Method::PUT, self.at(&["v1", "projects", name.as_str()])).json(change)).await
    }

    /// What a job cost so far, with so many of its dearest frames and chunks.
    pub async fn job_cost(&self, id: JobId, frames: u32, chunks: u32) -> Result<JobCostView, Error> {
        let mut url = self.at(&["v1", "jobs", &id.to_string(), "cost"]);
        url.query_pairs_mut().append_pair("frames", &frames.to_string()).append_pair("chunks", &chunks.to_string());
        self.get(url).await
    }

    /// Budgets of projects.
    pub async fn budgets(&self, cursor: Option<&str>) -> Result<Page<BudgetView>, Error> {
        self.get(self.at_list("budgets", cursor)).await
    }

    pub async fn put_budget(
        &self,
        project: &Name,
        period: Period,
        budget: &ProjectBudget,
    ) -> Result<BudgetView, Error> {
        let url = self.at(&["v1", "budgets", project.as_str(), period.as_str()]);
        self.json(self.request(Method::PUT, url).json(budget)).await
    }

    pub async fn remove_budget(&self, project: &Name, period: Period) -> Result<(), Error> {
        let url = self.at(&["v1", "budgets", project.as_str(), period.as_str()]);
        self.send(self.request(Method::DELETE, url)).await.map(drop)
    }

    /// Another budget for a job, or none.
    pub async fn budget_job(&self, id: JobId, change: &JobBudgetChange) -> Result<JobView, Error> {
        let url = self.at(&["v1", "jobs", &id.to_string(), "budget"]);
        self.json(self.request(Method::PUT, url).json(change)).await
    }

    /// How long a job will take and what it will cost. Takes any JSON, as [`Client::submit`] does.
    pub async fn estimate(&self, job: &impl Serialize, workers: Option<&str>) -> Result<EstimateView, Error> {
        let mut url = self.at(&["v1", "estimates"]);
        if let Some(workers) = workers {
            url.query_pairs_mut().append_pair("workers", workers);
        }
        self.json(self.request(Method::POST, url).json(job)).await
    }

    /// What was paid on some days, by these keys.
    pub async fn costs(&self, from: Day, to: Day, project: Option<&Name>, by: &str) -> Result<CostsView, Error> {
        let mut url = self.at(&["v1", "costs"]);
        url.query_pairs_mut()
            .append_pair("from", &from.to_string())
            .append_pair("to", &to.to_string())
            .append_pair("by", by)
            .extend_pairs(project.map(|name| ("project", name.as_str())));
        self.get(url).await
    }

    pub async fn prices(
        &self,
        gpu: Option<&str>,
        provider: Option<&str>,
        cursor: Option<&str>,
    ) -> Result<Page<PriceRow>, Error> {
        let mut url = self.at_list("prices", cursor);
        let words = [gpu.map(|gpu| ("gpu", gpu)), provider.map(|provider| ("provider", provider))];
        url.query_pairs_mut().extend_pairs(words.into_iter().flatten());
        self.get(url).await
    }

    pub async fn add_prices(&self, prices: &PricesAdd) -> Result<PricesAdded, Error> {
        self.json(self.request(Method::POST, self.at(&["v1", "prices"])).json(prices)).await
    }

    pub async fn paid_by(&self, cursor: Option<&str>) -> Result<Page<PaidByView>, Error> {
        self.get(self.at_list("paid-by", cursor)).await
    }

    pub async fn pay_by(&self, what: &PaidFor, change: &PaidByChange) -> Result<PaidByView, Error> {
        self.json(self.request(Method::PUT, self.at(&["v1", "paid-by", &what.to_string()])).json(change)).await
    }

    pub async fn schedules(&self, cursor: Option<&str>) -> Result<Page<ScheduleView>, Error> {
        self.get(self.at_list("schedules", cursor)).await
    }

    pub async fn schedule(&self, name: &Name) -> Result<ScheduleView, Error> {
        self.get(self.at(&["v1", "schedules", name.as_str()])).await
    }

    /// A new schedule. Any JSON, as with [`Client::submit`].
    pub async fn add_schedule(&self, schedule: &impl Serialize) -> Result<ScheduleStored, Error> {
        self.json(self.request(Method::POST, self.at(&["v1", "schedules"])).json(schedule)).await
    }

    /// A new schedule, or one in the place of that of the same name.
    pub async fn put_schedule(&self, name: &str, schedule: &impl Serialize) -> Result<ScheduleStored, Error> {
        self.json(self.request(Method::PUT, self.at(&["v1", "schedules", name])).json(schedule)).await
    }

    /// Its jobs go on.
    pub async fn remove_schedule(&self, name: &Name) -> Result<(), Error> {
        let url = self.at(&["v1", "schedules", name.as_str()]);
        self.send(self.request(Method::DELETE, url)).await.map(drop)
    }

    pub async fn pause_schedule(&self, name: &Name) -> Result<ScheduleView, Error> {
        self.json(self.request(Method::POST, self.at(&["v1", "schedules", name.as_str(), "pause"]))).await
    }

    pub async fn resume_schedule(&self, name: &Name) -> Result<ScheduleView, Error> {
        self.json(self.request(Method::POST, self.at(&["v1", "schedules", name.as_str(), "resume"]))).await
    }

    /// Makes a job of the schedule now. The same key again is the same job.
    pub async fn run_schedule(&self, name: &Name, idempotency_key: &str) -> Result<Submitted, Error> {
        let request = self.request(Method::POST, self.at(&["v1", "schedules", name.as_str(), "run"]));
        self.json(request.header("idempotency-key", idempotency_key)).await
    }

    /// What became of its due times, newest first.
    pub async fn schedule_runs(&self, name: &Name, cursor: Option<&str>) -> Result<Page<RunView>, Error> {
        let mut url = self.at(&["v1", "schedules", name.as_str(), "runs"]);
        page_of(&mut url, cursor, None);
        self.get(url).await
    }

    pub async fn next_runs(&self, name: &Name, count: u32) -> Result<Upcoming, Error> {
        let mut url = self.at(&["v1", "schedules", name.as_str(), "next"]);
        url.query_pairs_mut().append_pair("count", &count.to_string());
        self.get(url).await
    }

    /// When an expression is due that is not stored.
    pub async fn calendar(&self, cron: &str, zone: &str, count: u32) -> Result<Upcoming, Error> {
        let mut url = self.at(&["v1", "calendar"]);
        let count = count.to_string();
        url.query_pairs_mut().append_pair("cron", cron).append_pair("zone", zone).append_pair("count", &count);
        self.get(url).await
    }

    /// How the scheduler's parts are, also when it is not ready.
    pub async fn readiness(&self) -> Result<Readiness, Error> {
        let request = self.request(Method::GET, self.at(&["readyz"]));
        let response = request.send().await.map_err(|error| Error::lost(self.url(), error))?;
        match response.status() {
            StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE => self.read_json(response).await,
            _ => Err(self.refusal(response).await),
        }
    }

    async fn get<T: DeserializeOwned>(&self, url: Url) -> Result<T, Error> {
        self.json(self.request(Method::GET, url)).await
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.http.request(method, url).timeout(REQUEST_TIMEOUT)
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        let response = self.send(request).await?;
        self.read_json(response).await
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        let (http, request) = request.build_split();
        let request = request.map_err(|error| Error::lost(self.url(), error))?;
        let harmless = request.method() != Method::POST || request.headers().contains_key("idempotency-key");
        let mut waited = Duration::ZERO;
        for number in 1.. {
            // No body of this client is a stream, so that each can be sent again.
            let once = request.try_clone().expect("bodies are bytes");
            let response = http.execute(once).await.map_err(|error| Error::lost(self.url(), error))?;
            if response.status().is_success() {
                return Ok(response);
            }
            let wait = retry_after(&response).map(|wait| (wait * number).clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX));
            let refusal = self.refusal(response).await;
            match wait {
                Some(wait) if harmless && refusal.is_crowded() && waited + wait <= CROWDED_PATIENCE => {
                    tokio::time::sleep(wait).await;
                    waited += wait;
                }
                Some(_) | None => return Err(refusal),
            }
        }
        unreachable!("each wait counts, and patience ends")
    }

    async fn read_json<T: DeserializeOwned>(&self, response: Response) -> Result<T, Error> {
        let body = self.read(response).await?;
        serde_json::from_slice(&body).map_err(|error| Error::Misunderstood { url: self.url().to_owned(), error })
    }

    async fn refusal(&self, response: Response) -> Error {
        let status = response.status().as_u16();
        match self.read(response).await {
            Err(error) => error,
            Ok(body) => match serde_json::from_slice(&body) {
                Ok(problem) => Error::Refused(Box::new(problem)),
                Err(_) => Error::strange(self.url(), status, &body),
            },
        }
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| Error::lost(self.url(), error))? {
            if body.len() + piece.len() > ANSWER_SIZE_MAX {
                return Err(Error::TooLarge { url: self.url().to_owned(), size_bytes_max: ANSWER_SIZE_MAX });
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    fn at(&self, parts: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("http addresses have a path").pop_if_empty().extend(parts);
        url
    }

    fn at_job(&self, id: JobId, parts: &[&str]) -> Url {
        let id = id.to_string();
        self.at(&[&["v1", "jobs", &id], parts].concat())
    }

    fn at_part(&self, id: JobId, part: &str, query: &PartQuery) -> Url {
        let mut url = self.at_job(id, &[part]);
        if let Some(step) = &query.step {
            url.query_pairs_mut().append_pair("step", step.as_str());
        }
        if let Some(state) = query.state {
            url.query_pairs_mut().append_pair("state", task_state(state));
        }
        page_of(&mut url, query.cursor.as_deref(), query.limit);
        url
    }

    fn at_list(&self, list: &str, cursor: Option<&str>) -> Url {
        let mut url = self.at(&["v1", list]);
        page_of(&mut url, cursor, Some(PAGE_SIZE_MAX));
        url
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get("retry-after")?.to_str().ok()?;
    seconds.parse().ok().map(Duration::from_secs)
}

fn page_of(url: &mut Url, cursor: Option<&str>, limit: Option<u32>) {
    if let Some(cursor) = cursor {
        url.query_pairs_mut().append_pair("cursor", cursor);
    }
    if let Some(limit) = limit {
        url.query_pairs_mut().append_pair("limit", &limit.to_string());
    }
}

fn task_state(state: TaskState) -> &'static str {
    match state {
        TaskState::Waiting => "waiting",
        TaskState::Open => "open",
        TaskState::Done => "done",
        TaskState::Failed => "failed",
        TaskState::Canceled => "canceled",
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
