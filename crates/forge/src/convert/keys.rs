//! From a checkpoint's `config.json` to GGUF's metadata: values are looked up with what transformers would take for a key
//! left out, and stated under GGUF's names in the order of the ecosystem's converter. The config is a stranger's: numbers
//! are checked when they are read. Deliberately absent: which keys a family has; that is its own function.

use hob_gguf::{MetaBuilder, MetaValue};
use serde_json::Value;

use super::error::ConvertError;
use super::families::{Computed, Family};
use super::folder::{Folder, Object};
use super::pooling::Pooling;

/// Most layers that any model may have.
const MAX_LAYERS: u32 = 1024;

/// Names in a config for one number, the first that is there counts, and its key in GGUF.
const COUNTS: &[(&[&str], &str)] = &[
    (&["max_position_embeddings"], "context_length"),
    (&["hidden_size"], "embedding_length"),
    (&["intermediate_size"], "feed_forward_length"),
    (&["num_attention_heads"], "attention.head_count"),
    (&["num_key_value_heads"], "attention.head_count_kv"),
];
/// The same, after what rope needs.
const EXPERTS: &[(&[&str], &str)] = &[
    (&["num_local_experts", "num_experts", "n_routed_experts"], "expert_count"),
    (&["num_experts_per_tok", "num_experts_per_token", "top_k_experts"], "expert_used_count"),
    (&["n_group"], "expert_group_count"),
    (&["topk_group"], "expert_group_used_count"),
];
/// Numbers of YaRN: names in a config, and the key in GGUF.
const YARN: &[(&[&str], &str)] = &[
    (&["extrapolation_factor"], "rope.scaling.yarn_ext_factor"),
    (&["attention_factor", "attn_factor"], "rope.scaling.yarn_attn_factor"),
    (&["beta_fast"], "rope.scaling.yarn_beta_fast"),
    (&["beta_slow"], "rope.scaling.yarn_beta_slow"),
];

/// Ways to stretch rotary positions that can be followed.
const ROPE_TYPES: &str =
    "default, linear, yarn (both with a factor), longrope, llama3, proportional or dynamic";

/// Older names of keys, and those that count before them.
const OLDER: &[(&str, &str)] = &[
    ("n_layer", "num_hidden_layers"),
    ("n_head", "num_attention_heads"),
    ("n_embd", "hidden_size"),
    ("n_inner", "intermediate_size"),
    ("layer_norm_epsilon", "layer_norm_eps"),
    ("rotary_emb_base", "rope_theta"),
];

/// A config on its way to metadata.
pub(super) struct Keys {
    family: &'static Family,
    config: Object,
    /// Rotary positions: of all layers, or of those with full attention.
    rope: Object,
    /// The rotary base of layers with a window, where it is another.
    rope_local: Option<f64>,
    /// What `general.file_type` says.
    pub file_type: u32,
    /// Layers beyond the trunk, which predict further tokens.
    pub predicted: u32,
    /// How an encoder's vectors become one.
    pooling: Pooling,
    /// Tokens that are never to be given.
    suppressed: Vec<i32>,
    /// Keys stated.
    pub meta: MetaBuilder,
}

/// For families without computed tensors.
pub(super) fn nothing(_: &mut Keys) -> Result<Computed, ConvertError> {
    Ok(Vec::new())
}

impl Keys {
    /// Takes the text model's part of a config. `meta` has the keys before those of the architecture.
    pub fn new(
        family: &'static Family,
        config: &Object,
        meta: MetaBuilder,
    ) -> Result<Self, ConvertError> {
        let mut config = config.clone();
        if let Some(Value::Object(text)) = config.get("text_config").cloned() {
            config.extend(text);
        }
        config.retain(|_, value| !value.is_null());
        for (older, key) in OLDER {
            if let (None, Some(value)) = (config.get(*key), config.get(*older).cloned()) {
                config.insert((*key).to_owned(), value);
            }
        }
        for (key, value) in family.defaults {
            config.entry(*key).or_insert_with(|| (*value).into());
        }
        // Without groups every head has its own key and value.
        if let (None, Some(heads)) =
            (config.get("num_key_value_heads"), config.get("num_attention_heads").cloned())
        {
            config.insert("num_key_value_heads".to_owned(), heads);
        }
        let (rope, rope_local) = rope(&config);
        let keys = Keys {
            family,
            config,
            rope,
            rope_local,
            file_type: 0,
            predicted: 0,
            pooling: Pooling::None,
            suppressed: Vec::new(),
            meta,
        };
        let layers = keys.need_count("num_hidden_layers")?;
        if layers > MAX_LAYERS {
            return Err(keys.bad("num_hidden_layers", &layers.to_string(), "at most 1024"));
        }
        Ok(keys)
    }

