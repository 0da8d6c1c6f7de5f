//! A farm made from what the store remembers.

use super::{Commitments, Farm, StartBook};
use crate::chunk::{Chunk, ChunkState, Lease};
use crate::gpus::Gpus;
use crate::health::Health;
use crate::ledger::Ledger;
use crate::timers::Timers;
use crate::values::{Settings, Snapshot, StoredChunk, StoredChunkState, StoredJob};
use framewake_proto::ids::JobId;
use framewake_proto::tasks::TaskSet;
use framewake_proto::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// A farm on its way back, whose jobs come one by one: a million of them twice in memory would be too much.
#[derive(Debug)]
pub struct Restoring {
    farm: Farm,
    now: Timestamp,
    chunks: Vec<StoredChunk>,
    /// Tasks that are in chunks and don't wait.
    chunked: BTreeMap<(JobId, usize), TaskSet>,
}

impl Restoring {
    /// Begins with all but the jobs of the snapshot.
    #[must_use]
    pub fn new(settings: Settings, now: Timestamp, mut snapshot: Snapshot) -> Restoring {
        for place in &mut snapshot.places {
            // The wall clock may have been set back: no time aside becomes longer.
            place.until = place.until.min(now.after(place.until.since(place.since)));
        }
        let mut farm = Farm {
            settings,
            functions: Vec::new(),
            function_index: BTreeMap::new(),
            kept: snapshot.kept.into_iter().collect(),
            projects: Vec::new(),
            project_names: Vec::new(),
            project_index: BTreeMap::new(),
            jobs: BTreeMap::new(),
            chunks: BTreeMap::new(),
            workers: BTreeMap::new(),
            timers: Timers::default(),
            health: Health::new(settings.aside, snapshot.places.clone()),
            ledger: Ledger::restore(now, snapshot.accounts, snapshot.prices),
            gpus: Gpus::default(),
            pools: BTreeMap::new(),
            taken: BTreeMap::new(),
            unended: BTreeMap::new(),
            unplaceable: BTreeSet::new(),
            budgeted: 0,
            purses: BTreeMap::new(),
            committed: Commitments::default(),
            spenders: (BTreeSet::new(), BTreeSet::new()),
            chunk_next: snapshot.chunk_next.max(1),
            chunk_reserved: snapshot.chunk_next.max(1),
            epoch: now,
            worker_next: 1,
            deadlines_held: true,
            starved: BTreeSet::new(),
            touched: BTreeSet::new(),
            touched_steps: BTreeSet::new(),
            unweighed: BTreeSet::new(),
            starts: StartBook::default(),
            runs_expected: BTreeMap::new(),
            deadlines: BTreeSet::new(),
        };
        for place in snapshot.places {
            farm.set_place_timer(&place.place);
        }
        for (key, rules) in snapshot.functions {
            farm.add_function(key, rules);
        }
        farm.restore_learned(now, snapshot.learned_starts, snapshot.timings);
        farm.restore_starts(snapshot.starts);
        for (name, weight) in snapshot.projects {
            let project = farm.project(&name);
            farm.projects[project] = weight;
        }
        for budget in snapshot.budgets {
            farm.restore_budget(now, budget);
        }
        let mut chunked: BTreeMap<(JobId, usize), TaskSet> = BTreeMap::new();
        let mut chunks = snapshot.chunks;
        chunks.sort_unstable_by_key(|chunk| chunk.id);
        // The newest first: versions that did not store a chunk of which nothing was left may have tried its last task again in
        // another.
        for chunk in chunks.iter_mut().rev() {
            let tasks = chunked.entry((chunk.job, chunk.step)).or_default();
            let elsewhere: Vec<u32> = chunk.tasks.iter().filter(|task| tasks.contains(*task)).collect();
            for task in elsewhere {
                chunk.tasks.remove(task);
            }
            tasks.insert_all(&chunk.tasks);
        }
        Restoring { farm, now, chunks, chunked }
    }

    pub fn add(&mut self, job: StoredJob) {
        for (at, step) in job.steps.iter().enumerate() {
            let Some(tasks) = self.chunked.get_mut(&(job.id, at)) else { continue };
            // Written by versions that did not store a chunk of which nothing was left.
            let over: Vec<u32> =
                tasks.iter().filter(|task| step.done.contains(*task) || step.failed.contains(*task)).collect();
            for task in over {
                tasks.remove(task);
            }
        }
        self.farm.restore_job(job, &self.chunked);
    }

    #[must_use]
    pub fn finish(self) -> Farm {
        let Restoring { mut farm, now, chunks, chunked } = self;
        for mut stored in chunks {
            // A chunk whose job is over is a row that was about to be removed.
            if !farm.jobs.contains_key(&stored.job) {
                continue;
            }
            let open = &chunked[&(stored.job, stored.step)];
            let over: Vec<u32> = stored.tasks.iter().filter(|task| !open.contains(*task)).collect();
            for task in over {
                stored.tasks.remove(task);
            }
            let state = match stored.state {
                // Of nothing there is nothing to offer.
                StoredChunkState::Waiting { .. } if stored.tasks.is_empty() => continue,
                StoredChunkState::Waiting { until, avoid } => {
                    // The wall clock may have been set back while the scheduler was away: no wait becomes longer.
                    let longest = farm.jobs[&stored.job].steps[stored.step].retries.backoff_max.0;
                    ChunkState::Waiting { until: until.min(now.after(longest)), avoid }
                }
                StoredChunkState::Leased { worker, since, done, failed } => {
                    let until = now.after(farm.settings.lease);
                    ChunkState::Leased(Lease { worker, since, until, keep: None, done, failed })
                }
            };
            let id = stored.id;
            farm.chunks.insert(
                id,
                Chunk {
                    id,
                    job: stored.job,
                    step: stored.step,
                    tasks: stored.tasks,
                    attempt: stored.attempt,
                    spent: stored.spent,
                    losses: stored.losses,
                    lost: stored.lost,
                    blamed: Vec::new(),
                    has_row: true,
                    state,
                },
            );
            farm.restore_chunk(id, now);
        }
        farm
    }
}
