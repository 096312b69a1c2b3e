//! The store: blobs named by their SHA-256, and manifests that name models. Layout, version 2, in Ollama's shape so that one reader
//! serves both: `manifests/HOST/NAMESPACE/MODEL/TAG` and `blobs/sha256-HEX`; beside them `partial/` what a broken transfer left, `parts/` the
//! checksums of a blob's parts, `locks/` a lock per blob, `tmp/` scratch of whoever holds one, `version`.
//!
//! Readers take no lock. A blob or manifest appears by rename after fsync, so it is wholly there or not at all. Whoever adds a blob holds
//! its lock from before it appears until a manifest names it; whoever removes one holds it too. Deliberately absent: reference
//! counts (manifests are few, they are read), a database, an index.

mod collect;
mod lock;
mod migrate;
mod verify;
mod write;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::digest::{Digest, Hasher};
use crate::error::{HubError, io_error};
use crate::fs::{Disk, Fs};
use crate::manifest::{Config, Kind, Layer, MAX_MANIFEST, Manifest};
use crate::name::ModelName;

pub use collect::Garbage;
pub(crate) use lock::Locks;
pub use verify::Finding;
pub(crate) use verify::{feed, hash};
pub use write::Linking;

/// Longest small layer (template, system prompt, parameters, configuration) that is read.
const MAX_SMALL: u64 = 8 << 20;
/// Most manifests, so that a folder full of something else is given up.
const MAX_MANIFESTS: usize = 100_000;
/// Seconds over which the sealing times of blobs spread.
const SEALS: u32 = 1 << 24;
/// 2000-01-01 in Unix time: where they begin.
const FIRST_SEAL: u64 = 946_684_800;

/// A model whose manifest and files are there.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub name: ModelName,
    pub manifest: Manifest,
    /// SHA-256 of the manifest's bytes: the model's identity.
    pub id: Digest,
    pub config: Config,
    /// When the manifest was written.
    pub modified: SystemTime,
}

/// A manifest that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// The model's name.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A store at a folder, which need not exist yet.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    root: PathBuf,
    fs: Arc<dyn Fs>,
}

impl Store {
    pub fn at(root: PathBuf) -> Store {
        Store::on(root, Arc::new(Disk))
    }

    /// A store whose changes go through `fs`.
    pub fn on(root: PathBuf, fs: Arc<dyn Fs>) -> Store {
        Store { root, fs }
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

    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(format!("sha256-{digest}"))
    }

    /// Where a transfer of this blob gathers its bytes.
    pub fn partial(&self, digest: &Digest) -> PathBuf {
        self.root.join("partial").join(format!("sha256-{digest}"))
    }

    /// Which parts of this blob are here, with a checksum of each; kept as long as the blob.
    pub fn parts(&self, digest: &Digest) -> PathBuf {
        self.root.join("parts").join(format!("sha256-{digest}"))
    }

    /// Scratch folder for whoever holds this blob's lock, on the same file system as the blobs.
    pub fn scratch(&self, digest: &Digest) -> PathBuf {
        self.root.join("tmp").join(format!("sha256-{digest}"))
    }

    /// Where a blob waits that was uploaded and that no model names yet.
    pub fn uploaded(&self, digest: &Digest) -> PathBuf {
        self.root.join("uploads").join(format!("sha256-{digest}"))
    }

    /// The digest of an upload, which its name tells.
    pub fn digest_of_upload(&self, path: &Path) -> Option<Digest> {
        let digest = path.file_name()?.to_str()?.strip_prefix("sha256-")?.parse().ok()?;
        (self.uploaded(&digest) == path).then_some(digest)
    }

    /// Whether the whole blob is here. Content was verified before it got its name; the length is checked again because it is cheap.
    pub fn has(&self, layer: &Layer) -> bool {
        fs::metadata(self.blob(&layer.digest)).is_ok_and(|m| m.is_file() && m.len() == layer.size)
    }

    /// The stored model of this name, `None` when there is none.
    ///
    /// # Errors
    /// `Damaged` when there is a manifest but it, or one of its blobs, is not usable.
    pub fn get(&self, name: &ModelName) -> Result<Option<Stored>, HubError> {
        let path = self.manifest_path(name);
        let name = self.spelled(&path).unwrap_or_else(|| name.clone());
        match self.load(&name, &path) {
            Ok(found) => Ok(found),
            Err(reason) => Err(HubError::Damaged { name: name.to_string(), reason }),
        }
    }

