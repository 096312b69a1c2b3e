//! OLMo 2 and 3: norms after attention and feed-forward instead of before.

use super::{ATTENTION, BASE, DENSE, ENDS, Family, HEAD_NORMS, Kind, Rule, Tokens, rule};
use crate::convert::error::ConvertError;
use crate::convert::keys::{Keys, nothing};

pub(super) const OLMO2: Family = Family {
    arch: "olmo2",
    classes: &["Olmo2ForCausalLM", "Olmo3ForCausalLM"],
    defaults: &[("rope_theta", 1e4), ("rms_norm_eps", 1e-5), ("max_position_embeddings", 2048.0)],
    parts: &[&[ENDS], &[NORMS], &[HEAD_NORMS], &[ATTENTION], &[DENSE]],
    keys,
    computed: nothing,
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

fn keys(k: &mut Keys) -> Result<(), ConvertError> {
    k.common()?;
    if let Some(window) = k.count("sliding_window")? {
        k.set("attention.sliding_window", window);
        let layers = k.need_count("num_hidden_layers")?;
        let pattern: Vec<bool> = match k.strings("layer_types")? {
            Some(types) => types.iter().map(|t| t == "sliding_attention").collect(),
            None => (1..=layers).map(|i| i % 4 != 0).collect(),
        };
        k.set("attention.sliding_window_pattern", pattern);
    }
    Ok(())
}
