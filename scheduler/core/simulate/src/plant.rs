//! Faults planted between the rules and the world, each to be seen by the auditor and called by its name.

use crate::auditor::Heard;
use crate::invariant::Invariant;
use framewake_core::change::{Change, JobState, Outcome};
use framewake_core::effect::{Control, Effect};
use framewake_core::event::{GpuUse, GpuWord, Moments, TaskFailure, TaskResult};
use framewake_core::farm::Applied;
use framewake_core::ledger::{Cause, Spent};
use framewake_core::values::{PoolRules, Snapshot, StoredChunkState};
use framewake_proto::ids::{AttemptId, FunctionKey, Name, WorkerId};
use framewake_proto::verdict::Verdict;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plant {
    /// A committed result is recorded a second time.
    DoneTwice,
    /// A task counts as done when it is given out.
    DoneWithoutObject,
    /// A stale attempt's report is believed.
    StaleReportCounts,
    /// An attempt begins with the number of the one before.
    AttemptNumberKept,
    /// Chunk numbers start again after a restart.
    ChunkNumbersReused,
    /// A chunk is given to a second worker.
    GivenTwice,
    /// A job is forgotten over a restart.
    RestartForgetsJob,
    /// A done task is forgotten over a restart.
    RestartForgetsTask,
    /// The count of done tasks runs ahead.
    CountRunsAhead,
    /// A canceled job's order is published.
    CanceledJobOrders,
    /// The end of a job is announced when a task is done.
    OverTooEarly,
    /// A worker is stopped as soon as it has work.
    StopsWhoRenders,
    /// A worker is told to stop although its job goes on.
    TellsToStop,
    /// When a job is over, one more worker is asked for.
    StartsForNothing,
    /// Workers are never asked for.
    NeverStarts,
    /// A lost worker is charged to the task.
    LossSpendsAttempt,
    /// A frame that kills its workers is told from a wrong scene no more.
    KillerCalledSceneError,
    /// A frame is quarantined when its first worker is lost.
    QuarantinedAtOnce,
    /// For each worker that is asked for, another is.
    TooManyWorkers,
    /// Workers are all asked for in the pool that holds least.
    PoolOverfull,
    /// Each order is published fifty times.
    OrderFlood,
    /// What JetStream lost is not published again.
    WipeForgotten,
    /// Orders of second and later attempts are never published.
    RetryNeverPublished,
    /// A job with failed tasks ends as succeeded.
    FailureHidden,
    /// Idle time is given to no cause.
    IdleForgotten,
    /// Time is given to two causes.
    SpentTwice,
    /// Time is booked under no pool that was of one.
    PoolForgotten,
    /// A worker is paid on after it is gone.
    PaidForEver,
    /// How far a worker is accounted for is forgotten over a restart.
    RestartForgetsAccount,
}

impl Plant {
    pub const ALL: [Plant; 29] = [
        Plant::DoneTwice,
        Plant::DoneWithoutObject,
        Plant::StaleReportCounts,
        Plant::AttemptNumberKept,
        Plant::ChunkNumbersReused,
        Plant::GivenTwice,
        Plant::RestartForgetsJob,
        Plant::RestartForgetsTask,
        Plant::CountRunsAhead,
        Plant::CanceledJobOrders,
        Plant::OverTooEarly,
        Plant::StopsWhoRenders,
        Plant::TellsToStop,
        Plant::StartsForNothing,
        Plant::NeverStarts,
        Plant::LossSpendsAttempt,
        Plant::KillerCalledSceneError,
        Plant::QuarantinedAtOnce,
        Plant::TooManyWorkers,
        Plant::PoolOverfull,
        Plant::OrderFlood,
        Plant::WipeForgotten,
        Plant::RetryNeverPublished,
        Plant::FailureHidden,
        Plant::IdleForgotten,
        Plant::SpentTwice,
        Plant::PoolForgotten,
        Plant::PaidForEver,
        Plant::RestartForgetsAccount,
    ];

    /// What the auditor must say of it.
    pub fn breaks(self) -> Invariant {
        match self {
            Plant::DoneTwice => Invariant::OneResult,
            Plant::DoneWithoutObject => Invariant::OnlyObjectsCount,
            Plant::StaleReportCounts => Invariant::StaleChangesNothing,
            Plant::AttemptNumberKept | Plant::ChunkNumbersReused => Invariant::FenceRises,
            Plant::GivenTwice => Invariant::OneHolder,
            Plant::RestartForgetsJob => Invariant::JobsSurvive,
            Plant::RestartForgetsTask | Plant::CountRunsAhead => Invariant::CountsAgree,
            Plant::CanceledJobOrders | Plant::OverTooEarly => Invariant::OverIsOver,
            Plant::StopsWhoRenders | Plant::TellsToStop => Invariant::NobodyIsStopped,
            Plant::StartsForNothing => Invariant::NoDemandNoWorkers,
            Plant::NeverStarts => Invariant::DemandGetsWorkers,
            Plant::LossSpendsAttempt => Invariant::LossIsFree,
            Plant::KillerCalledSceneError => Invariant::KillersAreQuarantined,
            Plant::QuarantinedAtOnce => Invariant::HealthyAreNotQuarantined,
            Plant::TooManyWorkers | Plant::PoolOverfull => Invariant::WorkersAreBounded,
            Plant::OrderFlood => Invariant::OrdersAreBounded,
            Plant::WipeForgotten => Invariant::OrdersComeAgain,
            Plant::RetryNeverPublished => Invariant::WorkEnds,
            Plant::FailureHidden => Invariant::NothingIsMissing,
            Plant::IdleForgotten
            | Plant::SpentTwice
            | Plant::PoolForgotten
            | Plant::PaidForEver
            | Plant::RestartForgetsAccount => Invariant::PaidTimeAddsUp,
        }
    }

