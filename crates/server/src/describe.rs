//! What a model is, for people and programs: the JSON of Ollama's `/api/show` and `/api/tags`, and the texts that they are made of. `hob show`
//! and `hob list` print the same. Read from the file, the store and the template; nothing is loaded.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use hob_gguf::{Gguf, Metadata, TensorInfo, Value as Meta};
use hob_hub::{Facts, Hub, LocalModel};
use hob_model::Head;
use hob_plan::units;
use hob_text::{ChatTemplate, GoTemplate, Modelfile, Parameter, Template};
use serde_json::{Map, Value, json};

use crate::error::LoadError;
use crate::file::{ModelFile, recipe};
use crate::loaded::INFILL;
use crate::sampling::Sampling;

/// Longest array of metadata that is shown element by element unless all is wanted; Ollama's number.
pub const SHORT_ARRAY: usize = 5;

/// What the list of models says of one beyond its store's facts: it takes opening the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    /// The value of `details`.
    pub details: Value,
    /// What the model can do, in Ollama's words.
    pub capabilities: Vec<&'static str>,
}

/// Cards that were made before: files of a store do not change.
#[derive(Default)]
pub struct Cards(Mutex<HashMap<(PathBuf, SystemTime), Option<Card>>>);

/// Cards that are remembered.
const MOST_CARDS: usize = 4096;

impl Cards {
    /// A model's card; opens its file the first time. `None` when that cannot be read.
    pub fn card(&self, hub: &Hub, model: &LocalModel) -> Option<Card> {
        let key = (model.path.clone(), model.modified);
        if let Some(card) = self.known().get(&key) {
            return card.clone();
        }
        let card = ModelFile::peek(hub, model.clone()).ok().map(|file| Card::of(&file));
        let mut known = self.known();
        if known.len() >= MOST_CARDS {
            known.clear();
        }
        known.insert(key, card.clone());
        card
    }

    fn known(&self) -> MutexGuard<'_, HashMap<(PathBuf, SystemTime), Option<Card>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the weights of a Modelfile are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// By their paths, for the user of this machine.
    Paths,
    /// By the model's name, for everybody else.
    Name,
}

impl Card {
    /// Of an open file.
    pub fn of(file: &ModelFile) -> Card {
        Card { details: details(file), capabilities: capabilities(file) }
    }
}

/// What a model's files say of it; `None` when they are no model, which then shows when it is used.
pub fn facts(parts: &[PathBuf]) -> Option<Facts> {
    let gguf = Gguf::open_shards(parts).ok()?;
    let meta = gguf.meta();
    let text = |key: &str| meta.opt_str(key).ok().flatten().unwrap_or_default().to_owned();
    let parameters = hob_model::describe(&gguf).ok().map(|model| model.parameters());
    Some(Facts {
        architecture: text("general.architecture"),
        parameters,
        parameter_size: parameters.map(units::count).unwrap_or_default(),
        recipe: recipe(&gguf).to_owned(),
        licence: text("general.license"),
        source: String::new(),
    })
}

/// The chat template of the layer beside the file, else the file's own.
pub fn template(file: &ModelFile) -> Option<String> {
    if let Some(template) = &file.overlay.template {
        return Some(template.clone());
    }
    let text = file.meta().opt_str("tokenizer.chat_template").ok().flatten()?;
    (!text.trim().is_empty()).then(|| text.to_owned())
}

/// Name or text of the licence, by the file or by the catalogue.
pub fn licence(file: &ModelFile) -> Option<String> {
    if !file.overlay.licences.is_empty() {
        return Some(file.overlay.licences.join("\n"));
    }
    let key = |name| file.meta().opt_str(name).ok().flatten().map(str::to_owned);
    key("general.license.name")
        .or_else(|| key("general.license"))
        .or_else(|| file.local.facts.as_ref().map(|f| f.licence.clone()).filter(|l| !l.is_empty()))
}

/// The parameters that differ from the defaults, a line each, in Ollama's columns.
///
/// # Errors
/// When the file or its store has one that cannot be.
pub fn parameters(file: &ModelFile) -> Result<String, LoadError> {
    let lines = Sampling::of_model(file)?.lines();
    Ok(lines.iter().map(|(name, value)| format!("{name:30} {value}\n")).collect())
}

