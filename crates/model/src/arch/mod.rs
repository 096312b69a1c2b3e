//! The table of architectures: a name and a pure function from header to `Model`. Adding one is a file, a line
//! here and a fixture. Shared hyperparameters are read once in `Common`; nothing here runs a model.

mod common;
mod deepseek2;
mod gemma3;
mod llama;
mod qwen2;
mod qwen3;

use crate::{Header, Model, ModelError};

type Describe = fn(&Header) -> Result<Model, ModelError>;

const TABLE: &[(&str, Describe)] = &[
    ("deepseek2", deepseek2::describe),
    ("gemma3", gemma3::describe),
    ("llama", llama::describe),
    ("qwen2", qwen2::describe),
    ("qwen3", qwen3::describe),
];

/// The model that a header describes.
pub fn describe(header: &Header) -> Result<Model, ModelError> {
    match TABLE.iter().find(|(name, _)| *name == header.arch()) {
        Some((_, describe)) => describe(header),
        None => Err(ModelError::UnknownArchitecture {
            found: header.arch().to_owned(),
            known: names().collect::<Vec<_>>().join(", "),
        }),
    }
}

/// Architecture names that `describe` knows.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}
