//! Models that other programs keep, found and served where they lie: nothing is copied, locked or written there. Ollama's store has the
//! layout of hob's own and the same reader; LM Studio's folder and the cache of Hugging Face's libraries hold repositories of files.
//! Deliberately absent: an index, watching, and formats other than GGUF.

mod cache;
mod hugging_face;
mod lm_studio;
mod places;
mod repository;

use std::path::{Path, PathBuf};

use crate::error::HubError;
use crate::local::{Keeper, LocalModel, Overlay};
use crate::name::{HUGGING_FACE, ModelName};
use crate::store::{Damaged, Store};

use places::{distinct, same_place};
use repository::{Found, Repository, Walk};

pub(crate) use cache::{Cache, Place};
pub(crate) use places::Places;
pub(crate) use repository::{LocalFile, digest_by_name, gguf_files_in};

/// The folders of other programs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared {
    ollama: Vec<Store>,
    lm_studio: Vec<PathBuf>,
    hugging_face: Option<PathBuf>,
}

impl Shared {
    /// Those that variables and habits name, but for hob's own (`$HOB_HOME`, or `.hob` in the home directory).
    pub fn from_env(var: &dyn Fn(&str) -> Option<String>, home: Option<PathBuf>) -> Shared {
        let own = var("HOB_HOME").filter(|v| !v.is_empty()).map(PathBuf::from);
        let own = own.or_else(|| Some(home.as_ref()?.join(".hob")));
        let shared = Shared::at(Places::from_env(var, home.as_deref()));
        match own {
            Some(own) => shared.apart_from(&own),
            None => shared,
        }
    }

    /// Those at these places, each once.
    pub fn at(places: Places) -> Shared {
        let Places { ollama, lm_studio, hugging_face } = places;
        Shared {
            ollama: distinct(ollama).into_iter().map(Store::at).collect(),
            lm_studio: distinct(lm_studio),
            hugging_face,
        }
    }

    /// Without a store that is hob's own, by whatever path.
    pub fn apart_from(mut self, own: &Path) -> Shared {
        let own_manifests = own.join("manifests");
        self.ollama.retain(|store| {
            let root = store.root();
            !same_place(root, own) && !same_place(&root.join("manifests"), &own_manifests)
        });
        self
    }

    /// Every model, by name, and what is there but cannot be used. A name that two programs have is listed once, as by `find`.
    pub fn list(&self) -> (Vec<LocalModel>, Vec<Damaged>) {
        let (mut models, mut notes) = (Vec::new(), Vec::new());
        for store in &self.ollama {
            let mut unreadable = Vec::new();
            let (stored, damaged) = store.list_readable(&mut |e| unreadable.push(e));
            models.extend(stored.iter().map(|s| LocalModel::stored(store, s, Keeper::Ollama)));
            notes.extend(damaged.into_iter().map(|d| told(Keeper::Ollama, d)));
            notes.extend(unreadable.iter().map(|e| {
                let name = store.root().display().to_string();
                told(Keeper::Ollama, Damaged { name, reason: e.to_string() })
            }));
        }
        for keeper in [Keeper::LmStudio, Keeper::HuggingFace] {
            let mut walk = Walk::new();
            let mut nameless = Vec::new();
            for repository in self.repositories(keeper, None, &mut walk) {
                models.extend(repository.models(&mut nameless).into_iter().map(|(model, _)| model));
            }
            notes.extend(walk.notes.into_iter().chain(nameless).map(|d| told(keeper, d)));
        }
        models.sort_by_cached_key(|m: &LocalModel| m.name.to_ascii_lowercase());
        models.dedup_by(|b, a| a.name.eq_ignore_ascii_case(&b.name));
        (models, notes)
    }

    /// The model of this name: Ollama's first, then LM Studio's and that of the Hugging Face cache. A name without a tag is `latest`, or else
    /// whatever came last.
    ///
    /// # Errors
    /// `Unusable` when a program has it, none of them whole.
    pub fn find(&self, name: &ModelName) -> Result<Option<LocalModel>, HubError> {
        let mut unusable = None;
        for found in [
            self.in_ollama(name),
            self.in_repositories(Keeper::LmStudio, name),
            self.in_repositories(Keeper::HuggingFace, name),
        ] {
            match found {
                Ok(Some((model, _))) => return Ok(Some(model)),
                Ok(None) => {}
                Err(e) => unusable = unusable.or(Some(e)),
            }
        }
        unusable.map_or(Ok(None), Err)
    }

    /// What a model that is found here carries beside its weights.
    ///
    /// # Errors
    /// `Damaged` when a layer is; `Unusable` when the model is no longer whole.
    pub fn overlay(&self, model: &LocalModel) -> Result<Overlay, HubError> {
        let name = match model.keeper {
            Keeper::Ollama | Keeper::LmStudio | Keeper::HuggingFace => {
                ModelName::parse(&model.name)?
            }
            Keeper::Hob | Keeper::User => return Ok(Overlay::default()),
        };
        if model.keeper != Keeper::Ollama {
            let projector = self.in_repositories(model.keeper, &name)?.and_then(|(_, p)| p);
            return Ok(Overlay { projector, ..Overlay::default() });
        }
        for store in self.ollama.iter().filter(|store| model.path.starts_with(store.root())) {
            if let Some(stored) = store.get(&name)? {
                return Overlay::read(store, &stored);
            }
        }
        Ok(Overlay::default())
    }

    fn in_ollama(&self, name: &ModelName) -> Result<Option<Found>, HubError> {
        let mut unusable = None;
        for store in &self.ollama {
            let mut found = store.get(name);
            if matches!(found, Ok(None)) && name.given_tag().is_none() {
                found = store.newest_readable(name).map_or(Ok(None), |name| store.get(&name));
            }
            match found {
                Ok(Some(stored)) => {
                    let model = LocalModel::stored(store, &stored, Keeper::Ollama);
                    return Ok(Some((model, None)));
                }
                Ok(None) => {}
                Err(HubError::Damaged { name, reason }) => {
                    let keeper = Keeper::Ollama.name();
                    unusable = unusable.or(Some(HubError::Unusable { name, keeper, reason }));
                }
                Err(e) => unusable = unusable.or(Some(e)),
            }
        }
        unusable.map_or(Ok(None), Err)
    }

    fn in_repositories(&self, keeper: Keeper, name: &ModelName) -> Result<Option<Found>, HubError> {
        if name.host != HUGGING_FACE {
            return Ok(None);
        }
        let mut unusable = None;
        for repository in self.repositories(keeper, Some(name), &mut Walk::new()) {
            match repository.find(name) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(e) => unusable = unusable.or(Some(e)),
            }
        }
        unusable.map_or(Ok(None), Err)
    }

    fn repositories(
        &self,
        keeper: Keeper,
        wanted: Option<&ModelName>,
        walk: &mut Walk,
    ) -> Vec<Repository> {
        match keeper {
            Keeper::LmStudio => {
                let all = self.lm_studio.iter();
                all.flat_map(|root| lm_studio::repositories(root, wanted, walk)).collect()
            }
            Keeper::HuggingFace => {
                let all = self.hugging_face.iter();
                all.flat_map(|root| hugging_face::repositories(root, wanted, walk)).collect()
            }
            Keeper::Hob | Keeper::Ollama | Keeper::User => Vec::new(),
        }
    }
}

/// A note on another program's model says whose it is.
fn told(keeper: Keeper, Damaged { name, reason }: Damaged) -> Damaged {
    Damaged { name, reason: format!("({}) {reason}", keeper.name()) }
}
