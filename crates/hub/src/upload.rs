//! Blobs that come from outside before any model names them: received into `tmp`, held against their digest, then kept in `uploads` under it
//! until a model is made of them, or a day has passed and `gc` comes by. They are no blobs before, so nothing takes them for unused ones.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::Hub;
use crate::digest::{Digest, Hasher};
use crate::error::{HubError, io_error};
use crate::store::Store;

/// Longest upload: models of a trillion weights have less.
const MAX_BYTES: u64 = 4 << 40;

/// Bytes that are arriving. Dropped before the end, nothing of them stays.
#[derive(Debug)]
pub struct Upload {
    store: Store,
    wanted: Digest,
    file: File,
    path: PathBuf,
    hasher: Hasher,
    bytes: u64,
    kept: bool,
}

impl Hub {
    /// The file with this digest (`sha256:` and 64 hexadecimal digits): of the store, or uploaded.
    ///
    /// # Errors
    /// `BadDigest`.
    pub fn blob(&self, digest: &str) -> Result<Option<PathBuf>, HubError> {
        let digest = parse(digest)?;
        let places = [self.store.blob(&digest), self.store.uploaded(&digest)];
        Ok(places.into_iter().find(|path| path.is_file()))
    }

    /// Begins to receive the file with this digest, of `bytes` if that is known.
    ///
    /// # Errors
    /// `BadDigest`, `NoSpace`, `Io`.
    pub fn upload(&self, digest: &str, bytes: Option<u64>) -> Result<Upload, HubError> {
        let wanted = parse(digest)?;
        self.store.prepare()?;
        self.store.require_space(bytes.unwrap_or(0))?;
        let path = self.store.temporary();
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(io_error("create", &path))?;
        let store = self.store.clone();
        Ok(Upload { store, wanted, file, path, hasher: Hasher::default(), bytes: 0, kept: false })
    }
}

impl Upload {
    /// Takes what comes next.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.bytes += bytes.len() as u64;
        let long = || std::io::Error::other(format!("an upload has at most {MAX_BYTES} bytes"));
        let written = match self.bytes > MAX_BYTES {
            true => Err(long()),
            false => self.file.write_all(bytes),
        };
        self.hasher.update(bytes);
        written.map_err(self.store.unwritten(&self.path, bytes))
    }

    /// All has come: keeps it if it is what was announced.
    ///
    /// # Errors
    /// `WrongDigest`, `Io`. Nothing stays then.
    pub fn finish(mut self) -> Result<(), HubError> {
        let found = std::mem::take(&mut self.hasher).finish();
        if found != self.wanted {
            let (expected, found) = (self.wanted.to_string(), found.to_string());
            return Err(HubError::WrongDigest { expected, found });
        }
        self.store.keep_upload(&self.path, &self.wanted)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Files of the store under the names that they have elsewhere, in a folder of their own; gone when dropped.
#[derive(Debug)]
pub struct Gathered {
    folder: tempfile::TempDir,
    files: Vec<PathBuf>,
}

impl Hub {
    /// Brings files together that belong together, given by name and digest. Of a name the last part counts. Without any files the folder is
    /// for the caller to write into.
    ///
    /// # Errors
    /// `BadDigest`, `NotImportable` for a file that is not here or a name that comes twice, `Io`.
    pub fn gather(&self, files: &[(String, String)]) -> Result<Gathered, HubError> {
        self.store.prepare()?;
        let place = self.root().join("tmp");
        let folder = tempfile::tempdir_in(&place).map_err(io_error("create", &place))?;
        let mut gathered = Vec::new();
        for (name, digest) in files {
            let refused = |reason: &str| HubError::NotImportable {
                path: PathBuf::from(name),
                reason: reason.to_owned(),
            };
            let from = self.blob(digest)?.ok_or_else(|| refused("its file is not here"))?;
            let last = name.rsplit('/').next().filter(|n| !n.is_empty() && *n != "..");
            let to = folder.path().join(last.ok_or_else(|| refused("it has no name"))?);
            if to.exists() {
                return Err(refused("two files have this name"));
            }
            let linked = fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop));
            linked.map_err(io_error("link", &to))?;
            gathered.push(to);
        }
        Ok(Gathered { folder, files: gathered })
    }
}

impl Gathered {
    /// Where they are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Each of them, in the order given.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

/// `sha256:` and 64 digits.
fn parse(text: &str) -> Result<Digest, HubError> {
    let bad = |reason| HubError::BadDigest { digest: text.to_owned(), reason };
    match text.starts_with("sha256:") {
        true => text.parse().map_err(bad),
        false => Err(bad("it does not begin with sha256:".to_owned())),
    }
}
