//! The vocabularies of the asset cache.

use std::path::PathBuf;

use hob_text::Tokenizer;

/// The folder of the vocabulary files.
pub fn assets_vocab() -> PathBuf {
    let root = std::env::var_os("HOB_ASSETS").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").expect("HOME or HOB_ASSETS must be set");
        PathBuf::from(home).join(".cache/hob-assets")
    });
    let folder = root.join("vocab");
    assert!(folder.is_dir(), "{} is not there: run `cargo xtask assets` first", folder.display());
    folder
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
