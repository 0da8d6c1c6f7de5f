//! KEDA over a queue, with its defaults and those of the `HorizontalPodAutoscaler` beneath it. Which pod goes is the choice of
//! the `ReplicaSet`, and it knows nothing of what a pod is at: those that are not ready first, then any. In all else it is kinder than
//! the real one: the queue is known at once, and what a pod was at comes back to it at once.

use super::nodes::{NodePolicy, Nodes};
use super::trace::Job;
use super::{DAY_MS, GPUS_MAX, LOAD_MS, Outcome};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// How often KEDA looks at the queue.
const POLL_MS: i64 = 30_000;
/// How often the `HorizontalPodAutoscaler` looks.
const SYNC_MS: i64 = 15_000;
/// Fewer pods only if fewer were wanted all this time.
const STABLE_MS: i64 = 300_000;
/// What a pod that must go may still finish.
const GRACE_MS: i64 = 30_000;
/// The last pod goes so long after the queue was empty.
const COOLDOWN_MS: i64 = 300_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keda {
    /// A Deployment that is scaled: pods take task after task.
    ScaledObject,
    /// A Job for each task.
    ScaledJob,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Submit(usize),
    Up(usize),
    Done(usize),
    Look(usize),
    Sync,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pod {
    Starting,
    Idle,
    Busy {
        job: usize,
        until: i64,
    },
    /// It may finish what it is at.
    Ending {
        job: usize,
    },
    Gone,
}

struct Farm<'a> {
    jobs: &'a [Job],
    keda: Keda,
    now: i64,
    nodes: Nodes,
    planned: BinaryHeap<Reverse<(i64, u64, What)>>,
    number: u64,
    pods: Vec<(Pod, usize)>,
    /// Waiting tasks, by their jobs.
    queue: VecDeque<usize>,
    /// Tasks of each job that are not done.
    left: Vec<u32>,
    /// Of each job, those that were cut off and wait to be begun again.
    again: Vec<u32>,
    first: Vec<Option<i64>>,
    replicas: u32,
    /// What was wanted at each look.
    wanted: VecDeque<(i64, u32)>,
    active_at: i64,
    dice: fastrand::Rng,
    outcome: Outcome,
}

pub(super) fn play(jobs: &[Job], policy: NodePolicy, keda: Keda) -> Outcome {
    let mut farm = Farm {
        jobs,
        keda,
        now: 0,
        nodes: Nodes::new(policy),
        planned: BinaryHeap::new(),
        number: 0,
        pods: Vec::new(),
        queue: VecDeque::new(),
        left: jobs.iter().map(|job| job.tasks).collect(),
        again: vec![0; jobs.len()],
        first: vec![None; jobs.len()],
        replicas: 0,
        wanted: VecDeque::new(),
        active_at: i64::MIN / 2,
        dice: fastrand::Rng::with_seed(jobs.len() as u64),
        outcome: Outcome::default(),
    };
    for (at, job) in jobs.iter().enumerate() {
        farm.plan(job.at_ms, What::Submit(at));
    }
    farm.plan(0, What::Sync);
    // A day after the last job everything is given back.
    let end = jobs.last().map_or(0, |job| job.at_ms) + DAY_MS;
    while let Some(Reverse((at, _, what))) = farm.planned.pop() {
        farm.now = at;
        if at < end || what != What::Sync {
            farm.happen(what);
        }
    }
    farm.outcome.paid_ms = farm.nodes.paid_ms;
    farm.outcome.nodes = farm.nodes.made();
    farm.outcome
}

