//! Granite 4: Mamba-2 and attention without positions, with experts and a shared one or with a dense feed-forward. Models
//! of the same class without any Mamba-2 are Granites of the older kinds, with positions.

use super::{BASE, ENDS, Family, How, LLAMA_ATTENTION, NORMS, Rule, maybe, rule, with};
use crate::convert::error::ConvertError;
use crate::convert::folder::Object;
use crate::convert::keys::Keys;
use serde_json::Value;

pub(super) const CLASSES: &[&str] = &["GraniteMoeHybridForCausalLM"];
/// The context that is stated where positions play no part.
const UNBOUNDED: u32 = 1 << 20;

/// The family of a config.
pub(super) fn of(config: &Object) -> &'static Family {
    let kinds = config.get("layer_types").and_then(Value::as_array);
    let attention = |kind: &Value| kind.as_str().is_some_and(|kind| !is_mamba(kind));
    let count = |key: &str| config.get(key).and_then(Value::as_u64).unwrap_or(0);
    let hybrid = kinds.is_none_or(|kinds| !kinds.iter().all(attention));
    match (hybrid, count("num_local_experts") > 0, count("num_experts_per_tok") > 0) {
        (true, true, _) => &HYBRID_EXPERTS,
        (true, false, _) => &HYBRID_DENSE,
        (false, true, _) => &EXPERTS,
        (false, false, true) => &DENSE_AMONG_EXPERTS,
        (false, false, false) => &DENSE,
    }
}

const HYBRID_EXPERTS: Family = Family {
    arch: "granitehybrid",
    classes: CLASSES,
    parts: &[&[ENDS], &[NORMS], &[MAMBA, LLAMA_ATTENTION], &[ROUTED]],
    keys,
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

/// Whether a layer of this kind is a Mamba-2: as published, and as newer tools name it.
fn is_mamba(kind: &str) -> bool {
    ["mamba", "linear_attention"].contains(&kind)
}

fn keys(k: &mut Keys) -> Result<(), ConvertError> {
    k.forget("head_dim");
    k.common()?;
    k.must("vocab_size", "vocab_size")?;
    k.set("rope.dimension_count", k.head_dim()?);
    for (key, name) in [
        ("attention_multiplier", "attention.scale"),
        ("embedding_multiplier", "embedding_scale"),
        ("residual_multiplier", "residual_scale"),
        ("logits_scaling", "logit_scale"),
    ] {
        if let Some(factor) = k.float(key)?.filter(|factor| *factor != 0.0) {
            k.set(name, factor as f32);
        }
    }
    if k.count("shared_intermediate_size")?.is_some_and(|length| length > 0) {
        k.must("shared_intermediate_size", "expert_shared_feed_forward_length")?;
    }
    k.must("mamba_d_conv", "ssm.conv_kernel")?;
    k.must("mamba_d_state", "ssm.state_size")?;
    k.must("mamba_n_groups", "ssm.group_count")?;
    let inner = k.need_count("mamba_expand")?.saturating_mul(k.need_count("hidden_size")?);
    k.set("ssm.inner_size", inner);
    k.must("mamba_n_heads", "ssm.time_step_rank")?;
    let types = k.layer_types()?.ok_or_else(|| k.missing("layer_types", "a list of kinds"))?;
    let mamba: Vec<bool> = types.iter().map(|kind| is_mamba(kind)).collect();
    let heads = k.need_count("num_key_value_heads")? as i32;
    let heads = mamba.iter().map(|mamba| if *mamba { 0 } else { heads });
    k.set("attention.head_count_kv", heads.collect::<Vec<i32>>());
    let hybrid = mamba.contains(&true);
    k.set("rope.scaling.finetuned", !hybrid);
    if hybrid {
        k.set("context_length", UNBOUNDED);
    }
    Ok(())
}
