//! Writing to the cache of Hugging Face's libraries, so that they find what hob fetched: the blob, a link to it in the commit's snapshot,
//! and the reference of the revision last, each by rename, under the lock that the libraries take. The blob is a second name of hob's own
//! file where the file system allows it. Listings of repositories (`trees/`) are not written: what is not here is not claimed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::hugging_face::MODELS;
use super::places::Places;
use crate::digest::Digest;
use crate::error::{HubError, io_error};
use crate::fs::{Disk, Fs};
use crate::source::{check_repository, is_commit, is_safe_path};

/// How often a waiting process looks whether the lock is free.
const POLL: Duration = Duration::from_millis(100);

/// A cache, which need not exist yet.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

/// Where a file belongs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// `organisation/name`.
    pub repository: &'a str,
    /// 40 hexadecimal digits.
    pub commit: &'a str,
    /// The branch, tag or commit that was asked for.
    pub revision: &'a str,
    /// Path within the repository.
    pub path: &'a str,
    /// What the hub gives as the file's ETag: the SHA-256 of files that it keeps outside of Git.
    pub digest: Digest,
}

impl Cache {
    pub fn at(root: PathBuf) -> Cache {
        Cache { root }
    }

    /// The user's cache, `None` when no home directory is known.
    pub fn from_env(var: &dyn Fn(&str) -> Option<String>, home: Option<&Path>) -> Option<Cache> {
        Places::from_env(var, home).hugging_face.map(Cache::at)
    }

    /// Puts a complete, verified file there, unless it is there; `waiting` is called as long as another process holds its lock. Returns the
    /// path that the libraries will give out.
    ///
    /// # Errors
    /// `BadName` for what is no repository, commit, revision or path of one; `Io`.
    pub fn add(
        &self,
        place: &Place,
        file: &Path,
        waiting: &mut dyn FnMut(),
    ) -> Result<PathBuf, HubError> {
        place.check()?;
        let repository = format!("{MODELS}{}", place.repository.replace('/', "--"));
        let folder = self.root.join(&repository);
        let blobs = folder.join("blobs");
        make_folder(&blobs)?;
        let _lock = self.lock(&repository, &place.digest, waiting)?;
        let blob = blobs.join(place.digest.to_string());
        let temporary = temporary(&blob);
        let done = add_blob(file, &blob, &temporary)
            .and_then(|()| add_pointer(&folder, place, &blob, &temporary))
            .and_then(|pointer| add_reference(&folder, place, &temporary).map(|()| pointer));
        if done.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        done
    }

    /// The lock that `huggingface_hub` takes through `filelock`, which is `flock` on Unix. Where a file system has no such locks nobody
    /// waits: the lock saves work, order makes the cache sound.
    fn lock(
        &self,
        repository: &str,
        digest: &Digest,
        waiting: &mut dyn FnMut(),
    ) -> Result<Option<File>, HubError> {
        let folder = self.root.join(".locks").join(repository);
        make_folder(&folder)?;
        let path = folder.join(format!("{digest}.lock"));
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o664);
        let file = options.open(&path).map_err(io_error("open", &path))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) => {
                    waiting();
                    std::thread::sleep(POLL);
                }
                Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {
                    return Ok(None);
                }
                Err(TryLockError::Error(e)) => return Err(io_error("lock", &path)(e)),
            }
        }
    }
}

impl Place<'_> {
    fn check(&self) -> Result<(), HubError> {
        let Place { repository, commit, revision, path, .. } = self;
        let bad = |reason: String| {
            let reference = format!("{repository}@{revision}/{path}");
            Err(HubError::BadName { reference, reason })
        };
        if let Err(e) = check_repository(repository) {
            return bad(e.to_string());
        }
        if repository.contains("--") {
            return bad("repositories have no '--' in their names".to_owned());
        }
        if !is_commit(commit) {
            return bad(format!("'{commit}' is no commit"));
        }
        match is_safe_path(revision) && is_safe_path(path) {
            true => Ok(()),
            false => bad("its revision or path leads elsewhere".to_owned()),
        }
    }
}

fn add_blob(file: &Path, blob: &Path, temporary: &Path) -> Result<(), HubError> {
    let file = file.canonicalize().map_err(io_error("read", file))?;
    let bytes = fs::metadata(&file).map_err(io_error("read", &file))?.len();
    if fs::metadata(blob).is_ok_and(|m| m.is_file() && m.len() == bytes) {
        return Ok(());
    }
    if fs::hard_link(&file, temporary).is_err() {
        copy(&file, temporary)?;
    }
    fs::rename(temporary, blob).map_err(io_error("write", blob))
}

fn add_pointer(
    folder: &Path,
    place: &Place,
    blob: &Path,
    temporary: &Path,
) -> Result<PathBuf, HubError> {
    let snapshot = folder.join("snapshots").join(place.commit);
    let pointer = place.path.split('/').fold(snapshot, |path, part| path.join(part));
    if same_file(&pointer, blob) {
        return Ok(pointer);
    }
    make_folder(pointer.parent().unwrap_or(folder))?;
    // From the file's folder to the repository's: those of its path, the commit, `snapshots`.
    let up = "../".repeat(place.path.split('/').count() + 1);
    let target = PathBuf::from(format!("{up}blobs/{}", place.digest));
    let linked = Disk.symlink(&target, temporary);
    if linked.is_err() && fs::hard_link(blob, temporary).is_err() {
        copy(blob, temporary)?;
    }
    fs::rename(temporary, &pointer).map_err(io_error("write", &pointer))?;
    Ok(pointer)
}

fn add_reference(folder: &Path, place: &Place, temporary: &Path) -> Result<(), HubError> {
    let Place { commit, revision, .. } = place;
    let path = revision.split('/').fold(folder.join("refs"), |path, part| path.join(part));
    let known = fs::read_to_string(&path).is_ok_and(|text| text == *commit);
    if commit == revision || known {
        return Ok(());
    }
    make_folder(path.parent().unwrap_or(folder))?;
    Disk.write(temporary, commit.as_bytes()).map_err(io_error("write", &path))?;
    fs::rename(temporary, &path).map_err(io_error("write", &path))
}

/// Copies to a file that must not exist: one that does may be another name of the original.
fn copy(from: &Path, to: &Path) -> Result<(), HubError> {
    let copied = || {
        let mut new = OpenOptions::new().write(true).create_new(true).open(to)?;
        io::copy(&mut File::open(from)?, &mut new)?;
        new.sync_all()
    };
    copied().map_err(io_error("write", to))
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn make_folder(path: &Path) -> Result<(), HubError> {
    fs::create_dir_all(path).map_err(io_error("create", path))
}

/// A name beside the blob that nobody else uses, not even a process of the same number in another container, and that the libraries know
/// as one of something unfinished.
fn temporary(blob: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (process, n) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    blob.with_extension(format!("{process}-{n}-{}.incomplete", now.as_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_never_writes_over_its_original() {
        let root = tempfile::tempdir().unwrap();
        let [original, alias, new] = ["a", "b", "c"].map(|name| root.path().join(name));
        fs::write(&original, b"data").unwrap();
        fs::hard_link(&original, &alias).unwrap();
        assert!(matches!(copy(&original, &alias), Err(HubError::Io { action: "write", .. })));
        copy(&original, &new).unwrap();
        assert_eq!([&original, &new].map(|path| fs::read(path).unwrap()), [b"data", b"data"]);
    }
}
