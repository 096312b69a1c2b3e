//! GLM-4 (0414): fused gate and up, norms on both sides, half of each head rotated.

use super::{ATTENTION, BASE, ENDS, Family, Kind, Rule, Tokens, rule};

pub(super) const GLM4: Family = Family {
    arch: "glm4",
    parts: &[&[ENDS], &[NORMS], &[ATTENTION], &[FUSED]],
    tokenizers: &[Kind::Bpe],
    tokens: Tokens::Glm,
    pre: &["glm4", "chatglm-bpe"],
    drops_tied_output: false,
    ..BASE
};

const NORMS: &[Rule] = &[
    rule("model.layers.{b}.input_layernorm", "attn_norm"),
    rule("model.layers.{b}.post_self_attn_layernorm", "post_attention_norm"),
    rule("model.layers.{b}.post_attention_layernorm", "ffn_norm"),
    rule("model.layers.{b}.post_mlp_layernorm", "post_ffw_norm"),
];

const FUSED: &[Rule] = &[
    rule("model.layers.{b}.mlp.gate_up_proj", "ffn_up"),
    rule("model.layers.{b}.mlp.down_proj", "ffn_down"),
];
