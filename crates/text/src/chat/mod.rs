//! Chat templates: the model's own Jinja program turns a conversation into its prompt.
//! Rendered as Python's transformers does, by `minijinja` with a budget of fuel for work and memory alike: a template is a stranger's
//! program. Only ChatML is built in, for files without a template whose vocabulary has its tokens. Absent: parsing of answers.

mod builtins;
mod message;
mod python;

use std::sync::LazyLock;

use hob_gguf::Metadata;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value};
use regex::Regex;
use serde_json::Map;

use crate::{TextError, Tokenizer};
pub use message::Message;

/// The longest template that is compiled; the longest known is 30 kB.
const MAX_SOURCE_BYTES: usize = 1 << 20;
/// Fuel for a small conversation: instructions, or 64 bytes of data each. Known templates use less than a tenth.
const BASE_FUEL: u64 = 250_000;
/// More fuel for each message of a conversation.
const MESSAGE_FUEL: u64 = 4_000;
/// More fuel for each byte of a conversation: a template may copy a message a dozen times.
const BYTE_FUEL: u64 = 1;
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

/// A compiled chat template.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    env: Environment<'static>,
    bos: String,
    eos: String,
    /// The template reads content only as a list of typed parts.
    typed_content: bool,
    has_tool_variant: bool,
}

/// Names of the programs in the environment.
const MAIN: &str = "chat";
const TOOL_USE: &str = "tool_use";

impl ChatTemplate {
    /// The template of a file, or ChatML if it has none and its vocabulary knows ChatML's tokens; `None` is a base model.
    ///
    /// # Errors
    /// A template that does not parse.
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
            template.add(TOOL_USE, source)?;
            template.has_tool_variant = true;
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

    /// Compiles a template; `bos` and `eos` are the pieces that it may write.
    ///
    /// # Errors
    /// [`TextError::TemplateSyntax`], and [`TextError::TemplateLimit`] for a source beyond a megabyte.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, TextError> {
        let mut env = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        env.set_syntax(syntax.map_err(|e| TextError::TemplateSyntax(describe(&e)))?);
        env.set_recursion_limit(MAX_DEPTH);
        env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        builtins::install(&mut env);
        let (bos, eos) = (bos.to_owned(), eos.to_owned());
        let mut template = Self { env, bos, eos, typed_content: false, has_tool_variant: false };
        template.add(MAIN, source)?;
        template.typed_content = template.wants_typed_content();
        Ok(template)
    }

    fn add(&mut self, name: &'static str, source: &str) -> Result<(), TextError> {
        if source.len() > MAX_SOURCE_BYTES {
            return Err(TextError::TemplateLimit {
                what: "bytes of source",
                limit: MAX_SOURCE_BYTES,
            });
        }
        let source = without_generation_tags(source);
        let syntax = |e: Error| TextError::TemplateSyntax(describe(&e));
        self.env.add_template_owned(name, source).map_err(syntax)
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
        self.render_as(messages, options, self.typed_content)
    }

    fn render_as(
        &self,
        messages: &[Message],
        options: &RenderOptions,
        typed: bool,
    ) -> Result<String, TextError> {
        let messages: Vec<_> = messages.iter().map(|m| m.for_template(typed)).collect();
        let bytes =
            json_bytes(&messages) + options.tools.as_slice().iter().map(json_len).sum::<u64>();
        let fuel = BASE_FUEL + MESSAGE_FUEL * messages.len() as u64 + BYTE_FUEL * bytes;
        let mut env = self.env.clone();
        env.set_fuel(Some(fuel));
        builtins::install_clock(&mut env, options.now);
        let name = if self.has_tool_variant && options.tools.is_some() { TOOL_USE } else { MAIN };
        let context = self.context(messages, options);
        let rendered = env.get_template(name).and_then(|template| template.render(context));
        rendered.map_err(|error| render_error(&error, fuel))
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
    fn wants_typed_content(&self) -> bool {
        const PROBE: &str = "hob probes this template";
        let message =
            Message { role: "user".to_owned(), content: PROBE.to_owned(), ..Message::default() };
        let shows = |typed| {
            let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
            let text = self.render_as(std::slice::from_ref(&message), &options, typed);
            text.is_ok_and(|text| text.contains(PROBE))
        };
        !shows(false) && shows(true)
    }
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
