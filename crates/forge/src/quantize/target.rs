//! Files that appear whole or not at all. They grow as `.NAME.hob-partial` (and `.NAME.hob-partial-00002` ... for the
//! further files of a split set) beside their place, are synced, and then renamed, the first of a set last, without
//! which no reader finds the others. The first partial file carries a lock that dies with its process: who finds it
//! unlocked owns what lies there and begins anew.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::{QuantizeError, Writing};

/// Ending of files that are being written.
const PARTIAL: &str = ".hob-partial";
/// How often a lock is tried whose file went away meanwhile.
const TRIES: usize = 100;

/// A place for files, held by this process; what is not published disappears with this value.
#[derive(Debug)]
pub(crate) struct Target {
    path: PathBuf,
    folder: PathBuf,
    finals: Vec<PathBuf>,
    /// The first partial file, locked.
    first: File,
    replace: bool,
    /// Whether the first partial file is ours to remove.
    pending: bool,
}

impl Target {
    /// Takes the place, after checking that nothing there would be lost and that there is room for `needed` bytes.
    pub fn claim(
        writing: &Writing,
        finals: Vec<PathBuf>,
        sources: &[PathBuf],
        needed: u64,
    ) -> Result<Self, QuantizeError> {
        let path = writing.path.clone();
        if path.file_name().is_none() || path.is_dir() {
            return Err(QuantizeError::NotAFile(path));
        }
        for file in finals.iter().chain([&partial(&path, 0)]) {
            check_file(file, sources)?;
        }
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let first = lock(&path)?;
        let target =
            Target { path, folder, finals, first, replace: writing.replace, pending: true };
        target.clear(needed)?;
        Ok(target)
    }

    /// Checks what is there, and removes what an interrupted run left.
    fn clear(&self, needed: u64) -> Result<(), QuantizeError> {
        let meta = self.first.metadata().map_err(io_error("read", &partial(&self.path, 0)))?;
        let interrupted = meta.len() > 0;
        for (no, file) in self.finals.iter().enumerate() {
            // Further files without the first are what an interrupted run had renamed.
            let left = no > 0 && interrupted && !self.finals.first().is_some_and(|f| there(f));
            if there(file) && !self.replace && !left {
                return Err(QuantizeError::Exists(file.clone()));
            }
        }
        self.remove_further();
        self.first.set_len(0).map_err(io_error("empty", &partial(&self.path, 0)))?;
        // A file system that does not tell is trusted.
        match fs4::available_space(&self.folder) {
            Ok(free) if free < needed => {
                Err(QuantizeError::NoSpace { path: self.path.clone(), needed, free: Some(free) })
            }
            _ => Ok(()),
        }
    }

    /// The file to write for part `no` (from 0).
    pub fn open(&self, no: usize) -> Result<File, QuantizeError> {
        let path = partial(&self.path, no);
        if no == 0 {
            return self.first.try_clone().map_err(io_error("open", &path));
        }
        File::create_new(&path).map_err(io_error("create", &path))
    }

    /// Where part `no` is being written.
    pub fn partial(&self, no: usize) -> PathBuf {
        partial(&self.path, no)
    }

    /// Gives all files their names. They are synced already.
    pub fn publish(mut self) -> Result<Vec<PathBuf>, QuantizeError> {
        let finals = std::mem::take(&mut self.finals);
        if let Err(error) = self.rename(&finals) {
            finals.iter().skip(1).for_each(|file| drop(fs::remove_file(file)));
            return Err(error);
        }
        Ok(finals)
    }

    fn rename(&mut self, finals: &[PathBuf]) -> Result<(), QuantizeError> {
        let Some((first, further)) = finals.split_first() else { return Ok(()) };
        if there(first) {
            if !self.replace {
                return Err(QuantizeError::Exists(first.clone()));
            }
            if !further.is_empty() {
                // Old and new files of one set must not be taken for a whole.
                fs::remove_file(first).map_err(io_error("replace", first))?;
            }
        }
        for (no, file) in (1..).zip(further) {
            fs::rename(self.partial(no), file).map_err(io_error("create", file))?;
        }
        if !further.is_empty() {
            sync_folder(&self.folder)?;
        }
        fs::rename(self.partial(0), first).map_err(io_error("create", first))?;
        self.pending = false;
        sync_folder(&self.folder)
    }

    /// Removes partial files but the first.
    fn remove_further(&self) {
        let mut prefix = partial_name(&self.path);
        prefix.push("-");
        let prefix = prefix.as_encoded_bytes();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let number = name.as_encoded_bytes().strip_prefix(prefix);
            if number.is_some_and(|n| n.len() == 5 && n.iter().all(u8::is_ascii_digit)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.pending {
            self.remove_further();
            let _ = fs::remove_file(self.partial(0));
        }
    }
}

fn partial_name(path: &Path) -> OsString {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(PARTIAL);
    name
}

/// The file in which part `no` (from 0) of `path` grows.
fn partial(path: &Path, no: usize) -> PathBuf {
    let mut name = partial_name(path);
    if no > 0 {
        name.push(format!("-{:05}", no + 1));
    }
    path.with_file_name(name)
}

/// Whether there is anything of this name, be it a link to nothing.
fn there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Refuses to write over a source, and over what is no file.
fn check_file(file: &Path, sources: &[PathBuf]) -> Result<(), QuantizeError> {
    let Ok(meta) = fs::metadata(file) else { return Ok(()) };
    if sources.iter().any(|source| same_file(file, &meta, source)) {
        return Err(QuantizeError::SameFile(file.to_owned()));
    }
    if meta.is_file() { Ok(()) } else { Err(QuantizeError::NotAFile(file.to_owned())) }
}

/// Whether both names lead to one file, also through links of either kind.
fn same_file(path: &Path, meta: &Metadata, other: &Path) -> bool {
    let Ok(other_meta) = fs::metadata(other) else { return false };
    let canonical = || fs::canonicalize(path).ok() == fs::canonicalize(other).ok();
    identity(meta).map_or_else(canonical, |id| Some(id) == identity(&other_meta))
}

/// What makes a file itself, where the system says.
#[cfg(unix)]
fn identity(meta: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    Some((meta.dev(), meta.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Option<(u64, u64)> {
    None
}

/// Opens and locks the first partial file.
fn lock(path: &Path) -> Result<File, QuantizeError> {
    let lock = partial(path, 0);
    for _ in 0..TRIES {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&lock).map_err(io_error("create", &lock))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(QuantizeError::Busy { path: path.to_owned(), lock });
            }
            // Some network file systems have no locks.
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(e)) => return Err(io_error("lock", &lock)(e)),
        }
        // Its last owner may have renamed or removed it between our opening and our locking.
        let (held, named) = (file.metadata(), fs::metadata(&lock));
        if let (Ok(held), Ok(named)) = (held, named)
            && identity(&held) == identity(&named)
        {
            return Ok(file);
        }
    }
    Err(QuantizeError::Busy { path: path.to_owned(), lock })
}

/// Makes renames in a folder survive a power cut. Only Unix can; Windows journals them itself.
fn sync_folder(folder: &Path) -> Result<(), QuantizeError> {
    if cfg!(unix) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(io_error("sync", folder))?;
    }
    Ok(())
}

/// Wraps the system's refusal.
pub(super) fn io_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> QuantizeError {
    let path = path.to_owned();
    move |source| QuantizeError::Io { action, path, source }
}
