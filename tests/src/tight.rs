//! A folder with little room, by a small tmpfs.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Unmounted with its owner.
#[derive(Debug)]
pub struct Tight {
    folder: PathBuf,
    size: String,
}

impl Tight {
    /// `None` where the machine allows no mount; `size` as mount(8) takes it: `1m`.
    pub fn mount(folder: &Path, size: &str) -> Option<Tight> {
        std::fs::create_dir_all(folder).ok()?;
        let mut command = Command::new("mount");
        let mounted = command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(folder).status();
        mounted.ok()?.success().then(|| Tight { folder: folder.to_owned(), size: size.to_owned() })
    }

    pub fn resize(&self, size: &str) {
        assert!(self.remount(size), "`{}` can't be resized", self.folder.display());
    }

    /// Leaves no byte free, until [`Tight::free`]: the room shrinks to what is used, which needs no memory.
    pub fn fill(&self) {
        let room = rustix::fs::statvfs(&self.folder).expect("it is mounted");
        // What others write meanwhile makes the kernel refuse to shrink; one page more, until it does not.
        let used = (room.f_blocks - room.f_bfree) * room.f_frsize;
        let size = |pages: u64| (used + pages * room.f_frsize).to_string();
        let shrunk = (0..64).any(|pages| self.remount(&size(pages)));
        assert!(shrunk, "`{}` can't be filled", self.folder.display());
    }

    pub fn free(&self) {
        self.resize(&self.size);
    }

    fn remount(&self, size: &str) -> bool {
        let mut command = Command::new("mount");
        let command = command.args(["-o", &format!("remount,size={size}")]).arg(&self.folder);
        command.stderr(std::process::Stdio::null()).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Tight {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}
