//! What a MODEL argument means: a path, an address, or a name with perhaps a revision. Decided by the text and by which files exist,
//! never by the network. Addresses of the hubs' pages and files are read as the names that they stand for.

use std::path::PathBuf;

use crate::error::HubError;
use crate::name::{HUGGING_FACE, MODEL_SCOPE, ModelName};

/// A parsed MODEL argument.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    /// An existing file.
    File(PathBuf),
    /// A file behind an http or https address.
    Url(String),
    /// A model of the store, the catalogue, a hub or a registry.
    Model(Wanted),
}

/// A named model, and how to get at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub name: ModelName,
    /// Branch, tag or commit of a hub's repository (`hf.co/org/repo@commit:Q4_K_M`).
    pub revision: Option<String>,
    /// `http://` was written: the registry is asked without encryption.
    pub plain_http: bool,
}

/// Longest revision.
const MAX_REVISION: usize = 200;

/// Tells a path, an address and a name apart.
///
/// # Errors
/// `NoSuchFile` for what looks like a path to nothing, `BadName` for the rest.
pub(crate) fn parse(reference: &str) -> Result<Reference, HubError> {
    let path = PathBuf::from(reference);
    let gguf = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
    let separated = reference.contains(['/', '\\']);
    if (gguf || separated) && path.is_file() {
        return Ok(Reference::File(path));
    }
    if let Some((scheme, rest)) = reference.split_once("://") {
        return address(reference, scheme, rest);
    }
    let rooted = path.is_absolute() || reference.starts_with('.') || reference.contains('\\');
    let hub = [HUGGING_FACE, MODEL_SCOPE, "huggingface.co"];
    let on_hub = hub.iter().any(|host| reference.starts_with(&format!("{host}/")));
    if rooted || (gguf && !on_hub) {
        return Err(HubError::NoSuchFile { path });
    }
    wanted(reference).map(Reference::Model)
}

/// A name, perhaps with a scheme in front; not a path or a file's address.
pub(crate) fn wanted_or_address(text: &str) -> Result<Wanted, HubError> {
    match text.split_once("://") {
        Some((scheme, rest)) => match address(text, scheme, rest)? {
            Reference::Model(wanted) => Ok(wanted),
            _ => wanted(text),
        },
        None => wanted(text),
    }
}

/// Parses a name with an optional `@revision` before its tag.
pub(crate) fn wanted(text: &str) -> Result<Wanted, HubError> {
    let bad = |reason: &str| HubError::BadName { reference: text.into(), reason: reason.into() };
    let Some((front, after)) = text.split_once('@') else {
        let name = ModelName::parse(text)?;
        return Ok(Wanted { name, revision: None, plain_http: false });
    };
    let (revision, tag) = after.split_once(':').map_or((after, None), |(r, t)| (r, Some(t)));
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let sound = !revision.is_empty() && revision.len() <= MAX_REVISION;
    if !sound || !revision.chars().all(plain) || revision.split('/').any(|p| p == "..") {
        return Err(bad("what follows the '@' is no revision"));
    }
    let name = ModelName::parse(&tag.map_or(front.to_owned(), |tag| format!("{front}:{tag}")))?;
    if name.host != HUGGING_FACE && name.host != MODEL_SCOPE {
        return Err(bad("only repositories of Hugging Face and ModelScope have revisions"));
    }
    Ok(Wanted { name, revision: Some(revision.to_owned()), plain_http: false })
}

/// `https://huggingface.co/org/repo/resolve/rev/file.gguf` and the like are names, another GGUF file is an address, the rest is a
/// registry's name with a scheme.
fn address(text: &str, scheme: &str, rest: &str) -> Result<Reference, HubError> {
    let bad = |reason: &str| HubError::BadName { reference: text.into(), reason: reason.into() };
    if scheme != "http" && scheme != "https" {
        return Err(bad("only http and https addresses can be fetched"));
    }
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let parts = match (host, parts.as_slice()) {
        ("modelscope.cn" | "www.modelscope.cn", ["models", parts @ ..]) => parts,
        (_, parts) => parts,
    };
    let on_hub = ["hf.co", "huggingface.co", "modelscope.cn", "www.modelscope.cn"].contains(&host);
    match parts {
        [org, repo, "resolve" | "blob", revision, .., file] if on_hub => {
            wanted(&format!("{host}/{org}/{repo}@{revision}:{file}")).map(Reference::Model)
        }
        [org, repo, ..] if on_hub => wanted(&format!("{host}/{org}/{repo}")).map(Reference::Model),
        _ if path.to_ascii_lowercase().ends_with(".gguf") => Ok(Reference::Url(text.to_owned())),
        _ => {
            let found = wanted(rest)?;
            Ok(Reference::Model(Wanted { plain_http: scheme == "http", ..found }))
        }
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

    fn model(text: &str) -> (String, Option<String>, bool) {
        match parse(text) {
            Ok(Reference::Model(w)) => (w.name.to_string(), w.revision, w.plain_http),
            other => panic!("{text}: {other:?}"),
        }
    }

    fn named(name: &str, revision: Option<&str>) -> (String, Option<String>, bool) {
        (name.to_owned(), revision.map(str::to_owned), false)
    }

    #[test]
    fn names_revisions_and_pages_of_hubs() {
        for (text, expected) in [
            ("smollm2", named("smollm2:latest", None)),
            ("hf.co/o/r:Q4_K_M", named("hf.co/o/r:Q4_K_M", None)),
            ("hf.co/o/r@abc123:Q4_K_M", named("hf.co/o/r:Q4_K_M", Some("abc123"))),
            ("hf.co/o/r:m-Q4_0.gguf", named("hf.co/o/r:m-Q4_0.gguf", None)),
            ("https://huggingface.co/o/r", named("hf.co/o/r:latest", None)),
            (
                "https://huggingface.co/o/r/resolve/main/m.gguf?download=true",
                named("hf.co/o/r:m.gguf", Some("main")),
            ),
            ("https://modelscope.cn/models/o/r", named("modelscope.cn/o/r:latest", None)),
        ] {
            assert_eq!(model(text), expected, "{text}");
        }
        let plain = ("localhost:5000/a/b:c".to_owned(), None, true);
        assert_eq!(model("http://localhost:5000/a/b:c"), plain);
    }

    #[test]
    fn a_gguf_behind_an_address() {
        let url = "https://example.org/dir/m.gguf";
        assert_eq!(parse(url).unwrap(), Reference::Url(url.into()));
    }

    #[test]
    fn hostile_names_are_refused() {
        for bad in [
            "",
            ":",
            "a:",
            ":b",
            "-rf",
            "a b",
            "a\0b",
            "a\nb",
            "ü",
            "a:..",
            "a@b",
            "hf.co/o/r@",
            "hf.co/o/r@../x:y",
            "file:///etc/passwd",
            "ftp://x/y.gguf",
            "https://",
            "https://x/../y",
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
        for missing in ["no-such.gguf", "./x", "../x:y", dir.path().to_str().unwrap()] {
            assert!(matches!(parse(missing), Err(HubError::NoSuchFile { .. })), "{missing}");
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
