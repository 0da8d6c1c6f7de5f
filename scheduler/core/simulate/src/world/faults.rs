//! What befalls the world as a whole, and what people do.

use super::scheduler::Inbound;
use super::{What, World, job_id, say};
use crate::fault::Fault;
use crate::invariant::About;
use crate::plant::result;
use crate::shape::project;
use framewake_core::event::{AttemptEnd, Event, GpuWord, Moments, Report, RequestId, TaskFailure};
use framewake_proto::ids::{AttemptId, ChunkId, WorkerId};
use framewake_proto::tasks::TaskSet;
use framewake_proto::verdict::Verdict;

/// A platform that gives notice gives this much.
const NOTICE_MS: i64 = 30_000;

impl World {
    pub(super) fn strike(&mut self, fault: Fault) {
        self.tally.count(fault);
        match fault {
            Fault::Crash => {
                let down_ms = self.chance.of(fault).i64(10..60_000);
                self.crash(down_ms);
            }
            Fault::Kill => {
                // Any slot is struck, and few may be taken: each worker lives as dangerously as in a full farm.
                let slot = self.chance.of(fault).u32(0..self.shape.slots());
                if let Some(worker) = self.alive.get(slot as usize).copied() {
                    self.kill(worker, "killed");
                }
            }
            Fault::SpotWave => self.spot_wave(),
            Fault::Freeze => {
                if let Some(worker) = self.any_worker(fault) {
                    let ms = self.chance.of(fault).i64(5000..180_000);
                    let worker = &mut self.workers[worker as usize];
                    worker.frozen_until = self.now + ms;
                    let id = worker.id.clone();
                    say!(self, About::worker(&id), "{id} stands still for {ms} ms");
                }
            }
            Fault::Wipe => {
                say!(self, About::default(), "JetStream is emptied");
                self.queue.wipe();
                let ms = self.chance.of(fault).i64(0..5000);
                self.plan_in(ms, What::OrdersLostTold);
            }
            Fault::HoldUp => {
                let ms = self.chance.of(fault).i64(1000..120_000);
                self.hold_up(ms);
            }
            Fault::Lie => self.lie(),
            Fault::People => self.people(),
            // Their chance comes where they can happen.
            Fault::ClockJump
            | Fault::Poison
            | Fault::Hang
            | Fault::Straggler
            | Fault::Transient
            | Fault::SceneError
            | Fault::LicenseWait
            | Fault::ProviderNever
            | Fault::ProviderLate
            | Fault::ProviderFails
            | Fault::ProviderDoubles
            | Fault::ExitUnnoticed
            | Fault::LoseOrder
            | Fault::RepeatOrder
            | Fault::ReorderOrders
            | Fault::LoseReport
            | Fault::RepeatReport
            | Fault::DelayReport
            | Fault::LoseRequest => {}
        }
    }

    fn any_worker(&mut self, fault: Fault) -> Option<u32> {
        self.chance.of(fault).choice(&self.alive).copied()
    }

    /// Up to a half of all workers, a third of them with notice.
    fn spot_wave(&mut self) {
        let share = self.chance.of(Fault::SpotWave).f64() / 2.0;
        let taken: Vec<u32> =
            self.alive.iter().copied().filter(|_| self.chance.of(Fault::SpotWave).f64() < share).collect();
        say!(self, About::default(), "{} workers are taken at once", taken.len());
        for worker in taken {
            if self.chance.of(Fault::SpotWave).u32(0..3) == 0 {
                self.notice(worker);
                self.plan_in(NOTICE_MS, What::Kill(worker));
            } else {
                self.kill(worker, "the machine was taken away");
            }
        }
    }

