//! From a config to GGUF's metadata: what is stated under GGUF's names, in the order of llama.cpp's
//! `convert_hf_to_gguf.py`, so that a planner's header and a converter's are one. Deliberately absent: which keys a
//! family has; that is its own function.

use std::ops::{Deref, DerefMut};

use hob_gguf::{MetaBuilder, MetaValue};

use super::config::{Config, Object};
use super::error::{HfError, bad, missing};

/// Names in a config for one number, the first that is there counts, and its key in GGUF.
type Table = &'static [(&'static [&'static str], &'static str)];

const COUNTS: Table = &[
    (&["max_position_embeddings"], "context_length"),
    (&["hidden_size"], "embedding_length"),
    (&["intermediate_size"], "feed_forward_length"),
    (&["num_attention_heads"], "attention.head_count"),
    (&["num_key_value_heads"], "attention.head_count_kv"),
];
/// The same, after what rope needs.
const EXPERTS: Table = &[
    (&["num_local_experts", "num_experts", "n_routed_experts"], "expert_count"),
    (&["num_experts_per_tok", "num_experts_per_token", "top_k_experts"], "expert_used_count"),
    (&["n_group"], "expert_group_count"),
    (&["topk_group"], "expert_group_used_count"),
];
/// Numbers of YaRN.
const YARN: Table = &[
    (&["extrapolation_factor"], "rope.scaling.yarn_ext_factor"),
    (&["attention_factor", "attn_factor"], "rope.scaling.yarn_attn_factor"),
    (&["beta_fast"], "rope.scaling.yarn_beta_fast"),
    (&["beta_slow"], "rope.scaling.yarn_beta_slow"),
];

/// Tensors that are in no checkpoint: names and numbers.
pub type Computed = Vec<(&'static str, Vec<f32>)>;

/// How an encoder's vectors become one, which other files than the config say.
#[derive(Clone, Debug, Default)]
pub enum Pooling {
    /// Nothing is said.
    #[default]
    None,
    /// Its number in GGUF.
    Number(u32),
    /// One that GGUF has no number for: an error for models that need it, nothing for others.
    Other(String),
}

/// A config and what is stated of it.
pub struct Keys {
    arch: &'static str,
    config: Config,
    /// What `general.file_type` says, if that is known.
    pub file_type: Option<u32>,
    /// Layers beyond the trunk, which predict further tokens.
    pub predicted: u32,
    /// How an encoder's vectors become one.
    pub pooling: Pooling,
    /// Tokens that are never to be given.
    pub suppressed: Vec<i32>,
    /// Keys stated.
    pub meta: MetaBuilder,
}

impl Deref for Keys {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.config
    }
}

impl DerefMut for Keys {
    fn deref_mut(&mut self) -> &mut Config {
        &mut self.config
    }
}

/// For families without computed tensors.
///
/// # Errors
/// Never.
pub fn nothing(_: &mut Keys) -> Result<Computed, HfError> {
    Ok(Vec::new())
}

impl Keys {
    /// Takes the text model's part of a config, and numbers for keys that it leaves out; `arch` is the name in GGUF, and `meta`
    /// has the keys before those of the architecture.
    ///
    /// # Errors
    /// If the number of layers or the rotary positions make no sense.
    pub fn new(
        arch: &'static str,
        defaults: &[(&str, f64)],
        config: &Object,
        meta: MetaBuilder,
    ) -> Result<Self, HfError> {
        let config = Config::new(config, defaults)?;
        let (file_type, predicted, pooling) = (None, 0, Pooling::None);
        Ok(Keys { arch, config, file_type, predicted, pooling, suppressed: Vec::new(), meta })
    }

    /// States what nearly all families have.
    pub fn common(&mut self) -> Result<(), HfError> {
        self.block_count()?;
        self.counts(COUNTS)?;
        self.rope_scaling()?;
        self.rope_sections()?;
        self.rope_base()?;
        if let Some(base) = self.rope_local() {
            self.set("rope.freq_base_swa", base as f32);
        }
        let eps = if self.has("rms_norm_eps") { "rms_norm_eps" } else { "norm_eps" };
        self.copy_float(eps, "attention.layer_norm_rms_epsilon")?;
        self.copy_float("layer_norm_eps", "attention.layer_norm_epsilon")?;
        self.counts(EXPERTS)?;
        match self.text("scoring_func") {
            Some("softmax") => self.set("expert_gating_func", 1u32),
            Some("sigmoid") => self.set("expert_gating_func", 2u32),
            Some(other) => return Err(bad("scoring_func", other, "softmax or sigmoid")),
            None => {}
        }
        self.copy("head_dim", "attention.key_length")?;
        self.copy("head_dim", "attention.value_length")?;
        self.file_type();
        Ok(())
    }

