//! Phi-3, 3.5 and 4: fused projections, and factors of LongRoPE as tensors.

use super::{BASE, ENDS, Family, Kind, NORMS, Rule, Tokens, rule};

pub(super) const PHI3: Family = Family {
    arch: "phi3",
    parts: &[&[ENDS], &[NORMS], &[FUSED]],
    tokenizers: &[Kind::SentencePiece, Kind::Bpe],
    tokens: Tokens::Phi,
    pre: &["dbrx"],
    drops_tied_output: false,
    ..BASE
};

const FUSED: &[Rule] = &[
    rule("model.layers.{b}.self_attn.qkv_proj", "attn_qkv"),
    rule("model.layers.{b}.self_attn.o_proj", "attn_output"),
    rule("model.layers.{b}.mlp.gate_up_proj", "ffn_up"),
    rule("model.layers.{b}.mlp.down_proj", "ffn_down"),
];