    /// Nothing of what a worker says here is so.
    fn lie(&mut self) {
        let Some(at) = self.any_worker(Fault::Lie) else { return };
        if self.workers[at as usize].heard_at.is_none() {
            return; // It is not there yet.
        }
        let other = self.any_worker(Fault::Lie).unwrap_or(at);
        let dice = self.chance.of(Fault::Lie);
        let (kind, task, number) = (dice.u32(0..8), dice.u32(0..1 << 20), dice.u32(0..4));
        let chunk = ChunkId(dice.u64(0..200));
        let worker: WorkerId = self.workers[at as usize].id.clone();
        let function = self.shape.functions[self.workers[at as usize].function].0.clone();
        let own = self.workers[at as usize].state.holds();
        let foreign = if other == at { None } else { self.workers[other as usize].state.holds() };
        let some = foreign.or(own).unwrap_or(AttemptId { chunk, number });
        let attempt = match kind {
            // Of its own attempt, about tasks that are not in it.
            0 | 1 => own.unwrap_or(some),
            2 => AttemptId { number: some.number.saturating_sub(1), ..some },
            3 => AttemptId { number: some.number + 1, ..some },
            _ => foreign.unwrap_or(AttemptId { chunk, number }),
        };
        let honest = own == Some(attempt);
        // Of its own attempt, a worker is believed about the tasks it holds: only the others are a lie.
        let task = if honest { task + 1_000_000 } else { task % 40 };
        let failure = TaskFailure {
            task,
            verdict: Verdict::SceneError,
            message: String::new(),
            evidence: String::new(),
            gpu: GpuWord::Nothing,
            moments: Moments::default(),
        };
        let report = match kind {
            0 | 4 => Report { done: vec![result(task)], ..Report::default() },
            1 | 5 => Report { failed: vec![failure], ..Report::default() },
            2 => Report { end: (!honest).then_some(AttemptEnd::Finished), ..Report::default() },
            _ => Report { released: TaskSet::from_run(task..task + 10), ..Report::default() },
        };
        let request = RequestId(u64::from(at) << 32);
        let event = match kind {
            6 => Event::AttemptClaimed { request, worker, attempt: AttemptId { chunk, number } },
            7 => {
                let function = if number == 0 { crate::shape::key("unknown") } else { function };
                let places = vec![self.workers[at as usize].place.clone()];
                Event::WorkerSeen {
                    request,
                    worker,
                    function,
                    holds: foreign,
                    draining: false,
                    places,
                    gpu: String::new(),
                    progress: None,
                }
            }
            _ => Event::AttemptReported { worker, attempt, report },
        };
        let about = About { chunk: Some(attempt.chunk), ..About::worker(&self.workers[at as usize].id) };
        say!(self, about, "a lie: {event:?}");
        self.hear(Inbound::Lie(Box::new(event)));
    }

    fn people(&mut self) {
        if self.submitted == 0 {
            return;
        }
        let jobs = self.submitted;
        let dice = self.chance.of(Fault::People);
        let id = job_id(dice.usize(0..jobs));
        let inbound = match dice.u32(0..16) {
            0 => Inbound::Cancel(id),
            1..5 => Inbound::Pause(id),
            5..8 => Inbound::Resume(id),
            8..11 => Inbound::Retry(id),
            11..14 => Inbound::Prioritize(id, dice.u32(0..=100)),
            _ => Inbound::Weigh(project(dice.u32(0..3)), dice.u32(1..10)),
        };
        say!(self, About::job(id), "people: {inbound:?}");
        self.hear(inbound);
    }

    /// No more faults: everything that was accepted must come to its end.
    pub(super) fn calm_down(&mut self) {
        say!(self, About::default(), "the faults stop");
        self.calm = true;
        for worker in &mut self.workers {
            // What was planned for later comes then; everything else goes on.
            worker.frozen_until = worker.frozen_until.min(self.now + 60_000);
        }
        if !self.scheduler.is_up() {
            self.restart();
        }
        self.reconnect();
        for (id, state) in self.auditor.open_jobs().collect::<Vec<_>>() {
            say!(self, About::job(id), "job {id} is {state:?} and resumed, if it was paused");
            self.hear(Inbound::Resume(id));
        }
    }
}
