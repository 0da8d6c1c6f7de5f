//! What the lower half of the screen tells, as lines: nothing is cut off, what has no room beside goes beneath, and one scrolls.

use super::state::{State, Tab};
use crate::full_screen::{Paint, wrap};
use crate::job::step_word;
use crate::text;
use framewake_proto::api::{GpuState, JobView, Page, PlaceState, WorkerState, WorkerView};
use framewake_proto::overview::{ErrorGlance, TriesGlance};
use framewake_proto::time::Timestamp;
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};

/// Between two columns.
const GAP: usize = 2;
/// Columns that a sentence needs beside the others; with less it is told beneath them.
const SAID_COLUMNS_MIN: usize = 30;

/// What one row tells.
struct Entry {
    cells: Vec<Span<'static>>,
    /// A sentence, as long as it is.
    said: String,
    /// A command that shows more, on a line of its own, so that it can be copied.
    command: Option<String>,
}

/// Titles of the columns, the last that of sentences. Without columns, small letters stand before what they name.
type Titles = &'static [&'static str];

/// The line of titles, where there are columns, and what is beneath it.
pub(super) fn lines(state: &State, paint: Paint, width: u16) -> (Option<Line<'static>>, Vec<Line<'static>>) {
    let look = &state.look;
    let (titles, entries, empty, more): (Titles, Vec<Entry>, _, _) = match state.tab {
        Tab::Job => return (None, about_job(state, paint, width)),
        Tab::Workers => (
            &["WORKER", "FUNCTION", "STATE", "HOST", "DOES"],
            look.workers.items.iter().map(|worker| worker_entry(worker, paint)).collect(),
            "No workers: they start when there is work, and leave when there is none.",
            more_of(&look.workers, look.farm.workers.all(), "framewake workers"),
        ),
        Tab::Gpus => (
            &["GPU", "FUNCTION", "HOST", "busy", "memory", ""],
            look.gpus.items.iter().map(|gpu| gpu_entry(gpu, paint)).chain(unwell(state, paint)).collect(),
            "No worker has a GPU now.",
            more_gpus(state),
        ),
        Tab::Functions => (
            &["FUNCTION", "there", "starting", "wanted", "WHY NOT MORE"],
            functions(state),
            "No functions: framewake functions add samples/functions/povray.yaml",
            more_of(&look.functions, 0, "framewake functions"),
        ),
        Tab::Errors => (
            &["WHY", "COUNT", "last", "WHERE", "WHAT WAS SAID"],
            errors(state, paint),
            "Nothing failed in the last hour.",
            (look.farm.errors_more || look.farm.tries_more)
                .then(|| "and more than are told here: framewake jobs --state failed".to_owned()),
        ),
    };
    if entries.is_empty() {
        return (None, wrap(&[Span::raw(empty)], 0, width));
    }
    let (head, mut lines) = listed(titles, entries, width);
    if let Some(more) = more {
        lines.extend(wrap(&[Span::styled(more, Paint::dim())], GAP, width));
    }
    (head, lines)
}

/// Side by side where there is room for the longest of each column, else one after the other.
fn listed(titles: Titles, entries: Vec<Entry>, width: u16) -> (Option<Line<'static>>, Vec<Line<'static>>) {
    let of_column = |at: usize| entries.iter().map(move |entry| entry.cells.get(at).map_or(0, Span::width)).max();
    let (said_title, titles) = titles.split_last().expect("a list has columns");
    let columns: Vec<usize> =
        titles.iter().enumerate().map(|(at, title)| of_column(at).unwrap_or(0).max(title.len())).collect();
    let beside: usize = columns.iter().map(|column| column + GAP).sum();
    let longest = entries.iter().map(|entry| Span::raw(&entry.said).width()).max().unwrap_or(0);
    let has_columns = beside + longest.clamp(said_title.len(), SAID_COLUMNS_MIN) <= usize::from(width);
    let mut lines = Vec::new();
    for entry in entries {
        let mut words = Vec::new();
        for (at, cell) in entry.cells.into_iter().enumerate() {
            let named = titles[at].chars().all(char::is_lowercase);
            if has_columns {
                let gap = (columns[at] + GAP).saturating_sub(cell.width());
                words.extend([cell, Span::raw(" ".repeat(gap))]);
            } else if !cell.content.is_empty() {
                let name = if named { format!("{} ", titles[at]) } else { String::new() };
                words.extend([Span::raw(name), cell, Span::raw(" ".repeat(GAP))]);
            }
        }
        words.push(Span::raw(entry.said));
        lines.extend(wrap(&words, if has_columns { beside } else { 2 * GAP }, width));
        if let Some(command) = entry.command {
            let words = [Span::raw(" ".repeat(2 * GAP)), Span::styled(command, Paint::dim())];
            lines.extend(wrap(&words, 2 * GAP, width));
        }
    }
    let head = has_columns.then(|| {
        let title = |(title, column): (&&str, usize)| format!("{:<1$}", title.to_uppercase(), column + GAP);
        let titles: String = titles.iter().zip(columns).map(title).collect();
        Line::from(titles + said_title).bold()
    });
    (head, lines)
}

