//! Who must be told of what this batch changed: written down in its transaction, delivered later by others.

use super::batch::Batch;
use super::handle::InPlaceOf;
use super::{Engine, Error, Refused};
use crate::store::{NoticeRow, NotifyWrite, StoredNotices, Tried};
use crate::target_table::{TargetId, TargetTable};
use framewake_core::change::{Change, JobState, Payer};
use framewake_core::event::TaskFailure;
use framewake_proto::budget::Period;
use framewake_proto::ids::{AttemptId, JobId, Name};
use framewake_proto::job::Job;
use framewake_proto::notify::{
    BudgetNotice, ErrorNotice, JobNotice, Notice, NotifySpec, TARGETS_MAX, TargetChange, TargetSpec,
};
use framewake_proto::verdict::Verdict;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tracing::{info, warn};
use ulid::Ulid;

/// Most notifications that wait for one target; one that is away must not fill the disk.
pub(crate) const WAITING_MAX: u64 = 10_000;

/// A delivery that was tried.
#[derive(Debug)]
pub(crate) struct TriedNotice {
    pub(crate) id: String,
    pub(crate) target: TargetId,
    pub(crate) outcome: Tried,
}

/// The targets, and what must be remembered to tell each thing once.
#[derive(Debug)]
pub(super) struct Notices {
    targets: TargetTable,
    out: watch::Sender<Arc<TargetTable>>,
    id_next: i64,
    waiting: HashMap<TargetId, u64>,
    /// Jobs that are not over and of which an error was told.
    errors_told: HashSet<JobId>,
}

impl Notices {
    pub(super) fn new(stored: StoredNotices) -> (Notices, watch::Receiver<Arc<TargetTable>>) {
        let StoredNotices { targets: stored, waiting, errors_told } = stored;
        let mut targets = TargetTable::default();
        let id_next = stored.last().map_or(1, |(id, _)| id.0 + 1);
        for (id, spec) in stored {
            targets.insert(id, spec);
        }
        let (out, seen) = watch::channel(Arc::new(targets.clone()));
        (Notices { targets, out, id_next, waiting, errors_told }, seen)
    }
}

impl Engine {
    pub(super) fn put_target(
        &mut self,
        spec: TargetSpec,
        over: &InPlaceOf,
        batch: &mut Batch,
    ) -> Result<TargetChange, Refused> {
        let notices = &mut self.notices;
        let known = notices.targets.get(&spec.name).cloned();
        // First, so that whoever lost the answer may ask again.
        if known.as_ref().is_some_and(|known| *known.spec == spec) {
            return Ok(TargetChange::Unchanged);
        }
        if let Some(known) = &known {
            over.check(&spec.name, known.spec.project.as_ref(), Refused::TargetExists)?;
        }
        if known.is_none() && notices.targets.len() >= TARGETS_MAX {
            return Err(Refused::TooManyTargets);
        }
        let change = if known.is_some() { TargetChange::Changed } else { TargetChange::Created };
        let id = known.map_or_else(
            || {
                notices.id_next += 1;
                TargetId(notices.id_next - 1)
            },
            |known| known.id,
        );
        info!(target_name = %spec.name, "target {} is {}: {}", spec.name, change.as_str(), spec.way.as_str());
        let spec = Arc::new(spec);
        notices.targets.insert(id, spec.clone());
        batch.notices.push(NotifyWrite::PutTarget { id, spec });
        batch.targets_changed = true;
        Ok(change)
    }

    pub(super) fn remove_target(&mut self, name: &Name, batch: &mut Batch) -> Result<(), Refused> {
        let removed = self.notices.targets.remove(name).ok_or_else(|| Refused::NoTarget(name.clone()))?;
        self.notices.waiting.remove(&removed.id);
        batch.notices.push(NotifyWrite::RemoveTarget(removed.id));
        batch.targets_changed = true;
        Ok(())
    }

    pub(super) fn note_tries(&mut self, tries: Vec<TriedNotice>, batch: &mut Batch) {
        for TriedNotice { id, target, outcome } in tries {
            match &outcome {
                Tried::Again { .. } => {}
                Tried::Delivered | Tried::GivenUp { .. } => self.notices.no_longer_waits(target),
            }
            batch.notices.push(NotifyWrite::Tried { id, target, at: batch.now, outcome });
        }
    }

    pub(super) async fn resend(&mut self, id: String, batch: &mut Batch) -> Result<Result<(), Refused>, Error> {
        let sent_before =
            batch.notices.iter().any(|write| matches!(write, NotifyWrite::Resend { id: other, .. } if *other == id));
        let found = if sent_before { None } else { self.store.dead_notification(&id).await? };
        let Some(target) = found.and_then(|id| self.notices.targets.of(id)).cloned() else {
            return Ok(Err(Refused::NotDead));
        };
        *self.notices.waiting.entry(target.id).or_default() += 1;
        batch.wakes.push(target.wake);
        batch.notices.push(NotifyWrite::Resend { id, at: batch.now });
        Ok(Ok(()))
    }

