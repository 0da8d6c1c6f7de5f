//! Workers: they come up, take orders, render, report, and leave; or hang, lie and die.

use super::queue::Mail;
use super::scheduler::{Inbound, asked_by};
use super::{Answer, What, World, job_at, say};
use crate::chance::log_normal_ms;
use crate::fault::Fault;
use crate::invariant::About;
use crate::plant::result;
use framewake_core::effect::{ClaimAnswer, Control};
use framewake_core::event::{AttemptEnd, GpuWord, Moments, Report, RequestId, TaskFailure, WorkerEnd};
use framewake_core::values::Place;
use framewake_proto::ids::{AttemptId, JobId, Name, WorkerId};
use framewake_proto::tasks::TaskSet;
use framewake_proto::verdict::Verdict;

/// A claim that is not answered is repeated after this, and given up after so many times.
const CLAIM_WAIT_MS: i64 = 2000;
const CLAIMS_MAX: u32 = 4;
/// Looking whether the object is there already, and verifying it.
const FOUND_MS: i64 = 20;
/// A worker ends a renderer that says nothing for so long.
const SILENT_MS: i64 = 60_000;
/// Spread of the time of a frame: nine of ten within about 0.6 and 1.6 times the median.
const FRAME_SIGMA: f64 = 0.3;

// What the worker knows, what the scheduler thinks and what the auditor forgives are independent of each other.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) function: usize,
    /// Where the scheduler asked for it; a provider may start more.
    pub(super) pool: Option<Name>,
    pub(super) state: State,
    /// Number of what it is at; a deadline of something earlier means nothing.
    tick: u32,
    pub(super) frozen_until: i64,
    pub(super) heard_at: Option<i64>,
    /// It was silent for so long that another was rightly started in its place.
    pub(super) given_up: bool,
    /// It was silent for so long after that as if its end had been told.
    pub(super) forgotten: bool,
    loaded: Option<(JobId, usize)>,
    /// Leaves as soon as it is idle.
    pub(super) draining: bool,
    /// The scheduler decided that it should; the word may be under way.
    pub(super) told_to_leave: bool,
    pub(super) born_at: i64,
    /// Where it runs.
    pub(super) gpu: usize,
    pub(super) place: Place,
    /// Index among the living.
    pub(super) seat: usize,
}

#[derive(Debug)]
pub(super) enum State {
    Booting,
    Idle,
    Claiming { attempt: AttemptId, times: u32 },
    Rendering(Work),
    Gone,
}

#[derive(Debug)]
pub(super) struct Work {
    pub(super) attempt: AttemptId,
    job: JobId,
    step: usize,
    /// Not yet reported.
    tasks: TaskSet,
    /// Reported with the next task.
    load_ms: Option<u32>,
    frame: Frame,
    frame_since: i64,
}

/// What will have become of the frame at hand when its time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    /// None yet: the renderer loads.
    Loading,
    NoLicense,
    Done {
        task: u32,
        ms: u32,
    },
    Found {
        task: u32,
    },
    Failed {
        task: u32,
        verdict: Verdict,
    },
    Kills {
        task: u32,
    },
}

impl State {
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, State::Gone)
    }

    pub(super) fn holds(&self) -> Option<AttemptId> {
        match self {
            State::Rendering(work) => Some(work.attempt),
            State::Booting | State::Idle | State::Claiming { .. } | State::Gone => None,
        }
    }
}

impl Worker {
    pub(super) fn new(
        id: WorkerId,
        function: usize,
        pool: Option<Name>,
        born_at: i64,
        gpu: usize,
        seat: usize,
    ) -> Worker {
        Worker {
            id,
            function,
            pool,
            state: State::Booting,
            tick: 0,
            frozen_until: 0,
            heard_at: None,
            given_up: false,
            forgotten: false,
            loaded: None,
            draining: false,
            told_to_leave: false,
            born_at,
            gpu,
            place: Place::new(&format!("gpu{gpu}")),
            seat,
        }
    }
}

