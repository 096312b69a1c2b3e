//! LFM2, dense and with experts: short convolutions and, in some layers, attention.

use super::{BASE, Family, How, Rule, maybe, rule, with};

pub(super) const LFM2: Family = Family {
    arch: "lfm2",
    parts: &[&[ENDS], &[NORMS], &[CONVOLUTION, ATTENTION], &[DENSE]],
    pre: &["lfm2"],
    ..BASE
};

pub(super) const LFM2MOE: Family = Family {
    arch: "lfm2moe",
    parts: &[&[ENDS], &[NORMS], &[CONVOLUTION, ATTENTION], &[DENSE, ROUTER], &[DENSE, EXPERTS]],
    ..LFM2
};

const ENDS: &[Rule] = &[
    rule("model.embed_tokens", "token_embd"),
    rule("model.embedding_norm", "token_embd_norm"),
    maybe("lm_head", "output"),
];

const NORMS: &[Rule] = &[
    rule("model.layers.{b}.operator_norm", "attn_norm"),
    rule("model.layers.{b}.ffn_norm", "ffn_norm"),
];

const CONVOLUTION: &[Rule] = &[
    with("model.layers.{b}.conv.conv", "shortconv.conv", How::Squeezed),
    rule("model.layers.{b}.conv.in_proj", "shortconv.in_proj"),
    rule("model.layers.{b}.conv.out_proj", "shortconv.out_proj"),
];

const ATTENTION: &[Rule] = &[
    rule("model.layers.{b}.self_attn.q_proj", "attn_q"),
    rule("model.layers.{b}.self_attn.k_proj", "attn_k"),
    rule("model.layers.{b}.self_attn.v_proj", "attn_v"),
    rule("model.layers.{b}.self_attn.out_proj", "attn_output"),
    rule("model.layers.{b}.self_attn.q_layernorm", "attn_q_norm"),
    rule("model.layers.{b}.self_attn.k_layernorm", "attn_k_norm"),
];

const DENSE: &[Rule] = &[
    rule("model.layers.{b}.feed_forward.w1", "ffn_gate"),
    rule("model.layers.{b}.feed_forward.w2", "ffn_down"),
    rule("model.layers.{b}.feed_forward.w3", "ffn_up"),
];

const ROUTER: &[Rule] = &[
    rule("model.layers.{b}.feed_forward.gate", "ffn_gate_inp"),
    maybe("model.layers.{b}.feed_forward.expert_bias", "exp_probs_b.bias"),
];

const EXPERTS: &[Rule] = &[
    with("model.layers.{b}.feed_forward.experts.{x}.w1", "ffn_gate_exps", How::Stack),
    with("model.layers.{b}.feed_forward.experts.{x}.w2", "ffn_down_exps", How::Stack),
    with("model.layers.{b}.feed_forward.experts.{x}.w3", "ffn_up_exps", How::Stack),
];
