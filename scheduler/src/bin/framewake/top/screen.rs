//! How a look at the farm is drawn. Text of others is cleaned: it must not move the cursor.

use super::state::{State, Tab};
use crate::full_screen::{Paint, bar, draw_help};
use crate::job::step_word;
use crate::text;
use framewake_proto::api::{GpuState, JobView, PlaceState, WorkerState, WorkerView};
use framewake_proto::overview::{ErrorGlance, JobsGlance, TriesGlance};
use framewake_proto::time::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState, Wrap};

/// Columns of a bar of progress.
const BAR: usize = 16;
const HELP: [(&str, &str); 9] = [
    ("↑ ↓, j k", "choose a job"),
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
    let [head, jobs, tabs, below, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Percentage(50),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let paint = Paint(state.colors);
    frame.render_widget(Paragraph::new(summary(state, paint)), head);
    draw_jobs(frame, state, paint, jobs);
    frame.render_widget(Paragraph::new(titles(state)), tabs);
    draw_below(frame, state, paint, below);
    frame.render_widget(Paragraph::new(footer(state, paint, frame.area().width)), foot);
    if state.help {
        draw_help(frame, &HELP);
    }
}

fn summary(state: &State, paint: Paint) -> Line<'static> {
    let look = &state.look;
    let farm = &look.farm;
    let more = |more| if more { "+" } else { "" };
    let jobs = |jobs: &JobsGlance| format!("{}{}", jobs.count, more(jobs.more));
    let wanted: u32 = farm.functions.iter().map(|function| function.wanted).sum();
    let mut words = vec![
        "framewake".bold(),
        Span::raw(format!(
            "  {} running, {} queued  ·  workers: {} there, {} starting, {wanted}{} wanted",
            jobs(&farm.running),
            jobs(&farm.queued),
            farm.workers.all() - farm.workers.starting,
            farm.workers.starting,
            more(farm.functions_left_out > 0),
        )),
    ];
    let failed: u32 = farm.errors.iter().map(|error| error.tasks).sum();
    if failed > 0 {
        let told = format!("  ·  {failed}{} failed", more(farm.errors_more));
        words.push(Span::styled(told, paint.of(Color::Red)));
    }
    if !farm.gpus.is_empty() {
        let count: u32 = farm.gpus.iter().map(|model| model.count).sum();
        let working: u32 = farm.gpus.iter().map(|model| model.working).sum();
        words.push(Span::raw(format!("  ·  GPUs: {count}, {working} working")));
    }
    if !look.places.is_empty() {
        let style = paint.of(Color::Yellow);
        words.push(Span::styled(format!("  ·  {} not well", text::count(look.places.len() as u64, "place")), style));
    }
    Line::from(words)
}

/// The mark of the row that is chosen.
const CHOSEN: &str = "▶ ";

fn draw_jobs(frame: &mut Frame, state: &State, paint: Paint, area: Rect) {
    if state.look.jobs.is_empty() {
        let words = "No jobs yet. In another terminal: framewake submit samples/jobs/povray.yaml";
        frame.render_widget(Paragraph::new(words).wrap(Wrap { trim: true }), area);
        return;
    }
    // A narrow screen has the columns that matter most, a wide one all of them.
    let columns: Vec<Column> = Column::ALL.into_iter().filter(|column| area.width >= column.width_min()).collect();
    let rows = state.look.jobs.iter().map(|job| Row::new(columns.iter().map(|column| column.cell(job, paint))));
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

fn titles(state: &State) -> Line<'static> {
    let mut words = Vec::new();
    for (at, tab) in Tab::ALL.into_iter().enumerate() {
        let title = format!(" {} {} ", at + 1, tab.title());
        words.push(if tab == state.tab { Span::raw(title).reversed() } else { Span::raw(title) });
        words.push(Span::raw(" "));
    }
    Line::from(words)
}

