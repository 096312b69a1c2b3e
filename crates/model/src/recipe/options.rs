//! What a user adds to a recipe: whether an importance matrix is at hand, one type for everything, and types by tensor name.

use hob_quant::GgmlType;
use regex_lite::Regex;

/// Inputs beside the recipe's name.
#[derive(Clone, Debug, Default)]
pub struct RecipeOptions {
    /// Whether an importance matrix is used; some choices depend on it.
    pub importance: bool,
    /// The base type for every matrix, without the recipe's mix.
    pub pure: bool,
    /// Types by tensor name; the first that matches decides, before the recipe does. What stays F32 in every recipe
    /// is not touched.
    pub overrides: Vec<Override>,
}

impl RecipeOptions {
    /// The type that the user gave for this tensor.
    pub(super) fn overridden(&self, tensor: &str) -> Option<GgmlType> {
        self.overrides.iter().find(|o| o.regex.is_match(tensor)).map(|o| o.ty)
    }
}

/// `REGEX=TYPE`: the type of the tensors in whose name the expression is found.
#[derive(Clone, Debug)]
pub struct Override {
    regex: Regex,
    /// The type they get, or its substitute where their rows do not fit it.
    pub ty: GgmlType,
}

/// Why an override could not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOverride {
    /// No `=`, or nothing on one side of it.
    #[error("'{0}' is not an override; one looks like attn_v=Q8_0 (REGEX=TYPE)")]
    Form(String),
    /// The part after the last `=`.
    #[error("'{0}' is not a tensor type; types look like Q4_K, IQ4_XS, Q8_0, F16")]
    Type(String),
    /// The part before it.
    #[error("'{regex}' is not a regular expression: {reason}")]
    Regex {
        /// As given.
        regex: String,
        /// The parser's words.
        reason: String,
    },
}

impl std::str::FromStr for Override {
    type Err = BadOverride;

    fn from_str(text: &str) -> Result<Self, BadOverride> {
        let parts = text.rsplit_once('=').filter(|(a, b)| !a.is_empty() && !b.is_empty());
        let (regex, ty) = parts.ok_or_else(|| BadOverride::Form(text.to_owned()))?;
        let weights = |ty: &GgmlType| !matches!(ty.name(), "I8" | "I16" | "I32" | "I64" | "F64");
        let ty = GgmlType::from_name(ty)
            .filter(weights)
            .ok_or_else(|| BadOverride::Type(ty.to_owned()))?;
        let bad = |e: regex_lite::Error| BadOverride::Regex {
            regex: regex.into(),
            reason: e.to_string(),
        };
        Ok(Override { regex: Regex::new(regex).map_err(bad)?, ty })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Override, BadOverride> {
        text.parse()
    }

    #[test]
    fn overrides_are_found_anywhere_in_a_name() {
        let overrides = vec![parse(r"blk\.[01]\.attn_v=q8_0").unwrap(), parse("attn=F16").unwrap()];
        let options = RecipeOptions { overrides, ..RecipeOptions::default() };
        assert_eq!(options.overridden("blk.1.attn_v.weight"), Some(GgmlType::Q8_0));
        assert_eq!(options.overridden("blk.2.attn_v.weight"), Some(GgmlType::F16));
        assert_eq!(options.overridden("blk.2.ffn_up.weight"), None);
    }

    #[test]
    fn what_is_no_override_is_named() {
        for text in ["", "=", "attn_v", "attn_v=", "=Q8_0"] {
            assert_eq!(parse(text).unwrap_err(), BadOverride::Form(text.into()));
        }
        for ty in ["Q9_0", "I32"] {
            let error = parse(&format!("attn_v={ty}")).unwrap_err();
            assert_eq!(error, BadOverride::Type(ty.into()));
        }
        assert!(matches!(parse("a(=Q8_0"), Err(BadOverride::Regex { .. })));
    }
}
