//! hob-hub: finds, downloads, verifies and stores model files. It knows names, addresses, bytes and digests, and nothing about what is
//! inside a model. Everything blocks and reports through a callback; callers with an event loop give it a thread.
//! First road only: one catalogue, hubs over plain HTTP, one Python package as the source of last resort. No search, no credentials.

mod catalogue;
mod digest;
mod error;
mod measured;
#[allow(dead_code, reason = "its callers are being written")]
mod net;
mod pull;
mod python;
mod reference;
mod store;
#[cfg(test)]
mod tests;
mod transfer;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use catalogue::{Catalogue, Entry};
use pull::Settings;
use reference::{Name, Reference};
use store::{Store, Stored};

pub use catalogue::Published;
pub use error::{HubError, SourceError, Tried};
pub use store::Damaged;

/// The tag of a name without one that the catalogue does not know.
const DEFAULT_TAG: &str = "latest";

/// SHA-256 of some bytes, in 64 hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    let mut hasher = digest::Hasher::default();
    hasher.update(bytes);
    hasher.finish().to_string()
}

/// A model file on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalModel {
    /// `name:tag` of a stored model; for a file given by its path, that path.
    pub name: String,
    /// The GGUF file.
    pub path: PathBuf,
    /// SHA-256 of the file in 64 hexadecimal digits; `None` for a file given by its path.
    pub digest: Option<String>,
    /// Length of the file.
    pub bytes: u64,
    /// When the model was stored; for a path, when the file was changed.
    pub modified: SystemTime,
    /// What the catalogue says about it; `None` for a file given by its path.
    pub facts: Option<Facts>,
}

/// Published facts about a model, as the catalogue has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// As in GGUF's `general.architecture`.
    pub architecture: String,
    /// Number of weights.
    pub parameters: u64,
    /// Quantization, in llama.cpp's spelling (`Q4_1`, `Q4_K_M`).
    pub recipe: String,
    /// Licence of the weights (SPDX).
    pub licence: String,
    /// Where the file came from, in words.
    pub source: String,
}

/// What the store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Usable models, by name.
    pub models: Vec<LocalModel>,
    /// Models that are there but cannot be used, with the reason.
    pub damaged: Vec<Damaged>,
}

/// What a pull is doing. `done` never exceeds `total`; rates and time left are the caller's arithmetic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Another process is fetching the same file; this one waits for it. Repeated while it lasts.
    Waiting,
    /// A source is being asked.
    Resolving {
        /// The source in words.
        source: String,
    },
    /// Bytes are arriving. Starts above zero when an interrupted transfer goes on.
    Bytes {
        /// Bytes here.
        done: u64,
        /// Bytes of the transfer.
        total: u64,
    },
    /// Bytes on the disk are being unpacked or checked.
    Verifying {
        /// Bytes checked.
        done: u64,
        /// Bytes to check.
        total: u64,
    },
    /// A source was given up; the next one follows, if there is one.
    Failed {
        /// The source in words.
        source: String,
        /// Why.
        reason: String,
    },
    /// The model is stored.
    Done,
}

/// The models of one user: a store, and the catalogue to fill it from.
#[derive(Clone, Debug)]
pub struct Hub {
    store: Store,
    catalogue: Catalogue,
    settings: Settings,
}

impl Hub {
    /// The user's hub, in `$HOB_HOME` or else `.hob` in the home directory. Creates nothing until something is pulled.
    ///
    /// # Errors
    /// `NoHome` when neither is known.
    pub fn open() -> Result<Hub, HubError> {
        Hub::at(Store::default_root()?)
    }

    /// A hub in a folder of the caller's choice, which need not exist. Addresses of the hubs come from the environment
    /// (`HF_ENDPOINT`, `MODELSCOPE_DOMAIN`).
    ///
    /// # Errors
    /// `Catalogue` if the program was built with a malformed one.
    pub fn at(root: PathBuf) -> Result<Hub, HubError> {
        Ok(Hub {
            store: Store::at(root),
            catalogue: Catalogue::built_in()?,
            settings: Settings::from_env(),
        })
    }

    /// The folder everything is kept in.
    pub fn root(&self) -> &Path {
        self.store.root()
    }

    /// Every name that can be pulled, as `name:tag`.
    pub fn catalogue(&self) -> impl Iterator<Item = String> {
        self.catalogue.fetchable()
    }

    /// What a model's publisher says of its shape, under its full name; `None` if the catalogue does not have that.
    ///
    /// # Errors
    /// `NoSuchFile`, `BadName`, `Unsupported`, `UnknownModel`, as in `find`.
    pub fn published(&self, reference: &str) -> Result<Option<(String, &Published)>, HubError> {
        let Reference::Name(name) = reference::parse(reference)? else { return Ok(None) };
        let entry = self.entry(&name)?;
        Ok(entry.published.as_ref().map(|published| (entry.full_name(), published)))
    }

