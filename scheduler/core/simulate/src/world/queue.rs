//! JetStream, as far as it matters: orders that wait for workers, and a stream of reports.

use super::scheduler::Inbound;
use super::worker::State;
use super::{What, World, say};
use crate::fault::Fault;
use crate::invariant::About;
use framewake_core::event::Report;
use framewake_proto::ids::{AttemptId, WorkerId};
use std::collections::VecDeque;

/// An order that was taken and never acknowledged comes again after this.
pub(super) const ACK_WAIT_MS: i64 = 15_000;
/// A report that is late comes within this.
const LATE_MS_MAX: i64 = 60_000;

#[derive(Debug, Clone)]
pub(super) struct Mail {
    pub(super) worker: WorkerId,
    pub(super) attempt: AttemptId,
    pub(super) report: Report,
}

#[derive(Debug)]
pub(super) struct Queue {
    /// By function.
    orders: Vec<VecDeque<AttemptId>>,
    /// Workers that wait for an order, by function; those that do not any more are passed over.
    waiting: Vec<VecDeque<u32>>,
    /// Not yet acknowledged, with their numbers.
    pub(super) reports: VecDeque<(u64, Mail)>,
    report_next: u64,
}

impl Queue {
    pub(super) fn new(functions: usize) -> Queue {
        Queue {
            orders: vec![VecDeque::new(); functions],
            waiting: vec![VecDeque::new(); functions],
            reports: VecDeque::new(),
            report_next: 1,
        }
    }

    /// What JetStream held is gone.
    pub(super) fn wipe(&mut self) {
        for orders in &mut self.orders {
            orders.clear();
        }
        self.reports.clear();
    }

    pub(super) fn acknowledge(&mut self, last: u64) {
        while self.reports.front().is_some_and(|(number, _)| *number <= last) {
            self.reports.pop_front();
        }
    }
}

impl World {
    pub(super) fn publish(&mut self, function: usize, attempt: AttemptId) {
        if self.strikes(Fault::LoseOrder) {
            say!(self, About { chunk: Some(attempt.chunk), ..About::default() }, "order {attempt} is lost on its way");
            return;
        }
        let ms = self.latency();
        self.plan_in(ms, What::OrderArrives { function, attempt });
        if self.strikes(Fault::RepeatOrder) {
            let ms = self.chance.of(Fault::RepeatOrder).i64(0..LATE_MS_MAX);
            self.plan_in(ms, What::OrderArrives { function, attempt });
        }
    }

    pub(super) fn order_arrives(&mut self, function: usize, attempt: AttemptId) {
        self.queue.orders[function].push_back(attempt);
        while let Some(worker) = self.queue.waiting[function].pop_front() {
            if matches!(self.workers[worker as usize].state, State::Idle) {
                self.take_order(worker);
                return;
            }
        }
    }

    /// The worker takes an order, or waits for one.
    pub(super) fn take_order(&mut self, worker: u32) {
        let function = self.workers[worker as usize].function;
        let waiting = self.queue.orders[function].len();
        let order = if waiting > 1 && self.strikes(Fault::ReorderOrders) {
            let at = self.chance.of(Fault::ReorderOrders).usize(0..waiting);
            self.queue.orders[function].remove(at)
        } else {
            self.queue.orders[function].pop_front()
        };
        match order {
            Some(attempt) => self.claim(worker, attempt),
            None => self.queue.waiting[function].push_back(worker),
        }
    }

    pub(super) fn send_report(&mut self, mail: Mail) {
        let about = About { chunk: Some(mail.attempt.chunk), worker: Some(mail.worker.clone()), job: None };
        if self.strikes(Fault::LoseReport) {
            say!(self, about, "a report of {} is lost on its way", mail.attempt);
            return;
        }
        if self.strikes(Fault::RepeatReport) {
            let ms = self.chance.of(Fault::RepeatReport).i64(0..LATE_MS_MAX);
            self.plan_in(ms, What::ReportArrives(Box::new(mail.clone())));
        }
        let late =
            if self.strikes(Fault::DelayReport) { self.chance.of(Fault::DelayReport).i64(0..LATE_MS_MAX) } else { 0 };
        let ms = late + self.latency();
        self.plan_in(ms, What::ReportArrives(Box::new(mail)));
    }

    pub(super) fn report_arrives(&mut self, mail: Mail) {
        let number = self.queue.report_next;
        self.queue.report_next += 1;
        self.queue.reports.push_back((number, mail));
        if self.scheduler.is_connected() {
            self.hear(Inbound::Report(number));
        }
    }

    pub(super) fn mail(&self, number: u64) -> Option<Mail> {
        let first = self.queue.reports.front()?.0;
        let at = usize::try_from(number.checked_sub(first)?).ok()?;
        self.queue.reports.get(at).map(|(_, mail)| mail.clone())
    }

    pub(super) fn tell_orders_lost(&mut self) {
        if self.scheduler.is_connected() {
            self.hear(Inbound::OrdersLost);
        } else {
            // Seen when it is back.
            self.scheduler.orders_lost = true;
        }
    }
}
