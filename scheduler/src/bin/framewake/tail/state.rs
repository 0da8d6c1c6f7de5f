//! What is known of the job, what the screen remembers between two drawings, and what a key means.

use crate::follow::View;
use crate::full_screen::{Deed, code_of, is_interrupt};
use crate::watch::{Running, TimeLeft, Watch};
use crossterm::event::{KeyCode, KeyEvent};
use framewake_proto::api::{EventView, Happening, JobState, JobView, StepState, StepView};
use framewake_proto::client::Action;
use framewake_proto::job::PRIORITY_MAX;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// Failed tries that are listed, the newest first; `framewake frames --failed` has all.
const FAILURES_KEPT_MAX: usize = 200;
/// How far a key moves the job's priority.
const PRIORITY_STEP: u32 = 10;
/// Lines that a page of the log is scrolled by.
const PAGE: usize = 10;

/// A try at a frame that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) step: String,
    pub(super) frame: i64,
    pub(super) attempt: String,
    pub(super) words: String,
    pub(super) again: bool,
}

/// What is known of the job.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) job: JobView,
    pub(super) running: BTreeMap<String, Running>,
    pub(super) failures: VecDeque<Failure>,
    /// How many there were, with those that are not listed any more.
    pub(super) failed_tries: u64,
    pub(super) per_s: Option<f64>,
    pub(super) left: Option<TimeLeft>,
    /// Why what is shown is old.
    pub(super) lost: Option<String>,
    /// Counts what happened, so that who asks for more knows when.
    pub(super) news: u64,
}

impl Seen {
    pub(super) fn new(job: JobView) -> Seen {
        Seen {
            job,
            running: BTreeMap::new(),
            failures: VecDeque::new(),
            failed_tries: 0,
            per_s: None,
            left: None,
            lost: None,
            news: 0,
        }
    }

    /// The job after something was done with it.
    pub(super) fn changed(&mut self, job: JobView, action: &str) {
        self.job = job;
        self.news += 1;
        if action == Action::Retry.as_str() {
            self.failures.iter_mut().for_each(|failure| failure.again = true);
        }
    }

    /// Before everything is told from the beginning.
    pub(super) fn forget(&mut self) {
        self.failures.clear();
        self.failed_tries = 0;
    }

    fn fail(&mut self, failure: Failure) {
        self.failed_tries += 1;
        self.failures.push_front(failure);
        self.failures.truncate(FAILURES_KEPT_MAX);
    }
}

/// Writes down what a follower tells.
pub(super) struct Teller(pub(super) Rc<RefCell<Seen>>);

impl View for Teller {
    fn event(&mut self, _: &Watch, event: &EventView) -> io::Result<()> {
        let mut seen = self.0.borrow_mut();
        seen.news += 1;
        match &event.what {
            Happening::TaskFailed { step, frame, attempt, verdict, message, again } => {
                let words = format!("{message} ({verdict})");
                let (step, attempt) = (step.to_string(), attempt.clone());
                seen.fail(Failure { step, frame: *frame, attempt, words, again: *again });
            }
            // It goes on: what had failed for good is tried again.
            Happening::StepState { step, state: StepState::Ready | StepState::Running } => {
                seen.failures
                    .iter_mut()
                    .filter(|failure| step.as_str() == failure.step)
                    .for_each(|failure| failure.again = true);
            }
            _ => {} // What it does to the job, the watch knows.
        }
        Ok(())
    }

    fn tick(&mut self, watch: &Watch, now: Duration) -> io::Result<()> {
        let mut seen = self.0.borrow_mut();
        seen.job = watch.job.clone();
        seen.running = watch.running.clone();
        (seen.per_s, seen.left) = (watch.per_s(now), watch.time_left(now));
        Ok(())
    }

    fn lost(&mut self, why: &str) -> io::Result<()> {
        self.0.borrow_mut().lost = Some(why.to_owned());
        Ok(())
    }

    fn found(&mut self) -> io::Result<()> {
        self.0.borrow_mut().lost = None;
        Ok(())
    }

    fn end(&mut self, watch: &Watch, now: Duration) -> io::Result<()> {
        self.tick(watch, now)?;
        self.0.borrow_mut().running.clear();
        Ok(())
    }
}

/// The list whose chosen row the log is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    Workers,
    Failures,
}

/// How long lines of the log are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    Cut,
    Whole,
}

