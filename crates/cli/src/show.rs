//! `hob show`: what a model file is, from its metadata and its description. Files that hob cannot run yet are shown too, as far as
//! their metadata goes. The JSON is that of Ollama's `/api/show`.

use std::path::PathBuf;

use anyhow::Result;
use hob_gguf::{Metadata, Value};
use hob_hub::Hub;
use hob_model::{CacheLayout, KvType};
use hob_text::Modelfile;
use serde_json::{Map, json};

use crate::{create, out, quality};
use hob_server::ModelFile;
use hob_server::Sampling;

/// Longest array that is shown element by element without `--verbose`; Ollama's number.
const SHORT_ARRAY: usize = 5;
/// Longest text of one metadata value on a line.
const SHORT_TEXT: usize = 100;

/// Show what a model is
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  hob show smollm2:135m\n  hob show ./model.gguf --template\n  hob show smollm2:135m --verbose\n  \
    hob show smollm2:135m --json"
)]
pub struct Args {
    /// Name in the store, or path to a GGUF file
    model: String,
    /// Print only the licence
    #[arg(long, group = "section")]
    license: bool,
    /// Print only the sampling parameters that the file recommends
    #[arg(long, group = "section")]
    parameters: bool,
    /// Print only the chat template
    #[arg(long, group = "section")]
    template: bool,
    /// Print only the system prompt
    #[arg(long, group = "section")]
    system: bool,
    /// Print the Modelfile that makes this model
    #[arg(long, group = "section")]
    modelfile: bool,
    /// Also list all metadata and tensors
    #[arg(short, long, conflicts_with = "section")]
    verbose: bool,
    /// Print JSON, as Ollama's /api/show answers
    #[arg(long, conflicts_with = "section")]
    json: bool,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let hub = Hub::open()?;
    let file = crate::models::open(&hub, &args.model)?;
    if args.license {
        return section(&args.model, "licence", licence(&file));
    }
    if args.template {
        return section(&args.model, "chat template", template(&file));
    }
    if args.system {
        return section(&args.model, "system prompt", file.overlay.system.clone());
    }
    if args.modelfile {
        return out::print(&modelfile(&file).to_string());
    }
    if args.parameters {
        let lines = parameters(&file)?;
        return section(&args.model, "sampling parameters", (!lines.is_empty()).then_some(lines));
    }
    if args.json {
        let mut reply = json_of(&file, args.verbose)?;
        reply["measured"] = hub.measured(&file.local).into();
        return out::print_json(&reply);
    }
    out::print(&overview(&file)?)?;
    out::print(&block("Measured", &quality::rows(&hub.measured(&file.local))))?;
    if args.verbose { out::print(&details(&file)) } else { Ok(()) }
}

/// Prints a section whole, or says on stderr that there is none.
fn section(model: &str, what: &str, text: Option<String>) -> Result<()> {
    match text {
        Some(text) => out::print(&format!("{}\n", text.trim_end_matches('\n'))),
        None => {
            out::say(&format!("{model} has no {what} of its own"));
            Ok(())
        }
    }
}

/// The text of an overview, in Ollama's layout.
pub fn overview(file: &ModelFile) -> Result<String> {
    let mut text = block("Model", &model_rows(file));
    let parameters = Sampling::of_file(file.meta())?.lines();
    let rows: Vec<_> =
        parameters.into_iter().map(|(name, value)| [name.to_owned(), value]).collect();
    text += &block("Parameters", &rows);
    if let Some(template) = template(file) {
        let size = format!("{} characters, see --template", template.chars().count());
        text += &block("Chat template", &[["of the file".to_owned(), size]]);
    }
    if let Some(licence) = licence(file) {
        let first = licence.lines().find(|l| !l.trim().is_empty()).unwrap_or("").trim().to_owned();
        text += &block("License", &[[first, String::new()]]);
    }
    Ok(text)
}

fn block(title: &str, rows: &[[String; 2]]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let lines: String = out::table(rows).lines().map(|line| format!("    {line}\n")).collect();
    format!("  {title}\n{lines}\n")
}

fn model_rows(file: &ModelFile) -> Vec<[String; 2]> {
    let meta = file.meta();
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push([name.to_owned(), value]);
    row("architecture", architecture(meta).to_owned());
    row("parameters", out::count(parameter_count(file)));
    for key in ["context_length", "embedding_length"] {
        if let Some(n) = of_architecture(meta, key) {
            row(&key.replace('_', " "), n.to_string());
        }
    }
    row("quantization", file.recipe().to_owned());
    row("file", out::file_size(file.gguf.file_bytes()));
    match hob_model::describe(&file.gguf) {
        Ok(model) => {
            let page = CacheLayout::of(&model).page_bytes(KvType::F16);
            row(
                "cache",
                format!(
                    "{} per 1000 tokens (F16)",
                    out::memory_size(page * 1000 / hob_model::PAGE as u64)
                ),
            );
        }
        Err(e) => row("hob", format!("cannot run it yet: {e}")),
    }
    rows
}

