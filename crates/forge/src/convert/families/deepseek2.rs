//! DeepSeek V2, V3 and R1: latent attention in absorbed form, experts with shared ones. Multi-token-prediction layers are left out.

use super::{BASE, ENDS, EXPERTS, Family, How, Kind, NORMS, Rule, Tokens, maybe, rule, with};
use crate::convert::error::ConvertError;
use crate::convert::keys::{Keys, nothing};

pub(super) const DEEPSEEK2: Family = Family {
    arch: "deepseek2",
    classes: &["DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM"],
    defaults: &[("rope_theta", 1e4), ("rms_norm_eps", 1e-6), ("max_position_embeddings", 2048.0)],
    parts: &[
        &[ENDS],
        &[NORMS],
        &[QUERY, COMPRESSED_QUERY],
        &[LATENT],
        &[super::DENSE, ROUTED],
        &[super::DENSE, EXPERTS],
    ],
    keys,
    computed: nothing,
    tokenizers: &[Kind::Bpe],
    tokens: Tokens::Plain,
    pre: &["deepseek-v3", "deepseek-llm"],
    drops_tied_output: true,
    ..BASE
};

const QUERY: &[Rule] = &[rule("model.layers.{b}.self_attn.q_proj", "attn_q")];
const COMPRESSED_QUERY: &[Rule] = &[
    rule("model.layers.{b}.self_attn.q_a_proj", "attn_q_a"),
    rule("model.layers.{b}.self_attn.q_a_layernorm", "attn_q_a_norm"),
    rule("model.layers.{b}.self_attn.q_b_proj", "attn_q_b"),
];
const LATENT: &[Rule] = &[
    rule("model.layers.{b}.self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"),
    rule("model.layers.{b}.self_attn.kv_a_layernorm", "attn_kv_a_norm"),
    with("model.layers.{b}.self_attn.kv_b_proj.weight", "attn_k_b.weight", How::LatentKeys),
    with("model.layers.{b}.self_attn.kv_b_proj.weight", "attn_v_b.weight", How::LatentValues),
    rule("model.layers.{b}.self_attn.o_proj", "attn_output"),
];
const ROUTED: &[Rule] = &[
    rule("model.layers.{b}.mlp.gate", "ffn_gate_inp"),
    maybe("model.layers.{b}.mlp.gate.e_score_correction_bias", "exp_probs_b.bias"),
    maybe("model.layers.{b}.mlp.shared_experts.gate_proj", "ffn_gate_shexp"),
    maybe("model.layers.{b}.mlp.shared_experts.up_proj", "ffn_up_shexp"),
    maybe("model.layers.{b}.mlp.shared_experts.down_proj", "ffn_down_shexp"),
];

fn keys(k: &mut Keys) -> Result<(), ConvertError> {
    // The cache holds one latent head.
    k.overrule("num_key_value_heads", 1);
    if k.count("head_dim")?.is_none() {
        let rotated = k.need_count("qk_rope_head_dim")?;
        k.assume("head_dim", rotated);
    }
    k.common()?;
    let experts = k.count("n_routed_experts")?;
    let layers = k.need_count("num_hidden_layers")?;
    let dense = k.count("first_k_dense_replace")?;
    k.set("leading_dense_block_count", dense.unwrap_or(if experts.is_some() { 0 } else { layers }));
    k.must("vocab_size", "vocab_size")?;
    k.copy("q_lora_rank", "attention.q_lora_rank")?;
    let (latent, rotated) = (k.need_count("kv_lora_rank")?, k.need_count("qk_rope_head_dim")?);
    let (plain, value) = (k.need_count("qk_nope_head_dim")?, k.need_count("v_head_dim")?);
    k.set("attention.kv_lora_rank", latent);
    k.set("attention.key_length", latent.saturating_add(rotated));
    k.set("attention.value_length", latent);
    k.set("attention.key_length_mla", plain.saturating_add(rotated));
    k.set("attention.value_length_mla", value);
    if k.count("moe_intermediate_size")?.is_some() {
        k.must("moe_intermediate_size", "expert_feed_forward_length")?;
    } else {
        k.must("intermediate_size", "expert_feed_forward_length")?;
    }
    k.copy("n_routed_experts", "expert_count")?;
    let shared = k.count("n_shared_experts")?.unwrap_or(0);
    k.set("expert_shared_count", shared);
    k.copy_float("routed_scaling_factor", "expert_weights_scale")?;
    if k.flag("norm_topk_prob")? {
        k.set("expert_weights_norm", true);
    }
    k.set("rope.dimension_count", rotated);
    if let Some(mscale) = k.rope_float("mscale_all_dim")? {
        k.set("rope.scaling.yarn_log_multiplier", (0.1 * mscale) as f32);
    }
    Ok(())
}
