//! How a look at the farm is drawn. Text of others is cleaned: it must not move the cursor.

use super::state::{State, Tab};
use crate::job::step_word;
use crate::text;
use framewake_proto::api::{GpuState, JobState, JobView, PlaceState, TaskCounts, WorkerState, WorkerView};
use framewake_proto::time::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Clear, Paragraph, Row, Table, TableState, Wrap};

/// Columns of a bar of progress.
const BAR: usize = 16;
const HELP: [(&str, &str); 9] = [
    ("↑ ↓, j k", "choose a job"),
    ("Tab, 1–4", "job, workers, GPUs, functions"),
    ("PgUp PgDn", "scroll what is below"),
    ("p", "pause the job, or let it go on"),
    ("r", "try its failed frames again"),
    ("+ -", "raise or lower its priority"),
    ("c", "cancel it, after a question"),
    ("?", "this"),
    ("q, Esc", "leave; everything goes on"),
];

/// Colors where they are wanted; else weight alone tells.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn of(self, color: Color) -> Style {
        if self.0 { Style::new().fg(color) } else { Style::new() }
    }

    fn job(self, state: JobState) -> Style {
        match state {
            JobState::Running => self.of(Color::Cyan),
            JobState::Succeeded => self.of(Color::Green),
            JobState::Failed => self.of(Color::Red).bold(),
            JobState::Paused => self.of(Color::Yellow),
            JobState::Queued | JobState::Canceled => Style::new().add_modifier(Modifier::DIM),
        }
    }

    fn worker(self, state: WorkerState) -> Style {
        match state {
            WorkerState::Busy => self.of(Color::Cyan),
            WorkerState::Starting | WorkerState::Draining => self.of(Color::Yellow),
            WorkerState::Idle => Style::new().add_modifier(Modifier::DIM),
        }
    }
}

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
    frame.render_widget(Paragraph::new(footer(state, paint)), foot);
    if state.help {
        draw_help(frame);
    }
}

fn summary(state: &State, paint: Paint) -> Line<'static> {
    let look = &state.look;
    let jobs = |wanted| look.jobs.iter().filter(|job| job.state == wanted).count();
    let workers = |of: fn(&framewake_proto::api::ScalingView) -> u32| -> u32 {
        look.functions.iter().map(|function| of(&function.workers)).sum()
    };
    let more = if look.more_jobs { "+" } else { "" };
    let mut words = vec![
        "framewake".bold(),
        Span::raw(format!(
            "  {} running, {}{more} queued  ·  workers: {} there, {} starting, {} wanted",
            jobs(JobState::Running),
            jobs(JobState::Queued),
            workers(|of| of.present),
            workers(|of| of.starting),
            workers(|of| of.wanted),
        )),
    ];
    if !look.gpus.is_empty() {
        let told: Vec<u32> = look.gpus.iter().filter_map(|gpu| gpu.busy_percent).collect();
        let mean = told.iter().sum::<u32>().checked_div(u32::try_from(told.len()).unwrap_or(u32::MAX));
        let busy = mean.map_or(String::new(), |mean| format!(", {mean}% busy"));
        words.push(Span::raw(format!("  ·  GPUs: {}{busy}", look.gpus.len())));
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
    let rows = state.look.jobs.iter().map(|job| {
        Row::new([
            Cell::new(text::clean(&job.name).into_owned()),
            Cell::new(job.project.to_string()),
            Cell::new(Span::styled(job.state.as_str(), paint.job(job.state))),
            Cell::new(format!("{:>3}", job.priority)),
            Cell::new(bar(&job.tasks, paint)),
            Cell::new(format!("{}/{}", job.tasks.done, job.tasks.total)),
            Cell::new(match job.tasks.failed {
                0 => Span::raw(""),
                failed => Span::styled(format!("{failed} failed"), paint.of(Color::Red)),
            }),
            Cell::new(age(job)),
        ])
    });
    let widths = [
        Constraint::Min(16),
        Constraint::Max(14),
        Constraint::Length(9),
        Constraint::Length(3),
        Constraint::Length(u16::try_from(BAR).expect("a bar is short")),
        Constraint::Length(15),
        Constraint::Max(12),
        Constraint::Length(8),
    ];
    let head = Row::new(["JOB", "PROJECT", "STATE", "PRI", "", "DONE", "", "AGE"]).bold();
    let table = Table::new(rows, widths).header(head).highlight_symbol(CHOSEN).row_highlight_style(Modifier::BOLD);
    frame.render_stateful_widget(table, area, &mut TableState::new().with_selected(state.row));
}

