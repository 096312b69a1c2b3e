//! The table of architectures: a name and a pure function from header to `Model`. Adding one is a file, a line
//! here and a fixture. Shared hyperparameters are read once in `Common`; nothing here runs a model.

mod bert;
mod common;
mod deepseek2;
mod experts;
mod gemma;
mod gemma4;
mod glm4;
mod gpt_oss;
mod granite;
mod lfm2;
mod llama;
mod mistral3;
mod olmo2;
mod phi3;
mod qwen2;
mod qwen35;
mod smollm3;

use crate::{Header, Model, ModelError};

type Describe = fn(&Header) -> Result<Model, ModelError>;

const TABLE: &[(&str, Describe)] = &[
    ("bert", bert::bert),
    ("deepseek2", deepseek2::describe),
    ("gemma2", gemma::gemma2),
    ("gemma3", gemma::gemma3),
    ("gemma4", gemma4::describe),
    ("glm4", glm4::glm4),
    ("glm4moe", glm4::glm4moe),
    ("gpt-oss", gpt_oss::describe),
    ("granite", granite::granite),
    ("granitehybrid", granite::hybrid),
    ("granitemoe", granite::granitemoe),
    ("lfm2", lfm2::lfm2),
    ("lfm2moe", lfm2::lfm2moe),
    ("llama", llama::describe),
    ("mistral3", mistral3::describe),
    ("nomic-bert", bert::nomic_bert),
    ("olmo2", olmo2::describe),
    ("phi3", phi3::describe),
    ("qwen2", qwen2::qwen2),
    ("qwen2moe", qwen2::qwen2moe),
    ("qwen3", qwen2::qwen3),
    ("qwen35", qwen35::qwen35),
    ("qwen35moe", qwen35::qwen35moe),
    ("qwen3moe", qwen2::qwen3moe),
    ("qwen3next", qwen35::qwen3next),
    ("smollm3", smollm3::describe),
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
