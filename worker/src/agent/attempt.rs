//! One claimed attempt: stage, render task after task, commit while the next one renders, report.

use super::tasks::Tasks;
use super::{Crew, Leave, Pace};
use crate::commit::{Committer, milliseconds};
use crate::gpu::Gpus;
use crate::inputs::Staged;
use crate::logs::AttemptLog;
use crate::queue::{Item, Reports};
use crate::renderer::command::{self, Command};
use crate::renderer::{Failure, Output, Rendered, Step, Task, Watch};
use framewake_proto::function::{Driver, Per};
use framewake_proto::ids::AttemptId;
use framewake_proto::tasks::TaskSet;
use framewake_proto::verdict::Verdict;
use framewake_proto::wire::{
    AttemptEnd, EVIDENCE_MAX, FAILURE_MESSAGE_MAX, TaskDone, TaskFailed, TaskMoments, clip, clip_front,
};
use framewake_proto::xid;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::SetOnce;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// Commits under way while the renderer goes on; more would only fill the disk.
const COMMITS_MAX: usize = 2;
/// How often the log is published.
const LOG_WAIT: Duration = Duration::from_millis(250);
/// How often it is judged anew whether the frame at hand fits the time left.
const JUDGE_AGAIN: Duration = Duration::from_millis(500);
/// How long the end of a log may take to be published: 16 MiB take a quarter of a second.
const LOG_END_WAIT: Duration = Duration::from_secs(2);

/// What the parts of an attempt share.
pub(super) struct Attempt {
    pub(super) id: AttemptId,
    pub(super) step: Arc<Step>,
    pub(super) tasks: Tasks,
    pub(super) reports: Reports,
    log: AttemptLog,
    /// All tasks are one process's.
    one_process: bool,
    pub(super) committer: Committer,
    pub(super) gpus: Gpus,
    claimed: Instant,
    /// When its inputs were there.
    staged: SetOnce<Instant>,
    /// It was told when the renderer was ready.
    told_loaded: AtomicBool,
    /// Why the frame at hand can't be done by any worker of this kind.
    pub(super) too_long: OnceLock<Failure>,
}

/// When a try at a task was where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moments {
    claimed: Instant,
    began: Instant,
    rendered: Instant,
}

impl Moments {
    /// As reports have them, of a try that ends now.
    pub(super) fn told(self, uploading: Option<Instant>) -> TaskMoments {
        let since = |at: Instant| Some(milliseconds(at.saturating_duration_since(self.claimed)));
        TaskMoments {
            began_ms: since(self.began),
            rendered_ms: since(self.rendered),
            uploading_ms: uploading.and_then(since),
            ended_ms: since(Instant::now()),
        }
    }
}