impl World {
    /// Plans the end of what the worker is at; whatever was planned before is void.
    fn due_in(&mut self, at: u32, ms: i64) {
        let worker = &mut self.workers[at as usize];
        worker.tick += 1;
        let tick = worker.tick;
        self.plan_in(ms, What::WorkerDue(at, tick));
    }

    /// A worker that stands still does everything later.
    fn is_frozen(&mut self, at: u32, what: impl FnOnce() -> What) -> bool {
        let until = self.workers[at as usize].frozen_until;
        if until > self.now {
            self.plan_at(until, what());
            return true;
        }
        false
    }

    pub(super) fn worker_due(&mut self, at: u32, tick: u32) {
        if self.workers[at as usize].tick != tick || self.is_frozen(at, || What::WorkerDue(at, tick)) {
            return;
        }
        match &self.workers[at as usize].state {
            State::Booting => {
                self.beat(at);
                self.be_idle(at);
            }
            State::Idle => self.leave(at),
            State::Claiming { attempt, times } if *times < CLAIMS_MAX => {
                let (attempt, times) = (*attempt, *times);
                self.claim_again(at, attempt, times + 1);
            }
            State::Claiming { attempt, .. } => {
                // Nobody answers: the order goes back.
                let (attempt, function) = (*attempt, self.workers[at as usize].function);
                self.plan_in(1, What::OrderArrives { function, attempt });
                self.be_idle(at);
            }
            State::Rendering(_) => self.frame_over(at),
            State::Gone => {}
        }
    }

    pub(super) fn beat(&mut self, at: u32) {
        let worker = &self.workers[at as usize];
        if worker.state.is_gone() || self.is_frozen(at, || What::Beat(at)) {
            return;
        }
        let worker = &self.workers[at as usize];
        let (holds, draining) = (worker.state.holds(), worker.draining);
        self.plan_in(self.shape.beat_ms, What::Beat(at));
        self.ask(Inbound::Beat { worker: at, holds, draining });
    }

    /// A request to the scheduler, which may be lost.
    fn ask(&mut self, inbound: Inbound) {
        if self.strikes(Fault::LoseRequest) {
            return;
        }
        match self.latency() {
            0 if matches!(inbound, Inbound::Beat { .. }) => self.hear(inbound),
            ms => self.plan_in(ms, What::Hear(inbound)),
        }
    }

    fn be_idle(&mut self, at: u32) {
        let worker = &mut self.workers[at as usize];
        worker.state = State::Idle;
        if worker.draining {
            self.leave(at);
            return;
        }
        self.due_in(at, self.shape.linger_ms);
        self.take_order(at);
    }

    fn leave(&mut self, at: u32) {
        let worker = self.workers[at as usize].id.clone();
        say!(self, About::worker(&worker), "{worker} leaves");
        self.ask(Inbound::Left(worker));
        self.end(at, WorkerEnd::Left);
    }

    pub(super) fn claim(&mut self, at: u32, attempt: AttemptId) {
        self.claim_again(at, attempt, 1);
    }

    fn claim_again(&mut self, at: u32, attempt: AttemptId, times: u32) {
        let worker = &mut self.workers[at as usize];
        worker.state = State::Claiming { attempt, times };
        let about = About { chunk: Some(attempt.chunk), worker: Some(worker.id.clone()), job: None };
        say!(self, about, "{} claims {attempt}", self.workers[at as usize].id);
        self.due_in(at, CLAIM_WAIT_MS);
        let request = RequestId(u64::from(at) << 32 | u64::from(self.workers[at as usize].tick));
        self.ask(Inbound::Claim { request, worker: at, attempt });
    }

    /// An answer or a push is on its way to a worker.
    pub(super) fn tell(&mut self, at: u32, tick: u32, answer: Answer) {
        if self.strikes(Fault::LoseRequest) {
            return;
        }
        let ms = self.latency();
        self.plan_in(ms, What::Answer(at, tick, Box::new(answer)));
    }

    pub(super) fn answered(&mut self, at: u32, tick: u32, answer: Answer) {
        if self.workers[at as usize].frozen_until > self.now {
            let until = self.workers[at as usize].frozen_until;
            self.plan_at(until, What::Answer(at, tick, Box::new(answer)));
            return;
        }
        match answer {
            Answer::Claim(answer) => self.claim_answered(at, tick, answer),
            Answer::Control(control) => self.control(at, &control),
        }
    }

