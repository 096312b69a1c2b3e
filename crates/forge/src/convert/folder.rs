//! A Hugging Face folder: its small JSON files, and the tensors of all its safetensors files in the order in which the
//! ecosystem's converter meets them (files by name, tensors by name), which becomes the order of the GGUF file.
//! Deliberately absent: checkpoints in pickles, which can run code.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::error::ConvertError;
use super::safetensors::{Shard, Tensor};

/// Bytes of the longest configuration, template or index.
const MAX_SMALL: u64 = 64 << 20;
/// Bytes of the longest tokenizer; those in use have some 30 MB.
const MAX_TOKENIZER: u64 = 256 << 20;
/// Names that an error lists.
pub(super) const LISTED: usize = 8;

/// A JSON object.
pub(super) type Object = Map<String, Value>;

/// A tensor by its place in the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    shard: usize,
    tensor: usize,
}

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    shards: Vec<Shard>,
}

impl Folder {
    pub fn open(path: &Path) -> Result<Self, ConvertError> {
        let index: Option<Object> = json(&path.join("model.safetensors.index.json"))?;
        let weights = index.as_ref().map(|index| weight_map(path, index)).transpose()?;
        let parts = match &weights {
            Some(weights) => weights.values().cloned().collect(),
            None => parts(path)?,
        };
        if parts.is_empty() {
            return Err(ConvertError::NoWeights(path.to_owned()));
        }
        let shards: Vec<Shard> =
            parts.iter().map(|part| Shard::open(&path.join(part))).collect::<Result<_, _>>()?;
        let folder = Folder { path: path.to_owned(), shards };
        folder.check(weights.as_ref())?;
        Ok(folder)
    }

    /// The model's config, which says what the other files should hold.
    pub fn config(path: &Path) -> Result<Option<Object>, ConvertError> {
        json(&path.join("config.json"))
    }

    /// No tensor twice, and all that the index names.
    fn check(&self, weights: Option<&HashMap<String, String>>) -> Result<(), ConvertError> {
        let mut seen: HashMap<&str, &Path> = HashMap::new();
        for shard in &self.shards {
            for tensor in &shard.tensors {
                if let Some(first) = seen.insert(&tensor.name, shard.path()) {
                    let (first, second) = (first.to_owned(), shard.path().to_owned());
                    return Err(ConvertError::Twice { tensor: tensor.name.clone(), first, second });
                }
            }
        }
        let Some(weights) = weights else { return Ok(()) };
        let mut missing: Vec<String> =
            weights.keys().filter(|name| !seen.contains_key(name.as_str())).cloned().collect();
        let mut extra: Vec<String> = seen
            .keys()
            .filter(|name| !weights.contains_key(**name))
            .map(|name| (*name).to_owned())
            .collect();
        if missing.is_empty() && extra.is_empty() {
            return Ok(());
        }
        missing.sort();
        extra.sort();
        missing.truncate(LISTED);
        extra.truncate(LISTED);
        Err(ConvertError::Index { missing, extra })
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its files of weights.
    pub fn files(&self) -> Vec<PathBuf> {
        self.shards.iter().map(|shard| shard.path().to_owned()).collect()
    }

    /// All tensors, in order.
    pub fn tensors(&self) -> impl Iterator<Item = (Place, &Tensor)> {
        self.shards.iter().enumerate().flat_map(|(shard, file)| {
            let place = move |tensor| Place { shard, tensor };
            file.tensors.iter().enumerate().map(move |(tensor, t)| (place(tensor), t))
        })
    }

    /// A tensor and its file.
    pub fn get(&self, place: Place) -> Option<(&Shard, &Tensor)> {
        let shard = self.shards.get(place.shard)?;
        Some((shard, shard.tensors.get(place.tensor)?))
    }

    /// A JSON object beside the weights, if it is there.
    pub fn json(&self, name: &str) -> Result<Option<Object>, ConvertError> {
        json(&self.path.join(name))
    }

    /// A JSON list beside the weights, if it is there.
    pub fn list(&self, name: &str) -> Result<Option<Vec<Value>>, ConvertError> {
        json(&self.path.join(name))
    }

    /// A text beside the weights, if it is there.
    pub fn text(&self, name: &str) -> Result<Option<String>, ConvertError> {
        let path = self.path.join(name);
        let Some(bytes) = read(&path, MAX_SMALL)? else { return Ok(None) };
        let why = "it is not UTF-8".to_owned();
        String::from_utf8(bytes).map(Some).map_err(|_| ConvertError::Json { path, why })
    }

    /// The bytes of a tokenizer's file, if it is there.
    pub fn tokenizer(&self, name: &str) -> Result<Option<Vec<u8>>, ConvertError> {
        read(&self.path.join(name), MAX_TOKENIZER)
    }
}

/// The files named like a model's, without an index.
fn parts(path: &Path) -> Result<BTreeSet<String>, ConvertError> {
    let entries = fs::read_dir(path).map_err(ConvertError::io("open", path))?;
    let name = |entry: fs::DirEntry| entry.file_name().into_string().ok();
    let names = entries.flatten().filter_map(name);
    Ok(names.filter(|n| n.starts_with("model") && n.ends_with(".safetensors")).collect())
}

/// Each tensor's file, by the index. A file's name is a plain one: an index leads nowhere else.
fn weight_map(path: &Path, index: &Object) -> Result<HashMap<String, String>, ConvertError> {
    let bad = |why: &str| ConvertError::Json {
        path: path.join("model.safetensors.index.json"),
        why: why.to_owned(),
    };
    let Some(Value::Object(map)) = index.get("weight_map") else {
        return Err(bad("it has no \"weight_map\""));
    };
    let part = |(name, file): (&String, &Value)| match file.as_str() {
        Some(file) if Path::new(file).file_name().is_some_and(|n| n == file) => {
            Ok((name.clone(), file.to_owned()))
        }
        _ => Err(bad("its \"weight_map\" holds something else than names of files beside it")),
    };
    map.iter().map(part).collect()
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ConvertError> {
    let Some(bytes) = read(path, MAX_TOKENIZER)? else { return Ok(None) };
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok(Some(value)),
        Err(e) => Err(ConvertError::Json { path: path.to_owned(), why: e.to_string() }),
    }
}

/// All of a file of at most `most` bytes, or nothing if there is none.
fn read(path: &Path, most: u64) -> Result<Option<Vec<u8>>, ConvertError> {
    if !path.is_file() {
        return Ok(None);
    }
    let file = File::open(path).map_err(ConvertError::io("open", path))?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that grows.
    let read =
        file.take(most + 1).read_to_end(&mut bytes).map_err(ConvertError::io("read", path))?;
    match read as u64 > most {
        true => Err(ConvertError::TooLong { path: path.to_owned(), bytes: read as u64, most }),
        false => Ok(Some(bytes)),
    }
}