impl Crew {
    /// Works on a granted attempt until its end is reported.
    pub(super) async fn work(&mut self, id: AttemptId, step: Arc<Step>, tasks: TaskSet, claimed: Instant) {
        let log = AttemptLog::default();
        let halt = CancellationToken::new();
        let progress = self.heartbeats.progress.clone();
        let deadline = claimed + step.order.timeouts.chunk.0;
        let watch = Watch::new(log.clone(), progress, halt.clone(), deadline, self.gpus.clone());
        let committer = Committer {
            store: self.store.clone(),
            pictures: self.pictures.clone(),
            worker: self.worker.clone(),
            step: step.clone(),
            gpu_asked: self.setup.function.resources.gpus > 0,
            allow_cpu: step.order.allow_cpu,
        };
        self.store.begin(id, committer.keys(&tasks)).await;
        let reports = self.reports.clone();
        let (leave, pace, permille) = (self.leave.clone(), self.pace.clone(), self.heartbeats.progress.subscribe());
        let given_up = CancellationToken::new();
        let (logs, job) = (self.logs.clone(), step.order.job);
        let one_process = matches!(self.setup.function.driver, Driver::Command { per: Per::Chunk, .. });
        let (tasks, gpus, staged, too_long) = (Tasks::new(&tasks), self.gpus.clone(), SetOnce::new(), OnceLock::new());
        let told_loaded = AtomicBool::new(false);
        let attempt = Attempt {
            id,
            step,
            tasks,
            reports,
            log,
            one_process,
            committer,
            gpus,
            claimed,
            staged,
            told_loaded,
            too_long,
        };
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        let mut wanted = self.heartbeats.wanted.clone();
        let abort = self.leave.abort.clone();
        let obey = async {
            loop {
                let control = wanted.borrow_and_update().clone();
                if crate::queue::attempt_id(control.chunk, control.attempt) == Some(id) {
                    if !control.stop.is_empty() {
                        attempt.log.worker_says(&format!("stopped: {}", clip(&control.stop, 200)));
                        halt.cancel();
                    }
                    if control.keep_tasks > 0 {
                        attempt.release(attempt.tasks.keep(control.keep_tasks)).await;
                    }
                }
                tokio::select! {
                    changed = wanted.changed() => if changed.is_err() { break },
                    () = abort.cancelled() => {
                        halt.cancel();
                        break;
                    }
                }
            }
            std::future::pending::<()>().await;
        };
        let keep_time = async {
            let why = leave_in_time(&leave, &pace, &permille).await;
            // Given back for nothing it would come again, and again.
            if let Some(whole) = pace.at_hand().and_then(|since| leave.too_short_for(since)) {
                let message = format!(
                    "the frame was not done in the {:.0} s that a worker has here; hint: a longer `longest_run` of the \
                     pool, or a pool without such a limit (`scaling.pools` of the function)",
                    whole.as_secs_f64()
                );
                let _first = attempt.too_long.set(Failure::new(Verdict::Hung, message));
            }
            attempt.log.worker_says(&format!("handed back: {why}"));
            tracing::info!(attempt = %id, "attempt {id} is handed back: {why}");
            given_up.cancel();
            halt.cancel();
            std::future::pending::<()>().await;
        };
        let give_back_rest = async {
            leave.drain.cancelled().await;
            // One process has all tasks of the chunk: it would go on with those that others could do.
            if attempt.one_process {
                attempt.release(attempt.tasks.keep_at_hand()).await;
            }
            std::future::pending::<()>().await;
        };
        let (gpus, break_off) = (self.gpus.clone(), halt.clone());
        let watch_gpus = async {
            gpus.broken().await;
            break_off.cancel();
            std::future::pending::<()>().await;
        };
        // People wait for a worker's first frame, which may take long: how far it came is told on the way.
        let tell_way = async {
            if is_first {
                attempt.tell_staged(*attempt.staged.wait().await).await;
                attempt.tell_loaded(watch.until_began().await).await;
            }
            std::future::pending::<()>().await;
        };
        let publish_often = async {
            loop {
                tokio::time::sleep(LOG_WAIT).await;
                // What NATS has no room for yet stays in the log, which has a bound of its own.
                Box::pin(logs.publish(job, id, &attempt.log)).await;
            }
        };
        let end = tokio::select! {
            end = self.render(&attempt, &watch) => end,
            () = obey => unreachable!("it obeys for ever"),
            () = publish_often => unreachable!("it publishes for ever"),
            () = tell_way => unreachable!("it waits for ever"),
            () = watch_gpus => unreachable!("it waits for ever"),
            () = keep_time => unreachable!("it waits for ever"),
            () = give_back_rest => unreachable!("it waits for ever"),
        };
        attempt.log.close();
        // The log's end must be on its stream before the attempt's: at that the scheduler moves the log to the store.
        let end_of_log = async {
            logs.publish(job, id, &attempt.log).await;
            if attempt.log.size_bytes() > 0 {
                logs.flush().await;
            }
        };
        // The next attempt must not wait for a log that nobody takes.
        let _given_up = tokio::time::timeout(LOG_END_WAIT, Box::pin(end_of_log)).await;
        // Aborted by a second signal or for want of time, not canceled by the scheduler: someone else shall go on.
        let must_go = self.leave.abort.is_cancelled() || given_up.is_cancelled();
        let end = if must_go && end == AttemptEnd::Canceled { AttemptEnd::HandedBack } else { end };
        if end == AttemptEnd::HandedBack {
            let left = attempt.tasks.held();
            self.figures.given_back(left);
            self.handed_back |= left > 0 && (must_go || self.leave.until().is_some());
        }
        let end = attempt.blame_gpu(end).await;
        let lost = attempt.log.give_up();
        if lost > 0 {
            tracing::warn!(attempt = %id, bytes = lost, "the end of the log of attempt {id} is lost: NATS does not take it");
        }
        let (log_bytes, log_left_out_bytes) = (attempt.log.size_bytes(), attempt.log.left_out().bytes);
        attempt.reports.tell(id, Item::End { end, log_bytes, log_left_out_bytes }).await;
        tracing::debug!(attempt = %id, ?end, elapsed_ms = milliseconds(claimed.elapsed()), "attempt ended");
    }

