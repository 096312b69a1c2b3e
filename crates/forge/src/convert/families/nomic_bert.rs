//! Nomic's BERT, dense (nomic-embed-text-v1 and v1.5) and with experts in every second layer (v2): rotary positions and
//! fused projections.

use super::bert::{BERT, EMBEDDINGS};
use super::{Family, How, Kind, Rule, Tokens, rule, with};

pub(super) const DENSE: Family =
    Family { arch: "nomic-bert", parts: &[&[EMBEDDINGS], &[ATTENTION], &[GATED]], ..BERT };
pub(super) const EXPERTS: Family = Family {
    arch: "nomic-bert-moe",
    parts: &[&[EMBEDDINGS], &[ATTENTION], &[PLAIN, ROUTED]],
    tokenizers: &[Kind::Unigram],
    tokens: Tokens::Plain,
    ..DENSE
};

const ATTENTION: &[Rule] = &[
    rule("encoder.layers.{b}.attn.Wqkv", "attn_qkv"),
    rule("encoder.layers.{b}.attn.out_proj", "attn_output"),
    rule("encoder.layers.{b}.norm1", "attn_output_norm"),
    rule("encoder.layers.{b}.norm2", "layer_output_norm"),
];

const GATED: &[Rule] = &[
    rule("encoder.layers.{b}.mlp.fc11", "ffn_up"),
    rule("encoder.layers.{b}.mlp.fc12", "ffn_gate"),
    rule("encoder.layers.{b}.mlp.fc2", "ffn_down"),
];

const PLAIN: &[Rule] =
    &[rule("encoder.layers.{b}.mlp.fc1", "ffn_up"), rule("encoder.layers.{b}.mlp.fc2", "ffn_down")];

const ROUTED: &[Rule] = &[
    rule("encoder.layers.{b}.mlp.router.layer", "ffn_gate_inp"),
    with("encoder.layers.{b}.mlp.experts.mlp.w1", "ffn_up_exps.weight", How::Below),
    with("encoder.layers.{b}.mlp.experts.mlp.w2", "ffn_down_exps.weight", How::BelowTurned),
    Rule { from: "encoder.layers.{b}.mlp.experts.bias", to: "", how: How::Drop, optional: true },
];
