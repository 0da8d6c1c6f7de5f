use super::*;
use crate::price::PaidFor;
use framewake_proto::ids::ChunkId;
use proptest::prelude::*;
use std::collections::BTreeMap;

const FIRST: AttemptId = AttemptId { chunk: ChunkId(1), number: 1 };
const SECOND: AttemptId = AttemptId { chunk: ChunkId(2), number: 1 };

/// A ledger with one worker, on a clock that counts from noon of some day.
struct Book {
    ledger: Ledger,
    worker: WorkerId,
    noon: i64,
}

impl Book {
    fn new() -> Book {
        let mut book = Book {
            ledger: Ledger::default(),
            worker: "w1".parse().expect("a good id"),
            noon: 20_000 * DAY_MS + DAY_MS / 2,
        };
        let function = FunctionKey { name: "blender".parse().expect("a good name"), version: 1 };
        book.ledger.open(book.at(0), &book.worker, &function, Some("here".parse().expect("a good name")));
        book
    }

    fn at(&self, ms: i64) -> Timestamp {
        Timestamp(self.noon + ms)
    }

    fn work(job: u128) -> Work {
        Work { job: JobId(job.into()), step: 0, project: "default".parse().expect("a good name") }
    }

    fn spoke(&mut self, ms: i64) {
        let at = self.at(ms);
        self.ledger.spoke(at, &self.worker, "NVIDIA L4");
    }

    fn claimed(&mut self, ms: i64, attempt: AttemptId, job: u128) {
        let at = self.at(ms);
        self.ledger.claimed(at, &self.worker, attempt, Book::work(job));
    }

    fn worked(&mut self, ms: i64, attempt: AttemptId, worked: Worked) {
        let at = self.at(ms);
        self.ledger.worked(at, &self.worker, attempt, worked);
    }

    fn ended(&mut self, ms: i64, attempt: AttemptId, outcome: &Outcome) {
        let at = self.at(ms);
        self.ledger.ended(at, &self.worker, attempt, outcome);
    }

    fn closed(&mut self, ms: i64) {
        let at = self.at(ms);
        self.ledger.closed(at, &self.worker);
    }

    fn pieces(&mut self) -> Vec<Spent> {
        let mut changes = Vec::new();
        self.ledger.take_changes(&mut changes);
        let pieces = changes.into_iter().filter_map(|change| match change {
            Change::Paid { spent, .. } => Some(spent),
            _ => None,
        });
        pieces.flatten().collect()
    }

    /// Milliseconds by job (0 for none) and cause.
    fn sums(&mut self) -> BTreeMap<(u128, Cause), u64> {
        let mut sums = BTreeMap::new();
        for piece in self.pieces() {
            let job = piece.work.as_ref().map_or(0, |work| u128::from(work.job.0));
            *sums.entry((job, piece.cause)).or_default() += piece.time_us() / 1000;
        }
        sums
    }
}

fn lost() -> Outcome {
    Outcome::Lost { how: "it fell silent".to_owned() }
}

#[test]
fn a_chunk_s_time_is_what_its_reports_say_and_the_rest_is_waiting() {
    let mut book = Book::new();
    book.spoke(2000);
    book.claimed(2100, FIRST, 7);
    book.worked(9000, FIRST, Worked { load_ms: 3000, useful_ms: 3500, upload_ms: 250, ..Worked::default() });
    // 400 ms of the second frame had passed when the first was told of.
    book.worked(12_500, FIRST, Worked { useful_ms: 3500, upload_ms: 250, ..Worked::default() });
    book.ended(12_900, FIRST, &Outcome::Finished);
    book.closed(15_000);
    let expected = [
        ((7, Cause::ColdStart), 2000),
        ((7, Cause::Load), 3000),
        ((7, Cause::Useful), 7000),
        ((7, Cause::Upload), 500),
        // Before the claim, what no report explains, and until it left.
        ((7, Cause::Idle), 100 + 300 + 2100),
    ];
    assert_eq!(book.sums(), expected.into());
}

#[test]
fn who_leaves_a_worker_idle_pays_for_it() {
    let mut book = Book::new();
    book.spoke(0);
    book.claimed(0, FIRST, 7);
    book.ended(0, FIRST, &Outcome::Finished);
    book.claimed(60_000, SECOND, 8);
    book.worked(70_000, SECOND, Worked { useful_ms: 10_000, ..Worked::default() });
    book.ended(70_000, SECOND, &Outcome::Finished);
    book.closed(71_000);
    let expected = [((7, Cause::Idle), 60_000), ((8, Cause::Useful), 10_000), ((8, Cause::Idle), 1000)];
    assert_eq!(book.sums(), expected.into());
}

