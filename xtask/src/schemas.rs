//! `cargo xtask schemas`: answers to JSON schemas of growing difficulty, asked of a running server as programs ask, in two dialects by turns,
//! several at a time. Each answer that came to its end must be valid: for a validator in Rust, and with `--python` for one in Python. The
//! schemas are hob-engine's, whose own tests draw answers at random. Deliberately absent: whether an answer is right.

mod server;

use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{assets, judge, sh};
use server::Server;

/// Models, by the name of their file in the asset cache.
const MODELS: &[&str] = &["smollm2", "qwen-coder"];
/// Answers that are measured alone, with and without their schema.
const MEASURED: usize = 8;
/// The judge in Python, and what it needs.
const JUDGE: &str = include_str!("schemas/judge.py");
const PACKAGES: &[&str] = &["jsonschema[format]==4.25.1"];

/// What to ask.
#[derive(clap::Args)]
pub struct Args {
    /// GGUF file of a model; may be given several times [default: smollm2 and qwen-coder of the assets]
    #[arg(long, value_name = "FILE")]
    model: Vec<PathBuf>,
    /// Only so many schemas, spread over all of them
    #[arg(long, value_name = "N")]
    count: Option<usize>,
    /// Only schemas whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// This program instead of a release build
    #[arg(long, value_name = "PROGRAM")]
    hob: Option<PathBuf>,
    /// Requests in flight
    #[arg(long, default_value_t = 8)]
    parallel: usize,
    /// Most tokens of an answer
    #[arg(long, default_value_t = 400)]
    tokens: usize,
    /// Let Python's jsonschema judge too; it is fetched where it is missing
    #[arg(long)]
    python: bool,
    /// Print every answer
    #[arg(long)]
    verbose: bool,
    /// Write a row for each answer to bench/DATE-schemas.csv
    #[arg(long)]
    csv: bool,
}

/// A line of the file of schemas.
#[derive(Clone, Deserialize)]
struct Case {
    name: String,
    prompt: String,
    schema: Value,
    /// Why it cannot be followed; the server has to say so.
    refused: Option<String>,
}

/// What became of a case.
#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    /// The answer came to its end and is valid.
    Valid,
    /// It came to its end and is not.
    Invalid(String),
    /// It had no room for its end.
    CutOff,
    /// The server refused the schema.
    Refused(String),
    /// Anything else.
    Failed(String),
}

/// An answer.
struct Row {
    case: Case,
    outcome: Outcome,
    text: String,
    tokens: u64,
    seconds: f64,
}

/// Asks every model; fails when an answer is not valid, a schema is refused that should not be, or the other way round.
pub fn run(args: &Args) -> Result<()> {
    let cases = cases(args)?;
    let hob =
        args.hob.clone().map_or_else(judge::build_hob, |path| Ok(std::path::absolute(path)?))?;
    let assets = assets::dir()?;
    let models = match args.model.is_empty() {
        true => MODELS.iter().map(|name| assets.join(format!("{name}.gguf"))).collect(),
        false => args.model.clone(),
    };
    let (mut wrong, mut csv) = (0, String::from("model,schema,outcome,tokens,seconds\n"));
    for model in &models {
        let name = model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let server = Server::start(&hob, model)?;
        let start = Instant::now();
        let mut rows = ask_all(&server, &cases, args);
        let seconds = start.elapsed().as_secs_f64();
        if args.python {
            second_opinion(&mut rows)?;
        }
        wrong += report(&name, &rows, seconds, args.verbose);
        println!("{}", speed(&server, &cases)?);
        for row in &rows {
            writeln!(
                csv,
                "{name},\"{}\",{},{},{:.2}",
                row.case.name.replace('"', "\"\""),
                row.outcome.word(),
                row.tokens,
                row.seconds
            )?;
        }
    }
    if args.csv {
        let date = sh::text(Command::new("date").args(["-u", "+%F"]))?;
        std::fs::write(sh::root().join("bench").join(format!("{date}-schemas.csv")), csv)?;
    }
    if wrong > 0 {
        bail!("{wrong} schemas did not go as they should");
    }
    Ok(())
}

fn cases(args: &Args) -> Result<Vec<Case>> {
    let path = sh::root().join("crates/engine/tests/data/schemas.jsonl");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let parse = |line| serde_json::from_str(line).with_context(|| format!("in {line}"));
    let mut all: Vec<Case> = text.lines().map(parse).collect::<Result<_>>()?;
    if let Some(part) = &args.only {
        all.retain(|case| case.name.contains(part));
    }
    let count = args.count.unwrap_or(all.len()).min(all.len());
    Ok((0..count).map(|i| all[i * all.len() / count].clone()).collect())
}

