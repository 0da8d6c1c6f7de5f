//! What the full screens share: the terminal and its keys, actions that go on beside it, colors where they are wanted, bars, and text
//! that fits its columns.

use crate::failure::BadInput;
use crate::printer::Printer;
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use framewake_proto::api::{JobState, JobView, TaskCounts, WorkerState};
use framewake_proto::client::Error;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph};
use std::borrow::Cow;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The whole terminal and who sits at it. Gives the terminal back however this ends.
pub(crate) struct Screen {
    terminal: ratatui::DefaultTerminal,
    events: mpsc::Receiver<Event>,
    terminate: Signal,
    hang_up: Signal,
}

/// What comes from who sits at the terminal.
pub(crate) enum Heard {
    Key(KeyEvent),
    /// Another size, which the next drawing takes, or nothing that means anything.
    Other,
    /// The terminal is gone, or the program is to end.
    Gone,
}

impl Screen {
    pub(crate) fn take() -> std::io::Result<Screen> {
        let (terminate, hang_up) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
        Ok(Screen { terminal: ratatui::try_init()?, events: events(), terminate, hang_up })
    }

    pub(crate) fn draw(&mut self, draw: impl FnOnce(&mut Frame)) -> std::io::Result<()> {
        self.terminal.draw(draw).map(|_| ())
    }

    pub(crate) async fn hears(&mut self) -> Heard {
        tokio::select! {
            event = self.events.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => Heard::Key(key),
                Some(_) => Heard::Other,
                None => Heard::Gone,
            },
            _ = self.terminate.recv() => Heard::Gone,
            _ = self.hang_up.recv() => Heard::Gone,
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// What is typed, from a thread that ends with the program: a terminal can only be waited for.
fn events() -> mpsc::Receiver<Event> {
    let (send, events) = mpsc::channel(16);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if send.blocking_send(event).is_err() {
                return;
            }
        }
    });
    events
}

/// Ctrl-C, by which one leaves whatever is in front.
pub(crate) fn is_interrupt(key: KeyEvent) -> bool {
    key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL)
}

/// What a key stands for. Only plain and shifted keys are commands: who presses Ctrl-P wants the line before, as in a shell, and no
/// pause; what has no such meaning means nothing.
pub(crate) fn code_of(key: KeyEvent) -> KeyCode {
    match key.code {
        code if (key.modifiers - KeyModifiers::SHIFT).is_empty() => code,
        KeyCode::Char('p') if key.modifiers == KeyModifiers::CONTROL => KeyCode::Up,
        KeyCode::Char('n') if key.modifiers == KeyModifiers::CONTROL => KeyCode::Down,
        // So some terminals send a backspace.
        KeyCode::Char('h') if key.modifiers == KeyModifiers::CONTROL => KeyCode::Backspace,
        _ => KeyCode::Null,
    }
}

