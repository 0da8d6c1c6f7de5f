//! Watches a job until it is over, through lost connections, and shows it in the way that suits who looks.

use crate::Context;
use crate::bars::Bars;
use crate::failure::Outcome;
use crate::failures;
use crate::plain::Plain;
use crate::printer::{Printer, Style};
use crate::retry::Pauses;
use crate::watch::Watch;
use crate::{job, text};
use framewake_proto::api::{EventView, Happening, JobState, JobView, StepState, TaskState};
use framewake_proto::client::{Client, Error, Events, PartQuery};
use framewake_proto::ids::JobId;
use framewake_proto::verdict::Verdict;
use std::collections::BTreeSet;
use std::io;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

/// A night's maintenance of the scheduler should not end a watch; a scheduler that is gone should.
pub(crate) const LOST_MAX: Duration = Duration::from_mins(15);
/// Between two looks at the job itself, in case events were missed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A job that is over has a last event, unless it was lost.
const LAST_EVENT_WAIT: Duration = Duration::from_secs(2);
/// Nobody has worked on the job for so long: then it is said why. A worker of this machine starts sooner.
const WHY_AFTER: Duration = Duration::from_secs(4);
/// Reasons that are remembered as told.
const TOLD_MAX: usize = 100;
/// Reasons of failed frames that are told when the job is over, …
const REASONS_NAMED: usize = 5;
/// … and frames that are looked at for them: one page.
const FAILURES_LOOKED_AT: u32 = 1000;
/// Longest wait for their names: nobody who leaves is held up, and `framewake frames --failed` has them.
const NAMED_WITHIN: Duration = Duration::from_secs(5);

/// Said once a connection that was lost is there again.
pub(crate) const BACK: &str = "the scheduler is back";

/// A way to show a job.
pub(crate) trait View {
    fn event(&mut self, watch: &Watch, event: &EventView) -> io::Result<()>;
    /// Called about four times a second.
    fn tick(&mut self, watch: &Watch, now: Duration) -> io::Result<()>;
    /// The connection broke, and is tried again …
    fn lost(&mut self, why: &str) -> io::Result<()>;
    /// … until it is there.
    fn found(&mut self) -> io::Result<()>;

    /// Whether it is to be told why nobody works on the job.
    fn asks_why(&self) -> bool {
        false
    }

    /// Why nobody works on the job: each reason once, until somebody does.
    fn waits(&mut self, _reason: &str) -> io::Result<()> {
        Ok(())
    }

    /// Takes away what would not stay true.
    fn end(&mut self, watch: &Watch, now: Duration) -> io::Result<()>;
}

/// Each event as a line of JSON.
struct Lines<'a>(&'a Printer);

impl View for Lines<'_> {
    fn event(&mut self, _: &Watch, event: &EventView) -> io::Result<()> {
        self.0.json(event)
    }

    fn tick(&mut self, _: &Watch, _: Duration) -> io::Result<()> {
        Ok(())
    }

    fn lost(&mut self, why: &str) -> io::Result<()> {
        self.0.note(why);
        Ok(())
    }

    fn found(&mut self) -> io::Result<()> {
        self.0.note(BACK);
        Ok(())
    }

    fn end(&mut self, _: &Watch, _: Duration) -> io::Result<()> {
        Ok(())
    }
}

/// Shows the job until it is over; the outcome is the job's.
pub(crate) async fn run(context: &Context, id: JobId) -> anyhow::Result<Outcome> {
    let printer = &context.printer;
    set_farewell(context, id);
    let job = context.client.job(id).await?;
    if job.state.is_over() && !printer.is_json() {
        return end(context, &job).await;
    }
    let watch = Watch::new(job, Duration::ZERO);
    let view: Box<dyn View> = if printer.is_json() {
        Box::new(Lines(printer))
    } else if printer.is_live() {
        Box::new(Bars::new(printer, &watch))
    } else {
        Box::new(Plain::new(printer))
    };
    let job = until_over(&context.client, watch, view).await?;
    end(context, &job).await
}

/// What is said when somebody stops watching.
pub(crate) fn set_farewell(context: &Context, id: JobId) {
    let farewell =
        format!("the job goes on: watch it with `framewake tail {id}`, stop it with `framewake cancel {id}`");
    context.printer.set_farewell(Some(farewell));
}

/// Follows a job until it is over, and tells a view of it.
pub(crate) async fn until_over<'a>(
    client: &'a Client,
    watch: Watch,
    view: Box<dyn View + 'a>,
) -> anyhow::Result<JobView> {
    let (id, started) = (watch.job.id, Instant::now());
    Follower { client, view, watch, started, looked_at: started, over_since: None, saw_end: false, idle: None }
        .follow(id)
        .await
}

