//! A loaded model that answers: context chosen, template applied, tokens streamed as text. `run` and its chat both speak through this.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::builder::RangedU64ValueParser;
use hob_engine::{
    Done, Embed, Engine, EngineConfig, EngineError, Event, Finish, LoadOptions, Request, Runner,
};
use hob_machine::Machine;
use hob_model::{KvType, Model};
use hob_text::{
    ChatAnswer, ChatEvent, ChatParser, ChatTemplate, EncodeOptions, GoTemplate, Message,
    RenderOptions, Template, Token, Tokenizer,
};
use serde_json::{Value, json};

use crate::context::{Conditions, Context, STEP_ROWS};
use crate::interrupt::Answering;
use crate::models::ModelFile;
use crate::out;
use crate::sampling::Sampling;

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

/// Threads for a computation that is bound by memory and by arithmetic units: one per core, of those that may be used.
pub fn default_threads(machine: &Machine) -> usize {
    machine.cpu.physical_cores.min(machine.cpu.usable_cores).max(1)
}

/// A model, ready to answer.
pub struct Loaded {
    /// Its file.
    pub file: ModelFile,
    /// Its description.
    pub model: Model,
    /// The context it was given.
    pub context: Context,
    /// How long loading took.
    pub load_time: Duration,
    tokenizer: Arc<Tokenizer>,
    template: Option<Template>,
    engine: Engine,
}

impl Loaded {
    /// Loads a file, for one sequence at a time.
    pub fn load(file: ModelFile, flags: &LoadFlags) -> Result<Loaded> {
        let start = Instant::now();
        if !file.overlay.adapters.is_empty() {
            let name = &file.local.name;
            bail!(
                "{name} has a LoRA adapter, and adapters cannot be run yet; take the model without it"
            );
        }
        file.gguf.advise_willneed();
        let model = file.describe()?;
        let tokenizer = Arc::new(Tokenizer::from_gguf(file.meta())?);
        let template = template(&file, &tokenizer)?;
        let set = file.overlay.parameters.get("num_ctx").and_then(Value::as_u64);
        let set = set.filter(|n| (2..=u64::from(model.context)).contains(n));
        let machine = Machine::detect()?;
        let conditions = Conditions {
            model: &model,
            weights: file.weight_bytes(),
            available: machine.memory.available_bytes,
            kv: flags.kv.into(),
            sequences: 1,
            asked: flags.context.or(set.map(|n| n as usize)),
        };
        let context = conditions.choose()?;
        let threads = flags.threads.unwrap_or_else(|| default_threads(&machine));
        let options = LoadOptions { threads, limits: context.limits };
        let runner = Runner::load(file.gguf.clone(), &options)
            .with_context(|| format!("cannot load {}", file.local.name))?;
        let config =
            EngineConfig { context: context.tokens, sequences: 1, queue: 1, mixed_rows: STEP_ROWS };
        let engine = Engine::start(runner, tokenizer.clone(), config)?;
        let load_time = start.elapsed();
        Ok(Loaded { file, model, context, load_time, tokenizer, template, engine })
    }

    /// The messages that every conversation with it begins with.
    pub fn first_messages(&self) -> Vec<Message> {
        let said = self.file.overlay.messages.iter();
        said.map(|(role, text)| Message::new(role.as_str(), text.as_str())).collect()
    }

    /// Whether the model was made for conversations.
    pub fn has_template(&self) -> bool {
        self.template.is_some()
    }

    /// Whether the model may think before it answers.
    pub fn thinks(&self) -> bool {
        self.template.as_ref().is_some_and(|t| t.format().thinks())
    }

    /// A conversation, up to the start of the next answer.
    ///
    /// # Errors
    /// When the template refuses the conversation, there is no template, or thinking is asked of a model that has none.
    pub fn chat_prompt(&self, messages: &[Message], think: Option<Think>) -> Result<Prompt> {
        let name = &self.file.local.name;
        let Some(template) = &self.template else {
            bail!("{name} has no chat template: it continues text and knows no roles");
        };
        if think.is_some_and(|think| think != Think::False) && !self.thinks() {
            bail!("{name} does not support thinking");
        }
        let mut options = RenderOptions {
            add_generation_prompt: true,
            enable_thinking: think.map(|think| think != Think::False),
            ..RenderOptions::default()
        };
        if let Some(effort) = think.and_then(Think::effort) {
            options.extra.insert("reasoning_effort".to_owned(), effort.into());
        }
        let text = template.render(messages, &options)?;
        let parser = ChatParser::new(template.format(), &text, None);
        Ok(Prompt { tokens: self.tokens(&text), parser: Some(parser) })
    }

