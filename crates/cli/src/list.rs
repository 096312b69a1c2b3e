//! `hob list`: what the store holds, in Ollama's columns; as JSON, Ollama's `/api/tags`.

use anyhow::Result;
use hob_hub::{Facts, Hub, LocalModel};
use serde_json::{Value, json};

use crate::{out, quality};

/// List the models of the store
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  hob list\n  hob list smol\n  hob list --json")]
pub struct Args {
    /// Only names that start so
    prefix: Option<String>,
    /// Print JSON, as Ollama's /api/tags answers
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let prefix = args.prefix.as_deref().unwrap_or("").to_lowercase();
    let hub = Hub::open()?;
    let listing = hub.list()?;
    let models: Vec<LocalModel> =
        listing.models.into_iter().filter(|m| m.name.to_lowercase().starts_with(&prefix)).collect();
    for damaged in &listing.damaged {
        out::say(&format!("{} is damaged: {}", damaged.name, damaged.reason));
    }
    if args.json {
        return out::print_json(
            &json!({"models": models.iter().map(|m| tag(&hub, m)).collect::<Vec<_>>()}),
        );
    }
    let quality: Vec<_> = models.iter().map(|m| quality::brief(&hub, m)).collect();
    let head = ["NAME", "ID", "SIZE", "MODIFIED"].map(String::from);
    let rows = models.iter().map(row);
    if quality.iter().all(Option::is_none) {
        return out::print(&out::table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
    }
    let wider = |[name, id, size, modified]: [String; 4], quality: String| {
        [name, id, size, modified, quality]
    };
    let mut table = vec![wider(head, "QUALITY".to_owned())];
    table.extend(rows.zip(quality).map(|(row, q)| wider(row, q.unwrap_or("-".to_owned()))));
    out::print(&out::table(&table))
}

fn row(model: &LocalModel) -> [String; 4] {
    let id = model.id.as_deref().or(model.digest.as_deref()).and_then(|d| d.get(..12));
    let id = id.unwrap_or("-");
    [model.name.clone(), id.to_owned(), out::file_size(model.bytes), out::ago(model.modified)]
}

fn tag(hub: &Hub, model: &LocalModel) -> Value {
    let facts = model.facts.as_ref();
    let family = facts.map(|f| f.architecture.as_str()).unwrap_or_default();
    json!({
        "name": model.name,
        "model": model.name,
        "modified_at": out::timestamp(model.modified),
        "size": model.bytes,
        "digest": model.id.as_ref().or(model.digest.as_ref()),
        "keeper": model.keeper.name(),
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": family,
            "families": [family],
            "parameter_size": facts.map(size_of),
            "quantization_level": facts.map(|f| &f.recipe),
        },
        "measured": hub.measured(model),
    })
}

fn size_of(facts: &Facts) -> String {
    match facts.parameter_size.as_str() {
        "" => facts.parameters.map(out::count).unwrap_or_default(),
        told => told.to_owned(),
    }
}