/// What is done with a job, beside the screen: a scheduler that is slow, or hangs, holds up neither keys nor drawing.
#[derive(Debug, Default)]
pub(crate) struct Deed(Option<(&'static str, JoinHandle<Result<JobView, Error>>)>);

impl Deed {
    /// Begins one, unless another is under way: what a key means depends on what became of the last.
    pub(crate) fn begin(
        &mut self,
        name: &'static str,
        deed: impl Future<Output = Result<JobView, Error>> + Send + 'static,
    ) {
        if self.0.is_none() {
            self.0 = Some((name, tokio::spawn(deed)));
        }
    }

    /// What the scheduler makes of the one that is under way; waits for ever without one.
    pub(crate) async fn done(&mut self) -> (&'static str, Result<JobView, Error>) {
        let Some((name, deed)) = &mut self.0 else { return std::future::pending().await };
        let (name, done) = (*name, deed.await.expect("it does not panic, and nobody aborts it"));
        self.0 = None;
        (name, done)
    }

    /// That one is under way, in the words of the footer.
    pub(crate) fn words(&self) -> Option<String> {
        self.0.as_ref().map(|(name, _)| format!("{name}: no answer yet, and nothing else is done before; q leaves"))
    }

    /// What is to be known of it by who leaves now.
    pub(crate) fn leave(self, printer: &Printer) {
        if let Some((name, _)) = self.0 {
            printer.note(format_args!("{name}: the scheduler has not answered; it may be done yet"));
        }
    }
}

/// Refuses where there is nothing to draw on.
pub(crate) fn needs_terminal(printer: &Printer, command: &str, instead: &str) -> anyhow::Result<()> {
    if printer.is_live() {
        return Ok(());
    }
    let refusal = BadInput::new(format!("`{command}` draws on a terminal, and this is none"));
    Err(refusal.hint(format!("for programs there are: {instead}")).into())
}

/// Colors where they are wanted; else weight alone tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint(pub(crate) bool);

impl Paint {
    pub(crate) fn of(self, color: Color) -> Style {
        if self.0 { Style::new().fg(color) } else { Style::new() }
    }

    pub(crate) fn dim() -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(crate) fn job(self, state: JobState) -> Style {
        match state {
            JobState::Running => self.of(Color::Cyan),
            JobState::Succeeded => self.of(Color::Green),
            JobState::Failed => self.of(Color::Red).bold(),
            JobState::Paused => self.of(Color::Yellow),
            JobState::Queued | JobState::Canceled => Paint::dim(),
        }
    }

    pub(crate) fn worker(self, state: WorkerState) -> Style {
        match state {
            WorkerState::Busy => self.of(Color::Cyan),
            WorkerState::Starting | WorkerState::Draining => self.of(Color::Yellow),
            WorkerState::Idle => Paint::dim(),
        }
    }
}

/// Done, failed and open tasks in proportion; whatever there is of one is seen.
pub(crate) fn bar(tasks: &TaskCounts, columns: usize, paint: Paint) -> Line<'static> {
    let share = |count: u32| {
        let share = u64::from(count) * columns as u64 / u64::from(tasks.total.max(1));
        usize::try_from(share).expect("at most a bar").max(usize::from(count > 0))
    };
    let failed = share(tasks.failed).min(columns);
    let open = share(tasks.open).min(columns - failed);
    let done = share(tasks.done).min(columns - failed - open);
    let rest = columns - done - failed - open;
    Line::from(vec![
        Span::styled("━".repeat(done), paint.of(Color::Green)),
        Span::styled("╳".repeat(failed), paint.of(Color::Red)),
        Span::styled("╸".repeat(open), paint.of(Color::Cyan)),
        Span::styled("─".repeat(rest), Paint::dim()),
    ])
}

/// Text in at most so many columns, of which a wide letter takes two, with `…` where some of it was left out.
pub(crate) fn fit(text: &str, columns: usize) -> Cow<'_, str> {
    let whole = Span::raw(text);
    if whole.width() <= columns {
        return Cow::Borrowed(text);
    }
    let mut fitting = String::new();
    let mut left = columns.saturating_sub(1);
    for letter in whole.styled_graphemes(Style::new()) {
        let wide = Span::raw(letter.symbol).width();
        if wide > left {
            break;
        }
        left -= wide;
        fitting.push_str(letter.symbol);
    }
    if columns > 0 {
        fitting.push('…');
    }
    Cow::Owned(fitting)
}