/// How the job ended, in words and as an outcome.
pub(crate) async fn end(context: &Context, job: &JobView) -> anyhow::Result<Outcome> {
    context.printer.set_farewell(None);
    if !context.printer.is_json() {
        say_end(context, job).await?;
    }
    Ok(match job.state {
        JobState::Canceled => Outcome::Canceled,
        JobState::Failed => Outcome::Failed,
        JobState::Queued | JobState::Running | JobState::Paused | JobState::Succeeded => Outcome::Done,
    })
}

struct Follower<'a> {
    client: &'a Client,
    view: Box<dyn View + 'a>,
    watch: Watch,
    started: Instant,
    looked_at: Instant,
    /// When the job was first seen to be over.
    over_since: Option<Instant>,
    /// The event that ended the job has come; others of that moment may follow it.
    saw_end: bool,
    /// While nobody works on the job.
    idle: Option<Idle>,
}

struct Idle {
    since: Instant,
    is_held: bool,
    asked_at: Option<Instant>,
    /// Reasons that were told, without their numbers: some count seconds.
    told: BTreeSet<String>,
}

impl Follower<'_> {
    async fn follow(mut self, id: JobId) -> anyhow::Result<JobView> {
        let mut after = None;
        let mut lost: Option<(Instant, Pauses)> = None;
        loop {
            let result = match self.client.events(Some(id), after).await {
                Ok(mut events) => {
                    if lost.take().is_some_and(|(_, pauses)| pauses.taken() > 1) {
                        self.view.found()?;
                    }
                    let result = self.follow_stream(&mut events).await?;
                    after = events.last_seq();
                    result
                }
                Err(error) => Err(error),
            };
            match result {
                Ok(true) => break,
                // The scheduler may end a stream when it likes; but not in a circle as fast as it goes.
                Ok(false) => self.wait(Duration::from_millis(200)).await?,
                Err(error) if !error.is_passing() => return Err(error.into()),
                Err(error) => {
                    let (since, pauses) = lost.get_or_insert_with(|| (Instant::now(), Pauses::default()));
                    if since.elapsed() > LOST_MAX {
                        return Err(error.into());
                    }
                    // A connection that comes back at once is not worth a word.
                    if pauses.taken() == 1 {
                        self.view.lost(&format!("{error}; trying again"))?;
                    }
                    let pause = pauses.next();
                    self.wait(pause).await?;
                }
            }
        }
        self.view.end(&self.watch, self.started.elapsed())?;
        Ok(self.watch.job)
    }

    /// Follows one stream to its end; whether the job is over and all of it was seen.
    async fn follow_stream(&mut self, events: &mut Events) -> anyhow::Result<Result<bool, Error>> {
        let mut ticks = ticks();
        self.watch.is_stale = true;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Ok(Some(event)) => {
                        self.watch.apply(&event, self.started.elapsed());
                        // Failures are not counted by events: how a step ended is told with the counts of its end.
                        let counted = if self.is_uncounted_end(&event) { self.look().await } else { Ok(()) };
                        self.view.event(&self.watch, &event)?;
                        if let Err(error) = counted {
                            return Ok(Err(error));
                        }
                        if !matches!(&event.what, Happening::JobState { state } if state.is_over()) {
                            continue;
                        }
                        if let Err(error) = self.look().await {
                            return Ok(Err(error));
                        }
                        self.saw_end = is_end(&event, &self.watch.job);
                    }
                    Ok(None) if self.saw_end => return Ok(Ok(true)),
                    Ok(None) => return Ok(self.look().await.map(|()| self.is_past_waiting())),
                    Err(error) => return Ok(Err(error)),
                },
                _ = ticks.tick() => {
                    self.view.tick(&self.watch, self.started.elapsed())?;
                    if self.is_past_waiting() {
                        return Ok(Ok(true));
                    }
                    let since = self.looked_at.elapsed();
                    if (since > LOOK_EVERY || (self.watch.is_stale && since > LOOK_EVERY / 10))
                        && let Err(error) = self.look().await
                    {
                        return Ok(Err(error));
                    }
                    for reason in self.why_it_waits().await {
                        self.view.waits(&reason)?;
                    }
                }
            }
        }
    }

    /// What is to be told of why nobody works on the job. What the scheduler does not say now is asked again.
    async fn why_it_waits(&mut self) -> Vec<String> {
        let job = &self.watch.job;
        let is_held = job.state == JobState::Paused;
        if !self.view.asks_why() || job.state.is_over() || !(is_held || self.watch.running.is_empty()) {
            self.idle = None;
            return Vec::new();
        }
        let new = || Idle { since: Instant::now(), is_held, asked_at: None, told: BTreeSet::new() };
        let idle = self.idle.get_or_insert_with(new);
        if std::mem::replace(&mut idle.is_held, is_held) != is_held {
            idle.asked_at = None;
            idle.told.clear();
        }
        let is_early = !is_held && idle.since.elapsed() < WHY_AFTER;
        if is_early || idle.asked_at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return Vec::new();
        }
        idle.asked_at = Some(Instant::now());
        let asked = tokio::time::timeout(NAMED_WITHIN, self.client.explain(job.id)).await;
        let Ok(Ok(explained)) = asked else { return Vec::new() };
        // A step that waits for others has nothing to say beside those.
        let is_blocked = |name| job.steps.iter().any(|step| step.name == name && step.state == StepState::Blocked);
        let steps = explained.steps.into_iter().filter(|step| !is_blocked(step.step.clone()));
        let reasons = steps.flat_map(|step| {
            let name = step.step;
            step.reasons.into_iter().map(move |reason| format!("{name} waits: {}", text::clean(&reason)))
        });
        if idle.told.len() > TOLD_MAX {
            idle.told.clear();
        }
        let kind = |reason: &String| reason.chars().filter(|c| !c.is_ascii_digit()).collect();
        reasons.filter(|reason| idle.told.insert(kind(reason))).collect()
    }

    /// The event ends a step of which tasks seem to be left.
    fn is_uncounted_end(&self, event: &EventView) -> bool {
        use StepState::{Canceled, Failed, Succeeded};
        let Happening::StepState { step, state: Succeeded | Failed | Canceled } = &event.what else { return false };
        let known = self.watch.job.steps.iter().find(|known| known.name == *step);
        known.is_some_and(|known| known.tasks.waiting + known.tasks.open > 0)
    }

    /// The job is over and its last event, or the end of the stream, does not come.
    fn is_past_waiting(&self) -> bool {
        self.over_since.is_some_and(|since| since.elapsed() > LAST_EVENT_WAIT)
    }

    /// Looks at the job and its workers.
    async fn look(&mut self) -> Result<(), Error> {
        let job = self.client.job(self.watch.job.id).await?;
        if job.state.is_over() {
            self.over_since.get_or_insert_with(Instant::now);
        } else {
            self.over_since = None;
            self.watch.look_at_workers(self.client.workers(None).await?);
        }
        self.watch.look(job, self.started.elapsed());
        self.looked_at = Instant::now();
        Ok(())
    }

    async fn wait(&mut self, pause: Duration) -> io::Result<()> {
        let end = Instant::now() + pause;
        let mut ticks = ticks();
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(end) => return Ok(()),
                _ = ticks.tick() => self.view.tick(&self.watch, self.started.elapsed())?,
            }
        }
    }
}

