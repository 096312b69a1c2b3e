//! A model's full name: `host/namespace/model:tag`, in Ollama's grammar and with its defaults, so that a name means the same to both.
//! Names are compared without regard to case; the spelling given first is kept. Nothing here touches the disk or the network.

use std::fmt;

use crate::error::HubError;

/// The host of a name without one.
pub(crate) const DEFAULT_HOST: &str = "registry.ollama.ai";
/// The namespace of a name without one.
pub(crate) const DEFAULT_NAMESPACE: &str = "library";
/// The tag of a name without one.
pub(crate) const DEFAULT_TAG: &str = "latest";
/// Host of names that mean Hugging Face.
pub(crate) const HUGGING_FACE: &str = "hf.co";
/// Host of names that mean ModelScope.
pub(crate) const MODEL_SCOPE: &str = "modelscope.cn";

/// Other spellings of a host.
const ALIASES: [(&str, &str); 6] = [
    ("huggingface.co", HUGGING_FACE),
    ("www.huggingface.co", HUGGING_FACE),
    ("hf-mirror.com", HUGGING_FACE),
    ("www.modelscope.cn", MODEL_SCOPE),
    ("ollama.com", DEFAULT_HOST),
    ("www.ollama.com", DEFAULT_HOST),
];

/// A full name; every part is well-formed.
#[derive(Clone, Debug)]
pub(crate) struct ModelName {
    pub host: String,
    pub namespace: String,
    pub model: String,
    /// `None` when the name was given without one; `tag()` says what that means.
    tag: Option<String>,
}

/// The rules of one part: what it is called, what else than letters, digits and `_` may follow, and how long it is at most.
struct Rule {
    what: &'static str,
    more: &'static str,
    most: usize,
}

const HOST: Rule = Rule { what: "host", more: "-.:", most: 350 };
const NAMESPACE: Rule = Rule { what: "namespace", more: "-", most: 80 };
const MODEL: Rule = Rule { what: "name", more: "-.", most: 96 };
const TAG: Rule = Rule { what: "tag", more: "-.", most: 96 };

impl ModelName {
    /// Parses `[host/][namespace/]model[:tag]`. Repositories of the hubs may have a dot in their organisation.
    ///
    /// # Errors
    /// `BadName`, with the rule that is broken.
    pub fn parse(text: &str) -> Result<ModelName, HubError> {
        let bad = |reason: String| HubError::BadName { reference: text.to_owned(), reason };
        let (path, tag) = match text.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (text, None),
        };
        let mut parts = path.rsplitn(3, '/');
        let model = parts.next().unwrap_or_default();
        let namespace = parts.next().unwrap_or(DEFAULT_NAMESPACE);
        let host = parts.next().map_or(DEFAULT_HOST.to_owned(), canonical);
        let hub = host == HUGGING_FACE || host == MODEL_SCOPE;
        let rule = if hub { &MODEL } else { &NAMESPACE };
        HOST.check(&host).map_err(bad)?;
        Rule { what: "namespace", ..*rule }.check(namespace).map_err(bad)?;
        MODEL.check(model).map_err(bad)?;
        if let Some(tag) = tag {
            TAG.check(tag).map_err(bad)?;
        }
        let own = |s: &str| s.to_owned();
        Ok(ModelName { host, namespace: own(namespace), model: own(model), tag: tag.map(own) })
    }

    /// The name that four folders and files of a store spell; `None` when they spell none.
    pub fn from_parts(host: &str, namespace: &str, model: &str, tag: &str) -> Option<ModelName> {
        let parts_fit = HOST.check(host).is_ok()
            && MODEL.check(namespace).is_ok()
            && MODEL.check(model).is_ok()
            && TAG.check(tag).is_ok();
        let own = |s: &str| s.to_owned();
        parts_fit.then(|| ModelName {
            host: own(host),
            namespace: own(namespace),
            model: own(model),
            tag: Some(own(tag)),
        })
    }

    /// The tag, or the default one.
    pub fn tag(&self) -> &str {
        self.tag.as_deref().unwrap_or(DEFAULT_TAG)
    }

    /// The tag as given.
    pub fn given_tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The same model under this tag.
    pub fn with_tag(&self, tag: &str) -> Result<ModelName, HubError> {
        TAG.check(tag)
            .map_err(|reason| HubError::BadName { reference: format!("{self}:{tag}"), reason })?;
        Ok(ModelName { tag: Some(tag.to_owned()), ..self.clone() })
    }

    /// Whether the name has no host or namespace of its own: one that the catalogue may know.
    pub fn is_bare(&self) -> bool {
        self.host == DEFAULT_HOST && self.namespace == DEFAULT_NAMESPACE
    }

    /// Whether it means a repository of Hugging Face or ModelScope.
    pub fn is_on_hub(&self) -> bool {
        self.host == HUGGING_FACE || self.host == MODEL_SCOPE
    }

    /// Its repository on a hub.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.namespace, self.model)
    }

    /// The four parts, as folders and file of a store.
    pub fn parts(&self) -> [&str; 4] {
        [&self.host, &self.namespace, &self.model, self.tag()]
    }
}