fn draw_below(frame: &mut Frame, state: &mut State, paint: Paint, area: Rect) {
    let (head, rows, empty) = match state.tab {
        Tab::Job => {
            let lines = about_job(state, paint, area.width);
            // No further than to the last line.
            state.scroll = state.scroll.min(lines.len().saturating_sub(1));
            let shown = u16::try_from(state.scroll).unwrap_or(u16::MAX);
            frame.render_widget(Paragraph::new(lines).scroll((shown, 0)), area);
            return;
        }
        Tab::Workers => (
            ["WORKER", "FUNCTION", "STATE", "DOES", "HOST"],
            state.look.workers.iter().map(|worker| worker_row(worker, paint)).collect::<Vec<_>>(),
            "No workers: they start when there is work, and leave when there is none.",
        ),
        Tab::Gpus => (
            ["GPU", "FUNCTION", "BUSY", "MEMORY", "HOST"],
            state.look.gpus.iter().map(|gpu| gpu_row(gpu, paint)).chain(unwell(state, paint)).collect(),
            "No worker has a GPU now.",
        ),
        Tab::Functions => (
            ["FUNCTION", "THERE", "STARTING", "WANTED", "WHY NOT MORE"],
            functions(state),
            "No functions: framewake functions add samples/functions/povray.yaml",
        ),
        Tab::Errors => (
            ["WHY", "WHERE", "COUNT", "LAST", "WHAT WAS SAID"],
            errors(state, paint),
            "Nothing failed in the last hour.",
        ),
    };
    if rows.is_empty() {
        frame.render_widget(Paragraph::new(empty).wrap(Wrap { trim: true }), area);
        return;
    }
    let widths = match state.tab {
        Tab::Functions => [
            Constraint::Max(28),
            Constraint::Length(8),
            Constraint::Length(8),
            Constraint::Length(8),
            Constraint::Min(10),
        ],
        Tab::Errors => [
            Constraint::Length(14),
            Constraint::Max(28),
            Constraint::Length(10),
            Constraint::Length(7),
            Constraint::Min(10),
        ],
        Tab::Job | Tab::Workers | Tab::Gpus => {
            [Constraint::Min(16), Constraint::Max(20), Constraint::Length(9), Constraint::Max(24), Constraint::Max(20)]
        }
    };
    state.scroll = state.scroll.min(rows.len() - 1);
    let table = Table::new(rows.into_iter().skip(state.scroll), widths).header(Row::new(head).bold());
    frame.render_widget(table, area);
}

/// Steps, why they wait, and what failed with the command that shows more.
fn about_job(state: &State, paint: Paint, width: u16) -> Vec<Line<'static>> {
    let Some(job) = state.job() else { return Vec::new() };
    let mut lines = vec![Line::from(format!("{}  {}", job.id, text::clean(&job.name)))];
    for step in &job.steps {
        let pace = step.task_s.map_or(String::new(), |seconds| format!("  {seconds:.1} s a frame"));
        lines.push(Line::from(vec![
            Span::raw(match width {
                ..70 => format!("  {:<12} ", step.name),
                _ => format!("  {:<20} {:<24} ", step.name, step.function),
            }),
            Span::styled(step_word(step.state), paint.of(Color::Cyan)),
            Span::raw(format!("  {}/{}{pace}", step.tasks.done, step.tasks.total)),
        ]));
    }
    let waits = state.look.reasons.iter().map(|reason| format!("  waits: {}", text::clean(reason)));
    lines.extend(waits.map(|words| Line::from(Span::styled(words, paint.of(Color::Yellow)))));
    for task in &state.look.failed {
        let Some(failure) = &task.failure else { continue };
        let words = format!("  frame {} of {}: ", task.frame, task.step);
        lines.push(Line::from(vec![
            Span::styled(words, paint.of(Color::Red)),
            Span::raw(text::clean(&failure.message).into_owned()),
            Span::raw(format!("  (framewake logs {} {})", job.id, text::clean(&failure.attempt)))
                .add_modifier(Modifier::DIM),
        ]));
    }
    lines
}

fn worker_row(worker: &WorkerView, paint: Paint) -> Row<'static> {
    let does = match &worker.attempt {
        Some(attempt) => format!("{} {}% {}", text::clean(attempt), worker.permille / 10, text::clean(&worker.note)),
        None => format!("for {}", text::duration(Timestamp::now().since(worker.since))),
    };
    Row::new([
        Cell::new(worker.id.to_string()),
        Cell::new(text::clean(&worker.function).into_owned()),
        Cell::new(Span::styled(worker_word(worker.state), paint.worker(worker.state))),
        Cell::new(does),
        Cell::new(text::clean(&worker.host).into_owned()),
    ])
}

fn worker_word(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Starting => "starting",
        WorkerState::Idle => "idle",
        WorkerState::Busy => "busy",
        WorkerState::Draining => "draining",
    }
}