    /// Gives back an attempt of which nothing was begun.
    pub(super) async fn hand_back(&self, attempt: AttemptId) {
        let end = Item::End { end: AttemptEnd::HandedBack, log_bytes: 0, log_left_out_bytes: 0 };
        self.reports.tell(attempt, end).await;
    }

    async fn render(&mut self, attempt: &Attempt, watch: &Watch) -> AttemptEnd {
        let staged = tokio::select! {
            staged = self.inputs.stage(&attempt.step.order) => staged,
            () = watch.stop.cancelled() => return AttemptEnd::Canceled,
            () = tokio::time::sleep_until(watch.chunk_deadline) => {
                let chunk = attempt.step.order.timeouts.chunk;
                let message = format!("staging the inputs took longer than {chunk} (`timeouts.chunk`)");
                attempt.fail_all(&Failure::new(Verdict::Hung, message)).await;
                return AttemptEnd::Finished;
            }
        };
        let staged = match staged {
            Ok(staged) => staged,
            Err(error) => {
                attempt.fail_all(&error.failure()).await;
                return AttemptEnd::Finished;
            }
        };
        // Nobody else sets it.
        let _first = attempt.staged.set(Instant::now());
        match &self.setup.function.driver {
            Driver::Command { per: Per::Chunk, .. } => self.render_together(attempt, watch, &staged).await,
            Driver::Command { per: Per::Frame, .. } | Driver::Session { .. } => {
                self.render_each(attempt, watch, &staged).await
            }
        }
    }

    /// Task after task; a commit goes on while the next task renders.
    async fn render_each(&mut self, attempt: &Attempt, watch: &Watch, staged: &Staged) -> AttemptEnd {
        let mut commits = JoinSet::new();
        let end = loop {
            if watch.stop.is_cancelled() {
                break AttemptEnd::Canceled;
            }
            if self.is_leaving() {
                break AttemptEnd::HandedBack;
            }
            if Instant::now() >= watch.chunk_deadline {
                // The task that was too long has failed; the others had no chance.
                attempt.release(attempt.tasks.keep(0)).await;
                break AttemptEnd::Finished;
            }
            let Some(task) = attempt.tasks.begin_next() else { break AttemptEnd::Finished };
            let frame = attempt.frame(task);
            let work = match self.work_folder() {
                Ok(work) => work,
                Err(error) => {
                    let message = format!("cannot make a scratch folder: {error}");
                    attempt.fail(task, Failure::new(Verdict::RetryElsewhere, message), Duration::ZERO).await;
                    continue;
                }
            };
            let counted = tokio::select! {
                counted = attempt.count_existing(task, frame, &work.path) => counted,
                () = watch.stop.cancelled() => break AttemptEnd::Canceled,
            };
            if counted {
                continue;
            }
            watch.progress.send_replace(None);
            let began = Instant::now();
            self.pace.begin_frame(began);
            let rendered = {
                let task = Task { step: &attempt.step, inputs: staged, task, frame, work: &work.path };
                self.render_one(&task, watch).await
            };
            let moments = attempt.moments(began);
            self.pace.end_frame(match &rendered {
                Rendered::Done(output) => Some(output.elapsed),
                Rendered::Failed(_) | Rendered::Stopped => None,
            });
            if let Some(ready) = watch.began() {
                attempt.tell_loaded(ready).await;
            }
            match rendered {
                Rendered::Done(output) => {
                    attempt.tasks.end(task);
                    while commits.len() >= COMMITS_MAX {
                        tokio::select! {
                            _ = commits.join_next() => {}
                            () = watch.stop.cancelled() => break,
                        }
                    }
                    let committing = attempt.commit(task, frame, output, moments);
                    let committing = async move {
                        committing.await;
                        drop(work);
                    };
                    commits.spawn(committing.in_current_span());
                }
                Rendered::Failed(failure) => {
                    if attempt.was_gpu().await {
                        break AttemptEnd::HandedBack;
                    }
                    let waits = failure.verdict == Verdict::LicenseWait;
                    attempt.fail(task, failure, began.elapsed()).await;
                    if waits {
                        break AttemptEnd::LicenseWait;
                    }
                }
                Rendered::Stopped => {
                    if let Some(failure) = attempt.too_long.get() {
                        attempt.fail(task, failure.clone(), began.elapsed()).await;
                    }
                    break AttemptEnd::Canceled;
                }
            }
        };
        let committed = async { while commits.join_next().await.is_some() {} };
        tokio::select! {
            // A store that is away holds up the commits; nobody waits for those of a canceled attempt any more, and a
            // half-made object is never seen.
            () = watch.stop.cancelled() => AttemptEnd::Canceled,
            () = committed => end,
        }
    }

