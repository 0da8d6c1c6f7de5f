//! A farm of one scheduler, its own nats-server, a store, and workers from zero.

use crate::nvml::StubNvml;
use crate::parts::{Nats, Running, S3, built, free_port, path, root};
use crate::wait::{until, until_ok};
use framewake_proto::api::{JobState, JobView, OutputView, TaskView};
use framewake_proto::client::{Client, PartQuery};
use framewake_proto::ids::JobId;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Longest wait for anything that takes a moment.
pub const SOON: Duration = Duration::from_secs(30);
/// Longest wait for a job.
pub const LONG: Duration = Duration::from_mins(3);

/// Where the farm keeps its outputs.
#[derive(Debug)]
pub enum Store {
    Folder,
    S3(S3),
}

/// Addresses by which scheduler and workers reach the others, where not directly.
#[derive(Debug, Clone)]
pub struct Routes {
    /// NATS and S3 as the scheduler sees them.
    pub nats: String,
    pub s3: String,
    /// The worker program; a wrapper may lead it elsewhere.
    pub worker: PathBuf,
}

/// How the scheduler is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchedulerState {
    Runs,
    /// By the test.
    Killed,
    /// By itself.
    Ended,
}

#[derive(Debug)]
pub struct TestFarm {
    scheduler: Option<Running>,
    pub nats: Nats,
    pub store: Store,
    pub client: Client,
    pub slots: u32,
    folder: TempDir,
    port: u16,
    functions: PathBuf,
    routes: Option<Routes>,
    /// The worker program, where it is another.
    pub worker: Option<PathBuf>,
    environment: Vec<(String, String)>,
    /// Beside those that every test gives its scheduler.
    pub arguments: Vec<String>,
    /// NVIDIA's library, as scheduler and workers find it.
    nvml: Option<StubNvml>,
}

impl TestFarm {
    /// A farm with a local folder as its store and the sample functions.
    pub async fn start(slots: u32) -> TestFarm {
        TestFarm::start_with(slots, false, &root().join("samples/functions")).await
    }

    pub async fn start_on_s3(slots: u32) -> TestFarm {
        TestFarm::start_with(slots, true, &root().join("samples/functions")).await
    }

    pub async fn start_with(slots: u32, s3: bool, functions: &Path) -> TestFarm {
        let mut farm = TestFarm::make(slots, s3, functions);
        farm.restart_scheduler().await;
        farm
    }

    /// On a machine with the GPUs that these lines describe (see `tests/nvml/stub.c`).
    pub async fn start_with_gpus(slots: u32, lines: &str) -> TestFarm {
        let mut farm = TestFarm::make(slots, false, &root().join("samples/functions"));
        let nvml = StubNvml::build(farm.folder());
        nvml.says(lines);
        farm.environment.extend(nvml.environment().map(|(name, value)| (name.to_owned(), value)));
        farm.nvml = Some(nvml);
        farm.restart_scheduler().await;
        farm
    }

    /// Over the pools of these files instead of this machine.
    pub async fn start_over_pools(functions: &Path, pools: &Path) -> TestFarm {
        TestFarm::make(0, false, functions).over_pools(pools).await
    }

    /// Where NATS lets in only whom the scheduler signs for. `prepare` comes before the scheduler.
    pub async fn start_guarded(
        slots: u32,
        s3: bool,
        functions: &Path,
        prepare: impl FnOnce(&mut TestFarm),
    ) -> TestFarm {
        let mut farm = TestFarm::make(slots, s3, functions);
        let seed = farm.nats.guard();
        farm.environment.push(("FRAMEWAKE_NATS_SEED_FILE".to_owned(), seed.display().to_string()));
        prepare(&mut farm);
        farm.restart_scheduler().await;
        farm
    }

    /// The same, where the pools need to know the farm: `pools` is told it, before it has a scheduler.
    pub async fn start_over_pools_for(
        functions: &Path,
        s3: bool,
        pools: impl AsyncFnOnce(&TestFarm) -> PathBuf,
    ) -> TestFarm {
        let farm = TestFarm::make(0, s3, functions);
        let pools = pools(&farm).await;
        farm.over_pools(&pools).await
    }

    async fn over_pools(mut self, pools: &Path) -> TestFarm {
        self.environment.push(("FRAMEWAKE_POOLS".to_owned(), pools.display().to_string()));
        self.restart_scheduler().await;
        self
    }

    pub fn nvml(&self) -> &StubNvml {
        self.nvml.as_ref().expect("a farm with GPUs")
    }

    /// On an S3 server, with ways of its own between the parts: `routes` is told the farm's folder, the data folder
    /// and the two servers, before the scheduler starts.
    pub async fn start_routed(slots: u32, routes: impl AsyncFnOnce(&TestFarm, &S3) -> Routes) -> TestFarm {
        let mut farm = TestFarm::make(slots, true, &root().join("samples/functions"));
        let Store::S3(s3) = &farm.store else { unreachable!("made above") };
        let routes = routes(&farm, s3).await;
        farm.routes = Some(routes);
        farm.restart_scheduler().await;
        farm
    }