/// What a list whose page is not the last leaves out, of so many that there are, where that is known.
fn more_of<T>(page: &Page<T>, count: u32, instead: &str) -> Option<String> {
    page.next.as_ref()?;
    let shown = u32::try_from(page.items.len()).unwrap_or(u32::MAX);
    Some(match count.saturating_sub(shown) {
        0 => format!("and more than these: {instead}"),
        more => format!("and {more} more: {instead}"),
    })
}

fn more_gpus(state: &State) -> Option<String> {
    let look = &state.look;
    let count = look.farm.gpus.iter().map(|model| model.count).sum();
    let gpus = more_of(&look.gpus, count, "framewake workers --json");
    gpus.or_else(|| more_of(&look.places, 0, "framewake workers places"))
}

/// Steps, why they wait, and what failed with the command that shows more.
fn about_job(state: &State, paint: Paint, width: u16) -> Vec<Line<'static>> {
    let Some(job) = state.job() else { return Vec::new() };
    let mut lines = wrap(&[Span::raw(format!("{}  {}", job.id, text::clean(&job.name)))], GAP, width);
    let about = format!("  project {}, priority {}, submitted {} ago", job.project, job.priority, age(job));
    lines.extend(wrap(&[Span::styled(about, Paint::dim())], GAP, width));
    for step in &job.steps {
        let pace = step.task_s.map_or(String::new(), |seconds| format!("  {seconds:.1} s a frame"));
        let failed = match step.tasks.failed {
            0 => String::new(),
            failed => format!("  {failed} failed"),
        };
        let words = [
            Span::raw(match width {
                ..70 => format!("  {}  {}  ", step.name, step.function),
                _ => format!("  {:<20} {:<24} ", step.name, step.function),
            }),
            Span::styled(step_word(step.state), paint.of(Color::Cyan)),
            Span::raw(format!("  {}/{}{pace}", step.tasks.done, step.tasks.total)),
            Span::styled(failed, paint.of(Color::Red)),
        ];
        lines.extend(wrap(&words, 2 * GAP, width));
    }
    // What was asked about another job is not of this one.
    if state.look.about != Some(job.id) {
        return lines;
    }
    for reason in &state.look.reasons {
        let words = format!("  waits: {}", text::clean(reason));
        lines.extend(wrap(&[Span::styled(words, paint.of(Color::Yellow))], 2 * GAP, width));
    }
    for task in &state.look.failed.items {
        let Some(failure) = &task.failure else { continue };
        let words = format!("  frame {} of {}: ", task.frame, task.step);
        let said = text::clean(&failure.message).into_owned();
        lines.extend(wrap(&[Span::styled(words, paint.of(Color::Red)), Span::raw(said)], 2 * GAP, width));
        let command = format!("    framewake logs {} {}", job.id, text::clean(&failure.attempt));
        lines.extend(wrap(&[Span::styled(command, Paint::dim())], 2 * GAP, width));
    }
    let command = format!("framewake frames {} --failed", job.id);
    if let Some(more) = more_of(&state.look.failed, job.tasks.failed, &command) {
        lines.extend(wrap(&[Span::styled(format!("  {more}"), Paint::dim())], 2 * GAP, width));
    }
    lines
}

fn age(job: &JobView) -> String {
    text::duration(Timestamp::now().since(job.submitted_at))
}

