//! From a Hugging Face `config.json` to the GGUF metadata of the file that it would become, and so to the same `describe` as
//! any file: planning needs no weights. One table of families, one of keys; the meaning of keys is that of llama.cpp's
//! `convert_hf_to_gguf.py`. A config is a stranger's: its size is bounded, its depth by the JSON parser, and a setting that
//! the description could not follow is an error, never ignored. Deliberately absent: tokenizers and tensors.

use hob_gguf::{GgufError, MetaBuilder};
use serde_json::{Map, Value};

use crate::{Header, Model, ModelError, arch};

/// Bytes of the longest config that is read; those in use have a few thousand.
pub const MAX_CONFIG_BYTES: usize = 1 << 20;
/// Layers that any description may have.
const MAX_LAYERS: u32 = 1024;

/// A family: its class in `architectures`, its `model_type`, its name in GGUF, and which biases its attention has.
struct Family {
    class: &'static str,
    model_type: &'static str,
    arch: &'static str,
    biases: Biases,
}

#[derive(Clone, Copy)]
enum Biases {
    /// Query, key and value, always.
    Qkv,
    /// These and the output, if `attention_bias` says so.
    IfAsked,
}

const FAMILIES: &[Family] = &[
    Family {
        class: "LlamaForCausalLM",
        model_type: "llama",
        arch: "llama",
        biases: Biases::IfAsked,
    },
    Family { class: "Qwen2ForCausalLM", model_type: "qwen2", arch: "qwen2", biases: Biases::Qkv },
    Family {
        class: "Qwen3ForCausalLM",
        model_type: "qwen3",
        arch: "qwen3",
        biases: Biases::IfAsked,
    },
];

/// Whole numbers: key of the config, keys in GGUF below the architecture's name, whether it must be there.
const COUNTS: &[(&str, &[&str], bool)] = &[
    ("num_hidden_layers", &["block_count"], true),
    ("max_position_embeddings", &["context_length"], true),
    ("hidden_size", &["embedding_length"], true),
    ("intermediate_size", &["feed_forward_length"], true),
    ("num_attention_heads", &["attention.head_count"], true),
    ("num_key_value_heads", &["attention.head_count_kv"], false),
    ("head_dim", &["attention.key_length", "attention.value_length"], false),
    ("vocab_size", &["vocab_size"], true),
];

/// Settings that the descriptions cannot follow when they are on.
const OFF: &[&str] = &["mlp_bias", "use_sliding_window"];

/// Keys of YaRN that keep their meaning.
const YARN: &[(&str, &str)] = &[
    ("attention_factor", "rope.scaling.attn_factor"),
    ("beta_fast", "rope.scaling.yarn_beta_fast"),
    ("beta_slow", "rope.scaling.yarn_beta_slow"),
];

