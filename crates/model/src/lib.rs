//! What a transformer is, said once: a `Model` is plain data, `forward` is the only interpreter, `Ops` is the
//! only thing a device implements. Deliberately absent: I/O, device memory, threads, quantized arithmetic.

pub mod arch;
mod batch;
mod cache;
mod counts;
mod error;
mod ffn;
mod forward;
mod header;
pub mod hf;
mod ops;
mod recipe;
mod rope;
mod scratch;
mod spec;
mod weights;

pub use batch::{Batch, BatchError, NO_PAGE, Output, Place, Span};
pub use cache::{
    CacheGroup, CacheKind, CacheLayout, Footprint, KvType, Limits, PAGE, StateSize, footprint,
    staging, staging_rows, widest_input,
};
pub use error::ModelError;
pub use ffn::{Activation, Both, Dense, Ffn, Moe, Plain, Routing, Score, Shared};
pub use forward::{forward, head, hidden};
pub use header::Header;
pub use ops::{Buf, Columns, Index, Ops, OpsError};
pub use recipe::{
    BadOverride, FileSize, Override, Recipe, RecipeOptions, SizeError, TOKENIZER_BYTES_PER_ENTRY,
};
pub use rope::{Factors, Rope, RopePairs, RopeScaling};
pub use scratch::Scratch;
pub use spec::{
    Attend, Block, Conv, DeltaGates, DeltaNet, Embed, Gqa, Head, KeyValue, LayerInput, Linear,
    Mamba2, Mixer, Mla, Model, Norm, NormKind, PerLayer, Pooling, ShortConv, Sight, Temper,
    Unembed,
};
pub use weights::{Bound, Role, Tensors, Weight, WeightId, bind};

/// Reads a GGUF header into the description of its model. The architecture table is in [`arch`].
pub fn describe(gguf: &hob_gguf::Gguf) -> Result<Model, ModelError> {
    arch::describe(&Header::of(gguf)?)
}
