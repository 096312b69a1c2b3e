//! What a transformer is, said once: a `Model` is plain data, `forward` is the only interpreter, `Ops` is the
//! only thing a device implements. Deliberately absent: I/O, device memory, threads, quantized arithmetic.

pub mod arch;
mod batch;
mod cache;
mod error;
mod forward;
mod header;
pub mod hf;
mod ops;
mod recipe;
mod rope;
mod spec;
mod weights;

pub use batch::{Batch, BatchError, Output, Span};
pub use cache::{
    CacheGroup, CacheKind, CacheLayout, Footprint, KvType, Limits, PAGE, footprint, staging,
    widest_input,
};
pub use error::ModelError;
pub use forward::{Scratch, forward, head};
pub use header::Header;
pub use ops::{Buf, Ops, OpsError};
pub use recipe::{
    BadOverride, FileSize, Override, Recipe, RecipeOptions, SizeError, TOKENIZER_BYTES_PER_ENTRY,
};
pub use rope::{Rope, RopePairs, RopeScaling};
pub use spec::{
    Activation, Block, Dense, Embed, Ffn, Gqa, Head, Linear, Mixer, Mla, Model, Moe, Norm, Routing,
};
pub use weights::{Bound, Role, Tensors, Weight, WeightId, bind};

/// Reads a GGUF header into the description of its model. The architecture table is in [`arch`].
pub fn describe(gguf: &hob_gguf::Gguf) -> Result<Model, ModelError> {
    arch::describe(&Header::of(gguf)?)
}
