//! LFM2, dense and with experts: gated short convolutions, and attention in some layers.

use super::config::Config;
use super::error::HfError;
use super::family::{BASE, Family};
use super::keys::Keys;
use super::names::{HEAD_NORMS, Names};

pub(super) const LFM2: Family = Family {
    arch: "lfm2",
    classes: &["Lfm2ForCausalLM", "LFM2ForCausalLM"],
    model_types: &["lfm2"],
    defaults: &[
        ("num_key_value_heads", 8.0),
        ("max_position_embeddings", 128_000.0),
        ("norm_eps", 1e-5),
        ("rope_theta", 1e6),
        ("conv_L_cache", 3.0),
        ("block_multiple_of", 256.0),
        ("block_ffn_dim_multiplier", 1.0),
    ],
    tied: true,
    off: &["conv_bias"],
    keys,
    optional: norms,
    ..BASE
};

pub(super) const LFM2MOE: Family = Family {
    arch: "lfm2moe",
    classes: &["Lfm2MoeForCausalLM"],
    model_types: &["lfm2_moe"],
    defaults: &[
        ("num_key_value_heads", 8.0),
        ("max_position_embeddings", 128_000.0),
        ("norm_eps", 1e-5),
        ("rope_theta", 1e6),
        ("conv_L_cache", 3.0),
        ("intermediate_size", 7168.0),
        ("moe_intermediate_size", 1792.0),
        ("num_dense_layers", 2.0),
        ("num_experts", 32.0),
        ("num_experts_per_tok", 4.0),
    ],
    keys: moe_keys,
    optional: |c, names| {
        if c.flag_or("use_expert_bias", true)? {
            names.layers(c.need_count("num_dense_layers")?..c.layers()?, &["exp_probs_b.bias"]);
        }
        norms(c, names)
    },
    ..LFM2
};

fn norms(c: &Config, names: &mut Names) -> Result<(), HfError> {
    for (layer, full) in (0..).zip(full(c)?) {
        if full {
            names.layer(layer, HEAD_NORMS);
        }
    }
    Ok(())
}

/// Which layers have attention.
fn full(c: &Config) -> Result<Vec<bool>, HfError> {
    Ok(match (c.layer_types()?, c.counts_of("full_attn_idxs")?) {
        (Some(types), _) => types.iter().map(|kind| kind == "full_attention").collect(),
        (None, Some(full)) => (0..c.layers()?).map(|layer| full.contains(&layer)).collect(),
        (None, None) => vec![true; c.layers()? as usize],
    })
}

fn keys(k: &mut Keys) -> Result<(), HfError> {
    k.common()?;
    heads_kv(k)?;
    k.must("vocab_size", "vocab_size")?;
    k.must("conv_L_cache", "shortconv.l_cache")?;
    let length = feed_forward(k)?;
    k.set("feed_forward_length", length);
    Ok(())
}

fn moe_keys(k: &mut Keys) -> Result<(), HfError> {
    k.common()?;
    heads_kv(k)?;
    k.must("moe_intermediate_size", "expert_feed_forward_length")?;
    k.must("num_dense_layers", "leading_dense_block_count")?;
    k.set("expert_gating_func", 2u32);
    k.must("vocab_size", "vocab_size")?;
    k.must("conv_L_cache", "shortconv.l_cache")
}

/// Key heads of each layer: none where it has a convolution.
fn heads_kv(k: &mut Keys) -> Result<(), HfError> {
    let heads = k.need_count("num_key_value_heads")? as i32;
    let heads: Vec<i32> = full(k)?.iter().map(|full| if *full { heads } else { 0 }).collect();
    k.set("attention.head_count_kv", heads);
    Ok(())
}

/// Length of the gated feed-forward: two thirds of the one stated, rounded up.
fn feed_forward(c: &Config) -> Result<u32, HfError> {
    let stated = match c.count("block_ff_dim")? {
        Some(stated) => stated,
        None => c.need_count("intermediate_size")?,
    };
    if !c.flag_or("block_auto_adjust_ff_dim", true)? {
        return Ok(stated);
    }
    let length = (2.0 * f64::from(stated) / 3.0).trunc();
    let length = (c.float("block_ffn_dim_multiplier")?.unwrap_or(1.0) * length) as u32;
    Ok(length.checked_next_multiple_of(c.need_count("block_multiple_of")?.max(1)).unwrap_or(length))
}
