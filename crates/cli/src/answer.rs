//! A loaded model that answers: context chosen, template applied, tokens streamed as text. `run` and its chat both speak through this.

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
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default)]
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

/// Parses a count from 1 to `most`.
pub fn at_least_one(most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=most)
}

/// A model in this process, for one conversation at a time.
pub struct Local(pub Loaded);

impl Local {
    /// Loads a file.
    pub fn load(file: ModelFile, flags: &LoadFlags) -> Result<Local> {
        let available = Machine::detect()?.memory.available_bytes;
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
                    return Ok(Answer { said, tokens, done, load_time: self.0.load_time });
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
    done: Done,
    load_time: Duration,
}

impl Answer {
    /// Whether Ctrl-C ended it.
    pub fn interrupted(&self) -> bool {
        self.done.finish == Finish::Cancelled
    }

    /// Whether it ended because there was no room or no permission for more.
    pub fn cut_off(&self) -> bool {
        self.done.finish == Finish::Length
    }

    /// Tokens of prompt and answer together.
    pub fn total_tokens(&self) -> usize {
        self.done.prompt_tokens + self.tokens.len()
    }

    fn evaluated(&self) -> usize {
        self.done.prompt_tokens - self.done.cached_tokens.min(self.done.prompt_tokens)
    }

    fn prompt_rate(&self) -> Option<f64> {
        rate(self.evaluated(), self.done.timings.prefill)
    }

    /// The first token belongs to the prompt's time.
    fn decode_rate(&self) -> Option<f64> {
        rate(self.done.generated_tokens.saturating_sub(1), self.done.timings.decode)
    }

    fn total_seconds(&self) -> f64 {
        let t = &self.done.timings;
        self.load_time.as_secs_f64() + t.queue + t.prefill + t.decode
    }

    /// The object of `--json`; times in seconds.
    pub fn to_json(&self, model: &str) -> Value {
        let timings = &self.done.timings;
        let mut json = json!({
            "model": model,
            "text": self.said.content.clone() + &self.said.broken,
            "tokens": self.done.generated_tokens,
            "token_ids": self.tokens,
            "prompt_tokens": self.done.prompt_tokens,
            "cached_tokens": self.done.cached_tokens,
            "finish_reason": match self.done.finish {
                Finish::Stop | Finish::StopString(_) => "stop",
                Finish::Length => "length",
                Finish::Cancelled => "cancelled",
            },
            "timings": {
                "load": self.load_time.as_secs_f64(),
                "prefill": timings.prefill,
                "decode": timings.decode,
                "total": self.total_seconds(),
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
        let cached = match self.done.cached_tokens {
            0 => String::new(),
            n => format!(", {n} of them from the cache"),
        };
        let timings = &self.done.timings;
        [
            ("total duration:", seconds(self.total_seconds())),
            ("load duration:", out::duration(self.load_time)),
            ("prompt eval count:", format!("{} token(s){cached}", self.done.prompt_tokens)),
            ("prompt eval duration:", seconds(timings.prefill)),
            ("prompt eval rate:", tok_s(self.prompt_rate())),
            ("eval count:", format!("{} token(s)", self.done.generated_tokens)),
            ("eval duration:", seconds(timings.decode)),
            ("eval rate:", tok_s(self.decode_rate())),
        ]
        .map(|(name, value)| format!("{name:<22}{value}"))
        .join("\n")
    }
}

fn rate(tokens: usize, seconds: f64) -> Option<f64> {
    (tokens > 0 && seconds > 0.0).then(|| tokens as f64 / seconds)
}
