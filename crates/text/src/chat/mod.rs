//! Chat templates: the model's own Jinja program turns a conversation into its prompt.
//! Rendered as Python's transformers does, by `minijinja` with a budget of fuel for work and memory alike: a template is a stranger's
//! program. Only ChatML is built in, for files without a template whose vocabulary has its tokens. Answers are
//! taken apart by `parser.rs`.

mod answer;
mod builtins;
mod calls;
mod either;
mod format;
mod grammar;
mod integers;
mod literals;
mod message;
mod parser;
mod program;
mod python;
mod scan;

use std::sync::LazyLock;

use hob_gguf::Metadata;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value};
use regex::Regex;
use serde_json::Map;

use crate::{TextError, Tokenizer};
pub use answer::{ChatAnswer, ChatEvent, ToolCall};
pub use either::Template;
pub use format::ChatFormat;
pub use grammar::{CallChoice, JSON_BLANKS};
pub use integers::bound_integers;
pub use message::Message;
pub use parser::ChatParser;
use program::Program;

/// The longest template that is compiled; the longest known is 30 kB.
const MAX_SOURCE_BYTES: usize = 1 << 20;
/// Fuel for a small conversation: instructions, or 64 bytes of data each. The 70 templates of llama.cpp use less than 2,000.
const BASE_FUEL: u64 = 50_000;
/// More fuel for each message of a conversation.
const MESSAGE_FUEL: u64 = 2_000;
/// More fuel for each byte of a conversation: a template may copy a message a dozen times.
const BYTE_FUEL: u64 = 1;
/// Address space for a template's stack; only what is used becomes memory.
const STACK_BYTES: usize = 128 << 20;
/// What templates are tried with.
const PROBE: &str = "hob probes this template";
/// The template's name in its own errors.
const NAME: &str = "chat";
/// Depth of macro calls; Rust's stack is the resource.
const MAX_DEPTH: usize = 100;

/// ChatML, as the models that introduced it are prompted.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// What a template is given besides the conversation.
#[derive(Debug, Clone, Default)]
pub struct RenderOptions {
    /// End with the start of an answer.
    pub add_generation_prompt: bool,
    /// Tools as JSON schemas, in OpenAI's form.
    pub tools: Option<serde_json::Value>,
    /// For templates that can switch thinking on and off; `None` leaves their default.
    pub enable_thinking: Option<bool>,
    /// Further variables; they replace those of the same name.
    pub extra: Map<String, serde_json::Value>,
    /// What `strftime_now` takes for now; `None` is the present. Templates write dates, tests need fixed ones.
    pub now: Option<std::time::SystemTime>,
}

/// A chat template that is known to compile.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    env: Environment<'static>,
    source: String,
    /// The file's variant for conversations with tools.
    tool_use: Option<String>,
    bos: String,
    eos: String,
    /// The template reads content only as a list of typed parts.
    typed_content: bool,
    /// The template reads a call's arguments only as text.
    string_arguments: bool,
}

impl ChatTemplate {
    /// The template of a file, or ChatML if it has none and its vocabulary knows ChatML's tokens; `None` is a base model.
    ///
    /// # Errors
    /// As [`ChatTemplate::new`].
    pub fn from_gguf(meta: &Metadata, tokenizer: &Tokenizer) -> Result<Option<Self>, TextError> {
        let name = |token: Option<_>| token.map(|t| tokenizer.piece(t).into_owned());
        let bos = name(tokenizer.bos()).unwrap_or_default();
        let eos = name(tokenizer.eos()).unwrap_or_default();
        let source = meta.opt_str("tokenizer.chat_template")?.filter(|s| !s.trim().is_empty());
        let Some(source) = source else {
            let known = |piece| tokenizer.token_id(piece).is_some();
            let chatml = known("<|im_start|>") && known("<|im_end|>");
            return if chatml { Self::new(CHATML, &bos, &eos).map(Some) } else { Ok(None) };
        };
        let mut template = Self::new(source, &bos, &eos)?;
        if let Some(source) = meta.opt_str("tokenizer.chat_template.tool_use")? {
            template.tool_use = Some(checked(source)?);
        }
        Ok(Some(template))
    }

