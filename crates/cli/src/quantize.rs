//! `hob quantize`: a model's file in another mix of types. The work is done by `hob_forge`; here arguments become its
//! options, and its progress and result are shown.

use std::io::{IsTerminal, stderr};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use hob_forge::imatrix::Imatrix;
use hob_forge::quantize::{Importance, Options, Plan, Progress, QuantizeError, Split, Writing};
use hob_hub::Hub;
use hob_machine::Machine;
use hob_model::{Override, Recipe};
use hob_quant::GgmlType;
use indicatif::ProgressBar;
use serde_json::{Map, Value, json};

use crate::answer::at_least_one;
use crate::interrupt::Answering;
use crate::{out, progress};
use hob_server::ModelFile;
use hob_server::default_threads;

/// How often a line tells of the progress where there is no terminal.
const TELL_EVERY: Duration = Duration::from_secs(20);
/// A name this similar may be what was meant.
const SIMILAR: f64 = 0.75;

/// Make a model's file smaller: write it in another mix of types
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  hob quantize full.gguf small.gguf Q4_K_M\n  \
    hob quantize full.gguf small.gguf IQ3_XXS --imatrix imatrix.gguf\n  \
    hob quantize full.gguf small.gguf Q4_K_M --override 'attn_v=Q8_0' --override 'blk\\.[0-3]\\.=Q6_K'\n  \
    hob quantize full.gguf small.gguf Q5_K_M --dry-run\n  \
    hob quantize full.gguf small.gguf Q8_0 --split-size 2G\n\n\
    Types are chosen as by llama-quantize; `hob fit IN` lists the recipes and their sizes. OUT gets its name only when\n\
    it is whole; until then it grows as .OUT.hob-partial beside it.")]
pub struct Args {
    /// The source: name in the store, or path to a GGUF file (the first of a split set) or a Hugging Face folder
    #[arg(value_name = "IN")]
    source: String,
    /// The file to write
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// The mix of types, such as Q4_K_M; upper and lower case are the same
    #[arg(value_name = "RECIPE", value_parser = recipe)]
    recipe: &'static Recipe,
    /// How much each column of the weights matters, by `hob imatrix` or llama-imatrix
    #[arg(long, value_name = "FILE")]
    imatrix: Option<String>,
    /// Type of the tensors in whose name REGEX is found; the first that matches decides
    #[arg(long = "override", value_name = "REGEX=TYPE")]
    overrides: Vec<Override>,
    /// Type of the output (of the token embedding, where it serves as output)
    #[arg(long, value_name = "TYPE", value_parser = weight_type)]
    output_type: Option<GgmlType>,
    /// Type of the token embedding
    #[arg(long, value_name = "TYPE", value_parser = weight_type)]
    embedding_type: Option<GgmlType>,
    /// Leave output.weight as it is
    #[arg(long, conflicts_with = "output_type")]
    leave_output: bool,
    /// The recipe's base type for every matrix, without its mix
    #[arg(long)]
    pure: bool,
    /// Take a source that is quantized already (Q8_0 always is taken)
    #[arg(long)]
    allow_requantize: bool,
    /// Replace OUT, and make types that want an importance matrix without one
    #[arg(long)]
    force: bool,
    /// Write several files of at most so many bytes of tensors: 500M, 2G
    #[arg(long, value_name = "SIZE", value_parser = size)]
    split_size: Option<u64>,
    /// Write several files of so many tensors
    #[arg(long, value_name = "N", conflicts_with = "split_size", value_parser = at_least_one(u32::MAX.into()))]
    split_tensors: Option<usize>,
    /// Write as many files as the source has
    #[arg(long, conflicts_with_all = ["split_size", "split_tensors"])]
    keep_split: bool,
    /// Show types and sizes, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Threads that encode [default: one per core]
    #[arg(short, long, value_name = "N", value_parser = at_least_one(1024))]
    threads: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let source = crate::models::open(&Hub::open()?, &args.source)?;
    let imatrix = args.imatrix.as_ref().map(|file| Imatrix::read(file.as_ref())).transpose()?;
    let importance = args.imatrix.as_deref().zip(imatrix.as_ref());
    let options = Options {
        importance: importance.map(|(file, matrix)| Importance { matrix, file }),
        ..args.options()
    };
    let plan = Plan::new(&source.gguf, &options).map_err(advise)?;
    if args.dry_run {
        return match args.json {
            true => out::print_json(&to_json(args, &source, &plan, None)),
            false => out::print(&(list(&plan) + &summary(args, &source, &plan))),
        };
    }
    warn(&plan);
    let threads = args.threads.map_or_else(|| Machine::host().map(|m| default_threads(&m)), Ok)?;
    let writing = Writing { path: args.output.clone(), replace: args.force, threads };
    let begun = Instant::now();
    let files = write(&plan, &writing)?;
    let done = Done { files, threads, seconds: begun.elapsed() };
    if args.json {
        return out::print_json(&to_json(args, &source, &plan, Some(&done)));
    }
    let took = format!("took      {}\n", out::duration(done.seconds));
    out::print(&(summary(args, &source, &plan) + &took))
}

