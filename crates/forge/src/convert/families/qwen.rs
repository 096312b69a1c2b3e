//! Qwen 2, 2.5 and 3, dense.

use super::{ATTENTION, BASE, DENSE, ENDS, Family, HEAD_NORMS, Kind, NORMS, Tokens};
use crate::convert::error::ConvertError;
use crate::convert::keys::{Keys, nothing};

pub(super) const QWEN2: Family = Family {
    arch: "qwen2",
    classes: &["Qwen2ForCausalLM"],
    defaults: &[("rope_theta", 1e4), ("rms_norm_eps", 1e-6), ("max_position_embeddings", 32768.0)],
    parts: &[&[ENDS], &[NORMS], &[ATTENTION], &[DENSE]],
    keys,
    rename,
    computed: nothing,
    tokenizers: &[Kind::SentencePiece, Kind::Bpe],
    tokens: Tokens::Plain,
    pre: &["qwen2"],
    drops_tied_output: false,
    ..BASE
};

pub(super) const QWEN3: Family = Family {
    arch: "qwen3",
    classes: &["Qwen3ForCausalLM"],
    defaults: &[
        ("rope_theta", 1e4),
        ("rms_norm_eps", 1e-6),
        ("max_position_embeddings", 32768.0),
        ("head_dim", 128.0),
    ],
    parts: &[&[ENDS], &[NORMS], &[ATTENTION], &[HEAD_NORMS], &[DENSE]],
    ..QWEN2
};

fn keys(k: &mut Keys) -> Result<(), ConvertError> {
    k.common()?;
    // Models for embeddings are of the same class.
    k.pooling()
}

/// Models for embeddings come without the part's name before a tensor's.
fn rename(name: String, _: u64) -> String {
    match ["layers.", "embed_tokens.", "norm."].iter().any(|start| name.starts_with(start)) {
        true => format!("model.{name}"),
        false => name,
    }
}
