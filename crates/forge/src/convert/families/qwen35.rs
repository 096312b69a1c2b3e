//! Qwen3-Next and Qwen3.5 (dense and with experts): gated delta-nets and, in every fourth layer, gated attention. The layer
//! that predicts further tokens is written behind the trunk if the checkpoint has one. Deliberately absent: the tower
//! for images.

use super::qwen_moe::{ROUTER, SHARED, STACKED};
use super::{BASE, DENSE, EXPERTS, Family, How, Rule, Tile, maybe, rule, with};
use crate::convert::error::ConvertError;
use crate::convert::folder::Folder;
use hob_model::hf::Keys;

pub(super) const QWEN3NEXT: Family = Family {
    arch: "qwen3next",
    parts: &[
        &[ENDS],
        &[NORMS],
        &[FUSED_DELTA, GATED],
        &[ROUTER, DENSE],
        &[EXPERTS, STACKED, DENSE],
        &[SHARED, DENSE],
    ],
    joint: JOINT,
    rename,
    predicted,
    pre: &["qwen2"],
    ..BASE
};

pub(super) const QWEN35: Family = Family {
    arch: "qwen35",
    parts: &[&[ENDS], &[NORMS], &[DELTA, GATED], &[DENSE]],
    pre: &["qwen35"],
    ..QWEN3NEXT
};

pub(super) const QWEN35MOE: Family = Family {
    arch: "qwen35moe",
    parts: &[&[ENDS], &[NORMS], &[DELTA, GATED], &[ROUTER], &[EXPERTS, STACKED], &[SHARED]],
    ..QWEN35
};

const ENDS: &[Rule] = &[
    rule("model.embed_tokens", "token_embd"),
    with("model.norm", "output_norm", How::PlusOne),
    maybe("lm_head", "output"),
];

const NORMS: &[Rule] = &[
    with("model.layers.{b}.input_layernorm", "attn_norm", How::PlusOne),
    with("model.layers.{b}.post_attention_layernorm", "post_attention_norm", How::PlusOne),
];

const GATED: &[Rule] = &[
    rule("model.layers.{b}.self_attn.q_proj", "attn_q"),
    rule("model.layers.{b}.self_attn.k_proj", "attn_k"),
    rule("model.layers.{b}.self_attn.v_proj", "attn_v"),
    rule("model.layers.{b}.self_attn.o_proj", "attn_output"),
    with("model.layers.{b}.self_attn.q_norm", "attn_q_norm", How::PlusOne),
    with("model.layers.{b}.self_attn.k_norm", "attn_k_norm", How::PlusOne),
];

/// Qwen3-Next: inputs of a key head together, value heads as they are.
const FUSED_DELTA: &[Rule] = &[
    with("model.layers.{b}.linear_attn.A_log", "ssm_a", How::Decay),
    rule("model.layers.{b}.linear_attn.dt_bias", "ssm_dt.bias"),
    with("model.layers.{b}.linear_attn.conv1d", "ssm_conv1d", How::Squeezed),
    rule("model.layers.{b}.linear_attn.norm", "ssm_norm"),
    rule("model.layers.{b}.linear_attn.in_proj_ba", "ssm_ba"),
    with("model.layers.{b}.linear_attn.in_proj_qkvz.weight", "attn_qkv.weight", How::DeltaInput),
    with("model.layers.{b}.linear_attn.in_proj_qkvz.weight", "attn_gate.weight", How::DeltaGate),
    rule("model.layers.{b}.linear_attn.out_proj", "ssm_out"),
];

/// Qwen3.5: all that belongs to value heads is put in tiled order.
const DELTA: &[Rule] = &[
    with("model.layers.{b}.linear_attn.A_log", "ssm_a", How::TiledDecay),
    with("model.layers.{b}.linear_attn.dt_bias", "ssm_dt.bias", How::Tiled(Tile::Each)),
    with("model.layers.{b}.linear_attn.conv1d", "ssm_conv1d", How::Tiled(Tile::Tail)),
    rule("model.layers.{b}.linear_attn.norm", "ssm_norm"),
    with("model.layers.{b}.linear_attn.in_proj_a", "ssm_alpha", How::Tiled(Tile::Each)),
    with("model.layers.{b}.linear_attn.in_proj_b", "ssm_beta", How::Tiled(Tile::Each)),
    with("model.layers.{b}.linear_attn.in_proj_qkv", "attn_qkv", How::Tiled(Tile::Tail)),
    with("model.layers.{b}.linear_attn.in_proj_z", "attn_gate", How::Tiled(Tile::Rows)),
    with("model.layers.{b}.linear_attn.out_proj", "ssm_out", How::Tiled(Tile::Columns)),
];

const JOINT: &[Rule] = &[
    rule("model.layers.{b}.eh_proj", "nextn.eh_proj"),
    with("model.layers.{b}.enorm", "nextn.enorm", How::PlusOne),
    with("model.layers.{b}.hnorm", "nextn.hnorm", How::PlusOne),
    with("model.layers.{b}.shared_head.norm", "nextn.shared_head_norm", How::PlusOne),
];

/// Names of tensors that join the predicting layer, and those that GLM and DeepSeek give them.
const JOINTS: &[(&str, &str)] = &[
    ("fc", "eh_proj"),
    ("pre_fc_norm_embedding", "enorm"),
    ("pre_fc_norm_hidden", "hnorm"),
    ("norm", "shared_head.norm"),
];

/// Predicting layers count on from the trunk's.
fn rename(name: String, layers: u64) -> String {
    let Some(rest) = of_prediction(&name) else { return name };
    if let Some((layer, rest)) = in_layer(rest) {
        return format!("model.layers.{}.{rest}", layers.saturating_add(layer));
    }
    let joint = JOINTS.iter().find_map(|(from, to)| Some((to, rest.strip_prefix(from)?)));
    match joint.filter(|(_, end)| end.starts_with('.')) {
        Some((to, end)) => format!("model.layers.{layers}.{to}{end}"),
        None => name,
    }
}

fn of_prediction(name: &str) -> Option<&str> {
    name.strip_prefix("model.").unwrap_or(name).strip_prefix("mtp.")
}

/// The layer in a name, and what comes after it.
fn in_layer(name: &str) -> Option<(u64, &str)> {
    let (layer, rest) = name.strip_prefix("layers.")?.split_once('.')?;
    Some((layer.parse().ok()?, rest))
}

/// As many predicting layers as the config says, else as there are; none in a checkpoint without their tensors.
fn predicted(k: &Keys, folder: &Folder) -> Result<u32, ConvertError> {
    let layer = |name: &str| {
        let (layer, _) = in_layer(of_prediction(&name.replace("language_model.", ""))?)?;
        u32::try_from(layer).ok()
    };
    let last = folder.tensors().filter_map(|(_, tensor)| layer(&tensor.name)).max();
    let Some(last) = last else { return Ok(0) };
    let said = k.count("mtp_num_hidden_layers")?.filter(|layers| *layers > 0);
    Ok(said.unwrap_or(last.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predicting_layers_count_on() {
        let renamed = |name: &str| rename(name.to_owned(), 40);
        assert_eq!(renamed("mtp.layers.0.mlp.gate.weight"), "model.layers.40.mlp.gate.weight");
        assert_eq!(renamed("model.mtp.fc.weight"), "model.layers.40.eh_proj.weight");
        assert_eq!(renamed("mtp.norm.weight"), "model.layers.40.shared_head.norm.weight");
        for other in ["mtp.normal.weight", "mtp.layers.x.mlp.gate.weight", "model.norm.weight"] {
            assert_eq!(renamed(other), other);
        }
    }
}
