//! `hob fit`: every recipe of a model, from its description alone: the file, the memory, whether and where it fits this machine or another one, and
//! how fast it would be there. The arithmetic is `plan`'s; here a model, a machine and wishes are found for it.

mod show;
#[cfg(test)]
mod tests;
mod words;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::builder::RangedU64ValueParser;
use hob_gguf::MetaBuilder;
use hob_hub::{Hub, HubError};
use hob_model::hf::{HfConfig, MAX_CONFIG_BYTES};
use hob_model::{FileSize, Model, RecipeOptions};
use hob_plan::Rig;
use hob_plan::fit::{self, Fit};
use hob_plan::placement::Wishes;
use hob_server::{Described, ModelFile};
use serde_json::Value;

use crate::answer::{Kv, MOST_TOKENS, MOST_USERS, at_least_one};
use crate::doctor::lang;
use crate::hardware::Hardware;
use crate::out::Usage;
use crate::{out, quality};

/// Show which recipes of a model fit, and how fast they are
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  hob fit qwen3:14b\n  hob fit qwen3:14b --device \"RTX 4070\" --context 32768\n  \
    hob fit deepseek-r1:671b --device \"M3 Ultra 512GB\"\n  hob fit qwen3:32b --device \"2x A100 80GB\" --users 16 --json\n  \
    hob fit qwen3:14b --lang zh\n  \
    hob fit ./Llama-3.2-1B/config.json --tensors\n\n\
    Nothing is downloaded and no weights are read. Sizes from a GGUF file are exact; from a name or a\n\
    config.json the tokenizer's part is an estimate (a few MB of the file)."
)]
pub struct Args {
    /// Name in the store or catalogue, GGUF file, or Hugging Face config.json or its folder
    model: String,
    /// Tokens of every sequence [default: 8192, or the model's own]
    #[arg(long, value_parser = at_least_one(MOST_TOKENS))]
    context: Option<usize>,
    /// Sequences at the same time, each with the whole context
    #[arg(long, default_value_t = 1, value_parser = at_least_one(MOST_USERS))]
    users: usize,
    /// Type of the cache
    #[arg(long, value_enum, default_value_t)]
    kv: Kv,
    /// Tokens before the one whose speed is told; benchmarks have none
    #[arg(long, default_value_t = 0, value_parser = RangedU64ValueParser::<usize>::new().range(0..=MOST_TOKENS))]
    depth: usize,
    #[command(flatten)]
    hardware: Hardware,
    /// Files made without an importance matrix: other types in some recipes
    #[arg(long)]
    no_imatrix: bool,
    /// Show the types of the tensors instead
    #[arg(long)]
    tensors: bool,
    #[command(flatten)]
    spoken: lang::Asked,
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
    /// Measured quality by recipe.
    measured: Vec<(String, Value)>,
}

/// What was found out about it.
struct Report<'a> {
    subject: &'a Subject,
    rig: Rig,
    wishes: Wishes,
    importance: bool,
    fits: Vec<Fit>,
    best: Option<(usize, fit::Why)>,
    /// What `hob pull` takes, where this machine has a GPU, which hob does not compute on yet.
    pulled: Option<Fit>,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let subject = subject(&args.model)?;
    let rig = args.hardware.rig()?;
    let wishes = wishes(args, &subject.model)?;
    let pulled = args.hardware.device.is_none() && rig.has_gpu();
    let report = report(&subject, rig, wishes, !args.no_imatrix, pulled)?;
    let (lang, width) = (args.spoken.lang(), crate::doctor::width());
    match (args.json, args.tensors) {
        (true, _) => out::print_json(&show::json(&report)),
        (false, true) => out::print(&show::tensors(&report, lang, width)),
        (false, false) => out::print(&show::text(&report, lang, width)),
    }
}

/// `pulled`: what hob itself would take is another question.
fn report(
    subject: &Subject,
    rig: Rig,
    wishes: Wishes,
    importance: bool,
    pulled: bool,
) -> Result<Report<'_>> {
    let options = RecipeOptions { importance, ..RecipeOptions::default() };
    let asked = fit::Subject::new(&subject.model, &subject.size, &options);
    let fits = fit::fit(&asked, &rig, &wishes);
    if fits.iter().any(|fit| fit.file_bytes.is_none()) {
        bail!("{} is too large", subject.name);
    }
    let best = fit::best(&fits);
    let pulled = pulled.then(|| on_cores(&asked, &rig)).flatten();
    Ok(Report { subject, rig, wishes, importance, fits, best, pulled })
}

/// The best where hob itself computes, of all recipes.
fn on_cores(asked: &fit::Subject, rig: &Rig) -> Option<Fit> {
    let mut fits = fit::fit(asked, &rig.clone().cores_only(), &Wishes::usual(asked.model));
    let (index, _) = fit::best(&fits)?;
    Some(fits.swap_remove(index))
}

fn wishes(args: &Args, model: &Model) -> Result<Wishes> {
    let trained = model.context as usize;
    let context = args.context.unwrap_or(Wishes::usual(model).context);
    if context > trained {
        bail!(Usage(format!(
            "a context of {context} tokens is more than the {trained} that the model was made for; ask for {trained} or less"
        )));
    }
    let depth = args.depth;
    if depth >= context.max(1) {
        bail!(Usage(format!(
            "a depth of {depth} tokens is not within the context of {context} tokens; give a larger --context"
        )));
    }
    let (users, kv) = (args.users, args.kv.into());
    Ok(Wishes { users, kv, depth, ..Wishes::new(context) })
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
        Ok(Some(local)) => {
            let measured = quality::of_recipes(&hub, &local);
            return of_file(reference, &crate::models::open(&hub, reference)?, measured);
        }
        Ok(None) | Err(HubError::NoSource { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let Some((name, published)) = hub.published(reference)? else {
        bail!(
            "'{reference}' is not on this machine and its description is not published here; fetch it with `hob pull {reference}`, or \
            give its config.json, which lies beside the weights in its repository: `hob fit ./config.json`"
        )
    };
    let config = HfConfig::parse(&published.config.to_string())?;
    let subject = of_config(&name, config, published.tokenizer_bytes)?;
    Ok(Subject { measured: quality::of_name(&hub, &name), ..subject })
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

fn of_file(name: &str, file: &ModelFile, measured: Vec<(String, Value)>) -> Result<Subject> {
    let model = file.describe()?;
    hob_model::bind(&model, &file.gguf).with_context(|| format!("cannot use {name}"))?;
    let mut meta = MetaBuilder::new();
    meta.extend(file.meta());
    Ok(Subject { measured, ..Subject::new(name, Described::new(model, meta, 0)?, true) })
}

fn of_config(name: &str, config: HfConfig, tokenizer_bytes: Option<u64>) -> Result<Subject> {
    Ok(Subject::new(name, Described::of_config(config, tokenizer_bytes)?, false))
}

impl Subject {
    fn new(name: &str, described: Described, exact: bool) -> Subject {
        let Described { model, size } = described;
        Subject { name: name.to_owned(), model, size, exact, measured: Vec::new() }
    }
}
