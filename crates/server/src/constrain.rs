//! What an answer must be, as a constraint for the engine: a form that the request gives, or calls of tools that it demands. Where a model's
//! own way to write calls is no grammar, it has to write one as a JSON object, which is then read as a call. Thinking is always free.

use hob_engine::grammar::{Constraint, GrammarError, Grammars, Rule};
use hob_text::{CallChoice, ChatEvent, ChatFormat, Template};
use serde_json::{Map, Value, json};

use crate::answer::Form;
use crate::error::{ApiError, RETRY};
use crate::loaded::Loaded;
use crate::prompt::{Conversation, Input, Prompt, Think, ToolChoice};

/// A constraint, and how the answer is then to be read.
pub(crate) struct Bound {
    pub(crate) constraint: Constraint,
    /// The content is a call as a JSON object.
    pub(crate) call: bool,
}

impl Loaded {
    /// What its vocabulary needs for constraints; made once.
    ///
    /// # Errors
    /// When the vocabulary has none.
    fn grammars(&self) -> Result<Grammars, ApiError> {
        let made = self.grammars.get_or_init(|| Grammars::new(&self.tokenizer));
        made.clone().map_err(|e| ApiError::internal(e.to_string()))
    }

    /// The constraint for an answer, if there is one. Compiles: not for a thread that others wait for.
    ///
    /// # Errors
    /// When the form cannot be followed, or a tool is demanded that is not there.
    pub(crate) fn bound(
        &self,
        form: &Form,
        input: &Input,
        prompt: &Prompt,
    ) -> Result<Option<Bound>, ApiError> {
        let chat = match input {
            Input::Chat(chat) => Some(chat.as_ref()),
            _ => None,
        };
        let (rule, call) = match form {
            Form::Free => match chat.map(|chat| self.calls(chat)).transpose()?.flatten() {
                None => return Ok(None),
                Some(calls) => calls,
            },
            Form::Json => (Rule::Json, false),
            Form::Schema(schema) => (Rule::Schema(schema.clone()), false),
            Form::Regex(regex) => (Rule::Regex(regex.clone()), false),
            Form::Grammar(lark) => (Rule::Lark(lark.clone()), false),
        };
        let constraint = self.grammars()?.compile(&rule).map_err(refused)?;
        // Native calls have their own header.
        let plain = call || *form != Form::Free;
        let opening = match chat.filter(|_| plain) {
            Some(_) => self.opening(prompt)?,
            None => "",
        };
        let constraint = match opening {
            "" => constraint,
            opening => constraint.opened_by(opening),
        };
        let constraint = match chat.and_then(|chat| self.thinking(chat, prompt)) {
            Some((open, close, opened)) => constraint.behind_thinking(open, close, opened),
            None => constraint,
        };
        Ok(Some(Bound { constraint, call }))
    }

    /// The rule for the calls that are demanded, and whether they are JSON objects.
    fn calls(&self, chat: &Conversation) -> Result<Option<(Rule, bool)>, ApiError> {
        let choice = match &chat.choice {
            ToolChoice::Auto | ToolChoice::None => return Ok(None),
            ToolChoice::Required => CallChoice::Required,
            ToolChoice::Named(name) => CallChoice::Named(name.clone()),
        };
        let tools = chat.tools.clone().unwrap_or_default();
        let schema = schema_of_calls(&tools, &choice).ok_or_else(|| match &choice {
            CallChoice::Named(name) => {
                ApiError::field("tool_choice", format!("there is no tool called '{name}'"))
            }
            CallChoice::Required => {
                ApiError::field("tool_choice", "a tool is demanded, but there are none")
            }
        })?;
        let format = self.template.as_ref().map(Template::format);
        let native = |format: ChatFormat| format.call_grammar(&tools, choice, chat.parallel);
        // A request's own template may write calls in another way than the model's.
        let native = format.filter(|_| chat.template.is_none()).and_then(native);
        Ok(Some(match native {
            Some(lark) if self.capabilities().tools => (Rule::Lark(lark), false),
            _ => (Rule::Schema(schema), true),
        }))
    }

