//! A model in this process that answers: context chosen, template applied, tokens streamed as text; and what there is to say of an answer,
//! whoever gave it. Who that is, is `talk`'s choice.

use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::builder::RangedU64ValueParser;
use hob_engine::{Done, Event, Finish, Request};
use hob_machine::Machine;
use hob_model::KvType;
use hob_server::{
    ApiError, Conversation, Input, Loaded, ModelFile, Prompt, Room, Sampling, Wishes,
};
use hob_text::{ChatAnswer, ChatEvent, ChatParser, Message, Token};
use serde_json::{Value, json};

use crate::interrupt::Answering;
use crate::out;

/// How often Ctrl-C is looked for.
const POLL: Duration = Duration::from_millis(50);

/// Flags of every verb that loads a model.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Loading")]
pub struct LoadFlags {
    /// Tokens of prompt and answer together [default: the model's own context, or what memory allows]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(2..))]
    pub context: Option<usize>,
    /// Threads [default: one per core]
    #[arg(short, long, value_name = "N", value_parser = at_least_one(1024))]
    pub threads: Option<usize>,
    /// Type of the cache; q8_0 takes half the memory
    #[arg(long, value_enum, default_value_t)]
    pub kv: Kv,
}

/// [`KvType`] by its name.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kv {
    /// Half precision
    #[default]
    #[value(name = "f16")]
    F16,
    /// 8 bits and a scale
    #[value(name = "q8_0")]
    Q8_0,
}

impl From<Kv> for KvType {
    fn from(kv: Kv) -> KvType {
        match kv {
            Kv::F16 => KvType::F16,
            Kv::Q8_0 => KvType::Q8_0,
        }
    }
}

/// Most users, and most tokens of each, that the planner is asked about.
pub const MOST_USERS: u64 = 4096;
pub const MOST_TOKENS: u64 = 1 << 24;

/// Parses a count from 1 to `most`.
pub fn at_least_one(most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=most)
}

/// A model in this process, for one conversation at a time.
pub struct Local(pub Loaded);

impl Local {
    /// Loads a file.
    pub fn load(file: ModelFile, flags: &LoadFlags) -> Result<Local> {
        let available = Machine::host()?.memory.available_bytes;
        let wishes = Wishes {
            context: flags.context,
            threads: flags.threads,
            kv: flags.kv.into(),
            ..Wishes::alone(available)
        };
        Ok(Local(Loaded::load(file, &wishes)?))
    }

    /// The messages that every conversation with it begins with are put in front by the prompt itself.
    pub fn has_template(&self) -> bool {
        self.0.template.is_some()
    }

    /// A conversation, up to the start of the next answer.
    ///
    /// # Errors
    /// When the template refuses the conversation, there is no template, it does not fit, or thinking is asked of a model that has none.
    pub fn chat_prompt(&self, messages: &[Message], think: Option<Think>) -> Result<Prompt> {
        let messages = messages.to_vec();
        let think = think.map(Into::into);
        let chat = Conversation { messages, think, ..Conversation::default() };
        self.prompt(&Input::Chat(Box::new(chat)))
    }

    /// A text to be continued; what follows is not taken apart.
    pub fn text_prompt(&self, text: &str) -> Result<Prompt> {
        self.prompt(&Input::Text(text.to_owned()))
    }

    fn prompt(&self, input: &Input) -> Result<Prompt> {
        let context = self.0.context.tokens;
        let room = Room { context, answer: 1, truncate: false };
        self.0.prompt(input, room).map_err(|e| self.advise(e))
    }

    /// Answers, giving pieces as they become certain. Ctrl-C ends the answer early, which is no error.
    pub fn answer(
        &self,
        prompt: Prompt,
        sampling: &Sampling,
        mut on_piece: impl FnMut(&ChatEvent) -> Result<()>,
    ) -> Result<Answer> {
        let Prompt { tokens, mut parser, .. } = prompt;
        let request = Request {
            prompt: tokens,
            sample: sampling.options.clone(),
            max_tokens: sampling.max_tokens,
            stop: sampling.stop.clone(),
            show_special: parser.is_some(),
            speculate: self.0.speculate,
            ..Request::default()
        };
        let waiting = Answering::begin();
        let mut stream = self.0.engine.submit(request)?;
        let (mut said, mut tokens) = (ChatAnswer::default(), Vec::new());
        let mut tell = |said: &mut ChatAnswer, events: Vec<ChatEvent>| -> Result<()> {
            events.iter().try_for_each(&mut on_piece)?;
            said.extend(events);
            Ok(())
        };
        let read = |parser: &mut Option<ChatParser>, text: String| match parser {
            Some(parser) => parser.push(&text),
            None => vec![ChatEvent::Content(text)],
        };
        loop {
            if waiting.stop_asked() {
                stream.cancel();
            }
            match stream.next_timeout(POLL) {
                None | Some(Event::Started { .. }) => {}
                Some(Event::Token { id, text, .. }) => {
                    tokens.push(id);
                    tell(&mut said, read(&mut parser, text))?;
                }
                Some(Event::Done(done)) => {
                    tell(&mut said, read(&mut parser, done.text.clone()))?;
                    tell(&mut said, parser.map_or(Vec::new(), ChatParser::finish))?;
                    let figures = Figures::of(&done, self.0.load_time);
                    return Ok(Answer { said, tokens, figures });
                }
                Some(Event::Failed(failure)) => return Err(failure.into()),
            }
        }
    }

    /// An error with what the user can do about it.
    fn advise(&self, error: ApiError) -> anyhow::Error {
        let more = self.0.model.context as usize > self.0.context.tokens;
        match error.code {
            Some("context_length_exceeded") if more => {
                anyhow!("{}; here: a larger --context", error.message)
            }
            _ => anyhow!("{}", error.message),
        }
    }
}

