//! `hob list`: what the store holds, a running server's or this user's own, in Ollama's columns; as JSON, Ollama's `/api/tags`.

use anyhow::Result;
use hob_hub::{Hub, LocalModel};
use hob_server::ModelFile;
use hob_server::describe::{self, Card};
use serde_json::{Value, json};

use crate::remote::Place;
use crate::{out, quality};

/// List the models of the store
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  hob list\n  hob list smol\n  hob list --json")]
pub struct Args {
    /// Only names that start so
    prefix: Option<String>,
    #[command(flatten)]
    place: Place,
    /// Print JSON, as Ollama's /api/tags answers
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let models = match args.place.server_if_any()? {
        Some(server) => server.get("/api/tags")?["models"].take(),
        None => here(args.json)?,
    };
    let prefix = args.prefix.as_deref().unwrap_or("").to_lowercase();
    let fits = |m: &&Value| text(m, "name").to_lowercase().starts_with(&prefix);
    let mut models: Vec<&Value> = models.as_array().into_iter().flatten().filter(fits).collect();
    if args.json {
        return out::print_json(&json!({"models": models}));
    }
    models.sort_by_key(|m| text(m, "name"));
    out::print(&table(&models))
}

/// What this user's store holds. `whole`: with what only the files tell.
fn here(whole: bool) -> Result<Value> {
    let hub = Hub::open()?;
    let listing = hub.list()?;
    for damaged in &listing.damaged {
        out::say(&format!("{} is damaged: {}", damaged.name, damaged.reason));
    }
    let card = |m: &LocalModel| {
        whole.then(|| ModelFile::peek(&hub, m.clone()).ok().map(|file| Card::of(&file))).flatten()
    };
    let tag = |m: &LocalModel| describe::tag(&hub, m, card(m).as_ref());
    let mut models = listing.models;
    models.sort_by_key(|m| std::cmp::Reverse(m.modified));
    Ok(models.iter().map(tag).collect())
}

/// Ollama's columns, and two that stand there only when they say something.
fn table(models: &[&Value]) -> String {
    let mut columns: Vec<Vec<String>> =
        ["NAME", "ID", "SIZE", "MODIFIED"].map(|head| vec![head.to_owned()]).into();
    for model in models {
        columns.iter_mut().zip(row(model)).for_each(|(column, cell)| column.push(cell));
    }
    let measured = |m: &&Value| quality::brief(m["measured"].as_array().map_or(&[], Vec::as_slice));
    let quality: Vec<_> = models.iter().map(measured).collect();
    if quality.iter().any(Option::is_some) {
        let cells = quality.into_iter().map(|q| q.unwrap_or("-".to_owned()));
        columns.push(std::iter::once("QUALITY".to_owned()).chain(cells).collect());
    }
    if models.iter().any(|m| text(m, "keeper") != "hob") {
        let cells = models.iter().map(|m| text(m, "keeper").to_owned());
        columns.push(std::iter::once("KEPT BY".to_owned()).chain(cells).collect());
    }
    let line = |n: usize| columns.iter().map(|column| column[n].clone()).collect::<Vec<_>>();
    out::table(&(0..=models.len()).map(line).collect::<Vec<_>>())
}

fn row(model: &Value) -> [String; 4] {
    let id = text(model, "digest").get(..12).unwrap_or("-");
    let size = out::file_size(model["size"].as_u64().unwrap_or_default());
    let modified = out::time(text(model, "modified_at")).map_or("-".to_owned(), out::ago);
    [text(model, "name").to_owned(), id.to_owned(), size, modified]
}

fn text<'a>(model: &'a Value, key: &str) -> &'a str {
    model[key].as_str().unwrap_or_default()
}