/// Why a config describes no model that hob knows.
#[derive(Debug, thiserror::Error)]
pub enum HfError {
    /// Longer than [`MAX_CONFIG_BYTES`].
    #[error("a model configuration of {found} bytes is longer than {MAX_CONFIG_BYTES}")]
    TooLong {
        /// Bytes of the text.
        found: usize,
    },
    /// No JSON, or nested too deep.
    #[error("this is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// JSON of another kind.
    #[error(
        "this JSON is not a model configuration: {found}, expected an object with \"architectures\" or \"model_type\""
    )]
    NotAConfig {
        /// What it is.
        found: String,
    },
    /// A family without a line in the table.
    #[error("architecture '{found}' is not known from a configuration; known: {known}")]
    UnknownArchitecture {
        /// The name in the config.
        found: String,
        /// The names of the table.
        known: String,
    },
    /// A key that must be there.
    #[error("\"{key}\" is missing, expected {expected}")]
    Missing {
        /// The config's key.
        key: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A value that makes no sense, or one that the description cannot follow.
    #[error("\"{key}\" is {found}, expected {expected}")]
    BadValue {
        /// The config's key.
        key: String,
        /// What it says, in JSON, cut short.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// The values are no metadata.
    #[error(transparent)]
    Metadata(#[from] GgufError),
    /// The values do not fit together.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// What a config says, in GGUF's terms.
#[derive(Debug, Clone)]
pub struct HfConfig {
    /// Metadata of the file that the model would be.
    pub meta: MetaBuilder,
    /// Names of the tensors on whose presence the description depends.
    pub tensors: Vec<String>,
}

impl HfConfig {
    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// All but the last two of [`HfError`].
    pub fn parse(json: &str) -> Result<Self, HfError> {
        if json.len() > MAX_CONFIG_BYTES {
            return Err(HfError::TooLong { found: json.len() });
        }
        let json: Value = serde_json::from_str(json)?;
        let Value::Object(config) = &json else {
            return Err(HfError::NotAConfig { found: kind(&json).to_owned() });
        };
        let family = family(config)?;
        if let Some(act) = present(config, "hidden_act").filter(|act| *act != "silu") {
            return Err(bad("hidden_act", act, "\"silu\""));
        }
        for key in OFF {
            if flag(config, key)? {
                return Err(bad(key, &true.into(), "false"));
            }
        }
        let mut out = HfConfig { meta: MetaBuilder::new(), tensors: Vec::new() };
        out.meta.insert("general.architecture", family.arch);
        for (key, names, required) in COUNTS {
            match count(config, key)? {
                Some(n) => names.iter().for_each(|name| out.set(family, name, n)),
                None if *required => return Err(missing(key, "a whole number")),
                None => {}
            }
        }
        let eps = float(config, "rms_norm_eps")?;
        let eps = eps.ok_or_else(|| missing("rms_norm_eps", "a number"))?;
        out.set(family, "attention.layer_norm_rms_epsilon", eps);
        out.rope(family, config)?;
        out.biases(family, config)?;
        if !flag(config, "tie_word_embeddings")? {
            out.tensors.push("output.weight".to_owned());
        }
        Ok(out)
    }

    /// The model that it describes.
    ///
    /// # Errors
    /// The last two of [`HfError`].
    pub fn describe(&self) -> Result<Model, HfError> {
        let meta = self.meta.build()?;
        Ok(arch::describe(&Header::new(&meta, self.tensors.iter().map(String::as_str))?)?)
    }

    fn set(&mut self, family: &Family, key: &str, value: impl hob_gguf::MetaValue) {
        self.meta.insert(&format!("{}.{key}", family.arch), value);
    }

    /// The rotary base and its scaling, which newer configs keep together in `rope_parameters`.
    fn rope(&mut self, family: &Family, config: &Map<String, Value>) -> Result<(), HfError> {
        let empty = Map::new();
        let scaling = match ["rope_parameters", "rope_scaling"]
            .iter()
            .find_map(|key| Some((key, present(config, key)?)))
        {
            Some((_, Value::Object(scaling))) => scaling,
            Some((key, found)) => return Err(bad(key, found, "an object or null")),
            None => &empty,
        };
        let base = float(config, "rope_theta")?.or(float(scaling, "rope_theta")?);
        self.set(family, "rope.freq_base", base.unwrap_or(10_000.0));
        let Some(method) = present(scaling, "rope_type").or(present(scaling, "type")) else {
            return Ok(());
        };
        let factor = || float(scaling, "factor")?.ok_or_else(|| missing("factor", "a number"));
        match method.as_str() {
            Some("default") => {}
            // The scaled frequencies lie in the file as a tensor.
            Some("llama3") if family.arch == "llama" => {
                self.tensors.push("rope_freqs.weight".to_owned())
            }
            Some("linear") => {
                self.set(family, "rope.scaling.type", "linear");
                self.set(family, "rope.scaling.factor", factor()?);
            }
            Some("yarn") => {
                self.set(family, "rope.scaling.type", "yarn");
                self.set(family, "rope.scaling.factor", factor()?);
                let key = "original_max_position_embeddings";
                let original =
                    count(scaling, key)?.ok_or_else(|| missing(key, "a whole number"))?;
                self.set(family, "rope.scaling.original_context_length", original);
                for (key, name) in YARN {
                    if let Some(x) = float(scaling, key)? {
                        self.set(family, name, x);
                    }
                }
            }
            _ => {
                return Err(bad(
                    "rope_type",
                    method,
                    "default, linear, yarn, or llama3 in a Llama",
                ));
            }
        }
        Ok(())
    }

    /// Names of the attention's biases.
    fn biases(&mut self, family: &Family, config: &Map<String, Value>) -> Result<(), HfError> {
        let asked = flag(config, "attention_bias")?;
        let names: &[&str] = match family.biases {
            Biases::Qkv => &["attn_q", "attn_k", "attn_v"],
            Biases::IfAsked if asked => &["attn_q", "attn_k", "attn_v", "attn_output"],
            Biases::IfAsked => return Ok(()),
        };
        let layers = count(config, "num_hidden_layers")?.unwrap_or(0);
        if layers > MAX_LAYERS {
            return Err(bad("num_hidden_layers", &layers.into(), "at most 1024"));
        }
        let of_layer = |i: u32| names.iter().map(move |name| format!("blk.{i}.{name}.bias"));
        self.tensors.extend((0..layers).flat_map(of_layer));
        Ok(())
    }
}

/// The family, by the class that the config names, else by its type.
fn family(config: &Map<String, Value>) -> Result<&'static Family, HfError> {
    let class = config.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str);
    let model_type = config.get("model_type").and_then(Value::as_str);
    let known = match (class, model_type) {
        (Some(class), _) => FAMILIES.iter().find(|f| f.class == class),
        (None, Some(model_type)) => FAMILIES.iter().find(|f| f.model_type == model_type),
        (None, None) => {
            return Err(HfError::NotAConfig { found: "an object with neither".to_owned() });
        }
    };
    known.ok_or_else(|| HfError::UnknownArchitecture {
        found: short(class.or(model_type).unwrap_or_default()),
        known: FAMILIES.iter().map(|f| f.class).collect::<Vec<_>>().join(", "),
    })
}

/// The value of a key; null counts as absent.
fn present<'a>(config: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    config.get(key).filter(|value| !value.is_null())
}

