//! What the screen remembers between two drawings, and what a key means.

use super::look::Look;
use crate::failure;
use crate::full_screen::{Deed, code_of, is_interrupt};
use crossterm::event::{KeyCode, KeyEvent};
use framewake_proto::api::{JobState, JobView};
use framewake_proto::client::{Action, Error};
use framewake_proto::ids::JobId;
use framewake_proto::job::PRIORITY_MAX;

/// How far a key moves a job's priority.
const PRIORITY_STEP: u32 = 10;
/// Letters that are looked for, at most: a name has not many more, and a line of keys must hold them.
const FIND_CHARS_MAX: usize = 40;

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

/// Which jobs are listed: all, while no words are looked for.
#[derive(Debug, Default)]
pub(super) struct Find {
    pub(super) words: String,
    /// Whether keys are letters of it.
    pub(super) typing: bool,
}

impl Find {
    /// Whether each of the words is in the job's name, project or state, in capitals or not.
    fn finds(&self, job: &JobView) -> bool {
        let told = format!("{} {} {}", job.name, job.project, job.state.as_str()).to_lowercase();
        self.words.to_lowercase().split_whitespace().all(|word| told.contains(word))
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) look: Look,
    pub(super) tab: Tab,
    pub(super) colors: bool,
    pub(super) find: Find,
    /// Row of the selected job among those that are listed. It stays with its job when others come and go.
    pub(super) row: usize,
    /// First line shown below.
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
            find: Find::default(),
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

    /// The jobs that are listed.
    pub(super) fn jobs(&self) -> impl Iterator<Item = &JobView> {
        self.look.jobs.iter().filter(|job| self.find.finds(job))
    }