impl Lines {
    fn other(self) -> Lines {
        match self {
            Lines::Cut => Lines::Whole,
            Lines::Whole => Lines::Cut,
        }
    }
}

/// What is in front of everything until the next key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Front {
    #[default]
    Nothing,
    Help,
    /// Whether it is to be canceled.
    Question,
}

/// What is to be done outside the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Leave,
    Act(Action),
    Prioritize(u32),
    /// The log from its beginning.
    ReadAgain,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) colors: bool,
    pub(super) list: List,
    /// Whether somebody chose the list; until then it is that of the failures as soon as there is one.
    listed: bool,
    pub(super) row: usize,
    /// What is in the chosen row. It stays chosen when others come and go.
    chosen: Option<String>,
    /// Number of the step whose frames are shown, if somebody chose one.
    step: Option<usize>,
    /// Lines of the screen that the log is scrolled back from its end.
    pub(super) back: usize,
    pub(super) lines: Lines,
    pub(super) deed: Deed,
    /// What became of the last action.
    pub(super) said: Option<String>,
    pub(super) front: Front,
    /// Somebody is there and pressed a key.
    pub(super) touched: bool,
    /// As wide as the strip of frames was drawn last.
    pub(super) strip_columns: u32,
}

impl State {
    pub(super) fn new(colors: bool) -> State {
        State {
            colors,
            list: List::Workers,
            listed: false,
            row: 0,
            chosen: None,
            step: None,
            back: 0,
            lines: Lines::Cut,
            deed: Deed::default(),
            said: None,
            front: Front::Nothing,
            touched: false,
            strip_columns: 80,
        }
    }

    /// Finds the chosen row again, or chooses the first; gives the attempt that it is about.
    pub(super) fn choose(&mut self, seen: &Seen) -> Option<String> {
        if !self.listed && !seen.failures.is_empty() {
            self.list = List::Failures;
        }
        let rows = rows(self.list, seen);
        let found = self.chosen.as_ref().and_then(|chosen| rows.iter().position(|(row, _)| row == chosen));
        self.row = found.unwrap_or(0);
        let (row, attempt) = rows.into_iter().nth(self.row)?;
        if self.chosen.as_ref() != Some(&row) {
            (self.chosen, self.back) = (Some(row), 0);
        }
        Some(attempt)
    }

    /// The step whose frames are shown: the one that somebody chose, else the first that has not succeeded.
    pub(super) fn step<'a>(&self, job: &'a JobView) -> Option<&'a StepView> {
        let chosen = self.step.and_then(|at| job.steps.get(at));
        let first = || job.steps.iter().find(|step| step.state != StepState::Succeeded).or(job.steps.last());
        chosen.or_else(first)
    }

    /// Says what became of an action.
    pub(super) fn say(&mut self, job: &JobView, action: &str) {
        self.said = Some(match action {
            "priority" => format!("it has priority {} now", job.priority),
            action => format!("{action}: it is {}", job.state),
        });
    }

    pub(super) fn key(&mut self, key: KeyEvent, seen: &Seen) -> Option<Order> {
        if is_interrupt(key) {
            return Some(Order::Leave);
        }
        let code = code_of(key);
        self.touched = true;
        match std::mem::take(&mut self.front) {
            Front::Question => {
                return matches!(code, KeyCode::Char('y' | 'Y')).then_some(Order::Act(Action::Cancel));
            }
            Front::Help => return None,
            Front::Nothing => {}
        }
        self.said = None;
        let job = &seen.job;
        match code {
            KeyCode::Char('q') | KeyCode::Esc => return Some(Order::Leave),
            KeyCode::Char('?' | 'h') => self.front = Front::Help,
            KeyCode::Up | KeyCode::Char('k') => self.go(self.row.saturating_sub(1), seen),
            KeyCode::Down | KeyCode::Char('j') => self.go(self.row + 1, seen),
            KeyCode::Left => self.go_to_step(job, |at| at.checked_sub(1)),
            KeyCode::Right => self.go_to_step(job, |at| Some(at + 1)),
            KeyCode::PageUp => self.back += PAGE,
            KeyCode::PageDown => self.back = self.back.saturating_sub(PAGE),
            KeyCode::Home => self.back = usize::MAX,
            KeyCode::End => self.back = 0,
            KeyCode::Tab | KeyCode::BackTab => {
                self.show(if self.list == List::Workers { List::Failures } else { List::Workers });
            }
            KeyCode::Char('1') => self.show(List::Workers),
            KeyCode::Char('2') => self.show(List::Failures),
            KeyCode::Char('w') => (self.lines, self.back) = (self.lines.other(), 0),
            KeyCode::Enter => return Some(Order::ReadAgain),
            KeyCode::Char('p') => {
                return Some(Order::Act(if job.state == JobState::Paused { Action::Resume } else { Action::Pause }));
            }
            KeyCode::Char('r') => return Some(Order::Act(Action::Retry)),
            KeyCode::Char('c') if !job.state.is_over() => self.front = Front::Question,
            KeyCode::Char('+') => {
                return Some(Order::Prioritize(job.priority.saturating_add(PRIORITY_STEP).min(PRIORITY_MAX)));
            }
            KeyCode::Char('-') => return Some(Order::Prioritize(job.priority.saturating_sub(PRIORITY_STEP))),
            _ => {}
        }
        None
    }

    fn go(&mut self, row: usize, seen: &Seen) {
        let rows = rows(self.list, seen);
        self.row = row.min(rows.len().saturating_sub(1));
        self.listed = true;
        self.chosen = rows.into_iter().nth(self.row).map(|(row, _)| row);
        self.back = 0;
    }

    fn go_to_step(&mut self, job: &JobView, to: impl FnOnce(usize) -> Option<usize>) {
        let shown = self.step(job).map(|step| step.name.clone());
        let at = job.steps.iter().position(|step| Some(&step.name) == shown.as_ref()).unwrap_or(0);
        self.step = to(at).filter(|at| *at < job.steps.len()).or(Some(at));
    }

    fn show(&mut self, list: List) {
        (self.list, self.listed, self.row, self.chosen, self.back) = (list, true, 0, None, 0);
    }
}