    /// Everything in the batch that somebody wants to be told. Jobs that it speaks of are at hand.
    pub(super) fn take_note(&mut self, batch: &mut Batch) {
        let mut told: Vec<(Notice, Option<JobId>, Vec<NotifySpec>)> = Vec::new();
        for change in &batch.applied.changes {
            match change {
                Change::TaskFailed { job: id, step, attempt, failure, for_good, .. } => {
                    if !is_error(failure.verdict) || !self.notices.errors_told.insert(*id) {
                        continue;
                    }
                    batch.notices.push(NotifyWrite::ErrorTold(*id));
                    let Some(job) = self.jobs.get(*id) else { continue };
                    let error = first_error(*id, job, *step, *attempt, failure, !for_good);
                    told.extend(error.map(|error| (Notice::FirstError(error), None, job.notify.clone())));
                }
                Change::JobState { id, state, .. } if state.is_over() => {
                    if self.notices.errors_told.remove(id) {
                        batch.notices.push(NotifyWrite::ErrorForgotten(*id));
                    }
                    let Some(job) = self.jobs.get(*id) else { continue };
                    let (name, project) = (job.name.clone(), job.project.clone());
                    let over = JobNotice {
                        job: *id,
                        name,
                        project,
                        tasks: framewake_proto::api::TaskCounts::default(),
                        failure: None,
                    };
                    let notice = match state {
                        JobState::Succeeded => Notice::Succeeded(over),
                        JobState::Failed => Notice::Failed(over),
                        // Who canceled it knows.
                        JobState::Canceled | JobState::Queued | JobState::Running | JobState::Paused => continue,
                    };
                    told.push((notice, Some(*id), job.notify.clone()));
                }
                Change::BudgetTold { payer, standing, spent, limit, at_limit } => {
                    let project = match payer {
                        Payer::Job(id) => self.jobs.get(*id).map(|job| job.project.clone()),
                        Payer::Project { project, .. } => Some(project.clone()),
                    };
                    let Some(project) = project else { continue };
                    let mut notice = BudgetNotice {
                        project,
                        job: None,
                        name: String::new(),
                        period: None,
                        month: None,
                        standing: *standing,
                        spent: *spent,
                        limit: *limit,
                        at_limit: *at_limit,
                    };
                    let mut asked = Vec::new();
                    match payer {
                        Payer::Job(id) => {
                            let Some(job) = self.jobs.get(*id) else { continue };
                            notice.job = Some(*id);
                            notice.name.clone_from(&job.name);
                            asked.clone_from(&job.notify);
                        }
                        Payer::Project { period, month, .. } => {
                            notice.period = Some(*period);
                            notice.month = (*period == Period::Month).then(|| month.to_string());
                        }
                    }
                    told.push((Notice::Budget(notice), None, asked));
                }
                _ => {} // Nobody is told of the others.
            }
        }
        told.extend(std::mem::take(&mut batch.run_notices).into_iter().map(|notice| (notice, None, Vec::new())));
        let mut rows = Vec::new();
        for (notice, job, asked) in told {
            for target in self.notices.targets.receivers(&notice, &asked) {
                let waiting = self.notices.waiting.entry(target.id).or_default();
                if *waiting >= WAITING_MAX {
                    self.metrics.parts.notifications.with_label_values(&[target.spec.way.as_str(), "left_out"]).inc();
                    warn!("{WAITING_MAX} notifications wait for target {}: one more is left out", target.spec.name);
                    continue;
                }
                *waiting += 1;
                batch.wakes.push(target.wake.clone());
                let (id, notice) = (Ulid::generate().to_string(), notice.clone());
                rows.push(NoticeRow { id, target: target.id, notice, job, at: batch.now });
            }
        }
        if !rows.is_empty() {
            batch.notices.push(NotifyWrite::Made(rows));
        }
    }

    /// Once it is durable: those who deliver look again.
    pub(super) fn wake_deliveries(&self, changed: bool, wakes: &[Arc<Notify>]) {
        if changed {
            self.notices.out.send_replace(Arc::new(self.notices.targets.clone()));
        }
        for wake in wakes {
            wake.notify_one();
        }
    }
}

impl Notices {
    fn no_longer_waits(&mut self, target: TargetId) {
        if let Some(waiting) = self.waiting.get_mut(&target) {
            *waiting = waiting.saturating_sub(1);
        }
    }
}

/// Whether it says something about the job; a machine that was taken away does not.
fn is_error(verdict: Verdict) -> bool {
    match verdict {
        Verdict::RetrySame
        | Verdict::RetryElsewhere
        | Verdict::NeedMoreVram
        | Verdict::NeedMoreMemory
        | Verdict::Hung
        | Verdict::SceneError
        | Verdict::OutputBad
        | Verdict::Quarantined => true,
        Verdict::Done | Verdict::LicenseWait | Verdict::Preempted | Verdict::Canceled => false,
    }
}

fn first_error(
    id: JobId,
    job: &Job,
    step: usize,
    attempt: AttemptId,
    failure: &TaskFailure,
    again: bool,
) -> Option<ErrorNotice> {
    let step = job.steps.get(step)?;
    Some(ErrorNotice {
        job: id,
        name: job.name.clone(),
        project: job.project.clone(),
        step: step.name.clone(),
        frame: step.frames.get(failure.task)?,
        attempt: attempt.to_string(),
        verdict: failure.verdict,
        message: failure.message.clone(),
        again,
    })
}
