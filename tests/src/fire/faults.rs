//! What is done to the farm.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    KillScheduler,
    StopScheduler,
    /// For minutes, in the long form; workers go on.
    SchedulerAway,
    KillWorkers,
    StopWorkers,
    KillRenderers,
    StopRenderers,
    KillNats,
    StopNats,
    /// nats-server killed, and its folder deleted.
    WipeJetStream,
    RefuseNats,
    SlowNats,
    CutNats,
    KillS3,
    StopS3,
    SlowS3,
    S3Answers500,
    S3Answers503,
    CutUploads,
    CutAnswers,
    /// The store does its work, and nobody hears of it.
    LoseAnswers,
    PartSchedulerNats,
    PartWorkersNats,
    PartSchedulerS3,
    PartWorkersS3,
    /// Between people and the scheduler.
    CutPeople,
    /// The disk of the scheduler, and of the inputs cache.
    FillData,
    /// The disk of the workers' scratch and logs.
    FillScratch,
    KillEverything,
}

impl Fault {
    /// Those that this run can do. In the short form without what takes long to come back.
    pub fn all(long: bool, tight: bool) -> Vec<Fault> {
        let mut all = vec![
            Fault::KillScheduler,
            Fault::StopScheduler,
            Fault::KillWorkers,
            Fault::StopWorkers,
            Fault::KillRenderers,
            Fault::StopRenderers,
            Fault::KillNats,
            Fault::StopNats,
            Fault::WipeJetStream,
            Fault::RefuseNats,
            Fault::SlowNats,
            Fault::CutNats,
            Fault::StopS3,
            Fault::SlowS3,
            Fault::S3Answers500,
            Fault::S3Answers503,
            Fault::CutUploads,
            Fault::CutAnswers,
            Fault::LoseAnswers,
            Fault::PartSchedulerNats,
            Fault::PartWorkersNats,
            Fault::PartSchedulerS3,
            Fault::PartWorkersS3,
            Fault::CutPeople,
        ];
        if tight {
            all.extend([Fault::FillData, Fault::FillScratch]);
        }
        if long {
            all.extend([Fault::SchedulerAway, Fault::KillS3, Fault::KillEverything]);
        }
        all
    }

    /// Whether a task may fail by it: its renderer is killed under it, or has no room to write.
    pub fn excuses_failures(self) -> bool {
        matches!(self, Fault::KillRenderers | Fault::FillScratch | Fault::FillData | Fault::KillEverything)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{self:?}"))
    }
}