    /// A text to be continued; what follows is not taken apart.
    pub fn text_prompt(&self, text: &str) -> Prompt {
        Prompt { tokens: self.tokens(text), parser: None }
    }

    /// The tokens of a text, control tokens by their names, begun as the model expects it.
    fn tokens(&self, text: &str) -> Vec<Token> {
        let options = EncodeOptions { add_special: false, parse_special: true };
        let mut tokens = self.tokenizer.encode(text, options);
        // Templates that write the begin token themselves must not get a second one.
        if self.tokenizer.add_bos()
            && let Some(bos) = self.tokenizer.bos()
            && tokens.first() != Some(&bos)
        {
            tokens.insert(0, bos);
        }
        tokens
    }

    /// Answers, giving pieces as they become certain. Ctrl-C ends the answer early, which is no error.
    pub fn answer(
        &self,
        prompt: Prompt,
        sampling: &Sampling,
        mut on_piece: impl FnMut(&ChatEvent) -> Result<()>,
    ) -> Result<Answer> {
        let Prompt { tokens, mut parser } = prompt;
        let request = Request {
            prompt: tokens,
            sample: sampling.options.clone(),
            max_tokens: sampling.max_tokens,
            stop: sampling.stop.clone(),
            show_special: parser.is_some(),
            ..Request::default()
        };
        let waiting = Answering::begin();
        let mut stream = self.engine.submit(request).map_err(|e| self.advise(e))?;
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
                    return Ok(Answer { said, tokens, done, load_time: self.load_time });
                }
                Some(Event::Failed(failure)) => return Err(failure.into()),
            }
        }
    }

    /// A vector for each text, and the number of their tokens.
    ///
    /// # Errors
    /// When a text is longer than the context, or the engine fails.
    pub fn embed(&self, texts: &[String], normalize: bool) -> Result<(Vec<Vec<f32>>, usize)> {
        let special = EncodeOptions { add_special: true, parse_special: false };
        let texts: Vec<Vec<Token>> =
            texts.iter().map(|text| self.tokenizer.encode(text, special)).collect();
        let count = texts.iter().map(Vec::len).sum();
        let request = Embed { texts, normalize, ..Embed::default() };
        Ok((self.engine.embed(request)?.wait()?, count))
    }

    /// An error of the engine with what the user can do about it.
    fn advise(&self, error: EngineError) -> anyhow::Error {
        let more = self.model.context as usize > self.context.tokens;
        match error {
            EngineError::PromptTooLong { .. } if more => {
                anyhow!("{error}; shorten it, or try a larger --context")
            }
            EngineError::PromptTooLong { .. } => {
                anyhow!("{error}; shorten it, or take a model with a longer context")
            }
            other => other.into(),
        }
    }
}

/// The template that counts: of the file, or of the layer beside it.
fn template(file: &ModelFile, tokenizer: &Tokenizer) -> Result<Option<Template>> {
    let jinja = ChatTemplate::from_gguf(file.meta(), tokenizer)?;
    let go = file.overlay.template.as_deref().map(GoTemplate::new).transpose();
    let go = go.with_context(|| format!("the template of {}", file.local.name))?;
    let always = std::env::var("OLLAMA_GO_TEMPLATE").is_ok_and(|v| !v.is_empty() && v != "0");
    Ok(Template::choose(jinja, go, file.overlay.own_template || always))
}

/// What an answer follows, and how it is read.
pub struct Prompt {
    tokens: Vec<Token>,
    parser: Option<ChatParser>,
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
    /// For templates that know degrees.
    fn effort(self) -> Option<&'static str> {
        match self {
            Think::True | Think::False => None,
            Think::Low => Some("low"),
            Think::Medium => Some("medium"),
            Think::High => Some("high"),
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