fn ask_all(server: &Server, cases: &[Case], args: &Args) -> Vec<Row> {
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..args.parallel.max(1) {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(i) else { break };
                    let row = ask(server, case, i, args.tokens);
                    if let Ok(mut rows) = rows.lock() {
                        rows.push((i, row));
                    }
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap_or_default();
    rows.sort_by_key(|&(i, _)| i);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// One case: Ollama's dialect and OpenAI's by turns.
fn ask(server: &Server, case: &Case, i: usize, tokens: usize) -> Row {
    let start = Instant::now();
    let messages = json!([
        {"role": "system", "content": "Answer in JSON that follows the given schema. Be brief."},
        {"role": "user", "content": case.prompt},
    ]);
    let (path, body) = match i % 2 {
        0 => (
            "/api/chat",
            json!({"model": "m", "messages": messages, "stream": false, "format": case.schema,
            "options": {"seed": i, "temperature": 0.7, "num_predict": tokens}}),
        ),
        _ => (
            "/v1/chat/completions",
            json!({"model": "m", "messages": messages, "seed": i, "temperature": 0.7,
            "max_completion_tokens": tokens, "response_format": {"type": "json_schema",
                "json_schema": {"name": "answer", "strict": true, "schema": case.schema}}}),
        ),
    };
    let mut row = Row {
        case: case.clone(),
        outcome: Outcome::CutOff,
        text: String::new(),
        tokens: 0,
        seconds: 0.0,
    };
    row.outcome = match server.post(path, &body) {
        Err(error) => Outcome::Failed(format!("{error:#}")),
        Ok((200, reply)) => {
            let of = |pointers: [&str; 2]| {
                pointers.iter().find_map(|p| reply.pointer(p)).cloned().unwrap_or_default()
            };
            row.text = of(["/message/content", "/choices/0/message/content"])
                .as_str()
                .unwrap_or_default()
                .to_owned();
            row.tokens = of(["/eval_count", "/usage/completion_tokens"]).as_u64().unwrap_or(0);
            match of(["/done_reason", "/choices/0/finish_reason"]).as_str() {
                Some("length") => Outcome::CutOff,
                Some("stop") => judged(&case.schema, &row.text),
                other => Outcome::Failed(format!("it ended by {other:?}")),
            }
        }
        Ok((400, reply)) => Outcome::Refused(message(&reply)),
        Ok((status, reply)) => Outcome::Failed(format!("{status}: {}", message(&reply))),
    };
    row.seconds = start.elapsed().as_secs_f64();
    row
}

/// The message of an error in either dialect.
fn message(reply: &Value) -> String {
    let error = reply.pointer("/error/message").or(reply.get("error")).unwrap_or(reply);
    error.as_str().map_or_else(|| error.to_string(), str::to_owned)
}

/// What the validator says; formats count.
fn judged(schema: &Value, text: &str) -> Outcome {
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => return Outcome::Invalid(format!("no JSON: {error}")),
    };
    let validator = match jsonschema::options().should_validate_formats(true).build(schema) {
        Ok(validator) => validator,
        Err(error) => return Outcome::Failed(format!("the validator refuses the schema: {error}")),
    };
    match validator.validate(&value) {
        Ok(()) => Outcome::Valid,
        Err(error) => Outcome::Invalid(error.to_string()),
    }
}

/// Lets Python's validator judge what was found valid.
fn second_opinion(rows: &mut [Row]) -> Result<()> {
    let valid: Vec<&mut Row> =
        rows.iter_mut().filter(|row| row.outcome == Outcome::Valid).collect();
    let lines: String =
        valid.iter().map(|row| json!([row.case.schema, row.text]).to_string() + "\n").collect();
    let input = std::env::temp_dir().join(format!("hob-schemas-{}.jsonl", std::process::id()));
    std::fs::write(&input, lines)?;
    let said = sh::output(sh::python(PACKAGES)?.arg("-c").arg(JUDGE).arg(&input));
    std::fs::remove_file(&input)?;
    let said = String::from_utf8(said?)?;
    if said.lines().count() != valid.len() {
        bail!("Python judged {} answers of {}", said.lines().count(), valid.len());
    }
    for (row, line) in valid.into_iter().zip(said.lines()).filter(|(_, line)| *line != "valid") {
        row.outcome = Outcome::Invalid(format!("Python: {line}"));
    }
    Ok(())
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Outcome::Valid => "valid",
            Outcome::Invalid(_) => "invalid",
            Outcome::CutOff => "cut off",
            Outcome::Refused(_) => "refused",
            Outcome::Failed(_) => "failed",
        }
    }
}

