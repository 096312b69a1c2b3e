//! Gemma 4: two lengths of heads, keys and values that later layers share, embeddings for each layer, and experts beside
//! the dense feed-forward; a model has some of them. An assistant drafts for one: it has no keys of its own, and joins its
//! vectors. Deliberately absent: towers for images and sound, and an assistant's shortcut to its embeddings.

use serde_json::Value;

use super::{ATTENTION, BASE, Computed, DENSE, Family, How, Kind, Rule, as_is, maybe, rule, with};
use crate::convert::error::ConvertError;
use crate::convert::keys::Keys;

pub(super) const GEMMA4: Family = Family {
    arch: "gemma4",
    classes: &["Gemma4ForConditionalGeneration", "Gemma4ForCausalLM"],
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
    parts: &[&[ENDS], &[NORMS], &[ATTENTION, SHARED_KEYS], &[DENSE], &[MORE]],
    keys,
    computed: rope_factors,
    tokenizers: &[Kind::CharacterBpe],
    ..BASE
};

/// The same with tokens that are never to be given.
pub(super) const GEMMA4_UNIFIED: Family = Family {
    classes: &["Gemma4UnifiedForConditionalGeneration"],
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
    keys: unified_keys,
    ..GEMMA4
};

pub(super) const GEMMA4_ASSISTANT: Family = Family {
    arch: "gemma4-assistant",
    classes: &["Gemma4AssistantForCausalLM", "Gemma4UnifiedAssistantForCausalLM"],
    parts: &[&[ENDS], &[PROJECTIONS], &[NORMS], &[SHARED_KEYS], &[DENSE], &[MORE]],
    keys: assistant_keys,
    rename: without_shortcut,
    ..GEMMA4
};

const ENDS: &[Rule] = &[
    with("model.embed_tokens", "token_embd", How::Vocabulary),
    rule("model.norm", "output_norm"),
    maybe("lm_head", "output"),
    maybe("model.embed_tokens_per_layer", "per_layer_token_embd"),
    maybe("model.per_layer_model_projection", "per_layer_model_proj"),
    maybe("model.per_layer_projection_norm", "per_layer_proj_norm"),
];

/// From an assistant's vectors to those of its model and back.
const PROJECTIONS: &[Rule] = &[
    rule("pre_projection", "nextn.pre_projection"),
    rule("post_projection", "nextn.post_projection"),
    Rule { from: SHORTCUT, to: "", how: How::Drop, optional: true },
];
const SHORTCUT: &str = "masked_embedding";

const NORMS: &[Rule] = &[
    rule("model.layers.{b}.input_layernorm", "attn_norm"),
    rule("model.layers.{b}.post_attention_layernorm", "post_attention_norm"),
    rule("model.layers.{b}.pre_feedforward_layernorm", "ffn_norm"),
    rule("model.layers.{b}.post_feedforward_layernorm", "post_ffw_norm"),
    rule("model.layers.{b}.self_attn.q_norm", "attn_q_norm"),
    maybe("model.layers.{b}.self_attn.k_norm", "attn_k_norm"),
];

/// Attention without values of its own (they are the keys), or without keys either (they are an earlier layer's).
const SHARED_KEYS: &[Rule] = &[
    rule("model.layers.{b}.self_attn.q_proj", "attn_q"),
    maybe("model.layers.{b}.self_attn.k_proj", "attn_k"),
    rule("model.layers.{b}.self_attn.o_proj", "attn_output"),
];

/// What only some models have.
const MORE: &[Rule] = &[
    maybe("model.layers.{b}.layer_scalar", "layer_output_scale.weight"),
    maybe("model.layers.{b}.per_layer_input_gate", "inp_gate"),
    maybe("model.layers.{b}.per_layer_projection", "proj"),
    maybe("model.layers.{b}.post_per_layer_input_norm", "post_norm"),
    maybe("model.layers.{b}.router.proj", "ffn_gate_inp"),
    maybe("model.layers.{b}.router.scale", "ffn_gate_inp.scale"),
    maybe("model.layers.{b}.router.per_expert_scale", "ffn_down_exps.scale"),
    maybe("model.layers.{b}.experts.gate_up_proj", "ffn_gate_up_exps.weight"),
    maybe("model.layers.{b}.experts.down_proj", "ffn_down_exps.weight"),
    maybe("model.layers.{b}.pre_feedforward_layernorm_2", "pre_ffw_norm_2"),
    maybe("model.layers.{b}.post_feedforward_layernorm_1", "post_ffw_norm_1"),
    maybe("model.layers.{b}.post_feedforward_layernorm_2", "post_ffw_norm_2"),
];

