//! Everything that can be wrong with a model file once its container has been read.
//! No error here is about bytes or memory: those belong to `gguf` and to the backends.

/// Why a header does not describe a model that hob knows, or a file does not hold that model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// `general.architecture` names a family without a description.
    #[error("architecture '{found}' is not known; known: {known}")]
    UnknownArchitecture {
        /// The name in the file.
        found: String,
        /// Comma-separated names of the table.
        known: String,
    },
    /// A metadata value is out of the range that makes sense.
    #[error("metadata '{key}' is {found}, expected {expected}")]
    BadValue {
        /// Full metadata key.
        key: String,
        /// What the file says.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// A tensor of the description is not in the file.
    #[error("tensor '{0}' is missing from the file")]
    MissingTensor(String),
    /// A tensor of the file is not in the description.
    #[error("tensor '{0}' in the file is not part of the {1} architecture")]
    UnusedTensor(String, String),
    /// Shapes differ.
    #[error("tensor '{name}' has shape {found:?}, expected {expected:?}")]
    Shape {
        /// Tensor name.
        name: String,
        /// Shape in the file, ggml order.
        found: Vec<u64>,
        /// Shape of the description, ggml order.
        expected: Vec<u64>,
    },
    /// A metadata key is absent or of another type.
    #[error(transparent)]
    Metadata(#[from] hob_gguf::MetaError),
}
