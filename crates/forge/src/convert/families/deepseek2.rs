//! DeepSeek V2, V3 and R1: latent attention in absorbed form, experts with shared ones. Multi-token-prediction layers are left out.

use super::{BASE, ENDS, EXPERTS, Family, How, Kind, NORMS, Rule, Tokens, maybe, rule, with};

pub(super) const DEEPSEEK2: Family = Family {
    arch: "deepseek2",
    parts: &[
        &[ENDS],
        &[NORMS],
        &[QUERY, COMPRESSED_QUERY],
        &[LATENT],
        &[super::DENSE, ROUTED],
        &[super::DENSE, EXPERTS],
    ],
    tokenizers: &[Kind::Bpe],
    tokens: Tokens::Plain,
    pre: &["deepseek-v3", "deepseek-llm"],
    drops_tied_output: true,
    ..BASE
};

const QUERY: &[Rule] = &[rule("model.layers.{b}.self_attn.q_proj", "attn_q")];
const COMPRESSED_QUERY: &[Rule] = &[
    rule("model.layers.{b}.self_attn.q_a_proj", "attn_q_a"),
    rule("model.layers.{b}.self_attn.q_a_layernorm", "attn_q_a_norm"),
    rule("model.layers.{b}.self_attn.q_b_proj", "attn_q_b"),
];
const LATENT: &[Rule] = &[
    rule("model.layers.{b}.self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"),
    rule("model.layers.{b}.self_attn.kv_a_layernorm", "attn_kv_a_norm"),
    with("model.layers.{b}.self_attn.kv_b_proj.weight", "attn_k_b.weight", How::LatentKeys),
    with("model.layers.{b}.self_attn.kv_b_proj.weight", "attn_v_b.weight", How::LatentValues),
    rule("model.layers.{b}.self_attn.o_proj", "attn_output"),
];
const ROUTED: &[Rule] = &[
    rule("model.layers.{b}.mlp.gate", "ffn_gate_inp"),
    maybe("model.layers.{b}.mlp.gate.e_score_correction_bias", "exp_probs_b.bias"),
    maybe("model.layers.{b}.mlp.shared_experts.gate_proj", "ffn_gate_shexp"),
    maybe("model.layers.{b}.mlp.shared_experts.up_proj", "ffn_up_shexp"),
    maybe("model.layers.{b}.mlp.shared_experts.down_proj", "ffn_down_shexp"),
];
