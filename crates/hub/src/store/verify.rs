//! Reading blobs again and holding them against their names. What does not fit is set aside as a partial transfer, with the checksums of
//! its parts, so that no model is run from it and the next pull fetches only what is broken. Files that are somebody else's are
//! reported and left alone.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{Store, Stored, seal};
use crate::Progress;
use crate::digest::{Digest, Hasher};
use crate::error::{HubError, io_error};
use crate::manifest::Layer;

/// Bytes hashed between two reports.
const CHUNK: usize = 4 << 20;

/// A blob that is not what its name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A model that uses it.
    pub model: String,
    /// The file.
    pub path: PathBuf,
    /// What was found.
    pub reason: String,
    /// Whether it was set aside, so that pulling the model repairs it.
    pub set_aside: bool,
}

impl Store {
    /// Verifies every blob of these models, each blob once.
    ///
    /// # Errors
    /// `Io` when a blob cannot be read at all.
    pub fn verify(
        &self,
        models: &[Stored],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<Finding>, HubError> {
        let mut blobs: Vec<(&Stored, &Layer)> =
            models.iter().flat_map(|m| m.manifest.blobs().map(move |l| (m, l))).collect();
        blobs.sort_by_key(|(_, layer)| layer.digest);
        blobs.dedup_by_key(|(_, layer)| layer.digest);
        let total = blobs.iter().map(|(_, layer)| layer.size).sum();
        let (mut findings, mut done) = (Vec::new(), 0);
        for (model, layer) in blobs {
            let mut report = |bytes| progress(Progress::Verifying { done: done + bytes, total });
            findings.extend(self.verify_blob(model, layer, &mut report)?);
            done += layer.size;
        }
        Ok(findings)
    }

    /// Verifies those blobs of a model that somebody wrote to since they were stored.
    ///
    /// # Errors
    /// `Damaged` when one is not what it was; `Io`.
    pub fn check(
        &self,
        model: &Stored,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), HubError> {
        for layer in model.manifest.blobs().filter(|layer| self.is_changed(layer)) {
            let total = layer.size;
            let mut report = |done| progress(Progress::Verifying { done, total });
            if let Some(finding) = self.verify_blob(model, layer, &mut report)? {
                return Err(HubError::Damaged { name: finding.model, reason: finding.reason });
            }
        }
        Ok(())
    }

    fn verify_blob(
        &self,
        model: &Stored,
        layer: &Layer,
        report: &mut dyn FnMut(u64),
    ) -> Result<Option<Finding>, HubError> {
        let path = self.blob(&layer.digest);
        let found = hash(&path, report)?;
        if found == layer.digest {
            if self.is_changed(layer) {
                let _ = self.fs.set_modified(&path, seal(&layer.digest));
            }
            return Ok(None);
        }
        let set_aside = self.set_aside(&layer.digest)?;
        let reason = match set_aside {
            true => "its file was found damaged; pulling it repairs the broken parts",
            false => "its file was found changed",
        };
        let model = model.name.to_string();
        Ok(Some(Finding { model, path, reason: reason.to_owned(), set_aside }))
    }

    /// Moves a damaged blob to where transfers go on. Not a file that has other names, and none that another process is working on.
    fn set_aside(&self, digest: &Digest) -> Result<bool, HubError> {
        let blob = self.blob(digest);
        if !is_ours(&blob) {
            return Ok(false);
        }
        let locks = self.lock_free(&[*digest])?;
        if !locks.holds(digest) {
            return Ok(false);
        }
        let partial = self.partial(digest);
        self.fs.rename(&blob, &partial).map_err(io_error("rename", &blob))?;
        self.sync_dir(&self.root.join("blobs"))?;
        Ok(true)
    }

    fn is_changed(&self, layer: &Layer) -> bool {
        let path = self.blob(&layer.digest);
        let changed = fs::metadata(&path).and_then(|meta| meta.modified());
        is_ours(&path) && changed.is_ok_and(|time| time != seal(&layer.digest))
    }
}

/// Whether a blob is a file with no other name.
fn is_ours(path: &Path) -> bool {
    let Ok(meta) = fs::symlink_metadata(path) else { return false };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        meta.is_file() && meta.nlink() == 1
    }
    #[cfg(not(unix))]
    meta.is_file()
}

/// The digest of a file; `report` is told the bytes read so far.
pub(crate) fn hash(path: &Path, report: &mut dyn FnMut(u64)) -> Result<Digest, HubError> {
    let mut hasher = Hasher::default();
    feed(&mut hasher, path, report)?;
    Ok(hasher.finish())
}

/// Takes a whole file into a digest; returns its length. `report` is told the bytes read so far.
pub(crate) fn feed(
    hasher: &mut Hasher,
    path: &Path,
    report: &mut dyn FnMut(u64),
) -> Result<u64, HubError> {
    let mut file = File::open(path).map_err(io_error("read", path))?;
    let mut done = 0;
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = file.read(&mut chunk).map_err(io_error("read", path))?;
        if count == 0 {
            return Ok(done);
        }
        hasher.update(&chunk[..count]);
        done += count as u64;
        report(done);
    }
}