    fn make(slots: u32, s3: bool, functions: &Path) -> TestFarm {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::Builder::new().prefix("framewake-").tempdir().expect("there is room for a folder");
        let nats = Nats::start(folder.path());
        let store = if s3 { Store::S3(S3::start(folder.path())) } else { Store::Folder };
        let port = free_port();
        let client = Client::new(&format!("http://127.0.0.1:{port}")).expect("a good address");
        let functions = functions.to_owned();
        TestFarm {
            scheduler: None,
            nats,
            store,
            client,
            slots,
            folder,
            port,
            functions,
            routes: None,
            worker: None,
            environment: Vec::new(),
            arguments: Vec::new(),
            nvml: None,
        }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Outputs, when the store is a folder.
    pub fn store_folder(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    pub fn store_url(&self) -> String {
        match &self.store {
            Store::Folder => format!("file://{}", self.store_folder().display()),
            // Not there yet: the scheduler makes it (`--store-setup`).
            Store::S3(_) => "s3://made-by-framewake/farm".to_owned(),
        }
    }

    pub fn url(&self) -> String {
        self.client.url().to_owned()
    }

    /// The scheduler's command line on this farm's folder.
    pub fn scheduler_command(&self) -> Command {
        self.scheduler_command_in(&self.data(), &format!("127.0.0.1:{}", self.port))
    }

    /// Another scheduler on this farm's NATS and store, with a data folder and an address of its own.
    pub fn scheduler_command_in(&self, data: &Path, listen: &str) -> Command {
        let name = if data == self.data() { "framewake" } else { "other" };
        self.scheduler_command_of(name, data, listen)
    }

    /// The same, for a farm of this name on NATS.
    pub fn scheduler_command_of(&self, name: &str, data: &Path, listen: &str) -> Command {
        let mut command = Command::new(built("framewake-scheduler"));
        command.args(["--farm", name]).arg("--data").arg(data);
        let nats = self.routes.as_ref().map_or_else(|| self.nats.url(), |routes| routes.nats.clone());
        command.args(["--listen", listen, "--nats", &nats]);
        command.args(["--store", &self.store_url(), "--slots", &self.slots.to_string()]);
        let routed = self.routes.as_ref().map(|routes| routes.worker.clone());
        let worker = self.worker.clone().or(routed).unwrap_or_else(|| built("framewake-worker"));
        command.arg("--worker-bin").arg(worker);
        command.arg("--functions").arg(&self.functions).args(&self.arguments);
        command.env("PATH", path()).env("RUST_BACKTRACE", "0");
        // Renderers of tests leave notes where the test reads them.
        command.env("FRAMEWAKE_WRITABLE", std::env::temp_dir());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Store::S3(s3) = &self.store {
            command.arg("--store-setup").envs(s3.environment());
            if let Some(routes) = &self.routes {
                command.env("AWS_ENDPOINT_URL", &routes.s3);
            }
        }
        command
    }

    pub fn kill_scheduler(&mut self) {
        self.scheduler = None;
    }

    pub async fn restart_scheduler(&mut self) {
        self.spawn_scheduler();
        self.ready().await;
    }

    /// The same, with this in its environment and in that of its workers.
    pub async fn restart_scheduler_with(&mut self, environment: &[(&str, &str)]) {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.environment = environment.collect();
        self.restart_scheduler().await;
    }

    /// Starts it, again on the same folder, without a wait for its first answer.
    pub fn spawn_scheduler(&mut self) {
        self.scheduler = None;
        std::fs::create_dir_all(self.data()).expect("the test's folder is writable");
        std::fs::create_dir_all(self.store_folder()).expect("the test's folder is writable");
        let log = self.folder.path().join("scheduler.log");
        self.scheduler = Some(Running::start("framewake-scheduler", &mut self.scheduler_command(), &log));
    }

    /// Scheduler, NATS, S3 server, workers and renderers, in the same instant: `kill -9`.
    pub fn kill_everything(&mut self) {
        self.scheduler = None;
        for pid in self.worker_pids().into_iter().chain(self.renderer_pids()) {
            kill(pid);
        }
        self.nats.kill();
        if let Store::S3(s3) = &mut self.store {
            s3.kill();
        }
    }

    /// All of it again, on the same folders.
    pub async fn start_everything(&mut self) {
        self.nats.spawn();
        if let Store::S3(s3) = &mut self.store {
            s3.restart();
        }
        self.nats.answers();
        self.restart_scheduler().await;
    }

    /// Port of the REST interface.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until every part is well.
    pub async fn ready(&mut self) {
        let scheduler = self.scheduler.as_mut().expect("started");
        let client = &self.client;
        until(SOON, "the scheduler is ready", || {
            scheduler.assert_alive();
            async { client.readiness().await.ok().filter(|readiness| readiness.ready) }
        })
        .await;
    }

    pub fn scheduler_running(&self) -> Option<&Running> {
        self.scheduler.as_ref()
    }

    pub fn scheduler_state(&mut self) -> SchedulerState {
        let Some(scheduler) = &mut self.scheduler else { return SchedulerState::Killed };
        if scheduler.ended() { SchedulerState::Ended } else { SchedulerState::Runs }
    }

    pub fn scheduler(&mut self) -> &mut Running {
        self.scheduler.as_mut().expect("started")
    }

    pub fn scheduler_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("scheduler.log")).unwrap_or_default()
    }

