//! Reading and writing at a position, so that many threads share one open file and no cursor.
//! Deliberately absent: preallocation (parts are written in the order that they come, holes cost nothing) and `O_DIRECT`
//! (the digest reads back what was just written from the page cache).

use std::fs::{self, File};
use std::io;
use std::path::Path;

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
pub(super) fn write_at(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        let n = file.seek_write(bytes, at)?;
        let rest = bytes.get(n..).filter(|_| n > 0).ok_or(io::ErrorKind::WriteZero)?;
        (bytes, at) = (rest, at + n as u64);
    }
    Ok(())
}

#[cfg(windows)]
pub(super) fn read_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        let n = file.seek_read(bytes, at)?;
        let rest = bytes.get_mut(n..).filter(|_| n > 0).ok_or(io::ErrorKind::UnexpectedEof)?;
        (bytes, at) = (rest, at + n as u64);
    }
    Ok(())
}
