//! A job as bars on a terminal: one for the job, one a step, one for each worker that is on it.

use crate::failures::Failures;
use crate::follow::{BACK, View};
use crate::job::{state_style, step_word};
use crate::printer::{Printer, Style};
use crate::text;
use crate::watch::{Running, Watch};
use framewake_proto::api::{EventView, StepState, StepView};
use framewake_proto::ids::Name;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

/// More workers than these don't fit on a screen; the rest are counted.
const WORKERS_SHOWN: usize = 12;
/// Between two lines about what failed as something before it did.
const FAILURES_EVERY: Duration = Duration::from_secs(5);
/// More steps than these neither.
const STEPS_SHOWN: usize = 16;

#[derive(Debug)]
pub(crate) struct Bars<'a> {
    printer: &'a Printer,
    all: MultiProgress,
    head: ProgressBar,
    steps: BTreeMap<Name, ProgressBar>,
    workers: BTreeMap<String, ProgressBar>,
    rest: ProgressBar,
    failures: Failures,
    failures_said: Duration,
}

impl<'a> Bars<'a> {
    pub(crate) fn new(printer: &'a Printer, watch: &Watch) -> Bars<'a> {
        let all = MultiProgress::with_draw_target(printer.draw_target());
        let head = all.add(ProgressBar::new(0).with_style(style("{wide_msg}")));
        let width = watch.job.steps.iter().map(|step| step.name.as_str().len()).max().unwrap_or(0).clamp(6, 24);
        let bar = if printer.has_color() { "{bar:30.green/dim}" } else { "{bar:30}" };
        let step_style = style(&format!("{{prefix:{width}}} {bar} {{pos}}/{{len}} {{wide_msg}}"));
        let shown = watch.job.steps.iter().take(STEPS_SHOWN);
        let steps = shown
            .map(|step| {
                let bar = ProgressBar::new(u64::from(step.tasks.total)).with_style(step_style.clone());
                (step.name.clone(), all.add(bar.with_prefix(step.name.to_string())))
            })
            .collect();
        let rest = all.add(ProgressBar::new(0).with_style(style("{wide_msg}")));
        Bars {
            printer,
            all,
            head,
            steps,
            workers: BTreeMap::new(),
            rest,
            failures: Failures::default(),
            failures_said: Duration::ZERO,
        }
    }

    /// A line that stays above the bars.
    fn say(&self, style: Style, line: &str) -> io::Result<()> {
        self.all.println(format!("{} {line}", self.printer.paint(style, "!")))
    }

    fn sum_up_failures(&mut self) -> io::Result<()> {
        self.failures.sum_up().iter().try_for_each(|line| self.say(Style::Bad, line))
    }

    fn draw_workers(&mut self, watch: &Watch) {
        self.workers.retain(|attempt, bar| {
            let stays = watch.running.contains_key(attempt);
            if !stays {
                bar.finish_and_clear();
                self.all.remove(bar);
            }
            stays
        });
        for (attempt, running) in &watch.running {
            if !self.workers.contains_key(attempt) && self.workers.len() < WORKERS_SHOWN {
                let bar = if self.printer.has_color() { "{bar:16.cyan/dim}" } else { "{bar:16}" };
                let bar = ProgressBar::new(1000).with_style(style(&format!("  {{prefix:26}} {bar} {{wide_msg}}")));
                self.workers.insert(attempt.clone(), self.all.insert_before(&self.rest, bar));
            }
            if let Some(bar) = self.workers.get(attempt) {
                bar.set_prefix(text::shorten(running.worker.as_str(), 26).into_owned());
                bar.set_position(u64::from(running.permille.min(1000)));
                bar.set_message(worker_words(attempt, running));
            }
        }
        let hidden = watch.running.len().saturating_sub(self.workers.len());
        self.rest.set_message(if hidden > 0 { format!("  … and {hidden} more workers") } else { String::new() });
    }
}

impl View for Bars<'_> {
    fn event(&mut self, _: &Watch, event: &EventView) -> io::Result<()> {
        match self.failures.hear(event) {
            Some(line) => self.say(Style::Bad, &line),
            None => Ok(()),
        }
    }

    fn tick(&mut self, watch: &Watch, now: Duration) -> io::Result<()> {
        let job = &watch.job;
        let state = job.state.as_str();
        let state = state_style(job.state).map_or(state.to_owned(), |style| self.printer.paint(style, state));
        let name = self.printer.paint(Style::Strong, &text::shorten(&text::clean(&job.name), 40));
        let workers = text::count(watch.running.len() as u64, "worker");
        self.head.set_message(format!("{} {name} {state}, {workers}, {}", job.id, text::duration(now)));
        for step in &job.steps {
            if let Some(bar) = self.steps.get(&step.name) {
                bar.set_length(u64::from(step.tasks.total));
                bar.set_position(u64::from(step.tasks.done));
                bar.set_message(step_words(watch, step, now));
            }
        }
        self.draw_workers(watch);
        if now.saturating_sub(self.failures_said) < FAILURES_EVERY {
            return Ok(());
        }
        self.failures_said = now;
        self.sum_up_failures()
    }

    fn asks_why(&self) -> bool {
        true
    }

    fn waits(&mut self, reason: &str) -> io::Result<()> {
        self.say(Style::Warn, reason)
    }

    fn lost(&mut self, why: &str) -> io::Result<()> {
        self.say(Style::Warn, why)
    }

    fn found(&mut self) -> io::Result<()> {
        self.lost(BACK)
    }

    fn end(&mut self, watch: &Watch, now: Duration) -> io::Result<()> {
        self.tick(watch, now)?;
        self.sum_up_failures()?;
        for bar in self.workers.values() {
            bar.finish_and_clear();
        }
        self.rest.finish_and_clear();
        self.head.finish_and_clear();
        // The steps stay, as the record of what was done.
        for bar in self.steps.values() {
            bar.abandon();
        }
        Ok(())
    }
}

fn worker_words(attempt: &str, running: &Running) -> String {
    let frames = text::clean(&running.frames);
    let place = match running.frame {
        Some(frame) if frames.is_empty() || frames == frame.to_string() => format!("frame {frame}"),
        Some(frame) => format!("frame {frame} of {frames}"),
        None if frames.is_empty() => String::new(),
        None => format!("frames {frames}"),
    };
    format!("{place}  {}  {}", text::clean(attempt), text::clean(&running.note))
}

fn step_words(watch: &Watch, step: &StepView, now: Duration) -> String {
    if step.state == StepState::Failed {
        return format!("{} failed", step.tasks.failed);
    }
    let failed = if step.tasks.failed > 0 { format!("{} failed, ", step.tasks.failed) } else { String::new() };
    let words = match step.state {
        StepState::Running | StepState::Ready => {
            let outlook = watch.outlook(step, now);
            if outlook.is_empty() { step_word(step.state).to_owned() } else { outlook }
        }
        StepState::Blocked => {
            let after: Vec<&str> = step.after.iter().map(Name::as_str).collect();
            format!("waits for {}", after.join(", "))
        }
        StepState::Succeeded | StepState::Failed | StepState::Canceled => step_word(step.state).to_owned(),
    };
    failed + &words
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a good template").progress_chars("━╸─")
}
