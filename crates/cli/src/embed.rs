//! `hob embed`: texts as vectors, one for each argument, or for each line of standard input. Encoders pool as their files
//! say; other models give the last token's hidden state. A text that does not fit is an error, never cut.

use std::fmt::Write as _;

use anyhow::Result;
use hob_hub::Hub;
use serde_json::json;

use crate::answer::{LoadFlags, Local};
use crate::input;
use crate::out::{self, Usage};

/// Turn texts into vectors
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  hob embed all-minilm.gguf \"A cat sat on the mat.\"\n  \
    hob embed ./all-MiniLM-L6-v2 \"first text\" \"second text\" --json\n  \
    hob embed nomic.gguf < lines.txt")]
pub struct Args {
    /// Name in the catalogue or store, or path to a GGUF file or to a Hugging Face folder
    model: String,
    /// The texts; without any, every line of standard input is one
    texts: Vec<String>,
    /// Numbers to keep of each vector, from the first; the vector gets length 1 again
    #[arg(long, value_name = "N", value_parser = crate::answer::at_least_one(1 << 20))]
    dimensions: Option<usize>,
    /// Leave the vectors as long as they come
    #[arg(long, conflicts_with = "dimensions")]
    no_normalize: bool,
    /// Print one JSON object instead of a line of numbers for each text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    load: LoadFlags,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let texts = texts(args)?;
    let file = crate::models::open_or_pull(&Hub::open()?, &args.model)?;
    let loaded = Local::load(file, &args.load)?;
    let (mut vectors, tokens) = loaded.0.embed(&texts, !args.no_normalize)?;
    if let Some(n) = args.dimensions {
        vectors.iter_mut().for_each(|v| hob_server::shorten(v, n));
    }
    if args.json {
        let name = &loaded.0.file.local.name;
        return out::print_json(
            &json!({"model": name, "embeddings": vectors, "prompt_tokens": tokens}),
        );
    }
    let mut lines = String::new();
    for vector in &vectors {
        for (i, x) in vector.iter().enumerate() {
            let _ = write!(lines, "{}{x}", if i == 0 { "" } else { " " }); // a String takes all
        }
        lines.push('\n');
    }
    out::print(&lines)
}

fn texts(args: &Args) -> Result<Vec<String>> {
    let texts = match args.texts.is_empty() {
        false => args.texts.clone(),
        true => input::read_stdin()?.lines().map(str::to_owned).collect(),
    };
    let empty = texts.is_empty() || texts.iter().any(|t| t.trim().is_empty());
    match empty {
        true => Err(Usage("a text is empty: give texts as arguments or lines".into()).into()),
        false => Ok(texts),
    }
}
