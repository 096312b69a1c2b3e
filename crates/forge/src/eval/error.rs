//! Everything that can stop an evaluation, each with what was found and what was expected.

use std::path::PathBuf;

use hob_engine::EngineError;
use hob_model::BatchError;

/// Why a text could not be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// Fewer tokens than one chunk.
    #[error(
        "the text has {tokens} tokens, fewer than one chunk of {context}; use a longer text or a smaller -c"
    )]
    ShortText {
        /// Tokens of the text.
        tokens: usize,
        /// Tokens of a chunk.
        context: usize,
    },
    /// Chunks that leave nothing to score.
    #[error("chunks of {context} tokens are too short; {least} is the least")]
    ShortContext {
        /// Tokens of a chunk.
        context: usize,
        /// The least that makes sense.
        least: usize,
    },
    /// Chunks longer than the model's context.
    #[error("chunks of {asked} tokens are longer than the {trained} that the model was made for")]
    Context {
        /// Tokens of a chunk.
        asked: usize,
        /// The model's context.
        trained: usize,
    },
    /// Model and reference do not belong together.
    #[error("the {what} is {found}, but the model or the text has {expected}")]
    Mismatch {
        /// The number that differs.
        what: &'static str,
        /// In the reference.
        found: usize,
        /// In the model or the text.
        expected: usize,
    },
    /// The reference holds fewer chunks.
    #[error("the reference holds {found} chunks, {asked} were asked for")]
    Chunks {
        /// Chunks of the text.
        asked: usize,
        /// Chunks of the reference.
        found: usize,
    },
    /// The reference was made from another text, or its tokenizer differs.
    #[error("the reference was made from another text: token {at} differs")]
    OtherText {
        /// Position of the first difference.
        at: usize,
    },
    /// A row of logits with a NaN or an infinity.
    #[error("a row of {0} is not made of finite numbers")]
    NotFinite(&'static str),
    /// The file does not begin as one of log-probabilities.
    #[error("'{0}' is no file of log-probabilities: it does not begin with \"_logits_\"")]
    NoReference(PathBuf),
    /// A number of the file's header that cannot be.
    #[error("'{path}': {what} is {found}, expected {expected}")]
    Header {
        /// The file.
        path: PathBuf,
        /// Field.
        what: &'static str,
        /// Its value.
        found: u64,
        /// What would be right.
        expected: String,
    },
    /// The file's size is not what its header says.
    #[error("'{path}' has {found} bytes, but its header asks for {expected}")]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// The size by the header.
        expected: u128,
    },
    /// The operating system refused.
    #[error("'{path}': {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A step could not be put together.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The model could not be stepped.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The caller asked to stop.
    #[error("stopped")]
    Stopped,
}