    /// What the answer itself begins with, if the prompt has not begun it.
    ///
    /// # Errors
    /// When that is not known for the model's format.
    fn opening(&self, prompt: &Prompt) -> Result<&'static str, ApiError> {
        let Some(template) = &self.template else { return Ok("") };
        let opening = template.format().answer_opening().ok_or_else(|| {
            let message = "answers of this model are messages with headers, for which no format can be demanded";
            ApiError::field("format", message)
        })?;
        let begun = prompt.text.as_deref().is_some_and(|text| text.ends_with(opening));
        Ok(if begun { "" } else { opening })
    }

    /// What opens and closes the thinking of an answer, and whether the prompt has opened it.
    fn thinking(
        &self,
        chat: &Conversation,
        prompt: &Prompt,
    ) -> Option<(&'static str, &'static str, bool)> {
        let (open, close) = self.template.as_ref()?.format().thinking_marks()?;
        let text = prompt.text.as_deref().unwrap_or("").trim_end();
        let opened = text.ends_with(open.trim());
        let closed = text.ends_with(close.trim()) || chat.think == Some(Think::Off);
        (opened || !closed).then_some((open, close, opened))
    }
}

/// A rule that is not followed, as the caller's doing or the server's load.
fn refused(error: GrammarError) -> ApiError {
    match error {
        GrammarError::Busy => ApiError::busy(error.to_string(), RETRY),
        error => ApiError::field("format", error.to_string()),
    }
}

/// JSON Schema of one call as an object with `name` and `arguments`; `None` where there is nothing to call.
fn schema_of_calls(tools: &Value, choice: &CallChoice) -> Option<Value> {
    let functions = tools.as_array()?.iter().map(|tool| tool.get("function").unwrap_or(tool));
    let (mut calls, mut definitions) = (Vec::new(), Map::new());
    for function in functions {
        let name = function.get("name")?.as_str()?;
        if matches!(choice, CallChoice::Named(only) if only != name) {
            continue;
        }
        let mut arguments = function.get("parameters").cloned().unwrap_or(json!({}));
        if !arguments.is_object() || arguments == json!({}) {
            arguments = json!({"type": "object"});
        }
        // References of a tool's schema point to its own root, which is the call's now.
        for key in ["$defs", "definitions"] {
            if let Some(Value::Object(own)) = arguments.as_object_mut().and_then(|a| a.remove(key))
            {
                let all = definitions.entry(key).or_insert_with(|| json!({}));
                all.as_object_mut().into_iter().for_each(|all| all.extend(own.clone()));
            }
        }
        calls.push(json!({
            "type": "object",
            "properties": {"name": {"const": name}, "arguments": arguments},
            "required": ["name", "arguments"],
            "additionalProperties": false,
        }));
    }
    let mut schema = match calls.len() {
        0 => return None,
        1 => calls.pop()?,
        _ => json!({"anyOf": calls}),
    };
    schema.as_object_mut()?.extend(definitions);
    Some(schema)
}

/// The events of a call that was written as a JSON object, or the text as content if it is none.
pub(crate) fn read_call(text: &str) -> Vec<ChatEvent> {
    let call: Option<Value> = serde_json::from_str(text).ok();
    let name = call.as_ref().and_then(|c| c.get("name")).and_then(Value::as_str);
    match (name, call.as_ref().and_then(|c| c.get("arguments"))) {
        (Some(name), Some(arguments)) => vec![
            ChatEvent::ToolCallStart { index: 0, id: None, name: name.to_owned() },
            ChatEvent::ToolCallArguments { index: 0, text: arguments.to_string() },
            ChatEvent::ToolCallEnd { index: 0 },
        ],
        _ if text.is_empty() => Vec::new(),
        _ => vec![ChatEvent::Content(text.to_owned())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_a_schema() {
        let tools = json!([
            {"type": "function", "function": {"name": "a", "parameters": {
                "type": "object", "properties": {"x": {"$ref": "#/$defs/X"}}, "$defs": {"X": {"type": "integer"}}}}},
            {"type": "function", "function": {"name": "b"}},
        ]);
        let any = schema_of_calls(&tools, &CallChoice::Required).unwrap();
        assert_eq!(any["anyOf"].as_array().unwrap().len(), 2);
        assert_eq!(any["$defs"]["X"]["type"], "integer");
        let one = schema_of_calls(&tools, &CallChoice::Named("b".into())).unwrap();
        assert_eq!(one["properties"]["name"]["const"], "b");
        assert_eq!(one["properties"]["arguments"]["type"], "object");
        assert!(schema_of_calls(&tools, &CallChoice::Named("c".into())).is_none());
        assert!(schema_of_calls(&json!([]), &CallChoice::Required).is_none());
    }

    #[test]
    fn a_call_as_json_is_a_call() {
        let events = read_call(r#"{"name": "a", "arguments": {"x": 1}}"#);
        assert!(
            matches!(&events[..], [ChatEvent::ToolCallStart { name, .. }, ChatEvent::ToolCallArguments { text, .. }, _]
            if name == "a" && text == r#"{"x":1}"#)
        );
        assert_eq!(read_call("{\"name"), [ChatEvent::Content("{\"name".into())]);
        assert_eq!(read_call(""), []);
    }
}