fn gpu_row(gpu: &GpuState, paint: Paint) -> Row<'static> {
    // A GPU that its worker holds and does not use is money that goes away.
    let idle = gpu.working && gpu.busy_percent == Some(0);
    let busy = gpu.busy_percent.map_or("–".to_owned(), |percent| format!("{percent}%"));
    let memory = match (gpu.memory_used_bytes, gpu.memory_total_bytes) {
        (Some(used), Some(total)) => format!("{:.1} of {:.0} GiB", gib(used), gib(total)),
        _ => "–".to_owned(),
    };
    Row::new([
        Cell::new(format!("{} {}", text::clean(&gpu.model), text::clean(&gpu.uuid))),
        Cell::new(text::clean(&gpu.function).into_owned()),
        Cell::new(Span::styled(busy, if idle { paint.of(Color::Yellow) } else { Style::new() })),
        Cell::new(memory),
        Cell::new(text::clean(&gpu.host).into_owned()),
    ])
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// Machines and GPUs that get no work, or less.
fn unwell(state: &State, paint: Paint) -> impl Iterator<Item = Row<'static>> {
    state.look.places.iter().map(move |place| {
        let (word, color) = match place.state {
            PlaceState::SetAside => ("set aside", Color::Red),
            PlaceState::Good | PlaceState::Suspect | PlaceState::OnTrial => ("suspect", Color::Yellow),
        };
        Row::new([
            Cell::new(text::clean(&place.name).into_owned()),
            Cell::new(""),
            Cell::new(Span::styled(word, paint.of(color))),
            Cell::new(text::clean(&place.reason).into_owned()),
            Cell::new(""),
        ])
    })
}

fn functions(state: &State) -> Vec<Row<'static>> {
    let known = state.look.functions.iter();
    let shown = known.filter(|function| function.newest || function.workers.present + function.workers.starting > 0);
    let rows = shown.map(|function| {
        Row::new([
            format!("{}@{}", function.name, function.version),
            function.workers.present.to_string(),
            function.workers.starting.to_string(),
            function.workers.wanted.to_string(),
            function.workers.reasons.iter().map(|reason| text::clean(reason)).collect::<Vec<_>>().join("; "),
        ])
    });
    rows.collect()
}

/// What failed in the last hour on the whole farm: frames that failed for good, and beneath them every try that failed, by cause and
/// function.
fn errors(state: &State, paint: Paint) -> Vec<Row<'static>> {
    let farm = &state.look.farm;
    let row = |why: Span<'static>, place: &str, count, at: Timestamp, said: &str| {
        Row::new([
            Cell::new(why),
            Cell::new(text::clean(place).into_owned()),
            Cell::new(count),
            Cell::new(text::duration(Timestamp::now().since(at))),
            Cell::new(text::clean(said).into_owned()),
        ])
    };
    let lasting = farm.errors.iter().map(|error: &ErrorGlance| {
        let why = Span::styled(error.verdict.to_string(), paint.of(Color::Red));
        let place = format!("{} of {}", error.step, error.job_name);
        row(why, &place, text::count(error.tasks, "frame"), error.at, &error.message)
    });
    let tries = farm.tries.iter().map(|tries: &TriesGlance| {
        let why = tries.verdict.map_or("worker_lost".to_owned(), |verdict| verdict.to_string());
        let said = format!("{}  (framewake logs {} {})", tries.message, tries.job, tries.attempt);
        let count = if tries.tries == 1 { "1 try".to_owned() } else { format!("{} tries", tries.tries) };
        row(Span::styled(why, paint.of(Color::Yellow)), &tries.function, count, tries.at, &said)
    });
    let left_out = (farm.errors_more || farm.tries_more)
        .then(|| Row::new([Cell::new(""), Cell::new("and more than are told here")]));
    lasting.chain(tries).chain(left_out).collect()
}

fn footer(state: &State, paint: Paint, width: u16) -> Line<'static> {
    if let Some((_, name)) = &state.question {
        let words = format!("Cancel {}? What runs is stopped. y: yes, any other key: no", text::clean(name));
        return Line::from(Span::styled(words, paint.of(Color::Red).bold()));
    }
    if let Some(words) = state.deed.words() {
        return Line::from(Span::styled(words, paint.of(Color::Yellow)));
    }
    if let Some(lost) = &state.lost {
        let words = format!("old figures, trying again: {}", text::clean(lost));
        return Line::from(Span::styled(words, paint.of(Color::Red)));
    }
    if let Some(said) = &state.said {
        return Line::from(text::clean(said).into_owned());
    }
    let words = match width {
        ..80 => "? keys  p pause  r retry  c cancel  q leave",
        _ => "↑↓ job  Tab below  p pause  r retry  +- priority  c cancel  ? help  q leave",
    };
    Line::from(words).add_modifier(Modifier::DIM)
}
