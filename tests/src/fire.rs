//! The real system under random faults: a farm renders while its parts are killed, stopped, cut off and starved; then
//! an auditor counts. What is done to whom follows from a seed.

mod book;
mod faults;
pub mod picture;
mod site;
mod tally;

pub use faults::Fault;
pub use site::Site;
pub use tally::Outcome;

use crate::audit::{Bucket, audit};
use book::Book;
use fastrand::Rng;
use framewake_proto::client::JobQuery;
use framewake_proto::time::Timestamp;
use std::time::{Duration, Instant};
use tally::Tally;

/// How often the farm is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Longest wait for a look: a stopped scheduler answers nothing.
const LOOK_MAX: Duration = Duration::from_secs(3);
/// How often a line says how far it is.
const SAY_EVERY: Duration = Duration::from_secs(15);
/// Tasks that shall wait or run at any time, so that each recovery has something to show.
const OUTSTANDING_MIN: u32 = 400;
/// After a heal, the next frame must be committed within this time: two leases, and a start of everything.
const RECOVERY_MAX: Duration = Duration::from_mins(2);
/// At the end, all jobs must be over after this long without progress.
const STANDSTILL_MAX: Duration = Duration::from_mins(3);
/// One in so many faults lasts longer than a lease.
const LONG_EVERY: u32 = 12;
/// After a heal, failures that the fault explains may still be told.
const EXCUSED_AFTER: i64 = 30_000;

/// What to do, and for how long.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    /// Faults go on for this long,
    pub duration: Duration,
    /// and until so many frames were asked for.
    pub frames: u32,
    /// With Blender jobs, and faults that last minutes.
    pub long: bool,
}

/// Runs the plan. `say` is given lines on the way.
pub async fn run(plan: &Plan, say: impl Fn(&str)) -> Outcome {
    let mut rng = Rng::with_seed(plan.seed);
    let mut site = Site::start(4, &say).await;
    let mut book = Book::open(&site, plan.long).await;
    let mut tally = Tally::new(plan.seed);
    let mut clock = Clock::start();
    let mut bag = Vec::new();
    tally.begin();
    while clock.begin.elapsed() < plan.duration || book.frames() < plan.frames {
        if bag.is_empty() {
            // Every fault once, in another order each time.
            bag = Fault::all(plan.long, site.has_tight());
            rng.shuffle(&mut bag);
        }
        let mut faults = vec![bag.pop().expect("filled above")];
        if rng.u32(0..4) == 0 {
            faults.extend(bag.pop());
        }
        let hold = hold(&mut rng, plan, &faults);
        let began = Timestamp::now();
        for fault in &faults {
            tally.fault(*fault);
            site.begin(*fault, &mut rng);
        }
        let until = Instant::now() + hold;
        while Instant::now() < until {
            clock.attend(&site, &mut book, &mut tally, &mut rng, &say).await;
        }
        tally.restarts += site.heal().await;
        for fault in &faults {
            tally.window(*fault, began, Timestamp(Timestamp::now().0 + EXCUSED_AFTER));
        }
        let healed = Instant::now();
        // What was committed before the heal and is seen only now is no recovery.
        clock.attend(&site, &mut book, &mut tally, &mut rng, &say).await;
        let before = tally.done;
        while tally.done == before {
            clock.attend(&site, &mut book, &mut tally, &mut rng, &say).await;
            if healed.elapsed() > RECOVERY_MAX {
                tally.stuck.push(format!("no frame within {} s after {faults:?}", RECOVERY_MAX.as_secs()));
                break;
            }
        }
        tally.recovered(&faults, healed.elapsed());
    }
    say("the faults are over; waiting for all jobs");
    tally.restarts += site.heal().await;
    finish(&site, &mut book, &mut tally, &mut clock, &say).await;
    let accepted = book.accepted(&site.farm.client, &mut tally).await;
    say(&format!("auditing {} jobs", accepted.len()));
    let findings = audit(&site.farm.client, &Bucket::of(&site.farm), &accepted).await;
    tally.requests_broken = site.requests_broken();
    let outcome = tally.close(findings);
    if !outcome.is_clean() {
        say(&format!("the farm's folder is kept: {}", site.keep().display()));
    }
    outcome
}

fn hold(rng: &mut Rng, plan: &Plan, faults: &[Fault]) -> Duration {
    if !plan.long {
        return Duration::from_millis(rng.u64(200..900));
    }
    if faults.contains(&Fault::SchedulerAway) {
        return Duration::from_secs(rng.u64(60..120));
    }
    match rng.u32(0..LONG_EVERY) {
        0 => Duration::from_secs(rng.u64(16..25)),
        _ => Duration::from_millis(rng.u64(300..6000)),
    }
}

/// Until nothing waits or runs.
async fn finish(site: &Site, book: &mut Book, tally: &mut Tally, clock: &mut Clock, say: &impl Fn(&str)) {
    let mut last = (tally.done, Instant::now());
    loop {
        clock.look(site, book, tally, say).await;
        book.resolve(site, tally).await;
        if tally.outstanding == 0 && book.is_resolved() {
            return;
        }
        if tally.done != last.0 {
            last = (tally.done, Instant::now());
        }
        if last.1.elapsed() > STANDSTILL_MAX {
            tally.stuck.push(format!("{} tasks are not over: {}", tally.outstanding, book.explain(site).await));
            return;
        }
    }
}

/// When things are due.
struct Clock {
    begin: Instant,
    said: Instant,
    tick: tokio::time::Interval,
}

impl Clock {
    fn start() -> Clock {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        Clock { begin: Instant::now(), said: Instant::now(), tick }
    }

    /// One look, and what it calls for: more jobs, and answers to what was left open.
    async fn attend(&mut self, site: &Site, book: &mut Book, tally: &mut Tally, rng: &mut Rng, say: &impl Fn(&str)) {
        self.look(site, book, tally, say).await;
        book.resolve(site, tally).await;
        if tally.outstanding + book.unresolved_frames() < OUTSTANDING_MIN {
            book.submit(site, tally, rng).await;
        }
    }

    async fn look(&mut self, site: &Site, book: &Book, tally: &mut Tally, say: &impl Fn(&str)) {
        self.tick.tick().await;
        let query = JobQuery { limit: Some(framewake_proto::api::PAGE_SIZE_MAX), ..JobQuery::default() };
        if let Ok(Ok(page)) = tokio::time::timeout(LOOK_MAX, site.farm.client.jobs(&query)).await {
            tally.done = page.items.iter().map(|job| job.tasks.done).sum();
            tally.outstanding = page.items.iter().map(|job| job.tasks.waiting + job.tasks.open).sum();
        }
        if self.said.elapsed() > SAY_EVERY {
            self.said = Instant::now();
            say(&format!("{:>5} s  {}  {}", self.begin.elapsed().as_secs(), tally.line(), book.line()));
        }
    }
}