impl Row {
    /// Whether it went as it should.
    fn right(&self) -> bool {
        match self.outcome {
            Outcome::Valid | Outcome::CutOff => self.case.refused.is_none(),
            Outcome::Refused(_) => self.case.refused.is_some(),
            Outcome::Invalid(_) | Outcome::Failed(_) => false,
        }
    }
}

/// Prints what came of a model's answers; the number of those that are wrong.
fn report(model: &str, rows: &[Row], seconds: f64, verbose: bool) -> usize {
    let count = |word: &str| rows.iter().filter(|row| row.outcome.word() == word).count();
    let tokens: u64 = rows.iter().map(|row| row.tokens).sum();
    println!(
        "{model}: {} schemas, {} answers valid, {} invalid, {} cut off, {} refused, {} failed; {tokens} tokens in {seconds:.0} s",
        rows.len(),
        count("valid"),
        count("invalid"),
        count("cut off"),
        count("refused"),
        count("failed"),
    );
    let mut wrong = 0;
    for row in rows {
        wrong += usize::from(!row.right());
        if verbose || row.outcome != Outcome::Valid {
            let mark = if row.right() { " " } else { "!" };
            let why = row
                .case
                .refused
                .as_ref()
                .map_or_else(String::new, |why| format!(" (expected: {why})"));
            println!(
                "{mark} {}: {:?}{why}, {} tokens: {}",
                row.case.name,
                row.outcome,
                row.tokens,
                excerpt(&row.text)
            );
        }
    }
    wrong
}

fn excerpt(text: &str) -> String {
    let end = text.char_indices().nth(300).map_or(text.len(), |(at, _)| at);
    text[..end].replace('\n', "\\n")
}

/// Tokens per second of answers alone on the server, with their schema and without.
fn speed(server: &Server, cases: &[Case]) -> Result<String> {
    let followed: Vec<&Case> = cases.iter().filter(|case| case.refused.is_none()).collect();
    let step = followed.len().div_ceil(MEASURED).max(1);
    let (mut bound, mut free) = ((0.0, 0.0), (0.0, 0.0));
    for case in followed.into_iter().rev().step_by(step) {
        for (sum, format) in [(&mut bound, case.schema.clone()), (&mut free, Value::Null)] {
            let body = json!({"model": "m", "stream": false, "format": format,
                "messages": [{"role": "user", "content": case.prompt}],
                "options": {"temperature": 0, "num_predict": 48, "speculate": "off"}});
            let (status, reply) = server.post("/api/chat", &body)?;
            let of = |name: &str| {
                reply[name].as_f64().with_context(|| format!("{status}: no {name} in {reply}"))
            };
            sum.0 += of("eval_count")?;
            sum.1 += of("eval_duration")? / 1e9;
        }
    }
    let rate = |(tokens, seconds): (f64, f64)| tokens / seconds;
    let more = (bound.1 / bound.0 - free.1 / free.0) * 1e3;
    Ok(format!(
        "alone: {:.1} tokens/s with a schema, {:.1} without: {more:.2} ms more per token",
        rate(bound),
        rate(free)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judged_by_the_schema() {
        let schema = json!({"type": "object", "properties": {"a": {"type": "string", "format": "date"}}, "required": ["a"]});
        assert_eq!(judged(&schema, r#"{"a": "2024-02-29"}"#), Outcome::Valid);
        for text in [r#"{"a": "2023-02-29"}"#, "{}", "{", r#"{"a": 1}"#] {
            assert!(matches!(judged(&schema, text), Outcome::Invalid(_)), "{text}");
        }
    }

    #[test]
    fn there_are_two_hundred_with_names_of_their_own() {
        let args = Args {
            model: Vec::new(),
            count: None,
            only: None,
            hob: None,
            parallel: 1,
            tokens: 1,
            python: false,
            verbose: false,
            csv: false,
        };
        let all = cases(&args).unwrap();
        assert!(all.iter().filter(|case| case.refused.is_none()).count() >= 200);
        let names: std::collections::HashSet<&String> = all.iter().map(|case| &case.name).collect();
        assert_eq!(names.len(), all.len());
        assert_eq!(cases(&Args { count: Some(40), ..args }).unwrap().len(), 40);
    }
}
