//! The keeper: a small child of the worker that ends the renderers when the worker itself was killed
//! and could not. It waits for its standard input to close, which only the worker's death does.

use super::leftovers;
use rustix::process::Pid;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// First argument of the program when it runs as keeper.
pub const KEEPER_ARGUMENT: &str = "keep-renderers-of";

/// The running keeper. Dropped, it goes too.
#[derive(Debug)]
pub struct Keeper {
    child: Child,
}

impl Keeper {
    /// Starts `program`, which must call [`keep`] when its first argument is [`KEEPER_ARGUMENT`].
    pub fn start(program: &Path) -> std::io::Result<Keeper> {
        use std::os::unix::process::CommandExt;
        let child = Command::new(program)
            .args([KEEPER_ARGUMENT, leftovers::worker_mark()])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What kills the worker's whole group must not kill its keeper.
            .process_group(0)
            .spawn()?;
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            leftovers::spare(pid);
        }
        Ok(Keeper { child })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ends_by_itself = self.child.wait();
    }
}

/// The keeper's whole life.
pub fn keep(worker_mark: &str) {
    let mut nothing = [0; 16];
    while std::io::stdin().read(&mut nothing).is_ok_and(|count| count > 0) {}
    let deadline = Instant::now() + Duration::from_secs(5);
    // Twice none: a process between fork and exec is seen in the second pass.
    let mut passes_without = 0;
    while passes_without < 2 && Instant::now() < deadline {
        passes_without = if leftovers::kill_marked(worker_mark) == 0 { passes_without + 1 } else { 0 };
        #[allow(clippy::disallowed_methods)] // A process without a runtime, whose children nobody can wait for.
        std::thread::sleep(Duration::from_millis(10));
    }
}
