//! A chunk in one process: what `per: chunk` functions do with an attempt.

use super::Crew;
use super::attempt::Attempt;
use crate::inputs::Staged;
use crate::renderer::command::{self, Chunk, ChunkEnd, Command};
use crate::renderer::{Failure, Watch};
use framewake_proto::function::{Driver, placeholders};
use framewake_proto::verdict::Verdict;
use framewake_proto::wire::{AttemptEnd, TaskDone};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use tokio::time::Instant;

impl Crew {
    /// One process for all tasks; a new one for the rest after a task that failed.
    pub(super) async fn render_together(&mut self, attempt: &Attempt, watch: &Watch, staged: &Staged) -> AttemptEnd {
        for task in attempt.tasks.unbegun() {
            match self.work_folder() {
                Ok(work) if attempt.id.number > 1 => {
                    attempt.count_existing(task, attempt.frame(task), &work.path).await;
                }
                _ => break,
            }
        }
        loop {
            if watch.stop.is_cancelled() {
                return AttemptEnd::Canceled;
            }
            if self.is_leaving() {
                return AttemptEnd::HandedBack;
            }
            let Driver::Command { command, writes, .. } = &self.setup.function.driver else {
                unreachable!("only a command has one process for a chunk")
            };
            let (words, writes) = (command.clone(), writes.clone());
            let tasks = attempt.next_together(&words);
            let Some((first, _)) = tasks.first().copied() else { return AttemptEnd::Finished };
            if Instant::now() >= watch.chunk_deadline {
                attempt.release(attempt.tasks.keep(0)).await;
                return AttemptEnd::Finished;
            }
            if !attempt.tasks.begin(first) {
                continue;
            }
            let work = match self.work_folder() {
                Ok(work) => work,
                Err(error) => {
                    let message = format!("cannot make a scratch folder: {error}");
                    attempt.fail_all(&Failure::new(Verdict::RetryElsewhere, message)).await;
                    return AttemptEnd::Finished;
                }
            };
            let chunk = Chunk { step: &attempt.step, inputs: staged, tasks: &tasks, work: &work.path };
            let command = Command { words: &words, writes: writes.as_deref() };
            let began = Instant::now();
            self.pace.begin_frame(began);
            let end = self.render_chunk(attempt, command, &chunk, watch).await;
            self.pace.end_frame(None);
            if let Some(ready) = watch.began() {
                attempt.tell_loaded(ready).await;
            }
            match end {
                ChunkEnd::Exited | ChunkEnd::Enough => {}
                ChunkEnd::Failed(_) if attempt.was_gpu().await => return AttemptEnd::HandedBack,
                ChunkEnd::Failed(failure) => {
                    // The first that has no file is the one it failed at; the rest gets a new process.
                    let failed = tasks.iter().find(|(task, _)| attempt.tasks.holds(*task));
                    let waits = failure.verdict == Verdict::LicenseWait;
                    if let Some((task, _)) = failed {
                        attempt.fail(*task, failure, began.elapsed()).await;
                    }
                    if waits {
                        return AttemptEnd::LicenseWait;
                    }
                }
                ChunkEnd::Stopped => {
                    let at_hand = tasks.iter().find(|(task, _)| attempt.tasks.holds(*task));
                    if let (Some(failure), Some((task, _))) = (attempt.too_long.get(), at_hand) {
                        attempt.fail(*task, failure.clone(), began.elapsed()).await;
                    }
                    return AttemptEnd::Canceled;
                }
            }
        }
    }

    /// Runs the chunk's process and commits its files as they are finished.
    async fn render_chunk(
        &self,
        attempt: &Attempt,
        command: Command<'_>,
        chunk: &Chunk<'_>,
        watch: &Watch,
    ) -> ChunkEnd {
        let (finished, mut ready) = mpsc::unbounded_channel();
        let rendering =
            command::render_chunk(&self.setup, command, chunk, watch, &finished, |task| attempt.tasks.holds(task));
        tokio::pin!(rendering);
        let mut commits = FuturesUnordered::new();
        // Files that did not verify while the process went on: it may not have been through with them.
        let mut doubtful = BTreeMap::new();
        let end = loop {
            tokio::select! {
                end = &mut rendering => break end,
                Some((task, output)) = ready.recv() => {
                    let frame = attempt.frame(task);
                    self.pace.end_frame(Some(output.elapsed));
                    self.pace.begin_frame(Instant::now());
                    // From here on it can't be given back.
                    attempt.tasks.begin(task);
                    commits.push(async move {
                        let uploading = Instant::now();
                        let moments = attempt.moments(uploading - output.elapsed);
                        let result = attempt.committer.commit(attempt.id, task, frame, output.clone()).await;
                        let moments = Some(moments.told(Some(uploading)));
                        (task, output, result.map(|done| TaskDone { moments, ..done }))
                    });
                }
                Some((task, output, result)) = commits.next() => match result {
                    Ok(done) => attempt.done(done).await,
                    Err(_) => {
                        doubtful.insert(task, output);
                    }
                }
            }
        };
        while let Some((task, output, result)) = commits.next().await {
            match result {
                Ok(done) => attempt.done(done).await,
                Err(_) => {
                    doubtful.insert(task, output);
                }
            }
        }
        ready.close();
        while let Some((task, output)) = ready.recv().await {
            doubtful.insert(task, output);
        }
        for (task, output) in doubtful {
            if attempt.tasks.holds(task) {
                let moments = attempt.moments(Instant::now() - output.elapsed);
                attempt.commit(task, attempt.frame(task), output, moments).await;
                attempt.tasks.end(task);
            }
        }
        end
    }
}

impl Attempt {
    /// The tasks for the next process. A command that knows only first and last frame gets frames
    /// that follow each other.
    fn next_together(&self, words: &[String]) -> Vec<(u32, i64)> {
        let bare = |name: &str| name.split(':').next().unwrap_or_default().to_owned();
        let names: Vec<String> = words.iter().flat_map(|word| placeholders(word)).map(bare).collect();
        let by_ends = names.iter().any(|name| name == "last") && !names.iter().any(|name| name == "frames");
        let tasks: Vec<(u32, i64)> = self.tasks.unbegun().into_iter().map(|task| (task, self.frame(task))).collect();
        let run = tasks.windows(2).position(|pair| by_ends && pair[1].1 != pair[0].1 + 1);
        let count = run.map_or(tasks.len(), |at| at + 1);
        tasks[..count].to_vec()
    }
}
