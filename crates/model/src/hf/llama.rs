//! Llama, Mistral and Mixtral; SmolLM3, whose readers know which layers have no positions; Ministral 3 and the text models
//! of other Mistral 3.

use super::config::Config;
use super::error::{HfError, bad, missing};
use super::family::{BASE, Family};
use super::keys::{Computed, Keys};

pub(super) const LLAMA: Family = Family {
    arch: "llama",
    classes: &["LlamaForCausalLM", "LLaMAForCausalLM", "MistralForCausalLM", "MixtralForCausalLM"],
    model_types: &["llama", "mistral", "mixtral"],
    defaults: &[("rope_theta", 1e4), ("rms_norm_eps", 1e-6), ("max_position_embeddings", 2048.0)],
    stretched: LLAMA3,
    keys,
    computed: rope_factors,
    ..BASE
};

pub(super) const SMOLLM3: Family = Family {
    arch: "smollm3",
    classes: &["SmolLM3ForCausalLM"],
    model_types: &["smollm3"],
    defaults: &[("rope_theta", 2e6), ("rms_norm_eps", 1e-6), ("max_position_embeddings", 32768.0)],
    tied: true,
    keys: smollm3_keys,
    ..LLAMA
};

pub(super) const MISTRAL3: Family = Family {
    arch: "mistral3",
    classes: &["Mistral3ForConditionalGeneration", "Ministral3ForCausalLM"],
    model_types: &["mistral3", "ministral3"],
    defaults: &[("rope_theta", 1e4), ("rms_norm_eps", 1e-6), ("max_position_embeddings", 131072.0)],
    keys: mistral3_keys,
    ..LLAMA
};

/// Positions stretched by factors in a tensor.
const LLAMA3: &[&str] = &["llama3", "LLAMA3"];

fn keys(k: &mut Keys) -> Result<(), HfError> {
    // Mixtral's classes leave the head's length to be derived, the others state it.
    if k.text("model_type") != Some("mixtral") {
        let head = k.head_dim()?;
        k.assume("head_dim", head);
    }
    dimensions(k)
}

fn dimensions(k: &mut Keys) -> Result<(), HfError> {
    k.common()?;
    k.must("vocab_size", "vocab_size")?;
    let head = k.head_dim()?;
    k.set("rope.dimension_count", head);
    Ok(())
}

fn smollm3_keys(k: &mut Keys) -> Result<(), HfError> {
    dimensions(k)
}

fn mistral3_keys(k: &mut Keys) -> Result<(), HfError> {
    keys(k)?;
    if k.text("model_type") != Some("ministral3") {
        return Ok(());
    }
    if k.rope_type() != "yarn" {
        return Err(bad("rope_type", k.rope_type(), "yarn"));
    }
    for (key, name) in [
        ("mscale_all_dim", "rope.scaling.yarn_log_multiplier"),
        ("llama_4_scaling_beta", "attention.temperature_scale"),
    ] {
        let value = k.rope_float(key)?.ok_or_else(|| missing(key, "a number"))?;
        k.set(name, value as f32);
    }
    Ok(())
}

/// By what Llama 3 divides each frequency: one for short waves, the factor for long ones, and a smooth way between.
fn rope_factors(k: &mut Keys) -> Result<Computed, HfError> {
    if !k.rope_type().eq_ignore_ascii_case("llama3") {
        return Ok(Vec::new());
    }
    let number = |key: &str, default: f64| -> Result<f64, HfError> {
        Ok(Config::rope_float(k, key)?.unwrap_or(default))
    };
    let (base, factor) = (number("rope_theta", 1e4)?, number("factor", 8.0)?);
    let (low, high) = (number("low_freq_factor", 1.0)?, number("high_freq_factor", 4.0)?);
    let trained = number("original_max_position_embeddings", 8192.0)?;
    let head = k.head_dim()?;
    let of = |i: u32| {
        let exponent = f64::from(i as f32 / head as f32);
        let wave = (2.0 * std::f64::consts::PI) as f32 / (1.0 / base.powf(exponent) as f32);
        if f64::from(wave) < trained / high {
            return 1.0;
        }
        if f64::from(wave) > trained / low {
            return factor as f32;
        }
        let smooth = (trained as f32 / wave - low as f32) / (high - low) as f32;
        1.0 / ((1.0 - smooth) / factor as f32 + smooth)
    };
    Ok(vec![("rope_freqs.weight", (0..head).step_by(2).map(of).collect())])
}
