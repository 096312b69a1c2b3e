//! Llama, Mistral (all but the newest) and Mixtral: rotary pairs as neighbours, and Llama 3's factors as a tensor.

use super::{BASE, DENSE, ENDS, Family, How, Kind, LLAMA_ATTENTION, NORMS, Rule, Tokens, with};

pub(super) const LLAMA: Family = Family {
    arch: "llama",
    parts: &[&[ENDS], &[NORMS], &[LLAMA_ATTENTION], &[DENSE, MIXTRAL]],
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
