//! Removing from the store. A model goes when its manifest does; then the blobs that no manifest names are removed, under their locks, so
//! that none is taken from under a model that is just being stored. What a dead process left in `partial` and `tmp` goes too.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Store, entries, read};
use crate::digest::Digest;
use crate::error::{HubError, io_error};
use crate::manifest::{MAX_MANIFEST, Manifest};
use crate::name::ModelName;

/// What was left undone for this long is not going on any more, as far as `gc` can tell.
const OLD: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long an upload may wait for a model to be made of it.
const UPLOADED: Duration = Duration::from_secs(24 * 3600);

/// A file that is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Garbage {
    /// The file.
    pub path: PathBuf,
    /// Its bytes on the disk.
    pub bytes: u64,
    /// What it was: `blob`, `partial`, `upload`, `temporary`.
    pub kind: &'static str,
}

/// Blobs that manifests name, and manifests whose blobs are not known, with the reason.
#[derive(Default)]
struct References {
    used: HashSet<Digest>,
    unreadable: Vec<(ModelName, String)>,
}

impl Store {
    /// Forgets a model, and its blobs when no other model uses them. Returns the bytes freed, `None` when there is no such model.
    pub fn remove(&self, name: &ModelName) -> Result<Option<u64>, HubError> {
        let path = self.manifest_path(name);
        if !path.is_file() {
            return Ok(None);
        }
        self.prepare()?;
        let manifest = read(&path, MAX_MANIFEST).ok().and_then(|b| Manifest::parse(&b).ok());
        self.fs.remove(&path).map_err(io_error("remove", &path))?;
        let folder = path.parent().unwrap_or(&self.root);
        // On the disk before any blob goes: a power cut must not bring the name back without its files.
        self.sync_dir(folder)?;
        self.prune(folder);
        let digests: Vec<Digest> =
            manifest.iter().flat_map(|m| m.blobs().map(|l| l.digest)).collect();
        let freed = self.collect(&digests)?;
        Ok(Some(freed.iter().map(|g| g.bytes).sum()))
    }

    /// Removes those of these blobs that no manifest names and nobody is working on, and what belongs to them. While a manifest cannot be
    /// read, nothing is known to be unused, and nothing is removed.
    pub(super) fn collect(&self, digests: &[Digest]) -> Result<Vec<Garbage>, HubError> {
        if digests.is_empty() {
            return Ok(Vec::new());
        }
        let locks = self.lock_free(digests)?;
        // Read after the locks were taken: who stores a model holds them until its manifest is written.
        let References { used, unreadable } = self.references()?;
        if !unreadable.is_empty() {
            return Ok(Vec::new());
        }
        let mut removed = Vec::new();
        for digest in locks.digests().filter(|d| !used.contains(*d)) {
            let path = self.blob(digest);
            let bytes = bytes_of(&path);
            if path.symlink_metadata().is_ok() {
                self.fs.remove(&path).map_err(io_error("remove", &path))?;
                removed.push(Garbage { path, bytes, kind: "blob" });
            }
            let _ = self.fs.remove(&self.parts(digest));
        }
        Ok(removed)
    }

    /// Removes blobs without a model, and transfers and temporary files that nobody goes on with: those older than a week, with `all` every transfer.
    ///
    /// # Errors
    /// `Damaged` when a manifest cannot be read, since its blobs might be taken for unused ones; `Io`.
    pub fn gc(&self, all: bool) -> Result<Vec<Garbage>, HubError> {
        if let Some((name, reason)) = self.references()?.unreadable.into_iter().next() {
            return Err(HubError::Damaged { name: name.to_string(), reason });
        }
        self.prepare()?;
        let old = |path: &Path| all || age(path).is_some_and(|age| age > OLD);
        let mut removed = self.collect(&self.digests_in("blobs")?)?;
        let unfinished = self.digests_in("partial")?;
        let locks = self.lock_free(&unfinished)?;
        for digest in locks.digests() {
            let path = self.partial(digest);
            if old(&path) {
                removed.push(self.discard(path, "partial")?);
                let _ = self.fs.remove(&self.parts(digest));
            }
        }
        self.sweep_uploads(&mut removed)?;
        self.sweep_maps()?;
        self.sweep_temporary(&mut removed)?;
        Ok(removed)
    }

    /// Uploads that nobody made a model of in a day.
    fn sweep_uploads(&self, removed: &mut Vec<Garbage>) -> Result<(), HubError> {
        let locks = self.lock_free(&self.digests_in("uploads")?)?;
        for digest in locks.digests() {
            let path = self.uploaded(digest);
            if age(&path).is_some_and(|age| age > UPLOADED) {
                removed.push(self.discard(path, "upload")?);
            }
        }
        Ok(())
    }

    /// Checksums of parts that are not here any more.
    fn sweep_maps(&self) -> Result<(), HubError> {
        let locks = self.lock_free(&self.digests_in("parts")?)?;
        for digest in locks.digests() {
            if !self.blob(digest).exists() && !self.partial(digest).exists() {
                let _ = self.fs.remove(&self.parts(digest));
            }
        }
        Ok(())
    }

    /// Small files and unpacked packages. Those that a process may be writing are young.
    fn sweep_temporary(&self, removed: &mut Vec<Garbage>) -> Result<(), HubError> {
        for (name, path) in entries(&self.root.join("tmp"))? {
            let scratch = name.strip_prefix("sha256-").and_then(|hex| hex.parse::<Digest>().ok());
            let free = match scratch {
                Some(digest) => self.lock_free(&[digest])?.holds(&digest),
                None => true,
            };
            if free && age(&path).is_some_and(|age| age > OLD) {
                removed.push(self.discard(path, "temporary")?);
            }
        }
        Ok(())
    }

    fn discard(&self, path: PathBuf, kind: &'static str) -> Result<Garbage, HubError> {
        let bytes = bytes_of(&path);
        match path.is_dir() {
            true => fs::remove_dir_all(&path),
            false => self.fs.remove(&path),
        }
        .map_err(io_error("remove", &path))?;
        Ok(Garbage { path, bytes, kind })
    }

    /// What the manifests say, each read once.
    fn references(&self) -> Result<References, HubError> {
        let mut found = References::default();
        for (name, path) in self.manifests()? {
            let parsed = match read(&path, MAX_MANIFEST) {
                Ok(bytes) => Manifest::parse(&bytes),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => Err(format!("its manifest cannot be read: {e}")),
            };
            match parsed {
                Ok(manifest) => found.used.extend(manifest.blobs().map(|l| l.digest)),
                Err(reason) => found.unreadable.push((name, reason)),
            }
        }
        Ok(found)
    }

    fn digests_in(&self, folder: &str) -> Result<Vec<Digest>, HubError> {
        let all = entries(&self.root.join(folder))?.into_iter();
        Ok(all.filter_map(|(name, _)| name.strip_prefix("sha256-")?.parse().ok()).collect())
    }

    /// Removes folders of manifests that have become empty.
    fn prune(&self, mut folder: &Path) {
        while folder != self.root.join("manifests") && self.fs.remove_dir(folder).is_ok() {
            let Some(parent) = folder.parent() else { return };
            folder = parent;
        }
    }
}

fn age(path: &Path) -> Option<Duration> {
    let changed = fs::symlink_metadata(path).ok()?.modified().ok()?;
    SystemTime::now().duration_since(changed).ok()
}

/// What removing a file frees. A reference frees nothing, and neither does one of two names.
fn bytes_of(path: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if meta.is_file() && meta.nlink() > 1 {
            return 0;
        }
    }
    meta.len()
}
