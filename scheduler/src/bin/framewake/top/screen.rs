//! How a look at the farm is drawn. Text of others is cleaned: it must not move the cursor.

use super::below;
use super::state::{State, Tab};
use crate::full_screen::{Paint, bar, draw_help, fit, wrap};
use crate::text;
use framewake_proto::api::JobView;
use framewake_proto::overview::JobsGlance;
use framewake_proto::time::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState, Wrap};

/// Columns of a bar of progress.
const BAR: usize = 16;
/// Columns of a job's name in a question about it.
const NAME_COLUMNS_MAX: usize = 40;
const HELP: [(&str, &str); 11] = [
    ("↑ ↓, j k", "choose a job"),
    ("/", "find jobs by name, project and state"),
    ("Enter, Esc", "act on what is found, show all again"),
    ("Tab, 1–5", "job, workers, GPUs, functions, errors"),
    ("PgUp PgDn", "scroll what is below"),
    ("p", "pause the job, or let it go on"),
    ("r", "try its failed frames again"),
    ("+ -", "raise or lower its priority"),
    ("c", "cancel it, after a question"),
    ("?", "this"),
    ("q, Esc", "leave; everything goes on"),
];

pub(super) fn draw(frame: &mut Frame, state: &mut State) {
    let (area, paint) = (frame.area(), Paint(state.colors));
    let (summary, footer) = (summary(state, paint, area.width), footer(state, paint, area.width));
    let cut = left_out(state, area.width);
    // On a low screen the lists keep their half.
    let lines = |lines: &[Line]| u16::try_from(lines.len()).unwrap_or(u16::MAX).min(area.height / 4).max(1);
    let [head, jobs, tabs, below, foot] = Layout::vertical([
        Constraint::Length(lines(&summary)),
        Constraint::Percentage(50),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(lines(&footer)),
    ])
    .areas(area);
    let [jobs, cut_at] =
        Layout::vertical([Constraint::Min(0), Constraint::Length(if cut.is_empty() { 0 } else { lines(&cut) })])
            .areas(jobs);
    frame.render_widget(Paragraph::new(summary), head);
    draw_jobs(frame, state, paint, jobs);
    frame.render_widget(Paragraph::new(cut), cut_at);
    let beneath = draw_below(frame, state, paint, below);
    frame.render_widget(Paragraph::new(titles(state, beneath, area.width)), tabs);
    frame.render_widget(Paragraph::new(footer), foot);
    if state.help {
        draw_help(frame, &HELP);
    }
}

/// What the list of jobs does not show.
fn left_out(state: &State, width: u16) -> Vec<Line<'static>> {
    let look = &state.look;
    let farm = &look.farm;
    let open = [&farm.running, &farm.queued, &farm.paused];
    let listed = look.jobs.iter().filter(|job| !job.state.is_over()).count();
    let count = open.iter().map(|jobs| jobs.count as usize).sum::<usize>().saturating_sub(listed);
    let more = if open.iter().any(|jobs| jobs.more) { "+" } else { "" };
    let words = match (look.more_open, look.more_over) {
        (false, false) => return Vec::new(),
        (true, over) => format!(
            "and {count}{more} more that are not over{}: framewake jobs --name WORDS",
            if over { ", and older ones" } else { "" }
        ),
        (false, true) => "and older ones that are over: framewake jobs".to_owned(),
    };
    wrap(&[Span::styled(words, Paint::dim())], 2, width)
}