    /// The local file that a reference means: an existing GGUF given by its path, or a stored model. `None` when the model is known
    /// but has to be pulled first.
    ///
    /// # Errors
    /// `NoSuchFile`, `BadName`, `Unsupported`, `UnknownModel`: the reference means nothing here. `NoSource`: it cannot be pulled
    /// either. `Damaged`: pull again.
    pub fn find(&self, reference: &str) -> Result<Option<LocalModel>, HubError> {
        let name = match reference::parse(reference)? {
            Reference::File(path) => return file(reference, path).map(Some),
            Reference::Name(name) => name,
        };
        match self.store.get(&name.name, self.tag(&name))? {
            Some(stored) => Ok(Some(stored.into())),
            None => match self.entry(&name)? {
                entry if entry.files.is_empty() => {
                    Err(HubError::NoSource { name: entry.full_name() })
                }
                _ => Ok(None),
            },
        }
    }

    /// Fetches a model unless it is already here, trying its sources in the catalogue's order, and stores it. What an interrupted pull
    /// left is used. Two processes that pull the same model share one download. For an existing file given by its path there is nothing to do.
    ///
    /// # Errors
    /// As `find`; `AllSourcesFailed` with the reason of each, `NoSpace`, or `Io` of the store itself.
    pub fn pull(
        &self,
        reference: &str,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<LocalModel, HubError> {
        let name = match reference::parse(reference)? {
            Reference::File(path) => return file(reference, path),
            Reference::Name(name) => name,
        };
        let stored = match self.store.get(&name.name, self.tag(&name)) {
            Ok(Some(stored)) => stored,
            // A damaged model is fetched again.
            Ok(None) | Err(HubError::Damaged { .. }) => {
                pull::pull(&self.store, self.entry(&name)?, &self.settings, progress)?
            }
            Err(e) => return Err(e),
        };
        progress(Progress::Done);
        Ok(stored.into())
    }

    /// What is stored. A damaged model is listed as such and hides no other.
    ///
    /// # Errors
    /// `Io` when the store's folders cannot be read; a store that does not exist yet is empty.
    pub fn list(&self) -> Result<Listing, HubError> {
        let (models, damaged) = self.store.list()?;
        Ok(Listing { models: models.into_iter().map(LocalModel::from).collect(), damaged })
    }

    /// Removes a stored model, and its file unless another model uses it. Returns the bytes freed.
    ///
    /// # Errors
    /// `NotStored` when there is no such model; `BadName`; `Io`.
    pub fn remove(&self, name: &str) -> Result<u64, HubError> {
        let parsed = reference::name(name)?;
        let freed = self.store.remove(&parsed.name, self.tag(&parsed))?;
        freed.ok_or_else(|| HubError::NotStored {
            name: name.to_owned(),
            near: reference::near(name, self.stored_names()),
        })
    }

    /// The tag meant by a name: its own, the catalogue's default, or "latest".
    fn tag<'a>(&'a self, name: &'a Name) -> &'a str {
        match &name.tag {
            Some(tag) => tag,
            None => self.catalogue.find(name).map_or(DEFAULT_TAG, |e| &e.tag),
        }
    }

    fn entry(&self, name: &Name) -> Result<&Entry, HubError> {
        self.catalogue.find(name).ok_or_else(|| {
            let given = match &name.tag {
                Some(tag) => format!("{}:{tag}", name.name),
                None => name.name.clone(),
            };
            let near = reference::near(&given, self.catalogue.names().chain(self.stored_names()));
            HubError::UnknownModel { name: given, near }
        })
    }

    fn stored_names(&self) -> impl Iterator<Item = String> {
        self.store.list().map(|(models, _)| models).unwrap_or_default().into_iter().map(|m| m.name)
    }
}

impl From<Stored> for LocalModel {
    fn from(stored: Stored) -> LocalModel {
        let m = stored.manifest;
        LocalModel {
            name: stored.name,
            path: stored.blob,
            digest: Some(m.digest.to_string()),
            bytes: m.bytes,
            modified: stored.modified,
            facts: Some(Facts {
                architecture: m.architecture,
                parameters: m.parameters,
                recipe: m.recipe,
                licence: m.licence,
                source: m.source,
            }),
        }
    }
}

fn file(reference: &str, path: PathBuf) -> Result<LocalModel, HubError> {
    let meta = fs::metadata(&path).map_err(error::io_error("read", &path))?;
    let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Ok(LocalModel {
        name: reference.to_owned(),
        path,
        digest: None,
        bytes: meta.len(),
        modified,
        facts: None,
    })
}