fn age(job: &JobView) -> String {
    let until = job.finished_at.unwrap_or_else(Timestamp::now);
    text::duration(until.since(job.submitted_at))
}

/// Done, failed and open tasks in proportion; whatever there is of one is seen.
fn bar(tasks: &TaskCounts, paint: Paint) -> Line<'static> {
    let columns = |count: u32| {
        let share = (u64::from(count) * BAR as u64) / u64::from(tasks.total.max(1));
        usize::try_from(share).expect("at most a bar").max(usize::from(count > 0))
    };
    let failed = columns(tasks.failed);
    let open = columns(tasks.open);
    let done = columns(tasks.done).min(BAR.saturating_sub(failed + open));
    let rest = BAR.saturating_sub(done + failed + open);
    Line::from(vec![
        Span::styled("━".repeat(done), paint.of(Color::Green)),
        Span::styled("╳".repeat(failed), paint.of(Color::Red)),
        Span::styled("╸".repeat(open), paint.of(Color::Cyan)),
        Span::styled("─".repeat(rest), Style::new().add_modifier(Modifier::DIM)),
    ])
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
            let lines = about_job(state, paint);
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
        Tab::Job | Tab::Workers | Tab::Gpus => {
            [Constraint::Min(16), Constraint::Max(20), Constraint::Length(9), Constraint::Max(24), Constraint::Max(20)]
        }
    };
    state.scroll = state.scroll.min(rows.len() - 1);
    let table = Table::new(rows.into_iter().skip(state.scroll), widths).header(Row::new(head).bold());
    frame.render_widget(table, area);
}

/// Steps, why they wait, and what failed with the command that shows more.
fn about_job(state: &State, paint: Paint) -> Vec<Line<'static>> {
    let Some(job) = state.job() else { return Vec::new() };
    let mut lines = vec![Line::from(format!("{}  {}", job.id, text::clean(&job.name)))];
    for step in &job.steps {
        let pace = step.task_s.map_or(String::new(), |seconds| format!("  {seconds:.1} s a frame"));
        lines.push(Line::from(vec![
            Span::raw(format!("  {:<20} {:<24} ", step.name, step.function)),
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

fn footer(state: &State, paint: Paint) -> Line<'static> {
    if let Some((_, name)) = &state.question {
        let words = format!("Cancel {}? What runs is stopped. y: yes, any other key: no", text::clean(name));
        return Line::from(Span::styled(words, paint.of(Color::Red).bold()));
    }
    if let Some(lost) = &state.lost {
        let words = format!("old figures, trying again: {}", text::clean(lost));
        return Line::from(Span::styled(words, paint.of(Color::Red)));
    }
    if let Some(said) = &state.said {
        return Line::from(text::clean(said).into_owned());
    }
    Line::from("↑↓ job  Tab below  p pause  r retry  +- priority  c cancel  ? help  q leave")
        .add_modifier(Modifier::DIM)
}

fn draw_help(frame: &mut Frame) {
    let lines: Vec<Line> = HELP.iter().map(|(keys, what)| Line::from(format!(" {keys:<10} {what}"))).collect();
    let (width, height) = (46, u16::try_from(lines.len() + 2).expect("few"));
    let area = frame.area();
    let place = Rect {
        x: area.width.saturating_sub(width) / 2,
        y: area.height.saturating_sub(height) / 2,
        width: width.min(area.width),
        height: height.min(area.height),
    };
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(Block::new().borders(Borders::ALL).title(" Keys ")), place);
}