    async fn render_one(&mut self, task: &Task<'_>, watch: &Watch) -> Rendered {
        match &self.setup.function.driver {
            Driver::Session { bridge, command } => {
                self.session.render(&self.setup, *bridge, command, task, watch).await
            }
            Driver::Command { command, writes, .. } => {
                let command = Command { words: command, writes: writes.as_deref() };
                command::render_frame(&self.setup, command, task, watch).await
            }
        }
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leave.drain.is_cancelled() || self.heartbeats.wanted.borrow().drain || self.is_late()
    }

    pub(super) fn work_folder(&mut self) -> std::io::Result<WorkFolder> {
        self.works += 1;
        let path = self.setup.folders.work.join(self.works.to_string());
        std::fs::create_dir_all(&path)?;
        Ok(WorkFolder { path })
    }
}

/// Comes back, with the reason, when the work must be broken off to leave in time: nothing may be rendered any more, or a
/// worker that was asked to go has a frame at hand that is known not to fit.
async fn leave_in_time(
    leave: &Leave,
    pace: &Pace,
    progress: &tokio::sync::watch::Receiver<Option<(u32, crate::rules::Progress)>>,
) -> String {
    loop {
        let again = tokio::time::sleep(JUDGE_AGAIN);
        tokio::select! {
            () = leave.latest() => return "the time is up".to_owned(),
            () = async {
                leave.drain.cancelled().await;
                again.await;
            } => {}
        }
        let now = Instant::now();
        let permille = progress.borrow().as_ref().map(|(_, progress)| progress.permille);
        if let (Some(until), Some(left)) = (leave.until(), pace.left(now, permille))
            && now + left > until.latest
        {
            let time = until.latest.saturating_duration_since(now).as_secs_f64();
            return format!("the frame at hand needs about {:.1} s, and only {time:.1} s are left", left.as_secs_f64());
        }
    }
}

/// Removed with everything in it when nobody needs it any more.
pub(super) struct WorkFolder {
    pub(super) path: PathBuf,
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        let _best_effort = std::fs::remove_dir_all(&self.path);
    }
}

impl Attempt {
    pub(super) fn frame(&self, task: u32) -> i64 {
        self.step.frames.get(task).unwrap_or_default()
    }

    /// Of a task whose renderer is through with it now.
    pub(super) fn moments(&self, began: Instant) -> Moments {
        Moments { claimed: self.claimed, began, rendered: Instant::now() }
    }

    async fn tell_staged(&self, staged: Instant) {
        let staged_ms = milliseconds(staged.saturating_duration_since(self.claimed));
        self.reports.tell(self.id, Item::Staged { staged_ms }).await;
    }

    /// Tells how long it took until the renderer was ready, once.
    pub(super) async fn tell_loaded(&self, ready: Instant) {
        if self.told_loaded.swap(true, Ordering::Relaxed) {
            return;
        }
        let since = |at: Instant| milliseconds(at.saturating_duration_since(self.claimed));
        let staged_ms = self.staged.get().map_or(0, |at| since(*at));
        self.reports.tell(self.id, Item::Loaded { load_ms: since(ready), staged_ms }).await;
    }

    /// Counts a task that an earlier attempt committed before it was lost.
    pub(super) async fn count_existing(&self, task: u32, frame: i64, work: &Path) -> bool {
        if self.id.number <= 1 {
            return false;
        }
        match self.committer.count_existing(task, frame, &work.join("found")).await {
            Ok(None) => return false,
            Ok(Some(done)) => self.done(done).await,
            Err(failure) => self.fail(task, failure, Duration::ZERO).await,
        }
        self.tasks.end(task);
        true
    }

