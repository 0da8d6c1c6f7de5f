//! How workers came, and what was learned of that and of the last runs of schedules.

use super::load::{get, unreadable};
use super::read::{self, Reader};
use super::rows::Rows;
use super::write::{each, insert};
use super::{Error, Store};
use framewake_core::coming::{StoredStart, Timeline};
use framewake_core::schedule::ScheduleId;
use framewake_core::values::{StoredStarts, StoredTiming, Timing};
use framewake_proto::ids::WorkerId;
use framewake_proto::start::StartPoint;
use framewake_proto::time::Timestamp;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use std::collections::BTreeMap;
use std::time::Duration;

/// Workers whose ways are kept: the last night of a large farm, in a few megabytes.
pub(crate) const STARTS_MAX: i64 = 10_000;

const COLUMNS: &str = "worker, function, pool, points, counted, ended_at, reason";

pub(super) async fn write(c: &mut SqliteConnection, rows: &Rows) -> Result<(), sqlx::Error> {
    let starts: Vec<Value> = rows.starts.values().map(start_row).collect();
    insert(
        c,
        "starts (worker, function, pool, points, counted, ended_at, reason)",
        7,
        "WHERE true ON CONFLICT (worker) DO UPDATE SET points = excluded.points, counted = excluded.counted,
         pool = excluded.pool, ended_at = excluded.ended_at, reason = excluded.reason",
        &starts,
    )
    .await?;
    each(
        c,
        "UPDATE starts SET ended_at = r.value ->> 1, reason = r.value ->> 2 FROM json_each(?) r
         WHERE starts.worker = r.value ->> 0",
        &rows.start_ends,
    )
    .await?;
    if !starts.is_empty() {
        sqlx::query("DELETE FROM starts WHERE seq <= (SELECT max(seq) FROM starts) - ?")
            .bind(STARTS_MAX)
            .execute(&mut *c)
            .await?;
    }
    let learned: Vec<Value> = rows.learned_starts.values().map(learned_row).collect();
    insert(
        c,
        "learned_starts",
        8,
        "WHERE true ON CONFLICT DO UPDATE SET took = excluded.took, phases = excluded.phases, failures = excluded.failures,
         not_before = excluded.not_before, last_until = excluded.last_until, reason = excluded.reason",
        &learned,
    )
    .await?;
    let timings = rows.learned_timings.iter();
    let timings: Vec<Value> =
        timings.map(|(key, timing)| json!([key.to_string(), timing.load_s, timing.task_s])).collect();
    insert(
        c,
        "learned_timings",
        3,
        "WHERE true ON CONFLICT DO UPDATE SET load_s = excluded.load_s, task_s = excluded.task_s",
        &timings,
    )
    .await
}

/// What tasks took in the last runs of schedules, by step.
pub(super) async fn write_runs(
    c: &mut SqliteConnection,
    runs: &BTreeMap<(ScheduleId, usize), f64>,
) -> Result<(), sqlx::Error> {
    let runs: Vec<Value> = runs.iter().map(|((id, step), task_s)| json!([id.0, step, task_s])).collect();
    insert(c, "learned_runs", 3, "WHERE true ON CONFLICT DO UPDATE SET task_s = excluded.task_s", &runs).await
}

fn start_row(start: &StoredStart) -> Value {
    let StoredStart { worker, function, pool, timeline, ended } = start;
    let points: BTreeMap<&str, i64> = timeline.points().map(|(point, at)| (point.as_str(), at.0)).collect();
    let (ended_at, reason) = ended.as_ref().map_or((None, ""), |(at, reason)| (Some(at.0), reason.as_str()));
    let counted = timeline.counted().map(StartPoint::as_str);
    json!([worker, function.to_string(), pool, json!(points).to_string(), counted, ended_at, reason])
}

fn learned_row(learned: &StoredStarts) -> Value {
    let StoredStarts { function, pool, took, phases, failures, not_before, last_until, reason } = learned;
    let ms = |took: &Duration| u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let ms = |all: &[Duration]| all.iter().map(ms).collect::<Vec<u64>>();
    let phases: BTreeMap<&str, Vec<u64>> = phases.iter().map(|(point, took)| (point.as_str(), ms(took))).collect();
    json!([
        function.to_string(),
        pool,
        json!(ms(took)).to_string(),
        json!(phases).to_string(),
        failures,
        not_before.map(|at| at.0),
        last_until.map(|at| at.0),
        reason,
    ])
}

