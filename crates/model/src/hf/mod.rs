//! From a Hugging Face `config.json` to the GGUF metadata of the file that it would become, and so to the same `describe` as
//! any file: planning needs no weights. The meaning of keys is that of llama.cpp's `convert_hf_to_gguf.py`; a family's
//! function states them for planner and converter alike. A config is a stranger's: its size is bounded, its depth by the
//! JSON parser, and a setting that the description could not follow is an error, never ignored. Deliberately absent:
//! tokenizers, and the names and numbers of a checkpoint's tensors.

mod bert;
mod config;
mod deepseek2;
mod error;
mod family;
mod gemma;
mod gemma4;
mod glm4;
mod gpt_oss;
mod granite;
mod keys;
mod lfm2;
mod llama;
mod names;
mod olmo2;
mod phi3;
mod qwen;
mod qwen35;

use hob_gguf::MetaBuilder;
use serde_json::Value;

pub use bert::{XLM_ROBERTA, labels};
pub use config::{Config, Object};
pub use error::{HfError, bad, missing};
pub use family::{Family, families, find};
pub use keys::{Computed, Keys, Pooling, nothing};

use crate::{Header, Model, arch};
use names::Names;

/// Bytes of the longest config that is read; those in use have a few thousand.
pub const MAX_CONFIG_BYTES: usize = 1 << 20;

/// Numbers without which there is no model.
const NEEDED: &[&str] = &["hidden_size", "num_attention_heads", "vocab_size"];

/// What a config says, in GGUF's terms.
#[derive(Debug, Clone)]
pub struct HfConfig {
    /// Metadata of the file that the model would be.
    pub meta: MetaBuilder,
    /// Names of the tensors on whose presence the description depends.
    pub tensors: Vec<String>,
}

impl HfConfig {
    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// All but the last two of [`HfError`].
    pub fn parse(json: &str) -> Result<Self, HfError> {
        if json.len() > MAX_CONFIG_BYTES {
            return Err(HfError::TooLong { found: json.len() });
        }
        let json: Value = serde_json::from_str(json)?;
        let Value::Object(config) = &json else {
            return Err(HfError::NotAConfig { found: error::kind(&json).to_owned() });
        };
        let family = find(config)?;
        let meta = MetaBuilder::new().set("general.architecture", family.arch);
        let mut keys = Keys::new(family.arch, family.defaults, config, meta)?;
        for key in NEEDED {
            keys.need_count(key)?;
        }
        family.follows(&keys)?;
        (family.keys)(&mut keys)?;
        // A file has its list of tokens instead.
        keys.must("vocab_size", "vocab_size")?;
        let mut names = Names::default();
        if !family.ties(&keys)? {
            names.global("output.weight");
        }
        (family.computed)(&mut keys)?.iter().for_each(|(name, _)| names.global(name));
        (family.optional)(&keys, &mut names)?;
        Ok(HfConfig { meta: keys.meta, tensors: names.into_list() })
    }

    /// The model that it describes.
    ///
    /// # Errors
    /// The last two of [`HfError`].
    pub fn describe(&self) -> Result<Model, HfError> {
        let meta = self.meta.build()?;
        Ok(arch::describe(&Header::new(&meta, self.tensors.iter().map(String::as_str))?)?)
    }
}
