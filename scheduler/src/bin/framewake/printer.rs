//! The one place that writes to stdout and stderr: colors only for a terminal, JSON when asked for.

use crate::text;
use comfy_table::{Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Table, Width};
use indicatif::ProgressDrawTarget;
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Stderr, Stdout, Write as _};
use std::sync::Mutex;

/// Narrower than this, wrapped text is not worth reading.
const ELASTIC_WIDTH_MIN: u16 = 14;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Good,
    Bad,
    Busy,
    Warn,
    Weak,
    Strong,
}

impl Style {
    /// Select Graphic Rendition parameter.
    fn code(self) -> &'static str {
        match self {
            Style::Good => "32",
            Style::Bad => "31",
            Style::Busy => "36",
            Style::Warn => "33",
            Style::Weak => "2",
            Style::Strong => "1",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Printer {
    json: bool,
    wants_color: bool,
    out: Stdout,
    notes: Stderr,
    /// Said when the user interrupts.
    farewell: Mutex<Option<String>>,
}

impl Printer {
    pub(crate) fn new(json: bool) -> Printer {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Printer { json, wants_color: !no_color, out: io::stdout(), notes: io::stderr(), farewell: Mutex::new(None) }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person reads stdout.
    pub(crate) fn is_terminal(&self) -> bool {
        self.out.is_terminal()
    }

    /// Whether bars can be drawn and moved: both streams go to a terminal and nobody wants JSON.
    pub(crate) fn is_live(&self) -> bool {
        self.is_terminal() && self.notes.is_terminal() && !self.json
    }

    pub(crate) fn has_color(&self) -> bool {
        self.is_terminal() && self.wants_color && !self.json
    }

    /// Columns of the terminal that stdout is, if it is one.
    pub(crate) fn width(&self) -> Option<usize> {
        Table::new().width().filter(|_| self.is_terminal()).map(usize::from)
    }

    pub(crate) fn line(&self, line: impl Display) -> io::Result<()> {
        writeln!(self.out.lock(), "{line}")
    }

    /// One value on a line.
    pub(crate) fn json(&self, value: &impl Serialize) -> io::Result<()> {
        let line = serde_json::to_string(value).map_err(io::Error::other)?;
        self.line(text::clean_json(&line))
    }

    pub(crate) fn raw(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = self.out.lock();
        out.write_all(bytes)?;
        out.flush()
    }

    /// Something beside the result, for people, on stderr.
    pub(crate) fn note(&self, line: impl Display) {
        // Nothing can be done when nobody listens, and the exit code still tells.
        let _ = writeln!(self.notes.lock(), "{line}");
    }

    pub(crate) fn table(&self, table: &Table) -> io::Result<()> {
        for line in table.lines() {
            self.line(line.trim_end())?;
        }
        Ok(())
    }

    /// Colors text that is meant for stdout.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        paint(self.has_color(), style, text)
    }

    /// A colored cell of a table.
    pub(crate) fn cell(&self, style: Option<Style>, text: &str) -> Cell {
        let cell = Cell::new(text);
        match style {
            Some(style) if self.has_color() => match style {
                Style::Good => cell.fg(Color::Green),
                Style::Bad => cell.fg(Color::Red),
                Style::Busy => cell.fg(Color::Cyan),
                Style::Warn => cell.fg(Color::Yellow),
                Style::Weak => cell.add_attribute(Attribute::Dim),
                Style::Strong => cell.add_attribute(Attribute::Bold),
            },
            Some(_) | None => cell,
        }
    }

    /// Colors text that is meant for [`Printer::note`].
    pub(crate) fn paint_note(&self, style: Style, text: &str) -> String {
        paint(self.notes.is_terminal() && self.wants_color, style, text)
    }

    /// Where bars beside the result are drawn, if at all.
    pub(crate) fn draw_target(&self) -> ProgressDrawTarget {
        if self.notes.is_terminal() && !self.json { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
    }

    pub(crate) fn set_farewell(&self, farewell: Option<String>) {
        *self.farewell.lock().expect("no holder panics") = farewell;
    }

    pub(crate) fn say_farewell(&self) {
        if let Some(farewell) = self.farewell.lock().expect("no holder panics").take() {
            self.note(farewell);
        }
    }
}

fn paint(colors: bool, style: Style, text: &str) -> String {
    if colors { format!("\x1b[{}m{text}\x1b[0m", style.code()) } else { text.to_owned() }
}

/// A table without lines, as wide as the terminal allows. Only the columns in `elastic` are wrapped to fit: ids and
/// numbers must stay whole to be copied.
pub(crate) fn table(head: &[&str], elastic: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(head.iter().map(|title| title.to_uppercase()));
    for (column, title) in table.column_iter_mut().zip(head) {
        column.set_constraint(if elastic.contains(title) {
            ColumnConstraint::LowerBoundary(Width::Fixed(ELASTIC_WIDTH_MIN))
        } else {
            ColumnConstraint::ContentWidth
        });
    }
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    table
}
