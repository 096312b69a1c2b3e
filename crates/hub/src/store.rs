//! The store: a folder of blobs named by their SHA-256 and small JSON manifests that name them. Layout under the root:
//! `blobs/sha256-<hex>` whole, verified files; `blobs/sha256-<hex>.partial` what a broken transfer left; `blobs/sha256-<hex>.map` which parts of it are there, with checksums, kept so that
//! a damaged blob can be mended; `manifests/<name>/<tag>.json`;
//! `locks/sha256-<hex>.lock` one lock file per blob; `tmp/sha256-<hex>/` scratch space of whoever holds that lock;
//! `measured/` notes about files (`measured.rs`).
//!
//! A blob or manifest appears by rename after fsync, so it is wholly there or not at all. Whoever adds or removes a blob holds its lock,
//! from before the blob appears until its manifest is written; the kernel drops the lock when a process dies, whatever way. Readers
//! take no lock. Deliberately absent: reference counts (manifests are few, they are read), a database, an index.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{HubError, io_error};
use crate::reference;

/// Version of the manifest format.
const SCHEMA: u32 = 1;
/// A manifest is a few hundred bytes; more than this is no manifest.
const MAX_MANIFEST: u64 = 1 << 20;
/// How often a waiting process looks whether the lock is free.
const LOCK_POLL: Duration = Duration::from_millis(100);

/// What the store remembers about a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub schema: u32,
    pub digest: Digest,
    pub bytes: u64,
    pub recipe: String,
    pub architecture: String,
    pub parameters: u64,
    pub licence: String,
    /// Where the file came from, in words.
    pub source: String,
}

/// A manifest with where it lies.
#[derive(Debug)]
pub(crate) struct Stored {
    /// `name:tag`.
    pub name: String,
    pub manifest: Manifest,
    pub blob: PathBuf,
    /// When the model was stored.
    pub modified: SystemTime,
}

/// A manifest that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// `name:tag`.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Holds one blob's lock until dropped.
#[derive(Debug)]
pub(crate) struct BlobLock(
    #[allow(dead_code, reason = "closing the file is what releases the lock")] File,
);

/// A store at a folder, which need not exist yet.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

impl Store {
    pub fn at(root: PathBuf) -> Store {
        Store { root }
    }

