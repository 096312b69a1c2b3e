//! Llama, Mistral (all but the newest) and Mixtral: rotary pairs as neighbours, and Llama 3's factors as a tensor.

use super::{
    BASE, Computed, DENSE, ENDS, Family, How, Kind, LLAMA_ATTENTION, NORMS, Rule, Tokens, with,
};
use crate::convert::error::ConvertError;
use crate::convert::keys::Keys;

pub(super) const LLAMA: Family = Family {
    arch: "llama",
    classes: &["LlamaForCausalLM", "LLaMAForCausalLM", "MistralForCausalLM", "MixtralForCausalLM"],
    defaults: &[("rope_theta", 1e4), ("rms_norm_eps", 1e-6), ("max_position_embeddings", 2048.0)],
    parts: &[&[ENDS], &[NORMS], &[LLAMA_ATTENTION], &[DENSE, MIXTRAL]],
    keys,
    computed: rope_factors,
    tokenizers: &[Kind::SentencePiece, Kind::LlamaJson, Kind::Bpe],
    tokens: Tokens::Llama,
    pre: &["llama-bpe"],
    drops_tied_output: false,
    ..BASE
};

const MIXTRAL: &[Rule] = &[
    super::rule("model.layers.{b}.block_sparse_moe.gate", "ffn_gate_inp"),
    with("model.layers.{b}.block_sparse_moe.experts.{x}.w1", "ffn_gate_exps", How::Stack),
    with("model.layers.{b}.block_sparse_moe.experts.{x}.w2", "ffn_down_exps", How::Stack),
    with("model.layers.{b}.block_sparse_moe.experts.{x}.w3", "ffn_up_exps", How::Stack),
];

pub(super) fn keys(k: &mut Keys) -> Result<(), ConvertError> {
    // Mixtral's classes leave the head's length to be derived, the others state it.
    if !k.is("model_type", "mixtral") {
        let head = k.head_dim()?;
        k.assume("head_dim", head);
    }
    k.common()?;
    let vocab = k.need_count("vocab_size")?;
    k.set("vocab_size", vocab);
    let head = k.head_dim()?;
    k.set("rope.dimension_count", head);
    Ok(())
}

/// By what Llama 3 divides each frequency: one for short waves, the factor for long ones, and a smooth way between.
pub(super) fn rope_factors(k: &mut Keys) -> Result<Computed, ConvertError> {
    if !k.rope_type().eq_ignore_ascii_case("llama3") {
        return Ok(Vec::new());
    }
    let base = k.rope_float("rope_theta")?.unwrap_or(1e4);
    let factor = k.rope_float("factor")?.unwrap_or(8.0);
    let low = k.rope_float("low_freq_factor")?.unwrap_or(1.0);
    let high = k.rope_float("high_freq_factor")?.unwrap_or(4.0);
    let trained = k.rope_float("original_max_position_embeddings")?.unwrap_or(8192.0);
    let head = k.head_dim()?;
    let of = |i: u32| {
        let exponent = f64::from(i as f32 / head as f32);
        let wave = (2.0 * std::f64::consts::PI) as f32 / (1.0 / base.powf(exponent) as f32);
        if f64::from(wave) < trained / high {
            return 1.0;
        }
        if f64::from(wave) > trained / low {
            return factor as f32;
        }
        let smooth = (trained as f32 / wave - low as f32) / (high - low) as f32;
        1.0 / ((1.0 - smooth) / factor as f32 + smooth)
    };
    Ok(vec![("rope_freqs.weight", (0..head).step_by(2).map(of).collect())])
}
