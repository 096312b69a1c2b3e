//! Granite 4: Mamba-2 and attention without positions, with experts and a shared one or with a dense feed-forward. Models
//! of the same class without any Mamba-2 are Granites of the older kinds, with positions.

use super::{BASE, ENDS, Family, How, LLAMA_ATTENTION, NORMS, Rule, maybe, rule, with};
use hob_model::hf::{self, HfError, Keys};

/// Which tensors a model has, by whether there are Mamba-2 layers and experts.
pub(super) fn of(model: &hf::Family, keys: &Keys) -> Result<&'static Family, HfError> {
    let experts = keys.count("num_local_experts")?.is_some_and(|experts| experts > 0);
    Ok(match (model.arch, experts) {
        ("granitehybrid", true) => &HYBRID_EXPERTS,
        ("granitehybrid", false) => &HYBRID_DENSE,
        (_, true) => &EXPERTS,
        ("granitemoe", false) => &DENSE_AMONG_EXPERTS,
        (_, false) => &DENSE,
    })
}

const HYBRID_EXPERTS: Family = Family {
    arch: "granitehybrid",
    parts: &[&[ENDS], &[NORMS], &[MAMBA, LLAMA_ATTENTION], &[ROUTED]],
    pre: &["dbrx", "refact"],
    ..BASE
};
const HYBRID_DENSE: Family =
    Family { parts: &[&[ENDS], &[NORMS], &[MAMBA, LLAMA_ATTENTION], &[FUSED]], ..HYBRID_EXPERTS };
const EXPERTS: Family = Family {
    arch: "granitemoe",
    parts: &[&[ENDS], &[NORMS], &[LLAMA_ATTENTION], &[ROUTED]],
    ..HYBRID_EXPERTS
};
const DENSE: Family = Family {
    arch: "granite",
    parts: &[&[ENDS], &[NORMS], &[LLAMA_ATTENTION], &[FUSED]],
    ..HYBRID_EXPERTS
};
/// Without experts, yet with a number of experts to use: that decides the name.
const DENSE_AMONG_EXPERTS: Family = Family { arch: "granitemoe", ..DENSE };

const MAMBA: &[Rule] = &[
    with("model.layers.{b}.mamba.A_log", "ssm_a", How::ColumnDecay),
    with("model.layers.{b}.mamba.D", "ssm_d", How::Column),
    with("model.layers.{b}.mamba.conv1d", "ssm_conv1d", How::Squeezed),
    rule("model.layers.{b}.mamba.dt_bias", "ssm_dt.bias"),
    rule("model.layers.{b}.mamba.in_proj", "ssm_in"),
    with("model.layers.{b}.mamba.norm", "ssm_norm", How::Groups),
    rule("model.layers.{b}.mamba.out_proj", "ssm_out"),
];

const ROUTED: &[Rule] = &[
    with(INPUT, "ffn_gate_exps.weight", How::Half(0)),
    with(INPUT, "ffn_up_exps.weight", How::Half(1)),
    rule("model.layers.{b}.block_sparse_moe.output_linear", "ffn_down_exps"),
    rule("model.layers.{b}.block_sparse_moe.router.layer", "ffn_gate_inp"),
    with(SHARED_INPUT, "ffn_gate_shexp.weight", How::HalfRows(0)),
    with(SHARED_INPUT, "ffn_up_shexp.weight", How::HalfRows(1)),
    maybe("model.layers.{b}.shared_mlp.output_linear", "ffn_down_shexp"),
];

const FUSED: &[Rule] = &[
    with(SHARED_INPUT, "ffn_gate.weight", How::HalfRows(0)),
    with(SHARED_INPUT, "ffn_up.weight", How::HalfRows(1)),
    rule("model.layers.{b}.shared_mlp.output_linear", "ffn_down"),
];

/// Gate and up of all experts, and of the shared one.
const INPUT: &str = "model.layers.{b}.block_sparse_moe.input_linear.weight";
const SHARED_INPUT: &str = "model.layers.{b}.shared_mlp.input_linear.weight";
