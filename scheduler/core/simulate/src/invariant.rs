//! What must hold whatever happens, and how a break of it is told.

use framewake_proto::ids::{AttemptId, ChunkId, JobId, WorkerId};
use std::fmt;

/// What must hold whatever happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    OneResult,
    OnlyObjectsCount,
    StaleChangesNothing,
    FenceRises,
    OneHolder,
    JobsSurvive,
    CountsAgree,
    OverIsOver,
    NobodyIsStopped,
    NoDemandNoWorkers,
    DemandGetsWorkers,
    LossIsFree,
    KillersAreQuarantined,
    HealthyAreNotQuarantined,
    WorkersAreBounded,
    OrdersAreBounded,
    OrdersComeAgain,
    WorkEnds,
    NothingIsMissing,
    PaidTimeAddsUp,
}

impl Invariant {
    pub const ALL: [Invariant; 20] = [
        Invariant::OneResult,
        Invariant::OnlyObjectsCount,
        Invariant::StaleChangesNothing,
        Invariant::FenceRises,
        Invariant::OneHolder,
        Invariant::JobsSurvive,
        Invariant::CountsAgree,
        Invariant::OverIsOver,
        Invariant::NobodyIsStopped,
        Invariant::NoDemandNoWorkers,
        Invariant::DemandGetsWorkers,
        Invariant::LossIsFree,
        Invariant::KillersAreQuarantined,
        Invariant::HealthyAreNotQuarantined,
        Invariant::WorkersAreBounded,
        Invariant::OrdersAreBounded,
        Invariant::OrdersComeAgain,
        Invariant::WorkEnds,
        Invariant::NothingIsMissing,
        Invariant::PaidTimeAddsUp,
    ];

    pub fn sentence(self) -> &'static str {
        match self {
            Invariant::OneResult => "a task has exactly one committed result",
            Invariant::OnlyObjectsCount => "a task is done only if its object is in the store",
            Invariant::StaleChangesNothing => "a stale attempt changes nothing",
            Invariant::FenceRises => "attempt numbers rise, and chunk numbers are used once",
            Invariant::OneHolder => "a chunk has one holder, and so has a task",
            Invariant::JobsSurvive => "an accepted job is never lost, and one that is over never comes back",
            Invariant::CountsAgree => "the counts of a step agree with the book",
            Invariant::OverIsOver => "a job ends once, and nothing of it goes on afterwards",
            Invariant::NobodyIsStopped => "nobody stops a worker that renders, except to cancel",
            Invariant::NoDemandNoWorkers => "without demand no worker is asked for, and in the end none is there",
            Invariant::DemandGetsWorkers => "demand gets workers without an operator",
            Invariant::LossIsFree => "what the infrastructure breaks spends no attempts",
            Invariant::KillersAreQuarantined => "a frame that kills its workers ends quarantined",
            Invariant::HealthyAreNotQuarantined => {
                "a frame is quarantined only after it met its losses, most of them alone"
            }
            Invariant::WorkersAreBounded => {
                "workers asked for fit into the function's limit, and into their pool and its pace"
            }
            Invariant::OrdersAreBounded => "the window of orders is bounded",
            Invariant::OrdersComeAgain => "orders that JetStream lost are offered again",
            Invariant::WorkEnds => "once the faults stop, every job ends within a bounded time",
            Invariant::NothingIsMissing => "at the end each task is done, or failed, or stands behind one that failed",
            Invariant::PaidTimeAddsUp => "every paid moment of every worker has exactly one cause",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

/// What a line of a trace, or a broken invariant, is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    pub job: Option<JobId>,
    pub chunk: Option<ChunkId>,
    pub worker: Option<WorkerId>,
}

impl About {
    pub(crate) fn job(job: JobId) -> About {
        About { job: Some(job), ..About::default() }
    }

    pub(crate) fn attempt(job: JobId, attempt: AttemptId) -> About {
        About { job: Some(job), chunk: Some(attempt.chunk), worker: None }
    }

    pub(crate) fn worker(worker: &WorkerId) -> About {
        About { worker: Some(worker.clone()), ..About::default() }
    }
}

#[derive(Debug, Clone)]
pub struct Broken {
    pub invariant: Invariant,
    pub text: String,
    pub about: About,
}
