//! hob-hub: finds, downloads, verifies and stores model files. It knows names, addresses, bytes and digests, and nothing about what is
//! inside a model: what that takes is asked of the caller. Everything blocks and reports through a callback; callers with an
//! event loop give it a thread.

mod catalogue;
mod digest;
mod error;
mod fs;
mod http;
#[allow(dead_code, reason = "its callers are being written")]
mod import;
mod local;
mod manifest;
mod measured;
mod name;
#[allow(dead_code, reason = "its callers are being written")]
mod net;
mod pull;
mod python;
mod reference;
#[allow(dead_code, unused_imports, reason = "its callers are being written")]
mod shared;
#[allow(dead_code, unused_imports, reason = "its callers are being written")]
mod source;
mod store;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use catalogue::{Catalogue, Entry};
use name::{DEFAULT_TAG, ModelName};
use pull::Settings;
use reference::{Reference, Wanted};
use store::{Store, Stored};

pub use catalogue::{Entry as CatalogueModel, Kind, Published, Repositories};
pub use error::{HubError, SourceError, Tried};
pub use local::{Facts, Keeper, Listing, LocalModel, Overlay};
pub use store::{Damaged, Finding, Garbage};

/// SHA-256 of some bytes, in 64 hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    digest::Hasher::of(bytes).to_string()
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
    /// `NoHome` when neither is known; as `at`.
    pub fn open() -> Result<Hub, HubError> {
        Hub::at(Store::default_root()?)
    }

    /// A hub in a folder of the caller's choice, which need not exist. Addresses of the hubs come from the environment
    /// (`HF_ENDPOINT`, `MODELSCOPE_DOMAIN`). A store of an older layout is brought up to date.
    ///
    /// # Errors
    /// `Version` when a later hob has written the store; `Catalogue` if the program was built with a malformed one; `Io`.
    pub fn at(root: PathBuf) -> Result<Hub, HubError> {
        let store = Store::at(root);
        store.refresh()?;
        Ok(Hub { store, catalogue: Catalogue::built_in()?, settings: Settings::from_env() })
    }

    /// The folder everything is kept in.
    pub fn root(&self) -> &Path {
        self.store.root()
    }

    /// Every name that can be pulled, as `name:tag`.
    pub fn catalogue(&self) -> impl Iterator<Item = String> {
        self.catalogue.fetchable()
    }

    /// The models of the catalogue that every one of the words fits, best first: by name, tag, family, kind, publisher or licence. All
    /// of them, if there are no words. Not all can be pulled.
    pub fn search(&self, words: &str) -> Vec<&CatalogueModel> {
        self.catalogue.search(words)
    }

    /// What the catalogue says of the model that a reference means; `None` for an existing file given by its path.
    ///
    /// # Errors
    /// `NoSuchFile`, `BadName`, `UnknownModel`, as in `find`.
    pub fn describe(&self, reference: &str) -> Result<Option<&CatalogueModel>, HubError> {
        let Reference::Model(wanted) = reference::parse(reference)? else { return Ok(None) };
        self.entry(&wanted.name).map(Some)
    }

    /// What a model's publisher says of its shape, under its full name; `None` if the catalogue does not have that.
    ///
    /// # Errors
    /// `NoSuchFile`, `BadName`, `UnknownModel`, as in `find`.
    pub fn published(&self, reference: &str) -> Result<Option<(String, &Published)>, HubError> {
        let entry = self.describe(reference)?;
        Ok(entry.and_then(|e| Some((e.full_name(), e.published.as_ref()?))))
    }

    /// The local file that a reference means: an existing GGUF given by its path, or a stored model. `None` when the model is known
    /// but has to be pulled first.
    ///
    /// # Errors
    /// `NoSuchFile`, `BadName`, `UnknownModel`: the reference means nothing here. `NoSource`: it cannot be pulled
    /// either. `Damaged`: pull again.
    pub fn find(&self, reference: &str) -> Result<Option<LocalModel>, HubError> {
        let wanted = match reference::parse(reference)? {
            Reference::File(path) => return LocalModel::file(reference, &path).map(Some),
            Reference::Url(_) => return Ok(None),
            Reference::Model(wanted) => wanted,
        };
        if let Some(stored) = self.store.get(&self.full(&wanted.name)?)? {
            return Ok(Some(self.local(&stored)));
        }
        match self.entry(&wanted.name)? {
            entry if entry.files.is_empty() => Err(HubError::NoSource { name: entry.full_name() }),
            _ => Ok(None),
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
            Reference::File(path) => return LocalModel::file(reference, &path),
            Reference::Url(url) => return Err(HubError::Unsupported { reference: url }),
            Reference::Model(Wanted { name, .. }) => name,
        };
        let stored = match self.store.get(&self.full(&name)?) {
            Ok(Some(stored)) => stored,
            // A damaged model is fetched again.
            Ok(None) | Err(HubError::Damaged { .. }) => {
                pull::pull(&self.store, self.entry(&name)?, &self.settings, progress)?
            }
            Err(e) => return Err(e),
        };
        progress(Progress::Done);
        Ok(self.local(&stored))
    }

    /// What is stored. A damaged model is listed as such and hides no other.
    ///
    /// # Errors
    /// `Io` when the store's folders cannot be read; a store that does not exist yet is empty.
    pub fn list(&self) -> Result<Listing, HubError> {
        let (models, damaged) = self.store.list()?;
        Ok(Listing { models: models.iter().map(|m| self.local(m)).collect(), damaged })
    }

    /// What a model carries beside its weights; nothing for files without a manifest.
    ///
    /// # Errors
    /// `Damaged` when a layer is.
    pub fn overlay(&self, model: &LocalModel) -> Result<Overlay, HubError> {
        let Some(stored) = self.stored(model)? else { return Ok(Overlay::default()) };
        Overlay::read(&self.store, &stored)
    }

    /// Verifies those files of a model that somebody wrote to since they were stored. Costs nothing when there are none.
    ///
    /// # Errors
    /// `Damaged` when one is not what it was; pulling the model then repairs it.
    pub fn check(
        &self,
        model: &LocalModel,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), HubError> {
        match self.stored(model)? {
            Some(stored) => self.store.check(&stored, progress),
            None => Ok(()),
        }
    }

    /// Reads every file of these models, or of all, and holds it against its digest. A broken one is set aside, so that pulling repairs it.
    ///
    /// # Errors
    /// `NotStored`, `Damaged`, `Io`.
    pub fn verify(
        &self,
        names: &[String],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<Finding>, HubError> {
        let models = match names {
            [] => self.store.list()?.0,
            names => names.iter().map(|name| self.named(name)).collect::<Result<_, _>>()?,
        };
        self.store.verify(&models, progress)
    }

    /// Removes files that no model uses: blobs, and transfers and temporary files that were left over a week ago; `all` transfers at once.
    ///
    /// # Errors
    /// `Damaged` when a manifest cannot be read, since its files might be taken for unused ones; `Io`.
    pub fn gc(&self, all: bool) -> Result<Vec<Garbage>, HubError> {
        self.store.gc(all)
    }

    /// Gives a stored model a second name; nothing is copied but the name.
    ///
    /// # Errors
    /// `NotStored`, `BadName`, `Damaged`, `Io`.
    pub fn copy(&self, from: &str, to: &str) -> Result<LocalModel, HubError> {
        let stored = self.named(from)?;
        let to = reference::wanted(to)?.name;
        let copied = self.store.copy(&stored.name, &to)?;
        copied.map(|stored| self.local(&stored)).ok_or_else(|| self.not_stored(from))
    }

    /// Removes a stored model, and its files unless another model uses them. Returns the bytes freed.
    ///
    /// # Errors
    /// `NotStored` when there is no such model; `BadName`; `Io`.
    pub fn remove(&self, name: &str) -> Result<u64, HubError> {
        let parsed = self.full(&reference::wanted(name)?.name)?;
        self.store.remove(&parsed)?.ok_or_else(|| self.not_stored(name))
    }

    /// A name as it is stored: with its own tag; without one, `latest` if that is stored, or the catalogue's default, or the only one
    /// that there is of it.
    fn full(&self, name: &ModelName) -> Result<ModelName, HubError> {
        let latest = name.with_tag(name.given_tag().unwrap_or(DEFAULT_TAG))?;
        if matches!(self.store.get(&latest), Ok(Some(_))) {
            return Ok(latest);
        }
        match self.catalogue.find(name) {
            Some((entry, None)) => name.with_tag(&entry.tag),
            Some((entry, Some(recipe))) => {
                name.with_tag(&format!("{}-{}", entry.tag, recipe.to_ascii_lowercase()))
            }
            None if name.given_tag().is_none() => Ok(self.store.newest(name)?.unwrap_or(latest)),
            None => Ok(latest),
        }
    }

    fn named(&self, name: &str) -> Result<Stored, HubError> {
        let full = self.full(&reference::wanted(name)?.name)?;
        self.store.get(&full)?.ok_or_else(|| self.not_stored(name))
    }

    fn stored(&self, model: &LocalModel) -> Result<Option<Stored>, HubError> {
        match model.keeper {
            Keeper::Hob => self.store.get(&ModelName::parse(&model.name)?),
            _ => Ok(None),
        }
    }

    fn local(&self, stored: &Stored) -> LocalModel {
        LocalModel::stored(&self.store, stored, Keeper::Hob)
    }

    fn not_stored(&self, name: &str) -> HubError {
        HubError::NotStored { name: name.to_owned(), near: reference::near(name, self.names()) }
    }

    fn entry(&self, name: &ModelName) -> Result<&Entry, HubError> {
        self.catalogue.find(name).map(|(entry, _)| entry).ok_or_else(|| {
            let given = match name.given_tag() {
                Some(_) => name.to_string(),
                None => name.to_string().replace(":latest", ""),
            };
            let near = reference::near(&given, self.catalogue.names().chain(self.names()));
            HubError::UnknownModel { name: given, near }
        })
    }

    /// Names of what is stored.
    fn names(&self) -> impl Iterator<Item = String> {
        let models = self.store.list().map(|(models, _)| models).unwrap_or_default();
        models.into_iter().map(|m| m.name.to_string())
    }
}
