//! The models of the catalogue, read from the data that `hob-hub` is built with: names, numbers and published configurations have one
//! home. Read by path, since `hob-model` must not use `hob-hub`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hob_model::hf::HfConfig;
use serde_json::Value;

/// All entries by their full names, `name:tag`.
pub fn entries() -> BTreeMap<String, Value> {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "hub", "catalogue"].iter().collect();
    let files = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
    let entries =
        files.filter(|file| file.extension().is_some_and(|e| e == "json")).flat_map(|f| {
            serde_json::from_str::<Vec<Value>>(&std::fs::read_to_string(f).unwrap()).unwrap()
        });
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
    entries.map(|e| (format!("{}:{}", text(&e, "name"), text(&e, "tag")), e)).collect()
}

/// The published configuration of an entry, where the catalogue has it.
pub fn config(entry: &Value) -> Option<HfConfig> {
    let config = entry.get("published")?.get("config")?;
    Some(
        HfConfig::parse(&config.to_string())
            .unwrap_or_else(|e| panic!("{}: {e}", entry["weights"])),
    )
}
