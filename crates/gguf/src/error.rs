//! Every way a GGUF file can be wrong, as a value that says what was found, what was expected and where.
//! Three types for three moments: reading a file, asking its metadata, writing a file. No error carries
//! more than one name copied from the file, so a report about a hostile file stays small.

use std::path::PathBuf;

/// Why a file (or an image of one) was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A directory, a pipe or a device: only regular files are mapped.
    #[error("{}: not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// An error with the file it was found in; [`GgufError::root`] looks through it.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<GgufError>,
    },
    /// The file doesn't begin with `GGUF`.
    #[error("not a GGUF file: it begins with {found:02x?} instead of \"GGUF\"")]
    Magic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// The file was made for big-endian machines.
    #[error("big-endian GGUF (version {version}): convert it to little-endian first")]
    BigEndian {
        /// The version, read in its own byte order.
        version: u32,
    },
    /// A version other than 2 and 3.
    #[error("GGUF version {found} is not supported (2 and 3 are)")]
    Version {
        /// The version found.
        found: u32,
    },
    /// The file ends before something it announces.
    #[error("{what} at byte {offset} needs {needed} bytes, {available} are left in the file")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it starts.
        offset: u64,
        /// How many bytes it needs at least (saturated at `u64::MAX`).
        needed: u64,
        /// How many there are.
        available: u64,
    },
    /// Something exceeds a limit of this reader (the constants of [`crate::limits`]).
    #[error("{what} is {found}, above the limit of {limit}")]
    Limit {
        /// What is too large.
        what: &'static str,
        /// Its size or count.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// A metadata key or tensor name isn't UTF-8.
    #[error("{what} at byte {offset} is not UTF-8")]
    Name {
        /// Key or tensor name.
        what: &'static str,
        /// Where it starts.
        offset: u64,
    },
    /// A metadata value of a type that doesn't exist.
    #[error("metadata value of unknown type {id} at byte {offset}")]
    ValueType {
        /// The type id found (known: 0 to 12).
        id: u32,
        /// Where the value starts.
        offset: u64,
    },
    /// A boolean that is neither 0 nor 1.
    #[error("boolean of value {found} at byte {offset} (must be 0 or 1)")]
    Bool {
        /// The byte found.
        found: u8,
        /// Where.
        offset: u64,
    },
    /// A metadata key occurs twice.
    #[error("metadata key {key:?} occurs twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// `general.alignment` isn't a power of two in the range that this reader takes.
    #[error("general.alignment is {found}: must be a power of two from {min} to {max}")]
    Alignment {
        /// The value found.
        found: u32,
        /// Smallest accepted.
        min: u32,
        /// Largest accepted.
        max: u32,
    },
    /// A metadata value that this reader itself needs is of a wrong type.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// Something is wrong with one tensor.
    #[error("tensor {name:?}: {fault}")]
    Tensor {
        /// The tensor's name.
        name: String,
        /// What is wrong.
        fault: TensorFault,
    },
    /// The set of split files doesn't fit together.
    #[error("split file: {0}")]
    Split(SplitFault),
}

impl GgufError {
    /// The error itself, without the file it was found in.
    pub fn root(&self) -> &GgufError {
        match self {
            GgufError::File { source, .. } => source.root(),
            other => other,
        }
    }

    pub(crate) fn tensor(name: &str, fault: TensorFault) -> Self {
        GgufError::Tensor { name: name.to_owned(), fault }
    }
}

/// What can be wrong with one entry of the tensor directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorFault {
    /// Another tensor has this name.
    #[error("the name occurs twice")]
    Duplicate,
    /// The type id isn't known.
    #[error("unknown type {0}")]
    Type(u32),
    /// More than four dimensions.
    #[error("{0} dimensions (at most 4)")]
    Rank(u32),
    /// A dimension is zero.
    #[error("a dimension of zero in {0:?}")]
    ZeroDim(Vec<u64>),
    /// The size in bytes doesn't fit in 64 bits.
    #[error("the size of {0:?} overflows")]
    Overflow(Vec<u64>),
    /// The row length isn't a multiple of the type's block length.
    #[error("a row of {row} elements does not divide into blocks of {block} ({ty})")]
    Block {
        /// Elements in a row.
        row: u64,
        /// Elements in a block.
        block: u64,
        /// Name of the type.
        ty: &'static str,
    },
    /// The offset isn't a multiple of the alignment.
    #[error("offset {offset} is not a multiple of the alignment {alignment}")]
    Misaligned {
        /// Offset in the data section.
        offset: u64,
        /// The file's alignment.
        alignment: u32,
    },
    /// The data reach beyond the end of the file.
    #[error("{bytes} bytes at offset {offset} of the data section, which has {available}")]
    OutOfFile {
        /// Offset in the data section.
        offset: u64,
        /// Size of the tensor.
        bytes: u64,
        /// Bytes of the file's data section.
        available: u64,
    },
    /// The data overlap another tensor's.
    #[error("its data overlap those of {0:?}")]
    Overlap(String),
}

