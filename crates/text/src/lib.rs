//! Text: bytes to tokens and back, and chat templates.
//! Everything is built from GGUF metadata and immutable afterwards, so one value serves all threads; every failure is a [`TextError`].
//! Deliberately absent: sampling, files, and any knowledge of model weights.

mod chat;
mod detokenizer;
mod error;
mod go;
mod modelfile;
mod tokenizer;

pub use chat::{
    CallChoice, ChatAnswer, ChatEvent, ChatFormat, ChatParser, ChatTemplate, JSON_BLANKS, Message,
    RenderOptions, Template, ToolCall, bound_integers,
};
pub use detokenizer::Detokenizer;
pub use error::TextError;
pub use go::{Capabilities, GoTemplate};
pub use modelfile::{Modelfile, ModelfileError, Parameter};
pub use tokenizer::{EncodeOptions, Tokenizer};

/// A position in a model's vocabulary.
pub type Token = u32;