/// `None`: it was not written by this program.
fn start(row: &SqliteRow) -> Option<StoredStart> {
    let text = |at: usize| row.try_get::<String, _>(at).ok();
    let points: BTreeMap<String, i64> = serde_json::from_str(&text(3)?).ok()?;
    let points = points.into_iter().filter_map(|(name, at)| Some((StartPoint::named(&name)?, Timestamp(at))));
    let counted: Option<String> = row.try_get(4).ok()?;
    let pool: Option<String> = row.try_get(2).ok()?;
    let ended_at: Option<i64> = row.try_get(5).ok()?;
    let reason = text(6)?;
    Some(StoredStart {
        worker: text(0)?.parse().ok()?,
        function: text(1)?.parse().ok()?,
        pool: pool.map(|pool| pool.parse()).transpose().ok()?,
        timeline: Timeline::restore(points.collect(), counted.as_deref().and_then(StartPoint::named)),
        ended: ended_at.map(|at| (Timestamp(at), reason)),
    })
}

impl Store {
    /// Those whose end was not told.
    pub(super) async fn load_starts(&mut self) -> Result<Vec<StoredStart>, Error> {
        let rows = self.rows_of(format!("SELECT {COLUMNS} FROM starts WHERE ended_at IS NULL")).await?;
        let name = |row: &SqliteRow| row.try_get::<String, _>(0).unwrap_or_default();
        rows.iter().map(|row| start(row).ok_or_else(|| unreadable("starts", &name(row)))).collect()
    }

    pub(super) async fn load_learned_starts(&mut self) -> Result<Vec<StoredStarts>, Error> {
        let rows = self
            .rows("SELECT function, pool, took, phases, failures, not_before, last_until, reason FROM learned_starts")
            .await?;
        let learned = rows.iter().map(|row| {
            let (function, pool): (String, String) = (get(row, 0)?, get(row, 1)?);
            let broken = || unreadable("learned_starts", &format!("{function} in {pool}"));
            let durations = |all: Vec<u64>| all.into_iter().map(Duration::from_millis).collect::<Vec<_>>();
            let took: Vec<u64> = serde_json::from_str(&get::<String>(row, 2)?).map_err(|_| broken())?;
            let phases: BTreeMap<String, Vec<u64>> =
                serde_json::from_str(&get::<String>(row, 3)?).map_err(|_| broken())?;
            let phases =
                phases.into_iter().filter_map(|(name, took)| Some((StartPoint::named(&name)?, durations(took))));
            Ok(StoredStarts {
                function: function.parse().map_err(|_| broken())?,
                pool: pool.parse().map_err(|_| broken())?,
                took: durations(took),
                phases: phases.collect(),
                failures: get(row, 4)?,
                not_before: get::<Option<i64>>(row, 5)?.map(Timestamp),
                last_until: get::<Option<i64>>(row, 6)?.map(Timestamp),
                reason: get(row, 7)?,
            })
        });
        learned.collect()
    }

    pub(super) async fn load_learned_timings(&mut self) -> Result<Vec<StoredTiming>, Error> {
        let rows = self.rows("SELECT function, load_s, task_s FROM learned_timings").await?;
        let timings = rows.iter().map(|row| {
            let function: String = get(row, 0)?;
            let timing = Timing { load_s: get(row, 1)?, task_s: get(row, 2)? };
            let function = function.parse().map_err(|_| unreadable("learned_timings", &function))?;
            Ok(StoredTiming { function, timing })
        });
        timings.collect()
    }

    pub(crate) async fn load_learned_runs(&mut self) -> Result<BTreeMap<(ScheduleId, usize), f64>, Error> {
        let rows = self.rows("SELECT schedule, step, task_s FROM learned_runs").await?;
        let runs = rows.iter().map(|row| {
            let (schedule, step): (i64, i64) = (get(row, 0)?, get(row, 1)?);
            let step = usize::try_from(step).map_err(|_| unreadable("learned_runs", &step.to_string()))?;
            Ok(((ScheduleId(schedule.cast_unsigned()), step), get(row, 2)?))
        });
        runs.collect()
    }
}

