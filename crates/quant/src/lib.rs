//! What quantized bytes mean: block layouts, sizes, scalar encode and decode.
//! This is the truth that every kernel is tested against. Deliberately absent: instructions of a processor (encoders are
//! plain Rust, compiled for several), threads, files and any knowledge of architectures.

#![deny(unsafe_code)]

#[cfg(target_endian = "big")]
compile_error!("blocks are viewed in place, and GGUF's are little-endian");

pub mod blocks;
pub mod decode;
pub mod encode;
pub mod error;
pub mod float;
mod simd;
pub mod tables;
pub mod types;

pub use blocks::{Block, blocks};
pub use decode::{Decode, decode_row};
pub use encode::encode_row;
pub use error::QuantError;
pub use types::GgmlType;
