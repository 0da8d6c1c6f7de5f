//! A job as lines in a file or pipe: states, failures, and now and then how far it is.

use crate::failures::Failures;
use crate::follow::{BACK, View};
use crate::job::{counts, step_word};
use crate::printer::Printer;
use crate::watch::Watch;
use framewake_proto::api::{EventView, Happening, StepState};
use framewake_proto::ids::Name;
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

/// Between two lines about how far a step is.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Plain<'a> {
    printer: &'a Printer,
    /// Tasks done when each step was last spoken of.
    said: BTreeMap<Name, u32>,
    said_at: Option<Duration>,
    failures: Failures,
}

impl<'a> Plain<'a> {
    pub(crate) fn new(printer: &'a Printer) -> Plain<'a> {
        Plain { printer, said: BTreeMap::new(), said_at: None, failures: Failures::default() }
    }

    fn say_progress(&mut self, watch: &Watch, now: Duration) -> io::Result<()> {
        for step in &watch.job.steps {
            let said = self.said.insert(step.name.clone(), step.tasks.done);
            if said == Some(step.tasks.done) || (said.is_none() && step.tasks.done == 0) {
                continue;
            }
            let mut words = vec![format!("{}/{} done", step.tasks.done, step.tasks.total)];
            if step.tasks.failed > 0 {
                words.push(format!("{} failed", step.tasks.failed));
            }
            words.extend(Some(watch.outlook(step, now)).filter(|outlook| !outlook.is_empty()));
            self.printer.line(format_args!("{}: {}", step.name, words.join(", ")))?;
        }
        self.failures.sum_up().iter().try_for_each(|line| self.printer.line(format_args!("! {line}")))
    }
}

impl View for Plain<'_> {
    fn event(&mut self, watch: &Watch, event: &EventView) -> io::Result<()> {
        match &event.what {
            Happening::JobState { state } => self.printer.line(format_args!("job {} {state}", event.job)),
            Happening::StepState { step, state } => {
                let word = step_word(*state);
                match watch.job.steps.iter().find(|known| known.name == *step) {
                    Some(known) if matches!(state, StepState::Succeeded | StepState::Failed | StepState::Canceled) => {
                        self.said.insert(step.clone(), known.tasks.done);
                        self.printer.line(format_args!("{step}: {word}, {}", counts(known.tasks)))
                    }
                    Some(_) | None => self.printer.line(format_args!("{step}: {word}")),
                }
            }
            Happening::TaskFailed { .. } => match self.failures.hear(event) {
                Some(line) => self.printer.line(format_args!("! {line}")),
                None => Ok(()),
            },
            Happening::RunLate { schedule, due, deadline } => {
                let word = deadline.as_str();
                self.printer.line(format_args!("! the run of `{schedule}` due {due} missed its deadline to {word}"))
            }
            Happening::AttemptStarted { .. }
            | Happening::TasksDone { .. }
            | Happening::AttemptEnded { .. }
            | Happening::Progress { .. } => Ok(()),
        }
    }

    fn tick(&mut self, watch: &Watch, now: Duration) -> io::Result<()> {
        if self.said_at.is_some_and(|at| now.saturating_sub(at) < PROGRESS_EVERY) {
            return Ok(());
        }
        self.said_at = Some(now);
        self.say_progress(watch, now)
    }

    fn asks_why(&self) -> bool {
        true
    }

    fn waits(&mut self, reason: &str) -> io::Result<()> {
        self.printer.line(reason)
    }

    fn lost(&mut self, why: &str) -> io::Result<()> {
        self.printer.note(why);
        Ok(())
    }

    fn found(&mut self) -> io::Result<()> {
        self.printer.note(BACK);
        Ok(())
    }

    fn end(&mut self, watch: &Watch, now: Duration) -> io::Result<()> {
        self.say_progress(watch, now)
    }
}
