//! Gemma 2 and 3: norms stored as the distance from one, tied embeddings.

use super::{ATTENTION, BASE, DENSE, Family, How, Kind, Rule, Tokens, maybe, rule, with};
use crate::convert::error::ConvertError;
use crate::convert::keys::{Keys, nothing};

pub(super) const GEMMA2: Family = Family {
    arch: "gemma2",
    classes: &["Gemma2ForCausalLM"],
    defaults: &[
        ("max_position_embeddings", 8192.0),
        ("rms_norm_eps", 1e-6),
        ("head_dim", 256.0),
        ("attn_logit_softcapping", 50.0),
        ("final_logit_softcapping", 30.0),
        ("sliding_window", 4096.0),
    ],
    parts: &[&[ENDS2], &[NORMS], &[ATTENTION], &[DENSE]],
    keys: keys2,
    computed: nothing,
    tokenizers: &[Kind::SentencePiece],
    tokens: Tokens::Gemma,
    pre: &[],
    drops_tied_output: true,
    ..BASE
};

pub(super) const GEMMA3: Family = Family {
    arch: "gemma3",
    classes: &["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"],
    defaults: &[
        ("max_position_embeddings", 131072.0),
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
    parts: &[&[ENDS3], &[NORMS], &[HEAD_NORMS], &[ATTENTION], &[DENSE]],
    keys: keys3,
    tokenizers: &[Kind::SentencePiece, Kind::Bpe],
    drops_tied_output: false,
    ..GEMMA2
};

const ENDS2: &[Rule] = &[
    rule("model.embed_tokens", "token_embd"),
    with("model.norm", "output_norm", How::PlusOne),
    Rule { from: "lm_head.weight", to: "", how: How::Drop, optional: true },
];
const ENDS3: &[Rule] = &[
    with("model.embed_tokens", "token_embd", How::Vocabulary),
    with("model.norm", "output_norm", How::PlusOne),
    maybe("lm_head", "output"),
];
const NORMS: &[Rule] = &[
    with("model.layers.{b}.input_layernorm", "attn_norm", How::PlusOne),
    with("model.layers.{b}.post_attention_layernorm", "post_attention_norm", How::PlusOne),
    with("model.layers.{b}.pre_feedforward_layernorm", "ffn_norm", How::PlusOne),
    with("model.layers.{b}.post_feedforward_layernorm", "post_ffw_norm", How::PlusOne),
];
const HEAD_NORMS: &[Rule] = &[
    with("model.layers.{b}.self_attn.q_norm", "attn_q_norm", How::PlusOne),
    with("model.layers.{b}.self_attn.k_norm", "attn_k_norm", How::PlusOne),
];

fn keys2(k: &mut Keys) -> Result<(), ConvertError> {
    k.must("max_position_embeddings", "context_length")?;
    k.must("hidden_size", "embedding_length")?;
    k.layers();
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

fn keys3(k: &mut Keys) -> Result<(), ConvertError> {
    k.common()?;
    k.copy_float("final_logit_softcapping", "final_logit_softcapping")?;
    if k.count("sliding_window_pattern")? != Some(1) {
        k.must("sliding_window", "attention.sliding_window")?;
    }
    k.must("num_key_value_heads", "attention.head_count_kv")
}
