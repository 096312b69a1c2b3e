//! How the sources are reached: addresses, tokens, connections. All of it has defaults; what differs is an environment variable, or a line
//! `NAME=value` in the file `settings` of the store's folder, so that a mirror is configured once and in one line.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::net::{Net, Patience};
use crate::python::Pip;
use crate::shared::Cache;
use crate::source::Hubs;
use crate::source::hubs::endpoint;
use crate::transfer::Options;

/// Longest settings file that is read.
const MAX_FILE: u64 = 64 << 10;

/// Everything about the way to the sources.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub net: Net,
    pub hubs: Hubs,
    /// Address of the registry that names without a host are in, or a mirror of it.
    pub registry: String,
    /// Which hub is asked first.
    pub first: First,
    pub options: Options,
    pub pip: Pip,
    /// The cache of Hugging Face's libraries.
    pub hugging_face_cache: Option<Cache>,
    /// Keys that registries know the user by, in the order to be tried.
    pub keys: Vec<PathBuf>,
}

/// The hub that is asked first where several have a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    HuggingFace,
    ModelScope,
}

impl Settings {
    /// From the environment, the file in the store's folder, and the public hubs, in this order.
    pub fn from_env(root: &Path) -> Settings {
        let file = lines(&root.join("settings"));
        let set = |name: &str| {
            let value = env::var(name).ok().or_else(|| file.get(name).cloned())?;
            Some(value.trim().to_owned()).filter(|v| !v.is_empty())
        };
        let first = match set("HOB_HUB").map(|v| v.to_ascii_lowercase()).as_deref() {
            Some("modelscope" | "modelscope.cn") => First::ModelScope,
            _ => First::HuggingFace,
        };
        let usual = Options::default();
        let connections = set("HOB_CONNECTIONS").and_then(|v| v.parse().ok());
        let options = Options {
            rate: set("HOB_RATE").and_then(|v| bytes_per_second(&v)),
            connections: connections.map_or(usual.connections, |n: usize| n.clamp(1, 64)),
            ..usual
        };
        let ollama = env::home_dir().map(|home| home.join(".ollama/id_ed25519"));
        Settings {
            net: Net::new(Patience::default()),
            hubs: Hubs::from_vars(&set, env::home_dir()),
            registry: endpoint(set("HOB_REGISTRY"), "https://registry.ollama.ai"),
            first,
            options,
            pip: Pip::default(),
            hugging_face_cache: Cache::from_env(&set, env::home_dir().as_deref()),
            keys: ollama.into_iter().chain([root.join("id_ed25519")]).collect(),
        }
    }
}

/// The lines `NAME=value` of a file; others and `#` are comments.
fn lines(path: &Path) -> BTreeMap<String, String> {
    let short = fs::metadata(path).is_ok_and(|meta| meta.len() <= MAX_FILE);
    let text = fs::read_to_string(path).ok().filter(|_| short).unwrap_or_default();
    let line = |line: &str| {
        let (name, value) = line.split_once('=').filter(|_| !line.starts_with('#'))?;
        Some((name.trim().to_owned(), value.trim().trim_matches('"').to_owned()))
    };
    text.lines().filter_map(line).collect()
}

/// `10M` is ten million bytes per second; `k` and `G` likewise. `None` for what is no rate.
pub(crate) fn bytes_per_second(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, unit) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (&text[..at], 1e3),
        (at, 'm' | 'M') => (&text[..at], 1e6),
        (at, 'g' | 'G') => (&text[..at], 1e9),
        _ => (text, 1.0),
    };
    let rate = number.trim().parse::<f64>().ok()? * unit;
    (1.0..1e15).contains(&rate).then_some(rate as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        for (text, rate) in [("10M", Some(10_000_000)), ("1.5 k", Some(1500)), ("7", Some(7))] {
            assert_eq!(bytes_per_second(text), rate);
        }
        for bad in ["", "M", "fast", "-1M", "0", "1e30", "10é"] {
            assert_eq!(bytes_per_second(bad), None, "{bad}");
        }
    }

    #[test]
    fn one_line_configures_a_mirror() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("settings"), "# mirror\nHOB_REGISTRY = mirror.example/\nx\n")
            .unwrap();
        assert_eq!(Settings::from_env(dir.path()).registry, "https://mirror.example");
    }
}