fn architecture(meta: &Metadata) -> &str {
    meta.opt_str("general.architecture").ok().flatten().unwrap_or("unknown")
}

fn of_architecture(meta: &Metadata, key: &str) -> Option<u32> {
    meta.opt_u32(&format!("{}.{key}", architecture(meta))).ok().flatten()
}

/// Elements of all tensors, but for constants that are computed rather than trained.
fn parameter_count(file: &ModelFile) -> u64 {
    match hob_model::describe(&file.gguf) {
        Ok(model) => model.parameters(),
        Err(_) => file.gguf.tensors().iter().map(|t| t.elements()).sum(),
    }
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
        .or_else(|| file.local.facts.as_ref().map(|f| f.licence.clone()))
}

fn parameters(file: &ModelFile) -> Result<String> {
    let lines = Sampling::of_model(file)?.lines();
    Ok(lines.iter().map(|(name, value)| format!("{name:30} {value}\n")).collect())
}

/// What makes this model, as `hob create` reads it.
fn modelfile(file: &ModelFile) -> Modelfile {
    let overlay = &file.overlay;
    let path = |path: &PathBuf| path.display().to_string();
    let mut parameters = Vec::new();
    for (name, value) in &overlay.parameters {
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        parameters.extend(values.iter().map(|v| (name.clone(), create::parameter(v))));
    }
    Modelfile {
        from: file.local.parts.iter().chain(&overlay.projector).map(path).collect(),
        parameters,
        template: overlay.template.clone(),
        system: overlay.system.clone(),
        adapter: overlay.adapters.first().map(path),
        draft: overlay.draft.as_ref().map(path),
        licenses: overlay.licences.clone(),
        messages: overlay.messages.clone(),
        renderer: overlay.renderer.clone(),
        parser: overlay.parser.clone(),
        ..Modelfile::default()
    }
}

fn details(file: &ModelFile) -> String {
    let metadata: Vec<_> =
        file.meta().iter().map(|(key, value)| [key.to_owned(), short(value)]).collect();
    let tensors: Vec<_> = file
        .gguf
        .tensors()
        .iter()
        .map(|t| [t.name.clone(), format!("{:8} {:?}", t.ty.name(), t.dims)])
        .collect();
    block("Metadata", &metadata) + &block("Tensors", &tensors)
}

/// A metadata value on one line.
fn short(value: Value<'_>) -> String {
    match value {
        Value::Str(text) => {
            let head: String = text.chars().take(SHORT_TEXT).collect();
            let more = if head.len() < text.len() { " ..." } else { "" };
            format!("{head:?}{more}")
        }
        Value::Array(array) if array.len() <= SHORT_ARRAY => {
            let parts: Vec<String> = array.iter().map(short).collect();
            format!("[{}]", parts.join(", "))
        }
        other => other.to_string(),
    }
}

fn json_of(file: &ModelFile, verbose: bool) -> Result<serde_json::Value> {
    let template = template(file);
    let mut capabilities = vec!["completion"];
    if template.as_deref().is_some_and(|t| t.contains("tools")) {
        capabilities.push("tools");
    }
    let architecture = architecture(file.meta());
    let mut reply = json!({
        "license": licence(file),
        "parameters": parameters(file)?,
        "template": template,
        "system": file.overlay.system,
        "modelfile": modelfile(file).to_string(),
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": architecture,
            "families": [architecture],
            "parameter_size": out::count(parameter_count(file)),
            "quantization_level": file.recipe(),
        },
        "model_info": model_info(file, verbose),
        "capabilities": capabilities,
        "modified_at": out::timestamp(file.local.modified),
    });
    if verbose && let Some(reply) = reply.as_object_mut() {
        let tensors = file.gguf.tensors().iter();
        let list = tensors
            .map(|t| json!({"name": t.name, "type": t.ty.name(), "shape": t.dims}))
            .collect();
        reply.insert("tensors".to_owned(), list);
    }
    Ok(reply)
}

/// All metadata but the name and the template; long arrays are empty unless `verbose`, as in Ollama.
fn model_info(file: &ModelFile, verbose: bool) -> Map<String, serde_json::Value> {
    let mut info = Map::new();
    info.insert("general.parameter_count".to_owned(), parameter_count(file).into());
    for (key, value) in file.meta().iter() {
        if !matches!(key, "general.name" | "tokenizer.chat_template") {
            info.insert(key.to_owned(), to_json(value, verbose));
        }
    }
    info
}

fn to_json(value: Value<'_>, long_arrays: bool) -> serde_json::Value {
    match value {
        Value::Str(text) => text.into(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into(),
        Value::Bool(b) => b.into(),
        Value::F32(x) => serde_json::Number::from_f64(f64::from(x)).into(),
        Value::F64(x) => serde_json::Number::from_f64(x).into(),
        Value::U64(n) => n.into(),
        Value::Array(a) if a.len() > SHORT_ARRAY && !long_arrays => json!([]),
        Value::Array(a) => a.iter().map(|v| to_json(v, long_arrays)).collect(),
        other => other.as_int().and_then(|n| i64::try_from(n).ok()).into(),
    }
}
