//! Phi-3, 3.5 and 4: fused projections, and factors of LongRoPE as tensors.

use super::{BASE, Computed, ENDS, Family, Kind, NORMS, Rule, Tokens, rule};
use crate::convert::error::ConvertError;
use crate::convert::keys::Keys;

pub(super) const PHI3: Family = Family {
    arch: "phi3",
    classes: &["Phi3ForCausalLM"],
    defaults: &[
        ("max_position_embeddings", 4096.0),
        ("original_max_position_embeddings", 4096.0),
        ("rms_norm_eps", 1e-5),
        ("rope_theta", 1e4),
        ("partial_rotary_factor", 1.0),
    ],
    parts: &[&[ENDS], &[NORMS], &[FUSED]],
    keys,
    computed: factors,
    tokenizers: &[Kind::SentencePiece, Kind::Bpe],
    tokens: Tokens::Phi,
    pre: &["dbrx"],
    drops_tied_output: false,
    ..BASE
};

const FUSED: &[Rule] = &[
    rule("model.layers.{b}.self_attn.qkv_proj", "attn_qkv"),
    rule("model.layers.{b}.self_attn.o_proj", "attn_output"),
    rule("model.layers.{b}.mlp.gate_up_proj", "ffn_up"),
    rule("model.layers.{b}.mlp.down_proj", "ffn_down"),
];

fn keys(k: &mut Keys) -> Result<(), ConvertError> {
    k.must("max_position_embeddings", "context_length")?;
    let trained = trained_context(k)?;
    k.set("rope.scaling.original_context_length", trained as u32);
    k.must("hidden_size", "embedding_length")?;
    k.must("intermediate_size", "feed_forward_length")?;
    k.layers();
    k.must("num_attention_heads", "attention.head_count")?;
    k.must("num_key_value_heads", "attention.head_count_kv")?;
    k.must_float("rms_norm_eps", "attention.layer_norm_rms_epsilon")?;
    let dims = rope_dims(k)?;
    k.set("rope.dimension_count", dims);
    k.rope_base()?;
    k.file_type();
    // Zero tells Phi-4 from the older ones.
    let window = k.count("sliding_window")?.unwrap_or(0);
    k.set("attention.sliding_window", window);
    Ok(())
}

fn trained_context(k: &Keys) -> Result<f64, ConvertError> {
    k.rope_float("original_max_position_embeddings")?
        .ok_or_else(|| k.missing("original_max_position_embeddings", "a number"))
}

fn rope_dims(k: &Keys) -> Result<u32, ConvertError> {
    let share = k.rope_float("partial_rotary_factor")?.unwrap_or(1.0);
    let heads = k.need_count("num_attention_heads")?.max(1);
    Ok((share * f64::from(k.need_count("hidden_size")?)) as u32 / heads)
}

/// Factors for long and short contexts; how much attention is scaled is stated with them.
fn factors(k: &mut Keys) -> Result<Computed, ConvertError> {
    let (long, short) = (k.rope_floats("long_factor")?, k.rope_floats("short_factor")?);
    let Some(long) = long.filter(|long| !long.is_empty()) else { return Ok(Vec::new()) };
    let short = short.ok_or_else(|| k.missing("short_factor", "a list of numbers"))?;
    let pairs = rope_dims(k)? as usize / 2;
    if (long.len(), short.len()) != (pairs, pairs) {
        let found = format!("lists of {} and {} numbers", long.len(), short.len());
        return Err(k.bad("rope_scaling", &found, &format!("two lists of {pairs}")));
    }
    let trained = trained_context(k)?;
    let scale = f64::from(k.need_count("max_position_embeddings")?) / trained;
    let attention = match k.rope_type() {
        _ if scale <= 1.0 => 1.0,
        "su" | "longrope" => (1.0 + scale.ln() / trained.ln()).sqrt(),
        "yarn" => 0.1 * scale.ln() + 1.0,
        other => return Err(k.bad("rope_scaling", other, "su, longrope or yarn")),
    };
    k.set("rope.scaling.attn_factor", attention as f32);
    Ok(vec![("rope_factors_long.weight", long), ("rope_factors_short.weight", short)])
}
