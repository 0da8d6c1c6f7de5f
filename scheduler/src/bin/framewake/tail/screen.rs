//! How a job is drawn on a full screen. Text of others is cleaned: it must not move the cursor.

use super::log::Log;
use super::look::Look;
use super::state::{Failure, Front, Lines, List, Seen, State};
use crate::full_screen::{Paint, bar, draw_help, ends, fit};
use crate::job::step_word;
use crate::text;
use crate::watch::{Running, range_words};
use framewake_proto::api::{StepMap, StepView};
use framewake_proto::time::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};
use std::collections::VecDeque;

/// Lower than this, only what is needed most is shown, …
const HEIGHT_FULL: u16 = 20;
/// … and lower than this, neither frames nor a log.
const HEIGHT_FRAMES: u16 = 10;
/// Steps that are listed, around the one whose frames are shown.
const STEPS_SHOWN_MAX: usize = 5;
/// Sentences about why the job waits.
const REASONS_SHOWN_MAX: usize = 2;
const HELP: [(&str, &str); 12] = [
    ("1 2, Tab", "workers, failed tries"),
    ("↑ ↓, j k", "choose one: its log is shown"),
    ("PgUp PgDn", "scroll the log"),
    ("Home End", "the log's beginning, its end"),
    ("w", "its long lines whole, or cut"),
    ("Enter", "read the log again"),
    ("← →", "frames of another step"),
    ("p", "pause the job, or let it go on"),
    ("r", "try its failed frames again"),
    ("+ -", "raise or lower its priority"),
    ("c", "cancel it, after a question"),
    ("q, Esc", "leave; the job goes on"),
];

pub(super) fn draw(frame: &mut Frame, seen: &Seen, state: &mut State, log: &Log, look: Option<&Look>) {
    let (area, paint) = (frame.area(), Paint(state.colors));
    let (full, frames) = (area.height >= HEIGHT_FULL, area.height >= HEIGHT_FRAMES);
    let reasons = look.filter(|_| frames && seen.running.is_empty() && !seen.job.state.is_over());
    let reasons = reasons.map_or(&[][..], |look| &look.reasons[..look.reasons.len().min(REASONS_SHOWN_MAX)]);
    let steps = if full && seen.job.steps.len() > 1 { seen.job.steps.len().min(STEPS_SHOWN_MAX) } else { 0 };
    let rows = match state.list {
        List::Workers => seen.running.len(),
        List::Failures => seen.failures.len(),
    };
    let list = match (full, frames) {
        (true, _) => rows.clamp(1, usize::from(area.height) / 4),
        (false, true) => rows.clamp(1, 2),
        (false, false) => 1,
    };
    let lines = |lines: usize| Constraint::Length(u16::try_from(lines).unwrap_or(u16::MAX));
    let [head, about, progress, counts, steps_at, strip, legend, waits, tabs, list_at, title, log_at, foot] =
        Layout::vertical([
            lines(1),
            lines(usize::from(full)),
            lines(1),
            lines(1),
            lines(steps),
            lines(usize::from(frames)),
            lines(usize::from(full)),
            lines(reasons.len()),
            lines(1),
            lines(list),
            lines(usize::from(frames)),
            Constraint::Min(0),
            lines(1),
        ])
        .areas(area);
    let width = area.width;
    let job = &seen.job;
    let job_state = Span::styled(job.state.as_str(), paint.job(job.state));
    let draw = |frame: &mut Frame, line: Line<'static>, at: Rect| frame.render_widget(Paragraph::new(line), at);
    draw(frame, ends(&text::clean(&job.name), Style::new().bold(), job_state, width), head);
    draw(frame, about_job(seen, width), about);
    draw(frame, bar(&job.tasks, usize::from(width), paint), progress);
    draw(frame, Line::from(fit(&count_words(seen), usize::from(width)).into_owned()), counts);
    frame.render_widget(Paragraph::new(step_lines(seen, state, paint, width)), steps_at);
    state.strip_columns = u32::from(width);
    if let Some(step) = state.step(job) {
        let map = look.filter(|look| look.step == step.name).map(|look| &look.map);
        draw(frame, map.map_or_else(Line::default, |map| strip_line(map, width, paint)), strip);
        draw(frame, legend_line(step, paint, width), legend);
    }
    let reasons = reasons.iter().map(|reason| format!("waits: {}", text::clean(reason)));
    let reasons =
        reasons.map(|words| Line::styled(fit(&words, usize::from(width)).into_owned(), paint.of(Color::Yellow)));
    frame.render_widget(Paragraph::new(reasons.collect::<Vec<_>>()), waits);
    draw(frame, titles(seen, state), tabs);
    draw_list(frame, seen, state, paint, list_at);
    draw(frame, log_title(log, width), title);
    draw_log(frame, log, state, log_at);
    draw(frame, footer(seen, state, paint, width), foot);
    if state.front == Front::Help {
        draw_help(frame, &HELP);
    }
}