/// What tells each row of a list from the others, and the attempt that it is about.
fn rows(list: List, seen: &Seen) -> Vec<(String, String)> {
    match list {
        List::Workers => seen.running.keys().map(|attempt| (attempt.clone(), attempt.clone())).collect(),
        List::Failures => {
            let row = |failure: &Failure| {
                (format!("{} {} {}", failure.step, failure.frame, failure.attempt), failure.attempt.clone())
            };
            seen.failures.iter().map(row).collect()
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crossterm::event::KeyModifiers;
    use framewake_proto::api::TaskCounts;
    use serde_json::json;

    pub(in super::super) fn seen() -> Seen {
        let tasks = json!({"total": 96, "waiting": 80, "open": 6, "done": 9, "failed": 1});
        let step = |name: &str, state: &str| json!({"name": name, "function": "blender@1", "frames": "1-96", "state": state, "tasks": tasks, "after": []});
        let job = json!({
            "id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "name": "orbit 漢字", "project": "film", "priority": 95, "state": "running",
            "tasks": tasks, "submitted_at": "2026-01-01T00:00:00Z",
            "steps": [step("render", "running"), step("encode", "blocked")],
        });
        Seen::new(serde_json::from_value(job).expect("a job"))
    }

    fn failure(frame: i64, attempt: &str) -> Failure {
        let words = "scene_error: no camera".to_owned();
        Failure { step: "render".to_owned(), frame, attempt: attempt.to_owned(), words, again: false }
    }

    fn running(worker: &str) -> Running {
        let worker = worker.parse().expect("a name");
        let (frames, note) = ("1-8".to_owned(), String::new());
        Running { step: None, worker, frames, frame: Some(3), permille: 500, note }
    }

    fn press(state: &mut State, seen: &Seen, code: KeyCode) -> Option<Order> {
        state.key(KeyEvent::new(code, KeyModifiers::NONE), seen)
    }

    #[test]
    fn the_log_is_of_a_worker_until_something_fails_or_somebody_chooses() {
        let (mut seen, mut state) = (seen(), State::new(false));
        assert_eq!(state.choose(&seen), None);
        seen.running.insert("1.1".to_owned(), running("w1"));
        seen.running.insert("2.1".to_owned(), running("w2"));
        assert_eq!(state.choose(&seen).as_deref(), Some("1.1"));
        // Who looks at one stays there, whatever fails.
        press(&mut state, &seen, KeyCode::Down);
        assert_eq!(state.choose(&seen).as_deref(), Some("2.1"));
        seen.fail(failure(4, "1.1"));
        assert_eq!((state.choose(&seen).as_deref(), state.list), (Some("2.1"), List::Workers));
        let mut other = State::new(false);
        assert_eq!((other.choose(&seen).as_deref(), other.list), (Some("1.1"), List::Failures));
        // The newest comes first, and the chosen one stays chosen.
        seen.fail(failure(5, "2.1"));
        assert_eq!((other.choose(&seen).as_deref(), other.row), (Some("1.1"), 1));
        press(&mut other, &seen, KeyCode::Tab);
        assert_eq!(other.choose(&seen).as_deref(), Some("1.1"), "of the workers, the first");
        assert_eq!(other.list, List::Workers);
    }

    #[test]
    fn failures_that_are_listed_are_bounded_and_all_are_counted() {
        let mut seen = seen();
        for frame in 0..1000 {
            seen.fail(failure(frame, "1.1"));
        }
        assert_eq!((seen.failures.len(), seen.failures[0].frame, seen.failed_tries), (FAILURES_KEPT_MAX, 999, 1000));
        let job = seen.job.clone();
        seen.changed(job, "retry");
        assert!(seen.failures.iter().all(|failure| failure.again));
    }

    #[test]
    fn keys_do_what_the_help_says_and_nothing_is_canceled_without_a_yes() {
        let (mut seen, mut state) = (seen(), State::new(false));
        assert!(!state.touched);
        for (code, order) in [
            (KeyCode::Char('p'), Some(Order::Act(Action::Pause))),
            (KeyCode::Char('r'), Some(Order::Act(Action::Retry))),
            (KeyCode::Char('+'), Some(Order::Prioritize(100))),
            (KeyCode::Char('-'), Some(Order::Prioritize(85))),
            (KeyCode::Enter, Some(Order::ReadAgain)),
            (KeyCode::Char('c'), None),
            (KeyCode::Char('n'), None),
            (KeyCode::Char('c'), None),
            (KeyCode::Char('y'), Some(Order::Act(Action::Cancel))),
            (KeyCode::Char('q'), Some(Order::Leave)),
        ] {
            assert_eq!(press(&mut state, &seen, code), order, "{code:?}");
        }
        assert!(state.touched);
        seen.job.state = JobState::Paused;
        assert_eq!(press(&mut state, &seen, KeyCode::Char('p')), Some(Order::Act(Action::Resume)));
        seen.job.state = JobState::Failed;
        press(&mut state, &seen, KeyCode::Char('c'));
        assert_eq!(state.front, Front::Nothing, "what is over can't be canceled");
    }

    #[test]
    fn a_key_with_control_or_alt_changes_nothing() {
        let seen = seen();
        for modifiers in [KeyModifiers::CONTROL, KeyModifiers::ALT] {
            let mut state = State::new(false);
            for letter in ['p', 'r', '+', '-', 'q', 'w', '?'] {
                assert_eq!(state.key(KeyEvent::new(KeyCode::Char(letter), modifiers), &seen), None, "{letter}");
            }
            assert!(state.front == Front::Nothing && state.lines == Lines::Cut);
            press(&mut state, &seen, KeyCode::Char('c'));
            assert_eq!(state.key(KeyEvent::new(KeyCode::Char('y'), modifiers), &seen), None, "that is no yes");
        }
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(State::new(false).key(interrupt, &seen), Some(Order::Leave));
    }

    #[test]
    fn the_step_that_is_shown_is_the_one_at_work_until_somebody_chooses() {
        let (mut seen, mut state) = (seen(), State::new(false));
        let shown = |state: &State, seen: &Seen| state.step(&seen.job).expect("it has steps").name.to_string();
        assert_eq!(shown(&state, &seen), "render");
        seen.job.steps[0].state = StepState::Succeeded;
        seen.job.steps[0].tasks = TaskCounts { total: 96, waiting: 0, open: 0, done: 96, failed: 0, canceled: 0 };
        assert_eq!(shown(&state, &seen), "encode");
        press(&mut state, &seen, KeyCode::Left);
        assert_eq!(shown(&state, &seen), "render");
        press(&mut state, &seen, KeyCode::Left);
        assert_eq!(shown(&state, &seen), "render", "there is none before");
        press(&mut state, &seen, KeyCode::Right);
        press(&mut state, &seen, KeyCode::Right);
        assert_eq!(shown(&state, &seen), "encode", "and none behind");
    }
}
