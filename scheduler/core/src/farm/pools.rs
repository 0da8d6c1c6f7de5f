//! Where workers are started: which pools a function may use, in which order they are tried, and what each holds.

use super::{Farm, InPool, Starts};
use crate::coming::Timeline;
use crate::pool::{Pool, Reach};
use crate::retry::backoff;
use crate::timers::Timer;
use crate::values::PoolRules;
use framewake_proto::ids::{FunctionKey, Name, WorkerId};
use framewake_proto::time::{Day, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Wait after the first worker in a row that failed to start; doubles up to [`START_BACKOFF_MAX`].
const START_BACKOFF: Duration = Duration::from_secs(1);
const START_BACKOFF_MAX: Duration = Duration::from_mins(1);
/// A pool in which starts fail is tried after the others for this long at first; doubles up to [`LAST_MAX`].
const LAST: Duration = Duration::from_mins(5);
const LAST_MAX: Duration = Duration::from_hours(1);

/// Workers remembered whose end was never told: as many as there may be of one function.
const UNENDED_MAX: usize = 10_000;

/// A worker that is not counted any more, and whose process may live: its end is not told yet.
#[derive(Debug)]
pub(super) struct Unended {
    pool: Name,
    /// That it still takes; 0 once its place had time enough to tell.
    slots: u32,
    /// How it came, should it come back.
    pub(super) timeline: Timeline,
}

/// Why a pool gives no more workers, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    pub pool: Name,
    pub why: WhyNot,
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyNot {
    /// The function can't use it.
    Unfit,
    /// It could not hold even one worker.
    TooSmall,
    /// It can do nothing of what waits.
    Useless,
    Away,
    /// Starts there failed lately.
    Failing,
    Full,
    /// As many were asked for within a minute as it takes.
    Pausing,
    /// No GPU of this machine is free.
    Gpus,
}

impl Farm {
    /// The pools there are, and for each function known why it can't use some of them.
    pub(super) fn set_pools(
        &mut self,
        now: Timestamp,
        pools: Vec<PoolRules>,
        unfit: BTreeMap<FunctionKey, BTreeMap<Name, String>>,
    ) {
        let mut before = std::mem::take(&mut self.pools);
        for rules in pools {
            let known = before.remove(&rules.name).filter(|pool| pool.rules.here == rules.here);
            let pool = match known {
                Some(pool) => pool.with_rules(rules),
                None => Pool::new(now, rules),
            };
            self.pools.insert(pool.rules.name.clone(), pool);
        }
        for (key, unfit) in unfit {
            if let Some(at) = self.function_index.get(&key) {
                self.functions[*at].rules.unfit = unfit;
            }
        }
        self.touched.extend(0..self.functions.len());
        self.place_again(now);
    }

    /// The place of the pool answers and has told who is there, or it does not answer.
    pub(super) fn set_reach(&mut self, name: &Name, reach: Reach) {
        if let Some(pool) = self.pools.get_mut(name)
            && pool.reach != reach
        {
            pool.reach = reach;
            self.touched.extend(0..self.functions.len());
        }
    }

    /// Slots of workers that start, are there or leave, and of those whose end is not told yet.
    pub(super) fn taken(&self, pool: &Name) -> u32 {
        self.taken.get(pool).copied().unwrap_or(0)
    }

    fn is_fit(&self, at: usize, pool: &Name) -> bool {
        !self.functions[at].rules.unfit.contains_key(pool)
    }

    /// Pools whose GPUs and images will do, in no order.
    pub(super) fn fit_pools(&self, at: usize) -> impl Iterator<Item = &Pool> {
        self.pools.values().filter(move |pool| self.is_fit(at, &pool.rules.name))
    }

    /// Until when there may be workers of the function that nobody told of yet.
    pub(super) fn unknown_until(&self, at: usize) -> Option<Timestamp> {
        self.fit_pools(at).filter_map(Pool::unknown_until).max()
    }

    /// How many workers of the function all its pools together can hold.
    pub(super) fn capacity(&self, at: usize) -> u32 {
        self.fit_pools(at).map(|pool| self.holds(at, &pool.rules)).fold(0, u32::saturating_add)
    }

    /// How many workers of the function the pool can hold.
    pub(super) fn holds(&self, at: usize, pool: &PoolRules) -> u32 {
        let fit = pool.max / self.functions[at].rules.slots;
        if pool.here { fit.min(self.gpus_fit(at).unwrap_or(u32::MAX)) } else { fit }
    }

    /// Pools that the function may use, in the order in which they are tried: those in which starts failed lately come
    /// last, then by their number, then spot before what is never taken away, then by price.
    pub(super) fn pools_in_order(&self, now: Timestamp, at: usize) -> Vec<Name> {
        let function = &self.functions[at];
        let today = Day::of(now).0;
        let mut pools: Vec<_> = self
            .fit_pools(at)
            .map(|pool| {
                let PoolRules { name, order, gpu, .. } = &pool.rules;
                let failed = function.in_pools.get(name).and_then(|within| within.starts.last_until);
                let price = self.ledger.prices.of(&function.key.name, gpu, Some(name), today);
                let price = price.map_or(i64::MAX, |held| held.micros_an_hour);
                (failed.is_some_and(|until| until > now), *order, pool.is_dear(), price, name)
            })
            .collect();
        pools.sort_unstable();
        pools.into_iter().map(|(.., name)| name.clone()).collect()
    }

    /// The worker takes its slots from now on. One that was thought gone has them already.
    pub(super) fn take_slots(&mut self, id: &WorkerId, function: usize, pool: Option<Name>) -> Option<Name> {
        let slots = self.functions[function].rules.slots;
        let (pool, has) = match self.unended.remove(id) {
            Some(Unended { pool, slots, .. }) => (pool, slots),
            None => (pool?, 0),
        };
        *self.taken.entry(pool.clone()).or_default() += slots - has;
        Some(pool)
    }

    /// It is thought gone; its slots are free once its end is told. A place that never tells gives them back after as long
    /// as a start there may take, or the pool would be smaller for ever.
    pub(super) fn await_end(
        &mut self,
        now: Timestamp,
        id: &WorkerId,
        function: usize,
        pool: Option<Name>,
        timeline: Timeline,
    ) {
        let Some(pool) = pool else { return };
        let patience = self.pools.get(&pool).map_or(self.settings.start, |pool| pool.rules.start_within);
        self.set_timer(now.after(patience), Timer::Unended(id.clone()));
        self.unended.insert(id.clone(), Unended { pool, slots: self.functions[function].rules.slots, timeline });
    }

    /// Its place had time enough to tell of its end. Should it come back, it is known where it belongs.
    pub(super) fn free_slots(&mut self, id: &WorkerId) {
        if let Some(unended) = self.unended.get_mut(id)
            && let Some(taken) = self.taken.get_mut(&unended.pool)
        {
            *taken -= std::mem::take(&mut unended.slots);
        }
        if self.unended.len() > UNENDED_MAX
            && let Some(old) = self.unended.iter().find(|(_, unended)| unended.slots == 0).map(|(id, _)| id.clone())
        {
            self.unended.remove(&old);
        }
    }

    /// The worker's process is gone.
    pub(super) fn forget_worker(&mut self, id: &WorkerId) {
        self.free_slots(id);
        self.unended.remove(id);
    }

    pub(super) fn in_pool(&mut self, function: usize, pool: &Name) -> &mut InPool {
        let pools = &mut self.functions[function].in_pools;
        if !pools.contains_key(pool) {
            pools.insert(pool.clone(), InPool::default());
        }
        pools.get_mut(pool).expect("just looked")
    }

    /// Workers that end before they spoke would be started again at once, and again: they wait longer each time.
    pub(super) fn start_failed(&mut self, now: Timestamp, function: usize, pool: Option<&Name>, reason: String) {
        let Some(pool) = pool else { return };
        let starts = &mut self.in_pool(function, pool).starts;
        let wait = backoff(START_BACKOFF, START_BACKOFF_MAX, starts.failures, function as u64);
        starts.last_until = Some(now.after(backoff(LAST, LAST_MAX, starts.failures, 0)));
        starts.failures += 1;
        starts.not_before = Some(now.after(wait));
        starts.reason = reason;
        self.set_timer(now.after(wait), Timer::Start(function));
        self.touched.insert(function);
        self.note_learned(function, Some(pool));
    }

    /// A worker of the function came up there.
    pub(super) fn start_succeeded(&mut self, function: usize, pool: Option<&Name>) {
        if let Some(pool) = pool
            && let Some(within) = self.functions[function].in_pools.get_mut(pool)
            && within.starts.failures > 0
        {
            within.starts = Starts::default();
            self.note_learned(function, Some(pool));
        }
    }

    /// Waits because starts failed are over.
    pub(super) fn end_waits(&mut self, now: Timestamp, function: usize) {
        for within in self.functions[function].in_pools.values_mut() {
            within.starts.not_before = within.starts.not_before.map(|until| until.min(now));
        }
        self.touched.insert(function);
    }

    /// What keeps each pool from giving the function more workers, in the order in which they are tried; then those that
    /// it can't use.
    pub(super) fn passed_over(&self, now: Timestamp, at: usize) -> Vec<PassedOver> {
        let mut told = Vec::new();
        for name in self.pools_in_order(now, at) {
            let why = self.why_not(now, at, &name);
            told.extend(why.map(|(why, reason)| PassedOver { pool: name, why, reason }));
        }
        let unfit = self.functions[at].rules.unfit.iter().filter(|(name, _)| self.pools.contains_key(*name));
        let unfit = unfit.map(|(name, reason)| (name.clone(), reason.clone()));
        told.extend(unfit.map(|(pool, reason)| PassedOver { pool, why: WhyNot::Unfit, reason }));
        told
    }

    /// Why no worker of the function is asked for in this pool now.
    fn why_not(&self, now: Timestamp, at: usize, name: &Name) -> Option<(WhyNot, String)> {
        let function = &self.functions[at];
        let pool = self.pools.get(name)?;
        match &pool.reach {
            Reach::Open => {}
            Reach::Unasked { .. } => {
                return Some((WhyNot::Away, "its place has not told yet which workers are there".to_owned()));
            }
            Reach::Away { reason } => return Some((WhyNot::Away, reason.clone())),
        }
        let within = function.in_pools.get(name);
        if let Some(Starts { failures, not_before, reason, .. }) = within.map(|within| &within.starts)
            && *failures > 0
        {
            let again = not_before
                .filter(|until| *until > now)
                .map_or(String::new(), |until| format!("; tried again in {} s", until.since(now).as_secs() + 1));
            let reason = format!("{failures} in a row failed, the last because: {reason}{again}");
            return Some((WhyNot::Failing, reason));
        }
        if function.rules.slots > pool.rules.max {
            let reason = format!("a worker takes {} slots and there are {}", function.rules.slots, pool.rules.max);
            return Some((WhyNot::TooSmall, reason));
        }
        if let Some(reason) = self.useless(pool, at) {
            return Some((WhyNot::Useless, reason.to_owned()));
        }
        let taken = self.taken(name);
        if taken + function.rules.slots > pool.rules.max {
            return Some((WhyNot::Full, format!("all {} slots are taken", pool.rules.max)));
        }
        if pool.pause(now).is_some() {
            let most = pool.rules.starts_a_minute;
            return Some((
                WhyNot::Pausing,
                format!("{most} workers were asked for within a minute, as many as it takes"),
            ));
        }
        let reason = self.gpu_reason(at).filter(|_| pool.rules.here)?;
        Some((WhyNot::Gpus, reason))
    }

    /// Those of the function that leave or stay in pools that this function may use, in slots.
    pub(super) fn slots_in(&self, other: usize, pools: &BTreeSet<Name>, leaving: bool) -> u32 {
        let function = &self.functions[other];
        let counts =
            function.in_pools.iter().filter(|(name, _)| pools.contains(*name)).map(|(_, within)| within.workers);
        counts.map(|counts| (if leaving { counts.draining } else { counts.present }) * function.rules.slots).sum()
    }
}

/// Waits of starts that failed, as long as they can be: the wall clock may have been set back since.
pub(super) fn bounded_waits(
    now: Timestamp,
    not_before: Option<Timestamp>,
    last_until: Option<Timestamp>,
) -> (Option<Timestamp>, Option<Timestamp>) {
    let within = |until: Option<Timestamp>, most: Duration| until.map(|until| until.min(now.after(most)));
    (within(not_before, START_BACKOFF_MAX), within(last_until, LAST_MAX))
}
