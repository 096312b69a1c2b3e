//! Reading and writing at a position, so that many threads share one open file and no cursor.
//! Deliberately absent: preallocation (parts are written in the order that they come, holes cost nothing) and `O_DIRECT`
//! (the digest reads back what was just written from the page cache).

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::thread;

/// Puts what was written on the disk while more arrives: the disk works all the time, and who syncs at the end waits for little. What
/// fails here fails again at that last sync, and is told then.
pub(super) struct Flusher(Option<Sender<()>>);

impl Flusher {
    pub fn new(file: &File) -> Flusher {
        let (due, wake) = mpsc::channel::<()>();
        let flush = move |file: File| {
            while wake.recv().is_ok() {
                // Several wishes are one.
                while wake.try_recv().is_ok() {}
                let _ = file.sync_data();
            }
        };
        let started = file.try_clone().map(|file| thread::spawn(move || flush(file)));
        Flusher(started.ok().map(|_| due))
    }

    /// Wakes it; it ends when this is dropped.
    pub fn flush(&self) {
        if let Some(due) = &self.0 {
            let _ = due.send(());
        }
    }
}

/// Removes a link of this name: what is written under a name goes into its own folder, whoever prepared it.
pub(super) fn unlink(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => fs::remove_file(path),
        _ => Ok(()),
    }
}

#[cfg(unix)]
pub(super) fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(unix)]
pub(super) fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(windows)]
pub(super) fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        match std::os::windows::fs::FileExt::seek_write(file, rest, at + done as u64)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => done += n,
        }
    }
    Ok(())
}

#[cfg(windows)]
pub(super) fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match std::os::windows::fs::FileExt::seek_read(file, rest, at + done as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => done += n,
        }
    }
    Ok(())
}
