//! A model that a running hob server has: asked over Ollama's API, its answers read as if they came from this process.

use std::time::Duration;

use anyhow::{Result, bail};
use hob_server::Sampling;
use hob_text::{ChatAnswer, ChatEvent, Message, Token};
use serde_json::{Map, Value, json};

use crate::answer::{Answer, Figures, Reason, Think};
use crate::interrupt::Answering;
use crate::out;
use crate::progress::PullBar;
use crate::remote::{NotHere, Server};
use crate::show;
use crate::talk::{Pieces, Way};

/// How often Ctrl-C is looked for.
const POLL: Duration = Duration::from_millis(50);

/// A model in a server.
pub struct There {
    server: Server,
    name: String,
    /// What `/api/show` says.
    shown: Value,
    way: Way,
    context: usize,
}

impl There {
    /// Has a model loaded, and fetched before if need be.
    ///
    /// # Errors
    /// The server's own words.
    pub fn open(server: Server, name: &str, way: &Way) -> Result<There> {
        let show = || server.post("/api/show", &json!({"model": name}));
        let shown = match show() {
            Err(e) if e.is::<NotHere>() => {
                let mut bar = PullBar::new();
                let pulled = server.pull(name, |line| bar.line_of(line));
                bar.clear();
                pulled?;
                show()?
            }
            other => other?,
        };
        let name = shown["name"].as_str().unwrap_or(name).to_owned();
        let there = There { server, name, shown, way: way.clone(), context: 0 };
        there.again(way)
    }