    /// Takes what other files than the config tell.
    pub fn look(&mut self, folder: &Folder) -> Result<(), ConvertError> {
        self.predicted = (self.family.predicted)(self, folder)?;
        if self.predicted > MAX_LAYERS {
            let found = self.predicted.to_string();
            return Err(self.bad("num_nextn_predict_layers", &found, "at most 1024"));
        }
        self.pooling = Pooling::of(folder)?;
        // A damaged recommendation is none.
        let generation = folder.json("generation_config.json").ok().flatten().unwrap_or_default();
        let list = generation.get("suppress_tokens").and_then(Value::as_array);
        let token = |token: &Value| token.as_i64().and_then(|token| i32::try_from(token).ok());
        self.suppressed = list.into_iter().flatten().filter_map(token).collect();
        Ok(())
    }

    /// States what nearly all families have.
    pub fn common(&mut self) -> Result<(), ConvertError> {
        self.layers();
        self.counts(COUNTS)?;
        self.rope_scaling()?;
        self.rope_sections()?;
        self.rope_base()?;
        if let Some(base) = self.rope_local {
            self.set("rope.freq_base_swa", base as f32);
        }
        let eps =
            if self.config.contains_key("rms_norm_eps") { "rms_norm_eps" } else { "norm_eps" };
        self.copy_float(eps, "attention.layer_norm_rms_epsilon")?;
        self.copy_float("layer_norm_eps", "attention.layer_norm_epsilon")?;
        self.counts(EXPERTS)?;
        match self.config.get("scoring_func").and_then(Value::as_str) {
            Some("softmax") => self.set("expert_gating_func", 1u32),
            Some("sigmoid") => self.set("expert_gating_func", 2u32),
            Some(other) => return Err(self.bad("scoring_func", other, "softmax or sigmoid")),
            None => {}
        }
        self.copy("head_dim", "attention.key_length")?;
        self.copy("head_dim", "attention.value_length")?;
        self.file_type();
        Ok(())
    }

    fn counts(&mut self, table: &[(&[&str], &str)]) -> Result<(), ConvertError> {
        for (keys, name) in table {
            let key = keys.iter().find(|key| self.config.contains_key(**key));
            if let Some(key) = key {
                self.copy(key, name)?;
            }
        }
        Ok(())
    }

    fn rope_scaling(&mut self) -> Result<(), ConvertError> {
        let factor = self.rope_float("factor")?;
        match (self.rope_type().to_owned().as_str(), factor) {
            ("linear", Some(factor)) => {
                self.set("rope.scaling.type", "linear");
                self.set("rope.scaling.factor", factor as f32);
            }
            ("yarn", Some(factor)) => {
                self.set("rope.scaling.type", "yarn");
                self.set("rope.scaling.factor", factor as f32);
                let key = "original_max_position_embeddings";
                let trained = self.rope_float(key)?;
                let trained = trained.ok_or_else(|| self.missing(key, "a whole number"))?;
                self.set("rope.scaling.original_context_length", trained as u32);
                for (keys, name) in YARN {
                    let key = keys.iter().find(|key| self.rope.contains_key(**key));
                    if let Some(value) = key.map(|key| self.rope_float(key)).transpose()?.flatten()
                    {
                        self.set(name, value as f32);
                    }
                }
            }
            ("su" | "longrope", _) => self.set("rope.scaling.type", "longrope"),
            // Stretched by a tensor, or beyond the trained context only.
            ("" | "default" | "dynamic" | "proportional", _) => {}
            (found, _) if found.eq_ignore_ascii_case("llama3") => {}
            (found, _) => return Err(self.bad("rope_type", found, ROPE_TYPES)),
        }
        Ok(())
    }

    /// States how rotary pairs are shared out among time, height and width.
    fn rope_sections(&mut self) -> Result<(), ConvertError> {
        let Some(sections) = self.rope_floats("mrope_section")? else { return Ok(()) };
        let mut sections: Vec<i32> = sections.into_iter().map(|n| n as i32).collect();
        sections.resize(4, 0);
        self.set("rope.dimension_sections", sections);
        Ok(())
    }