    pub(super) fn job(&self) -> Option<&JobView> {
        self.jobs().nth(self.row)
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
                self.select(selected, self.row);
            }
            Err(error) => self.lost = Some(failure::message(&error.into())),
        }
    }

    /// Finds the row of this job; without it, another.
    fn select(&mut self, job: Option<JobId>, or: usize) {
        let found = job.and_then(|id| self.jobs().position(|job| job.id == id));
        self.row = found.unwrap_or(or).min(self.jobs().count().saturating_sub(1));
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
        if is_interrupt(key) {
            return Some(Order::Leave);
        }
        let code = code_of(key);
        if let Some((job, _)) = self.question.take() {
            let sure = matches!(code, KeyCode::Char('y' | 'Y'));
            return sure.then_some(Order::Act(job, Action::Cancel));
        }
        if self.help {
            self.help = false;
            return None;
        }
        self.said = None;
        let last = self.jobs().count().saturating_sub(1);
        if self.find.typing && !matches!(code, KeyCode::Up | KeyCode::Down) {
            return Some(self.find_key(code));
        }
        match code {
            KeyCode::Char('/') => self.find.typing = true,
            KeyCode::Esc if !self.find.words.is_empty() => return Some(self.find_key(code)),
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

    /// The job that was selected stays so where it is still listed.
    fn find_key(&mut self, code: KeyCode) -> Order {
        let selected = self.selected();
        match code {
            KeyCode::Esc => self.find = Find::default(),
            KeyCode::Enter => self.find.typing = false,
            KeyCode::Backspace => drop(self.find.words.pop()),
            KeyCode::Char(letter) if self.find.words.chars().count() < FIND_CHARS_MAX => self.find.words.push(letter),
            _ => {}
        }
        self.select(selected, 0);
        if self.selected() != selected {
            self.scroll = 0;
        }
        Order::Look
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
pub(super) mod tests {
    use super::*;
    use crossterm::event::KeyModifiers;
    use framewake_proto::api::{Page, TaskCounts};
    use framewake_proto::overview::{JobsGlance, OverviewView, WorkerCounts};
    use framewake_proto::time::Timestamp;

    pub(in super::super) fn job(number: u64, state: JobState) -> JobView {
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
            submitted_by: None,
            finished_at: None,
        }
    }

    fn page<T>() -> Page<T> {
        Page { items: Vec::new(), next: None }
    }

    pub(in super::super) fn look(numbers: &[u64]) -> Look {
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
            words: String::new(),
            more_open: false,
            more_over: false,
            farm,
            functions: page(),
            workers: page(),
            gpus: page(),
            places: page(),
            about: None,
            failed: page(),
            reasons: Vec::new(),
        }
    }

    pub(in super::super) fn press(state: &mut State, code: KeyCode) -> Option<Order> {
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
    fn a_key_with_control_or_alt_changes_nothing_on_the_farm() {
        for modifiers in [KeyModifiers::CONTROL, KeyModifiers::ALT, KeyModifiers::SUPER] {
            let mut state = State::new(look(&[1, 2]), false);
            for letter in ['p', 'r', 'c', '+', '-', 'q', '/', '?', '2'] {
                if letter == 'c' && modifiers == KeyModifiers::CONTROL {
                    continue; // One leaves by it.
                }
                let order = state.key(KeyEvent::new(KeyCode::Char(letter), modifiers));
                assert!(matches!(order, None | Some(Order::Look)), "{modifiers:?} {letter}: {order:?}");
            }
            assert!(state.question.is_none() && !state.help && !state.find.typing && state.tab == Tab::Job);
            press(&mut state, KeyCode::Char('c'));
            assert_eq!(state.key(KeyEvent::new(KeyCode::Char('y'), modifiers)), None, "that is no yes");
        }
        // As in a shell.
        let mut state = State::new(look(&[1, 2]), false);
        state.key(KeyEvent::new(KeyCode::Char('n'), KeyModifiers::CONTROL));
        assert_eq!(state.job().expect("selected").name, "job 2");
        state.key(KeyEvent::new(KeyCode::Char('p'), KeyModifiers::CONTROL));
        assert_eq!(state.job().expect("selected").name, "job 1");
    }

    #[test]
    fn jobs_are_found_by_name_project_and_state_as_one_types_and_escape_shows_all_before_it_leaves() {
        let mut found = look(&[1, 2, 3]);
        found.jobs[1].name = "Orbit 漢字".to_owned();
        found.jobs[1].project = "commercial".parse().expect("a name");
        found.jobs[2].state = JobState::Paused;
        let mut state = State::new(found.clone(), false);
        let listed = |state: &State| state.jobs().map(|job| job.name.clone()).collect::<Vec<_>>();
        let find = |state: &mut State, words: &str| {
            press(state, KeyCode::Char('/'));
            for letter in words.chars() {
                press(state, KeyCode::Char(letter));
            }
        };
        for (words, expected) in [
            ("ORB", vec!["Orbit 漢字"]),
            ("字", vec!["Orbit 漢字"]),
            ("paus", vec!["job 3"]),
            ("mercial", vec!["Orbit 漢字"]),
            ("film job", vec!["job 1", "job 3"]),
            ("film running", vec!["job 1"]),
            ("quit", vec![]),
        ] {
            find(&mut state, words);
            assert_eq!(listed(&state), expected, "{words}");
            assert_eq!(state.job().map(|job| job.name.clone()), expected.first().map(|name| (*name).to_owned()));
            assert_eq!(press(&mut state, KeyCode::Esc).filter(|order| *order == Order::Leave), None);
            assert_eq!(listed(&state).len(), 3);
        }
        // What is chosen stays chosen, and letters are commands again after Enter.
        press(&mut state, KeyCode::End);
        find(&mut state, "jobx");
        press(&mut state, KeyCode::Backspace);
        press(&mut state, KeyCode::Enter);
        assert_eq!(listed(&state), ["job 1", "job 3"]);
        press(&mut state, KeyCode::Up);
        let first = state.selected().expect("selected");
        assert_eq!(press(&mut state, KeyCode::Char('p')), Some(Order::Act(first, Action::Pause)));
        // Others come and go while one looks for it.
        state.take(Ok(look(&[9, 8, 1])));
        assert_eq!((state.selected(), listed(&state).len()), (Some(first), 3));
        press(&mut state, KeyCode::Esc);
        assert_eq!(press(&mut state, KeyCode::Esc), Some(Order::Leave));
        find(&mut state, &"x".repeat(1000));
        assert_eq!(state.find.words.len(), FIND_CHARS_MAX);
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
