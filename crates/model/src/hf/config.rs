//! A checkpoint's `config.json` as its readers see it: the text model's part, older names of keys made new, what the
//! family takes for keys left out. Numbers are checked when they are read. Deliberately absent: what they mean.

use serde_json::{Map, Value};

use super::error::{HfError, bad, missing};

/// An object of JSON.
pub type Object = Map<String, Value>;

/// Most layers that any model may have.
pub(super) const MAX_LAYERS: u32 = 1024;

/// Longest head.
const MAX_HEAD: u32 = 1 << 14;

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
pub struct Config {
    keys: Object,
    /// Rotary positions: of all layers, or of those with full attention.
    rope: Object,
    /// The rotary base of layers with a window, where it is another.
    rope_local: Option<f64>,
}

impl Config {
    /// Takes the text model's part of a config, and numbers for keys that it leaves out.
    pub(super) fn new(config: &Object, defaults: &[(&str, f64)]) -> Result<Self, HfError> {
        let mut keys = config.clone();
        if let Some(Value::Object(text)) = keys.get("text_config").cloned() {
            keys.extend(text);
        }
        keys.retain(|_, value| !value.is_null());
        for (older, key) in OLDER {
            if let (None, Some(value)) = (keys.get(*key), keys.get(*older).cloned()) {
                keys.insert((*key).to_owned(), value);
            }
        }
        for (key, value) in defaults {
            keys.entry(*key).or_insert_with(|| (*value).into());
        }
        // Without groups every head has its own key and value.
        if let (None, Some(heads)) =
            (keys.get("num_key_value_heads"), keys.get("num_attention_heads").cloned())
        {
            keys.insert("num_key_value_heads".to_owned(), heads);
        }
        let (rope, rope_local) = rope(&keys)?;
        let config = Config { keys, rope, rope_local };
        match config.layers()? {
            layers if layers > MAX_LAYERS => {
                Err(bad("num_hidden_layers", &layers.to_string(), "at most 1024"))
            }
            _ => Ok(config),
        }
    }

    /// Layers of the trunk.
    pub fn layers(&self) -> Result<u32, HfError> {
        self.need_count("num_hidden_layers")
    }

    /// Gives a value to a key that the config left out.
    pub fn assume(&mut self, key: &str, value: u32) {
        self.keys.entry(key).or_insert_with(|| value.into());
    }

    /// Gives a key another value than the config's.
    pub fn overrule(&mut self, key: &str, value: u32) {
        self.keys.insert(key.to_owned(), value.into());
    }

    /// Takes a key as not being there.
    pub fn forget(&mut self, key: &str) {
        self.keys.remove(key);
    }

