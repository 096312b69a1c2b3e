//! `hob show`: what a model file is, from its metadata and its description. Files that hob cannot run yet are shown too, as far as
//! their metadata goes. The JSON is that of Ollama's `/api/show`.

use anyhow::Result;
use hob_gguf::Value;
use hob_hub::Hub;
use hob_model::{CacheLayout, KvType};
use hob_server::describe::{
    self, From, SHORT_ARRAY, architecture, licence, modelfile, of_architecture, parameter_count,
    parameters, template,
};
use hob_server::{ModelFile, Sampling};

use crate::{out, quality};

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
        return out::print(&modelfile(&file, From::Paths).to_string());
    }
    if args.parameters {
        let lines = parameters(&file)?;
        return section(&args.model, "sampling parameters", (!lines.is_empty()).then_some(lines));
    }
    if args.json {
        let mut reply = describe::show(&file, args.verbose, From::Paths)?;
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

/// Rows under a title.
pub fn block(title: &str, rows: &[[String; 2]]) -> String {
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
