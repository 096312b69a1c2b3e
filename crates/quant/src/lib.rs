//! What quantized bytes mean: block layouts, sizes, scalar encode and decode.
//! This is the truth that every kernel is tested against. Deliberately absent: SIMD, threads, files
//! and any knowledge of architectures.

pub mod types;

pub use types::GgmlType;