    /// Every stored model by name, and the manifests that cannot be used, each with its reason. Stray files are passed over.
    pub fn list(&self) -> Result<(Vec<Stored>, Vec<Damaged>), HubError> {
        Ok(self.loaded(self.manifests()?))
    }

    /// As `list`, of a store that is somebody else's: folders that cannot be read are told of and hide no others.
    pub fn list_readable(
        &self,
        unreadable: &mut dyn FnMut(HubError),
    ) -> (Vec<Stored>, Vec<Damaged>) {
        self.loaded(self.readable_manifests(unreadable))
    }

    fn loaded(&self, manifests: Vec<(ModelName, PathBuf)>) -> (Vec<Stored>, Vec<Damaged>) {
        let (mut models, mut damaged) = (Vec::new(), Vec::new());
        for (name, path) in manifests {
            match self.load(&name, &path) {
                Ok(Some(stored)) => models.push(stored),
                Ok(None) => {}
                Err(reason) => damaged.push(Damaged { name: name.to_string(), reason }),
            }
        }
        models.sort_by_cached_key(|m| m.name.to_string());
        damaged.sort_by(|a, b| a.name.cmp(&b.name));
        (models, damaged)
    }

    /// The stored model of this name, whatever its tag, that was stored last.
    pub fn newest(&self, name: &ModelName) -> Result<Option<ModelName>, HubError> {
        Ok(newest(name, self.manifests()?))
    }

    /// As `newest`, among what can be read.
    pub fn newest_readable(&self, name: &ModelName) -> Option<ModelName> {
        newest(name, self.readable_manifests(&mut |_| ()))
    }

    /// A model's manifest, byte for byte.
    pub fn manifest_bytes(&self, name: &ModelName) -> Result<Vec<u8>, HubError> {
        let path = self.manifest_path(name);
        read(&path, MAX_MANIFEST).map_err(io_error("read", &path))
    }

    /// The text of a small layer.
    ///
    /// # Errors
    /// `Damaged` when it is not there, too long, or no text.
    pub fn text(&self, name: &ModelName, layer: &Layer) -> Result<String, HubError> {
        self.small(layer)
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "a layer is no text".into()))
            .map_err(|reason| HubError::Damaged { name: name.to_string(), reason })
    }

    fn small(&self, layer: &Layer) -> Result<Vec<u8>, String> {
        let path = self.blob(&layer.digest);
        read(&path, MAX_SMALL)
            .map_err(|e| format!("its layer {} cannot be read: {e}", layer.digest))
    }

    /// The file of a manifest; of one that exists under another spelling, that.
    fn manifest_path(&self, name: &ModelName) -> PathBuf {
        let mut path = self.root.join("manifests");
        for part in name.parts() {
            let exact = path.join(part);
            path = match exact.exists() {
                true => exact,
                false => respelled(&path, part).unwrap_or(exact),
            };
        }
        path
    }

    /// The name that a manifest's path spells.
    fn spelled(&self, path: &Path) -> Option<ModelName> {
        let mut parts = path.strip_prefix(self.root.join("manifests")).ok()?.iter();
        let mut next = || parts.next()?.to_str();
        ModelName::from_parts(next()?, next()?, next()?, next()?)
    }

    fn load(&self, name: &ModelName, path: &Path) -> Result<Option<Stored>, String> {
        let modified = match fs::metadata(path) {
            Ok(meta) if meta.is_file() => meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            Ok(_) => return Ok(None),
            Err(e) if is_absent(&e) => return Ok(None),
            Err(e) => return Err(format!("its manifest cannot be read: {e}")),
        };
        let bytes =
            read(path, MAX_MANIFEST).map_err(|e| format!("its manifest cannot be read: {e}"))?;
        let manifest = Manifest::parse(&bytes)?;
        if let Some(layer) = manifest.blobs().find(|layer| !self.has(layer)) {
            return Err(self.missing(layer));
        }
        if manifest.of(Kind::Model).next().is_none() {
            return Err(self.no_weights(&manifest));
        }
        let config = self.config(&manifest)?;
        let id = Hasher::of(&bytes);
        Ok(Some(Stored { name: name.clone(), manifest, id, config, modified }))
    }

    fn config(&self, manifest: &Manifest) -> Result<Config, String> {
        match manifest.config.size {
            0 => Ok(Config::default()),
            _ => Ok(serde_json::from_slice(&self.small(&manifest.config)?).unwrap_or_default()),
        }
    }

    /// Why a model that is whole is none for hob.
    fn no_weights(&self, manifest: &Manifest) -> String {
        let Config { model_format, remote_host, .. } = self.config(manifest).unwrap_or_default();
        match (remote_host, model_format.as_str()) {
            (Some(host), _) => format!("it runs on {host}, its weights are not here"),
            (None, "" | "gguf") => "it has no weights in GGUF".to_owned(),
            (None, other) => format!("its weights are in {other}, not in GGUF"),
        }
    }

    fn missing(&self, layer: &Layer) -> String {
        let Layer { digest, size, .. } = layer;
        let aside = fs::metadata(self.partial(digest)).is_ok_and(|m| m.len() == *size);
        match (aside, fs::symlink_metadata(self.blob(digest))) {
            (true, _) => {
                "its file was found damaged; pulling it repairs the broken parts".to_owned()
            }
            (_, Ok(meta)) if meta.is_symlink() => {
                let path = fs::read_link(self.blob(digest)).unwrap_or_default();
                format!("the file it refers to is gone or has another length: {}", path.display())
            }
            (_, Ok(meta)) => format!("its file has {} bytes and should have {size}", meta.len()),
            (_, Err(_)) => format!("its file of {size} bytes is missing"),
        }
    }

    /// Name and path of every manifest file.
    fn manifests(&self) -> Result<Vec<(ModelName, PathBuf)>, HubError> {
        self.walk(&mut Err)
    }

    /// As `manifests`, without what is in folders that cannot be read.
    fn readable_manifests(
        &self,
        unreadable: &mut dyn FnMut(HubError),
    ) -> Vec<(ModelName, PathBuf)> {
        let told = &mut |e| {
            unreadable(e);
            Ok(())
        };
        self.walk(told).unwrap_or_default()
    }

    fn walk(
        &self,
        failed: &mut dyn FnMut(HubError) -> Result<(), HubError>,
    ) -> Result<Vec<(ModelName, PathBuf)>, HubError> {
        let mut folders = vec![self.root.join("manifests")];
        for _ in 0..4 {
            let mut next = Vec::new();
            for folder in folders {
                match entries(&folder) {
                    Ok(inside) => {
                        let shown = inside.into_iter().filter(|(name, _)| !name.starts_with('.'));
                        next.extend(shown.map(|(_, path)| path));
                    }
                    Err(e) => failed(e)?,
                }
                if next.len() > MAX_MANIFESTS {
                    let many = io::Error::other(format!("more than {MAX_MANIFESTS} entries"));
                    failed(io_error("read", &folder)(many))?;
                    next.truncate(MAX_MANIFESTS);
                    break;
                }
            }
            folders = next;
        }
        let named = |path: PathBuf| self.spelled(&path).map(|name| (name, path));
        Ok(folders.into_iter().filter_map(named).collect())
    }
}

