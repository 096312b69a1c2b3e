//! A Messages request, read and checked before any model is touched. What Anthropic's servers do besides answering (searches, containers, MCP)
//! is refused; what only describes the caller or its bill is passed over.

use hob_text::Message;
use serde_json::{Map, Value, json};

use super::messages;
use crate::answer::{Ask, Form};
use crate::dialect::extras::Extras;
use crate::error::ApiError;
use crate::http::fields::Fields;
use crate::loaded::Loaded;
use crate::prompt::{Conversation, Input, Think, ToolChoice};

/// Most tools of a request.
const MAX_TOOLS: usize = 1024;

/// What is asked, as far as it can be told without a model.
#[derive(Debug)]
pub struct Request {
    /// The model's name.
    pub model: String,
    /// Whether events are wanted.
    pub stream: bool,
    /// Whether thoughts are shown.
    pub shows_thinking: bool,
    /// Texts that end the answer.
    pub stops: Vec<String>,
    /// What hob knows besides.
    pub extras: Extras,
    conversation: Conversation,
    form: Form,
    max_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<usize>,
}

impl Request {
    /// Reads a request for an answer.
    ///
    /// # Errors
    /// For what is missing, wrong or not supported, by its place.
    pub fn read(body: &Map<String, Value>) -> Result<Self, ApiError> {
        let request = Self::read_to_count(body)?;
        match request.max_tokens {
            Some(_) => Ok(request),
            None => Err(Fields::top(body).error("max_tokens", "field required")),
        }
    }

    /// Reads a request whose tokens are to be counted: it may have no `max_tokens`.
    ///
    /// # Errors
    /// As [`Request::read`].
    pub fn read_to_count(body: &Map<String, Value>) -> Result<Self, ApiError> {
        let fields = Fields::top(body);
        let model = fields.need("model", fields.text("model")?)?.to_owned();
        refuse_services(&fields)?;
        let max_tokens = fields.count("max_tokens")?;
        if max_tokens == Some(0) {
            return Err(fields.error("max_tokens", "must be at least 1"));
        }
        let thinking = Thinking::read(&fields)?;
        let (tools, choice, parallel) = tools(&fields)?;
        let system = messages::system(&fields)?;
        let said = messages::messages(&fields)?;
        let continues = said.last().is_some_and(|m| m.role == "assistant");
        let messages: Vec<Message> = system.into_iter().chain(said).collect();
        let conversation = Conversation {
            messages,
            tools,
            choice,
            parallel,
            think: Some(thinking.think),
            continues,
            ..Conversation::default()
        };
        Ok(Request {
            model,
            stream: fields.truth("stream")?.unwrap_or(false),
            shows_thinking: thinking.shown,
            stops: stops(&fields)?,
            extras: Extras::read(&fields)?,
            conversation,
            form: form(&fields)?,
            max_tokens,
            temperature: fields.number("temperature", 0.0, 1.0)?,
            top_p: fields.number("top_p", 0.0, 1.0)?,
            top_k: fields.count("top_k")?,
        })
    }

    /// What is asked of this model. A wish for thoughts is passed over by a model that has none.
    ///
    /// # Errors
    /// When the model knows no tools and there are some, or values are out of their range.
    pub fn ask(&self, loaded: &Loaded) -> Result<Ask, ApiError> {
        let mut conversation = self.conversation.clone();
        if conversation.tools.is_some() && !loaded.capabilities().tools {
            let name = loaded.name();
            return Err(ApiError::field("tools", format!("tools: {name} does not support tools")));
        }
        if !loaded.thinks() {
            conversation.think = None;
        }
        let thinks = conversation.think.is_some_and(|think| think != Think::Off);
        if thinks && conversation.continues {
            let what = "messages: the last must not be the assistant's when thinking is enabled";
            return Err(ApiError::field("messages", what));
        }
        let mut sampling = loaded.sampling.clone();
        let options = &mut sampling.options;
        options.temperature = self.temperature.unwrap_or(options.temperature);
        options.top_p = self.top_p.unwrap_or(options.top_p);
        options.top_k = self.top_k.unwrap_or(options.top_k);
        options.seed = self.extras.seed.or(options.seed);
        // The model's own stop texts belong to its template.
        sampling.stop.extend(self.stops.iter().cloned());
        sampling.max_tokens = self.max_tokens;
        let mut ask = Ask::new(Input::Chat(Box::new(conversation)), sampling);
        ask.context = self.extras.context;
        (ask.truncate, ask.speculate) = (self.extras.truncate, self.extras.speculate);
        ask.form = self.form.clone();
        Ok(ask)
    }
}

/// What asks for more than an answer.
fn refuse_services(fields: &Fields) -> Result<(), ApiError> {
    for name in ["container", "mcp_servers"] {
        let empty = |v: &Value| v.as_array().is_some_and(Vec::is_empty);
        if fields.get(name).is_some_and(|value| !empty(value)) {
            return Err(fields.error(name, "not supported: hob answers and runs nothing"));
        }
    }
    Ok(())
}