    fn counts(&mut self, table: Table) -> Result<(), HfError> {
        for (keys, name) in table {
            if let Some(key) = keys.iter().find(|key| self.has(key)) {
                self.copy(key, name)?;
            }
        }
        Ok(())
    }

    fn rope_scaling(&mut self) -> Result<(), HfError> {
        let factor = self.rope_float("factor")?.map(|factor| factor as f32);
        let need = || factor.ok_or_else(|| missing("factor", "a number"));
        match self.rope_type().to_owned().as_str() {
            "linear" => {
                self.set("rope.scaling.type", "linear");
                self.set("rope.scaling.factor", need()?);
            }
            "yarn" => {
                self.set("rope.scaling.type", "yarn");
                self.set("rope.scaling.factor", need()?);
                self.yarn()?;
            }
            "su" | "longrope" => self.set("rope.scaling.type", "longrope"),
            // Stretched by a tensor, or beyond the trained context only.
            "" | "default" | "dynamic" | "proportional" => {}
            found if found.eq_ignore_ascii_case("llama3") => {}
            found => {
                let known = "default, linear, yarn, longrope, llama3, proportional or dynamic";
                return Err(bad("rope_type", found, known));
            }
        }
        Ok(())
    }

    fn yarn(&mut self) -> Result<(), HfError> {
        let key = "original_max_position_embeddings";
        let trained = self.rope_float(key)?.ok_or_else(|| missing(key, "a whole number"))?;
        self.set("rope.scaling.original_context_length", trained as u32);
        for (keys, name) in YARN {
            let key = keys.iter().find(|key| self.rope_has(key));
            if let Some(value) = key.map(|key| self.rope_float(key)).transpose()?.flatten() {
                self.set(name, value as f32);
            }
        }
        Ok(())
    }

    /// States how rotary pairs are shared out among time, height and width.
    fn rope_sections(&mut self) -> Result<(), HfError> {
        let Some(sections) = self.rope_floats("mrope_section")? else { return Ok(()) };
        let mut sections: Vec<i32> = sections.into_iter().map(|n| n as i32).collect();
        sections.resize(4, 0);
        self.set("rope.dimension_sections", sections);
        Ok(())
    }

    /// States the rotary base.
    pub fn rope_base(&mut self) -> Result<(), HfError> {
        if let Some(base) = self.rope_float("rope_theta")? {
            self.set("rope.freq_base", base as f32);
        }
        Ok(())
    }

    /// States the number of layers.
    pub fn block_count(&mut self) -> Result<(), HfError> {
        let layers = self.layers()?;
        self.set("block_count", layers + self.predicted);
        Ok(())
    }

    /// States what most tensors are.
    pub fn file_type(&mut self) {
        if let Some(file_type) = self.file_type {
            self.meta.insert("general.file_type", file_type);
        }
    }

    /// States how an encoder's vectors become one, if a file says it.
    pub fn pooling(&mut self) -> Result<(), HfError> {
        match &self.pooling {
            Pooling::None => {}
            Pooling::Number(number) => self.set("pooling_type", *number),
            Pooling::Other(found) => {
                let found = found.chars().take(200).collect();
                return Err(HfError::Pooling { found });
            }
        }
        Ok(())
    }

    /// States tokens that are never to be given, if there are some.
    pub fn suppressed(&mut self) {
        if !self.suppressed.is_empty() {
            let tokens = std::mem::take(&mut self.suppressed);
            self.meta.insert("tokenizer.ggml.suppress_tokens", tokens);
        }
    }

    /// States layers that predict further tokens, if there are some.
    pub fn prediction(&mut self) {
        if self.predicted > 0 {
            self.set("nextn_predict_layers", self.predicted);
        }
    }

    /// States a key of the architecture.
    pub fn set(&mut self, key: &str, value: impl MetaValue) {
        self.meta.insert(&format!("{}.{key}", self.arch), value);
    }

    /// States a whole number, if the config has it.
    pub fn copy(&mut self, key: &str, name: &str) -> Result<(), HfError> {
        if let Some(n) = self.count(key)? {
            self.set(name, n);
        }
        Ok(())
    }

    /// States a number, if the config has it.
    pub fn copy_float(&mut self, key: &str, name: &str) -> Result<(), HfError> {
        if let Some(x) = self.float(key)? {
            self.set(name, x as f32);
        }
        Ok(())
    }

    /// States a whole number that must be there.
    pub fn must(&mut self, key: &str, name: &str) -> Result<(), HfError> {
        let n = self.need_count(key)?;
        self.set(name, n);
        Ok(())
    }

    /// States a number that must be there.
    pub fn must_float(&mut self, key: &str, name: &str) -> Result<(), HfError> {
        let x = self.float(key)?.ok_or_else(|| missing(key, "a number"))?;
        self.set(name, x as f32);
        Ok(())
    }
}