    /// Submits and gives the job's id.
    /// What REST answers, field by field.
    pub async fn rest(&self, address: &str) -> Value {
        let answer = reqwest::get(format!("{}/v1{address}", self.url())).await.expect("answered");
        answer.json().await.expect("JSON")
    }

    pub async fn submit(&self, job: &Value) -> JobId {
        self.client.submit(job, &unique()).await.unwrap_or_else(|error| panic!("refused: {error:?}")).id
    }

    /// Waits until the job is over, however it ends.
    pub async fn over(&self, id: JobId) -> JobView {
        until(LONG, "the job is over", || async { self.client.job(id).await.ok().filter(|job| job.state.is_over()) })
            .await
    }

    /// Submits, waits, and demands success.
    pub async fn succeed(&self, job: &Value) -> JobView {
        let id = self.submit(job).await;
        let view = self.over(id).await;
        if view.state != JobState::Succeeded {
            let failed = self.failures(id).await;
            panic!("the job ended {}: {failed:#?}\n{}", view.state, self.scheduler_log());
        }
        view
    }

    pub async fn failures(&self, id: JobId) -> Vec<TaskView> {
        let query = PartQuery { state: Some(framewake_proto::api::TaskState::Failed), ..PartQuery::default() };
        self.client.tasks(id, &query).await.map(|page| page.items).unwrap_or_default()
    }

    /// All outputs, over all pages.
    pub async fn outputs(&self, id: JobId) -> Vec<OutputView> {
        let mut outputs = Vec::new();
        let mut query = PartQuery::default();
        loop {
            let page = self.client.outputs(id, &query).await.expect("outputs can be listed");
            outputs.extend(page.items);
            query.cursor = page.next;
            if query.cursor.is_none() {
                return outputs;
            }
        }
    }

    /// Process ids of this farm's workers that are alive.
    pub fn worker_pids(&self) -> Vec<u32> {
        let data = self.data().display().to_string();
        let mine = |process: &Process| {
            // Each has a keeper of the same program, which looks after its renderers.
            is_worker(process) && !process.line.contains("keep-renderers") && process.line.contains(&data)
        };
        let all = processes();
        // A child that is about to run another program still has the command line of its parent.
        let forked = |process: &Process| {
            let above = parent(process.pid);
            all.iter().any(|other| Some(other.pid) == above && other.line == process.line)
        };
        all.iter().filter(|process| mine(process) && !forked(process)).map(|process| process.pid).collect()
    }

    /// Process ids of the renderers that work for this farm's workers: they are told paths of their scratch folders.
    pub fn renderer_pids(&self) -> Vec<u32> {
        let workers = self.data().join("workers").display().to_string();
        let mine = |process: &Process| !is_worker(process) && process.line.contains(&workers);
        processes().into_iter().filter(mine).map(|process| process.pid).collect()
    }

    pub async fn no_workers(&self) {
        until_ok(SOON, "all workers have left", || async {
            let page = self.client.workers(None).await.map_err(|error| error.to_string())?;
            let pids = self.worker_pids();
            if page.items.is_empty() && pids.is_empty() {
                return Ok(());
            }
            Err(format!("processes {pids:?}, {:#?}", page.items))
        })
        .await;
    }

    pub async fn idle_worker(&self) {
        until(SOON, "a worker is there", || async {
            let page = self.client.workers(None).await.ok()?;
            page.items.iter().any(|worker| worker.state != framewake_proto::api::WorkerState::Starting).then_some(())
        })
        .await;
    }
}

impl Drop for TestFarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- scheduler log ---\n{}", tail(&self.scheduler_log(), 8000));
        }
        self.scheduler = None;
        for pid in self.worker_pids() {
            if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

fn is_worker(process: &Process) -> bool {
    process.line.split(' ').next().is_some_and(|program| program.ends_with("/framewake-worker"))
}

/// `kill -9`.
pub fn kill(pid: u32) {
    signal(pid, rustix::process::Signal::KILL);
}

pub fn signal(pid: u32, signal: rustix::process::Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

pub fn tail(text: &str, bytes: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(bytes))..]
}

/// A process of this machine.
#[derive(Debug)]
pub struct Process {
    pub pid: u32,
    /// Its command line, words parted by spaces.
    pub line: String,
}

pub fn processes() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.map(|pid| {
        let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        Process { pid, line: String::from_utf8_lossy(&bytes).replace('\0', " ") }
    })
    .collect()
}

/// Of which process it is a child.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may have spaces and brackets.
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

/// A key that no other test uses.
pub fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