    fn claim_answered(&mut self, at: u32, tick: u32, answer: ClaimAnswer) {
        let worker = &mut self.workers[at as usize];
        let State::Claiming { attempt, .. } = worker.state else { return };
        if worker.tick != tick {
            return;
        }
        match answer {
            ClaimAnswer::Refused { reason } => {
                let about = About { chunk: Some(attempt.chunk), worker: Some(worker.id.clone()), job: None };
                say!(self, about, "the claim of {attempt} is refused: {reason}");
                self.be_idle(at);
            }
            ClaimAnswer::Granted { job, step, tasks } => {
                let loaded = worker.loaded == Some((job, step));
                worker.loaded = Some((job, step));
                let work =
                    Work { attempt, job, step, tasks, load_ms: None, frame: Frame::Loading, frame_since: self.now };
                worker.state = State::Rendering(work);
                if self.strikes(Fault::LicenseWait) {
                    self.set_frame(at, Frame::NoLicense, 1000);
                } else if loaded {
                    self.begin_frame(at);
                } else {
                    let load_ms = self.shape.jobs[job_at(job)].steps[step].load_ms;
                    self.work(at).load_ms = Some(load_ms);
                    self.set_frame(at, Frame::Loading, i64::from(load_ms));
                }
            }
        }
    }

    fn work(&mut self, at: u32) -> &mut Work {
        match &mut self.workers[at as usize].state {
            State::Rendering(work) => work,
            State::Booting | State::Idle | State::Claiming { .. } | State::Gone => {
                unreachable!("the caller saw it render")
            }
        }
    }

    fn set_frame(&mut self, at: u32, frame: Frame, ms: i64) {
        let now = self.now;
        let work = self.work(at);
        (work.frame, work.frame_since) = (frame, now);
        self.due_in(at, ms);
    }

    /// Begins the first task that is left, or ends the attempt.
    fn begin_frame(&mut self, at: u32) {
        let work = self.work(at);
        let (job, step, attempt) = (work.job, work.step, work.attempt);
        let Some(task) = work.tasks.first() else {
            self.report(at, Report { end: Some(AttemptEnd::Finished), ..Report::default() });
            self.be_idle(at);
            return;
        };
        if self.objects.has(job, step, task) {
            self.set_frame(at, Frame::Found { task }, FOUND_MS);
            return;
        }
        let shape = &self.shape.jobs[job_at(job)].steps[step];
        let mut ms = log_normal_ms(self.chance.world(), shape.frame_ms, FRAME_SIGMA);
        let frame = if shape.poison.contains(&task) {
            Frame::Kills { task }
        } else if shape.wrong.contains(&task) {
            Frame::Failed { task, verdict: Verdict::SceneError }
        } else if self.strikes(Fault::Transient) {
            const PASSING: [Verdict; 6] = [
                Verdict::RetrySame,
                Verdict::RetryElsewhere,
                Verdict::NeedMoreVram,
                Verdict::NeedMoreMemory,
                Verdict::OutputBad,
                Verdict::Preempted,
            ];
            let verdict = *self.chance.of(Fault::Transient).choice(&PASSING).expect("not empty");
            Frame::Failed { task, verdict }
        } else if self.strikes(Fault::Hang) {
            self.set_frame(at, Frame::Failed { task, verdict: Verdict::Hung }, SILENT_MS);
            return;
        } else {
            if self.strikes(Fault::Straggler) {
                ms = ms.saturating_mul(self.chance.of(Fault::Straggler).u32(3..8));
            }
            Frame::Done { task, ms }
        };
        say!(self, About::attempt(job, attempt), "{attempt}: {frame:?} in {ms} ms");
        self.set_frame(at, frame, i64::from(ms));
    }

