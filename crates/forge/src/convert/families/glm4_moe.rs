//! GLM-4.5 and GLM-4.5-Air: experts with shared ones after dense layers, half of each head rotated. The layer that
//! predicts further tokens is written behind the trunk if the checkpoint has one.

use super::{ATTENTION, BASE, DENSE, EXPERTS, Family, Rule, Tokens, maybe, rule};
use crate::convert::error::ConvertError;
use crate::convert::folder::Folder;
use crate::convert::keys::Keys;
use crate::convert::plan::layer_of;

pub(super) const GLM4MOE: Family = Family {
    arch: "glm4moe",
    classes: &["Glm4MoeForCausalLM"],
    defaults: &[
        ("num_key_value_heads", 8.0),
        ("max_position_embeddings", 131_072.0),
        ("rms_norm_eps", 1e-5),
        ("rope_theta", 1e4),
        ("num_experts_per_tok", 8.0),
        ("n_routed_experts", 128.0),
        ("n_shared_experts", 1.0),
        ("moe_intermediate_size", 1408.0),
        ("first_k_dense_replace", 1.0),
        ("routed_scaling_factor", 1.0),
        ("n_group", 1.0),
        ("topk_group", 1.0),
    ],
    parts: &[&[super::ENDS], &[NORMS], &[ATTENTION], &[DENSE, ROUTED], &[DENSE, EXPERTS]],
    joint: JOINT,
    keys,
    predicted,
    tokens: Tokens::GlmMoe,
    pre: &["glm4", "chatglm-bpe"],
    ..BASE
};

const NORMS: &[Rule] = &[
    rule("model.layers.{b}.input_layernorm", "attn_norm"),
    rule("model.layers.{b}.post_attention_layernorm", "post_attention_norm"),
    maybe("model.layers.{b}.self_attn.q_norm", "attn_q_norm"),
    maybe("model.layers.{b}.self_attn.k_norm", "attn_k_norm"),
];

const ROUTED: &[Rule] = &[
    rule("model.layers.{b}.mlp.gate", "ffn_gate_inp"),
    rule("model.layers.{b}.mlp.gate.e_score_correction_bias", "exp_probs_b.bias"),
    maybe("model.layers.{b}.mlp.shared_experts.gate_proj", "ffn_gate_shexp"),
    maybe("model.layers.{b}.mlp.shared_experts.up_proj", "ffn_up_shexp"),
    maybe("model.layers.{b}.mlp.shared_experts.down_proj", "ffn_down_shexp"),
];

const JOINT: &[Rule] = &[
    rule("model.layers.{b}.eh_proj", "nextn.eh_proj"),
    rule("model.layers.{b}.enorm", "nextn.enorm"),
    rule("model.layers.{b}.hnorm", "nextn.hnorm"),
    maybe("model.layers.{b}.embed_tokens", "nextn.embed_tokens"),
    maybe("model.layers.{b}.shared_head.head", "nextn.shared_head_head"),
    maybe("model.layers.{b}.shared_head.norm", "nextn.shared_head_norm"),
];

/// As many predicting layers as the config says; none in a checkpoint without their tensors.
fn predicted(k: &Keys, folder: &Folder) -> Result<u32, ConvertError> {
    let layers = u64::from(k.need_count("num_hidden_layers")?);
    let beyond = |name: &str| layer_of(name).is_some_and(|layer| layer >= layers);
    match folder.tensors().any(|(_, tensor)| beyond(&tensor.name)) {
        true => Ok(k.count("num_nextn_predict_layers")?.unwrap_or(1)),
        false => Ok(0),
    }
}

fn keys(k: &mut Keys) -> Result<(), ConvertError> {
    k.common()?;
    let share = k.rope_float("partial_rotary_factor")?.unwrap_or(0.5);
    k.set("rope.dimension_count", (f64::from(k.head_dim()?) * share) as u32);
    k.must("moe_intermediate_size", "expert_feed_forward_length")?;
    k.must("n_shared_experts", "expert_shared_count")?;
    k.must("first_k_dense_replace", "leading_dense_block_count")?;
    k.set("expert_gating_func", 2u32);
    k.must_float("routed_scaling_factor", "expert_weights_scale")?;
    let normed = k.value("norm_topk_prob").is_none() || k.flag("norm_topk_prob")?;
    k.set("expert_weights_norm", normed);
    k.prediction();
    Ok(())
}