    /// States the rotary base.
    pub fn rope_base(&mut self) -> Result<(), ConvertError> {
        if let Some(base) = self.rope_float("rope_theta")? {
            self.set("rope.freq_base", base as f32);
        }
        Ok(())
    }

    /// States the number of layers.
    pub fn layers(&mut self) {
        let layers = self.count("num_hidden_layers").ok().flatten().unwrap_or(0);
        self.set("block_count", layers + self.predicted);
    }

    /// States what most tensors are.
    pub fn file_type(&mut self) {
        self.meta.insert("general.file_type", self.file_type);
    }

    /// States a key of the architecture.
    pub fn set(&mut self, key: &str, value: impl MetaValue) {
        self.meta.insert(&format!("{}.{key}", self.family.arch), value);
    }

    /// States a whole number, if the config has it.
    pub fn copy(&mut self, key: &str, name: &str) -> Result<(), ConvertError> {
        if let Some(n) = self.count(key)? {
            self.set(name, n);
        }
        Ok(())
    }

    /// States a number, if the config has it.
    pub fn copy_float(&mut self, key: &str, name: &str) -> Result<(), ConvertError> {
        if let Some(x) = self.float(key)? {
            self.set(name, x as f32);
        }
        Ok(())
    }

    /// States a whole number that must be there.
    pub fn must(&mut self, key: &str, name: &str) -> Result<(), ConvertError> {
        let n = self.need_count(key)?;
        self.set(name, n);
        Ok(())
    }

    /// States a number that must be there.
    pub fn must_float(&mut self, key: &str, name: &str) -> Result<(), ConvertError> {
        let x = self.float(key)?.ok_or_else(|| self.missing(key, "a number"))?;
        self.set(name, x as f32);
        Ok(())
    }

    /// Gives a value to a key that the config left out.
    pub fn assume(&mut self, key: &str, value: u32) {
        self.config.entry(key).or_insert_with(|| value.into());
    }

    /// Gives a key another value than the config's.
    pub fn overrule(&mut self, key: &str, value: u32) {
        self.config.insert(key.to_owned(), value.into());
    }

    /// Takes a key as not being there.
    pub fn forget(&mut self, key: &str) {
        self.config.remove(key);
    }

    /// States how an encoder's vectors become one, if a file says it.
    pub fn pooling(&mut self) -> Result<(), ConvertError> {
        if let Some(number) = self.pooling.number()? {
            self.set("pooling_type", number);
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

    /// Whether a key has this text.
    pub fn is(&self, key: &str, text: &str) -> bool {
        self.config.get(key).and_then(Value::as_str) == Some(text)
    }

    /// Whether a key is there and true.
    pub fn flag(&self, key: &str) -> Result<bool, ConvertError> {
        match self.config.get(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(found) => Err(self.bad(key, &found.to_string(), "true or false")),
        }
    }

    /// A whole number.
    pub fn count(&self, key: &str) -> Result<Option<u32>, ConvertError> {
        let whole = |value: &Value| match value.as_f64() {
            Some(x) if x.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&x) => Ok(x as u32),
            _ => Err(self.bad(key, &value.to_string(), "a whole number below 2^32")),
        };
        self.config.get(key).map(whole).transpose()
    }

    /// A whole number that must be there.
    pub fn need_count(&self, key: &str) -> Result<u32, ConvertError> {
        self.count(key)?.ok_or_else(|| self.missing(key, "a whole number"))
    }

    /// A number.
    pub fn float(&self, key: &str) -> Result<Option<f64>, ConvertError> {
        self.number(&self.config, key)
    }

    /// A number of the rotary positions.
    pub fn rope_float(&self, key: &str) -> Result<Option<f64>, ConvertError> {
        self.number(&self.rope, key)
    }

    /// A list of numbers of the rotary positions.
    pub fn rope_floats(&self, key: &str) -> Result<Option<Vec<f32>>, ConvertError> {
        let Some(value) = self.rope.get(key).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let numbers =
            value.as_array().map(|list| list.iter().map(|x| x.as_f64().map(|x| x as f32)));
        let numbers = numbers.and_then(Iterator::collect);
        numbers.map(Some).ok_or_else(|| self.bad(key, &value.to_string(), "a list of numbers"))
    }

    /// How rotary positions are stretched; empty if they are not.
    pub fn rope_type(&self) -> &str {
        self.rope.get("rope_type").and_then(Value::as_str).unwrap_or_default()
    }

    /// Length of a head.
    pub fn head_dim(&self) -> Result<u32, ConvertError> {
        if let Some(head) = self.count("head_dim")? {
            return Ok(head);
        }
        Ok(self.need_count("hidden_size")? / self.need_count("num_attention_heads")?.max(1))
    }

    /// The kinds of the trunk's layers.
    pub fn layer_types(&self) -> Result<Option<Vec<String>>, ConvertError> {
        let types = self.strings("layer_types")?;
        let layers = self.need_count("num_hidden_layers")? as usize;
        match types.as_ref().map(Vec::len).filter(|found| *found != layers) {
            Some(found) => {
                let expected = format!("one for each of {layers} layers");
                Err(self.bad("layer_types", &format!("a list of {found}"), &expected))
            }
            None => Ok(types),
        }
    }

    /// A list of whole numbers.
    pub fn counts_of(&self, key: &str) -> Result<Option<Vec<u32>>, ConvertError> {
        let Some(value) = self.config.get(key) else { return Ok(None) };
        let number = |x: &Value| x.as_u64().and_then(|x| u32::try_from(x).ok());
        let numbers = value.as_array().and_then(|list| list.iter().map(number).collect());
        numbers.map(Some).ok_or_else(|| self.bad(key, &value.to_string(), "a list of numbers"))
    }

    /// An object or another value, as it is.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.config.get(key)
    }

