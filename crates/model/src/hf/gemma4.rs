//! Gemma 4: two kinds of layers with heads of their own, keys that serve as values or for later layers, an embedding for each
//! layer, experts beside the dense feed-forward. Deliberately absent: the towers.

use serde_json::Value;

use super::config::{Config, bounded};
use super::error::{HfError, bad};
use super::family::Family;
use super::keys::{Computed, Keys};
use super::names::Names;

pub(super) const GEMMA4: Family = Family {
    arch: "gemma4",
    classes: &["Gemma4ForConditionalGeneration", "Gemma4ForCausalLM"],
    model_types: &["gemma4", "gemma4_text"],
    defaults: &[
        ("vocab_size", 262_144.0),
        ("hidden_size", 2304.0),
        ("intermediate_size", 9216.0),
        ("num_hidden_layers", 30.0),
        ("num_attention_heads", 8.0),
        ("num_key_value_heads", 4.0),
        ("head_dim", 256.0),
        ("max_position_embeddings", 131_072.0),
        ("rms_norm_eps", 1e-6),
        ("sliding_window", 512.0),
        ("hidden_size_per_layer_input", 256.0),
        ("num_kv_shared_layers", 0.0),
        ("rope_theta", 1e6),
        ("rope_local_base_freq", 1e4),
    ],
    tied: true,
    acts: &["gelu_pytorch_tanh"],
    stretched: &["proportional"],
    off: &["attention_bias"],
    keys,
    computed: rope_factors,
    optional,
};

/// The same with tokens that are never to be given.
pub(super) const UNIFIED: Family = Family {
    classes: &["Gemma4UnifiedForConditionalGeneration"],
    model_types: &["gemma4_unified", "gemma4_unified_text"],
    defaults: &[
        ("vocab_size", 262_144.0),
        ("hidden_size", 2304.0),
        ("intermediate_size", 9216.0),
        ("num_hidden_layers", 30.0),
        ("num_attention_heads", 8.0),
        ("num_key_value_heads", 4.0),
        ("head_dim", 256.0),
        ("max_position_embeddings", 262_144.0),
        ("rms_norm_eps", 1e-6),
        ("sliding_window", 1024.0),
        ("hidden_size_per_layer_input", 0.0),
        ("num_kv_shared_layers", 0.0),
        ("rope_theta", 1e6),
        ("rope_local_base_freq", 1e4),
    ],
    keys: |k| {
        keys(k)?;
        k.suppressed();
        Ok(())
    },
    ..GEMMA4
};

/// A model that drafts for another, whose keys and values it reads.
pub(super) const ASSISTANT: Family = Family {
    arch: "gemma4-assistant",
    classes: &["Gemma4AssistantForCausalLM", "Gemma4UnifiedAssistantForCausalLM"],
    model_types: &["gemma4_assistant", "gemma4_unified_assistant"],
    keys: assistant_keys,
    ..GEMMA4
};

fn assistant_keys(k: &mut Keys) -> Result<(), HfError> {
    let layers = k.layers()?;
    if k.need_count("num_kv_shared_layers")? == 0 {
        k.overrule("num_kv_shared_layers", layers);
    }
    keys(k)?;
    k.assume("backbone_hidden_size", 1536);
    k.must("backbone_hidden_size", "embedding_length_out")?;
    k.set("nextn_predict_layers", layers);
    Ok(())
}

fn keys(k: &mut Keys) -> Result<(), HfError> {
    k.common()?;
    if let Some(cap) = k.float("final_logit_softcapping")?.filter(|cap| *cap != 0.0) {
        k.set("final_logit_softcapping", cap as f32);
    }
    k.must("sliding_window", "attention.sliding_window")?;
    k.must("num_kv_shared_layers", "attention.shared_kv_layers")?;
    k.must("hidden_size_per_layer_input", "embedding_length_per_layer_input")?;
    let windows = windows(k)?;
    k.set("attention.sliding_window_pattern", windows.clone());
    let (full, short) = (full_head(k)?, k.need_count("head_dim")?);
    k.set("attention.key_length", full);
    k.set("attention.value_length", full);
    k.set("attention.key_length_swa", short);
    k.set("attention.value_length_swa", short);
    k.copy("moe_intermediate_size", "expert_feed_forward_length")?;
    feed_forward(k)?;
    if let Some(heads) = full_heads_kv(k)? {
        let others = k.need_count("num_key_value_heads")? as i32;
        let heads = windows.iter().map(|window| if *window { others } else { heads as i32 });
        k.set("attention.head_count_kv", heads.collect::<Vec<i32>>());
    }
    k.set("rope.dimension_count", full);
    k.set("rope.dimension_count_swa", short);
    Ok(())
}

