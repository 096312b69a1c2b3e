//! GLM-4 (0414): fused gate and up, norms on both sides, half of each head rotated.

use super::{ATTENTION, BASE, ENDS, Family, Kind, Rule, Tokens, rule};
use crate::convert::error::ConvertError;
use crate::convert::keys::{Keys, nothing};

pub(super) const GLM4: Family = Family {
    arch: "glm4",
    classes: &["Glm4ForCausalLM"],
    defaults: &[
        ("rope_theta", 1e4),
        ("partial_rotary_factor", 0.5),
        ("rms_norm_eps", 0.000_000_156_25),
        ("max_position_embeddings", 131072.0),
        ("head_dim", 128.0),
    ],
    parts: &[&[ENDS], &[NORMS], &[ATTENTION], &[FUSED]],
    keys,
    computed: nothing,
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

fn keys(k: &mut Keys) -> Result<(), ConvertError> {
    k.common()?;
    let share = k.rope_float("partial_rotary_factor")?.unwrap_or(0.5);
    let head = k.head_dim()?;
    k.set("rope.dimension_count", (f64::from(head) * share) as u32);
    Ok(())
}
