//! The models that servers are loaded with: files of the asset cache, with prompts and contexts that suit them.

use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Result, bail};

use super::client::Form;
use crate::assets;

/// A model and how it is asked.
#[derive(Clone, Debug)]
pub struct Model {
    pub name: &'static str,
    pub path: PathBuf,
    pub form: Form,
    /// Tokens of prompt and answer that every stream has room for.
    pub context: usize,
    /// Words of the part of a prompt that is its own.
    pub words: Range<usize>,
}

/// Which model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Name {
    /// 15M parameters, F32, without a template: completions
    Stories15m,
    /// 135M parameters, Q4_1: conversations
    Smollm2,
}

impl Name {
    /// Finds its file.
    pub fn model(self) -> Result<Model> {
        let (name, form, context, words) = match self {
            // Its own context is 256, and its words are short tokens.
            Name::Stories15m => ("stories15m", Form::Text, 256, 30..110),
            Name::Smollm2 => ("smollm2", Form::Chat, 512, 10..200),
        };
        let path = assets::dir()?.join(format!("{name}.gguf"));
        if !path.is_file() {
            bail!("there is no {}; run `cargo xtask assets`", path.display());
        }
        Ok(Model { name, path, form, context, words })
    }
}
