//! Names of the tensors on whose presence a description depends: what a planner knows before there is a file. Parts that
//! every model of a family has need no name here.

use std::ops::Range;

use super::config::Config;
use super::error::{HfError, bad};

/// Names of optional tensors, as they are collected.
#[derive(Default)]
pub struct Names(Vec<String>);

impl Names {
    /// A tensor outside the layers.
    pub(super) fn global(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    /// These tensors of a layer.
    pub(super) fn layer(&mut self, layer: u32, names: &[&str]) {
        self.0.extend(names.iter().map(|name| format!("blk.{layer}.{name}")));
    }

    /// These tensors of each of some layers.
    pub(super) fn layers(&mut self, layers: Range<u32>, names: &[&str]) {
        layers.for_each(|layer| self.layer(layer, names));
    }

    pub(super) fn into_list(self) -> Vec<String> {
        self.0
    }
}

/// Biases of query, key and value.
pub(super) const QKV_BIASES: &[&str] = &["attn_q.bias", "attn_k.bias", "attn_v.bias"];
/// Norms of query and key.
pub(super) const HEAD_NORMS: &[&str] = &["attn_q_norm.weight", "attn_k_norm.weight"];

/// Biases of query, key, value and output, if the config asks for them.
pub(super) fn asked_biases(c: &Config, names: &mut Names) -> Result<(), HfError> {
    if c.flag("attention_bias")? {
        names.layers(0..c.layers()?, QKV_BIASES);
        names.layers(0..c.layers()?, &["attn_output.bias"]);
    }
    Ok(())
}

/// That each layer has experts.
pub(super) fn experts_everywhere(c: &Config) -> Result<(), HfError> {
    for key in ["decoder_sparse_step", "moe_layer_freq"] {
        if let Some(step) = c.count(key)?.filter(|&step| step != 1) {
            return Err(bad(key, &step.to_string(), "1"));
        }
    }
    match c.counts_of("mlp_only_layers")?.filter(|dense| !dense.is_empty()) {
        Some(dense) => Err(bad("mlp_only_layers", &format!("{dense:?}"), "an empty list")),
        None => Ok(()),
    }
}
