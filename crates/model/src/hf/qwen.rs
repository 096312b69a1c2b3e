//! Qwen 2, 2.5 and 3, dense and with experts. The second generation always has biases, the third norms of the heads.

use super::config::Config;
use super::error::HfError;
use super::family::{BASE, Family};
use super::keys::Keys;
use super::names::{HEAD_NORMS, Names, QKV_BIASES, asked_biases, experts_everywhere};

pub(super) const QWEN2: Family = Family {
    arch: "qwen2",
    classes: &["Qwen2ForCausalLM"],
    model_types: &["qwen2"],
    defaults: &[("rope_theta", 1e4), ("rms_norm_eps", 1e-6), ("max_position_embeddings", 32768.0)],
    keys,
    optional: biases,
    ..BASE
};

pub(super) const QWEN3: Family = Family {
    arch: "qwen3",
    classes: &["Qwen3ForCausalLM"],
    model_types: &["qwen3"],
    defaults: &[
        ("rope_theta", 1e4),
        ("rms_norm_eps", 1e-6),
        ("max_position_embeddings", 32768.0),
        ("head_dim", 128.0),
    ],
    optional: norms,
    ..QWEN2
};

pub(super) const QWEN2MOE: Family = Family {
    arch: "qwen2moe",
    classes: &["Qwen2MoeForCausalLM"],
    model_types: &["qwen2_moe"],
    keys: moe_keys,
    optional: |c, names| {
        experts_everywhere(c)?;
        names.layers(0..c.layers()?, &["ffn_gate_inp_shexp.weight"]);
        biases(c, names)
    },
    ..QWEN2
};

pub(super) const QWEN3MOE: Family = Family {
    arch: "qwen3moe",
    classes: &["Qwen3MoeForCausalLM"],
    model_types: &["qwen3_moe"],
    defaults: QWEN2.defaults,
    keys: moe_keys,
    optional: |c, names| {
        experts_everywhere(c)?;
        norms(c, names)
    },
    ..QWEN3
};

fn biases(c: &Config, names: &mut Names) -> Result<(), HfError> {
    if c.flag_or("qkv_bias", true)? {
        names.layers(0..c.layers()?, QKV_BIASES);
    }
    Ok(())
}

fn norms(c: &Config, names: &mut Names) -> Result<(), HfError> {
    names.layers(0..c.layers()?, HEAD_NORMS);
    asked_biases(c, names)
}

fn keys(k: &mut Keys) -> Result<(), HfError> {
    k.common()?;
    // Models for embeddings are of the same class.
    k.pooling()
}

fn moe_keys(k: &mut Keys) -> Result<(), HfError> {
    k.common()?;
    k.copy("moe_intermediate_size", "expert_feed_forward_length")?;
    k.copy("shared_expert_intermediate_size", "expert_shared_feed_forward_length")
}