/// What makes this model, as `hob create` reads it.
pub fn modelfile(file: &ModelFile, from: From) -> Modelfile {
    let overlay = &file.overlay;
    let path = |path: &PathBuf| path.display().to_string();
    let mut parameters = Vec::new();
    for (name, value) in &overlay.parameters {
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        parameters.extend(values.iter().map(|v| (name.clone(), parameter(v))));
    }
    let own = Modelfile {
        parameters,
        template: overlay.template.clone(),
        system: overlay.system.clone(),
        licenses: overlay.licences.clone(),
        messages: overlay.messages.clone(),
        renderer: overlay.renderer.clone(),
        parser: overlay.parser.clone(),
        ..Modelfile::default()
    };
    match from {
        // Adapter and draft come with the name.
        From::Name => Modelfile { from: vec![file.local.name.clone()], ..own },
        From::Paths => Modelfile {
            from: file.local.parts.iter().chain(&overlay.projector).map(path).collect(),
            adapter: overlay.adapters.first().map(path),
            draft: overlay.draft.as_ref().map(path),
            ..own
        },
    }
}

/// One value of the parameters' layer, as a Modelfile writes it.
pub fn parameter(value: &Value) -> Parameter {
    match value {
        Value::Bool(b) => Parameter::Bool(*b),
        Value::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(n), _) => Parameter::Int(n),
            (None, x) => Parameter::Float(x.unwrap_or_default()),
        },
        Value::String(text) => Parameter::Text(text.clone()),
        other => Parameter::Text(other.to_string()),
    }
}

/// The model's family, as its file says.
pub fn architecture(meta: &Metadata) -> &str {
    meta.opt_str("general.architecture").ok().flatten().unwrap_or("unknown")
}

/// A number that the file says of its architecture.
pub fn of_architecture(meta: &Metadata, key: &str) -> Option<u32> {
    meta.opt_u32(&format!("{}.{key}", architecture(meta))).ok().flatten()
}

/// Elements of all tensors, but for constants that are computed rather than trained.
pub fn parameter_count(file: &ModelFile) -> u64 {
    match hob_model::describe(&file.gguf) {
        Ok(model) => model.parameters(),
        Err(_) => file.gguf.tensors().iter().map(|t| t.elements()).sum(),
    }
}

/// What a model can do, in Ollama's words.
pub fn capabilities(file: &ModelFile) -> Vec<&'static str> {
    if hob_model::describe(&file.gguf).is_ok_and(|model| matches!(model.head, Head::Pool(_))) {
        return vec!["embedding"];
    }
    let mut all = vec!["completion"];
    let known = template_of(file).map(|template| match template {
        Template::Jinja(template) => template.capabilities(),
        Template::Go(template) => template.capabilities(),
    });
    if known.is_some_and(|k| k.tools) {
        all.push("tools");
    }
    if known.is_some_and(|k| k.insert) || has_infill(file.meta()) {
        all.push("insert");
    }
    if known.is_some_and(|k| k.thinking) {
        all.push("thinking");
    }
    all
}

/// The template that would count, without a vocabulary; none if it cannot be read.
fn template_of(file: &ModelFile) -> Option<Template> {
    let text = file.meta().opt_str("tokenizer.chat_template").ok().flatten();
    let jinja = text.filter(|t| !t.trim().is_empty());
    let jinja = jinja.and_then(|t| ChatTemplate::new(t, "", "").ok());
    let go = file.overlay.template.as_deref().and_then(|t| GoTemplate::new(t).ok());
    Template::choose(jinja, go, file.overlay.own_template)
}

/// Whether the vocabulary has tokens for filling in.
fn has_infill(meta: &Metadata) -> bool {
    let Some((_, Meta::Array(pieces))) =
        meta.iter().find(|(key, _)| *key == "tokenizer.ggml.tokens")
    else {
        return false;
    };
    let mut found = [[false; 3]; INFILL.len()];
    for piece in pieces.iter() {
        let Meta::Str(piece) = piece else { continue };
        for (found, names) in found.iter_mut().zip(INFILL) {
            for (found, name) in found.iter_mut().zip(names) {
                *found |= name == piece;
            }
        }
    }
    found.iter().any(|all| all.iter().all(|&one| one))
}

/// The value of `details`.
pub fn details(file: &ModelFile) -> Value {
    let meta = file.meta();
    let architecture = architecture(meta);
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": architecture,
        "families": [architecture],
        "parameter_size": units::count(parameter_count(file)),
        "quantization_level": file.recipe(),
        "context_length": of_architecture(meta, "context_length"),
        "embedding_length": of_architecture(meta, "embedding_length"),
    })
}

