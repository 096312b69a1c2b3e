//! Everything that can go wrong before a request runs; what can go wrong while it runs is a `Failure`, which is sent
//! to every request it concerns. Statuses of HTTP are the server's.

use hob_cpu::CpuError;
use hob_model::{BatchError, ModelError, OpsError};

use crate::grammar::GrammarError;
use crate::sample::OptionError;
use crate::speculate::DraftError;

/// Why a model cannot be loaded, stepped, or asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The file holds no model that runs here.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The processor's backend cannot take it.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// The device failed in a step.
    #[error(transparent)]
    Device(#[from] OpsError),
    /// A span that cannot be run.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A number above what the backend was built for, or the vocabulary has.
    #[error("{what} is {found}, but must be {expected}")]
    Range {
        /// What is out of range.
        what: &'static str,
        /// Its value.
        found: usize,
        /// The range, in words.
        expected: String,
    },
    /// The speed probe's own model cannot be made.
    #[error("the speed probe cannot make its model: {0}")]
    Probe(String),
    /// A prompt without tokens.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// A prompt that leaves no room for an answer.
    #[error(
        "the prompt has {tokens} tokens, but the context holds {context} and one must be left for the answer"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// Text was asked of a model that only gives vectors.
    #[error("the model is an encoder: it gives embeddings, but neither text nor logits")]
    Encoder,
    /// Part of a text, on a model that sees all of it at once.
    #[error("the model reads texts whole, but a span starts at position {start}")]
    Part {
        /// Position of the span's first token.
        start: usize,
    },
    /// A text to be embedded that has no tokens.
    #[error("text {text} is empty")]
    EmptyText {
        /// Its index.
        text: usize,
    },
    /// A text to be embedded that is too long for one step.
    #[error("text {text} has {tokens} tokens, but at most {most} can be embedded at once")]
    TextTooLong {
        /// Its index.
        text: usize,
        /// Its tokens.
        tokens: usize,
        /// The rows of a step, or the tokens of the context.
        most: usize,
    },
    /// A sampling option out of its range.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// A model that cannot draft for the other.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// A constraint that cannot be followed.
    #[error(transparent)]
    Grammar(#[from] GrammarError),
    /// Too many requests wait already.
    #[error("{limit} requests are waiting already")]
    Busy {
        /// Most that may wait.
        limit: usize,
    },
    /// The engine does not run any more.
    #[error("the engine has stopped: {0}")]
    Stopped(String),
    /// The operating system refused the worker thread.
    #[error("cannot start the engine's thread: {0}")]
    Thread(#[from] std::io::Error),
}
