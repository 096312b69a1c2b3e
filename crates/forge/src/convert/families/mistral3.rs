//! Mistral Small 3.1 and Ministral 3 (the language model of both): Llama's tensors, and attention that grows with the position.

use super::llama::LLAMA;
use super::{DENSE, ENDS, Family, LLAMA_ATTENTION, NORMS};

pub(super) const MISTRAL3: Family = Family {
    arch: "mistral3",
    parts: &[&[ENDS], &[NORMS], &[LLAMA_ATTENTION], &[DENSE]],
    pre: &["tekken"],
    ..LLAMA
};
