//! `hob tokenize`: the tokens of a text, as the model would see them. Needs only the file's vocabulary, not its weights.

use anyhow::Result;
use hob_hub::Hub;
use hob_text::{EncodeOptions, Token, Tokenizer};
use serde_json::json;

use crate::input;
use crate::out;

/// Show the tokens of a text
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  hob tokenize smollm2:135m \"Hello, world\"\n  hob tokenize model.gguf < book.txt\n  \
    hob tokenize smollm2:135m \"<|im_start|>user\" --json"
)]
pub struct Args {
    /// Name in the store, or path to a GGUF file
    model: String,
    /// The text; without it, standard input
    text: Option<String>,
    /// Add no begin or end token, and read <|names|> of control tokens as plain text
    #[arg(long)]
    no_special: bool,
    /// Print {"tokens":[..],"pieces":[..]}
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let file = crate::models::open(&Hub::open()?, &args.model)?;
    let tokenizer = Tokenizer::from_gguf(file.meta())?;
    let text = match &args.text {
        Some(text) => text.clone(),
        None => input::read_stdin()?,
    };
    let special = !args.no_special;
    let tokens =
        tokenizer.encode(&text, EncodeOptions { add_special: special, parse_special: special });
    if args.json {
        let pieces: Vec<String> = tokens.iter().map(|&t| piece(&tokenizer, t)).collect();
        return out::print_json(&json!({"tokens": tokens, "pieces": pieces}));
    }
    let lines: String =
        tokens.iter().map(|&t| format!("{t:6}  {:?}\n", piece(&tokenizer, t))).collect();
    out::print(&lines)
}

/// The text that a token adds; parts of a character become U+FFFD.
fn piece(tokenizer: &Tokenizer, token: Token) -> String {
    String::from_utf8_lossy(tokenizer.token_bytes(token, true)).into_owned()
}
