//! What was measured of a model, remembered by its SHA-256: `measured/sha256-HEX.json`, a list of results whose meaning is the
//! caller's. A file given by its path is hashed once; `measured/files.json` then knows it by length and time of change. Both
//! files are notes: a damaged one counts as empty. Removing a model keeps its notes. Deliberately absent: history of one result.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::{Digest, Hasher};
use crate::error::{HubError, io_error};
use crate::store::{feed, new_file};
use crate::{Hub, LocalModel, Progress};

/// Longest notes that are read.
const MAX_NOTES: u64 = 1 << 20;
/// Most results of one file; the oldest are forgotten.
const MAX_RESULTS: usize = 64;
/// Most files given by a path that are known by their hash.
const MAX_FILES: usize = 1024;

/// Results of one model, oldest first.
#[derive(Default, Serialize, Deserialize)]
struct Notes {
    results: Vec<Value>,
}

/// The parts of a model given by its path, and the digest of all.
#[derive(Clone, Serialize, Deserialize)]
struct Known {
    parts: Vec<Part>,
    digest: Digest,
}

/// What a file looks like from outside.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Part {
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
}

/// By the path of the first part.
type Files = BTreeMap<String, Known>;

impl Hub {
    /// What was remembered of a model, oldest first. Reads no more than notes: a file that was never measured is not hashed.
    pub fn measured(&self, model: &LocalModel) -> Vec<Value> {
        let digest = match &model.digest {
            Some(digest) => digest.parse().ok(),
            None => self.known(&model.path),
        };
        digest.map(|digest| load::<Notes>(&self.notes(&digest)).results).unwrap_or_default()
    }

    /// Remembers a result, in place of those that it `replaces`. `parts` are the model's files; those of a model given by its path are
    /// hashed when they are new or changed, with `progress` (`Verifying`).
    ///
    /// # Errors
    /// `Io` when the files cannot be read or the notes not be written.
    pub fn remember(
        &self,
        model: &LocalModel,
        parts: &[PathBuf],
        result: Value,
        replaces: &dyn Fn(&Value) -> bool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), HubError> {
        let folder = self.root().join("measured");
        fs::create_dir_all(&folder).map_err(io_error("create", &folder))?;
        let stored = model.digest.as_ref().and_then(|digest| digest.parse().ok());
        let digest = match stored.or_else(|| self.known(&model.path)) {
            Some(digest) => digest,
            None => self.hash(model, parts, progress)?,
        };
        let _lock = self.store.lock(&[digest], || ())?;
        let path = self.notes(&digest);
        let Notes { mut results } = load(&path);
        results.retain(|old| !replaces(old));
        results.push(result);
        results.drain(..results.len().saturating_sub(MAX_RESULTS));
        save(&path, &Notes { results })
    }

    fn notes(&self, digest: &Digest) -> PathBuf {
        self.root().join("measured").join(format!("sha256-{digest}.json"))
    }

    fn files(&self) -> PathBuf {
        self.root().join("measured").join("files.json")
    }

    /// The digest of a file given by its path, if it was hashed and nothing has changed since.
    fn known(&self, path: &Path) -> Option<Digest> {
        let known = load::<Files>(&self.files()).remove(&key(path)?)?;
        let same = |part: &Part| Part::of(&part.path).is_ok_and(|now| now == *part);
        known.parts.iter().all(same).then_some(known.digest)
    }