/// Whether the event is the job's last: one that is replayed may tell of an end before a retry.
fn is_end(event: &EventView, job: &JobView) -> bool {
    job.state.is_over() && job.finished_at.is_none_or(|at| event.at >= at)
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// How the job ended, and what can be done now.
async fn say_end(context: &Context, job: &JobView) -> anyhow::Result<()> {
    let printer = &context.printer;
    let took =
        job.finished_at.map_or(String::new(), |at| format!(" in {}", text::duration(at.since(job.submitted_at))));
    let state = job.state.as_str();
    let state = job::state_style(job.state).map_or(state.to_owned(), |style| printer.paint(style, state));
    printer.line(format_args!("job {} {state}: {}{took}", job.id, job::counts(job.tasks)))?;
    if job.tasks.failed > 0 {
        let query =
            PartQuery { state: Some(TaskState::Failed), limit: Some(FAILURES_LOOKED_AT), ..PartQuery::default() };
        // How the job ended is known: a scheduler that is away, or hangs, neither changes that nor holds anybody up.
        let asked = tokio::time::timeout(NAMED_WITHIN, context.client.tasks(job.id, &query)).await;
        let failed = asked.ok().and_then(Result::ok).map_or_else(Vec::new, |page| page.items);
        if failed.is_empty() {
            printer.note("which frames failed, the scheduler does not say now");
        }
        let is_scenes = !failed.is_empty()
            && failed.iter().filter_map(|task| task.failure.as_ref()).all(|why| why.verdict == Verdict::SceneError);
        let mut named = 0;
        for (step, words, frames) in failures::grouped(failed).into_iter().take(REASONS_NAMED) {
            printer.line(format_args!("  {} {words}", printer.paint(Style::Bad, step.as_str())))?;
            named += frames;
        }
        if named > 0 && job.tasks.failed > named {
            printer.line(format_args!("  … and {} more", job.tasks.failed - named))?;
        }
        printer.note(format_args!("see the evidence with: framewake frames {} --failed", job.id));
        if is_scenes {
            // Inputs are kept as they were: another try would find the same.
            printer.note("mend the scene or the job file, and submit it again");
        } else {
            printer.note(format_args!("render only these again with: framewake retry {}", job.id));
        }
    } else if job.state == JobState::Succeeded && printer.is_terminal() {
        printer.note(format_args!("fetch the outputs with: framewake fetch {} FOLDER", job.id));
    }
    Ok(())
}