    /// The same model, loaded in another way.
    ///
    /// # Errors
    /// The server's own words.
    pub fn again(&self, way: &Way) -> Result<There> {
        let (server, name, shown) = (self.server.clone(), self.name.clone(), self.shown.clone());
        let mut there = There { server, name, shown, way: way.clone(), context: 0 };
        let mut load = there.request(&Map::new());
        load["stream"] = false.into();
        there.server.post("/api/generate", &load)?;
        let all = there.server.get("/api/ps")?;
        let ours =
            |m: &&Value| m["name"].as_str().is_some_and(|n| n.eq_ignore_ascii_case(&there.name));
        let found = all["models"].as_array().into_iter().flatten().find(ours);
        let loaded = number(found.unwrap_or(&Value::Null), "context_length");
        there.context = way.load.context.map_or(loaded, |asked| asked.min(loaded));
        Ok(there)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tokens of prompt and answer together; 0 if the server does not tell.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Its context and where it is, in words.
    pub fn line(&self) -> String {
        let trained = number(&self.shown["details"], "context_length");
        let address = self.server.address();
        format!("context {} tokens (model {trained}); answered by {address}", self.context)
    }

    /// Its chat template.
    pub fn template(&self) -> Option<String> {
        self.text_of("template")
    }

    /// Its own system prompt.
    pub fn system(&self) -> Option<String> {
        self.text_of("system")
    }

    /// Its licence.
    pub fn licence(&self) -> Option<String> {
        self.text_of("license")
    }

    fn text_of(&self, key: &str) -> Option<String> {
        self.shown[key].as_str().map(str::to_owned)
    }

    /// How its tokens are chosen.
    ///
    /// # Errors
    /// When the server tells a parameter that cannot be.
    pub fn sampling(&self) -> Result<Sampling> {
        let none = Map::new();
        Ok(Sampling::from_options(self.shown["options"].as_object().unwrap_or(&none))?)
    }

    /// What it is.
    ///
    /// # Errors
    /// As `sampling`.
    pub fn overview(&self) -> Result<String> {
        let details = &self.shown["details"];
        let rows = [
            ("architecture", "family"),
            ("parameters", "parameter_size"),
            ("context length", "context_length"),
            ("embedding length", "embedding_length"),
            ("quantization", "quantization_level"),
        ]
        .map(|(name, key)| {
            let value = &details[key];
            [name.to_owned(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)]
        });
        let parameters = self.sampling()?.lines();
        let parameters: Vec<_> =
            parameters.into_iter().map(|(name, value)| [name.to_owned(), value]).collect();
        Ok(show::block("Model", &rows) + &show::block("Parameters", &parameters))
    }

    /// Answers a conversation.
    ///
    /// # Errors
    /// The server's own words.
    pub fn chat(
        &self,
        messages: &[Message],
        think: Option<Think>,
        sampling: &Sampling,
        pieces: Pieces<'_>,
    ) -> Result<Answer> {
        let mut request = self.request(&sampling.to_options());
        request["messages"] = json!(messages);
        if let Some(think) = think {
            request["think"] = think.to_json();
        }
        self.answer("/api/chat", &request, pieces)
    }

    /// Continues a text.
    ///
    /// # Errors
    /// The server's own words.
    pub fn text(&self, text: &str, sampling: &Sampling, pieces: Pieces<'_>) -> Result<Answer> {
        let mut request = self.request(&sampling.to_options());
        request["prompt"] = text.into();
        request["raw"] = true.into();
        self.answer("/api/generate", &request, pieces)
    }

    fn request(&self, options: &Map<String, Value>) -> Value {
        let mut options = options.clone();
        if let Some(context) = self.way.load.context {
            options.insert("num_ctx".to_owned(), context.into());
        }
        let mut request = json!({"model": self.name, "options": options, "token_ids": true});
        if let Some(keep) = &self.way.keep {
            request["keep_alive"] = keep.as_str().into();
        }
        request
    }

    fn answer(&self, path: &str, request: &Value, pieces: Pieces<'_>) -> Result<Answer> {
        let waiting = Answering::begin();
        let lines = self.server.lines(path, request)?;
        let (mut said, mut tokens) = (ChatAnswer::default(), Vec::new());
        loop {
            if waiting.stop_asked() {
                let figures =
                    Figures { reason: Reason::Cancelled, ..figures(&Value::Null, tokens.len()) };
                return Ok(Answer { said, tokens, figures });
            }
            let line = match lines.next_timeout(POLL) {
                Ok(None) => continue,
                Ok(Some(line)) => line,
                Err(Some(e)) => return Err(e),
                Err(None) => bail!("the server's answer has no end"),
            };
            let ids = line["token_ids"].as_array().into_iter().flatten();
            tokens.extend(ids.filter_map(|id| Token::try_from(id.as_u64()?).ok()));
            let events = events(&line, said.tool_calls.len());
            events.iter().try_for_each(&mut *pieces)?;
            said.extend(events);
            if line["done"] == true {
                let figures = figures(&line, tokens.len());
                return Ok(Answer { said, tokens, figures });
            }
        }
    }
}

/// What a line says; its calls come after `calls` others.
fn events(line: &Value, calls: usize) -> Vec<ChatEvent> {
    let body = if line["message"].is_object() { &line["message"] } else { line };
    let text = |value: &Value| value.as_str().filter(|t| !t.is_empty()).map(str::to_owned);
    let content = text(&body["content"]).or_else(|| text(&body["response"]));
    let mut events = Vec::new();
    events.extend(text(&body["thinking"]).map(ChatEvent::Thinking));
    events.extend(content.map(ChatEvent::Content));
    for (n, call) in body["tool_calls"].as_array().into_iter().flatten().enumerate() {
        let (index, function) = (calls + n, &call["function"]);
        let name = text(&function["name"]).unwrap_or_default();
        events.push(ChatEvent::ToolCallStart { index, id: text(&call["id"]), name });
        let text = function["arguments"].to_string();
        events.push(ChatEvent::ToolCallArguments { index, text });
        events.push(ChatEvent::ToolCallEnd { index });
    }
    events
}

fn figures(last: &Value, tokens: usize) -> Figures {
    let seconds = |key: &str| Duration::from_nanos(last[key].as_u64().unwrap_or_default());
    Figures {
        reason: match last["done_reason"].as_str() {
            Some("length") => Reason::Length,
            _ => Reason::Stop,
        },
        prompt_tokens: number(last, "prompt_eval_count"),
        cached_tokens: number(last, "cached_tokens"),
        generated_tokens: last["eval_count"].as_u64().map_or(tokens, |n| n as usize),
        prefill: seconds("prompt_eval_duration").as_secs_f64(),
        decode: seconds("eval_duration").as_secs_f64(),
        total: seconds("total_duration").as_secs_f64(),
        load: seconds("load_duration"),
    }
}

fn number(value: &Value, key: &str) -> usize {
    value[key].as_u64().unwrap_or_default() as usize
}

impl PullBar {
    /// Shows a line of a server's pull.
    fn line_of(&mut self, line: &Value) {
        match (line["completed"].as_u64(), line["total"].as_u64()) {
            (done, Some(total)) => self.bytes(done.unwrap_or(0), total),
            _ => out::say(line["status"].as_str().unwrap_or_default()),
        }
    }
}
