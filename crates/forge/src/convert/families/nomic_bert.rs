//! Nomic's BERT, dense (nomic-embed-text-v1 and v1.5) and with experts in every second layer (v2): rotary positions and
//! fused projections.

use serde_json::Value;

use super::bert::{BERT, EMBEDDINGS, cut_positions, keys};
use super::{Family, How, Kind, Rule, Tokens, rule, with};
use crate::convert::error::ConvertError;
use crate::convert::folder::Object;
use crate::convert::keys::Keys;

pub(super) const CLASSES: &[&str] = &["NomicBertModel"];

/// The family of a config: with experts in some layers or without.
pub(super) fn of(config: &Object) -> &'static Family {
    match config.get("moe_every_n_layers").and_then(Value::as_u64) {
        None | Some(0) => &DENSE,
        Some(_) => &EXPERTS,
    }
}

const DENSE: Family = Family {
    arch: "nomic-bert",
    classes: CLASSES,
    defaults: &[
        ("max_position_embeddings", 2048.0),
        ("layer_norm_eps", 1e-12),
        ("rope_theta", 1000.0),
        ("hidden_size", 768.0),
        ("num_hidden_layers", 12.0),
        ("num_attention_heads", 12.0),
        ("intermediate_size", 3072.0),
        ("pad_token_id", 0.0),
    ],
    parts: &[&[EMBEDDINGS], &[ATTENTION], &[GATED]],
    keys: dense_keys,
    ..BERT
};
const EXPERTS: Family = Family {
    arch: "nomic-bert-moe",
    parts: &[&[EMBEDDINGS], &[ATTENTION], &[PLAIN, ROUTED]],
    keys: expert_keys,
    tokenizers: &[Kind::Unigram],
    tokens: Tokens::Plain,
    ..DENSE
};

const ATTENTION: &[Rule] = &[
    rule("encoder.layers.{b}.attn.Wqkv", "attn_qkv"),
    rule("encoder.layers.{b}.attn.out_proj", "attn_output"),
    rule("encoder.layers.{b}.norm1", "attn_output_norm"),
    rule("encoder.layers.{b}.norm2", "layer_output_norm"),
];

const GATED: &[Rule] = &[
    rule("encoder.layers.{b}.mlp.fc11", "ffn_up"),
    rule("encoder.layers.{b}.mlp.fc12", "ffn_gate"),
    rule("encoder.layers.{b}.mlp.fc2", "ffn_down"),
];

const PLAIN: &[Rule] =
    &[rule("encoder.layers.{b}.mlp.fc1", "ffn_up"), rule("encoder.layers.{b}.mlp.fc2", "ffn_down")];

const ROUTED: &[Rule] = &[
    rule("encoder.layers.{b}.mlp.router.layer", "ffn_gate_inp"),
    with("encoder.layers.{b}.mlp.experts.mlp.w1", "ffn_up_exps.weight", How::Below),
    with("encoder.layers.{b}.mlp.experts.mlp.w2", "ffn_down_exps.weight", How::BelowTurned),
    Rule { from: "encoder.layers.{b}.mlp.experts.bias", to: "", how: How::Drop, optional: true },
];

fn dense_keys(k: &mut Keys) -> Result<(), ConvertError> {
    check(k, "swiglu", false)?;
    head(k)?;
    keys(k)
}

fn expert_keys(k: &mut Keys) -> Result<(), ConvertError> {
    check(k, "gelu", true)?;
    head(k)?;
    cut_positions(k)?;
    keys(k)?;
    k.must("moe_every_n_layers", "moe_every_n_layers")?;
    k.must("moe_top_k", "expert_used_count")
}

fn head(k: &mut Keys) -> Result<(), ConvertError> {
    let head = k.head_dim()?;
    k.assume("head_dim", head);
    Ok(())
}

/// What Nomic's own code can vary, and GGUF has no keys for.
fn check(k: &Keys, activation: &str, biases: bool) -> Result<(), ConvertError> {
    let text = |key| k.value(key).and_then(Value::as_str).map(str::to_owned);
    if let Some(found) = text("activation_function").filter(|found| found != activation) {
        return Err(k.bad("activation_function", &found, activation));
    }
    let flags = [
        ("qkv_proj_bias", biases),
        ("mlp_fc1_bias", biases),
        ("mlp_fc2_bias", biases),
        ("causal", false),
        ("prenorm", false),
        ("rotary_emb_interleaved", false),
    ];
    for (key, expected) in flags {
        if k.value(key).is_some() && k.flag(key)? != expected {
            return Err(k.bad(key, &(!expected).to_string(), &expected.to_string()));
        }
    }
    Ok(())
}