fn stops(fields: &Fields) -> Result<Vec<String>, ApiError> {
    let path = fields.path("stop_sequences");
    let list = fields.list("stop_sequences")?.unwrap_or_default().iter().enumerate();
    let text = |(i, value): (usize, &Value)| match value.as_str() {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => {
            let place = format!("{path}.{i}");
            Err(ApiError::field(place.clone(), format!("{place}: expected a text, not empty")))
        }
    };
    list.map(text).collect()
}

/// Whether the model is to think, and whether that is shown.
struct Thinking {
    think: Think,
    shown: bool,
}

impl Thinking {
    /// Nothing is thought, or at least shown, unless it is asked for. The budget is a wish: the answer's `max_tokens` is what holds.
    fn read(fields: &Fields) -> Result<Self, ApiError> {
        let off = Thinking { think: Think::Off, shown: false };
        let Some(thinking) = fields.object("thinking")? else { return Ok(off) };
        thinking.count("budget_tokens")?;
        let shown = match thinking.text("display")? {
            None | Some("summarized") => true,
            Some("omitted") => false,
            Some(_) => {
                return Err(thinking.error("display", "expected \"summarized\" or \"omitted\""));
            }
        };
        match thinking.kind("")? {
            "disabled" => Ok(off),
            "enabled" | "adaptive" => Ok(Thinking { think: effort(fields)?, shown }),
            _ => Err(thinking.error("type", "expected \"enabled\", \"adaptive\" or \"disabled\"")),
        }
    }
}

/// How much is thought when it is.
fn effort(fields: &Fields) -> Result<Think, ApiError> {
    let Some(config) = fields.object("output_config")? else { return Ok(Think::On) };
    match config.text("effort")? {
        None => Ok(Think::On),
        Some("low") => Ok(Think::Low),
        Some("medium") => Ok(Think::Medium),
        Some("high") => Ok(Think::High),
        Some("xhigh" | "max") => Ok(Think::Max),
        Some(_) => {
            Err(config
                .error("effort", "expected \"low\", \"medium\", \"high\", \"xhigh\" or \"max\""))
        }
    }
}

/// `output_config.format`, and `output_format`, its older place.
fn form(fields: &Fields) -> Result<Form, ApiError> {
    let config = fields.object("output_config")?;
    let newer = config.map(|config| config.object("format")).transpose()?.flatten();
    let Some(format) = newer.or(fields.object("output_format")?) else { return Ok(Form::Free) };
    match format.kind("")? {
        "json_schema" => {
            format.object("schema")?;
            let schema = format.need("schema", format.get("schema"))?;
            Ok(Form::Schema(schema.clone()))
        }
        _ => Err(format.error("type", "expected \"json_schema\"")),
    }
}

/// Tools in OpenAI's form, which templates read, whether they are to be called, and whether several may be.
fn tools(fields: &Fields) -> Result<(Option<Value>, ToolChoice, bool), ApiError> {
    let given = fields.objects("tools")?;
    if given.len() > MAX_TOOLS {
        return Err(fields.error("tools", format!("at most {MAX_TOOLS} tools are possible")));
    }
    let tools = given.iter().map(tool).collect::<Result<Vec<Value>, _>>()?;
    let named = |name: &str| tools.iter().any(|tool| tool["function"]["name"] == name);
    let Some(choice) = fields.object("tool_choice")? else {
        return Ok((some(tools), ToolChoice::Auto, true));
    };
    let parallel = !choice.truth("disable_parallel_tool_use")?.unwrap_or(false);
    let chosen = match choice.kind("")? {
        "auto" => ToolChoice::Auto,
        "none" => return Ok((None, ToolChoice::None, parallel)),
        "any" if tools.is_empty() => return Err(choice.refuse("there are no tools to choose from")),
        "any" => ToolChoice::Required,
        "tool" => {
            let name = choice.need("name", choice.text("name")?)?;
            if !named(name) {
                return Err(choice.error("name", format!("there is no tool \"{name}\"")));
            }
            ToolChoice::Named(name.to_owned())
        }
        _ => return Err(choice.error("type", "expected \"auto\", \"any\", \"tool\" or \"none\"")),
    };
    Ok((some(tools), chosen, parallel))
}

fn some(tools: Vec<Value>) -> Option<Value> {
    (!tools.is_empty()).then(|| tools.into())
}

