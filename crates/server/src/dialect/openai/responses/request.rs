//! A request for a response, read and checked before any model is touched. Tools that OpenAI's servers run, and others that are no functions, are
//! left out, as clients send them unasked: the response lists the tools that the model was told of. What would answer otherwise is refused.

use serde_json::{Map, Value, json};

use crate::answer::Form;
use crate::dialect::extras::Extras;
use crate::error::ApiError;
use crate::http::fields::Fields;
use crate::prompt::{Think, ToolChoice};

/// Most tools of a request.
const MAX_TOOLS: usize = 1024;
/// Most likeliest tokens that may be asked for.
const MAX_TOP_LOGPROBS: usize = 20;

/// What is asked, as far as it can be told without a model and without what was said before.
#[derive(Debug)]
pub struct Request {
    /// The model's name.
    pub model: String,
    /// Whether events are wanted.
    pub stream: bool,
    /// Whether the response is to be kept.
    pub store: bool,
    /// The response that it goes on from.
    pub previous: Option<String>,
    /// The system prompt; not kept for what goes on from the response.
    pub instructions: Option<String>,
    /// The items of its input, each with an identifier.
    pub input: Vec<Value>,
    /// What hob knows besides; `truncation` is in it.
    pub extras: Extras,
    /// Tools in OpenAI's older form, which templates read.
    pub tools: Option<Value>,
    /// Whether they are called.
    pub choice: ToolChoice,
    /// Whether several may be.
    pub parallel: bool,
    /// Whether and how much is thought.
    pub think: Option<Think>,
    /// Thoughts are given as a summary, which is all of them.
    pub summary: bool,
    /// What the answer must be.
    pub form: Form,
    /// Tokens of the answer.
    pub max_tokens: Option<usize>,
    /// Between 0 and 2.
    pub temperature: Option<f32>,
    /// Between 0 and 1.
    pub top_p: Option<f32>,
    /// Likeliest tokens of each place; `None` for no probabilities at all.
    pub logprobs: Option<usize>,
    /// Settings that the response repeats.
    pub echo: Map<String, Value>,
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// For what is missing, wrong or not supported, by its place.
    pub fn read(body: &Map<String, Value>) -> Result<Self, ApiError> {
        let fields = Fields::top(body);
        let model = fields.need("model", fields.text("model")?)?;
        refuse(&fields)?;
        let max_tokens = fields.count("max_output_tokens")?;
        if max_tokens == Some(0) {
            return Err(fields.error("max_output_tokens", "must be at least 1"));
        }
        let offered = functions(&fields)?;
        let (tools, choice) = choose(&fields, &offered)?;
        let (think, summary) = reasoning(&fields)?;
        Ok(Request {
            model: model.to_owned(),
            stream: fields.truth("stream")?.unwrap_or(false),
            store: fields.truth("store")?.unwrap_or(true),
            previous: fields.text("previous_response_id")?.map(str::to_owned),
            instructions: fields.text("instructions")?.map(str::to_owned),
            input: super::items::given(&fields)?,
            extras: Extras { truncate: truncates(&fields)?, ..Extras::read(&fields)? },
            tools,
            choice,
            parallel: fields.truth("parallel_tool_calls")?.unwrap_or(true),
            think,
            summary,
            form: form(&fields)?,
            max_tokens,
            temperature: fields.number("temperature", 0.0, 2.0)?,
            top_p: fields.number("top_p", 0.0, 1.0)?,
            logprobs: logprobs(&fields)?,
            echo: echo(&fields, &offered)?,
        })
    }
}

/// What would have to be answered otherwise.
fn refuse(fields: &Fields) -> Result<(), ApiError> {
    if fields.truth("background")?.unwrap_or(false) {
        return Err(fields.error("background", "responses in the background are not supported"));
    }
    let chains = "not supported; go on from a response with previous_response_id";
    for (name, what) in [("conversation", chains), ("prompt", "stored prompts are not supported")] {
        if fields.get(name).is_some() {
            return Err(fields.error(name, what));
        }
    }
    Ok(())
}

fn truncates(fields: &Fields) -> Result<bool, ApiError> {
    match fields.text("truncation")? {
        None => Ok(fields.truth("truncate")?.unwrap_or(false)),
        Some("disabled") => Ok(false),
        Some("auto") => Ok(true),
        Some(_) => Err(fields.error("truncation", "expected \"auto\" or \"disabled\"")),
    }
}

