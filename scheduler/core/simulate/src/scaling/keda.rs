//! KEDA over a queue, with its defaults and those of the `HorizontalPodAutoscaler` beneath it, set up as somebody does who knows it:
//! one pod for each task that waits or is rendered (`lagThreshold: "1"`, where the default of 10 would make ten tasks wait for
//! each pod). In three things it is kinder than the real one: the queue is known at once, what a pod was at comes back at
//! once, and a pod finds its task at once.

use super::nodes::{Next, NodePolicy, Nodes};
use super::trace::Job;
use super::{DAY_MS, GPUS_MAX, LOAD_MS, Outcome};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};

/// KEDA's `pollingInterval` (concepts/scaling-deployments and scaling-jobs): how often it looks at the queue.
const POLL_MS: i64 = 30_000;
/// KEDA's `cooldownPeriod` (concepts/scaling-deployments): the last pod goes so long after the queue was seen empty.
const COOLDOWN_MS: i64 = 300_000;
/// KEDA's `maxReplicaCount`: what there may be at once, if there were as many GPUs.
const REPLICAS_MAX: u32 = 100;
/// `--horizontal-pod-autoscaler-sync-period` of Kubernetes' controller manager.
const SYNC_MS: i64 = 15_000;
/// `--horizontal-pod-autoscaler-tolerance`, in percent: a smaller difference changes nothing.
const TOLERANCE_PERCENT: u32 = 10;
/// `behavior.scaleDown.stabilizationWindowSeconds`: fewer pods only if fewer were wanted all this time.
const STABLE_MS: i64 = 300_000;
/// `behavior.scaleUp.policies`: within 15 s this many more, or as many again.
const UP_PODS: u32 = 4;
/// `terminationGracePeriodSeconds` of a pod: what it may still finish.
pub const GRACE_DEFAULT_MS: i64 = 30_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keda {
    /// A Deployment that is scaled: pods take task after task. One that has to go takes no other task, and may work for so
    /// long on the one it has.
    ScaledObject { grace_ms: i64 },
    /// A Job for each task, by the strategy `default`: as many as wait or are rendered, less those that are there.
    ScaledJob,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Submit(usize),
    Up(usize),
    Done(usize),
    Ready(usize),
    Look(usize),
    Sync,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pod {
    Starting {
        /// Known once it has a node.
        up_at: Option<i64>,
    },
    Idle {
        ready_at: i64,
    },
    Busy {
        ready_at: i64,
        job: usize,
        until: i64,
    },
    /// It may finish what it is at.
    Ending {
        job: usize,
        until: i64,
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
    pods: Vec<Pod>,
    /// Those that are not gone.
    there: BTreeSet<usize>,
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
        there: BTreeSet::new(),
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
    farm.outcome.add_nodes(&farm.nodes);
    farm.outcome
}

impl Farm<'_> {
    fn plan(&mut self, at: i64, what: What) {
        self.number += 1;
        self.planned.push(Reverse((at, self.number, what)));
    }

    fn follow(&mut self, next: Option<Next>) {
        match next {
            Some(Next::Up { pod, at }) => {
                self.pods[pod] = Pod::Starting { up_at: Some(at) };
                self.plan(at, What::Up(pod));
            }
            Some(Next::Ready { node, at }) => self.plan(at, What::Ready(node)),
            Some(Next::Look { node, at }) => self.plan(at, What::Look(node)),
            None => {}
        }
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Submit(job) => {
                self.queue.extend(std::iter::repeat_n(job, self.jobs[job].tasks as usize));
                self.give_out();
            }
            What::Up(pod) => {
                if matches!(self.pods[pod], Pod::Starting { .. }) {
                    self.pods[pod] = Pod::Idle { ready_at: self.now };
                    self.give_out();
                }
            }
            What::Done(pod) => self.done(pod),
            What::Ready(node) => {
                let next = self.nodes.ready(self.now, node);
                self.follow(Some(next));
            }
            What::Look(node) => {
                let next = self.nodes.look(self.now, node);
                self.follow(next);
            }
            What::Sync => {
                match self.keda {
                    Keda::ScaledObject { grace_ms } => self.sync_object(grace_ms),
                    Keda::ScaledJob => self.sync_jobs(),
                }
                self.plan(self.now + SYNC_MS, What::Sync);
            }
        }
    }

    fn give_out(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        for at in self.there.clone() {
            let Pod::Idle { ready_at } = self.pods[at] else { continue };
            let Some(job) = self.queue.pop_front() else { return };
            let until = self.now + self.jobs[job].takes_ms(false);
            self.pods[at] = Pod::Busy { ready_at, job, until };
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

    fn done(&mut self, pod: usize) {
        let (job, ready_at) = match self.pods[pod] {
            Pod::Busy { job, until, ready_at } if until == self.now => (job, Some(ready_at)),
            Pod::Ending { job, until } if until == self.now => (job, None),
            Pod::Starting { .. } | Pod::Idle { .. } | Pod::Busy { .. } | Pod::Ending { .. } | Pod::Gone => return,
        };
        self.outcome.paid.useful_ms += i64::from(self.jobs[job].task_ms);
        self.outcome.paid.load_ms += LOAD_MS;
        self.left[job] -= 1;
        if self.left[job] == 0 {
            let done = self.now - self.jobs[job].at_ms;
            self.outcome.done_ms.push(done);
            if self.jobs[job].nightly {
                self.outcome.nights.push((self.first[job].unwrap_or_default(), done));
            }
        }
        match (ready_at, self.keda) {
            (Some(ready_at), Keda::ScaledObject { .. }) => {
                self.pods[pod] = Pod::Idle { ready_at };
                self.give_out();
            }
            (None, Keda::ScaledObject { .. }) | (_, Keda::ScaledJob) => self.end(pod),
        }
    }

    fn end(&mut self, pod: usize) {
        let before = std::mem::replace(&mut self.pods[pod], Pod::Gone);
        self.there.remove(&pod);
        let next = match before {
            Pod::Starting { up_at: Some(up_at) } => self.nodes.leave_before_up(self.now, pod, up_at),
            Pod::Starting { up_at: None } | Pod::Idle { .. } | Pod::Busy { .. } | Pod::Ending { .. } | Pod::Gone => {
                self.nodes.leave(self.now, pod)
            }
        };
        self.follow(next);
    }

    fn start(&mut self) {
        let pod = self.pods.len();
        self.pods.push(Pod::Starting { up_at: None });
        self.there.insert(pod);
        let next = self.nodes.take(self.now, pod);
        self.follow(next);
    }

    fn alive(&self) -> u32 {
        let alive = self.there.iter().filter(|pod| !matches!(self.pods[**pod], Pod::Ending { .. })).count();
        u32::try_from(alive).unwrap_or(u32::MAX)
    }

    /// Waiting and being rendered: what the scaler of JetStream counts.
    fn lag(&self) -> u32 {
        let busy = |pod: &&usize| matches!(self.pods[**pod], Pod::Busy { .. } | Pod::Ending { .. });
        u32::try_from(self.queue.len() + self.there.iter().filter(busy).count()).unwrap_or(u32::MAX)
    }

    fn sync_jobs(&mut self) {
        if self.now % POLL_MS == 0 {
            for _ in self.alive()..self.lag().min(REPLICAS_MAX).min(GPUS_MAX) {
                self.start();
            }
        }
    }

    fn sync_object(&mut self, grace_ms: i64) {
        let lag = self.lag().min(REPLICAS_MAX).min(GPUS_MAX);
        let poll = self.now % POLL_MS == 0;
        if poll && lag > 0 {
            self.active_at = self.now;
        }
        // The autoscaler of pods keeps one at least, and has none to look at while there are none.
        let near = lag.abs_diff(self.replicas) * 100 <= TOLERANCE_PERCENT * self.replicas;
        let wanted = if near { self.replicas } else { lag.max(1) };
        self.wanted.push_back((self.now, wanted));
        while self.wanted.front().is_some_and(|(at, _)| *at <= self.now - STABLE_MS) {
            self.wanted.pop_front();
        }
        self.replicas = match self.replicas {
            0 if poll && lag > 0 => 1,
            0 => 0,
            _ if poll && self.now - self.active_at >= COOLDOWN_MS => 0,
            replicas if wanted > replicas => wanted.min((2 * replicas).max(replicas + UP_PODS)),
            replicas => replicas.min(self.wanted.iter().map(|(_, wanted)| *wanted).max().unwrap_or(1)),
        };
        for _ in self.alive()..self.replicas {
            self.start();
        }
        self.fit(grace_ms);
    }

    /// Ends pods that are too many, in the order of the `ReplicaSet`: without a node first, then those that are not ready, then
    /// the younger ones, by the logarithm of their age. What a pod is at is not known to it.
    /// (Kubernetes, `pkg/controller/controller_utils.go`: `ActivePodsWithRanks`)
    fn fit(&mut self, grace_ms: i64) {
        for _ in self.replicas..self.alive() {
            let mut choices: Vec<(u32, u32, u64, usize)> = Vec::new();
            for pod in self.there.iter().copied() {
                let (class, ready_at) = match self.pods[pod] {
                    Pod::Starting { up_at } => (u32::from(up_at.is_some()), None),
                    Pod::Idle { ready_at } | Pod::Busy { ready_at, .. } => (2, Some(ready_at)),
                    Pod::Ending { .. } | Pod::Gone => continue,
                };
                let age_s = ready_at.map_or(0, |ready_at| (self.now - ready_at) / 1000);
                let age = u64::try_from(age_s).unwrap_or(0).checked_ilog2().map_or(0, |log| log + 1);
                choices.push((class, age, self.dice.u64(..), pod));
            }
            let Some((.., victim)) = choices.into_iter().min() else { return };
            match self.pods[victim] {
                Pod::Busy { job, until, .. } if until > self.now + grace_ms => {
                    self.outcome.ended += 1;
                    let ran = self.now - (until - self.jobs[job].takes_ms(false));
                    self.outcome.paid.load_ms += ran.min(LOAD_MS);
                    self.outcome.paid.redone_ms += (ran - LOAD_MS).max(0);
                    self.queue.push_front(job);
                    self.again[job] += 1;
                    self.end(victim);
                }
                Pod::Busy { job, until, .. } => self.pods[victim] = Pod::Ending { job, until },
                Pod::Starting { .. } | Pod::Idle { .. } | Pod::Ending { .. } | Pod::Gone => self.end(victim),
            }
        }
        self.give_out();
    }
}
