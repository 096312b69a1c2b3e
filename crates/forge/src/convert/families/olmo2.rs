//! OLMo 2 and 3: norms after attention and feed-forward instead of before.

use super::{ATTENTION, BASE, DENSE, ENDS, Family, HEAD_NORMS, Kind, Rule, Tokens, rule};

pub(super) const OLMO2: Family = Family {
    arch: "olmo2",
    parts: &[&[ENDS], &[NORMS], &[HEAD_NORMS], &[ATTENTION], &[DENSE]],
    tokenizers: &[Kind::Bpe],
    tokens: Tokens::Plain,
    pre: &["dbrx"],
    drops_tied_output: false,
    ..BASE
};

const NORMS: &[Rule] = &[
    rule("model.layers.{b}.post_attention_layernorm", "post_attention_norm"),
    rule("model.layers.{b}.post_feedforward_layernorm", "post_ffw_norm"),
];