fn worker_entry(worker: &WorkerView, paint: Paint) -> Entry {
    let does = match &worker.attempt {
        Some(attempt) => format!("{} {}% {}", text::clean(attempt), worker.permille / 10, text::clean(&worker.note)),
        None => format!("for {}", text::duration(Timestamp::now().since(worker.since))),
    };
    let cells = vec![
        Span::raw(worker.id.to_string()),
        Span::raw(text::clean(&worker.function).into_owned()),
        Span::styled(worker_word(worker.state), paint.worker(worker.state)),
        Span::raw(text::clean(&worker.host).into_owned()),
    ];
    Entry { cells, said: does.trim_end().to_owned(), command: None }
}

fn worker_word(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Starting => "starting",
        WorkerState::Idle => "idle",
        WorkerState::Busy => "busy",
        WorkerState::Draining => "draining",
    }
}

fn gpu_entry(gpu: &GpuState, paint: Paint) -> Entry {
    // A GPU that its worker holds and does not use is money that goes away.
    let idle = gpu.working && gpu.busy_percent == Some(0);
    let busy = gpu.busy_percent.map_or("–".to_owned(), |percent| format!("{percent}%"));
    let memory = match (gpu.memory_used_bytes, gpu.memory_total_bytes) {
        (Some(used), Some(total)) => format!("{:.1} of {:.0} GiB", gib(used), gib(total)),
        _ => "–".to_owned(),
    };
    let cells = vec![
        Span::raw(format!("{} {}", text::clean(&gpu.model), text::clean(&gpu.uuid))),
        Span::raw(text::clean(&gpu.function).into_owned()),
        Span::raw(text::clean(&gpu.host).into_owned()),
        Span::styled(busy, if idle { paint.of(Color::Yellow) } else { Style::new() }),
        Span::raw(memory),
    ];
    Entry { cells, said: String::new(), command: None }
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// Machines and GPUs that get no work, or less.
fn unwell(state: &State, paint: Paint) -> impl Iterator<Item = Entry> {
    state.look.places.items.iter().map(move |place| {
        let (word, color) = match place.state {
            PlaceState::SetAside => ("set aside", Color::Red),
            PlaceState::Good | PlaceState::Suspect | PlaceState::OnTrial => ("suspect", Color::Yellow),
        };
        let cells = vec![Span::raw(text::clean(&place.name).into_owned()), Span::styled(word, paint.of(color))];
        Entry { cells, said: text::clean(&place.reason).into_owned(), command: None }
    })
}

fn functions(state: &State) -> Vec<Entry> {
    let known = state.look.functions.items.iter();
    let shown = known.filter(|function| function.newest || function.workers.present + function.workers.starting > 0);
    let entries = shown.map(|function| {
        let workers = &function.workers;
        let counts = [workers.present, workers.starting, workers.wanted].map(|count| Span::raw(count.to_string()));
        let name = Span::raw(format!("{}@{}", function.name, function.version));
        let said = workers.reasons.iter().map(|reason| text::clean(reason)).collect::<Vec<_>>().join("; ");
        Entry { cells: std::iter::once(name).chain(counts).collect(), said, command: None }
    });
    entries.collect()
}

/// What failed in the last hour on the whole farm: frames that failed for good, and beneath them every try that failed, by cause and
/// function.
fn errors(state: &State, paint: Paint) -> Vec<Entry> {
    let farm = &state.look.farm;
    let cells = |why: Span<'static>, count, at: Timestamp, place: &str| {
        let last = text::duration(Timestamp::now().since(at));
        vec![why, Span::raw(count), Span::raw(last), Span::raw(text::clean(place).into_owned())]
    };
    let lasting = farm.errors.iter().map(|error: &ErrorGlance| {
        let why = Span::styled(error.verdict.to_string(), paint.of(Color::Red));
        let place = format!("{} of {}", error.step, error.job_name);
        Entry {
            cells: cells(why, text::count(error.tasks, "frame"), error.at, &place),
            said: text::clean(&error.message).into_owned(),
            command: Some(format!("framewake frames {} --failed", error.job)),
        }
    });
    let tries = farm.tries.iter().map(|tries: &TriesGlance| {
        let why = tries.verdict.map_or("worker_lost".to_owned(), |verdict| verdict.to_string());
        let count = if tries.tries == 1 { "1 try".to_owned() } else { format!("{} tries", tries.tries) };
        Entry {
            cells: cells(Span::styled(why, paint.of(Color::Yellow)), count, tries.at, &tries.function),
            said: text::clean(&tries.message).into_owned(),
            command: Some(format!("framewake logs {} {}", tries.job, text::clean(&tries.attempt))),
        }
    });
    lasting.chain(tries).collect()
}
