//! Where the hubs are and who we are there: addresses and tokens from the variables and files that the hubs' own Python libraries read,
//! so that what is set up for them works here. Tokens are read, never written.

use std::fmt;
use std::path::PathBuf;

use super::{HuggingFace, ModelScope, small_file};

/// A variable's value by its name.
type Var<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The hubs of this user.
#[derive(Clone)]
pub(crate) struct Hubs {
    /// Address of Hugging Face or a mirror of it, without a slash at its end.
    pub hugging_face: String,
    pub hugging_face_token: Option<String>,
    /// Address of ModelScope, likewise.
    pub model_scope: String,
    pub model_scope_token: Option<String>,
}

impl Hubs {
    /// The public hubs, unless the user's variables name others.
    pub fn from_vars(var: Var, home: Option<PathBuf>) -> Hubs {
        let var = &|name: &str| var(name).filter(|value| !value.trim().is_empty());
        let scope = var("MODELSCOPE_ENDPOINT").or_else(|| var("MODELSCOPE_DOMAIN"));
        Hubs {
            hugging_face: endpoint(var("HF_ENDPOINT"), "https://huggingface.co"),
            hugging_face_token: hugging_face_token(var, home),
            model_scope: endpoint(scope, "https://modelscope.cn"),
            model_scope_token: var("MODELSCOPE_API_TOKEN").and_then(|token| clean(&token)),
        }
    }

    /// A repository of Hugging Face, at `main` unless another revision is wanted.
    pub fn on_hugging_face(&self, repo: &str, revision: Option<&str>) -> HuggingFace {
        HuggingFace {
            endpoint: self.hugging_face.clone(),
            repo: repo.to_owned(),
            revision: revision.unwrap_or("main").to_owned(),
            token: self.hugging_face_token.clone(),
        }
    }

    /// A repository of ModelScope, at `master` unless another revision is wanted.
    pub fn on_model_scope(&self, repo: &str, revision: Option<&str>) -> ModelScope {
        ModelScope {
            endpoint: self.model_scope.clone(),
            repo: repo.to_owned(),
            revision: revision.unwrap_or("master").to_owned(),
            token: self.model_scope_token.clone(),
        }
    }
}

/// Without the tokens.
impl fmt::Debug for Hubs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hubs at {} and {}", self.hugging_face, self.model_scope)
    }
}

/// A host alone gets a scheme; a slash at the end goes.
pub(crate) fn endpoint(value: Option<String>, default: &str) -> String {
    let value = value.unwrap_or_else(|| default.to_owned());
    match value.trim().trim_end_matches('/') {
        address if address.contains("://") => address.to_owned(),
        host => format!("https://{host}"),
    }
}

/// `HF_TOKEN`, or the file that `hf auth login` writes.
fn hugging_face_token(var: Var, home: Option<PathBuf>) -> Option<String> {
    let off = var("HF_HUB_DISABLE_IMPLICIT_TOKEN").map(|v| v.to_ascii_uppercase());
    if off.is_some_and(|v| matches!(v.as_str(), "1" | "ON" | "YES" | "TRUE")) {
        return None;
    }
    if let Some(token) = var("HF_TOKEN").or_else(|| var("HUGGING_FACE_HUB_TOKEN")) {
        return clean(&token);
    }
    let folder = || {
        if let Some(folder) = var("HF_HOME") {
            return Some(PathBuf::from(folder));
        }
        let cache = var("XDG_CACHE_HOME").map(PathBuf::from);
        Some(cache.or_else(|| Some(home?.join(".cache")))?.join("huggingface"))
    };
    let file = var("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(folder()?.join("token")))?;
    clean(&small_file(&file)?)
}

fn clean(text: &str) -> Option<String> {
    let token: String = text.trim().chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    (!token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn hubs(vars: &[(&str, &str)], home: Option<PathBuf>) -> Hubs {
        let var = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Hubs::from_vars(&var, home)
    }

    #[test]
    fn addresses_come_from_the_hubs_own_variables() {
        let none = hubs(&[], None);
        assert_eq!(
            (none.hugging_face.as_str(), none.model_scope.as_str()),
            ("https://huggingface.co", "https://modelscope.cn")
        );
        let set = hubs(
            &[("HF_ENDPOINT", " https://mirror.example/ "), ("MODELSCOPE_DOMAIN", "ms.example")],
            None,
        );
        assert_eq!(
            (set.hugging_face.as_str(), set.model_scope.as_str()),
            ("https://mirror.example", "https://ms.example")
        );
        let both = hubs(
            &[("MODELSCOPE_ENDPOINT", "http://127.0.0.1:80"), ("MODELSCOPE_DOMAIN", "ms.example")],
            None,
        );
        assert_eq!(both.model_scope, "http://127.0.0.1:80");
        let repo = both.on_model_scope("org/repo", None);
        assert_eq!(
            (repo.endpoint, repo.revision),
            ("http://127.0.0.1:80".to_owned(), "master".to_owned())
        );
        assert_eq!(set.on_hugging_face("org/repo", None).revision, "main");
        assert_eq!(set.on_hugging_face("org/repo", Some("v1")).revision, "v1");
    }

    #[test]
    fn tokens_are_found_where_the_python_library_has_them() {
        let home = tempfile::tempdir().unwrap();
        let cache = home.path().join(".cache/huggingface");
        fs::create_dir_all(&cache).unwrap();
        fs::write(cache.join("token"), "hf_file\n").unwrap();
        let other = home.path().join("other");
        fs::write(&other, " hf_other \r\n").unwrap();
        let large = home.path().join("large");
        fs::write(&large, "x".repeat(10_000)).unwrap();
        let at =
            |vars: &[(&str, &str)]| hubs(vars, Some(home.path().to_owned())).hugging_face_token;
        let [other, large, folder] = [&other, &large, &cache].map(|p| p.to_str().unwrap());
        let token = |text: &str| Some(text.to_owned());
        assert_eq!(at(&[]), token("hf_file"));
        assert_eq!(at(&[("HF_TOKEN", " hf_env\n")]), token("hf_env"));
        assert_eq!(at(&[("HF_TOKEN", " "), ("HUGGING_FACE_HUB_TOKEN", "old")]), token("old"));
        assert_eq!(at(&[("HF_TOKEN_PATH", other)]), token("hf_other"));
        assert_eq!(at(&[("HF_TOKEN_PATH", large)]), None);
        assert_eq!(at(&[("HF_HOME", folder)]), token("hf_file"));
        assert_eq!(at(&[("XDG_CACHE_HOME", "/nowhere")]), None);
        assert_eq!(at(&[("HF_TOKEN", "x"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "true")]), None);
        let scope = hubs(&[("MODELSCOPE_API_TOKEN", "ms-x\n")], None);
        assert_eq!(scope.model_scope_token, token("ms-x"));
    }
}