/// The farm in counts, on as many lines as it takes: what matters most comes first.
fn summary(state: &State, paint: Paint, width: u16) -> Vec<Line<'static>> {
    let look = &state.look;
    let farm = &look.farm;
    let more = |more| if more { "+" } else { "" };
    let jobs = |jobs: &JobsGlance| format!("{}{}", jobs.count, more(jobs.more));
    let mut parts = vec![Span::raw(format!("{} running, {} queued", jobs(&farm.running), jobs(&farm.queued)))];
    let failed: u32 = farm.errors.iter().map(|error| error.tasks).sum();
    if failed > 0 {
        parts.push(Span::styled(format!("{failed}{} failed", more(farm.errors_more)), paint.of(Color::Red)));
    }
    if !look.places.items.is_empty() {
        let words = format!("{} not well", text::count(look.places.items.len() as u64, "place"));
        parts.push(Span::styled(words, paint.of(Color::Yellow)));
    }
    let wanted: u32 = farm.functions.iter().map(|function| function.wanted).sum();
    let (there, starting) = (farm.workers.all() - farm.workers.starting, farm.workers.starting);
    let wanted_more = more(farm.functions_left_out > 0);
    parts.push(Span::raw(format!("workers: {there} there, {starting} starting, {wanted}{wanted_more} wanted")));
    if !farm.gpus.is_empty() {
        let count: u32 = farm.gpus.iter().map(|model| model.count).sum();
        let working: u32 = farm.gpus.iter().map(|model| model.working).sum();
        parts.push(Span::raw(format!("GPUs: {count}, {working} working")));
    }
    let mut lines = vec![Line::from("framewake  ".bold())];
    let between = "  ·  ";
    let whole: usize = parts.iter().map(Span::width).sum::<usize>() + (parts.len() - 1) * Span::raw(between).width();
    if lines[0].width() + whole > usize::from(width) {
        lines = vec![Line::default()]; // Who looks at it knows what it is.
    }
    let mut is_first = true;
    for part in parts {
        let line = lines.last_mut().expect("there is one");
        if is_first {
            line.push_span(part);
        } else if line.width() + Span::raw(between).width() + part.width() <= usize::from(width) {
            line.push_span(between);
            line.push_span(part);
        } else {
            lines.push(Line::from(part));
        }
        is_first = false;
    }
    lines.into_iter().flat_map(|line| wrap(&line.spans, 2, width)).collect()
}

/// The mark of the row that is chosen.
const CHOSEN: &str = "▶ ";

fn draw_jobs(frame: &mut Frame, state: &State, paint: Paint, area: Rect) {
    if state.jobs().next().is_none() {
        let words = if state.look.jobs.is_empty() {
            "No jobs yet. In another terminal: framewake submit samples/jobs/povray.yaml".to_owned()
        } else {
            format!("None of the jobs here has “{}” in its name, project or state.", text::clean(&state.find.words))
        };
        frame.render_widget(Paragraph::new(words).wrap(Wrap { trim: true }), area);
        return;
    }
    // A narrow screen has the columns that matter most, a wide one all of them.
    let columns: Vec<Column> = Column::ALL.into_iter().filter(|column| area.width >= column.width_min()).collect();
    let rows = state.jobs().map(|job| Row::new(columns.iter().map(|column| column.cell(job, paint))));
    let head = Row::new(columns.iter().map(|column| column.title())).bold();
    let widths = columns.iter().map(|column| column.width());
    let table = Table::new(rows, widths).header(head).highlight_symbol(CHOSEN).row_highlight_style(Modifier::BOLD);
    frame.render_stateful_widget(table, area, &mut TableState::new().with_selected(state.row));
}

/// What is told of a job in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Name,
    Project,
    State,
    Priority,
    Bar,
    Done,
    Failed,
    Age,
}

impl Column {
    const ALL: [Column; 8] = [
        Column::Name,
        Column::Project,
        Column::State,
        Column::Priority,
        Column::Bar,
        Column::Done,
        Column::Failed,
        Column::Age,
    ];

    /// On narrower screens it is left out.
    fn width_min(self) -> u16 {
        match self {
            Column::Name | Column::State | Column::Done => 0,
            Column::Failed => 50,
            Column::Bar => 70,
            Column::Priority | Column::Age => 90,
            Column::Project => 110,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Column::Name => "JOB",
            Column::Project => "PROJECT",
            Column::State => "STATE",
            Column::Priority => "PRI",
            Column::Done => "DONE",
            Column::Age => "AGE",
            Column::Bar | Column::Failed => "",
        }
    }