    /// Bends what an event gave.
    pub(crate) fn bend(self, heard: &Heard, function: &FunctionKey, smallest: &Name, applied: &mut Applied) {
        let Applied { changes, effects } = applied;
        match self {
            Plant::DoneTwice => {
                changes.extend(changes.iter().find(|c| matches!(c, Change::TaskDone { .. })).cloned());
            }
            Plant::DoneWithoutObject => {
                if let Some((job, step, attempt, _, tasks, at)) = started(changes) {
                    let task = tasks.runs().last().map_or(0, |run| run.end - 1);
                    changes.push(Change::TaskDone { job, step, attempt, result: result(task), at });
                }
            }
            Plant::AttemptNumberKept => {
                for change in changes {
                    if let Change::AttemptStarted { attempt, .. } = change {
                        attempt.number -= 1;
                    }
                }
            }
            Plant::GivenTwice => {
                if let Some((job, step, attempt, _, tasks, at)) = started(changes) {
                    let attempt = AttemptId { number: attempt.number + 1, ..attempt };
                    let worker = "another".parse().expect("a good name");
                    changes.push(Change::AttemptStarted { job, step, attempt, worker, tasks, at });
                }
            }
            Plant::CountRunsAhead => {
                if let Some(Change::StepCounts { counts, .. }) =
                    changes.iter_mut().find(|c| matches!(c, Change::StepCounts { counts, .. } if counts.done > 2))
                {
                    counts.done += 1;
                }
            }
            Plant::CanceledJobOrders => {
                if let Heard::Canceled(job) = heard {
                    let attempt = "1.99".parse().expect("a good attempt");
                    let order = Effect::PublishOrder { attempt, function: function.clone(), job: *job, step: 0 };
                    effects.push(order);
                }
            }
            Plant::OverTooEarly => {
                let done = changes.iter().find_map(|change| match change {
                    Change::TaskDone { job, .. } => Some(*job),
                    _ => None,
                });
                effects.extend(done.map(|job| Effect::AnnounceJobOver { job, state: JobState::Succeeded }));
            }
            Plant::StopsWhoRenders => {
                effects.extend(started(changes).map(|(.., worker, _, _)| Effect::StopWorker { worker }));
            }
            Plant::TellsToStop => {
                effects.extend(started(changes).map(|(_, _, attempt, worker, ..)| {
                    let control = Control {
                        attempt: Some(attempt),
                        stop: Some("there is something better"),
                        ..Control::default()
                    };
                    Effect::PushControl { worker, control }
                }));
            }
            Plant::StartsForNothing => {
                if effects.iter().any(|effect| matches!(effect, Effect::AnnounceJobOver { .. })) {
                    let worker = "nobody-1".parse().expect("a good name");
                    effects.push(Effect::StartWorker {
                        worker,
                        function: function.clone(),
                        pool: PoolRules::local(0).name,
                        gpus: Vec::new(),
                        linger: Duration::ZERO,
                    });
                }
            }
            Plant::NeverStarts => effects.retain(|effect| !matches!(effect, Effect::StartWorker { .. })),
            Plant::LossSpendsAttempt => {
                if let Some((job, step, attempt, at)) = lost(changes) {
                    let failure = failure(0, Verdict::RetrySame);
                    changes.push(Change::TaskFailed { job, step, attempt, failure, for_good: true, at });
                }
            }
            Plant::KillerCalledSceneError => {
                for change in changes {
                    if let Change::TaskFailed { failure, .. } = change
                        && failure.verdict == Verdict::Quarantined
                    {
                        failure.verdict = Verdict::SceneError;
                    }
                }
            }
            Plant::QuarantinedAtOnce => {
                if let Some((job, step, attempt, at)) = lost(changes) {
                    let failure = failure(0, Verdict::Quarantined);
                    changes.push(Change::TaskFailed { job, step, attempt, failure, for_good: true, at });
                }
            }
            Plant::TooManyWorkers => {
                let more = effects.iter().filter_map(|effect| match effect {
                    Effect::StartWorker { worker, function, pool, gpus, linger } => {
                        let worker = format!("{worker}b").parse().expect("a good name");
                        Some(Effect::StartWorker {
                            worker,
                            function: function.clone(),
                            pool: pool.clone(),
                            gpus: gpus.clone(),
                            linger: *linger,
                        })
                    }
                    _ => None,
                });
                let more: Vec<Effect> = more.collect();
                effects.extend(more);
            }
            Plant::PoolOverfull => {
                for effect in effects {
                    if let Effect::StartWorker { pool, .. } = effect {
                        *pool = smallest.clone();
                    }
                }
                for change in changes {
                    if let Change::Paid { account, .. } = change {
                        account.pool = account.pool.as_ref().map(|_| smallest.clone());
                    }
                }
            }
            Plant::OrderFlood => {
                let order = effects.iter().find(|effect| matches!(effect, Effect::PublishOrder { .. })).cloned();
                effects.extend(order.into_iter().flat_map(|order| std::iter::repeat_n(order, 50)));
            }
            Plant::WipeForgotten => {
                if matches!(heard, Heard::OrdersLost) {
                    effects.retain(|effect| !matches!(effect, Effect::PublishOrder { .. }));
                }
            }
            // After a wipe it would be seen as what it also is.
            Plant::RetryNeverPublished if matches!(heard, Heard::OrdersLost) => {}
            Plant::RetryNeverPublished => {
                effects.retain(|effect| !matches!(effect, Effect::PublishOrder { attempt, .. } if attempt.number > 1));
            }
            Plant::FailureHidden => {
                for change in changes {
                    if let Change::JobState { state, .. } = change
                        && *state == JobState::Failed
                    {
                        *state = JobState::Succeeded;
                    }
                }
            }
            Plant::IdleForgotten => {
                for change in changes {
                    if let Change::Paid { spent, .. } = change {
                        spent.retain(|spent| spent.cause != Cause::Idle);
                    }
                }
            }
            Plant::SpentTwice => {
                for change in changes {
                    if let Change::Paid { spent, .. } = change
                        && let Some(useful) = spent.iter().find(|spent| spent.cause == Cause::Useful)
                    {
                        spent.push(Spent { cause: Cause::Load, ..useful.clone() });
                    }
                }
            }
            Plant::PoolForgotten => {
                for change in changes {
                    if let Change::Paid { account, spent } = change
                        && spent.iter().any(|spent| spent.cause == Cause::Useful)
                    {
                        account.pool = None;
                    }
                }
            }
            Plant::PaidForEver => changes.retain(|change| !matches!(change, Change::AccountClosed { .. })),
            // Elsewhere: at the border, or at a restart.
            Plant::StaleReportCounts
            | Plant::ChunkNumbersReused
            | Plant::RestartForgetsJob
            | Plant::RestartForgetsTask
            | Plant::RestartForgetsAccount => {}
        }
    }

