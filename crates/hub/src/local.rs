//! What a caller gets to know about a model on this machine: where its files lie, whose they are, and what its layers say beside the
//! weights.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Map, Value};

use crate::error::{HubError, io_error};
use crate::manifest::{Kind, Layer};
use crate::store::{Damaged, Store, Stored};

/// The annotation of a manifest whose template the user has set himself.
pub(crate) const OWN_TEMPLATE: &str = "hob.template.own";

/// Whose folder a model lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// hob's own store.
    Hob,
    /// Ollama's store.
    Ollama,
    /// LM Studio's models folder.
    LmStudio,
    /// The cache of Hugging Face's libraries.
    HuggingFace,
    /// A path that the user gave.
    User,
}

impl Keeper {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Keeper::Hob => "hob",
            Keeper::Ollama => "Ollama",
            Keeper::LmStudio => "LM Studio",
            Keeper::HuggingFace => "Hugging Face cache",
            Keeper::User => "file",
        }
    }
}

/// A model on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalModel {
    /// `name:tag` of a stored model; for a file given by its path, that path.
    pub name: String,
    /// The GGUF file; of a split model, the first.
    pub path: PathBuf,
    /// All of its GGUF files, in their order.
    pub parts: Vec<PathBuf>,
    /// SHA-256 of the (first) file in 64 hexadecimal digits; `None` where nobody wrote it down.
    pub digest: Option<String>,
    /// SHA-256 of the manifest, the identity of name and layers together; `None` for files without one.
    pub id: Option<String>,
    /// Length of all layers.
    pub bytes: u64,
    /// When the model was stored; for a path, when the file was changed.
    pub modified: SystemTime,
    /// What its publisher or the catalogue says about it.
    pub facts: Option<Facts>,
    /// Whose folder it lies in.
    pub keeper: Keeper,
}

/// Facts about a model. What is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// As in GGUF's `general.architecture`.
    pub architecture: String,
    /// Number of weights.
    pub parameters: Option<u64>,
    /// Number of weights as people say it (`14.8B`).
    pub parameter_size: String,
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

/// What a model carries beside its weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overlay {
    /// Chat template in Go's template language.
    pub template: Option<String>,
    /// Whether the user has set that template himself, and it is not its publisher's.
    pub own_template: bool,
    /// System prompt.
    pub system: Option<String>,
    /// Parameters by Ollama's names.
    pub parameters: Map<String, Value>,
    /// Messages that every chat begins with: role and content.
    pub messages: Vec<(String, String)>,
    /// Texts of its licences.
    pub licences: Vec<String>,
    /// LoRA adapters.
    pub adapters: Vec<PathBuf>,
    /// Vision tower.
    pub projector: Option<PathBuf>,
    /// Smaller model that guesses for this one.
    pub draft: Option<PathBuf>,
    /// Name of a built-in renderer of prompts, as Ollama calls it.
    pub renderer: Option<String>,
    /// Name of a built-in parser of answers, as Ollama calls it.
    pub parser: Option<String>,
}

impl LocalModel {
    /// A file given by its path.
    ///
    /// # Errors
    /// `Io` when it cannot be looked at.
    pub fn file(name: &str, path: &Path) -> Result<LocalModel, HubError> {
        let meta = fs::metadata(path).map_err(io_error("read", path))?;
        Ok(LocalModel {
            name: name.to_owned(),
            path: path.to_owned(),
            parts: vec![path.to_owned()],
            digest: None,
            id: None,
            bytes: meta.len(),
            modified: meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            facts: None,
            keeper: Keeper::User,
        })
    }

    pub(crate) fn stored(store: &Store, stored: &Stored, keeper: Keeper) -> LocalModel {
        let weights: Vec<&Layer> = stored.manifest.of(Kind::Model).collect();
        let parts: Vec<PathBuf> = weights.iter().map(|layer| store.blob(&layer.digest)).collect();
        let config = stored.config.clone();
        LocalModel {
            name: stored.name.to_string(),
            path: parts.first().cloned().unwrap_or_default(),
            parts,
            digest: weights.first().map(|layer| layer.digest.to_string()),
            id: Some(stored.id.to_string()),
            bytes: stored.manifest.blobs().map(|layer| layer.size).sum(),
            modified: stored.modified,
            facts: Some(Facts {
                architecture: config.model_family,
                parameters: config.parameters,
                parameter_size: config.model_type,
                recipe: config.file_type,
                licence: config.licence.unwrap_or_default(),
                source: config.source.unwrap_or_default(),
            }),
            keeper,
        }
    }
}

impl Overlay {
    pub(crate) fn read(store: &Store, stored: &Stored) -> Result<Overlay, HubError> {
        let manifest = &stored.manifest;
        let texts = |kind| -> Result<Vec<String>, HubError> {
            manifest.of(kind).map(|layer| store.text(&stored.name, layer)).collect()
        };
        let files = |kind| manifest.of(kind).map(|layer| store.blob(&layer.digest));
        let damaged = |e: serde_json::Error| HubError::Damaged {
            name: stored.name.to_string(),
            reason: format!("its parameters or messages are malformed: {e}"),
        };
        let mut overlay = Overlay {
            template: texts(Kind::Template)?.pop(),
            system: texts(Kind::System)?.pop(),
            licences: texts(Kind::License)?,
            adapters: files(Kind::Adapter).collect(),
            projector: files(Kind::Projector).next(),
            draft: files(Kind::Draft).next(),
            renderer: stored.config.renderer.clone(),
            parser: stored.config.parser.clone(),
            own_template: manifest.annotations.contains_key(OWN_TEMPLATE),
            ..Overlay::default()
        };
        for text in texts(Kind::Params)? {
            overlay.parameters.extend(serde_json::from_str::<Map<_, _>>(&text).map_err(damaged)?);
        }
        for text in texts(Kind::Messages)? {
            let said: Vec<Value> = serde_json::from_str(&text).map_err(damaged)?;
            let part = |m: &Value, key: &str| m[key].as_str().unwrap_or_default().to_owned();
            overlay.messages.extend(said.iter().map(|m| (part(m, "role"), part(m, "content"))));
        }
        Ok(overlay)
    }
}
