//! What a MODEL argument means: a path, or a name with an optional tag. Decided by the text and by which files exist, never by the
//! network. Names are lowercased, so that one model has one folder on file systems that ignore case. Names with a namespace
//! (`user/model`) and hub addresses are recognised and refused for now.

use std::path::PathBuf;

use crate::error::HubError;

/// A parsed MODEL argument.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    /// An existing file.
    File(PathBuf),
    /// A name from the store or the catalogue.
    Name(Name),
}

/// A model's name; `tag` is `None` when the default is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub name: String,
    pub tag: Option<String>,
}

/// Longest name or tag.
const MAX_PART: usize = 80;
const REMOTE: [&str; 7] = [
    "https://",
    "http://",
    "hf.co/",
    "huggingface.co/",
    "modelscope.cn/",
    "ollama.com/",
    "registry.ollama.ai/",
];

/// Tells a path from a name.
///
/// # Errors
/// `NoSuchFile` for what looks like a path to nothing, `Unsupported` for hub addresses, `BadName` for the rest.
pub(crate) fn parse(reference: &str) -> Result<Reference, HubError> {
    let path = PathBuf::from(reference);
    let gguf = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
    let separated = reference.contains(['/', '\\']);
    if (gguf || separated) && path.is_file() {
        return Ok(Reference::File(path));
    }
    if REMOTE.iter().any(|r| reference.starts_with(r)) {
        return Err(HubError::Unsupported { reference: reference.to_owned() });
    }
    if gguf || separated {
        return Err(HubError::NoSuchFile { path });
    }
    name(reference).map(Reference::Name)
}

/// Parses `name` or `name:tag`.
pub(crate) fn name(text: &str) -> Result<Name, HubError> {
    let bad =
        |reason| HubError::BadName { reference: text.to_owned(), reason: str::to_owned(reason) };
    let (name, tag) = match text.split_once(':') {
        Some((name, tag)) => (name, Some(tag)),
        None => (text, None),
    };
    let part = |s: &str| check(s).map(|()| s.to_ascii_lowercase()).map_err(bad);
    Ok(Name { name: part(name)?, tag: tag.map(part).transpose()? })
}

/// Whether a name or tag is one that can also be a file's name.
pub(crate) fn check(part: &str) -> Result<(), &'static str> {
    if part.is_empty() {
        return Err("it is empty on one side of the colon, or altogether");
    }
    if part.len() > MAX_PART {
        return Err("it is longer than 80 characters");
    }
    if !part.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err("names and tags start with a letter or digit");
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if part.chars().all(allowed) {
        Ok(())
    } else {
        Err("only letters, digits, '.', '_' and '-' are allowed, with one ':' before the tag")
    }
}

/// Those of `known` that resemble `wanted`, best first, at most three.
pub(crate) fn near(wanted: &str, known: impl Iterator<Item = String>) -> Vec<String> {
    let wanted = wanted.to_ascii_lowercase();
    let likeness = |full: &str| {
        let bare = full.split(':').next().unwrap_or(full);
        strsim::jaro_winkler(&wanted, full).max(strsim::jaro_winkler(&wanted, bare))
    };
    let mut scored: Vec<(f64, String)> =
        known.map(|k| (likeness(&k), k)).filter(|(s, _)| *s > 0.75).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    scored.dedup();
    scored.into_iter().take(3).map(|(_, k)| k).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, tag: Option<&str>) -> Name {
        Name { name: name.into(), tag: tag.map(Into::into) }
    }

    #[test]
    fn names_and_tags() {
        assert_eq!(name("smollm2").unwrap(), named("smollm2", None));
        assert_eq!(name("SmolLM2:135M").unwrap(), named("smollm2", Some("135m")));
        assert_eq!(
            name("qwen2.5-coder:1.5b-Q4_K_M").unwrap(),
            named("qwen2.5-coder", Some("1.5b-q4_k_m"))
        );
    }

    #[test]
    fn hostile_names_are_refused() {
        let long = "a".repeat(81);
        for bad in [
            "", ":", "a:", ":b", "a:b:c", ".", "..", "-rf", "a b", "a\0b", "a\nb", "ü", "a:..",
            "a@b", &long,
        ] {
            assert!(matches!(parse(bad), Err(HubError::BadName { .. })), "{bad:?}");
        }
    }

    #[test]
    fn what_looks_like_a_path_is_one() {
        let dir = tempfile::TempDir::new().unwrap();
        let file = dir.path().join("odd name without extension");
        std::fs::write(&file, b"x").unwrap();
        assert_eq!(parse(file.to_str().unwrap()).unwrap(), Reference::File(file.clone()));
        for missing in
            ["no-such.gguf", "./x", "../x:y", "dir/no-such", dir.path().to_str().unwrap()]
        {
            assert!(matches!(parse(missing), Err(HubError::NoSuchFile { .. })), "{missing}");
        }
    }

    #[test]
    fn addresses_are_named_as_such() {
        for remote in ["hf.co/a/b", "https://example.org/m.gguf", "modelscope.cn/a/b:Q4_K_M"] {
            assert!(matches!(parse(remote), Err(HubError::Unsupported { .. })), "{remote}");
        }
    }

    #[test]
    fn near_names() {
        let known = || ["smollm2:135m", "qwen3:14b", "qwen3:8b"].into_iter().map(String::from);
        assert_eq!(near("smolm", known()), ["smollm2:135m"]);
        assert_eq!(near("Qwen3", known()), ["qwen3:14b", "qwen3:8b"]);
        assert_eq!(near("qwen3:9b", known())[0], "qwen3:8b");
        assert!(near("zzz", known()).is_empty());
    }
}
