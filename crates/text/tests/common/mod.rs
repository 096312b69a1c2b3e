//! The vocabularies and templates of the asset cache.
#![allow(dead_code, reason = "each test uses its part")]

use std::path::PathBuf;

use hob_text::Tokenizer;

/// A folder of the asset cache.
fn folder(name: &str) -> PathBuf {
    let root = std::env::var_os("HOB_ASSETS").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").expect("HOME or HOB_ASSETS must be set");
        PathBuf::from(home).join(".cache/hob-assets")
    });
    let folder = root.join(name);
    assert!(folder.is_dir(), "{} is not there: run `cargo xtask assets` first", folder.display());
    folder
}

/// The folder of the vocabulary files.
pub fn assets_vocab() -> PathBuf {
    folder("vocab")
}

/// A chat template of the reference set.
pub fn template(name: &str) -> String {
    let path = folder("templates").join(format!("{name}.jinja"));
    std::fs::read_to_string(&path)
        .unwrap_or_else(|e| panic!("{}: {e}: run `cargo xtask assets`", path.display()))
}

/// A chat template of Ollama's library.
pub fn go_template(name: &str) -> String {
    let path = folder("go-templates").join(format!("{name}.gotmpl"));
    std::fs::read_to_string(&path)
        .unwrap_or_else(|e| panic!("{}: {e}: run `cargo xtask assets`", path.display()))
}

/// The names of all chat templates of Ollama's library.
pub fn go_template_names() -> Vec<String> {
    names("go-templates", ".gotmpl")
}

/// The metadata of a vocabulary of the reference set.
pub fn metadata(name: &str) -> hob_gguf::Gguf {
    let path = assets_vocab().join(format!("{name}.gguf"));
    hob_gguf::Gguf::open(&path)
        .unwrap_or_else(|e| panic!("{e}: run `cargo xtask assets` for {}", path.display()))
}

/// A tokenizer of the reference set.
pub fn load(name: &str) -> Tokenizer {
    Tokenizer::from_gguf(metadata(name).meta()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The names of all chat templates of the reference set.
pub fn template_names() -> Vec<String> {
    names("templates", ".jinja")
}

/// The files of a folder with this end, without it.
fn names(place: &str, end: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder(place)).expect("the folder of templates");
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> =
        names.filter_map(|n| n.strip_suffix(end).map(str::to_owned)).collect();
    names.sort();
    names
}
