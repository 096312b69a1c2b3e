//! The limits of this reader, all in one place. Lengths inside a file are bounded by the file's size first;
//! these bound what is kept outside the map and how long opening may take, far above any model in use.

/// Header (metadata and tensor directory) of one file, in bytes: 256 MiB. The largest tokenizers need some 20 MB.
pub const MAX_HEADER_BYTES: u64 = 256 << 20;
/// Metadata pairs of one file. Models in use have fewer than 100.
pub const MAX_METADATA: u64 = 1 << 16;
/// Tensors of one model, all its files together. The largest in use have a few thousand.
pub const MAX_TENSORS: u64 = 1 << 16;
/// Length of a metadata key in bytes (the format's own limit).
pub const MAX_KEY_BYTES: u64 = (1 << 16) - 1;
/// Length of a tensor name in bytes; ggml allows 63.
pub const MAX_NAME_BYTES: u64 = 255;
/// Arrays inside arrays: an array of numbers or strings has depth 1.
pub const MAX_ARRAY_DEPTH: u32 = 8;
/// Dimensions of a tensor (ggml's limit).
pub const MAX_DIMS: u32 = 4;
/// Smallest `general.alignment`: the format demands a multiple of 8.
pub const MIN_ALIGNMENT: u32 = 8;
/// Largest `general.alignment`: a huge page, beyond which no loader gains anything.
pub const MAX_ALIGNMENT: u32 = 2 << 20;
/// `general.alignment` where a file doesn't say.
pub const DEFAULT_ALIGNMENT: u32 = 32;
/// Files of a split set (`split.count` is a 16-bit number).
pub const MAX_SHARDS: u64 = (1 << 16) - 1;