    /// As [`ChatTemplate::from_gguf`], for callers that cannot do without.
    ///
    /// # Errors
    /// Also [`TextError::NoTemplate`] for a base model.
    pub fn required(meta: &Metadata, tokenizer: &Tokenizer) -> Result<Self, TextError> {
        Self::from_gguf(meta, tokenizer)?.ok_or(TextError::NoTemplate)
    }

    /// Compiles a template and tries it once; `bos` and `eos` are the pieces that it may write.
    ///
    /// # Errors
    /// [`TextError::TemplateSyntax`], and [`TextError::TemplateLimit`] for a source beyond a megabyte or one that exceeds the limits
    /// of [`ChatTemplate::render`] on a conversation of one word.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, TextError> {
        let mut env = Environment::new();
        env.set_recursion_limit(MAX_DEPTH);
        builtins::install(&mut env);
        program::install(&mut env);
        let mut template = Self {
            env,
            source: checked(source)?,
            tool_use: None,
            bos: bos.to_owned(),
            eos: eos.to_owned(),
            typed_content: false,
            string_arguments: false,
        };
        template.typed_content = template.wants_typed_content()?;
        template.string_arguments = template.wants_string_arguments()?;
        Ok(template)
    }

    /// How models of this template write thinking and calls.
    pub fn format(&self) -> ChatFormat {
        ChatFormat::detect(self.tool_use.as_ref().unwrap_or(&self.source))
    }

    /// The prompt for a conversation.
    ///
    /// # Errors
    /// [`TextError::TemplateRender`] if the template refuses the conversation, [`TextError::TemplateLimit`] if it works too long
    /// or writes too much.
    pub fn render(
        &self,
        messages: &[Message],
        options: &RenderOptions,
    ) -> Result<String, TextError> {
        self.render_as(messages, options, self.typed_content, self.string_arguments)
    }

    fn render_as(
        &self,
        messages: &[Message],
        options: &RenderOptions,
        typed: bool,
        strings: bool,
    ) -> Result<String, TextError> {
        let messages: Vec<_> = messages.iter().map(|m| m.for_template(typed, strings)).collect();
        let bytes = json_bytes(&messages) + options.tools.as_ref().map_or(0, json_len);
        let fuel = BASE_FUEL + MESSAGE_FUEL * messages.len() as u64 + BYTE_FUEL * bytes;
        let mut env = self.env.clone();
        env.set_fuel(Some(fuel));
        builtins::install_clock(&mut env, options.now);
        let with_tools = self.tool_use.as_ref().filter(|_| options.tools.is_some());
        let source = with_tools.unwrap_or(&self.source);
        let context = self.context(messages, options);
        on_large_stack(|| {
            let program = Program::compile(NAME, source).map_err(|e| syntax_error(&e))?;
            program.run(&env, context).map_err(|error| render_error(&error, fuel))
        })
    }

    /// The variables that transformers passes.
    fn context(&self, messages: Vec<serde_json::Value>, options: &RenderOptions) -> Value {
        let mut context = Map::new();
        let mut set = |key: &str, value| context.insert(key.to_owned(), value);
        set("messages", messages.into());
        set("tools", options.tools.clone().unwrap_or_default());
        set("documents", serde_json::Value::Null);
        set("add_generation_prompt", options.add_generation_prompt.into());
        set("bos_token", self.bos.clone().into());
        set("eos_token", self.eos.clone().into());
        if let Some(on) = options.enable_thinking {
            set("enable_thinking", on.into());
        }
        for (key, value) in &options.extra {
            set(key, value.clone());
        }
        Value::from(Serde(context))
    }

    /// Tries whether the template shows a plain string, and if not, whether it shows typed parts.
    fn wants_typed_content(&self) -> Result<bool, TextError> {
        let messages = [Message::new("user", PROBE)];
        Ok(!self.shows(&messages, false, false)? && self.shows(&messages, true, false)?)
    }

    /// Tries whether the template shows arguments of a call as an object, and if not, whether it shows them as text.
    fn wants_string_arguments(&self) -> Result<bool, TextError> {
        let call = serde_json::json!({"id": "call00000", "type": "function",
            "function": {"name": "probe", "arguments": {"probe": PROBE}}});
        let assistant = Message {
            role: "assistant".to_owned(),
            tool_calls: Some(serde_json::json!([call])),
            ..Message::default()
        };
        let messages = [Message::new("user", "Hi"), assistant];
        let shows = |strings| self.shows(&messages, self.typed_content, strings);
        Ok(!shows(false)? && shows(true)?)
    }

    /// Whether a probe is to be seen in what the template makes of it.
    fn shows(&self, messages: &[Message], typed: bool, strings: bool) -> Result<bool, TextError> {
        let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
        match self.render_as(messages, &options, typed, strings) {
            Err(error @ TextError::TemplateLimit { .. }) => Err(error),
            text => Ok(text.is_ok_and(|text| text.contains(PROBE))),
        }
    }
}

