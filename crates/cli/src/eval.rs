//! `hob eval`: how well a model predicts a text, and how far it is from a reference. The figures are those of llama.cpp's
//! `llama-perplexity`, and so is the file of log-probabilities that is read and written. The work is done by `hob_forge`.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use hob_engine::{LoadOptions, Runner};
use hob_forge::eval::{
    Against, Divergence, Estimate, EvalError, EvalText, Evaluation, Progress, Reference,
    ReferenceWriter, Report, limits,
};
use hob_hub::Hub;
use hob_machine::Machine;
use hob_text::Tokenizer;
use serde_json::{Value, json};

use crate::answer::at_least_one;
use crate::interrupt::Answering;
use crate::{input, out, progress, quality};
use hob_plan::STEP_ROWS;
use hob_server::ModelFile;
use hob_server::default_threads;

/// Tokens of a chunk, unless a reference says otherwise.
const CONTEXT: usize = 512;

/// Measure how well a model predicts a text: perplexity, and divergence from a reference
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  hob eval smollm2:135m text.txt\n  hob eval full.gguf text.txt --save full.kld\n  \
    hob eval small.gguf --against full.kld\n  hob eval small.gguf text.txt --against full.gguf --json\n\n\
    The text is cut into chunks; in each, the predictions of the second half count. \
    Results are remembered by the file's hash; `hob show` and `hob list` tell them."
)]
pub struct Args {
    /// Name in the store, or path to a GGUF file
    model: String,
    /// The text, a UTF-8 file, or - for standard input; a file of log-probabilities brings its own
    #[arg(required_unless_present = "against")]
    text: Option<PathBuf>,
    /// The reference: a file of log-probabilities, or another model
    #[arg(long, value_name = "REFERENCE")]
    against: Option<String>,
    /// Keep the log-probabilities in this file, as a reference for others
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Tokens of a chunk [default: the reference's, or 512]
    #[arg(short, long, value_name = "N")]
    context: Option<usize>,
    /// Most chunks to evaluate
    #[arg(long, value_name = "N", value_parser = at_least_one(u32::MAX.into()))]
    chunks: Option<usize>,
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

/// What the model is compared with, open.
enum Other {
    Nothing,
    File(Reference),
    Model(Box<ModelFile>),
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let hub = Hub::open()?;
    let file = crate::models::open(&hub, &args.model)?;
    let mut other = Other::open(&hub, args.against.as_deref())?;
    let text = text(args, &file, &other)?;
    let threads = args.threads.map_or_else(|| Machine::host().map(|m| default_threads(&m)), Ok)?;
    let options = LoadOptions { threads, limits: limits(text.context(), args.ubatch) };
    let load = |file: &ModelFile| {
        let loaded = Runner::load(file.gguf.clone(), &options);
        loaded.with_context(|| format!("cannot load {}", file.local.name))
    };
    let mut runner = load(&file)?;
    let mut beside = match &other {
        Other::Model(file) => Some(load(file)?),
        _ => None,
    };
    let against = match (&mut other, &mut beside) {
        (_, Some(runner)) => Against::Model(runner),
        (Other::File(file), _) => Against::File(file),
        _ => Against::Nothing,
    };
    let vocab = runner.model().vocab as usize;
    let save =
        args.save.as_deref().map(|path| ReferenceWriter::create(path, &text, vocab)).transpose()?;
    let report = evaluate(Evaluation { runner: &mut runner, text: &text, against, save, threads })?;
    let result = to_json(&file.local.name, args.against.as_deref(), &report);
    quality::remember(&hub, &file, &text, &text_name(args), result.clone());
    if args.json {
        return out::print_json(&result);
    }
    out::print(&table(&report))
}

impl Other {
    fn open(hub: &Hub, against: Option<&str>) -> Result<Other> {
        Ok(match against {
            None => Other::Nothing,
            Some(path) if Reference::is_one(Path::new(path)) => {
                Other::File(Reference::open(Path::new(path))?)
            }
            Some(model) => Other::Model(Box::new(crate::models::open(hub, model)?)),
        })
    }
}

/// The text's name, or that of the reference that brings it.
fn text_name(args: &Args) -> String {
    let path = args.text.as_deref().or(args.against.as_deref().map(Path::new));
    let name = path.and_then(Path::file_name).unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The text's chunks, or the reference's.
fn text(args: &Args, file: &ModelFile, other: &Other) -> Result<EvalText> {
    let tokenizer = Tokenizer::from_gguf(file.meta())?;
    let default = match other {
        Other::File(reference) => reference.context(),
        _ => CONTEXT,
    };
    let context = args.context.unwrap_or(default);
    let text = match (&args.text, other) {
        (Some(path), _) if path.as_os_str() == "-" => input::read_stdin()?,
        (Some(path), _) => std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?,
        (None, Other::File(reference)) => {
            return Ok(EvalText::of_reference(reference, &tokenizer, args.chunks)?);
        }
        (None, _) => bail!(
            "a TEXT is needed: '{}' is a model and has none",
            args.against.as_deref().unwrap_or_default()
        ),
    };
    let most = match other {
        Other::File(reference) => args.chunks.unwrap_or(reference.chunks()),
        _ => args.chunks.unwrap_or(usize::MAX),
    };
    Ok(EvalText::new(&text, &tokenizer, context, Some(most))?)
}

/// Evaluates with a bar on a terminal; Ctrl-C leaves no half-written file.
fn evaluate(evaluation: Evaluation<'_>) -> Result<Report> {
    let total = evaluation.text.chunks() * evaluation.text.rows_per_chunk();
    let bar = progress::token_bar(total);
    let busy = Answering::begin();
    let result = evaluation.run(&mut |at: Progress| {
        bar.set_position(at.done as u64);
        if let Some(perplexity) = at.perplexity {
            bar.set_message(format!("perplexity {perplexity:.3}"));
        }
        if busy.stop_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    match result {
        Err(EvalError::Stopped) => Err(out::Interrupted.into()),
        other => Ok(other?),
    }
}

fn to_json(model: &str, against: Option<&str>, report: &Report) -> Value {
    let mut value = json!({
        "schema": 1,
        "model": model,
        "tokens": report.tokens,
        "context": report.context,
        "chunks": report.chunks,
        "perplexity": report.perplexity.value,
        "perplexity_error": report.perplexity.error,
        "against": against,
        "kl": null,
        "top1_agreement": null,
    });
    if let Some(d) = &report.divergence {
        let kl = &d.kl;
        value["kl"] = json!({
            "mean": kl.mean.value, "mean_error": kl.mean.error, "median": kl.median,
            "p90": kl.p90, "p99": kl.p99, "p999": kl.p999, "max": kl.max,
        });
        value["top1_agreement"] = json!(d.top1_agreement.value);
        value["top1_agreement_error"] = json!(d.top1_agreement.error);
        value["base_perplexity"] = json!(d.base_perplexity.value);
        value["perplexity_ratio"] = json!(d.perplexity_ratio.value);
        value["perplexity_ratio_error"] = json!(d.perplexity_ratio.error);
        value["delta_p"] = json!({"mean": d.delta_p.value, "rms": d.delta_p_rms});
    }
    value
}

fn table(report: &Report) -> String {
    let mut rows = vec![
        [
            "scored".to_owned(),
            format!("{} tokens in {} chunks of {}", report.tokens, report.chunks, report.context),
        ],
        ["perplexity".to_owned(), estimate(report.perplexity, 1.0)],
    ];
    rows.extend(report.divergence.iter().flat_map(divergence));
    out::table(&rows)
}

fn divergence(d: &Divergence) -> [[String; 2]; 8] {
    let percent = |e: Estimate| estimate(e, 100.0) + " %";
    [
        ["perplexity of the reference", &estimate(d.base_perplexity, 1.0)],
        ["perplexity / reference", &estimate(d.perplexity_ratio, 1.0)],
        ["KL divergence, mean", &estimate(d.kl.mean, 1.0)],
        ["KL divergence, median", &format!("{:.6}", d.kl.median)],
        ["KL divergence, 99% / most", &format!("{:.6} / {:.6}", d.kl.p99, d.kl.max)],
        ["same likeliest token", &percent(d.top1_agreement)],
        ["change of probability, mean", &percent(d.delta_p)],
        ["change of probability, rms", &format!("{:.4} %", 100.0 * d.delta_p_rms)],
    ]
    .map(|row| row.map(str::to_owned))
}

fn estimate(e: Estimate, times: f64) -> String {
    let digits = if e.value.abs() * times < 0.1 { 6 } else { 4 };
    format!("{:.digits$} ± {:.digits$}", times * e.value, times * e.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_its_fields_with_and_without_a_reference() {
        let e = |value| Estimate { value, error: 0.5 };
        let mut report =
            Report { tokens: 255, context: 512, chunks: 1, perplexity: e(16.0), divergence: None };
        let value = to_json("m", None, &report);
        assert_eq!((&value["perplexity"], &value["tokens"]), (&json!(16.0), &json!(255)));
        assert!(
            value["kl"].is_null()
                && value["against"].is_null()
                && value["top1_agreement"].is_null()
        );
        let kl = hob_forge::eval::Distribution {
            mean: e(0.25),
            median: 0.125,
            p90: 0.5,
            p99: 1.0,
            p999: 2.0,
            max: 4.0,
        };
        report.divergence = Some(Divergence {
            base_perplexity: e(15.0),
            perplexity_ratio: e(1.0),
            kl,
            top1_agreement: e(0.75),
            delta_p: e(0.0),
            delta_p_rms: 0.125,
        });
        let value = to_json("m", Some("r.kld"), &report);
        assert_eq!((&value["against"], &value["kl"]["p99"]), (&json!("r.kld"), &json!(1.0)));
        assert_eq!(value["top1_agreement"], json!(0.75));
        assert!(table(&report).contains("75.0000 ± 50.0000 %"), "{}", table(&report));
    }
}
