//! DeepSeek V2, V3 and R1: latent attention in absorbed form. Layers that predict further tokens are left out.

use super::config::Config;
use super::error::HfError;
use super::family::{BASE, Family};
use super::keys::Keys;
use super::names::{Names, experts_everywhere};

pub(super) const DEEPSEEK2: Family = Family {
    arch: "deepseek2",
    classes: &["DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM"],
    model_types: &["deepseek_v2", "deepseek_v3"],
    defaults: &[("rope_theta", 1e4), ("rms_norm_eps", 1e-6), ("max_position_embeddings", 2048.0)],
    off: &["attention_bias"],
    keys,
    optional,
    ..BASE
};

fn optional(c: &Config, names: &mut Names) -> Result<(), HfError> {
    experts_everywhere(c)?;
    if c.text("topk_method") == Some("noaux_tc") {
        names.layers(dense_layers(c)?..c.layers()?, &["exp_probs_b.bias"]);
    }
    Ok(())
}

/// Layers before those with experts.
fn dense_layers(c: &Config) -> Result<u32, HfError> {
    let all = if c.has("n_routed_experts") { 0 } else { c.layers()? };
    Ok(c.count("first_k_dense_replace")?.unwrap_or(all))
}

fn keys(k: &mut Keys) -> Result<(), HfError> {
    // The cache holds one latent head.
    k.overrule("num_key_value_heads", 1);
    if k.count("head_dim")?.is_none() {
        let rotated = k.need_count("qk_rope_head_dim")?;
        k.assume("head_dim", rotated);
    }
    k.common()?;
    let dense = dense_layers(k)?;
    k.set("leading_dense_block_count", dense);
    k.must("vocab_size", "vocab_size")?;
    k.copy("q_lora_rank", "attention.q_lora_rank")?;
    let (latent, rotated) = (k.need_count("kv_lora_rank")?, k.need_count("qk_rope_head_dim")?);
    let (plain, value) = (k.need_count("qk_nope_head_dim")?, k.need_count("v_head_dim")?);
    k.set("attention.kv_lora_rank", latent);
    k.set("attention.key_length", latent.saturating_add(rotated));
    k.set("attention.value_length", latent);
    k.set("attention.key_length_mla", plain.saturating_add(rotated));
    k.set("attention.value_length_mla", value);
    let width = ["moe_intermediate_size", "intermediate_size"].into_iter().find(|key| k.has(key));
    k.must(width.unwrap_or("moe_intermediate_size"), "expert_feed_forward_length")?;
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