fn about_job(seen: &Seen, width: u16) -> Line<'static> {
    let job = &seen.job;
    let until = job.finished_at.unwrap_or_else(Timestamp::now);
    let age = text::duration(until.since(job.submitted_at));
    let words = format!("{}  project {}, priority {}, {age} since it was submitted", job.id, job.project, job.priority);
    Line::styled(fit(&words, usize::from(width)).into_owned(), Paint::dim())
}

/// What is wanted most comes first: a narrow screen has no more.
fn count_words(seen: &Seen) -> String {
    let tasks = &seen.job.tasks;
    let share = u64::from(tasks.done) * 100 / u64::from(tasks.total.max(1));
    let mut words = vec![format!("{} of {} done", tasks.done, tasks.total)];
    if tasks.failed > 0 {
        words.push(format!("{} failed", tasks.failed));
    }
    if let Some(left) = seen.left.filter(|_| !seen.job.state.is_over()) {
        words.push(format!("{} left", range_words(left)));
    }
    words.push(format!("{share} %"));
    if let Some(per_s) = seen.per_s.filter(|_| !seen.job.state.is_over()) {
        words.push(text::rate(per_s));
    }
    if tasks.open > 0 {
        words.push(format!("{} with workers", tasks.open));
    }
    words.join(" · ")
}

fn step_lines(seen: &Seen, state: &State, paint: Paint, width: u16) -> Vec<Line<'static>> {
    let steps = &seen.job.steps;
    let shown = state.step(&seen.job).and_then(|shown| steps.iter().position(|step| step.name == shown.name));
    let first = shown.unwrap_or(0).saturating_sub(STEPS_SHOWN_MAX / 2).min(steps.len().saturating_sub(STEPS_SHOWN_MAX));
    let line = |(at, step): (usize, &StepView)| {
        let mark = if Some(at) == shown { "▶ " } else { "  " };
        let words = format!("{mark}{:<16} ", fit(step.name.as_str(), 16));
        let counts = format!(" {}/{} {}", step.tasks.done, step.tasks.total, step_word(step.state));
        let columns = usize::from(width).saturating_sub(words.chars().count() + counts.chars().count()).min(40);
        let mut spans = vec![Span::raw(words)];
        spans.extend(bar(&step.tasks, columns, paint).spans);
        spans.push(Span::raw(counts));
        Line::from(spans)
    };
    steps.iter().enumerate().skip(first).take(STEPS_SHOWN_MAX).map(line).collect()
}

/// How much of a column is done, from none to all.
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A letter for each column of frames: what failed is seen even among many, then what is with a worker.
fn strip_line(map: &StepMap, width: u16, paint: Paint) -> Line<'static> {
    let columns = usize::from(width).min(map.size.len() * 3);
    let at = |column: usize| column * map.size.len() / columns.max(1);
    let letter = |column: usize| {
        let at = at(column);
        let (size, done) = (map.size[at].max(1), map.done[at]);
        let share = usize::try_from(u64::from(done) * (HEIGHTS.len() as u64 - 1) / u64::from(size)).unwrap_or(0);
        if map.failed[at] > 0 {
            Span::styled("╳", paint.of(Color::Red))
        } else if done == size {
            Span::styled("█", paint.of(Color::Green))
        } else if map.open[at] > 0 {
            Span::styled("░", paint.of(Color::Cyan))
        } else if done > 0 {
            Span::styled(HEIGHTS[share].to_string(), paint.of(Color::Green))
        } else {
            Span::styled("·", Paint::dim())
        }
    };
    (0..columns).map(letter).collect::<Vec<_>>().into()
}

