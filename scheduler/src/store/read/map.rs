//! All tasks of a step at a glance, in a bounded number of columns, whether they are ten or ten million.

use super::tasks::SEGMENT_TASKS;
use super::{Error, JobKey, Reader};
use framewake_proto::api::StepMap;
use sqlx::Row;

/// Steps of at most so many tasks have all of their times read; of larger ones the first done task of each column
/// speaks for it, which keeps the answer in the milliseconds.
const TIMED_TASKS_MAX: u32 = 50_000;

/// A cross join is made in the order in which it stands: else SQLite, which doesn't know how long either list is, may go through all
/// results of a step, and for each through what is wanted (8 s for 300,000).
pub(in crate::store) const TIMES_OF_SOME: &str =
    "SELECT CAST(task AS INTEGER) * ?3 / ?4 AS column_at, elapsed_ms AS mean, elapsed_ms AS most
     FROM json_each(?5) AS wanted CROSS JOIN results ON job = ?1 AND step = ?2 AND task = wanted.value";

impl Reader {
    /// A step in at most `columns` columns.
    pub async fn step_map(&self, job: &JobKey, step: usize, columns: u32) -> Result<StepMap, Error> {
        let total = job.outline.steps[step].frames.len();
        let columns = columns.min(total).max(1);
        let place = Columns { total, columns };
        let window = self.window(job.seq, step, 0, total).await?;
        let zeros = || vec![0; columns as usize];
        let none = || vec![None; columns as usize];
        let (mut size, mut done, mut failed, mut open) = (zeros(), zeros(), zeros(), zeros());
        for (at, size) in size.iter_mut().enumerate() {
            *size = place.begin(at + 1) - place.begin(at);
        }
        let mut first_done: Vec<Option<u32>> = none();
        for (segment, bits) in &window.done {
            for (byte_at, byte) in bits.iter().enumerate().filter(|(_, byte)| **byte != 0) {
                for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
                    let task = segment * SEGMENT_TASKS + u32::try_from(byte_at).expect("of 512") * 8 + bit;
                    let at = place.of(task);
                    done[at] += 1;
                    first_done[at] = Some(first_done[at].map_or(task, |first| first.min(task)));
                }
            }
        }
        for task in window.failed.iter() {
            failed[place.of(task)] += 1;
        }
        for task in window.open.iter().filter(|task| !window.is_done(*task)) {
            open[place.of(task)] += 1;
        }
        let (mut mean_ms, mut max_ms) = (none(), none());
        let sampled = total > TIMED_TASKS_MAX;
        let rows = if sampled {
            let tasks: Vec<u32> = first_done.into_iter().flatten().collect();
            sqlx::query(TIMES_OF_SOME)
                .bind(job.seq)
                .bind(index(step))
                .bind(columns)
                .bind(total)
                .bind(serde_json::to_string(&tasks).expect("numbers are JSON"))
                .fetch_all(&self.pool)
                .await?
        } else {
            sqlx::query(
                "SELECT CAST(task AS INTEGER) * ?3 / ?4 AS column_at, CAST(avg(elapsed_ms) AS INTEGER) AS mean,
                        max(elapsed_ms) AS most
                 FROM results WHERE job = ?1 AND step = ?2 GROUP BY column_at",
            )
            .bind(job.seq)
            .bind(index(step))
            .bind(columns)
            .bind(total)
            .fetch_all(&self.pool)
            .await?
        };
        for row in rows {
            let at = row.try_get::<u32, _>("column_at")? as usize;
            mean_ms[at] = Some(row.try_get("mean")?);
            max_ms[at] = Some(row.try_get("most")?);
        }
        Ok(StepMap { total, size, done, failed, open, mean_ms, max_ms, sampled })
    }
}

fn index(step: usize) -> i64 {
    i64::try_from(step).expect("a job has at most STEPS_MAX steps")
}

/// Which tasks are in which column.
#[derive(Debug, Clone, Copy)]
struct Columns {
    total: u32,
    columns: u32,
}

impl Columns {
    fn of(self, task: u32) -> usize {
        let at = u64::from(task) * u64::from(self.columns) / u64::from(self.total.max(1));
        usize::try_from(at).expect("less than the number of columns")
    }

    /// The first task of a column.
    fn begin(self, at: usize) -> u32 {
        let task = (at as u64 * u64::from(self.total)).div_ceil(u64::from(self.columns));
        u32::try_from(task).expect("at most the number of tasks")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_in_one_column_and_columns_are_alike() {
        for (total, columns) in [(1, 1), (10, 10), (10, 3), (1_000_000, 1200), (4097, 4096), (7, 5)] {
            let place = Columns { total, columns };
            let mut counted = vec![0_u32; columns as usize];
            for task in 0..total {
                counted[place.of(task)] += 1;
            }
            for (at, counted) in counted.iter().enumerate() {
                assert_eq!(place.begin(at + 1) - place.begin(at), *counted, "column {at} of {columns} for {total}");
                assert!(counted.abs_diff(total / columns) <= 1);
            }
        }
    }
}
