//! gpt-oss: biases everywhere, those of the attention if the config asks, as it does by default.

use super::error::HfError;
use super::family::{BASE, Family};
use super::keys::Keys;
use super::names::QKV_BIASES;

pub(super) const GPT_OSS: Family = Family {
    arch: "gpt-oss",
    classes: &["GptOssForCausalLM"],
    model_types: &["gpt_oss"],
    defaults: &[
        ("rope_theta", 150_000.0),
        ("rms_norm_eps", 1e-5),
        ("max_position_embeddings", 131_072.0),
        ("head_dim", 64.0),
        ("sliding_window", 128.0),
    ],
    keys,
    optional: |c, names| {
        let layers = 0..c.layers()?;
        if c.flag_or("attention_bias", true)? {
            names.layers(layers.clone(), QKV_BIASES);
            names.layers(layers.clone(), &["attn_output.bias"]);
        }
        names.layers(
            layers,
            &["ffn_gate_inp.bias", "ffn_gate_exps.bias", "ffn_up_exps.bias", "ffn_down_exps.bias"],
        );
        Ok(())
    },
    ..BASE
};

fn keys(k: &mut Keys) -> Result<(), HfError> {
    k.common()?;
    k.must("sliding_window", "attention.sliding_window")?;
    k.must("intermediate_size", "expert_feed_forward_length")
}