fn legend_line(step: &StepView, paint: Paint, width: u16) -> Line<'static> {
    let frames = text::clean(&step.frames);
    let words = format!("frames {frames} of {}", step.name);
    let signs = [("█ done", Color::Green), ("░ with a worker", Color::Cyan), ("╳ failed", Color::Red)];
    let room = usize::from(width).saturating_sub(signs.iter().map(|(sign, _)| sign.chars().count() + 2).sum());
    let mut spans = Vec::new();
    // On a narrow screen the signs alone would fill it.
    if room >= 24 {
        for (sign, color) in signs {
            spans.extend([Span::styled(sign, paint.of(color)), Span::raw("  ")]);
        }
    }
    let room = if room >= 24 { room } else { usize::from(width) };
    spans.push(Span::styled(fit(&words, room).into_owned(), Paint::dim()));
    Line::from(spans)
}

fn titles(seen: &Seen, state: &State) -> Line<'static> {
    let title = |number: u32, words: String, list: List| {
        let title = format!(" {number} {words} ");
        if state.list == list { Span::raw(title).reversed() } else { Span::raw(title) }
    };
    Line::from(vec![
        title(1, text::count(seen.running.len() as u64, "worker"), List::Workers),
        Span::raw(" "),
        title(2, format!("failed tries: {}", seen.failed_tries), List::Failures),
    ])
}

fn draw_list(frame: &mut Frame, seen: &Seen, state: &State, paint: Paint, area: Rect) {
    let width = usize::from(area.width);
    let mut lines: Vec<Line> = match state.list {
        List::Workers => {
            seen.running.iter().map(|(attempt, running)| worker_line(attempt, running, width, paint)).collect()
        }
        List::Failures => seen.failures.iter().map(|failure| failure_line(failure, width, paint)).collect(),
    };
    if lines.is_empty() {
        let words = match state.list {
            List::Workers => "No worker is on it now.",
            List::Failures => "Nothing failed while this looked.",
        };
        frame.render_widget(Paragraph::new(words).style(Paint::dim()), area);
        return;
    }
    let height = usize::from(area.height);
    let first = state.row.saturating_sub(height.saturating_sub(1));
    if let Some(line) = lines.get_mut(state.row) {
        *line = std::mem::take(line).reversed();
    }
    frame.render_widget(Paragraph::new(lines.into_iter().skip(first).take(height).collect::<Vec<_>>()), area);
}

fn worker_line(attempt: &str, running: &Running, width: usize, paint: Paint) -> Line<'static> {
    let place = match running.frame {
        Some(frame) => format!("frame {frame}"),
        None if running.frames.is_empty() => String::new(),
        None => format!("frames {}", text::clean(&running.frames)),
    };
    let share = format!("{:>3} % ", running.permille.min(1000) / 10);
    let words = format!("{place:<12} {}  {}  {}", running.worker, text::clean(attempt), text::clean(&running.note));
    let room = width.saturating_sub(share.len());
    Line::from(vec![Span::styled(share, paint.of(Color::Cyan)), Span::raw(fit(words.trim_end(), room).into_owned())])
}

fn failure_line(failure: &Failure, width: usize, paint: Paint) -> Line<'static> {
    let (word, color) = if failure.again { ("tried again", Color::Yellow) } else { ("for good   ", Color::Red) };
    let words = format!(
        " {} {}: {}, attempt {}",
        text::clean(&failure.step),
        failure.frame,
        text::clean(&failure.words),
        text::clean(&failure.attempt)
    );
    let room = width.saturating_sub(word.len());
    Line::from(vec![Span::styled(word, paint.of(color)), Span::raw(fit(&words, room).into_owned())])
}

