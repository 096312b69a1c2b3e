//! A model's file in another mix of types. What shall be written is planned and checked first ([`Plan`]: types, sizes,
//! importance); then rows stream from the source's map through encoding threads into files that get their names only
//! when all of them are whole. Deliberately absent: the choice of types (recipes of `hob_model`) and how blocks are
//! encoded (`hob_quant`).
//!
//! Memory is bounded whatever the model's size: see [`PIECE`].

mod error;
mod job;
mod pieces;
mod plan;
mod split;
pub(crate) mod target;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::path::PathBuf;

pub use error::QuantizeError;
pub use pieces::PIECE;
pub use plan::{Plan, Planned};
pub use split::Split;

use hob_model::{Override, Recipe};
use hob_quant::GgmlType;

use crate::imatrix::Imatrix;

/// What shall be made of a model.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// Which type each tensor gets.
    pub recipe: &'static Recipe,
    /// The base type for every matrix, without the recipe's mix.
    pub pure: bool,
    /// Types by tensor name, stronger than the recipe.
    pub overrides: Vec<Override>,
    /// Type of the unembedding (of the token embedding, where it serves as such).
    pub output_type: Option<GgmlType>,
    /// Type of the token embedding.
    pub embedding_type: Option<GgmlType>,
    /// The unembedding stays as it is.
    pub leave_output: bool,
    /// How much each column matters.
    pub importance: Option<Importance<'a>>,
    /// Types that need an importance matrix are made without one too.
    pub without_importance: bool,
    /// Sources that are quantized already are taken too.
    pub allow_requantize: bool,
    /// How many files.
    pub split: Split,
}

/// An importance matrix and the file it came from, which the metadata name.
#[derive(Clone, Copy, Debug)]
pub struct Importance<'a> {
    /// Its numbers.
    pub matrix: &'a Imatrix,
    /// Path as the user gave it.
    pub file: &'a str,
}

impl<'a> Options<'a> {
    /// A recipe and nothing else.
    pub fn new(recipe: &'static Recipe) -> Self {
        Options {
            recipe,
            pure: false,
            overrides: Vec::new(),
            output_type: None,
            embedding_type: None,
            leave_output: false,
            importance: None,
            without_importance: false,
            allow_requantize: false,
            split: Split::None,
        }
    }
}

/// Where and how the files are written.
#[derive(Clone, Debug)]
pub struct Writing {
    /// The file, or the name from which those of a split set are made.
    pub path: PathBuf,
    /// Files that are there are replaced.
    pub replace: bool,
    /// Threads that encode; more are used to write.
    pub threads: usize,
}

/// How far the writing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The tensor that is being written.
    pub tensor: &'a str,
    /// Tensors written.
    pub tensors: usize,
    /// Weights written.
    pub weights: u64,
    /// Bytes written.
    pub bytes: u64,
}

/// What hears of the progress, and may break it off.
pub type Watch<'a> = dyn FnMut(Progress<'_>) -> ControlFlow<()> + 'a;
