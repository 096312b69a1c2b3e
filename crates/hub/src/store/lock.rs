//! Locks on blobs, held through open files: the kernel drops them when a process dies, whatever way. There is one order in which they are
//! taken, so that no two processes wait for each other: weights before small layers (whose content may depend on what was fetched),
//! each by digest. Lock files stay; removing one would let two hold the same lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::time::Duration;

use super::Store;
use crate::digest::Digest;
use crate::error::{HubError, io_error};
use crate::manifest::{Layer, Manifest};

/// How often a waiting process looks whether a lock is free.
const POLL: Duration = Duration::from_millis(100);

/// Holds the locks of some blobs until dropped.
#[derive(Debug, Default)]
pub(crate) struct Locks(Vec<(Digest, File)>);

impl Locks {
    pub fn holds(&self, digest: &Digest) -> bool {
        self.0.iter().any(|(held, _)| held == digest)
    }

    /// Both: those of weights, and then those of small layers.
    pub fn with(mut self, other: Locks) -> Locks {
        self.0.extend(other.0);
        self
    }

    /// The blobs locked.
    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.0.iter().map(|(digest, _)| digest)
    }
}

impl Store {
    /// Takes the locks of some blobs, waiting as long as another process holds one; `waiting` is called each time it was still held.
    pub fn lock(&self, digests: &[Digest], mut waiting: impl FnMut()) -> Result<Locks, HubError> {
        self.lock_unless(digests, || {
            waiting();
            Ok(())
        })
    }

    /// As `lock`, until `waiting` has enough of it.
    pub fn lock_unless(
        &self,
        digests: &[Digest],
        mut waiting: impl FnMut() -> Result<(), HubError>,
    ) -> Result<Locks, HubError> {
        self.prepare()?;
        let mut held = Vec::new();
        for digest in in_order(digests) {
            loop {
                if let Some(file) = self.try_lock_one(&digest)? {
                    held.push((digest, file));
                    break;
                }
                waiting()?;
                std::thread::sleep(POLL);
            }
        }
        Ok(Locks(held))
    }

    /// Takes the locks of all of a model's blobs.
    pub fn lock_model(&self, manifest: &Manifest) -> Result<Locks, HubError> {
        let (large, small): (Vec<&Layer>, Vec<&Layer>) =
            manifest.blobs().partition(|layer| layer.kind().is_weights());
        let digests = |layers: Vec<&Layer>| layers.iter().map(|l| l.digest).collect::<Vec<_>>();
        let first = self.lock(&digests(large), || ())?;
        Ok(first.with(self.lock(&digests(small), || ())?))
    }

    /// Takes those locks that nobody holds.
    pub fn lock_free(&self, digests: &[Digest]) -> Result<Locks, HubError> {
        self.prepare()?;
        let mut held = Vec::new();
        for digest in in_order(digests) {
            held.extend(self.try_lock_one(&digest)?.map(|file| (digest, file)));
        }
        Ok(Locks(held))
    }

    fn try_lock_one(&self, digest: &Digest) -> Result<Option<File>, HubError> {
        let path = self.root.join("locks").join(format!("sha256-{digest}.lock"));
        if path.is_symlink() {
            return Err(io_error("lock", &path)(io::Error::other("it is a link to another place")));
        }
        let options = OpenOptions::new().create(true).truncate(false).write(true).clone();
        let file = options.open(&path).map_err(io_error("open", &path))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(TryLockError::Error(e)) => return Err(io_error("lock", &path)(e)),
            }
        }
    }
}

fn in_order(digests: &[Digest]) -> Vec<Digest> {
    let mut sorted = digests.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
}
