//! Adding to the store: blobs first, each synced before it gets its name, then the manifest, the one step that makes a model appear.
//! A failure before that step leaves blobs nobody names, which `gc` removes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::lock::Locks;
use super::{Store, Stored, seal};
use crate::digest::{Digest, Hasher};
use crate::error::{HubError, io_error};
use crate::manifest::{Kind, Layer, Manifest};
use crate::name::ModelName;

/// How a file that stays where it is becomes a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linking {
    /// A second name for the same bytes, which survives the first one's removal; a reference where that cannot be.
    Hard,
    /// A reference to the path.
    Symbolic,
}

impl Store {
    /// Makes the folders a writer needs, and brings an older layout up to date.
    ///
    /// # Errors
    /// `Io`; `Version` when a later hob has written the store.
    pub fn prepare(&self) -> Result<(), HubError> {
        self.make_folder(&self.root)?;
        for folder in ["blobs", "manifests", "partial", "parts", "locks", "tmp"] {
            let path = self.root.join(folder);
            if !path.is_dir() {
                self.fs.create_dir(&path).map_err(io_error("create", &path))?;
                self.sync_dir(&self.root)?;
            }
        }
        self.migrate()
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
    pub fn adopt(&self, locks: &Locks, from: &Path, digest: &Digest) -> Result<(), HubError> {
        debug_assert!(locks.holds(digest));
        let _ = self.fs.set_modified(from, seal(digest));
        self.fs.sync(from).map_err(io_error("sync", from))?;
        let blob = self.blob(digest);
        self.fs.rename(from, &blob).map_err(io_error("write", &blob))?;
        self.sync_dir(&self.root.join("blobs"))?;
        let _ = self.fs.remove(&self.partial(digest));
        let _ = fs::remove_dir_all(self.scratch(digest));
        Ok(())
    }

    /// Gives a complete, verified file its place among the uploads.
    pub fn keep_upload(&self, from: &Path, digest: &Digest) -> Result<(), HubError> {
        // Its time of change says when it came, until it is a blob.
        self.fs.sync(from).map_err(io_error("sync", from))?;
        self.rename_into(from, &self.uploaded(digest))
    }

    /// Makes a blob of a file that stays where it is. The caller has hashed it and holds its lock.
    pub fn link(
        &self,
        locks: &Locks,
        from: &Path,
        digest: &Digest,
        linking: Linking,
    ) -> Result<(), HubError> {
        debug_assert!(locks.holds(digest));
        let blob = self.blob(digest);
        let temporary = self.temporary();
        let from = from.canonicalize().map_err(io_error("read", from))?;
        let hard = linking == Linking::Hard && self.fs.hard_link(&from, &temporary).is_ok();
        if !hard {
            self.fs.symlink(&from, &temporary).map_err(io_error("link", &from))?;
        }
        self.fs.rename(&temporary, &blob).map_err(io_error("write", &blob))?;
        self.sync_dir(&self.root.join("blobs"))
    }

    /// Stores a small layer, unless it is here. The caller holds its lock.
    pub fn add(&self, locks: &Locks, kind: Kind, content: &[u8]) -> Result<Layer, HubError> {
        let layer = Layer::new(kind, Hasher::of(content), content.len() as u64);
        self.add_as(locks, &layer, content)?;
        Ok(layer)
    }

    /// Stores this layer's content, unless it is here.
    pub fn add_as(&self, locks: &Locks, layer: &Layer, content: &[u8]) -> Result<(), HubError> {
        if self.has(layer) {
            return Ok(());
        }
        let temporary = self.temporary();
        self.fs.write(&temporary, content).map_err(self.unwritten(&temporary, content))?;
        let adopted = self.adopt(locks, &temporary, &layer.digest);
        if adopted.is_err() {
            let _ = self.fs.remove(&temporary);
        }
        adopted
    }

    /// Makes the model appear, in place of one of the same name. The caller holds the locks of all its blobs, which are here. Blobs that only
    /// the model before used are removed.
    pub fn commit(
        &self,
        locks: &Locks,
        name: &ModelName,
        manifest: &[u8],
    ) -> Result<Stored, HubError> {
        let parsed = Manifest::parse(manifest).map_err(|reason| damaged(name, reason))?;
        debug_assert!(parsed.blobs().all(|layer| locks.holds(&layer.digest)));
        let path = self.manifest_path(name);
        let before = self.layers_of(&path);
        self.place(&path, manifest)?;
        let gone: Vec<Digest> =
            before.into_iter().filter(|d| !parsed.blobs().any(|l| l.digest == *d)).collect();
        // The model is stored; what cannot be removed now is left to `gc`.
        let _ = self.collect(&gone);
        let lost = || damaged(name, "it vanished while it was being stored".to_owned());
        self.get(name)?.ok_or_else(lost)
    }

    /// Gives a model a second name.
    ///
    /// # Errors
    /// `Damaged` when the model is; `Io`. `None` when there is no such model.
    pub fn copy(&self, from: &ModelName, to: &ModelName) -> Result<Option<Stored>, HubError> {
        let Some(stored) = self.get(from)? else { return Ok(None) };
        let locks = self.lock_model(&stored.manifest)?;
        let manifest = self.manifest_bytes(from)?;
        self.commit(&locks, to, &manifest).map(Some)
    }

    pub(super) fn place(&self, path: &Path, manifest: &[u8]) -> Result<(), HubError> {
        let temporary = self.temporary();
        let write = || {
            self.fs.write(&temporary, manifest)?;
            self.fs.sync(&temporary)
        };
        let placed = write()
            .map_err(self.unwritten(path, manifest))
            .and_then(|()| self.rename_into(&temporary, path));
        if placed.is_err() {
            let _ = self.fs.remove(&temporary);
        }
        placed
    }

    /// Why this content could not be written: on a full disk, how much room it takes.
    pub fn unwritten(&self, path: &Path, content: &[u8]) -> impl FnOnce(io::Error) -> HubError {
        let (root, needed) = (self.root.clone(), content.len() as u64);
        let other = io_error("write", path);
        move |e| match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                let free = fs4::available_space(&root).unwrap_or(0);
                HubError::NoSpace { path: root, needed, free }
            }
            _ => other(e),
        }
    }

    /// Renames into a folder that another process may remove while it is empty.
    fn rename_into(&self, from: &Path, to: &Path) -> Result<(), HubError> {
        let folder = to.parent().unwrap_or(&self.root);
        for _ in 0..8 {
            self.make_folder(folder)?;
            match self.fs.rename(from, to) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(io_error("write", to)(e)),
                Ok(()) => return self.sync_dir(folder),
            }
        }
        Err(io_error("write", to)(io::ErrorKind::NotFound.into()))
    }

    /// Makes a folder and those above it, each on the disk before the next.
    fn make_folder(&self, folder: &Path) -> Result<(), HubError> {
        if folder.as_os_str().is_empty() || folder.is_dir() {
            return Ok(());
        }
        let parent = folder.parent().unwrap_or(Path::new(""));
        self.make_folder(parent)?;
        self.fs.create_dir(folder).map_err(io_error("create", folder))?;
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        self.sync_dir(parent)
    }

    pub(super) fn sync_dir(&self, folder: &Path) -> Result<(), HubError> {
        self.fs.sync_dir(folder).map_err(io_error("sync", folder))
    }

    /// The blobs that a manifest names; none when it cannot be read.
    fn layers_of(&self, path: &Path) -> Vec<Digest> {
        let manifest = fs::read(path).ok().and_then(|bytes| Manifest::parse(&bytes).ok());
        manifest.map(|m| m.blobs().map(|l| l.digest).collect()).unwrap_or_default()
    }

    /// A name in `tmp` that nobody else uses, not even a process of the same number in another container.
    pub fn temporary(&self) -> PathBuf {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (process, n) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        self.root.join("tmp").join(format!("{process}-{n}-{}", now.as_nanos()))
    }
}

fn damaged(name: &ModelName, reason: String) -> HubError {
    HubError::Damaged { name: name.to_string(), reason }
}
