//! `hob search`: the catalogue and the hubs by words, with what fits this machine. The hubs are asked at the same time; one that does not
//! answer is told and hides nothing.

use anyhow::Result;
use hob_hub::{CatalogueModel, Choice, Found, Hub, Tried};
use hob_machine::Machine;
use hob_model::{Recipe, RecipeOptions};
use hob_plan::Rig;
use hob_plan::fit::Subject;
use hob_server::{Chooser, Described, here};
use serde_json::{Value, json};

use crate::out;

/// Search the catalogue and the hubs
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  hob search qwen3\n  hob search code apache-2.0\n  \
    hob search --offline embedding\n\nFITS is the recipe that `hob pull` would take here if all are offered.")]
pub struct Args {
    /// Words that must all fit: name, size, family, purpose, publisher, licence
    words: Vec<String>,
    /// Only the catalogue, without the network
    #[arg(long)]
    offline: bool,
    /// Most results of each hub
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100))]
    limit: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A model of the catalogue and what of it fits.
struct Row<'a> {
    model: &'a CatalogueModel,
    /// Recipe and bytes of its file.
    fits: Option<(&'static str, u64)>,
    /// Bytes of the usual recipe.
    usual: Option<u64>,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let hub = Hub::open()?;
    let words = args.words.join(" ");
    let here = here::cores(hub.root(), &Machine::host()?);
    let rows: Vec<Row> = hub.search(&words).into_iter().map(|m| row(m, &here)).collect();
    let (found, tried) = match args.offline || words.is_empty() {
        true => (Vec::new(), Vec::new()),
        false => hub.search_hubs(&words, args.limit as usize),
    };
    for Tried { source, error } in &tried {
        out::say(&format!("{source} could not be asked: {error}"));
    }
    match args.json {
        true => out::print_json(&to_json(&rows, &found)),
        false => out::print(&to_text(&rows, &found)),
    }
}

/// Sizes of every recipe's file, if the catalogue has the model's description, and the best for this machine.
fn row<'a>(model: &'a CatalogueModel, here: &Rig) -> Row<'a> {
    let Some((described, sizes)) = sizes(model) else {
        return Row { model, fits: None, usual: None };
    };
    let choice = |(recipe, bytes): &(&str, u64)| Choice {
        recipe: (*recipe).to_owned(),
        bytes: Some(*bytes),
    };
    let choices: Vec<Choice> = sizes.iter().map(choice).collect();
    let picked = Chooser::of(Some(described), here.clone()).choose(&model.name, &choices).ok();
    let usual = sizes.iter().find(|(recipe, _)| *recipe == "Q4_K_M").map(|(_, bytes)| *bytes);
    Row { model, fits: picked.and_then(|index| sizes.get(index).copied()), usual }
}

/// The model's description, and each recipe's bytes.
fn sizes(model: &CatalogueModel) -> Option<(Described, Vec<(&'static str, u64)>)> {
    let described = Described::of_published(model.published()?).ok()?;
    let options = RecipeOptions { importance: true, ..RecipeOptions::default() };
    let subject = Subject::new(&described.model, &described.size, &options);
    let bytes = |recipe: &'static Recipe| Some((recipe.name, subject.bytes(recipe)?));
    let mut sizes: Vec<_> = Recipe::all().iter().filter_map(bytes).collect();
    sizes.sort_by_key(|(_, bytes)| *bytes);
    Some((described, sizes))
}

fn to_json(rows: &[Row], found: &[Found]) -> Value {
    let catalogue = rows.iter().map(|Row { model, fits, usual }| {
        json!({
            "name": model.full_name(),
            "architecture": model.architecture,
            "parameters": model.parameters,
            "active_parameters": model.active_parameters,
            "context": model.context,
            "licence": model.licence,
            "kinds": model.kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
            "released": model.released,
            "weights": model.weights,
            "q4_k_m_bytes": usual,
            "fits": fits.map(|(recipe, bytes)| json!({"recipe": recipe, "file_bytes": bytes})),
            "hugging_face": model.repositories.hugging_face().collect::<Vec<_>>(),
            "model_scope": model.repositories.model_scope().collect::<Vec<_>>(),
        })
    });
    let hubs = found.iter().map(|f| {
        json!({
            "name": format!("{}/{}", f.hub, f.repo),
            "hub": f.hub,
            "architecture": f.architecture,
            "parameters": f.parameters,
            "context": f.context,
            "downloads": f.downloads,
            "likes": f.likes,
            "updated": f.updated,
            "licence": f.licence,
            "gguf": f.gguf,
        })
    });
    json!({"schema": 1, "catalogue": catalogue.collect::<Vec<_>>(), "hubs": hubs.collect::<Vec<_>>()})
}

fn to_text(rows: &[Row], found: &[Found]) -> String {
    let own = |s: &str| s.to_owned();
    let size = |bytes: Option<u64>| bytes.map_or(own("-"), out::file_size);
    let mut text = String::new();
    if !rows.is_empty() {
        let head = ["NAME", "PARAMETERS", "Q4_K_M", "FITS", "CONTEXT", "FOR", "LICENCE"].map(own);
        let line = |row: &Row| {
            let m = row.model;
            let fits = match (row.fits, row.usual) {
                (Some((recipe, _)), _) => own(recipe),
                (None, Some(_)) => own("no"),
                (None, None) => own("-"),
            };
            let kinds: Vec<&str> = m.kinds.iter().map(|kind| kind.name()).collect();
            let active = m.active_parameters.map(|n| format!(" ({} active)", out::count(n)));
            let parameters = out::count(m.parameters) + &active.unwrap_or_default();
            let context = m.context.to_string();
            [
                m.full_name(),
                parameters,
                size(row.usual),
                fits,
                context,
                kinds.join(","),
                m.licence.clone(),
            ]
        };
        let table: Vec<_> = std::iter::once(head).chain(rows.iter().map(line)).collect();
        text += &out::table(&table);
    }
    if !found.is_empty() {
        let head = ["REPOSITORY", "PARAMETERS", "DOWNLOADS", "UPDATED", "LICENCE"].map(own);
        let line = |f: &Found| {
            let parameters = f.parameters.map_or(own("-"), out::count);
            let updated = f.updated.clone().unwrap_or(own("-"));
            let licence = f.licence.clone().unwrap_or(own("-"));
            [format!("{}/{}", f.hub, f.repo), parameters, out::count(f.downloads), updated, licence]
        };
        let gguf = found.iter().filter(|f| f.gguf);
        let table: Vec<_> = std::iter::once(head).chain(gguf.map(line)).collect();
        let gap = if text.is_empty() { "" } else { "\n" };
        text += gap;
        text += &out::table(&table);
    }
    if text.is_empty() { own("nothing found\n") } else { text }
}
