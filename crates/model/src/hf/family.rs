//! The families that a config may be of: names, what transformers takes for keys left out, and the functions that state
//! metadata and name optional tensors. A family is a file beside this one and a line in [`FAMILIES`], or in
//! [`BY_CONFIG`] where the class alone does not tell. Deliberately absent: names of tensors in checkpoints.

use serde_json::Value;

use super::config::{Config, Object};
use super::error::{HfError, bad, short};
use super::keys::{Computed, Keys, nothing};
use super::names::{Names, asked_biases};
use super::{
    bert, deepseek2, gemma, gemma4, glm4, gpt_oss, granite, lfm2, llama, olmo2, phi3, qwen, qwen35,
};

/// A family of models.
pub struct Family {
    /// Its name in GGUF.
    pub arch: &'static str,
    /// Its classes, as `architectures` in a config names them.
    pub classes: &'static [&'static str],
    /// What `model_type` says in a config without classes.
    pub(super) model_types: &'static [&'static str],
    /// What transformers takes for keys that a config leaves out: numbers.
    pub defaults: &'static [(&'static str, f64)],
    /// Whether the unembedding is the embedding where the config does not say.
    pub(super) tied: bool,
    /// Activations of the feed-forward that the description means.
    pub(super) acts: &'static [&'static str],
    /// Ways to stretch rotary positions that it can follow beside those that all can.
    pub(super) stretched: &'static [&'static str],
    /// Settings that the description cannot follow when they are on.
    pub(super) off: &'static [&'static str],
    /// States the metadata of the architecture.
    pub keys: fn(&mut Keys) -> Result<(), HfError>,
    /// Tensors that are computed from the config: names and numbers.
    pub computed: fn(&mut Keys) -> Result<Computed, HfError>,
    /// Names the tensors that some models of the family have.
    pub(super) optional: fn(&Config, &mut Names) -> Result<(), HfError>,
}

/// What most families have. A family states what it has otherwise.
pub(super) const BASE: Family = Family {
    arch: "",
    classes: &[],
    model_types: &[],
    defaults: &[],
    tied: false,
    acts: &["silu"],
    stretched: &[],
    off: &["mlp_bias", "use_sliding_window"],
    keys: Keys::common,
    computed: nothing,
    optional: asked_biases,
};

/// All families whose class tells.
const FAMILIES: &[&Family] = &[
    &llama::LLAMA,
    &qwen::QWEN2,
    &qwen::QWEN3,
    &qwen::QWEN2MOE,
    &qwen::QWEN3MOE,
    &gemma::GEMMA2,
    &gemma::GEMMA3,
    &gemma4::GEMMA4,
    &gemma4::UNIFIED,
    &gemma4::ASSISTANT,
    &phi3::PHI3,
    &olmo2::OLMO2,
    &glm4::GLM4,
    &glm4::GLM4MOE,
    &llama::SMOLLM3,
    &llama::MISTRAL3,
    &deepseek2::DEEPSEEK2,
    &gpt_oss::GPT_OSS,
    &qwen35::QWEN3NEXT,
    &qwen35::QWEN35,
    &qwen35::QWEN35MOE,
    &lfm2::LFM2,
    &lfm2::LFM2MOE,
    &bert::BERT,
    &bert::XLM_ROBERTA,
    &bert::NOMIC_BERT,
    &granite::HYBRID,
];

/// Classes whose config tells which of several families a model is of.
const BY_CONFIG: &[(&[&str], Choose)] =
    &[(granite::HYBRID.classes, granite::of), (bert::NOMIC_BERT.classes, bert::nomic_of)];
type Choose = fn(&Object) -> &'static Family;

/// Keys that name the activation.
const ACTS: &[&str] = &["hidden_act", "hidden_activation", "activation_function"];

/// All families whose class tells.
pub fn families() -> impl Iterator<Item = &'static Family> {
    FAMILIES.iter().copied()
}

/// The family of a config, by the class that it names, else by its type.
///
/// # Errors
/// If it names neither, or one that is not in the table.
pub fn find<'a>(config: &'a Object) -> Result<&'static Family, HfError> {
    let of = |object: &'a Object| object.get("architectures")?.get(0)?.as_str();
    let text = config.get("text_config").and_then(Value::as_object);
    // Where a model is one of several, the text model's class tells.
    let class = text.and_then(of).or_else(|| of(config));
    let model_type = config.get("model_type").and_then(Value::as_str);
    let known = match (class, model_type) {
        (Some(class), _) => FAMILIES.iter().find(|f| f.classes.contains(&class)),
        (None, Some(model_type)) => FAMILIES.iter().find(|f| f.model_types.contains(&model_type)),
        (None, None) => {
            return Err(HfError::NotAConfig { found: "an object with neither".to_owned() });
        }
    };
    let known = known.ok_or_else(|| HfError::UnknownArchitecture {
        found: short(class.or(model_type).unwrap_or_default()),
        known: FAMILIES.iter().flat_map(|f| f.classes).copied().collect::<Vec<_>>().join(", "),
    })?;
    let by_config = BY_CONFIG.iter().find(|(classes, _)| *classes == known.classes);
    Ok(by_config.map_or(known, |(_, of)| of(config)))
}

impl Family {
    /// Whether the description means what a config says.
    pub(super) fn follows(&self, c: &Config) -> Result<(), HfError> {
        for key in ACTS {
            if let Some(act) = c.value(key).filter(|act| !self.acts.iter().any(|a| *act == a)) {
                let expected: Vec<String> = self.acts.iter().map(|a| format!("{a:?}")).collect();
                return Err(bad(key, &act.to_string(), &expected.join(" or ")));
            }
        }
        for key in self.off {
            if c.flag(key)? {
                return Err(bad(key, "true", "false"));
            }
        }
        let stretched = c.rope_type();
        let all_can = ["", "default", "dynamic", "linear", "yarn"].contains(&stretched);
        if !all_can && !self.stretched.contains(&stretched) {
            let mut known = vec!["default", "dynamic", "linear", "yarn"];
            known.extend(self.stretched);
            return Err(bad("rope_type", &format!("{stretched:?}"), &known.join(", ")));
        }
        Ok(())
    }

    /// Whether the unembedding is the embedding.
    pub(super) fn ties(&self, c: &Config) -> Result<bool, HfError> {
        c.flag_or("tie_word_embeddings", c.flag_or("tie_embedding", self.tied)?)
    }
}
