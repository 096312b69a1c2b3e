//! Granite 4: Mamba-2 layers and attention, with and without experts; and the models of the same class without Mamba-2, which
//! have names of their own in GGUF.

use serde_json::Value;

use super::config::{Config, Object};
use super::error::{HfError, missing};
use super::family::{BASE, Family};
use super::keys::Keys;
use super::names::Names;

/// The context that is stated where positions play no part.
const UNBOUNDED: u32 = 1 << 20;

pub(super) const HYBRID: Family = Family {
    arch: "granitehybrid",
    classes: &["GraniteMoeHybridForCausalLM"],
    model_types: &["granitemoehybrid"],
    off: &["attention_bias", "mamba_proj_bias"],
    keys,
    optional,
    ..BASE
};
const EXPERTS: Family = Family { arch: "granitemoe", ..HYBRID };
const DENSE: Family = Family { arch: "granite", ..HYBRID };

/// The family of a config: without Mamba-2 layers it is another, by whether it speaks of experts.
pub(super) fn of(config: &Object) -> &'static Family {
    let attention = |kind: &Value| kind.as_str().is_some_and(|kind| !is_mamba(kind));
    let kinds = config.get("layer_types").and_then(Value::as_array);
    let count = |key: &str| config.get(key).and_then(Value::as_u64).unwrap_or(0);
    match kinds.is_some_and(|kinds| kinds.iter().all(attention)) {
        false => &HYBRID,
        true if count("num_local_experts") > 0 || count("num_experts_per_tok") > 0 => &EXPERTS,
        true => &DENSE,
    }
}

/// Whether a layer of this kind is a Mamba-2: as published, and as newer tools name it.
fn is_mamba(kind: &str) -> bool {
    ["mamba", "linear_attention"].contains(&kind)
}

/// Which layers are.
fn mamba(c: &Config) -> Result<Vec<bool>, HfError> {
    let types = c.layer_types()?.ok_or_else(|| missing("layer_types", "a list of kinds"))?;
    Ok(types.iter().map(|kind| is_mamba(kind)).collect())
}

fn optional(c: &Config, names: &mut Names) -> Result<(), HfError> {
    let biased = c.flag_or("mamba_conv_bias", true)?;
    for (layer, mamba) in (0..).zip(mamba(c)?) {
        if mamba && biased {
            names.layer(layer, &["ssm_conv1d.bias"]);
        }
    }
    Ok(())
}

fn keys(k: &mut Keys) -> Result<(), HfError> {
    k.forget("head_dim");
    k.common()?;
    k.must("vocab_size", "vocab_size")?;
    let head = k.head_dim()?;
    k.set("rope.dimension_count", head);
    for (key, name) in [
        ("attention_multiplier", "attention.scale"),
        ("embedding_multiplier", "embedding_scale"),
        ("residual_multiplier", "residual_scale"),
        ("logits_scaling", "logit_scale"),
    ] {
        if let Some(factor) = k.float(key)?.filter(|factor| *factor != 0.0) {
            k.set(name, factor as f32);
        }
    }
    if k.count("shared_intermediate_size")?.is_some_and(|length| length > 0) {
        k.must("shared_intermediate_size", "expert_shared_feed_forward_length")?;
    }
    k.must("mamba_d_conv", "ssm.conv_kernel")?;
    k.must("mamba_d_state", "ssm.state_size")?;
    k.must("mamba_n_groups", "ssm.group_count")?;
    let inner = k.need_count("mamba_expand")?.saturating_mul(k.need_count("hidden_size")?);
    k.set("ssm.inner_size", inner);
    k.must("mamba_n_heads", "ssm.time_step_rank")?;
    let mamba = mamba(k)?;
    let heads = k.need_count("num_key_value_heads")? as i32;
    let heads = mamba.iter().map(|mamba| if *mamba { 0 } else { heads });
    k.set("attention.head_count_kv", heads.collect::<Vec<i32>>());
    let hybrid = mamba.contains(&true);
    k.set("rope.scaling.finetuned", !hybrid);
    if hybrid {
        k.set("context_length", UNBOUNDED);
    }
    Ok(())
}
