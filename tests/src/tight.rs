//! A folder with little room, by a small tmpfs.

use rustix::mount::{MountFlags, mount_remount};
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
        if let Err(error) = self.remount(size) {
            panic!("`{}` can't be resized: {error}", self.folder.display());
        }
    }

    /// Leaves hardly a byte free, until [`Tight::free`]: the room shrinks to what is used, which needs no memory.
    pub fn fill(&self) {
        let room = rustix::fs::statvfs(&self.folder).expect("it is mounted");
        // What others write meanwhile makes the kernel refuse to shrink; one page more, until it does not.
        // A size of 0 is none at all, which can't be taken back: an empty folder is left a page.
        let used = (room.f_blocks - room.f_bfree).max(1) * room.f_frsize;
        let size = |pages: u64| (used + pages * room.f_frsize).to_string();
        let shrunk = (0..64).any(|pages| self.remount(&size(pages)).is_ok());
        assert!(shrunk, "`{}` can't be filled", self.folder.display());
    }

    pub fn free(&self) {
        self.resize(&self.size);
    }

    /// By the system call: mount(8) looks the folder up in the list of mounts first, and while others mount and unmount,
    /// that list comes with holes.
    fn remount(&self, size: &str) -> rustix::io::Result<()> {
        mount_remount(&self.folder, MountFlags::empty(), format!("size={size}"))
    }
}

impl Drop for Tight {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_folder_is_filled_and_freed_as_any_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let Some(tight) = Tight::mount(folder.path(), "1m") else { return };
        let write = |count| std::fs::write(folder.path().join("file"), vec![1; count]);
        tight.fill();
        assert!(write(64 * 1024).is_err());
        tight.free();
        write(64 * 1024).expect("there is room");
        tight.fill();
        assert!(write(128 * 1024).is_err());
        tight.free();
        assert!(write(2 * 1024 * 1024).is_err(), "no more room than before");
    }
}
