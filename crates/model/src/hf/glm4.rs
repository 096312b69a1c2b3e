//! GLM-4 (0414), and GLM-4.5 with experts: half of each head rotated, biases of query, key and value where the config asks.

use super::config::Config;
use super::error::HfError;
use super::family::{BASE, Family};
use super::keys::Keys;
use super::names::{HEAD_NORMS, Names, QKV_BIASES};

pub(super) const GLM4: Family = Family {
    arch: "glm4",
    classes: &["Glm4ForCausalLM"],
    model_types: &["glm4"],
    defaults: &[
        ("rope_theta", 1e4),
        ("partial_rotary_factor", 0.5),
        ("rms_norm_eps", 0.000_000_156_25),
        ("max_position_embeddings", 131_072.0),
        ("head_dim", 128.0),
    ],
    keys,
    optional: biases,
    ..BASE
};

pub(super) const GLM4MOE: Family = Family {
    arch: "glm4moe",
    classes: &["Glm4MoeForCausalLM"],
    model_types: &["glm4_moe"],
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
    keys: moe_keys,
    optional: |c, names| {
        names.layers(c.need_count("first_k_dense_replace")?..c.layers()?, &["exp_probs_b.bias"]);
        if c.flag("use_qk_norm")? {
            names.layers(0..c.layers()?, HEAD_NORMS);
        }
        biases(c, names)
    },
    ..BASE
};

fn biases(c: &Config, names: &mut Names) -> Result<(), HfError> {
    if c.flag("attention_bias")? {
        names.layers(0..c.layers()?, QKV_BIASES);
    }
    Ok(())
}

fn keys(k: &mut Keys) -> Result<(), HfError> {
    k.common()?;
    let share = k.rope_float("partial_rotary_factor")?.unwrap_or(0.5);
    let dims = (f64::from(k.head_dim()?) * share) as u32;
    k.set("rope.dimension_count", dims);
    Ok(())
}

fn moe_keys(k: &mut Keys) -> Result<(), HfError> {
    keys(k)?;
    k.must("moe_intermediate_size", "expert_feed_forward_length")?;
    k.must("n_shared_experts", "expert_shared_count")?;
    k.must("first_k_dense_replace", "leading_dense_block_count")?;
    k.set("expert_gating_func", 2u32);
    k.must_float("routed_scaling_factor", "expert_weights_scale")?;
    let normed = k.flag_or("norm_topk_prob", true)?;
    k.set("expert_weights_norm", normed);
    k.prediction();
    Ok(())
}