    /// Commits an output and reports what came of it.
    pub(super) fn commit(
        &self,
        task: u32,
        frame: i64,
        output: Output,
        moments: Moments,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (committer, reports, log, id) = (self.committer.clone(), self.reports.clone(), self.log.clone(), self.id);
        let elapsed_ms = milliseconds(output.elapsed);
        async move {
            let uploading = Instant::now();
            let committed = committer.commit(id, task, frame, output).await;
            let moments = Some(moments.told(Some(uploading)));
            match committed {
                Ok(done) => reports.tell(id, Item::Done(TaskDone { moments, ..done })).await,
                Err(failure) => {
                    let failed = TaskFailed { task, elapsed_ms, moments, ..TaskFailed::default() };
                    report_failure(&reports, &log, id, frame, failure, failed).await;
                }
            }
        }
    }

    pub(super) async fn done(&self, done: TaskDone) {
        self.tasks.end(done.task);
        self.reports.tell(self.id, Item::Done(done)).await;
    }

    pub(super) async fn fail(&self, task: u32, failure: Failure, elapsed: Duration) {
        self.tasks.end(task);
        let began = Instant::now() - elapsed;
        let xid = self.gpus.xid_since(began);
        let failed = TaskFailed {
            task,
            elapsed_ms: milliseconds(elapsed),
            xid: xid.unwrap_or(0),
            moments: Some(self.moments(began).told(None)),
            ..TaskFailed::default()
        };
        report_failure(&self.reports, &self.log, self.id, self.frame(task), with_xid(failure, xid), failed).await;
    }

    /// Whether a GPU broke under the renderer that has just failed: then the task is not to blame.
    pub(super) async fn was_gpu(&self) -> bool {
        self.gpus.look_again().await;
        !self.gpus.faults().is_empty()
    }

    /// With a broken GPU the attempt is over: the task at hand is lost with it, what was not begun is given back.
    async fn blame_gpu(&self, end: AttemptEnd) -> AttemptEnd {
        let Some(fault) = self.gpus.faults().into_iter().next() else { return end };
        if let Some(task) = self.tasks.first_begun() {
            self.tasks.end(task);
            let message = format!("GPU {} broke: {}", fault.uuid, fault.reason);
            self.log.worker_says(&format!("frame {}: {message}", self.frame(task)));
            let failed = TaskFailed {
                task,
                verdict: Verdict::Preempted.to_string(),
                message: clip(&message, FAILURE_MESSAGE_MAX).to_owned(),
                gpu_fault: Some(fault),
                ..TaskFailed::default()
            };
            self.reports.tell(self.id, Item::Failed(failed)).await;
        }
        AttemptEnd::HandedBack
    }

    /// Fails every task that is left, for a reason that they share.
    pub(super) async fn fail_all(&self, failure: &Failure) {
        while let Some(task) = self.tasks.begin_next() {
            self.fail(task, failure.clone(), Duration::ZERO).await;
        }
    }

    pub(super) async fn release(&self, tasks: TaskSet) {
        if !tasks.is_empty() {
            self.log.worker_says(&format!("gave back {} tasks", tasks.len()));
            self.reports.tell(self.id, Item::Released(tasks)).await;
        }
    }
}

/// What the driver said meanwhile belongs to what happened.
fn with_xid(mut failure: Failure, xid: Option<u32>) -> Failure {
    if let Some(xid) = xid {
        failure.message = format!("{}; the GPU's driver tells of {}", failure.message, xid::describe(xid));
    }
    failure
}

async fn report_failure(
    reports: &Reports,
    log: &AttemptLog,
    id: AttemptId,
    frame: i64,
    failure: Failure,
    failed: TaskFailed,
) {
    let task = failed.task;
    // People know their frames; tasks are numbered from 0.
    log.worker_says(&format!("frame {frame}: {}: {}", failure.verdict, failure.message));
    tracing::info!(attempt = %id, task, verdict = %failure.verdict, message = failure.message, "task failed");
    let failed = TaskFailed {
        verdict: failure.verdict.to_string(),
        message: clip(&failure.message, FAILURE_MESSAGE_MAX).to_owned(),
        evidence: clip_front(&failure.evidence, EVIDENCE_MAX).to_owned(),
        ..failed
    };
    reports.tell(id, Item::Failed(failed)).await;
}
