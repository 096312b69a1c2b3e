//! Gemma 2 and 3. Many configs of Gemma 3 leave out most keys, so that the defaults are the model.

use super::error::HfError;
use super::family::{BASE, Family};
use super::keys::Keys;
use super::names::{HEAD_NORMS, asked_biases};

pub(super) const GEMMA2: Family = Family {
    arch: "gemma2",
    classes: &["Gemma2ForCausalLM"],
    model_types: &["gemma2"],
    defaults: &[
        ("max_position_embeddings", 8192.0),
        ("rms_norm_eps", 1e-6),
        ("head_dim", 256.0),
        ("attn_logit_softcapping", 50.0),
        ("final_logit_softcapping", 30.0),
        ("sliding_window", 4096.0),
    ],
    tied: true,
    acts: &["gelu_pytorch_tanh"],
    keys: keys2,
    ..BASE
};

pub(super) const GEMMA3: Family = Family {
    arch: "gemma3",
    classes: &["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"],
    model_types: &["gemma3", "gemma3_text"],
    defaults: &[
        ("max_position_embeddings", 131_072.0),
        ("hidden_size", 2304.0),
        ("intermediate_size", 9216.0),
        ("num_attention_heads", 8.0),
        ("num_key_value_heads", 4.0),
        ("rms_norm_eps", 1e-6),
        ("head_dim", 256.0),
        ("sliding_window", 4096.0),
        ("rope_theta", 1e6),
        ("rope_local_base_freq", 1e4),
        ("vocab_size", 262_208.0),
    ],
    keys: keys3,
    optional: |c, names| {
        names.layers(0..c.layers()?, HEAD_NORMS);
        asked_biases(c, names)
    },
    ..GEMMA2
};

fn keys2(k: &mut Keys) -> Result<(), HfError> {
    k.must("max_position_embeddings", "context_length")?;
    k.must("hidden_size", "embedding_length")?;
    k.block_count()?;
    k.must("intermediate_size", "feed_forward_length")?;
    k.must("num_attention_heads", "attention.head_count")?;
    k.must("num_key_value_heads", "attention.head_count_kv")?;
    k.must_float("rms_norm_eps", "attention.layer_norm_rms_epsilon")?;
    k.must("head_dim", "attention.key_length")?;
    k.must("head_dim", "attention.value_length")?;
    k.file_type();
    k.must_float("attn_logit_softcapping", "attn_logit_softcapping")?;
    k.must_float("final_logit_softcapping", "final_logit_softcapping")?;
    k.must("sliding_window", "attention.sliding_window")
}

fn keys3(k: &mut Keys) -> Result<(), HfError> {
    k.common()?;
    k.copy_float("final_logit_softcapping", "final_logit_softcapping")?;
    if k.count("sliding_window_pattern")? != Some(1) {
        k.must("sliding_window", "attention.sliding_window")?;
    }
    k.must("num_key_value_heads", "attention.head_count_kv")
}