fn tool(tool: &Fields) -> Result<Value, ApiError> {
    let kind = tool.kind("custom")?;
    if kind != "custom" {
        return Err(tool.refuse(format!(
            "tools of type \"{kind}\" are Anthropic's own and not there; describe the tool with name and input_schema"
        )));
    }
    let name = tool.need("name", tool.text("name")?)?;
    if name.is_empty() {
        return Err(tool.error("name", "must not be empty"));
    }
    tool.object("input_schema")?;
    let schema = tool.need("input_schema", tool.get("input_schema"))?;
    let mut function = json!({"name": name});
    if let Some(text) = tool.text("description")? {
        function["description"] = text.into();
    }
    function["parameters"] = schema.clone();
    Ok(json!({"type": "function", "function": function}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(extra: Value) -> Result<Request, ApiError> {
        let mut body =
            json!({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]});
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        Request::read(body.as_object().unwrap())
    }

    #[test]
    fn what_claude_code_sends_is_read() {
        let request = read(json!({
            "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
            "metadata": {"user_id": "{}"}, "thinking": {"type": "adaptive"},
            "output_config": {"effort": "high"}, "stream": true,
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
            "tools": [{"name": "Read", "description": "d", "input_schema": {"type": "object", "properties": {}}}],
        }))
        .unwrap();
        assert!(request.stream && request.shows_thinking);
        assert_eq!(request.conversation.think, Some(Think::High));
        assert_eq!(request.conversation.messages.len(), 2);
        let tools = json!([{"type": "function", "function": {"name": "Read", "description": "d",
            "parameters": {"type": "object", "properties": {}}}}]);
        assert_eq!(request.conversation.tools, Some(tools));
    }

    #[test]
    fn thinking_is_what_is_asked_for() {
        let of = |extra: Value| {
            let request = read(extra).unwrap();
            (request.conversation.think, request.shows_thinking)
        };
        assert_eq!(of(json!({})), (Some(Think::Off), false));
        assert_eq!(of(json!({"thinking": {"type": "disabled"}})), (Some(Think::Off), false));
        let enabled = json!({"thinking": {"type": "enabled", "budget_tokens": 2000}});
        assert_eq!(of(enabled), (Some(Think::On), true));
        let omitted = json!({"thinking": {"type": "adaptive", "display": "omitted"}});
        assert_eq!(of(omitted), (Some(Think::On), false));
    }

    #[test]
    fn choices_and_forms() {
        let tools = json!([{"name": "f", "input_schema": {"type": "object"}, "type": "custom"}]);
        let choice = |choice: Value| read(json!({"tools": tools.clone(), "tool_choice": choice}));
        let of = |given: Value| {
            let chat = choice(given).unwrap().conversation;
            (chat.choice, chat.parallel, chat.tools.is_some())
        };
        assert_eq!(of(json!({"type": "auto"})), (ToolChoice::Auto, true, true));
        let one = json!({"type": "any", "disable_parallel_tool_use": true});
        assert_eq!(of(one), (ToolChoice::Required, false, true));
        let named = (ToolChoice::Named("f".into()), true, true);
        assert_eq!(of(json!({"type": "tool", "name": "f"})), named);
        assert_eq!(of(json!({"type": "none"})), (ToolChoice::None, true, false));
        assert!(choice(json!({"type": "tool", "name": "g"})).is_err());
        assert!(read(json!({"tool_choice": {"type": "any"}})).is_err());
        let schema = json!({"type": "json_schema", "schema": {"type": "object"}});
        let expected = Form::Schema(json!({"type": "object"}));
        assert_eq!(
            read(json!({"output_config": {"format": schema.clone()}})).unwrap().form,
            expected
        );
        assert_eq!(read(json!({"output_format": schema})).unwrap().form, expected);
    }

    #[test]
    fn what_is_wrong_is_told_by_its_place() {
        for (extra, place) in [
            (json!({"model": null}), "model"),
            (json!({"model": 5}), "model"),
            (json!({"max_tokens": null}), "max_tokens"),
            (json!({"max_tokens": 0}), "max_tokens"),
            (json!({"max_tokens": -1}), "max_tokens"),
            (json!({"max_tokens": 1.5}), "max_tokens"),
            (json!({"temperature": 1.1}), "temperature"),
            (json!({"temperature": 1e308}), "temperature"),
            (json!({"top_p": -0.1}), "top_p"),
            (json!({"top_k": -1}), "top_k"),
            (json!({"stop_sequences": "x"}), "stop_sequences"),
            (json!({"stop_sequences": ["x", ""]}), "stop_sequences.1"),
            (json!({"stream": "yes"}), "stream"),
            (json!({"thinking": {"type": "deep"}}), "thinking.type"),
            (json!({"thinking": "on"}), "thinking"),
            (
                json!({"thinking": {"type": "enabled"}, "output_config": {"effort": 3}}),
                "output_config.effort",
            ),
            (
                json!({"output_config": {"format": {"type": "json_schema"}}}),
                "output_config.format.schema",
            ),
            (json!({"container": "c"}), "container"),
            (json!({"mcp_servers": [{}]}), "mcp_servers"),
            (json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}), "tools.0"),
            (json!({"tools": [{"name": "f"}]}), "tools.0.input_schema"),
            (json!({"tools": [{"name": "f", "input_schema": "x"}]}), "tools.0.input_schema"),
            (json!({"tool_choice": {"type": "some"}}), "tool_choice.type"),
        ] {
            let error = read(extra).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(place), "{error}");
        }
        assert!(read(json!({"max_tokens": u64::MAX, "mcp_servers": []})).is_ok());
    }
}