/// `--think`: whether a model may think first, and how much.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Think {
    True,
    False,
    Low,
    Medium,
    High,
}

impl Think {
    /// As Ollama's API has it.
    pub fn to_json(self) -> Value {
        match self {
            Think::True => true.into(),
            Think::False => false.into(),
            Think::Low => "low".into(),
            Think::Medium => "medium".into(),
            Think::High => "high".into(),
        }
    }
}

impl From<Think> for hob_server::Think {
    fn from(think: Think) -> Self {
        match think {
            Think::True => hob_server::Think::On,
            Think::False => hob_server::Think::Off,
            Think::Low => hob_server::Think::Low,
            Think::Medium => hob_server::Think::Medium,
            Think::High => hob_server::Think::High,
        }
    }
}

/// A finished answer.
pub struct Answer {
    /// What it says, thinking and calls apart.
    pub said: ChatAnswer,
    /// Its tokens, without an end token.
    pub tokens: Vec<Token>,
    /// How it went.
    pub figures: Figures,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The model ended it, or a stop text came.
    Stop,
    /// There was no room or no permission for more.
    Length,
    /// The user wanted it.
    Cancelled,
}

/// Counts and times of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Why it ended.
    pub reason: Reason,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that the cache had.
    pub cached_tokens: usize,
    /// Tokens of the answer.
    pub generated_tokens: usize,
    /// Seconds for the prompt.
    pub prefill: f64,
    /// Seconds for the answer.
    pub decode: f64,
    /// Seconds for all of it.
    pub total: f64,
    /// How long loading the model took.
    pub load: Duration,
}

impl Figures {
    fn of(done: &Done, load: Duration) -> Figures {
        let t = &done.timings;
        Figures {
            reason: match done.finish {
                Finish::Stop | Finish::StopString(_) => Reason::Stop,
                Finish::Length => Reason::Length,
                Finish::Cancelled => Reason::Cancelled,
            },
            prompt_tokens: done.prompt_tokens,
            cached_tokens: done.cached_tokens,
            generated_tokens: done.generated_tokens,
            prefill: t.prefill,
            decode: t.decode,
            total: load.as_secs_f64() + t.queue + t.prefill + t.decode,
            load,
        }
    }
}

impl Answer {
    /// Whether Ctrl-C ended it.
    pub fn interrupted(&self) -> bool {
        self.figures.reason == Reason::Cancelled
    }

    /// Whether it ended because there was no room or no permission for more.
    pub fn cut_off(&self) -> bool {
        self.figures.reason == Reason::Length
    }

    /// Tokens of prompt and answer together.
    pub fn total_tokens(&self) -> usize {
        self.figures.prompt_tokens + self.figures.generated_tokens
    }

    fn evaluated(&self) -> usize {
        self.figures.prompt_tokens.saturating_sub(self.figures.cached_tokens)
    }

    fn prompt_rate(&self) -> Option<f64> {
        rate(self.evaluated(), self.figures.prefill)
    }

    /// The first token belongs to the prompt's time.
    fn decode_rate(&self) -> Option<f64> {
        rate(self.figures.generated_tokens.saturating_sub(1), self.figures.decode)
    }

    /// The object of `--json`; times in seconds.
    pub fn to_json(&self, model: &str) -> Value {
        let figures = &self.figures;
        let mut json = json!({
            "model": model,
            "text": self.said.content.clone() + &self.said.broken,
            "tokens": self.figures.generated_tokens,
            "token_ids": self.tokens,
            "prompt_tokens": self.figures.prompt_tokens,
            "cached_tokens": self.figures.cached_tokens,
            "finish_reason": match self.figures.reason {
                Reason::Stop => "stop",
                Reason::Length => "length",
                Reason::Cancelled => "cancelled",
            },
            "timings": {
                "load": figures.load.as_secs_f64(),
                "prefill": figures.prefill,
                "decode": figures.decode,
                "total": figures.total,
                "prefill_tok_s": self.prompt_rate(),
                "decode_tok_s": self.decode_rate(),
            },
        });
        if !self.said.thinking.is_empty() {
            json["thinking"] = self.said.thinking.clone().into();
        }
        if !self.said.tool_calls.is_empty() {
            json["tool_calls"] = json!(self.said.tool_calls);
        }
        json
    }

    /// Ollama's lines of `--verbose`.
    pub fn verbose(&self) -> String {
        let seconds = |s: f64| out::duration(Duration::try_from_secs_f64(s).unwrap_or_default());
        let tok_s = |r: Option<f64>| r.map_or("-".to_owned(), |r| format!("{r:.2} tokens/s"));
        let cached = match self.figures.cached_tokens {
            0 => String::new(),
            n => format!(", {n} of them from the cache"),
        };
        let figures = &self.figures;
        [
            ("total duration:", seconds(figures.total)),
            ("load duration:", out::duration(figures.load)),
            ("prompt eval count:", format!("{} token(s){cached}", self.figures.prompt_tokens)),
            ("prompt eval duration:", seconds(figures.prefill)),
            ("prompt eval rate:", tok_s(self.prompt_rate())),
            ("eval count:", format!("{} token(s)", self.figures.generated_tokens)),
            ("eval duration:", seconds(figures.decode)),
            ("eval rate:", tok_s(self.decode_rate())),
        ]
        .map(|(name, value)| format!("{name:<22}{value}"))
        .join("\n")
    }
}

fn rate(tokens: usize, seconds: f64) -> Option<f64> {
    (tokens > 0 && seconds > 0.0).then(|| tokens as f64 / seconds)
}