fn log_title(log: &Log, width: u16) -> Line<'static> {
    let words = match &log.attempt {
        Some(attempt) => format!("── log of attempt {} ", text::clean(attempt)),
        None => "── log ".to_owned(),
    };
    let rest = usize::from(width).saturating_sub(words.chars().count());
    Line::styled(fit(&(words + &"─".repeat(rest)), usize::from(width)).into_owned(), Paint::dim())
}

/// The last lines that fit, or as far back as was scrolled.
fn draw_log(frame: &mut Frame, log: &Log, state: &mut State, area: Rect) {
    let height = usize::from(area.height);
    let mut lines: Vec<&str> = log.lines.iter().map(String::as_str).collect();
    // An end of line begins no line yet.
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    let broken = log.broken.as_ref().map(|why| format!("{}; Enter reads it again", text::clean(why)));
    if lines.is_empty() && broken.is_none() {
        let words = match (&log.attempt, log.is_read()) {
            (None, _) => "Whatever a worker says is shown here.",
            (Some(_), true) => "Nothing was said yet.",
            (Some(_), false) => "Nothing was said.",
        };
        frame.render_widget(Paragraph::new(words).style(Paint::dim()).wrap(Wrap { trim: true }), area);
        return;
    }
    lines.extend(broken.as_deref());
    // A tab has no width of its own on this screen.
    let plain = |line: &str| line.replace('\t', "    ");
    let columns = usize::from(area.width).max(1);
    let mut shown = VecDeque::new();
    let mut above = lines.len();
    // From the end, as far as is scrolled back: a log is long, and drawn often.
    while above > 0 && shown.len() < state.back.saturating_add(height) {
        above -= 1;
        let line = plain(lines[above]);
        if state.lines == Lines::Whole {
            for piece in pieces(&line, columns).into_iter().rev() {
                shown.push_front(piece);
            }
        } else {
            shown.push_front(fit(&line, columns).into_owned());
        }
    }
    state.back = state.back.min(shown.len().saturating_sub(height));
    let end = shown.len() - state.back;
    let shown = shown.into_iter().take(end).skip(end.saturating_sub(height)).map(Line::from);
    frame.render_widget(Paragraph::new(shown.collect::<Vec<_>>()), area);
}

/// A line in pieces that are as wide as the screen: words are not told apart, as a terminal does.
fn pieces(line: &str, columns: usize) -> Vec<String> {
    let (mut pieces, mut piece, mut at) = (Vec::new(), String::new(), 0);
    for letter in Span::raw(line).styled_graphemes(Style::new()) {
        let wide = Span::raw(letter.symbol).width();
        if at + wide > columns && at > 0 {
            pieces.push(std::mem::take(&mut piece));
            at = 0;
        }
        piece.push_str(letter.symbol);
        at += wide;
    }
    pieces.push(piece);
    pieces
}

