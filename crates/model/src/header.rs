//! Typed access to the hyperparameters of a GGUF header: keys are looked up under the architecture's prefix,
//! absent optional keys give the caller's default, and every error names the key. No tensor bytes.

use std::collections::HashSet;

use hob_gguf::{Gguf, Metadata};

use crate::{ModelError, RopeScaling};

/// Metadata of one file plus the names of its tensors (some facts, such as tied embeddings, are only there).
pub struct Header<'a> {
    meta: &'a Metadata,
    arch: String,
    tensors: HashSet<&'a str>,
}

impl<'a> Header<'a> {
    /// The header of an open file.
    pub fn of(gguf: &'a Gguf) -> Result<Self, ModelError> {
        Self::new(gguf.meta(), gguf.tensors().iter().map(|t| t.name.as_str()))
    }

    /// A header from parts; planners give names of tensors that do not exist yet.
    pub fn new(
        meta: &'a Metadata,
        tensors: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, ModelError> {
        let arch = meta.str("general.architecture")?.to_owned();
        Ok(Header { meta, arch, tensors: tensors.into_iter().collect() })
    }

    /// `general.architecture`.
    pub fn arch(&self) -> &str {
        &self.arch
    }

    /// `general.name`, or empty.
    pub fn name(&self) -> String {
        self.meta.opt_str("general.name").ok().flatten().unwrap_or_default().to_owned()
    }

    /// Whether the file has a tensor of this name.
    pub fn has(&self, tensor: &str) -> bool {
        self.tensors.contains(tensor)
    }

    /// A count or width that must be there and lie in `1 ..= 2^24`.
    pub fn size(&self, key: &str) -> Result<u32, ModelError> {
        let key = self.key(key);
        let value = self.meta.u32(&key)?;
        Self::checked(key, value)
    }

    /// Like [`Header::size`], with a default.
    pub fn size_or(&self, key: &str, default: u32) -> Result<u32, ModelError> {
        let key = self.key(key);
        match self.meta.opt_u32(&key)? {
            Some(value) => Self::checked(key, value),
            None => Ok(default),
        }
    }

    /// A number that may be zero or absent.
    pub fn opt_u32(&self, key: &str) -> Result<Option<u32>, ModelError> {
        Ok(self.meta.opt_u32(&self.key(key))?)
    }

    /// One number for each of `layers` layers: an array that has them (longer ones go on with layers that are left out),
    /// or a single number for all.
    pub fn counts(&self, key: &str, layers: u32) -> Result<Option<Vec<u32>>, ModelError> {
        let full = self.key(key);
        if !matches!(self.meta.get(&full), Some(hob_gguf::Value::Array(_))) {
            return Ok(self.meta.opt_u32(&full)?.map(|one| vec![one; layers as usize]));
        }
        let all: Vec<u32> = self.meta.values(&full)?.take(layers as usize).collect();
        match all.len() == layers as usize {
            true => Ok(Some(all)),
            false => Err(self.bad(key, format!("{} long", all.len()), "a number for each layer")),
        }
    }

    /// One flag for each of `layers` layers.
    pub fn flags(&self, key: &str, layers: u32) -> Result<Option<Vec<bool>>, ModelError> {
        let Some(all) = self.meta.opt_values::<bool>(&self.key(key))? else { return Ok(None) };
        let all: Vec<bool> = all.take(layers as usize).collect();
        match all.len() == layers as usize {
            true => Ok(Some(all)),
            false => Err(self.bad(key, format!("{} long", all.len()), "a flag for each layer")),
        }
    }

    /// A finite float that must be there.
    pub fn f32(&self, key: &str) -> Result<f32, ModelError> {
        let key = self.key(key);
        let value = self.meta.f32(&key)?;
        Self::finite(key, value)
    }

    /// A finite float, with a default.
    pub fn f32_or(&self, key: &str, default: f32) -> Result<f32, ModelError> {
        let key = self.key(key);
        match self.meta.opt_f32(&key)? {
            Some(value) => Self::finite(key, value),
            None => Ok(default),
        }
    }

    /// A flag, with a default.
    pub fn bool_or(&self, key: &str, default: bool) -> Result<bool, ModelError> {
        Ok(self.meta.opt_bool(&self.key(key))?.unwrap_or(default))
    }

    /// Length of the token list: the vocabulary, whatever the header claims elsewhere.
    pub fn vocab(&self) -> Result<u32, ModelError> {
        if let Some(tokens) = self.meta.opt_array("tokenizer.ggml.tokens")? {
            let count = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
            return Self::checked("tokenizer.ggml.tokens".to_owned(), count);
        }
        self.size("vocab_size")
    }

    /// Kinds of tokens that an encoder tells apart; two where nothing is said.
    pub fn token_types(&self) -> Result<u32, ModelError> {
        let key = "tokenizer.ggml.token_type_count";
        Self::checked(key.to_owned(), self.meta.opt_u32(key)?.unwrap_or(2))
    }

    /// `rope.scaling.*`.
    pub fn rope_scaling(&self) -> Result<RopeScaling, ModelError> {
        let key = self.key("rope.scaling.type");
        let factor = self.f32_or("rope.scaling.factor", 1.0)?;
        if factor <= 0.0 {
            return Err(self.bad("rope.scaling.factor", factor, "a positive number"));
        }
        match self.meta.opt_str(&key)? {
            None if factor == 1.0 => Ok(RopeScaling::None),
            None | Some("linear") => Ok(RopeScaling::Linear(factor)),
            Some("none") => Ok(RopeScaling::None),
            Some("yarn") => Ok(RopeScaling::Yarn {
                factor,
                original: self.size_or(
                    "rope.scaling.original_context_length",
                    self.size("context_length")?,
                )?,
                beta_fast: self.f32_or("rope.scaling.yarn_beta_fast", 32.0)?,
                beta_slow: self.f32_or("rope.scaling.yarn_beta_slow", 1.0)?,
                attn_factor: self.f32_or("rope.scaling.attn_factor", 1.0)?
                    / self.softened(factor)?,
                truncate: true,
            }),
            Some("longrope") => {
                Ok(RopeScaling::Long(self.f32_or("rope.scaling.attn_factor", 1.0)?))
            }
            Some(other) => Err(ModelError::BadValue {
                key,
                found: format!("'{other}'"),
                expected: "none, linear, yarn or longrope".to_owned(),
            }),
        }
    }

    /// What YaRN's sharpening is divided by where a model says so (`mscale_all_dim`): it then scales the scores instead.
    fn softened(&self, factor: f32) -> Result<f32, ModelError> {
        let multiplier = self.f32_or("rope.scaling.yarn_log_multiplier", 0.0)?;
        Ok(1.0 + 0.1 * multiplier * factor.max(1.0).ln())
    }

    /// An error about one of this architecture's keys.
    pub fn bad(&self, key: &str, found: impl ToString, expected: &str) -> ModelError {
        ModelError::BadValue {
            key: self.key(key),
            found: found.to_string(),
            expected: expected.to_owned(),
        }
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.arch)
    }

    fn checked(key: String, value: u32) -> Result<u32, ModelError> {
        match value {
            1..=0x100_0000 => Ok(value),
            _ => Err(ModelError::BadValue {
                key,
                found: value.to_string(),
                expected: "1 to 16777216".to_owned(),
            }),
        }
    }

    fn finite(key: String, value: f32) -> Result<f32, ModelError> {
        if value.is_finite() {
            return Ok(value);
        }
        Err(ModelError::BadValue {
            key,
            found: value.to_string(),
            expected: "a finite number".to_owned(),
        })
    }
}
