//! Schedules and their runs: written with the jobs they make, read again at a start.

use super::{Error, Store};
use framewake_core::schedule::{LateFor, Rules, Run, ScheduleId, StoredSchedule, WaitingRun};
use framewake_proto::ids::JobId;
use framewake_proto::schedule::{RunState, ScheduleSpec};
use framewake_proto::time::Timestamp;
use sqlx::{Row, SqliteConnection};
use std::collections::HashMap;
use std::sync::Arc;

/// Rows kept of each schedule: a run every hour for six weeks.
const RUNS_KEPT_MAX: i64 = 1000;

/// What is written of schedules, in this order.
#[derive(Debug, Clone)]
pub(crate) enum ScheduleWrite {
    Put {
        id: ScheduleId,
        spec: Arc<ScheduleSpec>,
    },
    /// The state of a schedule, after what was decided.
    State {
        id: ScheduleId,
        paused: bool,
        last_due: Timestamp,
        last_manual: Timestamp,
        runs: u64,
    },
    Removed(ScheduleId),
    /// A due time that was decided about for the first time.
    Run(RunRow),
    /// A run that waited does so no more.
    RunWaited(RunRow),
    Late {
        schedule: ScheduleId,
        due: Timestamp,
        deadline: LateFor,
        at: Timestamp,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct RunRow {
    pub(crate) schedule: ScheduleId,
    pub(crate) due: Timestamp,
    pub(crate) state: RunState,
    pub(crate) number: Option<u64>,
    pub(crate) job: Option<JobId>,
    pub(crate) reason: String,
    pub(crate) decided_at: Timestamp,
}

pub(super) async fn write(
    connection: &mut SqliteConnection,
    writes: &[ScheduleWrite],
    seqs: &HashMap<JobId, i64>,
) -> Result<(), sqlx::Error> {
    for write in writes {
        let query = match write {
            ScheduleWrite::Put { id, spec } => sqlx::query(
                "INSERT INTO schedules VALUES (?, ?, ?, 0, 0, 0, 0) ON CONFLICT DO UPDATE SET spec = excluded.spec",
            )
            .bind(id.0.cast_signed())
            .bind(spec.name.to_string())
            .bind(serde_json::to_string(spec.as_ref()).expect("a schedule can be written as JSON")),
            ScheduleWrite::State { id, paused, last_due, last_manual, runs } => {
                sqlx::query("UPDATE schedules SET paused = ?, last_due = ?, last_manual = ?, runs = ? WHERE id = ?")
                    .bind(*paused)
                    .bind(last_due.0)
                    .bind(last_manual.0)
                    .bind(runs.cast_signed())
                    .bind(id.0.cast_signed())
            }
            ScheduleWrite::Removed(id) => {
                let runs = sqlx::query("DELETE FROM schedule_runs WHERE schedule = ?").bind(id.0.cast_signed());
                runs.execute(&mut *connection).await?;
                let learned = sqlx::query("DELETE FROM learned_runs WHERE schedule = ?").bind(id.0.cast_signed());
                learned.execute(&mut *connection).await?;
                sqlx::query("DELETE FROM schedules WHERE id = ?").bind(id.0.cast_signed())
            }
            // A due time that is recorded twice breaks the primary key, and with it the batch and its job.
            ScheduleWrite::Run(row) => {
                sqlx::query("INSERT INTO schedule_runs VALUES (?, ?, ?, ?, ?, ?, ?, NULL, NULL)")
                    .bind(row.schedule.0.cast_signed())
                    .bind(row.due.0)
                    .bind(row.state.as_str())
                    .bind(row.number.map(u64::cast_signed))
                    .bind(row.job.and_then(|job| seqs.get(&job).copied()))
                    .bind(row.reason.clone())
                    .bind(row.decided_at.0)
            }
            ScheduleWrite::RunWaited(row) => sqlx::query(
                "UPDATE schedule_runs SET state = ?, number = ?, job = ?, reason = ?, decided_at = ?
                 WHERE schedule = ? AND due = ?",
            )
            .bind(row.state.as_str())
            .bind(row.number.map(u64::cast_signed))
            .bind(row.job.and_then(|job| seqs.get(&job).copied()))
            .bind(row.reason.clone())
            .bind(row.decided_at.0)
            .bind(row.schedule.0.cast_signed())
            .bind(row.due.0),
            ScheduleWrite::Late { schedule, due, deadline, at } => {
                let text = match deadline {
                    LateFor::Start => "UPDATE schedule_runs SET late_start = ? WHERE schedule = ? AND due = ?",
                    LateFor::Finish => "UPDATE schedule_runs SET late_finish = ? WHERE schedule = ? AND due = ?",
                };
                sqlx::query(text).bind(at.0).bind(schedule.0.cast_signed()).bind(due.0)
            }
        };
        query.execute(&mut *connection).await?;
        if let ScheduleWrite::Run(row) = write {
            prune(connection, row.schedule).await?;
        }
    }
    Ok(())
}

/// Removes the oldest rows of a schedule that has too many; a run that goes on or waits keeps its row.
async fn prune(connection: &mut SqliteConnection, schedule: ScheduleId) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM schedule_runs WHERE schedule = ?1 AND state <> 'waiting'
         AND (job IS NULL OR job IN (SELECT seq FROM jobs WHERE finished_at IS NOT NULL))
         AND due < (SELECT due FROM schedule_runs WHERE schedule = ?1 ORDER BY due DESC LIMIT 1 OFFSET ?2)",
    )
    .bind(schedule.0.cast_signed())
    .bind(RUNS_KEPT_MAX - 1)
    .execute(connection)
    .await?;
    Ok(())
}