impl PartialEq for ModelName {
    fn eq(&self, other: &ModelName) -> bool {
        self.parts().iter().zip(other.parts()).all(|(a, b)| a.eq_ignore_ascii_case(b))
    }
}

impl Eq for ModelName {}

/// Without the default host and namespace; the tag is always told.
impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host != DEFAULT_HOST {
            write!(f, "{}/{}/", self.host, self.namespace)?;
        } else if self.namespace != DEFAULT_NAMESPACE {
            write!(f, "{}/", self.namespace)?;
        }
        write!(f, "{}:{}", self.model, self.tag())
    }
}

/// At most `most` characters of a text, a dash for each that names and tags cannot have.
pub(crate) fn tidy(text: &str, most: usize) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    text.chars().map(plain).take(most).collect()
}

fn canonical(host: &str) -> String {
    let lower = host.to_ascii_lowercase();
    match ALIASES.iter().find(|(alias, _)| *alias == lower) {
        Some((_, host)) => (*host).to_owned(),
        None => lower,
    }
}

impl Rule {
    fn check(&self, part: &str) -> Result<(), String> {
        let Rule { what, more, most } = self;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if part.is_empty() {
            return Err(format!("its {what} is empty"));
        }
        if part.len() > *most {
            return Err(format!("its {what} is longer than {most} characters"));
        }
        if !part.starts_with(plain) {
            return Err(format!("its {what} does not start with a letter or digit"));
        }
        match part.chars().find(|c| !plain(*c) && !more.contains(*c)) {
            Some(c) => Err(format!("its {what} has a {c:?} in it")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(text: &str) -> [String; 4] {
        ModelName::parse(text).unwrap().parts().map(str::to_owned)
    }

    #[test]
    fn names_have_defaults() {
        for (text, expected) in [
            ("qwen3", ["registry.ollama.ai", "library", "qwen3", "latest"]),
            ("qwen3:14b", ["registry.ollama.ai", "library", "qwen3", "14b"]),
            ("me/mine:v1.0-x", ["registry.ollama.ai", "me", "mine", "v1.0-x"]),
            ("ollama.com/library/x", ["registry.ollama.ai", "library", "x", "latest"]),
            ("localhost:5000/a/b:c", ["localhost:5000", "a", "b", "c"]),
            ("localhost:5000/a/b", ["localhost:5000", "a", "b", "latest"]),
            ("hf.co/O.rg/Repo-GGUF:Q4_K_M", ["hf.co", "O.rg", "Repo-GGUF", "Q4_K_M"]),
            ("huggingface.co/o/r", ["hf.co", "o", "r", "latest"]),
        ] {
            assert_eq!(parts(text), expected, "{text}");
        }
    }

    #[test]
    fn names_are_shown_short() {
        for (text, shown) in [
            ("qwen3", "qwen3:latest"),
            ("library/qwen3:x", "qwen3:x"),
            ("me/mine", "me/mine:latest"),
            ("hf.co/o/r:Q8_0", "hf.co/o/r:Q8_0"),
        ] {
            assert_eq!(ModelName::parse(text).unwrap().to_string(), shown);
        }
        assert_eq!(ModelName::parse("A/B:C").unwrap(), ModelName::parse("a/b:c").unwrap());
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(97);
        for text in [
            "", ":", "a:", ":b", "a b", "../a", "a/../b", "a/b/..", "/a", "a//b", "-a", ".a",
            "a:.b", "a\0b", "a\\b", "é", "a.b/c", "x/y/z/w", &long,
        ] {
            assert!(ModelName::parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_four_safe_parts_that_parse_again(text in "\\PC{0,40}|[a-z./:_-]{0,30}") {
            if let Ok(name) = ModelName::parse(&text) {
                for part in name.parts() {
                    prop_assert!(part != "." && part != ".." && !part.contains(['/', '\\', '\0']));
                }
                prop_assert_eq!(&ModelName::parse(&name.to_string()).unwrap(), &name);
                let [host, namespace, model, tag] = name.parts();
                prop_assert_eq!(ModelName::from_parts(host, namespace, model, tag), Some(name.clone()));
            }
        }
    }
}
