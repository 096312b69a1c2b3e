//! GLM-4.5 and GLM-4.5-Air: experts with shared ones after dense layers, half of each head rotated. The layer that
//! predicts further tokens is written behind the trunk if the checkpoint has one.

use super::{ATTENTION, BASE, DENSE, EXPERTS, Family, Rule, Tokens, maybe, rule};
use crate::convert::error::ConvertError;
use crate::convert::folder::Folder;
use crate::convert::plan::layer_of;
use hob_model::hf::Keys;

pub(super) const GLM4MOE: Family = Family {
    arch: "glm4moe",
    parts: &[&[super::ENDS], &[NORMS], &[ATTENTION], &[DENSE, ROUTED], &[DENSE, EXPERTS]],
    joint: JOINT,
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
