//! A model that need not be here, as its publisher describes it: what it is made of, and the part of its files that no recipe changes. That is what
//! the planner wants of it. Deliberately absent: weights.

use hob_gguf::MetaBuilder;
use hob_hub::Published;
use hob_model::hf::{HfConfig, HfError};
use hob_model::{FileSize, Model, Recipe, SizeError, TOKENIZER_BYTES_PER_ENTRY};

/// What the planner wants of a model.
pub struct Described {
    /// Its description.
    pub model: Model,
    /// Metadata and directory of its files.
    pub size: FileSize,
}

/// Why it has no description.
#[derive(Debug, thiserror::Error)]
pub enum Undescribed {
    /// The publisher's config.
    #[error(transparent)]
    Config(#[from] HfError),
    /// A file of it would be none.
    #[error(transparent)]
    Size(#[from] SizeError),
}

impl Described {
    /// As the catalogue has it.
    ///
    /// # Errors
    /// As [`Described::of_config`].
    pub fn of_published(published: &Published) -> Result<Described, Undescribed> {
        let config = HfConfig::parse(&published.config.to_string())?;
        Described::of_config(config, published.tokenizer_bytes)
    }

    /// By its config; the tokenizer's bytes are estimated where nobody has measured them.
    ///
    /// # Errors
    /// When hob does not know such a model.
    pub fn of_config(config: HfConfig, tokenizer: Option<u64>) -> Result<Described, Undescribed> {
        let model = config.describe()?;
        let estimate = u64::from(model.vocab) * TOKENIZER_BYTES_PER_ENTRY;
        Ok(Described::new(model, config.meta, tokenizer.unwrap_or(estimate))?)
    }

    /// By its description and metadata, of which so many bytes are missing.
    ///
    /// # Errors
    /// When no file can hold them.
    pub fn new(model: Model, mut meta: MetaBuilder, missing: u64) -> Result<Described, SizeError> {
        // What a recipe states of itself has one length: any of them will do.
        if let Some(recipe) = Recipe::all().first() {
            recipe.stamp(&mut meta);
        }
        let size = FileSize::of(&model, &meta, missing)?;
        Ok(Described { model, size })
    }
}