fn count(config: &Map<String, Value>, key: &str) -> Result<Option<u32>, HfError> {
    let read = |value: &Value| {
        let n = value.as_u64().and_then(|n| u32::try_from(n).ok());
        n.ok_or_else(|| bad(key, value, "a whole number below 2^32"))
    };
    present(config, key).map(read).transpose()
}

fn float(config: &Map<String, Value>, key: &str) -> Result<Option<f32>, HfError> {
    let read =
        |value: &Value| value.as_f64().map(|x| x as f32).ok_or_else(|| bad(key, value, "a number"));
    present(config, key).map(read).transpose()
}

fn flag(config: &Map<String, Value>, key: &str) -> Result<bool, HfError> {
    let read = |value: &Value| value.as_bool().ok_or_else(|| bad(key, value, "true or false"));
    Ok(present(config, key).map(read).transpose()?.unwrap_or(false))
}

fn missing(key: &str, expected: &'static str) -> HfError {
    HfError::Missing { key: key.to_owned(), expected }
}

fn bad(key: &str, found: &Value, expected: &str) -> HfError {
    HfError::BadValue {
        key: key.to_owned(),
        found: short(&found.to_string()),
        expected: expected.to_owned(),
    }
}

/// The first characters of a stranger's text.
fn short(text: &str) -> String {
    const LONGEST: usize = 60;
    let head: String = text.chars().take(LONGEST).collect();
    if head.len() < text.len() { head + "..." } else { head }
}

fn kind(json: &Value) -> &'static str {
    match json {
        Value::Null => "it is null",
        Value::Bool(_) => "it is a truth value",
        Value::Number(_) => "it is a number",
        Value::String(_) => "it is a string",
        Value::Array(_) => "it is a list",
        Value::Object(_) => "it is an object",
    }
}