/// Without a word the model thinks as it does.
fn reasoning(fields: &Fields) -> Result<(Option<Think>, bool), ApiError> {
    let Some(reasoning) = fields.object("reasoning")? else { return Ok((None, false)) };
    let think = match reasoning.text("effort")? {
        None => None,
        Some("none") => Some(Think::Off),
        Some("minimal" | "low") => Some(Think::Low),
        Some("medium") => Some(Think::Medium),
        Some("high") => Some(Think::High),
        Some("xhigh" | "max") => Some(Think::Max),
        Some(_) => {
            let expected =
                "expected \"none\", \"minimal\", \"low\", \"medium\", \"high\" or \"xhigh\"";
            return Err(reasoning.error("effort", expected));
        }
    };
    let summary = match reasoning.text("summary")?.or(reasoning.text("generate_summary")?) {
        None | Some("none") => false,
        Some("auto" | "concise" | "detailed") => true,
        Some(_) => {
            let expected = "expected \"auto\", \"concise\" or \"detailed\"";
            return Err(reasoning.error("summary", expected));
        }
    };
    Ok((think, summary))
}

fn form(fields: &Fields) -> Result<Form, ApiError> {
    let format = fields.object("text")?.map(|text| text.object("format")).transpose()?.flatten();
    let Some(format) = format else { return Ok(Form::Free) };
    match format.kind("")? {
        "text" => Ok(Form::Free),
        "json_object" => Ok(Form::Json),
        "json_schema" => {
            format.object("schema")?;
            Ok(Form::Schema(format.need("schema", format.get("schema"))?.clone()))
        }
        _ => Err(format.error("type", "expected \"text\", \"json_object\" or \"json_schema\"")),
    }
}

fn logprobs(fields: &Fields) -> Result<Option<usize>, ApiError> {
    let top = fields.count("top_logprobs")?;
    if top.is_some_and(|n| n > MAX_TOP_LOGPROBS) {
        return Err(
            fields.error("top_logprobs", format!("at most {MAX_TOP_LOGPROBS} are possible"))
        );
    }
    let mut include = fields.list("include")?.unwrap_or_default().iter();
    let asked = include.any(|name| name == "message.output_text.logprobs");
    Ok(top.filter(|&n| n > 0).or(asked.then_some(0)))
}

/// The tools that are functions, as the request has them.
fn functions<'a>(fields: &Fields<'a>) -> Result<Vec<&'a Value>, ApiError> {
    let tools = fields.objects("tools")?;
    if tools.len() > MAX_TOOLS {
        return Err(fields.error("tools", format!("at most {MAX_TOOLS} tools are possible")));
    }
    let mut kept = Vec::new();
    for (tool, value) in tools.iter().zip(fields.list("tools")?.unwrap_or_default()) {
        match tool.need("type", tool.text("type")?)? {
            "function" => {
                tool.need("name", tool.text("name")?.filter(|name| !name.is_empty()))?;
                tool.text("description")?;
                tool.object("parameters")?;
                kept.push(value);
            }
            kind => tracing::debug!(kind, "a tool that is no function is left out"),
        }
    }
    Ok(kept)
}

