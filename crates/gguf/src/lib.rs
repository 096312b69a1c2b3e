//! hob-gguf: the GGUF file. Header, metadata, tensor directory and split sets, read in place by mmap;
//! files written as a stream. Every length, count, offset and product in a file is checked against the
//! file's size before anything is allocated or read, within the [`limits`]. Deliberately absent: what keys
//! and tensors mean, what blocks mean (hob-quant), and big-endian files, which are refused.
//!
//! Format: version 2 and 3 of the specification in ggml (docs/gguf.md).

mod builder;
mod cursor;
mod error;
mod file;
mod header;
pub mod limits;
mod metadata;
mod split;
mod tensor;
mod value;
mod writer;

pub use builder::{MetaBuilder, MetaElement, MetaValue};
pub use error::{GgufError, MetaError, SplitFault, TensorFault, WriteError};
pub use file::Gguf;
pub use metadata::{FromValue, Metadata};
pub use tensor::TensorInfo;
pub use value::{Array, ArrayIter, ByteStrings, Value, ValueType};
pub use writer::{TensorWriter, Writer};
