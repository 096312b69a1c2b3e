//! SmolLM3: Llama's tensors; which layers have no positions is not stated, since readers know it.

use super::llama::LLAMA;
use super::{DENSE, ENDS, Family, LLAMA_ATTENTION, NORMS};

pub(super) const SMOLLM3: Family = Family {
    arch: "smollm3",
    parts: &[&[ENDS], &[NORMS], &[LLAMA_ATTENTION], &[DENSE]],
    pre: &["smaug-bpe"],
    ..LLAMA
};
