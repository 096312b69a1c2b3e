//! `hob fit`: how large each recipe's file of a model would be, from its description alone. Whether it then fits a machine, and how
//! fast it runs there, is not asked yet.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hob_gguf::MetaBuilder;
use hob_hub::{Hub, HubError};
use hob_model::hf::{HfConfig, MAX_CONFIG_BYTES};
use hob_model::{FileSize, Model, Recipe, RecipeOptions, TOKENIZER_BYTES_PER_ENTRY};
use hob_quant::GgmlType;
use serde_json::{Map, Value, json};

use crate::out;
use hob_server::ModelFile;

/// Show how large each recipe's file of a model is
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  hob fit qwen3:14b\n  hob fit ./model.gguf --json\n  hob fit ./Llama-3.2-1B/config.json\n\n\
    Nothing is downloaded and no weights are read. Sizes from a GGUF file are exact; from a name or a\n\
    config.json the tokenizer's part is an estimate (a few MB of the file)."
)]
pub struct Args {
    /// Name in the store or catalogue, GGUF file, or Hugging Face config.json or its folder
    model: String,
    /// Files made without an importance matrix: other types in some recipes
    #[arg(long)]
    no_imatrix: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A model to be sized.
struct Subject {
    name: String,
    model: Model,
    size: FileSize,
    /// Whether the header's bytes were counted, not estimated.
    exact: bool,
}

/// The file of one recipe.
struct Row {
    recipe: &'static Recipe,
    file_bytes: u64,
    bits_per_weight: f64,
    /// Number of tensors by type.
    tensors: BTreeMap<GgmlType, usize>,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let subject = subject(&args.model)?;
    let options = RecipeOptions { importance: !args.no_imatrix, ..RecipeOptions::default() };
    let rows: Vec<Row> =
        Recipe::all().iter().map(|recipe| subject.row(recipe, &options)).collect::<Result<_>>()?;
    match args.json {
        true => out::print_json(&json_of(&subject, &rows, options.importance)),
        false => out::print(&text_of(&subject, &rows, options.importance)),
    }
}

/// The model that the argument means: a config, a file that is here, or a published description.
fn subject(reference: &str) -> Result<Subject> {
    if let Some(path) = config_path(reference) {
        let what = || format!("cannot use {}", path.display());
        let config = read_config(&path).and_then(|text| Ok(HfConfig::parse(&text)?));
        return of_config(reference, config.with_context(what)?, None).with_context(what);
    }
    let hub = Hub::open()?;
    match hub.find(reference) {
        Ok(Some(_)) => return of_file(reference, &crate::models::open(&hub, reference)?),
        Ok(None) | Err(HubError::NoSource { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let Some((name, published)) = hub.published(reference)? else {
        bail!(
            "'{reference}' is not on this machine and its description is not published here; fetch it with `hob pull {reference}`"
        )
    };
    let config = HfConfig::parse(&published.config.to_string())?;
    of_config(&name, config, published.tokenizer_bytes)
}

/// The file that the argument names, if it names a config: a file `*.json`, or a folder.
fn config_path(reference: &str) -> Option<PathBuf> {
    let path = Path::new(reference);
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
        return Some(path.to_owned());
    }
    let inside = path.join("config.json");
    let folder = path.is_dir() && (reference.contains(['/', '\\']) || inside.is_file());
    folder.then_some(inside)
}

fn read_config(path: &Path) -> Result<String> {
    let mut text = String::new();
    // One byte more than allowed, so that the parser sees that it is too long.
    File::open(path)?.take(MAX_CONFIG_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

fn of_file(name: &str, file: &ModelFile) -> Result<Subject> {
    let model = file.describe()?;
    hob_model::bind(&model, &file.gguf).with_context(|| format!("cannot use {name}"))?;
    let mut meta = MetaBuilder::new();
    meta.extend(file.meta());
    Subject::new(name, model, meta, None)
}

fn of_config(name: &str, config: HfConfig, tokenizer_bytes: Option<u64>) -> Result<Subject> {
    let model = config.describe()?;
    let tokenizer = u64::from(model.vocab) * TOKENIZER_BYTES_PER_ENTRY;
    Subject::new(name, model, config.meta, Some(tokenizer_bytes.unwrap_or(tokenizer)))
}

impl Subject {
    /// `missing`: bytes of the metadata that are not in `meta`.
    fn new(
        name: &str,
        model: Model,
        mut meta: MetaBuilder,
        missing: Option<u64>,
    ) -> Result<Subject> {
        // What a recipe states of itself has one length: any of them will do.
        if let Some(recipe) = Recipe::all().first() {
            recipe.stamp(&mut meta);
        }
        let size = FileSize::of(&model, &meta, missing.unwrap_or(0))?;
        Ok(Subject { name: name.to_owned(), model, size, exact: missing.is_none() })
    }

    fn row(&self, recipe: &'static Recipe, options: &RecipeOptions) -> Result<Row> {
        let types = recipe.tensor_types(&self.model, options);
        let file_bytes = self.size.file_bytes(&self.model, &types);
        let file_bytes = file_bytes.with_context(|| format!("{} is too large", self.name))?;
        let mut tensors = BTreeMap::new();
        types.into_iter().for_each(|ty| *tensors.entry(ty).or_default() += 1);
        let data_bits = 8.0 * (file_bytes - self.size.header()) as f64;
        let bits_per_weight = data_bits / self.model.parameters() as f64;
        Ok(Row { recipe, file_bytes, bits_per_weight, tensors })
    }
}

fn json_of(subject: &Subject, rows: &[Row], importance: bool) -> Value {
    let recipe = |row: &Row| {
        let types: Map<String, Value> =
            row.tensors.iter().map(|(ty, n)| (ty.name().to_owned(), (*n).into())).collect();
        json!({
            "recipe": row.recipe.name,
            "file_bytes": row.file_bytes,
            "bits_per_weight": (row.bits_per_weight * 1e4).round() / 1e4,
            "needs_importance": row.recipe.needs_importance(),
            "tensor_types": types,
        })
    };
    json!({
        "schema": 1,
        "model": subject.name,
        "architecture": subject.model.arch,
        "parameters": subject.model.parameters(),
        "active_parameters": subject.model.active_parameters(),
        "importance": importance,
        "header_bytes": subject.size.header(),
        "header_exact": subject.exact,
        "recipes": rows.iter().map(recipe).collect::<Vec<_>>(),
    })
}

fn text_of(subject: &Subject, rows: &[Row], importance: bool) -> String {
    let (all, active) = (subject.model.parameters(), subject.model.active_parameters());
    let mut text =
        format!("{}: {}, {} parameters", subject.name, subject.model.arch, out::count(all));
    if active != all {
        text += &format!(", {} of them active", out::count(active));
    }
    let header = ["RECIPE", "FILE", "BITS", "IMATRIX", "TENSORS"].map(str::to_owned);
    let lines = rows.iter().map(|row| {
        let tensors: Vec<String> = row.tensors.iter().map(|(ty, n)| format!("{n} {ty}")).collect();
        let needed = if row.recipe.needs_importance() { "needed" } else { "" };
        [
            row.recipe.name.to_owned(),
            size(row.file_bytes),
            format!("{:.2}", row.bits_per_weight),
            needed.to_owned(),
            tensors.join(", "),
        ]
    });
    let table: Vec<[String; 5]> = std::iter::once(header).chain(lines).collect();
    let with = if importance { "with" } else { "without" };
    let counted = if subject.exact { "exact" } else { "estimated" };
    text + "\n\n"
        + &out::table(&table)
        + &format!(
            "\nFiles made {with} an importance matrix; each holds {} of metadata ({counted}).\n",
            out::file_size(subject.size.header())
        )
}

/// Two decimals, as the hubs list files.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000_000 => format!("{:.2} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}
