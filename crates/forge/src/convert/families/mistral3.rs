//! Mistral Small 3.1 and Ministral 3 (the language model of both): Llama's tensors, and attention that grows with the position.

use super::llama::{self, LLAMA};
use super::{DENSE, ENDS, Family, LLAMA_ATTENTION, NORMS};
use crate::convert::error::ConvertError;
use crate::convert::keys::Keys;

pub(super) const MISTRAL3: Family = Family {
    arch: "mistral3",
    classes: &["Mistral3ForConditionalGeneration", "Ministral3ForCausalLM"],
    defaults: &[("rope_theta", 1e4), ("rms_norm_eps", 1e-6), ("max_position_embeddings", 131072.0)],
    parts: &[&[ENDS], &[NORMS], &[LLAMA_ATTENTION], &[DENSE]],
    keys,
    pre: &["tekken"],
    ..LLAMA
};

fn keys(k: &mut Keys) -> Result<(), ConvertError> {
    llama::keys(k)?;
    if !k.is("model_type", "ministral3") {
        return Ok(());
    }
    if k.rope_type() != "yarn" {
        let found = k.rope_type().to_owned();
        return Err(k.bad("rope_type", &found, "yarn"));
    }
    for (key, name) in [
        ("mscale_all_dim", "rope.scaling.yarn_log_multiplier"),
        ("llama_4_scaling_beta", "attention.temperature_scale"),
    ] {
        let value = k.rope_float(key)?.ok_or_else(|| k.missing(key, "a number"))?;
        k.set(name, value as f32);
    }
    Ok(())
}
