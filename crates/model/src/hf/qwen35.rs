//! Qwen3-Next and Qwen3.5 (dense and with experts): gated delta-nets and, in every fourth layer, gated attention.
//! Deliberately absent: the tower for images.

use super::config::Config;
use super::error::HfError;
use super::family::{BASE, Family};
use super::keys::Keys;
use super::names::{HEAD_NORMS, Names, experts_everywhere};

/// How rotary pairs are shared out among time, height and width where the config does not say it.
const SECTIONS: [i32; 4] = [11, 11, 10, 0];
/// Layers from one full attention to the next where the config does not say it.
const INTERVAL: u32 = 4;

pub(super) const QWEN3NEXT: Family = Family {
    arch: "qwen3next",
    classes: &["Qwen3NextForCausalLM"],
    model_types: &["qwen3_next"],
    defaults: &[
        ("num_key_value_heads", 2.0),
        ("head_dim", 256.0),
        ("max_position_embeddings", 32768.0),
        ("rms_norm_eps", 1e-6),
        ("rope_theta", 1e4),
        ("linear_conv_kernel_dim", 4.0),
        ("linear_key_head_dim", 128.0),
        ("linear_value_head_dim", 128.0),
        ("linear_num_key_heads", 16.0),
        ("linear_num_value_heads", 32.0),
        ("intermediate_size", 5632.0),
        ("moe_intermediate_size", 512.0),
        ("shared_expert_intermediate_size", 512.0),
        ("num_experts", 512.0),
        ("num_experts_per_tok", 10.0),
    ],
    off: &["mlp_bias", "attention_bias"],
    keys,
    optional: |c, names| {
        for (layer, recurrent) in (0..).zip(recurrent(c)?) {
            if recurrent {
                names.layer(layer, &["ssm_ba.weight"]);
            }
        }
        moe_names(c, names)
    },
    ..BASE
};

pub(super) const QWEN35: Family = Family {
    arch: "qwen35",
    classes: &["Qwen3_5ForConditionalGeneration", "Qwen3_5ForCausalLM"],
    model_types: &["qwen3_5", "qwen3_5_text"],
    defaults: &[
        ("num_key_value_heads", 4.0),
        ("head_dim", 256.0),
        ("max_position_embeddings", 32768.0),
        ("rms_norm_eps", 1e-6),
        ("rope_theta", 1e4),
        ("linear_conv_kernel_dim", 4.0),
        ("linear_key_head_dim", 128.0),
        ("linear_value_head_dim", 128.0),
        ("linear_num_key_heads", 16.0),
        ("linear_num_value_heads", 32.0),
        ("intermediate_size", 12288.0),
    ],
    keys: keys35,
    optional: norms,
    ..QWEN3NEXT
};

pub(super) const QWEN35MOE: Family = Family {
    arch: "qwen35moe",
    classes: &["Qwen3_5MoeForConditionalGeneration", "Qwen3_5MoeForCausalLM"],
    model_types: &["qwen3_5_moe", "qwen3_5_moe_text"],
    defaults: &[
        ("num_key_value_heads", 2.0),
        ("head_dim", 256.0),
        ("max_position_embeddings", 32768.0),
        ("rms_norm_eps", 1e-6),
        ("rope_theta", 1e4),
        ("linear_conv_kernel_dim", 4.0),
        ("linear_key_head_dim", 128.0),
        ("linear_value_head_dim", 128.0),
        ("linear_num_key_heads", 16.0),
        ("linear_num_value_heads", 32.0),
        ("moe_intermediate_size", 512.0),
        ("shared_expert_intermediate_size", 512.0),
        ("num_experts", 256.0),
        ("num_experts_per_tok", 8.0),
    ],
    optional: moe_names,
    ..QWEN35
};

fn norms(c: &Config, names: &mut Names) -> Result<(), HfError> {
    for (layer, recurrent) in (0..).zip(recurrent(c)?) {
        if !recurrent {
            names.layer(layer, HEAD_NORMS);
        }
    }
    Ok(())
}

fn moe_names(c: &Config, names: &mut Names) -> Result<(), HfError> {
    experts_everywhere(c)?;
    names.layers(0..c.layers()?, &["ffn_gate_inp_shexp.weight"]);
    norms(c, names)
}

/// Which layers of the trunk are delta-nets.
fn recurrent(c: &Config) -> Result<Vec<bool>, HfError> {
    let every = c.count("full_attention_interval")?.unwrap_or(INTERVAL).max(1);
    Ok(match c.layer_types()? {
        Some(types) => types.iter().map(|kind| kind == "linear_attention").collect(),
        None => (1..=c.layers()?).map(|i| i % every != 0).collect(),
    })
}

fn keys(k: &mut Keys) -> Result<(), HfError> {
    k.common()?;
    k.copy("moe_intermediate_size", "expert_feed_forward_length")?;
    k.copy("shared_expert_intermediate_size", "expert_shared_feed_forward_length")?;
    k.prediction();
    k.must("linear_conv_kernel_dim", "ssm.conv_kernel")?;
    k.must("linear_key_head_dim", "ssm.state_size")?;
    k.must("linear_num_key_heads", "ssm.group_count")?;
    k.must("linear_num_value_heads", "ssm.time_step_rank")?;
    let values = k.need_count("linear_num_value_heads")?;
    let inner = values.saturating_mul(k.need_count("linear_value_head_dim")?);
    k.set("ssm.inner_size", inner);
    let mut recurrent = recurrent(k)?;
    recurrent.resize(recurrent.len() + k.predicted as usize, false);
    k.set("attention.recurrent_layers", recurrent);
    // The ecosystem's converter does not see the interval of a config without a list of kinds.
    let every = k.count("full_attention_interval")?.filter(|_| k.has("layer_types"));
    k.set("full_attention_interval", every.unwrap_or(INTERVAL));
    let share = k.rope_float("partial_rotary_factor")?.unwrap_or(0.25);
    let dims = (f64::from(k.head_dim()?) * share) as u32;
    k.set("rope.dimension_count", dims);
    Ok(())
}

fn keys35(k: &mut Keys) -> Result<(), HfError> {
    keys(k)?;
    if k.rope_floats("mrope_section")?.is_none() {
        k.set("rope.dimension_sections", &SECTIONS[..]);
    }
    Ok(())
}
