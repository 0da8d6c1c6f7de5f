//! A terminal without a screen: a program runs in it as at a person's, and what it draws can be read.

use crate::farm::{parent, processes};
use crate::wait::until;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Longest wait for something on it.
const SOON: Duration = Duration::from_secs(30);

pub struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Terminal:\n{}", self.text())
    }
}

impl Terminal {
    /// Runs a command of a shell in a terminal of this size; `script`, a part of every Debian, makes it.
    pub fn start(command: &mut Command, line: &str, columns: u16, rows: u16) -> Terminal {
        let line = format!("stty cols {columns} rows {rows}; {line}");
        command.args(["-q", "-f", "-e", "-c", &line, "/dev/null"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("`script` makes a terminal");
        let keys = child.stdin.take().expect("it is piped");
        let mut drawn = child.stdout.take().expect("it is piped");
        let size = [rows, columns].map(|side| NonZeroU16::new(side).expect("a terminal has a size"));
        let screen = Arc::new(Mutex::new(vt100::Parser::new(size[0], size[1], 0)));
        let shown = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = drawn.read(&mut piece) {
                shown.lock().unwrap_or_else(PoisonError::into_inner).process(&piece[..count]);
            }
        });
        Terminal { child, keys, screen }
    }

    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).and_then(|()| self.keys.flush()).expect("it reads keys");
    }

    /// What is on it now, line by line.
    pub fn text(&self) -> String {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen().contents()
    }

    /// Makes the window larger or smaller, as somebody does with a mouse.
    pub fn resize(&self, columns: u16, rows: u16) {
        let child = self.child.id();
        let inside = processes().into_iter().find(|process| parent(process.pid) == Some(child)).expect("it runs");
        let device = std::fs::read_link(format!("/proc/{}/fd/0", inside.pid)).expect("a program has a terminal");
        let size = [columns, rows].map(|side| side.to_string());
        let mut stty = Command::new("stty");
        stty.arg("-F").arg(device).args(["cols", &size[0], "rows", &size[1]]);
        let [rows, columns] = [rows, columns].map(|side| NonZeroU16::new(side).expect("a terminal has a size"));
        // Before the program hears of it, and draws.
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen_mut().set_size(rows, columns);
        assert!(stty.status().expect("`stty` is a part of every Debian").success());
    }

    /// Whether anything on it has a color.
    pub fn is_colored(&self) -> bool {
        let parser = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        let screen = parser.screen();
        let (rows, columns) = (screen.size().0.get(), screen.size().1.get());
        let mut cells = (0..rows).flat_map(|row| (0..columns).filter_map(move |column| screen.cell(row, column)));
        cells.any(|cell| cell.fgcolor() != vt100::Color::Default)
    }

    /// Whether a program has taken the whole of it.
    pub fn is_taken(&self) -> bool {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen().alternate_screen()
    }

    pub async fn sees(&self, words: &str) {
        let seen = until_or(SOON, async || self.text().contains(words)).await;
        assert!(seen, "`{words}` is not on the screen:\n{}", self.text());
    }

    /// Waits for the program's end, and gives its exit code.
    pub async fn end(mut self) -> i32 {
        let ended = std::cell::RefCell::new(&mut self.child);
        until(SOON, "the program ends", async || ended.borrow_mut().try_wait().ok().flatten())
            .await
            .code()
            .expect("it was not killed")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // What it ran hears that its terminal is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn until_or(longest: Duration, is: impl AsyncFn() -> bool) -> bool {
    let begin = tokio::time::Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    while begin.elapsed() < longest {
        if is().await {
            return true;
        }
        tick.tick().await;
    }
    false
}