#[test]
fn what_is_lost_with_a_worker_counts_from_the_last_result_until_it_is_known_to_be_gone() {
    let mut book = Book::new();
    book.spoke(0);
    book.claimed(0, FIRST, 7);
    book.worked(5000, FIRST, Worked { useful_ms: 5000, ..Worked::default() });
    book.ended(20_000, FIRST, &lost());
    book.closed(35_000);
    assert_eq!(book.sums(), [((7, Cause::Useful), 5000), ((7, Cause::Preempted), 30_000)].into());
    // One that was only cut off is idle from its first words on.
    let mut book = Book::new();
    book.spoke(0);
    book.claimed(0, FIRST, 7);
    book.ended(20_000, FIRST, &lost());
    book.spoke(25_000);
    book.closed(26_000);
    assert_eq!(book.sums(), [((7, Cause::Preempted), 25_000), ((7, Cause::Idle), 1000)].into());
}

/// Reports and claims come by different ways, and the claim is often the first.
#[test]
fn reports_that_come_after_the_next_claim_are_of_the_time_before_it() {
    let frame = Worked { useful_ms: 5000, upload_ms: 100, ..Worked::default() };
    let mut book = Book::new();
    book.spoke(0);
    book.claimed(0, FIRST, 7);
    book.worked(5000, FIRST, frame);
    book.claimed(10_200, SECOND, 7);
    book.worked(10_210, FIRST, frame);
    book.ended(10_210, FIRST, &Outcome::Finished);
    book.worked(15_200, SECOND, frame);
    book.ended(15_300, SECOND, &Outcome::Finished);
    let expected = [((7, Cause::Useful), 15_000), ((7, Cause::Upload), 200 + 100)];
    assert_eq!(book.sums(), expected.into());
    // What is told after the claim can be of no more than was before it.
    let mut book = Book::new();
    book.spoke(0);
    book.claimed(0, FIRST, 7);
    book.claimed(1000, SECOND, 7);
    book.worked(5000, FIRST, Worked { failed_ms: 5000, ..Worked::default() });
    book.ended(5000, FIRST, &Outcome::Finished);
    book.ended(6000, SECOND, &lost());
    assert_eq!(book.sums(), [((7, Cause::Failed), 1000), ((7, Cause::Preempted), 5000)].into());
    // They never come: nobody knows what that time was good for.
    let mut book = Book::new();
    book.spoke(0);
    book.claimed(0, FIRST, 7);
    book.claimed(5000, SECOND, 7);
    book.worked(10_000, SECOND, frame);
    book.closed(10_000);
    assert_eq!(book.sums(), [((7, Cause::Preempted), 5000), ((7, Cause::Useful), 5000)].into());
    // The next claim is of another job, which must not have this one's time after a crash.
    let mut book = Book::new();
    book.spoke(0);
    book.claimed(0, FIRST, 7);
    book.claimed(5000, SECOND, 8);
    book.worked(5010, FIRST, frame);
    book.ended(5010, FIRST, &Outcome::Finished);
    book.ended(6000, SECOND, &Outcome::Canceled);
    assert_eq!(book.sums(), [((7, Cause::Useful), 5000), ((8, Cause::Failed), 1000)].into());
}

#[test]
fn a_worker_that_never_spoke_was_a_cold_start_of_no_job() {
    let mut book = Book::new();
    book.closed(60_000);
    assert_eq!(book.sums(), [((0, Cause::ColdStart), 60_000)].into());
}

#[test]
fn a_worker_can_t_have_worked_for_longer_than_it_was_paid() {
    let mut book = Book::new();
    book.spoke(0);
    book.claimed(0, FIRST, 7);
    let boast = Worked { load_ms: u64::MAX, useful_ms: u64::MAX, upload_ms: u64::MAX, ..Worked::default() };
    book.worked(1000, FIRST, boast);
    book.worked(1000, FIRST, boast);
    book.ended(1500, FIRST, &Outcome::Finished);
    assert_eq!(book.sums(), [((7, Cause::Load), 1000), ((7, Cause::Upload), 500)].into());
}

#[test]
fn time_is_of_the_day_it_passed_in_and_priced_by_it() {
    let mut book = Book::new();
    let usd = "USD".parse().expect("good");
    for (day, price) in [(0, 1), (20_001, 2)] {
        let held = Held { price: crate::price::PriceId(price), micros_an_hour: 1, currency: usd };
        book.ledger.prices.set(PaidFor::Gpu("L4".to_owned()), day, held);
    }
    book.spoke(0);
    book.claimed(0, FIRST, 7);
    book.worked(2 * DAY_MS, FIRST, Worked { useful_ms: 2 * DAY_MS.unsigned_abs(), ..Worked::default() });
    let days = book
        .pieces()
        .into_iter()
        .map(|piece| (piece.day(), piece.time_us() / 1000, piece.price.map(|held| held.price.0)));
    let half = DAY_MS.unsigned_abs() / 2;
    let expected = [(20_000, half, Some(1)), (20_001, 2 * half, Some(2)), (20_002, half, Some(2))];
    assert_eq!(days.collect::<Vec<_>>(), expected);
}

#[test]
fn a_clock_that_was_set_back_pays_no_hour_twice() {
    let mut book = Book::new();
    book.spoke(0);
    book.claimed(3_600_000, FIRST, 7);
    let accounts: Vec<Account> = book.ledger.accounts().cloned().collect();
    book.ledger = Ledger::restore(book.at(1_800_000), accounts, Prices::default());
    book.ended(2_000_000, FIRST, &Outcome::Canceled);
    let pieces = book.pieces();
    assert_eq!((pieces.len(), pieces[0].from, pieces[0].until), (1, book.at(1_800_000), book.at(2_000_000)));
}

