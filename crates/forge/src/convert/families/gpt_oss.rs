//! gpt-oss: experts in MXFP4 as published (their blocks are moved, never decoded) or in floats as trained further, with
//! gate and up interleaved in both.

use super::{ATTENTION, BASE, ENDS, Family, How, Kind, Rule, Tokens, rule, with};

pub(super) const GPT_OSS: Family = Family {
    arch: "gpt-oss",
    parts: &[&[ENDS], &[NORMS], &[ATTENTION], &[ROUTER], &[MXFP4, FLOATS]],
    tokenizers: &[Kind::Bpe],
    tokens: Tokens::Plain,
    pre: &["gpt-4o"],
    drops_tied_output: false,
    ..BASE
};

const NORMS: &[Rule] = &[
    rule("model.layers.{b}.input_layernorm", "attn_norm"),
    rule("model.layers.{b}.post_attention_layernorm", "post_attention_norm"),
    rule("model.layers.{b}.self_attn.sinks", "attn_sinks.weight"),
];

const ROUTER: &[Rule] = &[
    rule("model.layers.{b}.mlp.router", "ffn_gate_inp"),
    rule("model.layers.{b}.mlp.experts.down_proj_bias", "ffn_down_exps.bias"),
    with(
        "model.layers.{b}.mlp.experts.gate_up_proj_bias",
        "ffn_gate_exps.bias",
        How::AlternateColumns(0),
    ),
    with(
        "model.layers.{b}.mlp.experts.gate_up_proj_bias",
        "ffn_up_exps.bias",
        How::AlternateColumns(1),
    ),
];

const MXFP4: &[Rule] = &[
    with("model.layers.{b}.mlp.experts.down_proj_blocks", "ffn_down_exps.weight", How::Mx),
    with("model.layers.{b}.mlp.experts.down_proj_scales", "", How::Drop),
    with(
        "model.layers.{b}.mlp.experts.gate_up_proj_blocks",
        "ffn_gate_exps.weight",
        How::MxAlternate(0),
    ),
    with(
        "model.layers.{b}.mlp.experts.gate_up_proj_blocks",
        "ffn_up_exps.weight",
        How::MxAlternate(1),
    ),
    with("model.layers.{b}.mlp.experts.gate_up_proj_scales", "", How::Drop),
];

const FLOATS: &[Rule] = &[
    with("model.layers.{b}.mlp.experts.down_proj", "ffn_down_exps.weight", How::Turned),
    with(
        "model.layers.{b}.mlp.experts.gate_up_proj",
        "ffn_gate_exps.weight",
        How::TurnedAlternate(0),
    ),
    with(
        "model.layers.{b}.mlp.experts.gate_up_proj",
        "ffn_up_exps.weight",
        How::TurnedAlternate(1),
    ),
];
