//! Where other programs keep their models: the folders that their own variables and habits name. Nothing is searched for elsewhere, and
//! a folder that is named need not exist.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Longest note of LM Studio on where it keeps things.
const MAX_NOTE: u64 = 1 << 20;

/// Folders of models, the preferred first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    /// Stores of Ollama.
    pub ollama: Vec<PathBuf>,
    /// Models folders of LM Studio.
    pub lm_studio: Vec<PathBuf>,
    /// The cache of Hugging Face's libraries.
    pub hugging_face: Option<PathBuf>,
}

impl Places {
    /// What these variables and this home directory say.
    pub fn from_env(var: &dyn Fn(&str) -> Option<String>, home: Option<&Path>) -> Places {
        let home = home.filter(|h| !h.as_os_str().is_empty());
        let set =
            |name: &str| var(name).filter(|v| !v.trim().is_empty()).map(|v| from_home(&v, home));
        Places {
            ollama: set("OLLAMA_MODELS").map_or_else(|| ollama(home), |folder| vec![folder]),
            lm_studio: home.map(lm_studio).unwrap_or_default(),
            hugging_face: hugging_face(&set, home),
        }
    }
}

fn ollama(home: Option<&Path>) -> Vec<PathBuf> {
    let own = home.map(|home| home.join(".ollama/models"));
    // Where Ollama's installer for Linux has its service keep them; often closed to others.
    let system = PathBuf::from("/usr/share/ollama/.ollama/models");
    let open = cfg!(unix) && fs::read_dir(system.join("manifests")).is_ok();
    own.into_iter().chain(Some(system).filter(|_| open)).collect()
}

fn lm_studio(home: &Path) -> Vec<PathBuf> {
    let pointed = small_text(&home.join(".lmstudio-home-pointer"), MAX_NOTE)
        .and_then(|text| text.lines().next().map(|line| PathBuf::from(line.trim())))
        .filter(|path| path.is_absolute());
    let usual = [".lmstudio", ".cache/lm-studio"].map(|folder| home.join(folder));
    let homes = pointed.into_iter().chain(usual);
    let folders = homes.flat_map(|home| [downloads_folder(&home), Some(home.join("models"))]);
    distinct(folders.flatten().collect())
}

/// The folder that a user of LM Studio chose.
fn downloads_folder(home: &Path) -> Option<PathBuf> {
    let settings = small_text(&home.join("settings.json"), MAX_NOTE)?;
    let settings: Value = serde_json::from_str(&settings).ok()?;
    let folder = PathBuf::from(settings.get("downloadsFolder")?.as_str()?);
    folder.is_absolute().then_some(folder)
}

fn hugging_face(set: &dyn Fn(&str) -> Option<PathBuf>, home: Option<&Path>) -> Option<PathBuf> {
    if let Some(folder) = set("HF_HUB_CACHE").or_else(|| set("HUGGINGFACE_HUB_CACHE")) {
        return Some(folder);
    }
    if let Some(folder) = set("HF_HOME") {
        return Some(folder.join("hub"));
    }
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(home?.join(".cache")))?;
    Some(cache.join("huggingface/hub"))
}

/// A path in which `~` may stand for the home directory.
fn from_home(text: &str, home: Option<&Path>) -> PathBuf {
    match (text.strip_prefix('~'), home) {
        (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
            home.join(rest.trim_start_matches('/'))
        }
        _ => PathBuf::from(text),
    }
}

/// Whether two paths are one folder, now or as soon as there is one.
pub(super) fn same_place(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Each folder once, where it comes first.
pub(super) fn distinct(folders: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut kept: Vec<PathBuf> = Vec::new();
    for folder in folders {
        if !kept.iter().any(|known| same_place(known, &folder)) {
            kept.push(folder);
        }
    }
    kept
}

/// The text of a file, of which no more than this is read. Only of a file: opening a pipe would wait for its other end.
pub(super) fn small_text(path: &Path, limit: u64) -> Option<String> {
    let mut text = String::new();
    fs::metadata(path).ok().filter(|meta| meta.is_file())?;
    File::open(path).ok()?.take(limit).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(vars: &[(&str, &str)], home: &Path) -> Places {
        let var = |name: &str| {
            vars.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        };
        Places::from_env(&var, Some(home))
    }

    #[test]
    fn variables_come_before_habits() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        let usual = places(&[("OLLAMA_MODELS", " "), ("HF_HOME", "")], home);
        assert_eq!(usual.ollama[0], home.join(".ollama/models"));
        assert_eq!(usual.hugging_face, Some(home.join(".cache/huggingface/hub")));
        assert_eq!(
            usual.lm_studio,
            [home.join(".lmstudio/models"), home.join(".cache/lm-studio/models")]
        );
        assert_eq!(places(&[("OLLAMA_MODELS", "~/m")], home).ollama, [home.join("m")]);
        let cache = |vars| places(vars, home).hugging_face.unwrap();
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        let two = [("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/y")];
        assert_eq!(cache(&two), Path::new("/y/hub"));
        assert_eq!(cache(&[("HF_HUB_CACHE", "/z"), ("HF_HOME", "/y")]), Path::new("/z"));
        let nowhere = Places::from_env(&|_| None, None);
        assert_eq!((nowhere.hugging_face, nowhere.lm_studio), (None, Vec::new()));
    }

    #[test]
    fn lm_studio_says_where_it_lives() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        let elsewhere = home.join("elsewhere");
        fs::create_dir_all(&elsewhere).unwrap();
        let pointer = home.join(".lmstudio-home-pointer");
        fs::write(&pointer, format!("{}\n", elsewhere.display())).unwrap();
        let chosen = serde_json::json!({"downloadsFolder": home.join("chosen")});
        fs::write(elsewhere.join("settings.json"), chosen.to_string()).unwrap();
        let found = places(&[], home).lm_studio;
        assert_eq!(found[..2], [home.join("chosen"), elsewhere.join("models")]);
        for rubbish in ["", "relative", "\0", "{"] {
            fs::write(&pointer, rubbish).unwrap();
            fs::write(elsewhere.join("settings.json"), rubbish).unwrap();
            assert_eq!(places(&[], home).lm_studio.len(), 2, "{rubbish:?}");
        }
    }
}
