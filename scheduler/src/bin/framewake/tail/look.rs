//! What events don't tell and the screen shows: the state of every frame, and why the job waits. Asked for now and then.

use super::state::{Seen, State};
use framewake_proto::api::StepMap;
use framewake_proto::client::{Client, Error};
use framewake_proto::ids::{JobId, Name};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Between two looks while something happens, …
const EVERY: Duration = Duration::from_secs(1);
/// … and while nothing does.
const AT_LEAST_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) step: Name,
    pub(super) map: StepMap,
    pub(super) reasons: Vec<String>,
}

/// What a look depends on: another of these asks for another look.
#[derive(Debug, Clone, PartialEq)]
struct Wanted {
    step: Name,
    columns: u32,
    news: u64,
}

#[derive(Debug)]
pub(super) struct Looks {
    last: Option<Look>,
    wanted: Option<Wanted>,
    taken_at: Instant,
    /// One at a time: a slow scheduler is not asked more often.
    looking: bool,
    send: mpsc::Sender<Result<Look, Error>>,
    receive: mpsc::Receiver<Result<Look, Error>>,
}

impl Default for Looks {
    fn default() -> Looks {
        let (send, receive) = mpsc::channel(1);
        Looks { last: None, wanted: None, taken_at: Instant::now(), looking: false, send, receive }
    }
}

impl Looks {
    pub(super) fn last(&self) -> Option<&Look> {
        self.last.as_ref()
    }

    /// Looks, if it is time to.
    pub(super) fn take(&mut self, client: &Client, seen: &Seen, state: &State) {
        let Some(step) = state.step(&seen.job) else { return };
        let wanted = Wanted { step: step.name.clone(), columns: state.strip_columns.max(1), news: seen.news };
        let same_place =
            self.wanted.as_ref().is_some_and(|last| (&last.step, last.columns) == (&wanted.step, wanted.columns));
        let since = self.taken_at.elapsed();
        let is_time = !same_place || since > AT_LEAST_EVERY || (since > EVERY && self.wanted.as_ref() != Some(&wanted));
        if self.looking || !is_time {
            return;
        }
        (self.looking, self.taken_at) = (true, Instant::now());
        let (client, send, job) = (client.clone(), self.send.clone(), seen.job.id);
        let (step, columns) = (wanted.step.clone(), wanted.columns);
        self.wanted = Some(wanted);
        tokio::spawn(async move {
            // Nobody listens once the screen is given back.
            let _ = send.send(look(&client, job, step, columns).await).await;
        });
    }

    /// Waits for a look. One that fails leaves the last: that the scheduler is away is said by who follows the job.
    pub(super) async fn more(&mut self) {
        let Some(look) = self.receive.recv().await else { return };
        self.looking = false;
        if let Ok(look) = look {
            self.last = Some(look);
        }
    }
}

async fn look(client: &Client, job: JobId, step: Name, columns: u32) -> Result<Look, Error> {
    let (map, explained) = tokio::try_join!(client.step_map(job, &step, columns), client.explain(job))?;
    let reasons = explained.steps.into_iter().flat_map(|step| step.reasons).collect();
    Ok(Look { step, map, reasons })
}