/// The tools that the model is told of, and whether it is to call them.
fn choose(fields: &Fields, offered: &[&Value]) -> Result<(Option<Value>, ToolChoice), ApiError> {
    let there = |name: &str| offered.iter().any(|tool| tool["name"] == name);
    let all = || templates(offered.iter().copied());
    let Some(Value::Object(_)) = fields.get("tool_choice") else {
        return match fields.text("tool_choice")? {
            None | Some("auto") => Ok((all(), ToolChoice::Auto)),
            Some("none") => Ok((None, ToolChoice::None)),
            Some("required") if offered.is_empty() => {
                Err(fields.error("tool_choice", "there is no function to be called"))
            }
            Some("required") => Ok((all(), ToolChoice::Required)),
            Some(_) => {
                let expected = "expected \"auto\", \"none\", \"required\" or a function";
                Err(fields.error("tool_choice", expected))
            }
        };
    };
    let choice = fields.need("tool_choice", fields.object("tool_choice")?)?;
    let missing = |name: &str| choice.refuse(format!("there is no function \"{name}\""));
    match choice.kind("")? {
        "function" => {
            let name = choice.need("name", choice.text("name")?)?;
            match there(name) {
                true => Ok((all(), ToolChoice::Named(name.to_owned()))),
                false => Err(missing(name)),
            }
        }
        "allowed_tools" => {
            let mut names = Vec::new();
            for tool in choice.objects("tools")? {
                if tool.kind("")? == "function" {
                    let name = tool.need("name", tool.text("name")?)?;
                    names.push(there(name).then_some(name).ok_or_else(|| missing(name))?);
                }
            }
            let allowed = |tool: &&Value| names.iter().any(|name| tool["name"] == *name);
            let tools = templates(offered.iter().copied().filter(allowed));
            match choice.text("mode")? {
                None | Some("auto") => Ok((tools, ToolChoice::Auto)),
                Some("required") if tools.is_some() => Ok((tools, ToolChoice::Required)),
                Some("required") => Err(choice.refuse("there is no function to be called")),
                Some(_) => Err(choice.error("mode", "expected \"auto\" or \"required\"")),
            }
        }
        kind => {
            Err(choice
                .refuse(format!("tools of type \"{kind}\" are not there: only functions are")))
        }
    }
}

/// In the older form, which templates read.
fn templates<'a>(tools: impl Iterator<Item = &'a Value>) -> Option<Value> {
    let nested = tools.map(|tool| {
        let mut function = Map::new();
        for name in ["name", "description", "parameters"] {
            if let Some(value) = tool.get(name).filter(|value| !value.is_null()) {
                function.insert(name.to_owned(), value.clone());
            }
        }
        json!({"type": "function", "function": function})
    });
    let all: Vec<Value> = nested.collect();
    (!all.is_empty()).then(|| all.into())
}