/// The answer of `/api/show`.
///
/// # Errors
/// When the file or its store has a parameter that cannot be.
pub fn show(file: &ModelFile, verbose: bool, from: From) -> Result<Value, LoadError> {
    let overlay = &file.overlay;
    let mut reply = Map::new();
    let mut put = |key: &str, value: Value| {
        if !value.is_null() {
            reply.insert(key.to_owned(), value);
        }
    };
    // hob's own: the name in full.
    put("name", file.local.name.clone().into());
    put("license", licence(file).into());
    put("modelfile", modelfile(file, from).to_string().into());
    put("parameters", parameters(file)?.into());
    put("template", template(file).into());
    put("system", overlay.system.clone().into());
    put("renderer", overlay.renderer.clone().into());
    put("parser", overlay.parser.clone().into());
    put("details", details(file));
    if !overlay.messages.is_empty() {
        let said = |(role, text): &(String, String)| json!({"role": role, "content": text});
        put("messages", overlay.messages.iter().map(said).collect());
    }
    put("model_info", model_info(file.meta(), parameter_count(file), verbose).into());
    if let Some(projector) = overlay.projector.as_ref().and_then(|p| Gguf::open(p).ok()) {
        let count = projector.tensors().iter().map(|t| t.elements()).sum();
        put("projector_info", model_info(projector.meta(), count, verbose).into());
    }
    if verbose {
        let tensor = |t: &TensorInfo| json!({"name": t.name, "type": t.ty.name(), "shape": t.dims});
        put("tensors", file.gguf.tensors().iter().map(tensor).collect());
    }
    put("capabilities", capabilities(file).into());
    put("modified_at", timestamp(file.local.modified).into());
    // hob's own: what a request without options gets.
    put("options", Sampling::of_model(file)?.to_options().into());
    Ok(reply.into())
}

/// All metadata but the name and the template; long arrays are empty unless `verbose`, as in Ollama.
fn model_info(meta: &Metadata, parameters: u64, verbose: bool) -> Map<String, Value> {
    let mut info = Map::new();
    info.insert("general.parameter_count".to_owned(), parameters.into());
    for (key, value) in meta.iter() {
        if !matches!(key, "general.name" | "tokenizer.chat_template") {
            info.insert(key.to_owned(), to_json(value, verbose));
        }
    }
    info
}

fn to_json(value: Meta<'_>, long_arrays: bool) -> Value {
    match value {
        Meta::Str(text) => text.into(),
        Meta::Bytes(bytes) => String::from_utf8_lossy(bytes).into(),
        Meta::Bool(b) => b.into(),
        Meta::F32(x) => serde_json::Number::from_f64(f64::from(x)).into(),
        Meta::F64(x) => serde_json::Number::from_f64(x).into(),
        Meta::U64(n) => n.into(),
        Meta::Array(a) if a.len() > SHORT_ARRAY && !long_arrays => json!([]),
        Meta::Array(a) => a.iter().map(|v| to_json(v, long_arrays)).collect(),
        other => other.as_int().and_then(|n| i64::try_from(n).ok()).into(),
    }
}

/// One entry of `/api/tags`. Without a card, what the store knows.
pub fn tag(hub: &Hub, model: &LocalModel, card: Option<&Card>) -> Value {
    let facts = model.facts.as_ref();
    let family = facts.map(|f| f.architecture.as_str()).unwrap_or_default();
    let known = || {
        json!({
            "parent_model": "",
            "format": "gguf",
            "family": family,
            "families": [family],
            "parameter_size": facts.map(size_of),
            "quantization_level": facts.map(|f| &f.recipe),
        })
    };
    let mut tag = json!({
        "name": model.name,
        "model": model.name,
        "modified_at": timestamp(model.modified),
        "size": model.bytes,
        "digest": digest(model),
        "keeper": model.keeper.name(),
        "details": card.map_or_else(known, |card| card.details.clone()),
        "measured": hub.measured(model),
    });
    if let Some(card) = card {
        tag["capabilities"] = card.capabilities.clone().into();
    }
    tag
}

/// What tells one state of a name from another: of the manifest, else of the file; empty where nobody wrote one down.
pub fn digest(model: &LocalModel) -> &str {
    model.id.as_deref().or(model.digest.as_deref()).unwrap_or_default()
}

fn size_of(facts: &Facts) -> String {
    match facts.parameter_size.as_str() {
        "" => facts.parameters.map(units::count).unwrap_or_default(),
        told => told.to_owned(),
    }
}

/// RFC 3339 in UTC, to the second.
pub fn timestamp(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, rest) = ((seconds / 86400) as i64, seconds % 86400);
    // Civil date from days since 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms").
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (h, m, s) = (rest / 3600, rest % 3600 / 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_rfc_3339() {
        let at = |s| timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(s));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(4_102_444_799), "2099-12-31T23:59:59Z");
    }
}