/// Runs a template where values nested as deep as its fuel allows can be dropped: dropping them is recursive.
fn on_large_stack(
    run: impl FnOnce() -> Result<String, TextError> + Send,
) -> Result<String, TextError> {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
        let thread = builder.spawn_scoped(scope, run);
        let thread = thread.map_err(|e| TextError::TemplateRender(format!("no thread: {e}")))?;
        let defect = "the template engine panicked".to_owned();
        thread.join().unwrap_or(Err(TextError::TemplateRender(defect)))
    })
}

/// The source as it is compiled, once it is known that it can be.
fn checked(source: &str) -> Result<String, TextError> {
    if source.len() > MAX_SOURCE_BYTES {
        return Err(TextError::TemplateLimit { what: "bytes of source", limit: MAX_SOURCE_BYTES });
    }
    let source = with_python_newlines(&without_generation_tags(source));
    Program::compile(NAME, &source).map_err(|e| syntax_error(&e))?;
    Ok(source)
}

fn syntax_error(error: &Error) -> TextError {
    TextError::TemplateSyntax(describe(error))
}

/// Length of a value's strings and punctuation, near enough.
fn json_len(value: &serde_json::Value) -> u64 {
    match value {
        serde_json::Value::String(s) => s.len() as u64 + 2,
        serde_json::Value::Array(items) => json_bytes(items) + 2,
        serde_json::Value::Object(map) => {
            map.iter().map(|(k, v)| k.len() as u64 + 4 + json_len(v)).sum::<u64>() + 2
        }
        _ => 5,
    }
}

fn json_bytes(values: &[serde_json::Value]) -> u64 {
    values.iter().map(|v| json_len(v) + 1).sum()
}

/// Takes out `{% generation %}`, which marks answers for training and writes nothing. An `if` in its place keeps the rules on blanks.
fn without_generation_tags(source: &str) -> String {
    static TAG: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").ok());
    let Some(tag) = TAG.as_ref() else { return source.to_owned() };
    tag.replace_all(source, |found: &regex::Captures<'_>| {
        let part = |i| found.get(i).map_or("", |m| m.as_str());
        let word = if part(2).is_empty() { "if true" } else { "endif" };
        format!("{{%{} {word} {}%}}", part(1), part(3))
    })
    .into_owned()
}

/// Marks `{% raw %}` so that the line break behind it stays, as in Python: its `trim_blocks` knows no such block.
fn with_python_newlines(source: &str) -> String {
    static TAG: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(\{%[-+]?\s*raw\s*)%\}").ok());
    let Some(tag) = TAG.as_ref() else { return source.to_owned() };
    tag.replace_all(source, "${1}+%}").into_owned()
}

fn render_error(error: &Error, fuel: u64) -> TextError {
    let mut cause = Some(error as &(dyn std::error::Error + 'static));
    while let Some(e) = cause {
        if e.downcast_ref::<Error>().is_some_and(|e| e.kind() == ErrorKind::OutOfFuel) {
            return TextError::TemplateLimit {
                what: "steps (or 64 bytes each)",
                limit: fuel as usize,
            };
        }
        cause = e.source();
    }
    TextError::TemplateRender(describe(error))
}

/// An error in one line: what and where.
fn describe(error: &Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("{what} (line {line})"),
        None => what,
    }
}
