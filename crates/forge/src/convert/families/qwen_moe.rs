//! Qwen 2 and 3 with experts, one by one as published or stacked as newer tools save them.

use super::qwen::{QWEN2, QWEN3};
use super::{
    ATTENTION, DENSE, ENDS, EXPERTS, Family, HEAD_NORMS, How, Kind, NORMS, Rule, rule, with,
};

pub(super) const QWEN2MOE: Family = Family {
    arch: "qwen2moe",
    parts: &[
        &[ENDS],
        &[NORMS],
        &[ATTENTION],
        &[ROUTER, DENSE],
        &[EXPERTS, STACKED, DENSE],
        &[SHARED, DENSE],
    ],
    tokenizers: &[Kind::Bpe],
    ..QWEN2
};

pub(super) const QWEN3MOE: Family = Family {
    arch: "qwen3moe",
    parts: &[
        &[ENDS],
        &[NORMS],
        &[ATTENTION],
        &[HEAD_NORMS],
        &[ROUTER, DENSE],
        &[EXPERTS, STACKED, DENSE],
    ],
    tokenizers: &[Kind::Bpe],
    ..QWEN3
};

pub(super) const ROUTER: &[Rule] = &[rule("model.layers.{b}.mlp.gate", "ffn_gate_inp")];

pub(super) const STACKED: &[Rule] = &[
    rule("model.layers.{b}.mlp.experts.down_proj", "ffn_down_exps.weight"),
    with("model.layers.{b}.mlp.experts.gate_up_proj", "ffn_gate_exps.weight", How::Half(0)),
    with("model.layers.{b}.mlp.experts.gate_up_proj", "ffn_up_exps.weight", How::Half(1)),
];

pub(super) const SHARED: &[Rule] = &[
    rule("model.layers.{b}.mlp.shared_expert.gate_proj", "ffn_gate_shexp"),
    rule("model.layers.{b}.mlp.shared_expert.up_proj", "ffn_up_shexp"),
    rule("model.layers.{b}.mlp.shared_expert.down_proj", "ffn_down_shexp"),
    rule("model.layers.{b}.mlp.shared_expert_gate", "ffn_gate_inp_shexp"),
];
