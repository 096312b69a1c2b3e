//! Gemma 2 and 3: norms stored as the distance from one, tied embeddings.

use super::{ATTENTION, BASE, DENSE, Family, How, Kind, Rule, Tokens, maybe, rule, with};

pub(super) const GEMMA2: Family = Family {
    arch: "gemma2",
    parts: &[&[ENDS2], &[NORMS], &[ATTENTION], &[DENSE]],
    tokenizers: &[Kind::SentencePiece],
    tokens: Tokens::Gemma,
    pre: &[],
    drops_tied_output: true,
    ..BASE
};

pub(super) const GEMMA3: Family = Family {
    arch: "gemma3",
    parts: &[&[ENDS3], &[NORMS], &[HEAD_NORMS], &[ATTENTION], &[DENSE]],
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