/// What was written, and how long it took.
struct Done {
    files: Vec<PathBuf>,
    threads: usize,
    seconds: Duration,
}

impl Args {
    fn options(&self) -> Options<'_> {
        let split = match (self.split_size, self.split_tensors) {
            (Some(bytes), _) => Split::Bytes(bytes),
            (_, Some(tensors)) => Split::Tensors(tensors),
            _ if self.keep_split => Split::Keep,
            _ => Split::None,
        };
        Options {
            pure: self.pure,
            overrides: self.overrides.clone(),
            output_type: self.output_type,
            embedding_type: self.embedding_type,
            leave_output: self.leave_output,
            without_importance: self.force || self.dry_run,
            allow_requantize: self.allow_requantize,
            split,
            ..Options::new(self.recipe)
        }
    }
}

fn recipe(name: &str) -> Result<&'static Recipe, String> {
    Recipe::find(name).ok_or_else(|| {
        let names: Vec<&str> = Recipe::all().iter().map(|r| r.name).collect();
        let alike = |known: &&str| strsim::jaro_winkler(&name.to_ascii_uppercase(), known);
        let near = names.iter().copied().max_by(|a, b| alike(a).total_cmp(&alike(b)));
        let near = near.filter(|name| alike(name) >= SIMILAR);
        let hint = near.map(|name| format!("did you mean {name}? ")).unwrap_or_default();
        format!("no such recipe; {hint}The recipes are {}", names.join(", "))
    })
}

fn weight_type(name: &str) -> Result<GgmlType, String> {
    // An override takes the types that weights can have, and says what is wrong with others.
    format!("x={name}").parse::<Override>().map(|o| o.ty).map_err(|e| e.to_string())
}

/// Bytes by a number and a decimal unit, as llama.cpp's gguf-split reads them.
fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.char_indices().next_back() {
        Some((at, 'M' | 'm')) => (&text[..at], 1_000_000),
        Some((at, 'G' | 'g')) => (&text[..at], 1_000_000_000),
        _ => (text, 0),
    };
    let bytes = number.parse().ok().and_then(|n: u64| n.checked_mul(unit)).filter(|&n| n > 0);
    bytes.ok_or_else(|| "sizes look like 500M or 2G".to_owned())
}

/// Adds the option that helps.
fn advise(error: QuantizeError) -> anyhow::Error {
    let option = match error {
        QuantizeError::NeedsImportance { given: false, .. } => {
            "make one with `hob imatrix` and give it with --imatrix, or go without by --force"
        }
        QuantizeError::NeedsImportance { .. } => "go without by --force",
        QuantizeError::Requantize { .. } => "--allow-requantize takes it as it is",
        QuantizeError::Exists(_) => "--force replaces it",
        _ => return error.into(),
    };
    anyhow!("{error}; {option}")
}

/// Tells which tensors the importance matrix leaves out.
fn warn(plan: &Plan<'_>) {
    let names = plan.unweighted();
    let shown: Vec<&str> = names.iter().map(String::as_str).take(4).collect();
    let more = if names.len() > shown.len() { ", ..." } else { "" };
    if !names.is_empty() {
        let (n, shown) = (names.len(), shown.join(", "));
        let s = if n == 1 { "" } else { "s" };
        out::say(&format!("the importance matrix leaves out {n} tensor{s}: {shown}{more}"));
    }
}

