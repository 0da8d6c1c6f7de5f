//! A terminal without a screen: a program runs in it as at a person's, and what it draws can be read.

use crate::farm::{TestFarm, parent, processes};
use crate::parts::built;
use crate::wait::until;
use rustix::process::Signal;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest wait for something on it.
const SOON: Duration = Duration::from_secs(30);
/// Longest until somebody is out who wants to leave, whatever the scheduler does. A request waits two minutes for its answer.
const AT_ONCE: Duration = Duration::from_secs(3);

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
    /// Runs `framewake` with a word, as `top`, against a farm, where `environment` has more than somebody's own.
    pub fn framewake(word: &str, url: &str, columns: u16, rows: u16, environment: &[(&str, &str)]) -> Terminal {
        let mut command = Command::new("script");
        command.env("FRAMEWAKE_URL", url).env("TERM", "xterm-256color").env("LANG", "C.UTF-8");
        command.env_remove("NO_COLOR").envs(environment.iter().copied());
        let line = format!("exec '{}' {word}", built("framewake").display());
        Terminal::start(&mut command, &line, columns, rows)
    }

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

    /// Stops the scheduler, and presses a key for what it is asked for then.
    pub async fn press_unanswered(&mut self, farm: &mut TestFarm, key: &str, what: &str) {
        farm.scheduler().signal(Signal::STOP);
        self.press(key);
        self.sees(&format!("{what}: no answer yet")).await;
    }

    /// Leaves by a key without waiting for that answer, of which it is said that there was none; gives the exit code.
    pub async fn leave_unanswered(mut self, key: &str, what: &str) -> i32 {
        let begin = Instant::now();
        self.press(key);
        self.sees(&format!("{what}: the scheduler has not answered; it may be done yet")).await;
        assert!(!self.is_taken(), "what was said stays");
        let code = self.end().await;
        assert!(begin.elapsed() < AT_ONCE, "{key:?}: {:?}", begin.elapsed());
        code
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