    /// Hashes a model's files one after another, and remembers what they looked like before.
    fn hash(
        &self,
        model: &LocalModel,
        parts: &[PathBuf],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Digest, HubError> {
        let parts = parts.iter().map(|path| Part::of(path)).collect::<Result<Vec<_>, _>>()?;
        let total = parts.iter().map(|part| part.bytes).sum();
        let (mut hasher, mut before) = (Hasher::default(), 0);
        for Part { path, .. } in &parts {
            let mut report = |bytes| progress(Progress::Verifying { done: before + bytes, total });
            before += feed(&mut hasher, path, &mut report)?;
        }
        let digest = hasher.finish();
        let mut files: Files = load(&self.files());
        files.retain(|_, known| known.parts.iter().all(|part| part.path.exists()));
        if let Some(key) = key(&model.path).filter(|_| files.len() < MAX_FILES) {
            files.insert(key, Known { parts, digest });
        }
        save(&self.files(), &files)?;
        Ok(digest)
    }
}

impl Part {
    fn of(path: &Path) -> Result<Part, HubError> {
        let path = path.canonicalize().map_err(io_error("read", path))?;
        let meta = fs::metadata(&path).map_err(io_error("read", &path))?;
        let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(Part { path, bytes: meta.len(), modified })
    }
}

/// A path as the notes have it; `None` for one that is no text.
fn key(path: &Path) -> Option<String> {
    path.canonicalize().ok()?.into_os_string().into_string().ok()
}

fn load<T: DeserializeOwned + Default>(path: &Path) -> T {
    let mut json = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_NOTES).read_to_end(&mut json));
    read.ok().and_then(|_| serde_json::from_slice(&json).ok()).unwrap_or_default()
}

fn save<T: Serialize>(path: &Path, notes: &T) -> Result<(), HubError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || {
        let mut file = new_file(folder)?;
        file.write_all(&serde_json::to_vec(notes)?)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)
    };
    write().map(|_| ()).map_err(io_error("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn given(path: &Path) -> LocalModel {
        LocalModel::file("m.gguf", path).unwrap()
    }

    #[test]
    fn results_belong_to_the_content() {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub::at(dir.path().join("hob")).unwrap();
        let path = dir.path().join("a.gguf");
        fs::write(&path, b"abc").unwrap();
        assert_eq!(hub.measured(&given(&path)), Vec::<Value>::new());
        let remember = |path: &Path, value: Value| {
            let text = value["text"].clone();
            let same = move |old: &Value| old["text"] == text;
            hub.remember(&given(path), &[path.to_owned()], value, &same, &mut |_| ()).unwrap();
        };
        remember(&path, json!({"text": 1, "kl": 5}));
        remember(&path, json!({"text": 2, "kl": 6}));
        remember(&path, json!({"text": 1, "kl": 7}));
        let expected = [json!({"text": 2, "kl": 6}), json!({"text": 1, "kl": 7})];
        assert_eq!(hub.measured(&given(&path)), expected);
        assert!(hub.root().join("measured/sha256-ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad.json").exists());

        // Another file with the same content has them once it was hashed.
        let copy = dir.path().join("b.gguf");
        fs::copy(&path, &copy).unwrap();
        assert!(hub.measured(&given(&copy)).is_empty());
        remember(&copy, json!({"text": 3}));
        assert_eq!(hub.measured(&given(&copy)).len(), 3);

        // A changed one has none.
        fs::write(&path, b"abcd").unwrap();
        assert!(hub.measured(&given(&path)).is_empty());
    }

    #[test]
    fn notes_are_bounded_and_damage_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub::at(dir.path().to_owned()).unwrap();
        let path = dir.path().join("a.gguf");
        fs::write(&path, b"abc").unwrap();
        let remember = |n: usize| {
            hub.remember(
                &given(&path),
                std::slice::from_ref(&path),
                json!(n),
                &|_| false,
                &mut |_| (),
            )
        };
        for n in 0..MAX_RESULTS + 3 {
            remember(n).unwrap();
        }
        let found = hub.measured(&given(&path));
        assert_eq!((found.len(), &found[0]), (MAX_RESULTS, &json!(3)));
        for file in fs::read_dir(dir.path().join("measured")).unwrap() {
            fs::write(file.unwrap().path(), b"{\"results\": [1, ").unwrap();
        }
        assert!(hub.measured(&given(&path)).is_empty());
        remember(9).unwrap();
        assert_eq!(hub.measured(&given(&path)), [json!(9)]);
    }
}
