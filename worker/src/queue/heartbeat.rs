//! Heartbeats, from a task that a render can't starve, and what the scheduler wants in return.

use super::Queue;
use crate::figures::Figures;
use crate::gpu::Gpus;
use crate::rules::Progress;
use framewake_proto::ids::AttemptId;
use framewake_proto::wire::{Control, Heartbeat, TaskProgress};
use futures::StreamExt;
use prost::Message;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Least time between two heartbeats. A change is told at once, but a thousand chunks a second are
/// not worth two thousand heartbeats: claims and reports tell them.
const GAP_MIN: Duration = Duration::from_millis(100);
/// How long the last heartbeat may take.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// What a heartbeat says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    pub attempt: Option<AttemptId>,
    pub draining: bool,
}

/// The running task of heartbeats.
#[derive(Debug)]
pub struct Heartbeats {
    queue: Queue,
    pub state: watch::Sender<State>,
    pub progress: watch::Sender<Option<(u32, Progress)>>,
    /// What the scheduler wants, as it said last.
    pub wanted: watch::Receiver<Control>,
    gpus: Gpus,
    tasks: [JoinHandle<()>; 2],
}

impl Heartbeats {
    pub fn start(queue: Queue, interval: Duration, gpus: Gpus, figures: Figures) -> Heartbeats {
        let (state, state_seen) = watch::channel(State::default());
        let (progress, progress_seen) = watch::channel(None);
        let (want, wanted) = watch::channel(Control::default());
        let beat = Beat {
            queue: queue.clone(),
            interval,
            state: state_seen,
            progress: progress_seen,
            want: want.clone(),
            gpus: gpus.clone(),
            figures,
        };
        let tasks = [tokio::spawn(beat.run()), tokio::spawn(listen(queue.clone(), want))];
        Heartbeats { queue, state, progress, wanted, gpus, tasks }
    }

    /// Says good-bye, if anyone hears it.
    pub async fn leave(self, why: &str) {
        for task in self.tasks {
            task.abort();
            // A heartbeat that is being sent would come after the good-bye, and the worker be there again.
            let _aborted = task.await;
        }
        let mut last = self.queue.heartbeat(&self.state.borrow(), None, &self.gpus);
        why.clone_into(&mut last.leaving);
        let request = self.queue.client.request(self.queue.heartbeat_subject(), last.encode_to_vec().into());
        let _best_effort = tokio::time::timeout(LAST_WAIT, request).await;
    }
}

struct Beat {
    queue: Queue,
    interval: Duration,
    state: watch::Receiver<State>,
    progress: watch::Receiver<Option<(u32, Progress)>>,
    want: watch::Sender<Control>,
    gpus: Gpus,
    figures: Figures,
}

impl Beat {
    async fn run(mut self) {
        let gpus = self.gpus.clone();
        let broken = gpus.broken();
        tokio::pin!(broken);
        let mut all_well = true;
        loop {
            let began = Instant::now();
            self.beat().await;
            let due = began + self.interval;
            tokio::time::sleep_until((began + GAP_MIN).min(due)).await;
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                changed = self.state.changed() => if changed.is_err() { return },
                () = &mut broken, if all_well => all_well = false,
            }
        }
    }

    async fn beat(&mut self) {
        let heartbeat = {
            let state = self.state.borrow_and_update();
            let progress = self.progress.borrow();
            self.queue.heartbeat(&state, progress.as_ref(), &self.gpus)
        };
        let body = heartbeat.encode_to_vec().into();
        match self.queue.client.request(self.queue.heartbeat_subject(), body).await {
            Ok(answer) => {
                self.figures.answered();
                match Control::decode(answer.payload) {
                    Ok(control) => want(&self.want, control),
                    Err(error) => tracing::warn!(%error, "the answer to a heartbeat can't be read"),
                }
            }
            // The render goes on: the scheduler may be back before the lease ends, and if not, the
            // results count all the same unless someone else was faster.
            Err(error) => tracing::debug!(%error, "a heartbeat was not answered"),
        }
    }
}

/// Hears what the scheduler pushes between heartbeats.
async fn listen(queue: Queue, wanted: watch::Sender<Control>) {
    let subject = queue.subjects.control(&queue.worker);
    match queue.client.subscribe(subject).await {
        Ok(mut pushed) => {
            while let Some(message) = pushed.next().await {
                // Others can lead messages of NATS' own here; only the scheduler says whom it means.
                match Control::decode(message.payload) {
                    Ok(control) if control.worker == queue.worker.as_str() => {
                        want(&wanted, Control { worker: String::new(), ..control });
                    }
                    Ok(_) => tracing::warn!("a control message that is not for this worker"),
                    Err(error) => tracing::warn!(%error, "a control message can't be read"),
                }
            }
        }
        Err(error) => tracing::warn!(%error, "cannot hear control messages; heartbeats bring them"),
    }
}

/// Leaving is never taken back: what was sent before it may be heard after it.
fn want(wanted: &watch::Sender<Control>, control: Control) {
    wanted.send_if_modified(|current| {
        let control = Control { drain: current.drain || control.drain, ..control };
        let changed = *current != control;
        *current = control;
        changed
    });
}

impl Queue {
    fn heartbeat_subject(&self) -> String {
        self.subjects.heartbeat(&self.function, &self.worker)
    }

    fn heartbeat(&self, state: &State, progress: Option<&(u32, Progress)>, gpus: &Gpus) -> Heartbeat {
        Heartbeat {
            worker: self.worker.to_string(),
            function: self.function.name.to_string(),
            function_version: self.function.version,
            host: self.host.clone(),
            pid: std::process::id(),
            chunk: state.attempt.map_or(0, |attempt| attempt.chunk.0),
            attempt: state.attempt.map_or(0, |attempt| attempt.number),
            progress: progress.filter(|_| state.attempt.is_some()).map(|(task, progress)| TaskProgress {
                task: *task,
                permille: progress.permille,
                note: progress.note.clone(),
            }),
            draining: state.draining,
            leaving: String::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            gpus: gpus.uuids(),
            gpu_samples: gpus.samples(),
            gpu_faults: gpus.faults(),
            age_ms: Some(milliseconds(self.began.elapsed())),
            connected_ms: Some(milliseconds(self.connected_after)),
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_told_to_leave_leaves_whatever_is_heard_after_it() {
        let (wanted, heard) = watch::channel(Control::default());
        want(&wanted, Control { drain: true, ..Control::default() });
        want(&wanted, Control { stay: true, ..Control::default() });
        assert!(heard.borrow().drain && heard.borrow().stay, "{:?}", heard.borrow());
    }
}