impl Store {
    pub(crate) async fn load_schedules(&mut self) -> Result<Vec<(Arc<ScheduleSpec>, StoredSchedule)>, Error> {
        let read = |error| Error::Read { error };
        let rows = sqlx::query("SELECT id, spec, paused, last_due, last_manual, runs FROM schedules ORDER BY id");
        let rows = rows.fetch_all(&mut self.writer).await.map_err(read)?;
        let mut schedules = Vec::with_capacity(rows.len());
        for row in rows {
            let (id, text): (i64, String) = (row.try_get(0).map_err(read)?, row.try_get(1).map_err(read)?);
            let strange = |reason: String| Error::Row { row: format!("schedule {id}"), reason };
            let spec: ScheduleSpec = serde_json::from_str(&text).map_err(|error| strange(error.to_string()))?;
            let rules = Rules::stored(&spec);
            let rules = rules.ok_or_else(|| strange(format!("`{}` in `{}` is no time", spec.cron, spec.zone)))?;
            let (jobs, waiting) = self.load_runs(id).await?;
            let stored = StoredSchedule {
                id: ScheduleId(id.cast_unsigned()),
                rules,
                paused: row.try_get(2).map_err(read)?,
                last_due: Timestamp(row.try_get(3).map_err(read)?),
                last_manual: Timestamp(row.try_get(4).map_err(read)?),
                runs: row.try_get::<i64, _>(5).map_err(read)?.cast_unsigned(),
                jobs,
                waiting,
            };
            schedules.push((Arc::new(spec), stored));
        }
        Ok(schedules)
    }

    /// Runs that wait, and those whose jobs are not over, oldest first.
    async fn load_runs(&mut self, schedule: i64) -> Result<(Vec<Run>, Vec<WaitingRun>), Error> {
        let read = |error| Error::Read { error };
        let rows = sqlx::query(
            "SELECT due, late_start, late_finish, jobs.id, jobs.state FROM schedule_runs
             LEFT JOIN jobs ON jobs.seq = schedule_runs.job
             WHERE schedule = ? AND (schedule_runs.state = 'waiting' OR jobs.state IN ('queued', 'running', 'paused'))
             ORDER BY due",
        )
        .bind(schedule)
        .fetch_all(&mut self.writer)
        .await
        .map_err(read)?;
        let (mut jobs, mut waiting) = (Vec::new(), Vec::new());
        for row in rows {
            let due = Timestamp(row.try_get(0).map_err(read)?);
            let late_start = row.try_get::<Option<i64>, _>(1).map_err(read)?.is_some();
            let late_finish = row.try_get::<Option<i64>, _>(2).map_err(read)?.is_some();
            let (Some(id), Some(state)) = (
                row.try_get::<Option<String>, _>(3).map_err(read)?,
                row.try_get::<Option<String>, _>(4).map_err(read)?,
            ) else {
                waiting.push(WaitingRun { due, late_start });
                continue;
            };
            let job = id.parse().map_err(|_| Error::Row { row: format!("job {id}"), reason: "no id".to_owned() })?;
            jobs.push(Run { due, job, started: state != "queued", late_start, late_finish });
        }
        Ok((jobs, waiting))
    }
}
