//! Why a config cannot be followed. Every error names the config's own key.

use hob_gguf::GgufError;
use serde_json::Value;

use super::MAX_CONFIG_BYTES;
use crate::ModelError;

/// Why a config describes no model that hob knows.
#[derive(Debug, thiserror::Error)]
pub enum HfError {
    /// Longer than [`MAX_CONFIG_BYTES`].
    #[error("a model configuration of {found} bytes is longer than {MAX_CONFIG_BYTES}")]
    TooLong {
        /// Bytes of the text.
        found: usize,
    },
    /// No JSON, or nested too deep.
    #[error("this is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// JSON of another kind.
    #[error(
        "this JSON is not a model configuration: {found}, expected an object with \"architectures\" or \"model_type\""
    )]
    NotAConfig {
        /// What it is.
        found: String,
    },
    /// A family without a line in the table.
    #[error("architecture '{found}' is not known from a configuration; known: {known}")]
    UnknownArchitecture {
        /// The name in the config.
        found: String,
        /// The names of the table.
        known: String,
    },
    /// A key that must be there.
    #[error("\"{key}\" is missing, expected {expected}")]
    Missing {
        /// The config's key.
        key: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A value that makes no sense, or one that the description cannot follow.
    #[error("\"{key}\" is {found}, expected {expected}")]
    BadValue {
        /// The config's key.
        key: String,
        /// What it says, in JSON, cut short.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// Vectors become one in a way that GGUF has no number for.
    #[error("pooling {found} is not known; known: mean, cls, lasttoken")]
    Pooling {
        /// What was found.
        found: String,
    },
    /// The values are no metadata.
    #[error(transparent)]
    Metadata(#[from] GgufError),
    /// The values do not fit together.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// That a key is missing.
pub fn missing(key: &str, expected: &'static str) -> HfError {
    HfError::Missing { key: key.to_owned(), expected }
}

/// That a key's value is wrong.
pub fn bad(key: &str, found: &str, expected: &str) -> HfError {
    HfError::BadValue { key: key.to_owned(), found: short(found), expected: expected.to_owned() }
}

/// The first characters of a stranger's text.
pub(super) fn short(text: &str) -> String {
    const LONGEST: usize = 60;
    let head: String = text.chars().take(LONGEST).collect();
    if head.len() < text.len() { head + "..." } else { head }
}

/// What a JSON value is.
pub(super) fn kind(json: &Value) -> &'static str {
    match json {
        Value::Null => "it is null",
        Value::Bool(_) => "it is a truth value",
        Value::Number(_) => "it is a number",
        Value::String(_) => "it is a string",
        Value::Array(_) => "it is a list",
        Value::Object(_) => "it is an object",
    }
}