/// One thing at each end of a line; what is at the right stays whole.
pub(crate) fn ends(left: &str, left_style: Style, right: Span<'static>, columns: u16) -> Line<'static> {
    let columns = usize::from(columns);
    let shown = fit(left, columns.saturating_sub(right.width() + 1)).into_owned();
    let gap = columns.saturating_sub(Span::raw(&shown).width() + right.width());
    Line::from(vec![Span::styled(shown, left_style), Span::raw(" ".repeat(gap)), right])
}

/// Text on as many lines as it takes, cut between words where that can be; all but the first are indented.
pub(crate) fn wrap(text: &[Span<'static>], indent: usize, columns: u16) -> Vec<Line<'static>> {
    let columns = usize::from(columns).max(1);
    // On a line of few columns an indent would leave no room.
    let indent = if indent * 2 > columns { 0 } else { indent };
    let (mut lines, mut line, mut at) = (Vec::new(), Vec::new(), 0);
    let mut begin = |line: &mut Vec<Span<'static>>, at: &mut usize| {
        lines.push(Line::from(std::mem::replace(line, vec![Span::raw(" ".repeat(indent))])));
        *at = indent;
    };
    for span in text {
        for word in span.content.split_inclusive(' ') {
            let width = Span::raw(word.trim_end()).width();
            if at + width > columns && at > indent && indent + width <= columns {
                begin(&mut line, &mut at);
            }
            let mut part = String::new();
            for letter in Span::raw(word).styled_graphemes(Style::new()) {
                let wide = Span::raw(letter.symbol).width();
                // A blank at the end of a line is seen by nobody, and begins no line.
                if at + wide > columns && letter.symbol != " " && at > indent {
                    line.push(Span::styled(std::mem::take(&mut part), span.style));
                    begin(&mut line, &mut at);
                }
                part.push_str(letter.symbol);
                at += wide;
            }
            line.push(Span::styled(part, span.style));
        }
    }
    begin(&mut line, &mut at);
    lines
}

/// The keys and what they do, over the middle of the screen.
pub(crate) fn draw_help(frame: &mut Frame, keys: &[(&str, &str)]) {
    let lines: Vec<Line> = keys.iter().map(|(keys, what)| Line::from(format!(" {keys:<10} {what}"))).collect();
    let widest = lines.iter().map(Line::width).max().unwrap_or(0);
    let [width, height] = [widest + 3, lines.len() + 2].map(|side| u16::try_from(side).expect("few"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_by_columns_and_never_within_a_letter() {
        for (text, columns, expected) in [
            ("plain", 5, "plain"),
            ("plain", 4, "pla…"),
            ("漢字漢字", 8, "漢字漢字"),
            ("漢字漢字", 7, "漢字漢…"),
            ("漢字漢字", 6, "漢字…"),
            ("e\u{301}e\u{301}e\u{301}", 2, "e\u{301}…"),
            ("x", 0, ""),
        ] {
            let fitted = fit(text, columns);
            assert_eq!(fitted, expected, "{text} in {columns}");
            assert!(Span::raw(&*fitted).width() <= columns);
        }
    }

    #[test]
    fn long_text_is_cut_between_words_and_nothing_of_it_is_lost() {
        let check = |text: &str, indent, columns, expected: &[&str]| {
            let lines = wrap(&[Span::raw(text.to_owned())], indent, columns);
            assert!(lines.iter().all(|line| line.to_string().trim_end().chars().count() <= usize::from(columns)));
            let lines: Vec<String> = lines.iter().map(|line| line.to_string().trim_end().to_owned()).collect();
            assert_eq!(lines, expected, "{text} in {columns}");
        };
        check("the renderer exited", 2, 40, &["the renderer exited"]);
        check("the renderer exited", 2, 14, &["the renderer", "  exited"]);
        check("the renderer exited", 2, 12, &["the renderer", "  exited"]);
        check("a verylongwordthatfitsnowhere b", 1, 10, &["a verylong", " wordthatf", " itsnowher", " e b"]);
        check("漢字漢字", 0, 5, &["漢字", "漢字"]);
        check("", 2, 10, &[""]);
        check("abc", 2, 1, &["a", "b", "c"]);
    }

    #[test]
    fn only_plain_and_shifted_keys_are_commands() {
        use KeyCode::{Backspace, Char, Down, Null, Tab, Up};
        let (plain, shift) = (KeyModifiers::NONE, KeyModifiers::SHIFT);
        let (control, alt) = (KeyModifiers::CONTROL, KeyModifiers::ALT);
        for (code, modifiers, expected) in [
            (Char('p'), plain, Char('p')),
            (Char('+'), shift, Char('+')),
            (KeyCode::BackTab, shift, KeyCode::BackTab),
            (Char('p'), control, Up),
            (Char('n'), control, Down),
            (Char('h'), control, Backspace),
            (Char('r'), control, Null),
            (Char('p'), control | alt, Null),
            (Char('p'), alt, Null),
            (Char('y'), alt | shift, Null),
            (Char('q'), KeyModifiers::SUPER, Null),
            (Tab, control, Null),
        ] {
            assert_eq!(code_of(KeyEvent::new(code, modifiers)), expected, "{code:?} {modifiers:?}");
        }
        assert!(is_interrupt(KeyEvent::new(Char('c'), control)));
        assert!(!is_interrupt(KeyEvent::new(Char('c'), plain)));
    }

    #[test]
    fn a_bar_has_its_columns_and_shows_whatever_there_is() {
        for (total, open, done, failed) in [(1_000_000, 1, 999_998, 1), (0, 0, 0, 0), (3, 1, 1, 1), (10, 5, 0, 5)] {
            let waiting = total - open - done - failed;
            let tasks = TaskCounts { total, waiting, open, done, failed, canceled: 0 };
            for columns in [4, 16, 200] {
                let line = bar(&tasks, columns, Paint(false));
                assert_eq!(line.width(), columns, "{tasks:?}");
                let text: String = line.spans.iter().map(|span| span.content.as_ref()).collect();
                assert_eq!((text.contains('╳'), text.contains('╸')), (failed > 0, open > 0), "{text}");
            }
        }
    }

    #[test]
    fn a_line_has_both_ends_and_the_right_one_stays_whole() {
        let text = |columns| {
            let line = ends("a long name 漢字", Style::new(), Span::raw("running"), columns);
            (line.width(), line.spans.iter().map(|span| span.content.to_string()).collect::<String>())
        };
        assert_eq!(text(30), (30, "a long name 漢字       running".to_owned()));
        assert_eq!(text(14), (14, "a lon… running".to_owned()));
        assert_eq!(text(5).1, "running");
    }
}