    /// The folder for the user's models: `$HOB_HOME`, or `.hob` in the home directory on every platform.
    pub fn default_root() -> Result<PathBuf, HubError> {
        match std::env::var_os("HOB_HOME").filter(|v| !v.is_empty()) {
            Some(home) => Ok(PathBuf::from(home)),
            None => Ok(std::env::home_dir()
                .filter(|h| !h.as_os_str().is_empty())
                .ok_or(HubError::NoHome)?
                .join(".hob")),
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the folders a writer needs.
    pub fn create(&self) -> Result<(), HubError> {
        for folder in ["blobs", "manifests", "locks", "tmp"] {
            let path = self.root.join(folder);
            fs::create_dir_all(&path).map_err(io_error("create", &path))?;
        }
        Ok(())
    }

    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(format!("sha256-{digest}"))
    }

    /// Where a transfer of this blob gathers its bytes.
    pub fn partial(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(format!("sha256-{digest}.partial"))
    }

    /// Where it is noted which parts of the partial file are there.
    pub fn map(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(format!("sha256-{digest}.map"))
    }

    /// Scratch folder for whoever holds this blob's lock, on the same file system as the blobs.
    pub fn scratch(&self, digest: &Digest) -> PathBuf {
        self.root.join("tmp").join(format!("sha256-{digest}"))
    }

    /// Whether the whole blob is here. Content was verified before it got its name; the length is checked again because it is cheap.
    pub fn has_blob(&self, digest: &Digest, bytes: u64) -> bool {
        fs::metadata(self.blob(digest)).is_ok_and(|m| m.is_file() && m.len() == bytes)
    }

    /// Takes a blob's lock, waiting as long as another process holds it; `waiting` is called each time it was still held.
    pub fn lock(&self, digest: &Digest, mut waiting: impl FnMut()) -> Result<BlobLock, HubError> {
        let path = self.root.join("locks").join(format!("sha256-{digest}.lock"));
        let options = OpenOptions::new().create(true).truncate(false).write(true).clone();
        let file = options.open(&path).map_err(io_error("open", &path))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(BlobLock(file)),
                Err(TryLockError::WouldBlock) => {
                    waiting();
                    std::thread::sleep(LOCK_POLL);
                }
                Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(TryLockError::Error(e)) => return Err(io_error("lock", &path)(e)),
            }
        }
    }

    /// Fails when the file system has less than `needed` bytes left for the store. A file system that does not tell is trusted.
    pub fn require_space(&self, needed: u64) -> Result<(), HubError> {
        match fs4::available_space(&self.root) {
            Ok(free) if free < needed => {
                Err(HubError::NoSpace { path: self.root.clone(), needed, free })
            }
            _ => Ok(()),
        }
    }

    /// Gives a complete, verified file its place as a blob. The caller has checked its digest and holds its lock.
    pub fn adopt(&self, _lock: &BlobLock, from: &Path, digest: &Digest) -> Result<(), HubError> {
        let blob = self.blob(digest);
        OpenOptions::new()
            .write(true)
            .open(from)
            .and_then(|f| f.sync_all())
            .map_err(io_error("sync", from))?;
        fs::rename(from, &blob).map_err(io_error("write", &blob))?;
        sync_folder(&self.root.join("blobs"))?;
        let _ = fs::remove_file(self.partial(digest));
        let _ = fs::remove_dir_all(self.scratch(digest));
        Ok(())
    }

    /// Writes a model's manifest. The caller holds the lock of its blob.
    pub fn write(
        &self,
        _lock: &BlobLock,
        name: &str,
        tag: &str,
        manifest: &Manifest,
    ) -> Result<(), HubError> {
        let path = self.manifest_path(name, tag)?;
        let folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).map_err(io_error("create", folder))?;
        let json =
            serde_json::to_vec_pretty(manifest).map_err(|e| io_error("write", &path)(e.into()))?;
        let mut file = new_file(folder).map_err(io_error("write", &path))?;
        file.write_all(&json)
            .and_then(|()| file.as_file().sync_all())
            .map_err(io_error("write", &path))?;
        file.persist(&path).map_err(|e| io_error("write", &path)(e.error))?;
        sync_folder(folder)?;
        sync_folder(&self.root.join("manifests"))
    }

    /// The stored model `name:tag`, `None` when there is none.
    ///
    /// # Errors
    /// `Damaged` when there is a manifest but it, or its blob, is not usable.
    pub fn get(&self, name: &str, tag: &str) -> Result<Option<Stored>, HubError> {
        let path = self.manifest_path(name, tag)?;
        let full = format!("{name}:{tag}");
        match self.load(&full, &path) {
            Ok(found) => Ok(found),
            Err(reason) => Err(HubError::Damaged { name: full, reason }),
        }
    }

    /// Every stored model by name, and the manifests that cannot be used, each with its reason. Stray files are passed over.
    pub fn list(&self) -> Result<(Vec<Stored>, Vec<Damaged>), HubError> {
        let (mut models, mut damaged) = (Vec::new(), Vec::new());
        for (name, tag, path) in self.manifests()? {
            let full = format!("{name}:{tag}");
            match self.load(&full, &path) {
                Ok(Some(stored)) => models.push(stored),
                Ok(None) => {}
                Err(reason) => damaged.push(Damaged { name: full, reason }),
            }
        }
        models.sort_by(|a, b| a.name.cmp(&b.name));
        damaged.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((models, damaged))
    }

    /// Forgets a model, and its blob when no other model uses it. Returns the bytes freed, `None` when there is no such model.
    pub fn remove(&self, name: &str, tag: &str) -> Result<Option<u64>, HubError> {
        let path = self.manifest_path(name, tag)?;
        if !path.is_file() {
            return Ok(None);
        }
        let Ok(manifest) = read_manifest(&path) else {
            return delete(&path).map(|()| Some(0));
        };
        self.create()?;
        let _lock = self.lock(&manifest.digest, || ())?;
        delete(&path)?;
        sync_folder(path.parent().unwrap_or(&self.root))?;
        if self.is_used(&manifest.digest)? {
            return Ok(Some(0));
        }
        let blob = self.blob(&manifest.digest);
        let freed = fs::metadata(&blob).map_or(0, |m| m.len());
        delete(&blob)?;
        delete(&self.map(&manifest.digest))?;
        Ok(Some(freed))
    }

    fn is_used(&self, digest: &Digest) -> Result<bool, HubError> {
        let all = self.manifests()?;
        Ok(all.iter().any(|(_, _, path)| read_manifest(path).is_ok_and(|m| m.digest == *digest)))
    }

    fn manifest_path(&self, name: &str, tag: &str) -> Result<PathBuf, HubError> {
        for part in [name, tag] {
            reference::check(part).map_err(|reason| HubError::BadName {
                reference: format!("{name}:{tag}"),
                reason,
            })?;
        }
        Ok(self.root.join("manifests").join(name).join(format!("{tag}.json")))
    }

    fn load(&self, full: &str, path: &Path) -> Result<Option<Stored>, String> {
        let modified = match fs::metadata(path) {
            Ok(meta) => meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(format!("its manifest cannot be read: {e}")),
        };
        let manifest = read_manifest(path)?;
        if !self.has_blob(&manifest.digest, manifest.bytes) {
            return Err(format!(
                "its file of {} bytes is missing or has another length",
                manifest.bytes
            ));
        }
        let blob = self.blob(&manifest.digest);
        Ok(Some(Stored { name: full.to_owned(), manifest, blob, modified }))
    }

    /// Name, tag and path of every manifest file.
    fn manifests(&self) -> Result<Vec<(String, String, PathBuf)>, HubError> {
        let mut found = Vec::new();
        for (name, folder) in entries(&self.root.join("manifests"))? {
            if reference::check(&name).is_err() || !folder.is_dir() {
                continue;
            }
            for (file, path) in entries(&folder)? {
                let Some(tag) = file.strip_suffix(".json") else { continue };
                if reference::check(tag).is_ok() {
                    found.push((name.clone(), tag.to_owned(), path));
                }
            }
        }
        Ok(found)
    }
}

