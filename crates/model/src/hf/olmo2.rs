//! OLMo 2 and 3: q and k normed, windows in three of four layers of the third generation.

use super::error::HfError;
use super::family::{BASE, Family};
use super::keys::Keys;
use super::names::{HEAD_NORMS, asked_biases};

pub(super) const OLMO2: Family = Family {
    arch: "olmo2",
    classes: &["Olmo2ForCausalLM", "Olmo3ForCausalLM"],
    model_types: &["olmo2", "olmo3"],
    defaults: &[("rope_theta", 1e4), ("rms_norm_eps", 1e-5), ("max_position_embeddings", 2048.0)],
    keys,
    optional: |c, names| {
        names.layers(0..c.layers()?, HEAD_NORMS);
        asked_biases(c, names)
    },
    ..BASE
};

fn keys(k: &mut Keys) -> Result<(), HfError> {
    k.common()?;
    if let Some(window) = k.count("sliding_window")? {
        k.set("attention.sliding_window", window);
        let pattern: Vec<bool> = match k.strings("layer_types")? {
            Some(types) => types.iter().map(|t| t == "sliding_attention").collect(),
            None => (1..=k.layers()?).map(|i| i % 4 != 0).collect(),
        };
        k.set("attention.sliding_window_pattern", pattern);
    }
    Ok(())
}
