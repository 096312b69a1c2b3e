//! `hob list`: what the store holds, in Ollama's columns; as JSON, Ollama's `/api/tags`.

use anyhow::Result;
use hob_hub::{Facts, Hub, Keeper, LocalModel};
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
    out::print(&table(&hub, &models))
}

/// Ollama's columns, and two that stand there only when they say something.
fn table(hub: &Hub, models: &[LocalModel]) -> String {
    let mut columns: Vec<Vec<String>> =
        ["NAME", "ID", "SIZE", "MODIFIED"].map(|head| vec![head.to_owned()]).into();
    for model in models {
        columns.iter_mut().zip(row(model)).for_each(|(column, cell)| column.push(cell));
    }
    let quality: Vec<_> = models.iter().map(|m| quality::brief(hub, m)).collect();
    if quality.iter().any(Option::is_some) {
        let cells = quality.into_iter().map(|q| q.unwrap_or("-".to_owned()));
        columns.push(std::iter::once("QUALITY".to_owned()).chain(cells).collect());
    }
    if models.iter().any(|m| m.keeper != Keeper::Hob) {
        let cells = models.iter().map(|m| m.keeper.name().to_owned());
        columns.push(std::iter::once("KEPT BY".to_owned()).chain(cells).collect());
    }
    let line = |n: usize| columns.iter().map(|column| column[n].clone()).collect::<Vec<_>>();
    out::table(&(0..=models.len()).map(line).collect::<Vec<_>>())
}

fn row(model: &LocalModel) -> [String; 4] {
    let id = model.id.as_deref().or(model.digest.as_deref()).and_then(|d| d.get(..12));
    let id = id.unwrap_or("-");
    [model.name.clone(), id.to_owned(), out::file_size(model.bytes), out::ago(model.modified)]
}
