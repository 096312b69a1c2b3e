//! `hob run`: one answer to a prompt, or a conversation on a terminal; by a running hob server if there is one, else in this process. stdout
//! carries the answer and nothing else.

use std::io::{IsTerminal, stdout};

use anyhow::Result;
use hob_hub::Hub;
use hob_server::Sampling;
use hob_text::{ChatEvent, Message};

use crate::answer::{LoadFlags, Think};
use crate::chat;
use crate::input;
use crate::out::{self, Interrupted, Usage};
use crate::printer::Printer;
use crate::remote::Place;
use crate::sampling::{Flags, with_flags};
use crate::talk::{Model, Way};

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
    /// How long a server keeps the model afterwards: 5m, 1h30m, 0, -1 for always
    #[arg(long, value_name = "TIME", value_parser = keep_alive, allow_hyphen_values = true)]
    keepalive: Option<String>,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    sampling: Flags,
    #[command(flatten)]
    load: LoadFlags,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let prompt = prompt(args)?;
    let hub = Hub::open()?;
    let (place, load, keep) = (args.place.clone(), args.load.clone(), args.keepalive.clone());
    let way = Way { place, load, keep };
    let model = Model::open(&hub, &args.model, &way)?;
    let sampling = with_flags(model.sampling()?, &args.sampling);
    let system = args.system.clone().or_else(|| model.system());
    out::say(&model.line(hub.root()));
    match prompt {
        Some(prompt) => answer_once(&model, args, &system, &sampling, &prompt),
        None => {
            let settings = chat::Settings {
                system,
                verbose: args.verbose,
                think: args.think,
                hide_thinking: args.hidethinking,
                way,
                sampling,
            };
            chat::run(hub, model, settings)
        }
    }
}

/// A time as Ollama writes it.
fn keep_alive(text: &str) -> Result<String, String> {
    match hob_server::KeepAlive::parse(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("expected a time like 5m, 1h30m, or -1 for always".to_owned()),
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
    model: &Model,
    args: &Args,
    system: &Option<String>,
    sampling: &Sampling,
    prompt: &str,
) -> Result<()> {
    let mut printer = Printer::new(args.hidethinking);
    let mut show = |piece: &ChatEvent| if args.json { Ok(()) } else { printer.show(piece) };
    let answer = if args.raw || (!model.has_template() && system.is_none()) {
        model.text(prompt, sampling, &mut show)?
    } else {
        let system = system.iter().map(|text| Message::new("system", text.as_str()));
        let messages: Vec<Message> = system.chain([Message::new("user", prompt)]).collect();
        model.chat(&messages, args.think, sampling, &mut show)?
    };
    if args.json {
        out::print_json(&answer.to_json(model.name()))?;
    } else {
        out::print("\n")?;
    }
    if args.verbose {
        out::say(&format!("\n{}", answer.verbose()));
    }
    if answer.interrupted() { Err(Interrupted.into()) } else { Ok(()) }
}