impl Reader {
    /// How a worker came that is here, or was lately.
    pub(crate) async fn start(&self, worker: &WorkerId) -> Result<Option<StoredStart>, read::Error> {
        let found = sqlx::query(
            "SELECT worker, function, pool, points, counted, ended_at, reason FROM starts WHERE worker = ?",
        )
        .bind(worker.to_string())
        .fetch_optional(&self.pool)
        .await?;
        let strange = || read::Error::Word { what: "how a worker came", value: worker.to_string() };
        found.map(|row| start(&row).ok_or_else(strange)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Batch, JobCache};
    use framewake_core::change::Change;
    use framewake_proto::ids::FunctionKey;

    fn key() -> FunctionKey {
        "blender@1".parse().expect("a good key")
    }

    fn way(number: i64, ended: Option<(Timestamp, String)>) -> Change {
        let mut timeline = Timeline::default();
        for (point, at) in
            [(StartPoint::Wanted, number), (StartPoint::Asked, number + 1), (StartPoint::Nats, number + 5)]
        {
            timeline.note(Timestamp(at), point, Timestamp(at));
        }
        let counted = timeline.count(StartPoint::Nats);
        let worker = format!("w1-{number}").parse().expect("a good id");
        let pool = Some("spot".parse().expect("a good name"));
        let start = StoredStart { worker, function: key(), pool, timeline, ended };
        Change::WorkerStart { start, counted, spoke_after: None }
    }

    async fn commit(store: &mut Store, changes: &[Change]) {
        let batch = Batch { changes, ..Batch::default() };
        store.commit(batch, &JobCache::default()).await.expect("the disk takes it");
    }

    #[tokio::test]
    async fn ways_are_read_as_they_are_written_and_the_oldest_go() {
        let folder = tempfile::tempdir().expect("room for a folder");
        let mut store = Store::open(folder.path()).await.expect("a new folder");
        let ended = Some((Timestamp(9000), "it left".to_owned()));
        commit(&mut store, &[way(1, None), way(2, ended.clone())]).await;
        let reader = Reader::open(&folder.path().join(crate::store::file::DATABASE)).await.expect("it is there");
        let find = async |worker: &str| reader.start(&worker.parse().expect("a good id")).await.expect("readable");
        let Change::WorkerStart { start: first, .. } = way(1, None) else { unreachable!("made so") };
        assert_eq!(find("w1-1").await, Some(first.clone()));
        assert_eq!(find("w1-2").await.and_then(|start| start.ended), ended);
        assert_eq!(store.load_starts().await.expect("readable"), [first], "the other has ended");
        let gone = Change::WorkerStartEnded {
            worker: "w1-1".parse().expect("a good id"),
            at: Timestamp(7000),
            reason: "it failed".to_owned(),
        };
        commit(&mut store, &[gone]).await;
        let ended = find("w1-1").await.and_then(|start| start.ended);
        assert_eq!(ended, Some((Timestamp(7000), "it failed".to_owned())));
        // More than are kept, and the newest of them once more: a row that is written again is as old as it was.
        let many: Vec<Change> = (3..STARTS_MAX + 3).map(|number| way(number, None)).collect();
        commit(&mut store, &many).await;
        commit(&mut store, &[way(STARTS_MAX + 2, None)]).await;
        assert_eq!((find("w1-1").await, find("w1-2").await), (None, None));
        assert!(find("w1-3").await.is_some());
        assert_eq!(store.scalar("SELECT count(*) FROM starts").await.expect("a number"), STARTS_MAX);
    }

    #[tokio::test]
    async fn what_was_learned_is_read_as_it_is_written() {
        let folder = tempfile::tempdir().expect("room for a folder");
        let mut store = Store::open(folder.path()).await.expect("a new folder");
        let seconds = |all: &[u64]| all.iter().copied().map(Duration::from_secs).collect::<Vec<_>>();
        let mut learned = StoredStarts {
            function: key(),
            pool: "spot".parse().expect("a good name"),
            took: seconds(&[40, 60]),
            phases: BTreeMap::from([(StartPoint::Image, seconds(&[30, 50]))]),
            failures: 2,
            not_before: Some(Timestamp(5000)),
            last_until: Some(Timestamp(600_000)),
            reason: "no such \"image\"".to_owned(),
        };
        let timing = StoredTiming { function: key(), timing: Timing { load_s: None, task_s: Some(1.25) } };
        let changes = [Change::StartsLearned(learned.clone()), Change::TimingLearned(timing.clone())];
        commit(&mut store, &changes).await;
        assert_eq!(store.load_learned_starts().await.expect("readable"), [learned.clone()]);
        assert_eq!(store.load_learned_timings().await.expect("readable"), [timing]);
        // The last word counts, within a batch too.
        (learned.failures, learned.not_before, learned.last_until) = (0, None, None);
        learned.reason.clear();
        commit(&mut store, &[changes[0].clone(), Change::StartsLearned(learned.clone())]).await;
        assert_eq!(store.load_learned_starts().await.expect("readable"), [learned]);
        let runs = BTreeMap::from([((ScheduleId(7), 0), 3.5), ((ScheduleId(7), 1), 0.25)]);
        let batch = Batch { runs_learned: runs.clone(), ..Batch::default() };
        store.commit(batch, &JobCache::default()).await.expect("the disk takes it");
        assert_eq!(store.load_learned_runs().await.expect("readable"), runs);
    }
}