    /// An object or another value, as it is.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.keys.get(key)
    }

    /// Whether a key is there.
    pub fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// A text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.keys.get(key).and_then(Value::as_str)
    }

    /// Whether a key is there and true.
    pub fn flag(&self, key: &str) -> Result<bool, HfError> {
        self.flag_or(key, false)
    }

    /// Whether a key is true, or what is taken for one left out.
    pub fn flag_or(&self, key: &str, default: bool) -> Result<bool, HfError> {
        match self.keys.get(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(found) => Err(bad(key, &found.to_string(), "true or false")),
        }
    }

    /// A whole number.
    pub fn count(&self, key: &str) -> Result<Option<u32>, HfError> {
        let whole = |value: &Value| match value.as_f64() {
            Some(x) if x.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&x) => Ok(x as u32),
            _ => Err(bad(key, &value.to_string(), "a whole number below 2^32")),
        };
        self.keys.get(key).map(whole).transpose()
    }

    /// A whole number that must be there.
    pub fn need_count(&self, key: &str) -> Result<u32, HfError> {
        self.count(key)?.ok_or_else(|| missing(key, "a whole number"))
    }

    /// A number.
    pub fn float(&self, key: &str) -> Result<Option<f64>, HfError> {
        number(&self.keys, key)
    }

    /// Length of a head, by which tables are computed.
    pub fn head_dim(&self) -> Result<u32, HfError> {
        let head = match self.count("head_dim")? {
            Some(head) => head,
            None => {
                self.need_count("hidden_size")? / self.need_count("num_attention_heads")?.max(1)
            }
        };
        bounded("head_dim", head)
    }

    /// The kinds of the trunk's layers.
    pub fn layer_types(&self) -> Result<Option<Vec<String>>, HfError> {
        let types = self.strings("layer_types")?;
        let layers = self.layers()? as usize;
        match types.as_ref().map(Vec::len).filter(|found| *found != layers) {
            Some(found) => {
                let expected = format!("one for each of {layers} layers");
                Err(bad("layer_types", &format!("a list of {found}"), &expected))
            }
            None => Ok(types),
        }
    }

    /// A list of whole numbers.
    pub fn counts_of(&self, key: &str) -> Result<Option<Vec<u32>>, HfError> {
        let whole = |x: &Value| x.as_u64().and_then(|x| u32::try_from(x).ok());
        list(&self.keys, key, whole, "a list of whole numbers")
    }

    /// A list of texts.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<String>>, HfError> {
        list(&self.keys, key, |x| x.as_str().map(str::to_owned), "a list of texts")
    }

    /// A number of the rotary positions.
    pub fn rope_float(&self, key: &str) -> Result<Option<f64>, HfError> {
        number(&self.rope, key)
    }

    /// Whether the rotary positions have a key.
    pub fn rope_has(&self, key: &str) -> bool {
        self.rope.contains_key(key)
    }

    /// A list of numbers of the rotary positions.
    pub fn rope_floats(&self, key: &str) -> Result<Option<Vec<f32>>, HfError> {
        list(&self.rope, key, |x| x.as_f64().map(|x| x as f32), "a list of numbers")
    }

    /// How rotary positions are stretched; empty if they are not.
    pub fn rope_type(&self) -> &str {
        self.rope.get("rope_type").and_then(Value::as_str).unwrap_or_default()
    }

    /// The rotary base of layers with a window, where it is another.
    pub fn rope_local(&self) -> Option<f64> {
        self.rope_local
    }
}

/// A length of a head, if it is one that any model may have.
pub(super) fn bounded(key: &str, length: u32) -> Result<u32, HfError> {
    match length {
        0..=MAX_HEAD => Ok(length),
        _ => Err(bad(key, &length.to_string(), "at most 16384")),
    }
}

fn number(object: &Object, key: &str) -> Result<Option<f64>, HfError> {
    let Some(value) = object.get(key).filter(|value| !value.is_null()) else { return Ok(None) };
    value.as_f64().map(Some).ok_or_else(|| bad(key, &value.to_string(), "a number"))
}

fn list<T>(
    object: &Object,
    key: &str,
    read: impl Fn(&Value) -> Option<T>,
    expected: &str,
) -> Result<Option<Vec<T>>, HfError> {
    let Some(value) = object.get(key).filter(|value| !value.is_null()) else { return Ok(None) };
    let all = value.as_array().and_then(|list| list.iter().map(read).collect());
    all.map(Some).ok_or_else(|| bad(key, &value.to_string(), expected))
}

/// The rotary positions, which older configs have in `rope_scaling` and among the other keys, newer ones in
/// `rope_parameters`, by kind of layer where kinds differ.
fn rope(config: &Object) -> Result<(Object, Option<f64>), HfError> {
    let found =
        ["rope_parameters", "rope_scaling"].iter().find_map(|k| Some((*k, config.get(*k)?)));
    let all = match found {
        Some((_, Value::Object(all))) => all.clone(),
        Some((key, found)) => return Err(bad(key, &found.to_string(), "an object or null")),
        None => Object::new(),
    };
    let part = |kind: &str| all.get(kind).and_then(Value::as_object);
    let local = part("sliding_attention").and_then(|local| local.get("rope_theta")?.as_f64());
    let local = local.or_else(|| config.get("rope_local_base_freq")?.as_f64());
    let mut rope = part("full_attention").cloned().unwrap_or_else(|| all.clone());
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
    Ok((rope, local))
}
