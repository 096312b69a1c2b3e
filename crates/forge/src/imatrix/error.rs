//! Everything that can be wrong with a file of importance, or stop its making.

use std::path::PathBuf;

use hob_gguf::{GgufError, MetaError, WriteError};

/// Why a file of importance could not be read, merged or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImatrixError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// An error with the file it was found in.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<ImatrixError>,
    },
    /// It is no proper GGUF file.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A metadata key is absent or of another type.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// A GGUF file of something else.
    #[error("general.type is {found:?}, expected \"imatrix\"")]
    Type {
        /// `general.type`, empty if absent.
        found: String,
    },
    /// The file ends before something it announces.
    #[error("{what} at byte {at} needs {needed} bytes, {available} are left")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it starts.
        at: usize,
        /// Bytes it needs.
        needed: usize,
        /// Bytes there are.
        available: usize,
    },
    /// Bytes after the end.
    #[error("{extra} bytes follow the end at byte {at}")]
    Trailing {
        /// Where the content ends.
        at: usize,
        /// How many bytes follow.
        extra: usize,
    },
    /// A number outside its range.
    #[error("{what} is {found}, expected {expected}")]
    Range {
        /// What it counts.
        what: &'static str,
        /// Its value.
        found: i64,
        /// What would be right.
        expected: String,
    },
    /// A name that is not UTF-8.
    #[error("the name at byte {at} is not UTF-8")]
    Name {
        /// Where it starts.
        at: usize,
    },
    /// A tensor's entry that cannot be used.
    #[error("the entry of {tensor:?}: {fault}")]
    Entry {
        /// The tensor's name.
        tensor: String,
        /// What is wrong.
        fault: EntryFault,
    },
    /// A file could not be put together.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What can be wrong with one entry.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryFault {
    /// Sums without counts, or counts without sums.
    #[error("it has no {0:?}")]
    Half(&'static str),
    /// There is another of this name.
    #[error("it occurs twice")]
    Duplicate,
    /// A tensor that is not F32.
    #[error("{0} is not F32")]
    NotF32(&'static str),
    /// The sums do not divide among the counts.
    #[error("{sums} sums of squares do not divide among {counts} counts")]
    Shape {
        /// Sums.
        sums: usize,
        /// Counts.
        counts: usize,
    },
    /// A number that no sum or count can be.
    #[error("{what} {at} is {found}, expected a finite number that is not negative")]
    Value {
        /// Sum or count.
        what: &'static str,
        /// Its index.
        at: usize,
        /// Its value.
        found: f32,
    },
    /// Entries of one tensor that cannot be added.
    #[error("{found} {what} here, {expected} in the other file")]
    Differs {
        /// Sums or counts.
        what: &'static str,
        /// Their number.
        found: usize,
        /// Their number in the other file.
        expected: usize,
    },
}