impl Farm<'_> {
    fn plan(&mut self, at: i64, what: What) {
        self.number += 1;
        self.planned.push(Reverse((at, self.number, what)));
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Submit(job) => {
                self.queue.extend(std::iter::repeat_n(job, self.jobs[job].tasks as usize));
                self.give_out();
            }
            What::Up(pod) => {
                if self.pods[pod].0 == Pod::Starting {
                    self.pods[pod].0 = Pod::Idle;
                    self.give_out();
                }
            }
            What::Done(pod) => self.done(pod),
            What::Look(node) => {
                if let Some(again) = self.nodes.look(self.now, node) {
                    self.plan(again, What::Look(node));
                }
            }
            What::Sync => {
                match self.keda {
                    Keda::ScaledObject => self.sync_object(),
                    Keda::ScaledJob => self.sync_jobs(),
                }
                self.plan(self.now + SYNC_MS, What::Sync);
            }
        }
    }

    fn give_out(&mut self) {
        for at in 0..self.pods.len() {
            if self.pods[at].0 == Pod::Idle
                && let Some(job) = self.queue.pop_front()
            {
                let until = self.now + self.jobs[job].takes_ms(false);
                self.pods[at].0 = Pod::Busy { job, until };
                let begun = self.now + LOAD_MS;
                if self.again[job] > 0 {
                    // It was begun before, and is not counted as a task that had to wait for it.
                    self.again[job] -= 1;
                } else {
                    self.outcome.waits_ms.push(begun - self.jobs[job].at_ms);
                }
                self.first[job].get_or_insert(begun - self.jobs[job].at_ms);
                self.plan(until, What::Done(at));
            }
        }
    }

    fn done(&mut self, pod: usize) {
        let (job, ending) = match self.pods[pod].0 {
            Pod::Busy { job, until } if until == self.now => (job, false),
            Pod::Ending { job } => (job, true),
            Pod::Starting | Pod::Idle | Pod::Busy { .. } | Pod::Gone => return,
        };
        self.outcome.useful_ms += i64::from(self.jobs[job].task_ms);
        self.left[job] -= 1;
        if self.left[job] == 0 && self.jobs[job].nightly {
            let first = self.first[job].unwrap_or_default();
            self.outcome.nights.push((first, self.now - self.jobs[job].at_ms));
        }
        self.pods[pod].0 = Pod::Idle;
        if ending {
            self.end(pod);
            return;
        }
        match self.keda {
            Keda::ScaledJob => self.end(pod),
            Keda::ScaledObject => {
                self.give_out();
            }
        }
    }

    fn end(&mut self, pod: usize) {
        self.pods[pod].0 = Pod::Gone;
        let node = self.pods[pod].1;
        let look = self.nodes.leave(self.now, node);
        self.plan(look, What::Look(node));
    }

    fn start(&mut self) {
        let (node, up) = self.nodes.take(self.now);
        self.pods.push((Pod::Starting, node));
        self.plan(up, What::Up(self.pods.len() - 1));
    }

    fn alive(&self) -> u32 {
        let alive = self.pods.iter().filter(|(pod, _)| !matches!(pod, Pod::Gone | Pod::Ending { .. })).count();
        u32::try_from(alive).unwrap_or(u32::MAX)
    }

    /// Waiting and being rendered: what the scaler of JetStream counts.
    fn lag(&self) -> u32 {
        let busy = self.pods.iter().filter(|(pod, _)| matches!(pod, Pod::Busy { .. } | Pod::Ending { .. })).count();
        u32::try_from(self.queue.len() + busy).unwrap_or(u32::MAX).min(GPUS_MAX)
    }

    fn sync_jobs(&mut self) {
        if self.now % POLL_MS == 0 {
            for _ in self.alive()..self.lag() {
                self.start();
            }
        }
    }

    fn sync_object(&mut self) {
        let lag = self.lag();
        if lag > 0 {
            self.active_at = self.now;
        }
        self.wanted.push_back((self.now, lag.max(1)));
        while self.wanted.front().is_some_and(|(at, _)| *at <= self.now - STABLE_MS) {
            self.wanted.pop_front();
        }
        let poll = self.now % POLL_MS == 0;
        self.replicas = match self.replicas {
            0 if poll && lag > 0 => 1,
            0 => 0,
            replicas if lag > replicas => lag.min((2 * replicas).max(replicas + 4)),
            1 if poll && self.now - self.active_at >= COOLDOWN_MS => 0,
            replicas => replicas.min(self.wanted.iter().map(|(_, wanted)| *wanted).max().unwrap_or(1)),
        };
        for _ in self.alive()..self.replicas {
            self.start();
        }
        self.fit();
    }

    /// Ends pods that are too many.
    fn fit(&mut self) {
        for _ in self.replicas..self.alive() {
            let starting = self.pods.iter().position(|(pod, _)| *pod == Pod::Starting);
            let ready = |(pod, _): &(Pod, usize)| matches!(pod, Pod::Idle | Pod::Busy { .. });
            let any: Vec<usize> = (0..self.pods.len()).filter(|at| ready(&self.pods[*at])).collect();
            let Some(victim) = starting.or_else(|| self.dice.choice(any)) else { return };
            match self.pods[victim].0 {
                Pod::Busy { job, until } if until > self.now + GRACE_MS => {
                    self.outcome.ended += 1;
                    self.queue.push_front(job);
                    self.again[job] += 1;
                    self.end(victim);
                }
                Pod::Busy { job, .. } => self.pods[victim].0 = Pod::Ending { job },
                Pod::Starting | Pod::Idle | Pod::Ending { .. } | Pod::Gone => self.end(victim),
            }
        }
        self.give_out();
    }
}