    fn width(self) -> Constraint {
        match self {
            Column::Name => Constraint::Min(12),
            Column::Project => Constraint::Max(14),
            Column::State => Constraint::Length(9),
            Column::Priority => Constraint::Length(3),
            Column::Bar => Constraint::Length(u16::try_from(BAR).expect("a bar is short")),
            Column::Done => Constraint::Max(15),
            Column::Failed => Constraint::Max(12),
            Column::Age => Constraint::Length(8),
        }
    }

    fn cell(self, job: &JobView, paint: Paint) -> Cell<'static> {
        match self {
            Column::Name => Cell::new(text::clean(&job.name).into_owned()),
            Column::Project => Cell::new(job.project.to_string()),
            Column::State => Cell::new(Span::styled(job.state.as_str(), paint.job(job.state))),
            Column::Priority => Cell::new(format!("{:>3}", job.priority)),
            Column::Bar => Cell::new(bar(&job.tasks, BAR, paint)),
            Column::Done => Cell::new(format!("{}/{}", job.tasks.done, job.tasks.total)),
            Column::Failed => Cell::new(match job.tasks.failed {
                0 => Span::raw(""),
                failed => Span::styled(format!("{failed} failed"), paint.of(Color::Red)),
            }),
            Column::Age => Cell::new(age(job)),
        }
    }
}

fn age(job: &JobView) -> String {
    let until = job.finished_at.unwrap_or_else(Timestamp::now);
    text::duration(until.since(job.submitted_at))
}

/// The lists of the lower half, and at the right how much more there is of this one.
fn titles(state: &State, beneath: usize, width: u16) -> Line<'static> {
    let title = |at: usize, tab: Tab, short: bool| {
        if short && tab != state.tab { format!(" {} ", at + 1) } else { format!(" {} {} ", at + 1, tab.title()) }
    };
    let more = |words: &str| if beneath == 0 { String::new() } else { format!("{words}{beneath} more ") };
    let columns = usize::from(width);
    let made = |short: bool, more: &str| {
        let mut words = Vec::new();
        for (at, tab) in Tab::ALL.into_iter().enumerate() {
            let title = title(at, tab, short);
            words.push(if tab == state.tab { Span::raw(title).reversed() } else { Span::raw(title) });
            words.push(Span::raw(if short { "" } else { " " }));
        }
        let left = columns.saturating_sub(Line::from(words.clone()).width() + Span::raw(more).width());
        words.extend([Span::raw(" ".repeat(left)), Span::styled(more.to_owned(), Paint::dim())]);
        Line::from(words)
    };
    let choices = [made(false, &more("PgDn: ")), made(false, &more("↓ ")), made(true, &more("PgDn: "))];
    choices.into_iter().find(|line| line.width() <= columns).unwrap_or_else(|| made(true, &more("↓ ")))
}

/// The lower half, as far as it was scrolled; gives how many lines are beneath what is shown.
fn draw_below(frame: &mut Frame, state: &mut State, paint: Paint, area: Rect) -> usize {
    let (head, lines) = below::lines(state, paint, area.width);
    let [head_at, lines_at] =
        Layout::vertical([Constraint::Length(u16::from(head.is_some())), Constraint::Min(0)]).areas(area);
    frame.render_widget(Paragraph::new(head.unwrap_or_default()), head_at);
    let height = usize::from(lines_at.height);
    // No further than to the last line.
    state.scroll = state.scroll.min(lines.len().saturating_sub(height));
    let beneath = lines.len().saturating_sub(state.scroll + height);
    let shown: Vec<Line> = lines.into_iter().skip(state.scroll).take(height).collect();
    frame.render_widget(Paragraph::new(shown), lines_at);
    beneath
}