/// Writes with a bar on a terminal; Ctrl-C leaves nothing behind.
fn write(plan: &Plan<'_>, writing: &Writing) -> Result<Vec<PathBuf>> {
    let mut told = Told::new(plan);
    let busy = Answering::begin();
    let result = plan.write(writing, &mut |at| {
        told.show(at);
        if busy.stop_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    told.bar.finish_and_clear();
    match result {
        Err(QuantizeError::Stopped) => Err(out::Interrupted.into()),
        other => other.map_err(advise),
    }
}

/// How far it is: a bar on a terminal, else a line now and then.
struct Told {
    bar: ProgressBar,
    tensors: usize,
    bytes: u64,
    last: Instant,
}

impl Told {
    fn new(plan: &Plan<'_>) -> Self {
        let bytes = plan.total_bytes();
        let bar = progress::byte_bar(bytes);
        Told { bar, tensors: plan.tensors().len(), bytes, last: Instant::now() }
    }

    fn show(&mut self, at: Progress<'_>) {
        let tensors = format!("{}/{} {}", at.tensors, self.tensors, at.tensor);
        if stderr().is_terminal() {
            self.bar.set_position(at.bytes);
            self.bar.set_message(tensors);
        } else if self.last.elapsed() >= TELL_EVERY {
            self.last = Instant::now();
            let (done, all) = (out::file_size(at.bytes), out::file_size(self.bytes));
            out::say(&format!("{tensors}: {done} of {all}"));
        }
    }
}

fn to_json(args: &Args, source: &ModelFile, plan: &Plan<'_>, done: Option<&Done>) -> Value {
    let types: Map<String, Value> =
        plan.types().into_iter().map(|(ty, n)| (ty.name().to_owned(), n.into())).collect();
    let mut value = json!({
        "schema": 1,
        "model": source.local.name,
        "recipe": args.recipe.name,
        "imatrix": args.imatrix,
        "source_bytes": source.gguf.file_bytes(),
        "file_bytes": plan.total_bytes(),
        "parts": plan.file_bytes().collect::<Vec<_>>(),
        "bits_per_weight": (plan.bits_per_weight() * 1e4).round() / 1e4,
        "tensors": plan.tensors().len(),
        "tensor_types": types,
        "without_importance": plan.unweighted(),
        "dry_run": args.dry_run,
    });
    match done {
        Some(done) => {
            value["files"] = json!(done.files);
            value["threads"] = json!(done.threads);
            value["seconds"] = json!(done.seconds.as_secs_f64());
        }
        None => {
            let row = |t: &hob_forge::quantize::Planned| json!({"name": t.name, "shape": t.dims, "from": t.from.name(), "to": t.to.name(), "bytes": t.bytes()});
            value["plan"] = plan.tensors().iter().map(row).collect();
        }
    }
    value
}

/// Every tensor with its types.
fn list(plan: &Plan<'_>) -> String {
    let rows = plan.tensors().iter().map(|t| {
        [
            t.name.clone(),
            format!("{:?}", t.dims),
            t.from.to_string(),
            t.to.to_string(),
            out::file_size(t.bytes()),
        ]
    });
    let header = ["TENSOR", "SHAPE", "FROM", "TO", "SIZE"].map(str::to_owned);
    let rows: Vec<[String; 5]> = std::iter::once(header).chain(rows).collect();
    out::table(&rows) + "\n"
}

fn summary(args: &Args, source: &ModelFile, plan: &Plan<'_>) -> String {
    let types: Vec<String> = plan.types().iter().map(|(ty, n)| format!("{n} {ty}")).collect();
    let (from, to) = (source.gguf.file_bytes(), plan.total_bytes());
    let parts = plan.file_bytes().count();
    let files = if parts > 1 { format!(" in {parts} files") } else { String::new() };
    let size = format!(
        "{}{files}, from {}; {:.2} bits per weight",
        out::file_size(to),
        out::file_size(from),
        plan.bits_per_weight()
    );
    let name = args.output.display().to_string();
    let rows = [("recipe", args.recipe.name.to_owned()), ("file", name), ("size", size)];
    let rows: Vec<[String; 2]> = rows
        .into_iter()
        .chain([("tensors", types.join(", "))])
        .map(|(what, text)| [what.to_owned(), text])
        .collect();
    out::table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_decimal() {
        assert_eq!(size("2G"), Ok(2_000_000_000));
        assert_eq!(size("500m"), Ok(500_000_000));
        for bad in ["", "G", "2", "0M", "-1G", "2K", "99999999999999G", "é", "1.5G"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_recipe_that_is_none_has_a_near_one() {
        assert_eq!(recipe("q4_k_m").map(|r| r.name), Ok("Q4_K_M"));
        let error = recipe("Q4_K_XM").err().unwrap_or_default();
        assert!(error.contains("did you mean Q4_K_M?") && error.contains("IQ1_S"), "{error}");
        let error = recipe("nonesuch").err().unwrap_or_default();
        assert!(!error.contains("did you mean"), "{error}");
    }
}
