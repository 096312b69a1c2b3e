//! Everything that can stop a conversion, each with the file, key or tensor it is about.

use std::io;
use std::path::{Path, PathBuf};

use hob_gguf::{GgufError, WriteError};
use hob_model::hf::HfError;
use hob_quant::QuantError;

use crate::quantize::QuantizeError;

/// Why a model was not converted. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The folder has no weights.
    #[error("{} has no *.safetensors files", .0.display())]
    NoWeights(PathBuf),
    /// A file that must be there.
    #[error("{} is missing", .0.display())]
    NoFile(PathBuf),
    /// A small file that is larger than any of its kind.
    #[error("{} has {bytes} bytes, more than {most}", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The most that is read.
        most: u64,
    },
    /// No JSON, or of another kind.
    #[error("{} is not what it should be: {why}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's reason.
        why: String,
    },
    /// Not a whole safetensors file.
    #[error("{} is no whole safetensors file: {fault}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: Fault,
    },
    /// Files and index disagree.
    #[error(
        "the index and the files disagree; missing: {}; not in the index: {}",
        list(missing),
        list(extra)
    )]
    Index {
        /// Tensors of the index that no file has.
        missing: Vec<String>,
        /// Tensors of the files that the index lacks.
        extra: Vec<String>,
    },
    /// A tensor in two files.
    #[error("tensor '{tensor}' is in two files, {} and {}", first.display(), second.display())]
    Twice {
        /// The tensor.
        tensor: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A class without a table.
    #[error("architecture '{found}' cannot be converted; those that can: {known}")]
    Architecture {
        /// The class in the config.
        found: String,
        /// The classes known.
        known: String,
    },
    /// A config that cannot be followed.
    #[error("config.json: {0}")]
    Hf(#[source] HfError),
    /// Tensors that the family's table does not know.
    #[error("{count} tensors are unknown in a {arch} model: {}", list(names))]
    Unknown {
        /// The architecture.
        arch: &'static str,
        /// How many.
        count: usize,
        /// Their names, the first ones.
        names: Vec<String>,
    },
    /// Tensors that a whole model has.
    #[error("{count} tensors are missing: {}", list(names))]
    Missing {
        /// How many.
        count: usize,
        /// Their names, the first ones.
        names: Vec<String>,
    },
    /// A tensor of another shape than the config or its neighbours say.
    #[error("tensor '{tensor}' has the shape {shape:?}, expected {expected}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<u64>,
        /// What would be right.
        expected: String,
    },
    /// A tensor of a type that is not read.
    #[error("tensor '{tensor}' has the type {found}, expected {expected}")]
    Dtype {
        /// The tensor.
        tensor: String,
        /// Its type.
        found: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A pre-tokenizer that no name stands for.
    #[error(
        "the pre-tokenizer of tokenizer.json is not known; if it is one of llama.cpp's, name it (--pre NAME). It says: {found}"
    )]
    Pre {
        /// What the file says, cut short.
        found: String,
    },
    /// A tokenizer of a kind that is not converted.
    #[error("the tokenizer cannot be converted: {0}")]
    Tokenizer(String),
    /// A way to make one vector of many that GGUF has no number for.
    #[error("pooling is none of mean, cls and last token: {found}")]
    Pooling {
        /// What the folder says, cut short.
        found: String,
    },
    /// The metadata or the tensors make no header.
    #[error(transparent)]
    Header(#[from] GgufError),
    /// Likewise.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A row and its bytes do not fit together.
    #[error("tensor '{tensor}': {source}")]
    Row {
        /// The tensor.
        tensor: String,
        /// What is wrong.
        source: QuantError,
    },
    /// The place cannot be written.
    #[error(transparent)]
    Target(#[from] QuantizeError),
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// What is wrong with a safetensors file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not even a length.
    #[error("it has {length} bytes")]
    Short {
        /// Bytes of the file.
        length: u64,
    },
    /// A header beyond the file's end or all reason.
    #[error("its header would have {found} bytes, the file has {length}")]
    HeaderLength {
        /// What it says.
        found: u64,
        /// Bytes of the file.
        length: u64,
    },
    /// A header that is not JSON of the right kind.
    #[error("its header is damaged: {0}")]
    Json(String),
    /// A name twice.
    #[error("tensor '{tensor}' is there twice")]
    Twice {
        /// The tensor.
        tensor: String,
    },
    /// A type that the format does not have.
    #[error("tensor '{tensor}' has the type '{found}'")]
    Dtype {
        /// The tensor.
        tensor: String,
        /// Its type.
        found: String,
    },
    /// A shape that needs more or fewer bytes.
    #[error("tensor '{tensor}' has the shape {shape:?} in {bytes} bytes")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<u64>,
        /// Its bytes.
        bytes: u64,
    },
    /// A place outside the data, over another tensor or after a hole.
    #[error(
        "tensor '{tensor}' does not lie where the one before it ends, or beyond the file's end"
    )]
    Range {
        /// The tensor.
        tensor: String,
    },
    /// Data without an owner.
    #[error("it has {found} bytes of data, its tensors take {expected}")]
    DataLength {
        /// Bytes there.
        found: u64,
        /// Bytes of all tensors.
        expected: u64,
    },
}

impl From<HfError> for ConvertError {
    /// What is about the converter or another file than the config says so.
    fn from(error: HfError) -> Self {
        match error {
            HfError::UnknownArchitecture { found, known } => {
                ConvertError::Architecture { found, known }
            }
            HfError::Pooling { found } => ConvertError::Pooling { found },
            error => ConvertError::Hf(error),
        }
    }
}

impl ConvertError {
    /// Wraps the system's refusal.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| ConvertError::Io { action, path, source }
    }
}

/// Names, or that there are none.
fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
