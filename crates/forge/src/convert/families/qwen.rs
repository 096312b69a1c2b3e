//! Qwen 2, 2.5 and 3, dense.

use super::{ATTENTION, BASE, DENSE, ENDS, Family, HEAD_NORMS, Kind, NORMS, Tokens};

pub(super) const QWEN2: Family = Family {
    arch: "qwen2",
    parts: &[&[ENDS], &[NORMS], &[ATTENTION], &[DENSE]],
    rename,
    tokenizers: &[Kind::SentencePiece, Kind::Bpe],
    tokens: Tokens::Plain,
    pre: &["qwen2"],
    drops_tied_output: false,
    ..BASE
};

pub(super) const QWEN3: Family = Family {
    arch: "qwen3",
    parts: &[&[ENDS], &[NORMS], &[ATTENTION], &[HEAD_NORMS], &[DENSE]],
    ..QWEN2
};

/// Models for embeddings come without the part's name before a tensor's.
fn rename(name: String, _: u64) -> String {
    match ["layers.", "embed_tokens.", "norm."].iter().any(|start| name.starts_with(start)) {
        true => format!("model.{name}"),
        false => name,
    }
}