/// Of these manifests, the name of the one that was written last and differs from this name in its tag at most.
fn newest(name: &ModelName, manifests: Vec<(ModelName, PathBuf)>) -> Option<ModelName> {
    let same = |other: &ModelName| name.with_tag(other.tag()).is_ok_and(|n| n == *other);
    let changed = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let all = manifests.into_iter().filter(|(other, _)| same(other));
    all.max_by_key(|(_, path)| changed(path)).map(|(name, _)| name)
}

/// The time of change that a blob has as long as nobody writes to it: a mark that costs no file of its own. Whatever writes to it
/// sets another one, and the blob is then verified before it is used.
fn seal(digest: &Digest) -> SystemTime {
    let spread = u64::from(digest.start() % SEALS);
    SystemTime::UNIX_EPOCH + Duration::from_secs(FIRST_SEAL + spread)
}

/// An entry of the folder that differs from `part` in case only.
fn respelled(folder: &Path, part: &str) -> Option<PathBuf> {
    let all = entries(folder).unwrap_or_default();
    all.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(part)).map(|(_, path)| path)
}

/// Names and paths in a folder; none when it is not there or is none. Names that are not UTF-8 are none of ours.
pub(crate) fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, HubError> {
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(e) if is_absent(&e) => return Ok(Vec::new()),
        Err(e) => return Err(io_error("read", folder)(e)),
    };
    let mut found = Vec::new();
    for entry in listing {
        let entry = entry.map_err(io_error("read", folder))?;
        found.extend(entry.file_name().into_string().ok().map(|name| (name, entry.path())));
    }
    Ok(found)
}

pub(crate) fn is_absent(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// A whole file of at most `limit` bytes.
fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("it is longer than {limit} bytes")));
    }
    Ok(bytes)
}

/// A temporary file with the permissions of an ordinary one: other users' servers may read the store.
pub(crate) fn new_file(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    #[cfg_attr(not(unix), allow(unused_mut))]
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}
