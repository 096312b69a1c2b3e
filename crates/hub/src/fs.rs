//! What the store does to a disk, one call per step that a crash can fall between. A trait, so that a test can record the steps and replay
//! every crash (`tests/crashes.rs`). Reading needs no such care and goes to the disk directly. What to sync, and when, is the store's affair.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

/// The changes that a store makes.
pub(crate) trait Fs: std::fmt::Debug + Send + Sync {
    /// Makes one folder; one that is there is fine.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Creates a file, which must not exist, with this content. Nothing is on the disk for sure before `sync`.
    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()>;
    /// Sets a file's time of change.
    fn set_modified(&self, path: &Path, time: SystemTime) -> io::Result<()>;
    /// Puts a file's content on the disk.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Puts a folder's entries on the disk. Only Unix can; Windows journals them itself.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Renames within a file system, over what is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// A second name for a file of the same file system.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// A name that refers to a file anywhere.
    fn symlink(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; one that is not there is fine.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder, which must be empty; one that is not there is fine.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
}

/// The disk of this machine.
#[derive(Debug)]
pub(crate) struct Disk;

impl Fs for Disk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            made => made,
        }
    }

    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        let written = file.write_all(content);
        if written.is_err() {
            // A full disk must not keep the half that did fit.
            let _ = fs::remove_file(path);
        }
        written
    }

    fn set_modified(&self, path: &Path, time: SystemTime) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_times(FileTimes::new().set_modified(time))
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        OpenOptions::new().write(true).open(path)?.sync_all()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn symlink(&self, from: &Path, to: &Path) -> io::Result<()> {
        #[cfg(unix)]
        return std::os::unix::fs::symlink(from, to);
        #[cfg(windows)]
        return std::os::windows::fs::symlink_file(from, to);
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        absent_is_fine(fs::remove_file(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        absent_is_fine(fs::remove_dir(path))
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