fn keys(k: &mut Keys) -> Result<(), ConvertError> {
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

fn unified_keys(k: &mut Keys) -> Result<(), ConvertError> {
    keys(k)?;
    k.suppressed();
    Ok(())
}

fn assistant_keys(k: &mut Keys) -> Result<(), ConvertError> {
    let layers = k.need_count("num_hidden_layers")?;
    if k.count("num_kv_shared_layers")?.unwrap_or(0) == 0 {
        k.overrule("num_kv_shared_layers", layers);
    }
    keys(k)?;
    k.assume("backbone_hidden_size", 1536);
    k.must("backbone_hidden_size", "embedding_length_out")?;
    k.set("nextn_predict_layers", layers);
    Ok(())
}

/// One name for all tensors of an assistant's shortcut.
fn without_shortcut(name: String, layers: u64) -> String {
    match name.contains(SHORTCUT) {
        true => SHORTCUT.to_owned(),
        false => as_is(name, layers),
    }
}

/// Which layers see a window only; by default five in six, and never the last.
fn windows(k: &Keys) -> Result<Vec<bool>, ConvertError> {
    let layers = k.need_count("num_hidden_layers")?;
    let mut windows: Vec<bool> = match k.layer_types()? {
        Some(types) => types.iter().map(|kind| kind == "sliding_attention").collect(),
        None => (1..=layers).map(|i| i % 6 != 0).collect(),
    };
    if let Some(last) = windows.last_mut() {
        *last = false;
    }
    Ok(windows)
}

/// What a config says of the first layer with full attention alone.
fn of_full_layer(k: &Keys, key: &str) -> Result<Option<u32>, ConvertError> {
    let Some(Value::Object(layers)) = k.value("per_layer_config") else { return Ok(None) };
    let full = windows(k)?.iter().position(|window| !window).unwrap_or_default();
    let found = layers.get(&full.to_string()).and_then(|layer| layer.get(key));
    Ok(found.and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok()))
}

/// Length of a head where attention is full.
fn full_head(k: &Keys) -> Result<u32, ConvertError> {
    match of_full_layer(k, "head_dim")? {
        Some(length) => Ok(length),
        None => Ok(k.count("global_head_dim")?.unwrap_or(512)),
    }
}

/// Key heads where attention is full, if they are others.
fn full_heads_kv(k: &Keys) -> Result<Option<u32>, ConvertError> {
    if k.value("per_layer_config").is_some() {
        return of_full_layer(k, "num_key_value_heads");
    }
    match k.flag("attention_k_eq_v")? {
        true => k.count("num_global_key_value_heads"),
        false => Ok(None),
    }
}

/// Layers that share keys may have a feed-forward of double length.
fn feed_forward(k: &mut Keys) -> Result<(), ConvertError> {
    if !k.flag("use_double_wide_mlp")? {
        return Ok(());
    }
    let layers = k.need_count("num_hidden_layers")?;
    let first_shared = layers.saturating_sub(k.need_count("num_kv_shared_layers")?);
    let length = k.need_count("intermediate_size")? as i32;
    let of = |i: u32| if i < first_shared { length } else { length.saturating_mul(2) };
    k.set("feed_forward_length", (0..layers).map(of).collect::<Vec<i32>>());
    Ok(())
}

/// Where attention is full only some pairs of a head are rotated; the others' factor stands for never.
fn rope_factors(k: &mut Keys) -> Result<Computed, ConvertError> {
    if !["", "proportional"].contains(&k.rope_type()) {
        let found = k.rope_type().to_owned();
        return Err(k.bad("rope_type", &found, "proportional"));
    }
    let (head, share) = (full_head(k)?, k.rope_float("partial_rotary_factor")?.unwrap_or(0.25));
    let rotated = (f64::from(head) * share / 2.0) as usize;
    let mut factors = vec![1.0; rotated.min(head as usize / 2)];
    factors.resize(head as usize / 2, 1e30);
    Ok(vec![("rope_freqs.weight", factors)])
}