fn footer(state: &State, paint: Paint, width: u16) -> Vec<Line<'static>> {
    let (words, style) = foot_words(state, paint, width);
    wrap(&[Span::styled(words, style)], 2, width)
}

fn foot_words(state: &State, paint: Paint, width: u16) -> (String, Style) {
    let find = text::clean(&state.find.words);
    if let Some((_, name)) = &state.question {
        let name = text::clean(name);
        let name = fit(&name, NAME_COLUMNS_MAX);
        return (
            format!("Cancel {name}? What runs is stopped. y: yes, any other key: no"),
            paint.of(Color::Red).bold(),
        );
    }
    if let Some(words) = state.deed.words() {
        return (words, paint.of(Color::Yellow));
    }
    if state.find.typing {
        return (format!("find: {find}▏ Enter: keys act on these again, Esc: all jobs"), Style::new());
    }
    if let Some(lost) = &state.lost {
        return (format!("old figures, trying again: {}", text::clean(lost)), paint.of(Color::Red));
    }
    if let Some(said) = &state.said {
        return (text::clean(said).into_owned(), Style::new());
    }
    if !find.is_empty() {
        let (found, all) = (state.jobs().count(), state.look.jobs.len());
        return (
            format!("found “{find}”: {found} of {all} jobs  / other words  Esc all jobs  ? help  q leave"),
            Paint::dim(),
        );
    }
    let words = match width {
        ..72 => "? keys  / find  p pause  r retry  c cancel  q leave",
        72..90 => "↑↓ job  Tab below  / find  p pause  r retry  c cancel  ? help  q leave",
        _ => "↑↓ job  Tab below  / find  p pause  r retry  +- priority  c cancel  ? help  q leave",
    };
    (words.to_owned(), Paint::dim())
}

#[cfg(test)]
mod tests {
    use super::super::state::Order;
    use super::super::state::tests::{job, look, press};
    use super::*;
    use crossterm::event::KeyCode;
    use framewake_proto::api::{JobState, Page};
    use framewake_proto::overview::JobGlance;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::{Value, json};

    const SIZES: [(u16, u16); 4] = [(80, 24), (60, 20), (200, 50), (40, 14)];
    const SAID: &str = "the renderer exited with code 3: Error: no camera is in the scene shot_010 and none was named";

    fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).expect("a view")
    }

    /// A farm with something of everything.
    fn state() -> State {
        let mut look = look(&[1, 2]);
        let id = look.jobs[0].id;
        look.about = Some(id);
        look.jobs[0].steps = vec![of(json!({
            "name": "render", "function": "blender@12", "frames": "1-96", "state": "running", "after": [],
            "tasks": {"total": 96, "waiting": 80, "open": 6, "done": 9, "failed": 1},
        }))];
        let attempt = "17.2";
        look.reasons =
            vec!["no worker is there yet: one is starting in the pool of the large machines since 3m".to_owned()];
        look.failed.items = vec![of(json!({
            "step": "render", "task": 4, "frame": 5, "state": "failed",
            "failure": {"verdict": "scene_error", "message": SAID, "evidence": "", "attempt": attempt, "at": Timestamp::now()},
        }))];
        look.farm.running = JobsGlance { count: 2, more: false, newest: Vec::<JobGlance>::new() };
        look.farm.errors = vec![of(json!({
            "job": id, "job_name": "a job with a long name of many words", "step": "render", "verdict": "scene_error",
            "message": SAID, "tasks": 2, "at": Timestamp::now(),
        }))];
        look.farm.tries = vec![of(json!({
            "function": "blender@12", "tries": 7, "job": id, "job_name": "orbit", "step": "render", "attempt": attempt,
            "message": SAID, "at": Timestamp::now(),
        }))];
        look.farm.gpus = vec![of(json!({"model": "H200", "count": 12, "working": 3}))];
        look.farm.functions = vec![of(json!({"function": "blender@12", "wanted": 25, "reasons": [], "pools": []}))];
        look.farm.workers.busy = 12;
        look.places.items = vec![of(json!({
            "name": "node7", "state": "set_aside", "workers": 1, "times": 1, "reason": SAID,
        }))];
        look.workers.items = vec![of(json!({
            "id": "blender-7f9c-worker-of-a-pool", "function": "blender@12", "state": "busy", "host": "node7.render.example",
            "gpus": [], "attempt": attempt, "since": Timestamp::now(), "seen_at": Timestamp::now(), "permille": 410,
            "note": "Fra:5 Sample 40/128 of the scene",
        }))];
        look.gpus.items = vec![of(json!({
            "uuid": "GPU-5c9a2a7e-0000-4d1f-9d5f-0a1b2c3d4e5f", "model": "NVIDIA H200", "host": "node7.render.example",
            "driver": "570", "function": "blender", "working": true, "busy_percent": 97, "seen_at": Timestamp::now(),
        }))];
        look.functions.items = vec![of(json!({
            "name": "blender", "version": 12, "newest": true, "added_at": Timestamp::now(),
            "spec": {"name": "blender", "driver": {"kind": "command", "command": ["/bin/true"]}},
            "workers": {"wanted": 25, "present": 12, "starting": 3, "started_total": 15, "reasons": [SAID]},
        }))];
        State::new(look, false)
    }

    fn drawn(state: &mut State, (width, height): (u16, u16)) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("it has a size");
        terminal.draw(|frame| draw(frame, state)).expect("it is drawn");
        let rows = terminal.backend().buffer().content().chunks(usize::from(width));
        rows.map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim().to_owned()).collect()
    }

    /// Everything that the lower half tells, as somebody reads it who scrolls through all of it.
    fn read(state: &mut State, size: (u16, u16)) -> String {
        let mut read = String::new();
        loop {
            let rows = drawn(state, size);
            read.push_str(&rows.join(" "));
            if !rows.iter().any(|row| row.contains(" more") && row.contains(state.tab.title())) {
                return read;
            }
            // By one: words that are cut between two lines stand beneath each other once.
            state.scroll += 1;
        }
    }

    #[test]
    fn nothing_that_failed_and_no_command_is_lost_on_a_small_screen() {
        for size in SIZES {
            let mut state = state();
            let head = drawn(&mut state, size).join(" ");
            for words in ["2 running, 0 queued", "2 failed", "1 place not well", "12 there, 0 starting, 25 wanted"] {
                assert!(head.contains(words), "`{words}` is not on {size:?}:\n{head}");
            }
            let id = state.selected().expect("selected");
            let logs = format!("framewake logs {id} 17.2");
            for (key, all) in [
                (
                    '1',
                    vec![
                        "project film, priority 95",
                        "blender@12",
                        "9/96",
                        "waits: no worker",
                        "since 3m",
                        SAID,
                        &logs,
                    ],
                ),
                (
                    '2',
                    vec![
                        "blender-7f9c-worker-of-a-pool",
                        "node7.render.example",
                        "busy",
                        "17.2 41% Fra:5",
                        "the scene",
                    ],
                ),
                ('3', vec!["NVIDIA H200", "GPU-5c9a2a7e-0000-4d1f-9d5f-0a1b2c3d4e5f", "97%", "set aside", SAID]),
                ('4', vec!["blender@12", "25", SAID]),
                (
                    '5',
                    vec![
                        "scene_error",
                        "2 frames",
                        "render of a job with a long name of many words",
                        SAID,
                        "7 tries",
                        &logs,
                    ],
                ),
            ] {
                press(&mut state, KeyCode::Char(key));
                let text = read(&mut state, size);
                for words in all {
                    // A narrow screen cuts between words, and what is longer than it within them.
                    let is_read = words.split(' ').all(|word| text.contains(word) || word.len() > 20);
                    assert!(is_read, "`{words}` is not to be read on {size:?}:\n{text}");
                    let is_command = words.starts_with("framewake") && size.0 >= 60;
                    assert!(!is_command || text.contains(words), "`{words}` is cut on {size:?}:\n{text}");
                }
            }
        }
    }

    #[test]
    fn what_is_asked_and_what_answers_it_is_on_a_small_screen_whatever_a_job_is_called() {
        for size in SIZES {
            let mut state = state();
            state.look.jobs[0].name = "long ".repeat(40);
            press(&mut state, KeyCode::Char('c'));
            let text = drawn(&mut state, size).join(" ");
            assert!(text.contains("y: yes") && text.contains("any other key: no"), "{size:?}:\n{text}");
            press(&mut state, KeyCode::Char('n'));
            let text = drawn(&mut state, size).join(" ");
            assert!(text.contains("/ find") && text.contains("q leave"), "{size:?}:\n{text}");
            press(&mut state, KeyCode::Char('?'));
            let text = drawn(&mut state, (60, 20)).join(" ");
            assert!(text.contains("job, workers, GPUs, functions, errors"), "{text}");
        }
    }

    fn cut<T>(page: &mut Page<T>) {
        page.next = Some("cursor".to_owned());
    }

    #[test]
    fn a_list_that_is_cut_says_so_and_what_has_the_rest() {
        for size in [(80, 24), (200, 50)] {
            let mut state = state();
            let whole: String = ('1'..='5')
                .map(|key| {
                    press(&mut state, KeyCode::Char(key));
                    read(&mut state, size)
                })
                .collect();
            assert!(!whole.contains("and more") && !whole.contains("and older") && !whole.contains("more:"), "{whole}");
            cut(&mut state.look.workers);
            cut(&mut state.look.gpus);
            cut(&mut state.look.functions);
            cut(&mut state.look.failed);
            state.look.jobs[0].tasks.failed = 51;
            state.look.farm.errors_more = true;
            state.look.more_open = true;
            state.look.more_over = true;
            state.look.farm.queued = JobsGlance { count: 1000, more: true, newest: Vec::new() };
            for (key, words) in [
                ('1', "and 50 more: framewake frames"),
                ('2', "and 11 more: framewake workers"),
                ('3', "and 11 more: framewake workers --json"),
                ('4', "and more than these: framewake functions"),
                ('5', "and more than are told here: framewake jobs --state failed"),
                ('1', "and 1000+ more that are not over, and older ones: framewake jobs"),
            ] {
                press(&mut state, KeyCode::Char(key));
                let text = read(&mut state, size);
                assert!(text.contains(words), "`{words}` is not on {size:?}:\n{text}");
            }
        }
    }

    #[test]
    fn what_was_asked_about_one_job_is_not_told_of_another() {
        let mut state = state();
        assert!(read(&mut state, (80, 24)).contains("17.2"));
        assert_eq!(press(&mut state, KeyCode::Down), Some(Order::Look));
        let text = read(&mut state, (80, 24));
        assert!(text.contains("job 2") && !text.contains("17.2"), "{text}");
    }

    #[test]
    fn what_is_looked_for_is_on_the_screen_and_so_is_the_way_back() {
        let mut state = state();
        state.look.jobs.push(job(3, JobState::Paused));
        for key in "/paus".chars() {
            press(&mut state, KeyCode::Char(key));
        }
        let text = drawn(&mut state, (80, 24)).join("\n");
        assert!(text.contains("find: paus") && text.contains("Esc: all jobs") && !text.contains("job 1"), "{text}");
        press(&mut state, KeyCode::Enter);
        let text = drawn(&mut state, (80, 24)).join("\n");
        assert!(text.contains("found “paus”: 1 of 3 jobs") && text.contains("Esc all jobs"), "{text}");
        for key in "/xyz".chars() {
            press(&mut state, KeyCode::Char(key));
        }
        let text = drawn(&mut state, (80, 24)).join("\n");
        assert!(text.contains("None of the jobs here has “pausxyz”"), "{text}");
    }
}
