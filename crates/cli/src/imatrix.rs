//! `hob imatrix`: how much each column of a model's weights matters for a text, in llama.cpp's file format; and such
//! files merged. The work is done by `hob_forge`. Deliberately absent: going on where an earlier run was stopped; its
//! file can be merged with that of another text instead.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use hob_engine::LoadOptions;
use hob_forge::eval::{EvalError, EvalText, limits};
use hob_forge::imatrix::{Collector, Imatrix, Scope};
use hob_hub::Hub;
use hob_machine::Machine;
use hob_text::Tokenizer;
use serde_json::{Value, json};

use crate::answer::at_least_one;
use crate::interrupt::Answering;
use crate::{input, out, progress};
use hob_plan::STEP_ROWS;
use hob_server::default_threads;

/// Measure on a text how much each column of the weights matters, for quantizing
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  hob imatrix full.gguf text.txt -o imatrix.gguf\n  \
    hob imatrix full.gguf text.txt -c 1024 --chunks 100 --json\n  \
    hob imatrix --merge english.gguf code.gguf old.dat -o both.gguf\n\n\
    The text is cut into chunks, and each is read from an empty context. The file is llama.cpp's, and so are the\n\
    figures: sums of squares of what every matrix is multiplied with.")]
pub struct Args {
    /// Name in the store, or path to a GGUF file
    #[arg(required_unless_present = "merge")]
    model: Option<String>,
    /// The text, a UTF-8 file, or - for standard input
    #[arg(required_unless_present = "merge")]
    text: Option<PathBuf>,
    /// The file to write
    #[arg(short, long, value_name = "FILE", default_value = "imatrix.gguf")]
    output: PathBuf,
    /// Add up these files instead, GGUF or .dat
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["model", "text"])]
    merge: Vec<PathBuf>,
    /// Tokens of a chunk; with --merge, of the chunks that .dat files count
    #[arg(short, long, value_name = "N", default_value_t = 512, value_parser = at_least_one(1 << 24))]
    context: usize,
    /// Most chunks to read
    #[arg(long, value_name = "N", value_parser = at_least_one(u32::MAX.into()))]
    chunks: Option<usize>,
    /// Write the file after every so many chunks, and at the end
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = at_least_one(u32::MAX.into()))]
    save_every: usize,
    /// Measure output.weight too
    #[arg(long)]
    process_output: bool,
    /// Leave out the perplexity, and with it the time for the logits
    #[arg(long)]
    no_perplexity: bool,
    /// Most tokens computed in one step
    #[arg(long, value_name = "N", default_value_t = STEP_ROWS, value_parser = at_least_one(1 << 16))]
    ubatch: usize,
    /// Threads [default: one per core]
    #[arg(short, long, value_name = "N", value_parser = at_least_one(1024))]
    threads: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    check_output(&args.output)?;
    let summary = match (&args.model, &args.text) {
        (Some(model), Some(text)) => collect(args, model, text)?,
        _ => merge(args)?,
    };
    if args.json {
        return out::print_json(&to_json(args, &summary));
    }
    out::print(&table(args, &summary))
}

/// What was written.
struct Summary {
    imatrix: Imatrix,
    perplexity: Option<hob_forge::eval::Estimate>,
}

/// Nothing but an older file of this kind may be replaced: the model itself would be easily named by mistake.
fn check_output(path: &Path) -> Result<()> {
    if path.exists() {
        Imatrix::read(path)
            .with_context(|| format!("{} is there and would be replaced", path.display()))?;
    }
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) if !folder.is_dir() => bail!("no such folder: {}", folder.display()),
        _ => Ok(()),
    }
}

fn merge(args: &Args) -> Result<Summary> {
    let mut imatrix = Imatrix::default();
    for path in &args.merge {
        let other = Imatrix::read(path)?;
        let merged = imatrix.merge(&other, args.context as u32);
        merged.with_context(|| format!("cannot add {}", path.display()))?;
    }
    imatrix.write(&args.output)?;
    Ok(Summary { imatrix, perplexity: None })
}

