//! hob-hub: finds, downloads, verifies and stores model files. It knows names, addresses, bytes and digests, and nothing about what is
//! inside a model: what that takes is asked of the caller. Everything blocks and reports through a callback; callers with an
//! event loop give it a thread.

mod catalogue;
mod create;
mod digest;
mod error;
mod fs;
mod import;
mod local;
mod manifest;
mod measured;
mod name;
mod net;
mod pull;
mod python;
mod reference;
mod settings;
mod shared;
mod source;
mod stop;
mod store;
#[cfg(test)]
mod tests;
mod transfer;
mod upload;

use std::env;
use std::path::{Path, PathBuf};

use catalogue::{Catalogue, Entry};
use name::{DEFAULT_TAG, ModelName};
use pull::plan::Planner;
use reference::{Reference, Wanted};
use settings::Settings;
use shared::Shared;
use source::{Key, Registry};
use store::{Store, Stored};

pub use catalogue::{Entry as CatalogueModel, Kind, Published, Repositories};
pub use create::Creation;
pub use error::{HubError, SourceError, Tried};
pub use local::{Facts, Keeper, Listing, LocalModel, Overlay};
pub use pull::{Choice, Chooser, Wishes};
pub use source::Found;
pub use stop::Stop;
pub use store::{Damaged, Finding, Garbage, Linking};
pub use upload::{Gathered, Upload};

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
    /// The next of the model's files: what follows is about it.
    File {
        /// Its SHA-256, if that is known.
        digest: Option<String>,
        /// Bytes of all files before it, which `Bytes` counts too.
        before: u64,
        /// Its length, if that is known.
        bytes: Option<u64>,
        /// Whether it is here already; then nothing follows.
        here: bool,
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
    shared: Shared,
    catalogue: Catalogue,
    settings: Settings,
}

