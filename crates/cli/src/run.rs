//! `hob run`: one answer to a prompt, or a conversation on a terminal. In-process; stdout carries the answer and nothing else.

use std::io::{IsTerminal, stdout};

use anyhow::Result;
use hob_hub::Hub;
use hob_server::Sampling;
use hob_text::Message;

use crate::answer::{LoadFlags, Local, Think};
use crate::chat;
use crate::input;
use crate::out::{self, Interrupted, Usage};
use crate::printer::Printer;
use crate::sampling::{Flags, with_flags};

/// Ask a model, or talk with it; fetches the model if it is not here yet
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    hob run smollm2:135m \"What is the capital city of France?\"\n  \
    hob run smollm2:135m \"Summarize this:\" < article.txt\n  \
    hob run ./model.gguf --raw --temperature 0 --max-tokens 64 \"Once upon a time\"\n  \
    hob run ./Qwen3-0.6B \"Hello\"                    (a Hugging Face folder; converted once)\n  \
    hob run smollm2:135m                             (a conversation; /? for help, Ctrl-D to leave)")]
pub struct Args {
    /// Name in the catalogue or store, or path to a GGUF file or to a Hugging Face folder
    model: String,
    /// The prompt; text piped to standard input follows it. Without both: a conversation
    prompt: Vec<String>,
    /// Instructions that precede the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Take the prompt as it is, without the chat template
    #[arg(long, conflicts_with = "system")]
    raw: bool,
    /// Let a model that can think do so, or not, or how much [default: as its template has it]
    #[arg(
        long,
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        conflicts_with = "raw"
    )]
    think: Option<Think>,
    /// Do not print what the model thinks
    #[arg(long, alias = "hide-thinking")]
    hidethinking: bool,
    /// Print timings after the answer
    #[arg(long)]
    verbose: bool,
    /// Print one JSON object instead of the text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sampling: Flags,
    #[command(flatten)]
    load: LoadFlags,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let prompt = prompt(args)?;
    let hub = Hub::open()?;
    let file = crate::models::open_or_pull(&hub, &args.model)?;
    let sampling = with_flags(Sampling::of_model(&file)?, &args.sampling);
    let system = args.system.clone().or_else(|| file.overlay.system.clone());
    let loaded = Local::load(file, &args.load)?;
    out::say(&loaded.0.context.line(&loaded.0.model));
    match prompt {
        Some(prompt) => answer_once(&loaded, args, &system, &sampling, &prompt),
        None => {
            let settings = chat::Settings {
                system,
                verbose: args.verbose,
                think: args.think,
                hide_thinking: args.hidethinking,
                load: args.load.clone(),
                sampling,
            };
            chat::run(hub, loaded, settings)
        }
    }
}

/// The prompt from arguments and standard input; `None` asks for a conversation.
fn prompt(args: &Args) -> Result<Option<String>> {
    let mut prompt = args.prompt.join(" ");
    if !input::is_terminal() {
        let piped = input::read_stdin()?;
        if !prompt.is_empty() && !piped.is_empty() {
            prompt.push_str("\n\n");
        }
        prompt.push_str(&piped);
    } else if args.prompt.is_empty() {
        return conversation_possible(args).map(|()| None);
    }
    if prompt.trim().is_empty() {
        return Err(Usage(
            "the prompt is empty: give one as an argument or by standard input".into(),
        )
        .into());
    }
    Ok(Some(prompt))
}

fn conversation_possible(args: &Args) -> Result<()> {
    if args.json || args.raw || !stdout().is_terminal() {
        let why =
            "there is no prompt; a conversation needs a terminal, and neither --json nor --raw";
        return Err(Usage(why.into()).into());
    }
    Ok(())
}

fn answer_once(
    loaded: &Local,
    args: &Args,
    system: &Option<String>,
    sampling: &Sampling,
    prompt: &str,
) -> Result<()> {
    let prompt = if args.raw || (!loaded.has_template() && system.is_none()) {
        loaded.text_prompt(prompt)?
    } else {
        let system = system.iter().map(|text| Message::new("system", text.as_str()));
        let messages: Vec<Message> = system.chain([Message::new("user", prompt)]).collect();
        loaded.chat_prompt(&messages, args.think)?
    };
    let mut printer = Printer::new(args.hidethinking);
    let answer = loaded
        .answer(prompt, sampling, |piece| if args.json { Ok(()) } else { printer.show(piece) })?;
    if args.json {
        out::print_json(&answer.to_json(&loaded.0.file.local.name))?;
    } else {
        out::print("\n")?;
    }
    if args.verbose {
        out::say(&format!("\n{}", answer.verbose()));
    }
    if answer.interrupted() { Err(Interrupted.into()) } else { Ok(()) }
}
