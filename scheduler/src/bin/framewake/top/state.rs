//! What the screen remembers between two drawings, and what a key means.

use super::look::Look;
use crate::failure;
use crate::full_screen::Deed;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use framewake_proto::api::{JobState, JobView};
use framewake_proto::client::{Action, Error};
use framewake_proto::ids::JobId;
use framewake_proto::job::PRIORITY_MAX;

/// How far a key moves a job's priority.
const PRIORITY_STEP: u32 = 10;

/// The lower half of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tab {
    Job,
    Workers,
    Gpus,
    Functions,
    Errors,
}

impl Tab {
    pub(super) const ALL: [Tab; 5] = [Tab::Job, Tab::Workers, Tab::Gpus, Tab::Functions, Tab::Errors];

    pub(super) fn title(self) -> &'static str {
        match self {
            Tab::Job => "Job",
            Tab::Workers => "Workers",
            Tab::Gpus => "GPUs",
            Tab::Functions => "Functions",
            Tab::Errors => "Errors",
        }
    }

    fn next(self, by: usize) -> Tab {
        let at = Tab::ALL.iter().position(|tab| *tab == self).unwrap_or(0);
        Tab::ALL[(at + by) % Tab::ALL.len()]
    }
}

/// What is to be done outside the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Leave,
    Look,
    Act(JobId, Action),
    Prioritize(JobId, u32),
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) look: Look,
    pub(super) tab: Tab,
    pub(super) colors: bool,
    /// Row of the selected job. It stays with its job when others come and go.
    pub(super) row: usize,
    /// First row shown below.
    pub(super) scroll: usize,
    /// A job that is about to be canceled, once that is confirmed.
    pub(super) question: Option<(JobId, String)>,
    pub(super) deed: Deed,
    /// What became of the last action.
    pub(super) said: Option<String>,
    /// Why what is shown is old.
    pub(super) lost: Option<String>,
    pub(super) help: bool,
    /// How many actions were done so far.
    pub(super) actions: u64,
}

impl State {
    pub(super) fn new(look: Look, colors: bool) -> State {
        State {
            look,
            tab: Tab::Job,
            colors,
            row: 0,
            scroll: 0,
            question: None,
            deed: Deed::default(),
            said: None,
            lost: None,
            help: false,
            actions: 0,
        }
    }

    pub(super) fn job(&self) -> Option<&JobView> {
        self.look.jobs.get(self.row)
    }

    pub(super) fn selected(&self) -> Option<JobId> {
        self.job().map(|job| job.id)
    }

    /// Takes in a fresh look, or why there is none.
    pub(super) fn take(&mut self, look: Result<Look, Error>) {
        match look {
            Ok(look) => {
                let selected = self.selected();
                self.look = look;
                self.lost = None;
                let found = selected.and_then(|id| self.look.jobs.iter().position(|job| job.id == id));
                self.row = found.unwrap_or(self.row).min(self.look.jobs.len().saturating_sub(1));
            }
            Err(error) => self.lost = Some(failure::message(&error.into())),
        }
    }

    /// Takes in what became of an action. The next key may be of it: it must not wait for the next look.
    pub(super) fn say(&mut self, action: &str, done: Result<JobView, Error>) {
        self.actions += 1;
        if let Ok(changed) = &done
            && let Some(job) = self.look.jobs.iter_mut().find(|job| job.id == changed.id)
        {
            *job = changed.clone();
        }
        self.said = Some(match done {
            Ok(job) if action == "priority" => format!("{} has priority {} now", job.name, job.priority),
            Ok(job) => format!("{action}: {} is {}", job.name, job.state.as_str()),
            Err(error) => failure::message(&error.into()),
        });
    }