fn footer(seen: &Seen, state: &State, paint: Paint, width: u16) -> Line<'static> {
    let fitted = |words: &str| fit(words, usize::from(width)).into_owned();
    if state.front == Front::Question {
        let words = fitted("Cancel it? What runs is stopped. y: yes, any other key: no");
        return Line::styled(words, paint.of(Color::Red).bold());
    }
    if let Some(words) = state.deed.words() {
        return Line::styled(fitted(&words), paint.of(Color::Yellow));
    }
    if let Some(lost) = &seen.lost {
        return Line::styled(fitted(&format!("old figures: {}", text::clean(lost))), paint.of(Color::Red));
    }
    if let Some(said) = &state.said {
        return Line::from(fitted(&text::clean(said)));
    }
    let words = match (seen.job.state.is_over(), width) {
        (true, _) => "It is over.  q leave  r try failed frames again  ↑↓ logs",
        (false, ..60) => "? keys  p pause  r retry  c cancel  q leave",
        (false, 60..98) => "? keys  ↑↓ its log  w long lines  p pause  r retry  c cancel  q leave",
        (false, _) => {
            "↑↓ its log  Tab list  PgUp log  w long lines  p pause  r retry  +- priority  c cancel  ? help  q leave"
        }
    };
    Line::styled(fitted(words), Paint::dim())
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::seen;
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn map(columns: usize) -> StepMap {
        let none = || vec![None; columns];
        let mut map = StepMap {
            total: 96,
            size: vec![2; columns],
            done: vec![0; columns],
            failed: vec![0; columns],
            open: vec![0; columns],
            mean_ms: none(),
            max_ms: none(),
            sampled: false,
        };
        (map.done[0], map.done[1], map.failed[2], map.open[3]) = (2, 1, 1, 1);
        map
    }

    fn drawn(width: u16, height: u16) -> String {
        let (seen, mut state) = (seen(), State::new(false));
        let mut log = Log::default();
        log.lines.extend(["Fra:1 漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字", "end"].map(str::to_owned));
        let look = Look {
            step: "render".parse().expect("a name"),
            map: map(usize::from(width).max(4)),
            reasons: vec!["no worker is there yet: one is starting".to_owned()],
        };
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("it has a size");
        terminal.draw(|frame| draw(frame, &seen, &mut state, &log, Some(&look))).expect("it is drawn");
        terminal.backend().to_string()
    }

    #[test]
    fn it_fits_every_size_and_says_what_matters_most_on_each() {
        for (width, height) in [(40, 12), (80, 24), (200, 60), (30, 10), (20, 6), (1, 1)] {
            let text = drawn(width, height);
            if height >= 6 {
                for words in ["orbit 漢字", "running", "9 of 96 done"] {
                    assert!(text.contains(words), "`{words}` is not on {width}×{height}:\n{text}");
                }
            }
            if height >= 10 {
                for words in ["█", "╳", "░", "log"] {
                    assert!(text.contains(words), "`{words}` is not on {width}×{height}:\n{text}");
                }
            }
            if height >= 24 {
                for words in ["waits: no worker", "render", "encode", "frames 1-96", "Fra:1 漢字", "end"] {
                    assert!(text.contains(words), "`{words}` is not on {width}×{height}:\n{text}");
                }
            }
        }
    }

    #[test]
    fn long_lines_of_a_log_are_whole_by_a_key_and_every_piece_of_them_is_reached() {
        let mut log = Log::default();
        let long = (0..40).map(|number| format!("word{number:02}")).collect::<Vec<_>>().join(" ");
        log.lines.extend([long.clone(), "漢".repeat(30), "end".to_owned()]);
        let mut state = State::new(false);
        let drawn = |state: &mut State| {
            let mut terminal = Terminal::new(TestBackend::new(41, 4)).expect("it has a size");
            terminal.draw(|frame| draw_log(frame, &log, state, frame.area())).expect("it is drawn");
            let cells = terminal.backend().buffer().content().chunks(41);
            cells.map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>()).collect::<Vec<_>>()
        };
        let cut = drawn(&mut state);
        assert!(cut[0].contains("word00") && cut[0].trim_end().ends_with('…') && cut[2].contains("end"), "{cut:?}");
        state.lines = Lines::Whole;
        state.back = usize::MAX;
        let mut seen = String::new();
        loop {
            let rows = drawn(&mut state);
            seen.push_str(&rows[0]);
            if state.back == 0 {
                seen.extend(rows.into_iter().skip(1));
                break;
            }
            state.back -= 1;
        }
        assert!(seen.starts_with(&long), "{seen}");
        assert!(seen.trim_end().ends_with("end"), "{seen}");
    }

    #[test]
    fn each_column_shows_the_worst_of_its_frames() {
        let text: String =
            strip_line(&map(6), 6, Paint(false)).spans.iter().map(|span| span.content.to_string()).collect();
        assert_eq!(text, "█▄╳░··");
        // Few frames are drawn wide, so that they are seen at all.
        let wide = strip_line(&map(4), 80, Paint(false));
        assert_eq!(wide.width(), 12);
    }
}
