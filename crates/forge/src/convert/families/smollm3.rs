//! SmolLM3: Llama's tensors; which layers have no positions is not stated, since readers know it.

use super::llama::{self, LLAMA};
use super::{DENSE, ENDS, Family, LLAMA_ATTENTION, NORMS};
use crate::convert::error::ConvertError;
use crate::convert::keys::Keys;

pub(super) const SMOLLM3: Family = Family {
    arch: "smollm3",
    classes: &["SmolLM3ForCausalLM"],
    defaults: &[("rope_theta", 2e6), ("rms_norm_eps", 1e-6), ("max_position_embeddings", 32768.0)],
    parts: &[&[ENDS], &[NORMS], &[LLAMA_ATTENTION], &[DENSE]],
    keys,
    computed: llama::rope_factors,
    pre: &["smaug-bpe"],
    ..LLAMA
};

fn keys(k: &mut Keys) -> Result<(), ConvertError> {
    k.common()?;
    k.must("vocab_size", "vocab_size")?;
    let head = k.head_dim()?;
    k.set("rope.dimension_count", head);
    Ok(())
}