    pub(super) fn key(&mut self, key: KeyEvent) -> Option<Order> {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Some(Order::Leave);
        }
        if let Some((job, _)) = self.question.take() {
            let sure = matches!(key.code, KeyCode::Char('y' | 'Y'));
            return sure.then_some(Order::Act(job, Action::Cancel));
        }
        if self.help {
            self.help = false;
            return None;
        }
        self.said = None;
        let last = self.look.jobs.len().saturating_sub(1);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Some(Order::Leave),
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Up | KeyCode::Char('k') => return Some(self.go(self.row.saturating_sub(1))),
            KeyCode::Down | KeyCode::Char('j') => return Some(self.go((self.row + 1).min(last))),
            KeyCode::Home => return Some(self.go(0)),
            KeyCode::End => return Some(self.go(last)),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(10),
            KeyCode::PageDown => self.scroll += 10,
            KeyCode::Tab | KeyCode::Right => self.show(self.tab.next(1)),
            KeyCode::BackTab | KeyCode::Left => self.show(self.tab.next(Tab::ALL.len() - 1)),
            KeyCode::Char(digit @ '1'..='5') => self.show(Tab::ALL[digit as usize - '1' as usize]),
            KeyCode::Char('p') => {
                let job = self.job()?;
                let action = if job.state == JobState::Paused { Action::Resume } else { Action::Pause };
                return Some(Order::Act(job.id, action));
            }
            KeyCode::Char('r') => return Some(Order::Act(self.selected()?, Action::Retry)),
            KeyCode::Char('c') => {
                let job = self.job()?;
                self.question = Some((job.id, job.name.clone()));
            }
            KeyCode::Char(sign @ ('+' | '-')) => {
                let job = self.job()?;
                let raised = job.priority.saturating_add(PRIORITY_STEP).min(PRIORITY_MAX);
                let lowered = job.priority.saturating_sub(PRIORITY_STEP);
                return Some(Order::Prioritize(job.id, if sign == '+' { raised } else { lowered }));
            }
            _ => {}
        }
        None
    }

    /// To another job, about which more is asked at once.
    fn go(&mut self, row: usize) -> Order {
        (self.row, self.scroll) = (row, 0);
        Order::Look
    }

    fn show(&mut self, tab: Tab) {
        (self.tab, self.scroll) = (tab, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use framewake_proto::api::TaskCounts;
    use framewake_proto::overview::{JobsGlance, OverviewView, WorkerCounts};
    use framewake_proto::time::Timestamp;

    fn job(number: u64, state: JobState) -> JobView {
        JobView {
            id: format!("01M7ZN{number:020}").parse().expect("an id"),
            name: format!("job {number}"),
            project: "film".parse().expect("a name"),
            priority: 95,
            labels: std::collections::BTreeMap::new(),
            state,
            tasks: TaskCounts { total: 10, waiting: 4, open: 2, done: 3, failed: 1, canceled: 0 },
            steps: Vec::new(),
            submitted_at: Timestamp(0),
            finished_at: None,
        }
    }

    fn look(numbers: &[u64]) -> Look {
        let farm = OverviewView {
            at: Timestamp(0),
            running: JobsGlance::default(),
            queued: JobsGlance::default(),
            paused: JobsGlance::default(),
            waiting: Vec::new(),
            workers: WorkerCounts::default(),
            functions: Vec::new(),
            functions_left_out: 0,
            starting: Vec::new(),
            gpus: Vec::new(),
            errors: Vec::new(),
            errors_more: false,
            tries: Vec::new(),
            tries_more: false,
        };
        Look {
            jobs: numbers.iter().map(|number| job(*number, JobState::Running)).collect(),
            farm,
            functions: Vec::new(),
            workers: Vec::new(),
            gpus: Vec::new(),
            places: Vec::new(),
            failed: Vec::new(),
            reasons: Vec::new(),
        }
    }

    fn press(state: &mut State, code: KeyCode) -> Option<Order> {
        state.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn the_selection_stays_with_its_job_when_others_come_and_go() {
        let mut state = State::new(look(&[1, 2, 3]), false);
        press(&mut state, KeyCode::Down);
        assert_eq!(state.job().expect("selected").name, "job 2");
        state.take(Ok(look(&[9, 8, 1, 2, 3])));
        assert_eq!(state.job().expect("selected").name, "job 2");
        // It is gone: somebody is selected still, and nobody if there is nobody.
        state.take(Ok(look(&[9])));
        assert_eq!(state.job().expect("selected").name, "job 9");
        state.take(Ok(look(&[])));
        assert_eq!(state.selected(), None);
        assert_eq!(press(&mut state, KeyCode::Char('p')), None);
    }

    #[test]
    fn nothing_is_canceled_without_a_yes() {
        let mut state = State::new(look(&[1]), false);
        let id = state.selected().expect("selected");
        for (answer, order) in [('n', None), ('q', None), ('y', Some(Order::Act(id, Action::Cancel)))] {
            assert_eq!(press(&mut state, KeyCode::Char('c')), None);
            assert!(state.question.is_some());
            assert_eq!(press(&mut state, KeyCode::Char(answer)), order, "{answer}");
            assert!(state.question.is_none());
        }
    }

    #[test]
    fn keys_pause_what_runs_resume_what_is_paused_and_move_priorities_within_bounds() {
        let mut state = State::new(look(&[1]), false);
        let id = state.selected().expect("selected");
        assert_eq!(press(&mut state, KeyCode::Char('p')), Some(Order::Act(id, Action::Pause)));
        state.say("pause", Ok(job(1, JobState::Paused)));
        assert_eq!(press(&mut state, KeyCode::Char('p')), Some(Order::Act(id, Action::Resume)));
        assert_eq!(press(&mut state, KeyCode::Char('+')), Some(Order::Prioritize(id, 100)));
        assert_eq!(press(&mut state, KeyCode::Char('-')), Some(Order::Prioritize(id, 85)));
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(state.key(interrupt), Some(Order::Leave));
    }

    #[test]
    fn a_scheduler_that_goes_away_leaves_what_was_known() {
        let mut state = State::new(look(&[1]), false);
        state.take(Err(Error::Address("nowhere".to_owned())));
        assert!(state.lost.is_some() && state.job().is_some());
        state.take(Ok(look(&[1])));
        assert_eq!(state.lost, None);
    }
}