    /// Bends what a restart finds.
    pub(crate) fn bend_snapshot(self, snapshot: &mut Snapshot) {
        match self {
            Plant::ChunkNumbersReused => {
                snapshot.chunk_next = 1;
                snapshot.chunks.retain(|chunk| matches!(chunk.state, StoredChunkState::Leased { .. }));
            }
            Plant::RestartForgetsJob => {
                let _ = snapshot.jobs.pop();
                snapshot.chunks.retain(|chunk| snapshot.jobs.iter().any(|job| job.id == chunk.job));
            }
            Plant::RestartForgetsTask => {
                let steps = snapshot.jobs.iter_mut().flat_map(|job| &mut job.steps);
                if let Some(step) = steps.into_iter().find(|step| !step.done.is_empty()) {
                    let _ = step.done.take_first(1);
                }
            }
            Plant::RestartForgetsAccount => drop(snapshot.accounts.pop()),
            _ => {} // Bends events, not restarts.
        }
    }
}

type Started = (
    framewake_proto::ids::JobId,
    usize,
    AttemptId,
    WorkerId,
    framewake_proto::tasks::TaskSet,
    framewake_proto::time::Timestamp,
);

fn started(changes: &[Change]) -> Option<Started> {
    changes.iter().find_map(|change| match change {
        Change::AttemptStarted { job, step, attempt, worker, tasks, at } => {
            Some((*job, *step, *attempt, worker.clone(), tasks.clone(), *at))
        }
        _ => None,
    })
}

fn lost(
    changes: &[Change],
) -> Option<(framewake_proto::ids::JobId, usize, AttemptId, framewake_proto::time::Timestamp)> {
    changes.iter().find_map(|change| match change {
        Change::AttemptEnded { job, step, attempt, outcome: Outcome::Lost { .. }, at, .. } => {
            Some((*job, *step, *attempt, *at))
        }
        _ => None,
    })
}

fn failure(task: u32, verdict: Verdict) -> TaskFailure {
    TaskFailure {
        task,
        verdict,
        message: String::new(),
        evidence: String::new(),
        gpu: GpuWord::Nothing,
        moments: Moments::default(),
    }
}

/// The result of a task, as far as the rules care.
pub(crate) fn result(task: u32) -> TaskResult {
    TaskResult {
        task,
        key: String::new(),
        sha256: [0; 32],
        size_bytes: 1,
        width: 0,
        height: 0,
        device: String::new(),
        renderer: String::new(),
        elapsed_ms: 100,
        found: false,
        memory_peak_bytes: 0,
        gpu: GpuUse::default(),
        moments: Moments::default(),
    }
}
