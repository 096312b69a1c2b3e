//! How an encoder's vectors of tokens become one of a text, as sentence-transformers folders say it: `modules.json` names
//! a folder whose config has the mode. Deliberately absent: other modules, such as a projection after it.

use std::path::Path;

use hob_model::hf::Pooling;
use serde_json::Value;

use super::error::ConvertError;
use super::folder::Folder;

/// Modes: as a flag and as a text in the config, and their numbers in GGUF.
const MODES: &[(&str, &str, u32)] = &[
    ("pooling_mode_mean_tokens", "mean", 1),
    ("pooling_mode_cls_token", "cls", 2),
    ("pooling_mode_lasttoken", "lasttoken", 3),
];

/// What a folder says.
pub(super) fn of(folder: &Folder) -> Result<Pooling, ConvertError> {
    let modules = folder.list("modules.json")?.unwrap_or_default();
    let text = |module: &Value, key: &str| module.get(key)?.as_str().map(str::to_owned);
    let is = |module: &&Value| text(module, "type").is_some_and(|t| t.ends_with("Pooling"));
    let Some(path) = modules.iter().find(is).and_then(|module| text(module, "path")) else {
        return Ok(Pooling::None);
    };
    // A name leads nowhere else.
    let plain = Path::new(&path).file_name().is_some_and(|name| name == path.as_str());
    let config = match plain {
        true => folder.json(&format!("{path}/config.json"))?,
        false => None,
    };
    let Some(config) = config else { return Ok(Pooling::Other(format!("in '{path}'"))) };
    let flag = |key: &str| config.get(key).and_then(Value::as_bool) == Some(true);
    let mode = config.get("pooling_mode").and_then(Value::as_str);
    let found = MODES.iter().find(|(key, _, _)| flag(key));
    let found = found.or_else(|| MODES.iter().find(|(_, name, _)| mode == Some(name)));
    Ok(match found {
        Some((_, _, number)) => Pooling::Number(*number),
        None => Pooling::Other(Value::Object(config).to_string()),
    })
}