/// What can be wrong with a set of split files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SplitFault {
    /// The metadata announce several files, but the name isn't of the form that leads to the others.
    #[error(
        "the metadata announce {count} files; the others are found only from a name like NAME-00001-of-{count:05}.gguf"
    )]
    Name {
        /// `split.count`.
        count: u64,
    },
    /// A set of no files was to be opened.
    #[error("no files given")]
    Empty,
    /// A file of the set isn't there.
    #[error("{} (file {no} of {count}) is missing", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// One-based number.
        no: u64,
        /// Files in the set.
        count: u64,
    },
    /// `split.no` or `split.count` isn't what the place in the set demands.
    #[error("{key} is {found}, expected {expected}")]
    Number {
        /// The metadata key.
        key: &'static str,
        /// Its value.
        found: u64,
        /// What the set demands.
        expected: u64,
    },
    /// `split.tensors.count` isn't the number of tensors in all files.
    #[error("the files hold {found} tensors, split.tensors.count announces {expected}")]
    Tensors {
        /// Tensors found.
        found: u64,
        /// Tensors announced.
        expected: u64,
    },
}

/// Why a question to the metadata has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetaError {
    /// The key isn't there.
    #[error("metadata key {key:?} is missing (expected {expected})")]
    Missing {
        /// The key.
        key: String,
        /// The type asked for.
        expected: &'static str,
    },
    /// The value is of another type, or doesn't fit the type asked for.
    #[error("metadata key {key:?} is {found}, expected {expected}")]
    WrongType {
        /// The key.
        key: String,
        /// Type (and for numbers the value) found.
        found: String,
        /// The type asked for.
        expected: &'static str,
    },
    /// A string isn't UTF-8 (its bytes can be had from [`crate::Value::Bytes`] or [`crate::Array::byte_strings`]).
    #[error("metadata key {key:?} holds a string that is not UTF-8 (element {index})")]
    NotUtf8 {
        /// The key.
        key: String,
        /// Index in the array, 0 for a single string.
        index: u64,
    },
}

/// Why a file couldn't be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The sink refused.
    #[error("writing GGUF: {0}")]
    Io(#[from] std::io::Error),
    /// The header to write is one that the reader would refuse.
    #[error("refusing to write an invalid GGUF: {0}")]
    Invalid(#[from] GgufError),
    /// Tensors must come in the order in which they were declared.
    #[error("tensor {found:?} came where {} is due", expected.as_deref().unwrap_or("no tensor"))]
    Order {
        /// The tensor that came.
        found: String,
        /// The tensor that is due, if any.
        expected: Option<String>,
    },
    /// Bytes came while no tensor was begun.
    #[error("bytes came before any tensor was begun")]
    NotBegun,
    /// A tensor's bytes are more or fewer than its type and shape say.
    #[error("tensor {name:?} has {expected} bytes by its type and shape, got {found}")]
    Size {
        /// The tensor.
        name: String,
        /// Bytes by type and shape.
        expected: u64,
        /// Bytes that came (so far).
        found: u64,
    },
    /// The file was finished before all tensors had come.
    #[error("{missing} tensors were not written, {next:?} is due")]
    Unfinished {
        /// Tensors not written.
        missing: usize,
        /// The next one.
        next: String,
    },
}

impl MetaError {
    pub(crate) fn wrong(key: &str, found: impl std::fmt::Display, expected: &'static str) -> Self {
        MetaError::WrongType { key: key.to_owned(), found: found.to_string(), expected }
    }
}