    fn frame_over(&mut self, at: u32) {
        let work = self.work(at);
        let (job, step, frame) = (work.job, work.step, work.frame);
        let mut report = Report::default();
        match frame {
            Frame::Loading => {
                self.begin_frame(at);
                return;
            }
            Frame::NoLicense => {
                self.report(at, Report { end: Some(AttemptEnd::LicenseWait), ..Report::default() });
                self.be_idle(at);
                return;
            }
            Frame::Kills { task } => {
                self.kill(at, &format!("task {task} of step {step} kills who renders it"));
                return;
            }
            Frame::Done { task, ms } => {
                self.tally.frames += 1;
                let found = !self.objects.put(job, step, task);
                if !found {
                    self.tally.useful_ms += u64::from(ms);
                }
                // Dead between the put and the report: the next attempt finds the object.
                if self.shape.rate(Fault::Kill) > 0.0 && !self.calm && self.chance.of(Fault::Kill).u32(0..1000) == 0 {
                    self.kill(at, "between the put and the report");
                    return;
                }
                let mut result = result(task);
                (result.elapsed_ms, result.found) = (ms, found);
                report.done.push(result);
            }
            Frame::Found { task } => {
                self.tally.found += 1;
                let mut result = result(task);
                result.found = true;
                report.done.push(result);
            }
            Frame::Failed { task, verdict } => {
                report.spent.failed_ms = u64::try_from(self.now - self.work(at).frame_since).unwrap_or(0);
                report.failed.push(TaskFailure {
                    task,
                    verdict,
                    message: String::new(),
                    evidence: String::new(),
                    gpu: GpuWord::Nothing,
                    moments: Moments::default(),
                });
            }
        }
        let work = self.work(at);
        report.load_ms = work.load_ms.take();
        for task in report.done.iter().map(|done| done.task).chain(report.failed.iter().map(|failed| failed.task)) {
            work.tasks.remove(task);
        }
        let over = work.tasks.is_empty();
        if over {
            report.end = Some(AttemptEnd::Finished);
        }
        self.report(at, report);
        if over {
            self.be_idle(at);
        } else {
            self.begin_frame(at);
        }
    }

    fn report(&mut self, at: u32, report: Report) {
        let worker = &self.workers[at as usize];
        let Some(attempt) = worker.state.holds() else { return };
        let mail = Mail { worker: worker.id.clone(), attempt, report };
        self.send_report(mail);
    }

    fn control(&mut self, at: u32, control: &Control) {
        let worker = &mut self.workers[at as usize];
        let (id, holds) = (worker.id.clone(), worker.state.holds());
        if let Some(attempt) = control.attempt.filter(|attempt| holds == Some(*attempt)) {
            let about = About { chunk: Some(attempt.chunk), worker: Some(id.clone()), job: None };
            if let Some(reason) = control.stop {
                say!(self, about, "{id} drops {attempt}: {reason}");
                self.report(at, Report { end: Some(AttemptEnd::Canceled), ..Report::default() });
                self.be_idle(at);
            } else if let Some(keep) = control.keep_tasks {
                self.give_back(at, keep);
                say!(self, about, "{id} keeps at most {keep} tasks of {attempt}");
            }
        }
        let worker = &mut self.workers[at as usize];
        if control.drain && !worker.state.is_gone() {
            worker.draining = true;
            if matches!(worker.state, State::Idle) {
                self.leave(at);
            }
        }
    }

    /// Unbegun tasks, from the end, until at most so many are left.
    fn give_back(&mut self, at: u32, keep: u32) {
        let work = self.work(at);
        // The first is being worked on.
        let kept = work.tasks.take_first(keep.max(1));
        let released = std::mem::replace(&mut work.tasks, kept);
        self.report(at, Report { released, ..Report::default() });
    }

    /// The platform gave notice: what is held goes back, and the worker says that it will go.
    pub(super) fn notice(&mut self, at: u32) {
        let worker = &mut self.workers[at as usize];
        worker.draining = true;
        match worker.state {
            State::Rendering(_) => {
                self.report(at, Report { end: Some(AttemptEnd::HandedBack), ..Report::default() });
                self.be_idle(at);
            }
            State::Idle => self.leave(at),
            State::Booting | State::Claiming { .. } | State::Gone => {}
        }
    }
}

/// The worker whose heartbeat or claim a request was.
pub(super) fn worker_of(request: RequestId) -> (u32, u32) {
    asked_by(request)
}