fn optional(c: &Config, names: &mut Names) -> Result<(), HfError> {
    let keys_serve = c.flag("attention_k_eq_v")?;
    let experts = c.flag("enable_moe_block")?;
    let cached = first_shared(c)?;
    for (layer, window) in (0..).zip(windows(c)?) {
        names.layer(layer, &["layer_output_scale.weight"]);
        if layer < cached && (window || !keys_serve) {
            names.layer(layer, &["attn_v.weight"]);
        }
        if experts {
            names.layer(
                layer,
                &["ffn_gate_inp.weight", "ffn_gate_up_exps.weight", "ffn_down_exps.scale"],
            );
        }
    }
    Ok(())
}

/// Which layers see a window only; by default five in six, and never the last.
fn windows(c: &Config) -> Result<Vec<bool>, HfError> {
    let mut windows: Vec<bool> = match c.layer_types()? {
        Some(types) => types.iter().map(|kind| kind == "sliding_attention").collect(),
        None => (1..=c.layers()?).map(|i| i % 6 != 0).collect(),
    };
    if let Some(last) = windows.last_mut() {
        *last = false;
    }
    Ok(windows)
}

/// What a config says of the first layer with full attention alone.
fn of_full_layer(c: &Config, key: &str) -> Result<Option<u32>, HfError> {
    let Some(Value::Object(layers)) = c.value("per_layer_config") else { return Ok(None) };
    let full = windows(c)?.iter().position(|window| !window).unwrap_or_default();
    let found = layers.get(&full.to_string()).and_then(|layer| layer.get(key));
    Ok(found.and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok()))
}

/// Length of a head where attention is full.
fn full_head(c: &Config) -> Result<u32, HfError> {
    let length = match of_full_layer(c, "head_dim")? {
        Some(length) => length,
        None => c.count("global_head_dim")?.unwrap_or(512),
    };
    bounded("global_head_dim", length)
}

/// Key heads where attention is full, if they are others.
fn full_heads_kv(c: &Config) -> Result<Option<u32>, HfError> {
    if c.has("per_layer_config") {
        return of_full_layer(c, "num_key_value_heads");
    }
    match c.flag("attention_k_eq_v")? {
        true => c.count("num_global_key_value_heads"),
        false => Ok(None),
    }
}

/// The first layer that reads the keys of an earlier one.
fn first_shared(c: &Config) -> Result<u32, HfError> {
    Ok(c.layers()?.saturating_sub(c.need_count("num_kv_shared_layers")?))
}

/// Layers that share keys may have a feed-forward of double length.
fn feed_forward(k: &mut Keys) -> Result<(), HfError> {
    if !k.flag("use_double_wide_mlp")? {
        return Ok(());
    }
    let (layers, first_shared) = (k.layers()?, first_shared(k)?);
    let length = k.need_count("intermediate_size")? as i32;
    let of = |i: u32| if i < first_shared { length } else { length.saturating_mul(2) };
    k.set("feed_forward_length", (0..layers).map(of).collect::<Vec<i32>>());
    Ok(())
}

/// Where attention is full only some pairs of a head are rotated; the others' factor stands for never.
fn rope_factors(k: &mut Keys) -> Result<Computed, HfError> {
    if !["", "proportional"].contains(&k.rope_type()) {
        return Err(bad("rope_type", k.rope_type(), "proportional"));
    }
    let (head, share) = (full_head(k)?, k.rope_float("partial_rotary_factor")?.unwrap_or(0.25));
    let rotated = (f64::from(head) * share / 2.0) as usize;
    let mut factors = vec![1.0; rotated.min(head as usize / 2)];
    factors.resize(head as usize / 2, 1e30);
    Ok(vec![("rope_freqs.weight", factors)])
}