/// Names and paths in a folder; none when the folder is not there. Names that are not UTF-8 are none of ours.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, HubError> {
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io_error("read", folder)(e)),
    };
    let mut found = Vec::new();
    for entry in listing {
        let entry = entry.map_err(io_error("read", folder))?;
        found.extend(entry.file_name().into_string().ok().map(|name| (name, entry.path())));
    }
    Ok(found)
}

fn read_manifest(path: &Path) -> Result<Manifest, String> {
    let mut json = Vec::new();
    let file = File::open(path).map_err(|e| format!("its manifest cannot be read: {e}"))?;
    file.take(MAX_MANIFEST)
        .read_to_end(&mut json)
        .map_err(|e| format!("its manifest cannot be read: {e}"))?;
    let manifest: Manifest =
        serde_json::from_slice(&json).map_err(|e| format!("its manifest is malformed: {e}"))?;
    if manifest.schema == SCHEMA {
        Ok(manifest)
    } else {
        Err(format!("its manifest has version {}, this hob knows {SCHEMA}", manifest.schema))
    }
}

impl Manifest {
    /// The schema number to write.
    pub const SCHEMA: u32 = SCHEMA;
}

/// A temporary file with the permissions of an ordinary one: other users' servers may read the store.
pub(crate) fn new_file(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

fn delete(path: &Path) -> Result<(), HubError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Makes renames in a folder survive a power cut. Only Unix can; Windows journals them itself.
fn sync_folder(folder: &Path) -> Result<(), HubError> {
    if cfg!(unix) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(io_error("sync", folder))?;
    }
    Ok(())
}