fn collect(args: &Args, model: &str, path: &Path) -> Result<Summary> {
    let file = crate::models::open(&Hub::open()?, model)?;
    let text = match path.as_os_str() == "-" {
        true => input::read_stdin()?,
        false => std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?,
    };
    let tokenizer = Tokenizer::from_gguf(file.meta())?;
    let text = EvalText::new(&text, &tokenizer, args.context, args.chunks)?;
    let threads = args.threads.map_or_else(|| Machine::host().map(|m| default_threads(&m)), Ok)?;
    let options = LoadOptions { threads, limits: limits(text.context(), args.ubatch) };
    let scope = Scope { output: args.process_output, perplexity: !args.no_perplexity };
    let mut collector = Collector::load(file.gguf.clone(), &options, scope)
        .with_context(|| format!("cannot load {}", file.local.name))?;
    let dataset = path.display().to_string();
    read_text(args, &mut collector, &text, &dataset)?;
    Ok(Summary { imatrix: collector.imatrix(&dataset), perplexity: collector.perplexity() })
}

/// Reads all chunks with a bar on a terminal, and saves now and then. Ctrl-C leaves what was saved last.
fn read_text(args: &Args, collector: &mut Collector, text: &EvalText, dataset: &str) -> Result<()> {
    let bar = progress::token_bar(text.chunks() * text.context());
    let busy = Answering::begin();
    let mut saved = 0;
    for chunk in 0..text.chunks() {
        let read = collector.chunk(text, chunk, &mut |done| {
            bar.set_position((chunk * text.context() + done) as u64);
            if busy.stop_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match read {
            Err(EvalError::Stopped) => {
                bar.finish_and_clear();
                out::say(&stopped(&args.output, saved));
                return Err(out::Interrupted.into());
            }
            other => other?,
        }
        if let Some(perplexity) = collector.perplexity() {
            bar.set_message(format!("perplexity {:.3}", perplexity.value));
        }
        if (chunk + 1).is_multiple_of(args.save_every) || chunk + 1 == text.chunks() {
            collector.imatrix(dataset).write(&args.output)?;
            saved = chunk + 1;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn stopped(output: &Path, saved: usize) -> String {
    match saved {
        0 => format!("stopped before the first save: {} was not written", output.display()),
        n => format!("stopped: {} holds the first {n} chunks", output.display()),
    }
}

fn to_json(args: &Args, summary: &Summary) -> Value {
    let Summary { imatrix, perplexity } = summary;
    json!({
        "schema": 1,
        "output": args.output,
        "model": args.model,
        "datasets": imatrix.datasets,
        "merged": args.merge,
        "entries": imatrix.entries.len(),
        "chunks": imatrix.chunk_count,
        "chunk_size": imatrix.chunk_size,
        "without_data": without_data(imatrix),
        "perplexity": perplexity.map(|p| p.value),
        "perplexity_error": perplexity.map(|p| p.error),
    })
}

/// Matrices (experts) that no token reached.
fn without_data(imatrix: &Imatrix) -> usize {
    imatrix.entries.values().flat_map(|e| &e.counts).filter(|&&n| n == 0.0).count()
}

fn table(args: &Args, summary: &Summary) -> String {
    let Summary { imatrix, perplexity } = summary;
    let read = format!("{} chunks of {} tokens", imatrix.chunk_count, imatrix.chunk_size);
    let mut rows = vec![["read".to_owned(), read]];
    if let Some(p) = perplexity {
        rows.push(["perplexity".to_owned(), format!("{:.4} ± {:.4}", p.value, p.error)]);
    }
    if let idle @ 1.. = without_data(imatrix) {
        rows.push(["without data".to_owned(), format!("{idle} experts, taken as all alike")]);
    }
    let written = format!("{} ({} tensors)", args.output.display(), imatrix.entries.len());
    rows.push(["written".to_owned(), written]);
    out::table(&rows)
}