/// What a response says of its request.
fn echo(fields: &Fields, offered: &[&Value]) -> Result<Map<String, Value>, ApiError> {
    let reasoning = fields.object("reasoning")?;
    let of = |name| reasoning.as_ref().and_then(|r| r.get(name)).cloned();
    let mut text = fields.get("text").cloned().unwrap_or_else(|| json!({}));
    if text.get("format").is_none_or(Value::is_null) {
        text["format"] = json!({"type": "text"});
    }
    fields.object("metadata")?;
    let or = |name: &str, usual: Value| fields.get(name).cloned().unwrap_or(usual);
    let echo = json!({
        "background": false,
        "instructions": or("instructions", Value::Null),
        "max_output_tokens": or("max_output_tokens", Value::Null),
        "max_tool_calls": or("max_tool_calls", Value::Null),
        "metadata": or("metadata", json!({})),
        "parallel_tool_calls": or("parallel_tool_calls", true.into()),
        "previous_response_id": or("previous_response_id", Value::Null),
        "prompt_cache_key": or("prompt_cache_key", Value::Null),
        "reasoning": {"effort": of("effort"), "summary": of("summary")},
        "safety_identifier": or("safety_identifier", Value::Null),
        "service_tier": "default",
        "store": or("store", true.into()),
        "text": text,
        "tool_choice": or("tool_choice", "auto".into()),
        "tools": offered,
        "top_logprobs": or("top_logprobs", 0.into()),
        "truncation": if truncates(fields)? { "auto" } else { "disabled" },
        "user": or("user", Value::Null),
    });
    match echo {
        Value::Object(map) => Ok(map),
        _ => Ok(Map::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(extra: Value) -> Result<Request, ApiError> {
        let mut body = json!({"model": "m", "input": "x"});
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        Request::read(body.as_object().unwrap())
    }

    #[test]
    fn what_codex_sends_is_read() {
        let function = json!({"type": "function", "name": "shell", "strict": false, "parameters": {"type": "object"}});
        let request = read(json!({
            "input": [{"type": "message", "id": "msg_1", "role": "developer", "content": [{"type": "input_text", "text": "s"}]}],
            "tools": [function, {"type": "namespace", "name": "n", "tools": [function]},
                {"type": "web_search", "external_web_access": false}, {"type": "custom", "name": "patch"}],
            "tool_choice": "auto", "parallel_tool_calls": true, "reasoning": {"summary": "auto"}, "store": false,
            "stream": true, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "k", "client_metadata": {"a": "b"},
        }))
        .unwrap();
        assert!(request.stream && !request.store && request.summary && request.parallel);
        assert_eq!((request.think, request.logprobs), (None, None));
        let tools = json!([{"type": "function", "function": {"name": "shell", "parameters": {"type": "object"}}}]);
        assert_eq!(request.tools, Some(tools));
        assert_eq!(request.echo["tools"], json!([function]));
        assert_eq!(request.echo["text"], json!({"format": {"type": "text"}}));
    }

    #[test]
    fn choices_among_tools() {
        let f = |name: &str| json!({"type": "function", "name": name, "parameters": {}});
        let of = |choice: Value| {
            let request = read(
                json!({"tools": [f("a"), f("b"), {"type": "web_search"}], "tool_choice": choice}),
            );
            request.map(|r| (r.choice, r.tools.map_or(0, |t| t.as_array().unwrap().len())))
        };
        assert_eq!(of(Value::Null).unwrap(), (ToolChoice::Auto, 2));
        assert_eq!(of(json!("none")).unwrap(), (ToolChoice::None, 0));
        assert_eq!(of(json!("required")).unwrap(), (ToolChoice::Required, 2));
        let named = of(json!({"type": "function", "name": "b"})).unwrap();
        assert_eq!(named, (ToolChoice::Named("b".into()), 2));
        let allowed = json!({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "a"}]});
        assert_eq!(of(allowed).unwrap(), (ToolChoice::Required, 1));
        assert!(of(json!({"type": "function", "name": "c"})).is_err());
        assert!(of(json!({"type": "web_search"})).is_err());
        assert!(of(json!("some")).is_err());
        assert!(of(json!(7)).is_err());
        assert!(
            read(json!({"tool_choice": "required", "tools": [{"type": "web_search"}]})).is_err()
        );
    }

    #[test]
    fn settings_are_read() {
        let request = read(json!({"truncation": "auto", "top_logprobs": 3, "reasoning": {"effort": "none"},
            "text": {"format": {"type": "json_schema", "name": "x", "strict": true, "schema": {"type": "object"}}},
            "previous_response_id": "resp_1", "max_output_tokens": 7}))
        .unwrap();
        assert!(request.extras.truncate);
        assert_eq!((request.logprobs, request.think), (Some(3), Some(Think::Off)));
        assert_eq!(request.form, Form::Schema(json!({"type": "object"})));
        assert_eq!(request.previous.as_deref(), Some("resp_1"));
        assert_eq!(request.echo["truncation"], "auto");
        let logprobs = read(json!({"include": ["message.output_text.logprobs"]})).unwrap().logprobs;
        assert_eq!(logprobs, Some(0));
    }

    #[test]
    fn what_is_wrong_is_told_by_its_place() {
        for (extra, place) in [
            (json!({"model": null}), "model"),
            (json!({"input": null}), "input"),
            (json!({"background": true}), "background"),
            (json!({"conversation": "conv_1"}), "conversation"),
            (json!({"prompt": {"id": "pmpt_1"}}), "prompt"),
            (json!({"max_output_tokens": 0}), "max_output_tokens"),
            (json!({"max_output_tokens": -1}), "max_output_tokens"),
            (json!({"temperature": 2.5}), "temperature"),
            (json!({"temperature": 1e308}), "temperature"),
            (json!({"top_p": "x"}), "top_p"),
            (json!({"top_logprobs": 21}), "top_logprobs"),
            (json!({"truncation": "some"}), "truncation"),
            (json!({"metadata": "x"}), "metadata"),
            (json!({"reasoning": {"effort": "huge"}}), "reasoning.effort"),
            (json!({"reasoning": {"summary": "long"}}), "reasoning.summary"),
            (json!({"text": {"format": {"type": "xml"}}}), "text.format.type"),
            (json!({"text": {"format": {"type": "json_schema"}}}), "text.format.schema"),
            (json!({"text": "x"}), "text"),
            (json!({"tools": [{"type": "function"}]}), "tools.0.name"),
            (json!({"tools": [{"name": "f"}]}), "tools.0.type"),
            (json!({"tools": {}}), "tools"),
        ] {
            let error = read(extra).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(place), "{error}");
        }
    }
}