    /// A list of texts.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<String>>, ConvertError> {
        let Some(value) = self.config.get(key) else { return Ok(None) };
        let texts = value.as_array().map(|list| list.iter().map(|x| x.as_str().map(str::to_owned)));
        let texts = texts.and_then(Iterator::collect);
        texts.map(Some).ok_or_else(|| self.bad(key, &value.to_string(), "a list of texts"))
    }

    /// Rows and columns of the blocks that one factor of an FP8 checkpoint scales.
    pub fn scale_block(&self) -> Option<(u64, u64)> {
        let block = self.config.get("quantization_config")?.get("weight_block_size")?;
        match block.as_array()?.iter().map(Value::as_u64).collect::<Option<Vec<_>>>()?[..] {
            [rows, cols] if rows > 0 && cols > 0 => Some((rows, cols)),
            _ => None,
        }
    }

    /// How the checkpoint is quantized, if it is.
    pub fn quant_method(&self) -> Option<&str> {
        self.config.get("quantization_config")?.get("quant_method")?.as_str()
    }

    fn number(&self, object: &Object, key: &str) -> Result<Option<f64>, ConvertError> {
        let Some(value) = object.get(key).filter(|value| !value.is_null()) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| self.bad(key, &value.to_string(), "a number"))
    }

    /// That a key is missing.
    pub fn missing(&self, key: &str, expected: &'static str) -> ConvertError {
        ConvertError::NoKey { key: key.to_owned(), expected }
    }

    /// That a key's value is wrong.
    pub fn bad(&self, key: &str, found: &str, expected: &str) -> ConvertError {
        ConvertError::BadKey {
            key: key.to_owned(),
            found: found.chars().take(60).collect(),
            expected: expected.to_owned(),
        }
    }
}

/// The rotary positions, which older configs have in `rope_scaling` and among the other keys, newer ones in
/// `rope_parameters`, by kind of layer where kinds differ.
fn rope(config: &Object) -> (Object, Option<f64>) {
    let object = |value: &Value| value.as_object().cloned();
    let find = |key: &str| config.get(key).and_then(object);
    let all = find("rope_parameters").or_else(|| find("rope_scaling")).unwrap_or_default();
    let part = |kind: &str| all.get(kind).and_then(object);
    let mut rope = part("full_attention").unwrap_or_else(|| all.clone());
    let local = part("sliding_attention").and_then(|local| local.get("rope_theta")?.as_f64());
    let local = local.or_else(|| config.get("rope_local_base_freq")?.as_f64());
    for key in ["rope_theta", "partial_rotary_factor", "original_max_position_embeddings"] {
        if let Some(value) = config.get(key).filter(|_| !rope.contains_key(key)) {
            rope.insert(key.to_owned(), value.clone());
        }
    }
    if !rope.contains_key("rope_type")
        && let Some(kind) = rope.get("type").cloned()
    {
        rope.insert("rope_type".to_owned(), kind);
    }
    (rope, local)
}
