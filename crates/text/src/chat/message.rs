//! One message of a conversation, and how templates want to see it.
//! Its JSON is OpenAI's, with `thinking` beside the content. Absent: images and sounds.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::python::{Json, write_json};

/// A message of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, or what else the template knows.
    pub role: String,
    /// The text.
    #[serde(default)]
    pub content: String,
    /// What the model thought before it answered.
    #[serde(default, alias = "reasoning_content", skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
    /// Calls in an assistant's message: a list in OpenAI's form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Value>,
    /// In a tool's message, the call that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// In a tool's message, the tool.
    #[serde(default, alias = "tool_name", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Message {
    /// A message of plain text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), ..Self::default() }
    }

    /// The variables of a template; `typed` writes the content as a list of parts, `strings` a call's arguments as text.
    pub(super) fn for_template(&self, typed: bool, strings: bool) -> Value {
        let mut map = Map::new();
        let mut set = |key: &str, value: Value| map.insert(key.to_owned(), value);
        set("role", self.role.clone().into());
        let content = self.content.clone();
        set(
            "content",
            if typed { json!([{"type": "text", "text": content}]) } else { content.into() },
        );
        if let Some(thinking) = &self.thinking {
            // Templates disagree about the name.
            set("reasoning_content", thinking.clone().into());
            set("thinking", thinking.clone().into());
        }
        if let Some(calls) = &self.tool_calls {
            set("tool_calls", converted_arguments(calls, strings));
        }
        if let Some(id) = &self.tool_call_id {
            set("tool_call_id", id.clone().into());
        }
        if let Some(name) = &self.name {
            set("name", name.clone().into());
        }
        map.into()
    }
}

/// OpenAI sends a call's arguments as a string of JSON; nearly all templates want the object, some the string.
fn converted_arguments(calls: &Value, strings: bool) -> Value {
    let mut calls = calls.clone();
    for call in calls.as_array_mut().into_iter().flatten() {
        let function =
            if call.get("function").is_some() { call.get_mut("function") } else { Some(call) };
        let Some(arguments) = function.and_then(|f| f.get_mut("arguments")) else { continue };
        if strings {
            if arguments.is_object() {
                *arguments = python_json(arguments).into();
            }
            continue;
        }
        let parsed = arguments.as_str().and_then(|text| serde_json::from_str(text).ok());
        if let Some(object @ Value::Object(_)) = parsed {
            *arguments = object;
        }
    }
    calls
}

/// As Python's `json.dumps` writes it.
fn python_json(value: &Value) -> String {
    let mut out = String::new();
    let written = write_json(
        &minijinja::Value::from(minijinja::value::Serde(value)),
        &Json::default(),
        0,
        &mut out,
    );
    written.map_or_else(|_| value.to_string(), |()| out)
}