#[test]
fn a_pool_that_is_told_of_late_has_the_time_from_then_on() {
    let mut book = Book::new();
    book.ledger = Ledger::default();
    let function = FunctionKey { name: "blender".parse().expect("a good name"), version: 1 };
    book.ledger.open(book.at(0), &book.worker, &function, None);
    book.spoke(1000);
    book.claimed(1000, FIRST, 7);
    let pool: Name = "spot".parse().expect("a good name");
    for told in [Some(pool.clone()), Some("other".parse().expect("a good name")), None] {
        book.ledger.open(book.at(2000), &book.worker, &function, told);
    }
    book.worked(9000, FIRST, Worked { useful_ms: 8000, ..Worked::default() });
    let mut changes = Vec::new();
    book.ledger.take_changes(&mut changes);
    let paid = changes.into_iter().filter_map(|change| match change {
        Change::Paid { account, spent } => Some((account.pool, spent.iter().map(Spent::time_us).sum::<u64>() / 1000)),
        _ => None,
    });
    assert_eq!(paid.collect::<Vec<_>>(), [(None, 0), (None, 1000), (Some(pool.clone()), 0), (Some(pool), 8000)]);
}

/// A crash after the claim must not leave the time of one job to another.
#[test]
fn what_a_claim_makes_durable_is_of_the_new_work() {
    let mut book = Book::new();
    book.spoke(0);
    for (ms, job) in [(0, 7), (1000, 8)] {
        book.claimed(ms, FIRST, job);
        let mut changes = Vec::new();
        book.ledger.take_changes(&mut changes);
        let Some(Change::Paid { account, .. }) = changes.last() else { panic!("{changes:?}") };
        assert_eq!(account.work.as_deref(), Some(&Book::work(job)));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Spoke,
    Claimed(u64),
    Worked(u64, u16),
    Ended(u64, u8),
    Restart,
    Closed,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Spoke),
        (0..3u64).prop_map(Step::Claimed),
        (0..3u64, any::<u16>()).prop_map(|(chunk, ms)| Step::Worked(chunk, ms)),
        (0..3u64, 0..5u8).prop_map(|(chunk, outcome)| Step::Ended(chunk, outcome)),
        Just(Step::Restart),
        Just(Step::Closed),
    ]
}

proptest! {
    #[test]
    fn causes_add_up_to_paid_time_whatever_happens(steps in prop::collection::vec((step(), 0..90_000_000i64), 1..60)) {
        let mut book = Book::new();
        let mut now = 0;
        let (mut opened, mut paid) = (0, 0);
        let function = FunctionKey { name: "blender".parse().expect("a good name"), version: 1 };
        for (step, pause) in steps {
            now += pause;
            let attempt = |chunk| AttemptId { chunk: ChunkId(chunk), number: 1 };
            if book.ledger.accounts().next().is_none() {
                book.ledger.open(book.at(now), &book.worker.clone(), &function, None);
                opened = now;
            }
            match step {
                Step::Spoke => book.spoke(now),
                Step::Claimed(chunk) => book.claimed(now, attempt(chunk), u128::from(chunk) + 1),
                Step::Worked(chunk, ms) => {
                    let ms = u64::from(ms);
                    let worked = Worked { load_ms: ms / 3, useful_ms: ms, failed_ms: ms / 7, preempted_ms: ms / 5, upload_ms: ms / 2 };
                    book.worked(now, attempt(chunk), worked);
                }
                Step::Ended(chunk, outcome) => {
                    let outcomes = [Outcome::Finished, Outcome::HandedBack, Outcome::Canceled, Outcome::LicenseWait, lost()];
                    book.ended(now, attempt(chunk), &outcomes[usize::from(outcome)]);
                }
                Step::Restart => {
                    let accounts = book.ledger.accounts().cloned().collect();
                    let changes = std::mem::take(&mut book.ledger.changes);
                    book.ledger = Ledger::restore(book.at(now), accounts, Prices::default());
                    book.ledger.changes = changes;
                }
                Step::Closed => {
                    book.closed(now);
                    paid += now - opened;
                }
            }
            let mut summed_anew = UnderWay::default();
            book.ledger.accounts().for_each(|account| summed_anew.add(account));
            prop_assert_eq!(&book.ledger.under_way, &summed_anew);
        }
        if book.ledger.accounts().next().is_some() {
            book.closed(now);
            paid += now - opened;
        }
        let pieces = book.pieces();
        for pair in pieces.windows(2) {
            prop_assert!(pair[0].until <= pair[1].from && pair[0].from < pair[0].until, "{pair:?}");
        }
        for piece in &pieces {
            prop_assert!(piece.from.0.div_euclid(DAY_MS) == piece.day(), "within one day: {piece:?}");
        }
        prop_assert_eq!(pieces.iter().map(Spent::time_us).sum::<u64>(), paid.unsigned_abs() * 1000);
    }
}
