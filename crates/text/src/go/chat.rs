//! A conversation through a Go template, by Ollama's rules: one rendering of all messages where the template knows `.Messages`,
//! else one per turn with `.System`, `.Prompt` and `.Response`.
//! Absent: a switch for the start of an answer, which these templates always write, and images.

use super::ast::{Command, Node, Pipe, Term, Tree};
use super::data::{self, Turn};
use super::eval::{self, Limits};
use super::inspect::{self, Capabilities};
use super::parser;
use super::value::Value;
use crate::{ChatFormat, Message, RenderOptions, TextError};

/// The longest template that is parsed; the longest known is 9 kB.
const MAX_SOURCE_BYTES: usize = 1 << 20;
/// Fuel for a small conversation: steps, or 64 bytes each.
const BASE_FUEL: u64 = 50_000;
/// More fuel for each message.
const MESSAGE_FUEL: u64 = 2_000;
/// More fuel for each byte of a conversation.
const BYTE_FUEL: u64 = 1;
/// The most that is written about a small conversation.
const BASE_OUTPUT: usize = 1 << 20;
/// So many times may a template write what it is given.
const OUTPUT_PER_BYTE: usize = 16;

/// A chat template in Go's language that is known to parse.
#[derive(Debug, Clone)]
pub struct GoTemplate {
    source: String,
    tree: Tree,
    /// Up to where the answer stands: what the last turn of a conversation writes.
    start_of_answer: Vec<Node>,
    /// It knows `.Messages`.
    whole: bool,
}

impl GoTemplate {
    /// Parses a template. One that has neither `.Messages` nor `.Response` gets the answer at its end.
    ///
    /// # Errors
    /// [`TextError::TemplateSyntax`], and [`TextError::TemplateLimit`] for a source beyond a megabyte or nested too deeply.
    pub fn new(source: &str) -> Result<Self, TextError> {
        if source.len() > MAX_SOURCE_BYTES {
            let limit = MAX_SOURCE_BYTES;
            return Err(TextError::TemplateLimit { what: "bytes of source", limit });
        }
        let mut tree = parser::parse(source)?;
        let whole = inspect::uses(&tree, "messages");
        if !whole && !inspect::uses(&tree, "response") {
            tree.root.push(response());
        }
        let start_of_answer = inspect::start_of_answer(&tree.root).0;
        Ok(Self { source: source.to_owned(), tree, start_of_answer, whole })
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What it knows besides conversations.
    pub fn capabilities(&self) -> Capabilities {
        inspect::capabilities(&self.tree)
    }

    /// The texts around what a model thinks, as the template writes them.
    pub fn thinking_tags(&self) -> Option<(&str, &str)> {
        inspect::thinking_tags(&self.tree)
    }

    /// How models of this template write thinking and calls.
    pub fn format(&self) -> ChatFormat {
        ChatFormat::detect(&self.source)
    }

    /// The prompt for a conversation. Of the options, `add_generation_prompt` has no meaning here; `reasoning_effort` among the
    /// further variables is also `.ThinkLevel`.
    ///
    /// # Errors
    /// [`TextError::TemplateRender`] if the template fails on the conversation, [`TextError::TemplateLimit`] if it works too long
    /// or writes too much.
    pub fn render(
        &self,
        messages: &[Message],
        options: &RenderOptions,
    ) -> Result<String, TextError> {
        let turns = data::turns(messages);
        let tools = options.tools.as_ref().map_or(0, json_bytes);
        let bytes = tools + messages.iter().map(message_bytes).sum::<usize>();
        let mut limits = limits(messages.len(), bytes);
        if !self.whole {
            return self.by_turns(&turns, &mut limits, options);
        }
        let data = data::conversation(&turns, options);
        self.run(&self.tree.root, &data, &mut limits, options).map(text)
    }

    /// The prompt for what stands between `prompt` and `suffix`.
    ///
    /// # Errors
    /// As [`GoTemplate::render`].
    pub fn render_insert(
        &self,
        prompt: &str,
        suffix: &str,
        options: &RenderOptions,
    ) -> Result<String, TextError> {
        let fields = [("Prompt", prompt), ("Suffix", suffix), ("Response", "")];
        let data = data::texts(&fields, options);
        let mut limits = limits(1, prompt.len() + suffix.len());
        self.run(&self.tree.root, &data, &mut limits, options).map(text)
    }

    /// A template without `.Messages` knows one turn: it is rendered whenever one is complete, and for the last up to the answer.
    fn by_turns(
        &self,
        turns: &[Turn<'_>],
        limits: &mut Limits,
        options: &RenderOptions,
    ) -> Result<String, TextError> {
        let mut out = Vec::new();
        let mut write = |nodes, [system, prompt, response]: [&str; 3]| {
            let data = data::turn(system, prompt, response, options);
            out.extend(self.run(nodes, &data, limits, options)?);
            Ok::<(), TextError>(())
        };
        let [mut system, mut prompt, mut response] = [""; 3];
        for turn in turns {
            let complete = match turn.role {
                "system" => !prompt.is_empty() || !response.is_empty(),
                "user" => !response.is_empty(),
                _ => false,
            };
            if complete {
                write(&self.tree.root, [system, prompt, response])?;
                [system, prompt, response] = [""; 3];
            }
            match turn.role {
                "system" => system = &turn.content,
                "user" => prompt = &turn.content,
                "assistant" => response = &turn.content,
                _ => {}
            }
        }
        write(&self.start_of_answer, [system, prompt, response])?;
        Ok(text(out))
    }

    fn run(
        &self,
        nodes: &[Node],
        data: &Value,
        limits: &mut Limits,
        options: &RenderOptions,
    ) -> Result<Vec<u8>, TextError> {
        eval::run(&self.tree, nodes, data, limits, options.now)
    }
}

/// `{{ .Response }}`
fn response() -> Node {
    let head = Term::Fields(vec!["Response".to_owned()]);
    let command = Command { line: 0, head, arguments: vec![] };
    Node::Action(Pipe { line: 0, variables: vec![], assigns: false, commands: vec![command] })
}

/// A template may cut a text within a character.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

fn message_bytes(message: &Message) -> usize {
    let thinking = message.thinking.as_ref().map_or(0, String::len);
    message.content.len() + thinking + message.tool_calls.as_ref().map_or(0, json_bytes)
}

/// What a template may use for so many messages of so many bytes.
fn limits(messages: usize, bytes: usize) -> Limits {
    Limits {
        fuel: BASE_FUEL + MESSAGE_FUEL * messages as u64 + BYTE_FUEL * bytes as u64,
        output: BASE_OUTPUT.saturating_add(bytes.saturating_mul(OUTPUT_PER_BYTE)),
    }
}

/// Length of a value's strings and punctuation, near enough.
fn json_bytes(value: &serde_json::Value) -> usize {
    use serde_json::Value as Json;
    match value {
        Json::String(text) => text.len() + 2,
        Json::Array(items) => 2 + items.iter().map(|item| json_bytes(item) + 1).sum::<usize>(),
        Json::Object(map) => {
            2 + map.iter().map(|(key, value)| key.len() + 4 + json_bytes(value)).sum::<usize>()
        }
        _ => 5,
    }
}
