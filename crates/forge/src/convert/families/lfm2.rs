//! LFM2, dense and with experts: short convolutions and, in some layers, attention.

use super::{BASE, Family, How, Rule, maybe, rule, with};
use crate::convert::error::ConvertError;
use crate::convert::keys::Keys;

pub(super) const LFM2: Family = Family {
    arch: "lfm2",
    classes: &["Lfm2ForCausalLM", "LFM2ForCausalLM"],
    defaults: &[
        ("num_key_value_heads", 8.0),
        ("max_position_embeddings", 128_000.0),
        ("norm_eps", 1e-5),
        ("rope_theta", 1e6),
        ("conv_L_cache", 3.0),
        ("block_multiple_of", 256.0),
        ("block_ffn_dim_multiplier", 1.0),
    ],
    parts: &[&[ENDS], &[NORMS], &[CONVOLUTION, ATTENTION], &[DENSE]],
    keys,
    pre: &["lfm2"],
    ..BASE
};

pub(super) const LFM2MOE: Family = Family {
    arch: "lfm2moe",
    classes: &["Lfm2MoeForCausalLM"],
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
    parts: &[&[ENDS], &[NORMS], &[CONVOLUTION, ATTENTION], &[DENSE, ROUTER], &[DENSE, EXPERTS]],
    keys: keys_moe,
    ..LFM2
};

const ENDS: &[Rule] = &[
    rule("model.embed_tokens", "token_embd"),
    rule("model.embedding_norm", "token_embd_norm"),
    maybe("lm_head", "output"),
];

const NORMS: &[Rule] = &[
    rule("model.layers.{b}.operator_norm", "attn_norm"),
    rule("model.layers.{b}.ffn_norm", "ffn_norm"),
];

const CONVOLUTION: &[Rule] = &[
    with("model.layers.{b}.conv.conv", "shortconv.conv", How::Squeezed),
    rule("model.layers.{b}.conv.in_proj", "shortconv.in_proj"),
    rule("model.layers.{b}.conv.out_proj", "shortconv.out_proj"),
];

const ATTENTION: &[Rule] = &[
    rule("model.layers.{b}.self_attn.q_proj", "attn_q"),
    rule("model.layers.{b}.self_attn.k_proj", "attn_k"),
    rule("model.layers.{b}.self_attn.v_proj", "attn_v"),
    rule("model.layers.{b}.self_attn.out_proj", "attn_output"),
    rule("model.layers.{b}.self_attn.q_layernorm", "attn_q_norm"),
    rule("model.layers.{b}.self_attn.k_layernorm", "attn_k_norm"),
];

const DENSE: &[Rule] = &[
    rule("model.layers.{b}.feed_forward.w1", "ffn_gate"),
    rule("model.layers.{b}.feed_forward.w2", "ffn_down"),
    rule("model.layers.{b}.feed_forward.w3", "ffn_up"),
];

const ROUTER: &[Rule] = &[
    rule("model.layers.{b}.feed_forward.gate", "ffn_gate_inp"),
    maybe("model.layers.{b}.feed_forward.expert_bias", "exp_probs_b.bias"),
];

const EXPERTS: &[Rule] = &[
    with("model.layers.{b}.feed_forward.experts.{x}.w1", "ffn_gate_exps", How::Stack),
    with("model.layers.{b}.feed_forward.experts.{x}.w2", "ffn_down_exps", How::Stack),
    with("model.layers.{b}.feed_forward.experts.{x}.w3", "ffn_up_exps", How::Stack),
];

fn keys(k: &mut Keys) -> Result<(), ConvertError> {
    k.common()?;
    heads_kv(k)?;
    k.must("vocab_size", "vocab_size")?;
    k.must("conv_L_cache", "shortconv.l_cache")?;
    let length = feed_forward(k)?;
    k.set("feed_forward_length", length);
    Ok(())
}

fn keys_moe(k: &mut Keys) -> Result<(), ConvertError> {
    k.common()?;
    heads_kv(k)?;
    k.must("moe_intermediate_size", "expert_feed_forward_length")?;
    k.must("num_dense_layers", "leading_dense_block_count")?;
    k.set("expert_gating_func", 2u32);
    k.must("vocab_size", "vocab_size")?;
    k.must("conv_L_cache", "shortconv.l_cache")
}

/// Key heads of each layer: none where it has a convolution.
fn heads_kv(k: &mut Keys) -> Result<(), ConvertError> {
    let layers = k.need_count("num_hidden_layers")?;
    let full: Vec<bool> = match (k.layer_types()?, k.counts_of("full_attn_idxs")?) {
        (Some(types), _) => types.iter().map(|kind| kind == "full_attention").collect(),
        (None, Some(full)) => (0..layers).map(|layer| full.contains(&layer)).collect(),
        (None, None) => vec![true; layers as usize],
    };
    let heads = k.need_count("num_key_value_heads")? as i32;
    let heads: Vec<i32> = full.iter().map(|full| if *full { heads } else { 0 }).collect();
    k.set("attention.head_count_kv", heads);
    Ok(())
}

/// Length of the gated feed-forward: two thirds of the one stated, rounded up.
fn feed_forward(k: &Keys) -> Result<u32, ConvertError> {
    let stated = match k.count("block_ff_dim")? {
        Some(stated) => stated,
        None => k.need_count("intermediate_size")?,
    };
    if k.value("block_auto_adjust_ff_dim").and_then(serde_json::Value::as_bool) == Some(false) {
        return Ok(stated);
    }
    let length = (2.0 * f64::from(stated) / 3.0).trunc();
    let length = (k.float("block_ffn_dim_multiplier")?.unwrap_or(1.0) * length) as u32;
    Ok(length.checked_next_multiple_of(k.need_count("block_multiple_of")?.max(1)).unwrap_or(length))
}