/// The name that a file behind an address is stored under: the host's first label as namespace, the file's name as model.
fn name_of_url(url: &str) -> Result<ModelName, HubError> {
    let bad = || HubError::BadName { reference: url.to_owned(), reason: "it has no name".into() };
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let file = path.rsplit('/').next().ok_or_else(bad)?;
    let stem = file.get(..file.len().saturating_sub(".gguf".len())).ok_or_else(bad)?;
    ModelName::parse(&format!("url/{}", name::tidy(stem, 96)))
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
        let var = |name: &str| env::var(name).ok();
        let shared = match var("HOB_SHARED").as_deref() {
            Some("0" | "off" | "no") => Shared::default(),
            _ => Shared::from_env(&var, env::home_dir()).apart_from(store.root()),
        };
        let settings = Settings::from_env(store.root());
        Ok(Hub { store, shared, catalogue: Catalogue::built_in()?, settings })
    }

    /// The same hub, whose pulls and pushes end soon after this is asked for.
    #[must_use]
    pub fn until(&self, stop: &Stop) -> Hub {
        let mut hub = self.clone();
        hub.settings.net.stop = stop.clone();
        hub
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

    /// Searches the hubs for repositories with GGUF files, both at the same time; with what went wrong at one of them.
    pub fn search_hubs(&self, words: &str, limit: usize) -> (Vec<Found>, Vec<Tried>) {
        source::search(&self.settings.net, &self.settings.hubs, words, limit)
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

    /// The local file that a reference means: an existing GGUF given by its path, a stored model, or one that another program keeps. `None`
    /// when it has to be pulled first.
    ///
    /// # Errors
    /// `NoSuchFile`, `BadName`: the reference means nothing. `UnknownModel`: only a registry could know it. `Damaged`: pull again.
    pub fn find(&self, reference: &str) -> Result<Option<LocalModel>, HubError> {
        let name = match reference::parse(reference)? {
            Reference::File(path) => return LocalModel::file(reference, &path).map(Some),
            Reference::Url(url) => name_of_url(&url)?,
            Reference::Model(wanted) => wanted.name,
        };
        if let Some(model) = self.kept(&name)? {
            return Ok(Some(model));
        }
        let theirs = self.shared.find(&name);
        if name.is_bare() && self.catalogue.find(&name).is_none() {
            theirs?;
            self.entry(&name)?;
        }
        // What another program has and cannot be used is pulled.
        Ok(None)
    }

    /// The model of this name, if it is here. Unlike [`Hub::find`] this takes no path, so a stranger may say the name.
    ///
    /// # Errors
    /// `BadName`; `Damaged`: pull again.
    pub fn find_named(&self, name: &str) -> Result<Option<LocalModel>, HubError> {
        self.kept(&reference::wanted_or_address(name)?.name)
    }

    /// A model of the store, or one that another program keeps and that can be used.
    fn kept(&self, name: &ModelName) -> Result<Option<LocalModel>, HubError> {
        if let Some(stored) = self.store.get(&self.full(name)?)? {
            return Ok(Some(self.local(&stored)));
        }
        Ok(self.shared.find(name).ok().flatten())
    }

    /// Fetches a model unless it is already here, and stores it. What an interrupted pull left is used. Two processes that pull the
    /// same model share one download. For an existing file given by its path there is nothing to do.
    ///
    /// # Errors
    /// `UnknownModel`; `AllSourcesFailed` with the reason of each; `NoChoice` when no recipe will do; `NoSpace`, or `Io` of the store itself.
    pub fn pull(
        &self,
        reference: &str,
        wishes: &Wishes,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<LocalModel, HubError> {
        match reference::parse(reference)? {
            Reference::File(path) => LocalModel::file(reference, &path),
            parsed => self.pull_parsed(&parsed, wishes, progress),
        }
    }

    /// As [`Hub::pull`], but the reference is a name and never a path or the address of a file, so a stranger may say it.
    ///
    /// # Errors
    /// As `pull`.
    pub fn pull_named(
        &self,
        name: &str,
        wishes: &Wishes,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<LocalModel, HubError> {
        let wanted = reference::wanted_or_address(name)?;
        self.pull_parsed(&Reference::Model(wanted), wishes, progress)
    }

    fn pull_parsed(
        &self,
        parsed: &Reference,
        wishes: &Wishes,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<LocalModel, HubError> {
        let name = match parsed {
            Reference::File(path) => return Err(HubError::NoSuchFile { path: path.clone() }),
            Reference::Url(url) => name_of_url(url)?,
            Reference::Model(wanted) => wanted.name.clone(),
        };
        let name = self.wished(&name, wishes)?;
        let stored = match self.store.get(&name) {
            Ok(Some(stored)) if !wishes.update && !wishes.hugging_face_cache => stored,
            // A damaged model is fetched again.
            Ok(_) | Err(HubError::Damaged { .. }) => {
                let plan = self.plan(parsed, &name, wishes, progress)?;
                self.settings.net.stop.check()?;
                let stored = pull::carry_out(self, &plan, wishes, progress)?;
                if wishes.hugging_face_cache {
                    pull::share(self, &plan, &stored, progress)?;
                }
                stored
            }
            Err(e) => return Err(e),
        };
        progress(Progress::Done);
        Ok(self.local(&stored))
    }

    /// The name that what is wished for is stored under.
    fn wished(&self, name: &ModelName, wishes: &Wishes) -> Result<ModelName, HubError> {
        match (&wishes.recipe, self.catalogue.find(name)) {
            (Some(recipe), Some((entry, _))) => {
                name.with_tag(&format!("{}-{}", entry.tag, recipe.to_ascii_lowercase()))
            }
            (Some(recipe), None) => name.with_tag(recipe),
            (None, _) => self.full(name),
        }
    }

    fn plan(
        &self,
        parsed: &Reference,
        name: &ModelName,
        wishes: &Wishes,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<pull::Plan, HubError> {
        let mut planner = Planner { settings: &self.settings, wishes, progress };
        let wanted = match parsed {
            Reference::Model(wanted) => wanted,
            Reference::Url(url) => return planner.url(name, url),
            Reference::File(path) => return Err(HubError::NoSuchFile { path: path.clone() }),
        };
        let given = wishes.recipe.as_deref();
        if let Some((entry, recipe)) = self.catalogue.find(&wanted.name) {
            return planner.catalogue(name, entry, given.or(recipe));
        }
        if wanted.name.is_on_hub() {
            let tag = wanted.name.given_tag().filter(|tag| *tag != DEFAULT_TAG);
            return planner.repository(wanted, given.or(tag));
        }
        let key = self.key()?;
        let named = Wanted { name: name.clone(), ..wanted.clone() };
        planner.registry(&named, key.as_ref()).map_err(|e| self.perhaps_unknown(&wanted.name, e))
    }

    /// A registry's refusal of a name that the user may have mistyped.
    fn perhaps_unknown(&self, name: &ModelName, error: HubError) -> HubError {
        match &error {
            HubError::AllSourcesFailed { tried, .. } if name.is_bare() => match tried.as_slice() {
                [Tried { error: SourceError::NotFound { .. }, .. }] => {
                    self.entry(name).err().unwrap_or(error)
                }
                // Without an answer, a name that resembles known ones is more likely mistyped than new.
                [Tried { error: SourceError::Unreachable(_), .. }] => match self.entry(name) {
                    Err(HubError::UnknownModel { name, near }) if !near.is_empty() => {
                        HubError::UnknownModel { name, near }
                    }
                    _ => error,
                },
                _ => error,
            },
            _ => error,
        }
    }

    /// The key that registries know the user by, if there is one.
    fn key(&self) -> Result<Option<Key>, HubError> {
        for path in &self.settings.keys {
            let key = Key::read(path).map_err(|error| {
                let io = std::io::Error::other(error.to_string());
                error::io_error("read", path)(io)
            })?;
            if key.is_some() {
                return Ok(key);
            }
        }
        Ok(None)
    }

    /// Sends a stored model to the registry that its name says.
    ///
    /// # Errors
    /// `NotStored`, `Damaged`; `Push` with the registry's reason. What was sent by then stays there, and the next push goes on.
    pub fn push(
        &self,
        reference: &str,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), HubError> {
        let wanted = reference::wanted_or_address(reference)?;
        let stored = self.named(&wanted.name.to_string())?;
        let failed = |error| HubError::Push { name: stored.name.to_string(), error };
        let key = match self.key()? {
            Some(key) => key,
            None => Key::generate(&self.root().join("id_ed25519")).map_err(failed)?,
        };
        let wishes = Wishes::plain();
        let planner = Planner { settings: &self.settings, wishes: &wishes, progress: &mut |_| () };
        let named = Wanted { name: stored.name.clone(), ..wanted };
        let (place, plain) = planner.place(&named);
        let registry = Registry::new(&self.settings.net, &place, plain, Some(&key));
        progress(Progress::Resolving { source: registry.words() });
        let manifest = self.store.manifest_bytes(&stored.name)?;
        let all: u64 = stored.manifest.blobs().map(|layer| layer.size).sum();
        let (mut last, mut earlier): (Option<(digest::Digest, u64)>, u64) = (None, 0);
        let mut told = |event| {
            if let source::Pushed::Blob { digest, done, total } = event {
                if last.is_none_or(|(last, _)| last != digest) {
                    earlier += last.map_or(0, |(_, total)| total);
                    last = Some((digest, total));
                    progress(Progress::File {
                        digest: Some(digest.to_string()),
                        before: earlier,
                        bytes: Some(total),
                        here: false,
                    });
                }
                progress(Progress::Bytes { done: (earlier + done).min(all), total: all });
            }
        };
        let blob = |digest: &digest::Digest| self.store.blob(digest);
        source::push(&registry, place.tag(), &manifest, &blob, &mut told).map_err(failed)?;
        progress(Progress::Done);
        Ok(())
    }

    /// What is stored, and what other programs keep under names that are not. A damaged model is listed as such and hides no other.
    ///
    /// # Errors
    /// `Io` when the store's folders cannot be read; a store that does not exist yet is empty.
    pub fn list(&self) -> Result<Listing, HubError> {
        let (stored, mut damaged) = self.store.list()?;
        let mut models: Vec<LocalModel> = stored.iter().map(|m| self.local(m)).collect();
        let (theirs, notes) = self.shared.list();
        let ours = models.len();
        for model in theirs {
            if models[..ours].iter().all(|m| !m.name.eq_ignore_ascii_case(&model.name)) {
                models.push(model);
            }
        }
        damaged.extend(notes);
        Ok(Listing { models, damaged })
    }

    /// What a model carries beside its weights; nothing for files without a manifest.
    ///
    /// # Errors
    /// `Damaged` when a layer is.
    pub fn overlay(&self, model: &LocalModel) -> Result<Overlay, HubError> {
        match self.stored(model)? {
            Some(stored) => Overlay::read(&self.store, &stored),
            None => self.shared.overlay(model),
        }
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

    /// Stores the model at a path, or one that another program keeps: without a copy where `linking` says so. Returns it under its new name.
    ///
    /// # Errors
    /// `NotImportable` when there is not exactly one whole model; `NoSpace`, `Io`, `BadName`.
    pub fn import(
        &self,
        path: &Path,
        name: &str,
        linking: Option<Linking>,
        describe: &dyn Fn(&[PathBuf]) -> Option<Facts>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<LocalModel, HubError> {
        let name = reference::wanted(name)?.name;
        let name = name.with_tag(name.tag())?;
        let stored = import::import(&self.store, path, &name, linking, describe, progress)?;
        progress(Progress::Done);
        Ok(self.local(&stored))
    }

    /// Makes a model of another one.
    ///
    /// # Errors
    /// `NotImportable`, `Damaged`, `NoSpace`, `Io`, `BadName`. Nothing of it is there then.
    pub fn create(
        &self,
        name: &str,
        creation: &Creation,
        describe: &dyn Fn(&[PathBuf]) -> Option<Facts>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<LocalModel, HubError> {
        let name = reference::wanted(name)?.name;
        let name = name.with_tag(name.tag())?;
        let stored = self.stored(&creation.base)?;
        let under = self.overlay(&creation.base)?;
        let made =
            create::create(&self.store, &name, creation, (stored, under), describe, progress)?;
        progress(Progress::Done);
        Ok(self.local(&made))
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
            // A name without a size is not answered with sizes.
            let fits = |entry: &&Entry| name.given_tag().is_some() || entry.default;
            let known = self.catalogue.entries().filter(fits).map(Entry::full_name);
            let near = reference::near(&given, known.chain(self.names()));
            HubError::UnknownModel { name: given, near }
        })
    }

    /// Names of what is stored.
    fn names(&self) -> impl Iterator<Item = String> {
        let models = self.store.list().map(|(models, _)| models).unwrap_or_default();
        models.into_iter().map(|m| m.name.to_string())
    }
}
