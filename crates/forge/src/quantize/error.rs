//! Everything that can stop a quantization, each with the tensor or file it is about and what to do.

use std::path::PathBuf;

use hob_gguf::{GgufError, WriteError};
use hob_model::ModelError;
use hob_quant::{GgmlType, QuantError};

/// Why a model was not quantized. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// The source's architecture is not known, or its tensors are not those of it.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The metadata make no header.
    #[error(transparent)]
    Header(#[from] WriteError),
    /// Likewise.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A matrix of the source has lost precision already.
    #[error(
        "tensor '{tensor}' is quantized already ({found}): what is lost stays lost; take a source of F32, F16, BF16 or Q8_0, or allow requantizing"
    )]
    Requantize {
        /// The tensor.
        tensor: String,
        /// Its type.
        found: GgmlType,
    },
    /// A type that this hob reads but does not write.
    #[error("tensor '{tensor}' shall be {ty}, which cannot be written yet")]
    NoEncoder {
        /// The tensor.
        tensor: String,
        /// The type it shall have.
        ty: GgmlType,
    },
    /// A type that is noise without an importance matrix.
    #[error(
        "tensor '{tensor}' shall be {ty}, which needs an importance matrix{}",
        if *.given { "; the one given has no entry for it" } else { "" }
    )]
    NeedsImportance {
        /// The tensor.
        tensor: String,
        /// The type it shall have.
        ty: GgmlType,
        /// Whether there is a matrix, but without this tensor.
        given: bool,
    },
    /// An importance matrix of another model.
    #[error(
        "the importance matrix has {found} numbers for tensor '{tensor}', expected {expected}: it is of another model"
    )]
    ImportanceLength {
        /// The tensor.
        tensor: String,
        /// Numbers of the entry.
        found: usize,
        /// Row length, times experts.
        expected: u64,
    },
    /// An importance that is no mean square.
    #[error(
        "the importance of column {column} of tensor '{tensor}' is {value}: not a finite number from 0"
    )]
    ImportanceValue {
        /// The tensor.
        tensor: String,
        /// Index in the entry.
        column: usize,
        /// What is there.
        value: f32,
    },
    /// A weight that is NaN or infinite.
    #[error("tensor '{tensor}' holds {value} in row {row}, column {column}: the source is damaged")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// Row, over all dimensions but the first.
        row: u64,
        /// Column.
        column: usize,
        /// NaN or an infinity.
        value: f32,
    },
    /// A weight beyond what the type's scales can say.
    #[error("tensor '{tensor}' holds {value:e} in row {row}, column {column}: too large for {ty}")]
    TooLarge {
        /// The tensor.
        tensor: String,
        /// Row, over all dimensions but the first.
        row: u64,
        /// Column.
        column: usize,
        /// The weight.
        value: f32,
        /// The type it shall have.
        ty: GgmlType,
    },
    /// A row and its bytes do not fit together.
    #[error("tensor '{tensor}': {source}")]
    Row {
        /// The tensor.
        tensor: String,
        /// What is wrong.
        source: QuantError,
    },
    /// A split set of more files than can be numbered.
    #[error("{parts} files are too many for a split set; allow more in each")]
    Parts {
        /// Files that it would have.
        parts: usize,
    },
    /// Target and source are one file.
    #[error("{} would be written over the source, which it is read from", .0.display())]
    SameFile(PathBuf),
    /// The target is there.
    #[error("{} exists already; force to replace it", .0.display())]
    Exists(PathBuf),
    /// The target is a folder or a device.
    #[error("{} is no regular file, and is not replaced", .0.display())]
    NotAFile(PathBuf),
    /// Another program is writing the same file.
    #[error("another hob is writing {} right now (it holds {})", path.display(), lock.display())]
    Busy {
        /// The target.
        path: PathBuf,
        /// The file with the lock.
        lock: PathBuf,
    },
    /// Too little room, seen before or while writing.
    #[error(
        "not enough space for {}: it takes {needed} bytes{}",
        path.display(),
        free.map(|free| format!(", {free} are free")).unwrap_or_default()
    )]
    NoSpace {
        /// The target.
        path: PathBuf,
        /// Bytes of all files to be written.
        needed: u64,
        /// Bytes that were free before writing; none if it ran out while writing.
        free: Option<u64>,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A worker thread died; a bug.
    #[error("a worker thread stopped without a result")]
    Worker,
    /// The caller asked to stop.
    #[error("stopped")]
    Stopped,
}
