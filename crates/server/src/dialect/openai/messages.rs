//! A conversation in OpenAI's form, checked and turned into what templates know: text of every role, calls and their results. A developer is
//! the system. Images, sounds and files are refused, since the models here read text.

use std::collections::HashMap;

use hob_text::Message;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{out_of_range, unsupported};
use crate::error::ApiError;

/// A message of a request.
#[derive(Debug, Deserialize)]
pub struct Said {
    role: String,
    content: Option<Value>,
    name: Option<String>,
    tool_calls: Option<Vec<Value>>,
    tool_call_id: Option<String>,
    function_call: Option<Value>,
    #[serde(alias = "reasoning")]
    reasoning_content: Option<String>,
    refusal: Option<String>,
}

/// The conversation.
///
/// # Errors
/// For an empty one, and for what no model here reads, with the message's path.
pub fn conversation(said: Vec<Said>) -> Result<Vec<Message>, ApiError> {
    if said.is_empty() {
        let message = "Invalid 'messages': empty array. Expected an array with minimum length 1.";
        return Err(ApiError::field("messages", message).with_code("empty_array"));
    }
    // The functions that calls were of: results carry the call's identifier, and templates want the name.
    let mut functions = HashMap::new();
    let message =
        |(i, said): (usize, Said)| said.message(&format!("messages[{i}]"), &mut functions);
    said.into_iter().enumerate().map(message).collect()
}

impl Said {
    fn message(
        self,
        path: &str,
        functions: &mut HashMap<String, String>,
    ) -> Result<Message, ApiError> {
        let role = match self.role.as_str() {
            "developer" => "system",
            "function" => "tool",
            role @ ("system" | "user" | "assistant" | "tool") => role,
            other => {
                let expected = "'system', 'developer', 'user', 'assistant' or 'tool'";
                return Err(out_of_range(&format!("{path}.role"), expected, format!("'{other}'")));
            }
        };
        let text = self.content.map(|c| text(c, &format!("{path}.content"))).transpose()?;
        let mut calls = Vec::new();
        for (i, call) in self.tool_calls.into_iter().flatten().enumerate() {
            calls.push(checked_call(call, &format!("{path}.tool_calls[{i}]"), functions)?);
        }
        if let Some(function) = self.function_call {
            let call = json!({"type": "function", "function": function});
            calls.push(checked_call(call, &format!("{path}.function_call"), functions)?);
        }
        if text.is_none() && matches!(role, "system" | "user") {
            let path = format!("{path}.content");
            let message = format!("Invalid value for '{path}': expected a string, got null.");
            return Err(ApiError::field(path, message).with_code("invalid_type"));
        }
        let called = self.tool_call_id.as_ref().and_then(|id| functions.get(id).cloned());
        Ok(Message {
            role: role.to_owned(),
            content: text.or(self.refusal).unwrap_or_default(),
            thinking: self.reasoning_content.filter(|text| !text.is_empty()),
            tool_calls: (!calls.is_empty()).then(|| calls.into()),
            tool_call_id: self.tool_call_id,
            name: self.name.or(called),
        })
    }
}

/// A call of an assistant's message.
fn checked_call(
    mut call: Value,
    path: &str,
    functions: &mut HashMap<String, String>,
) -> Result<Value, ApiError> {
    let name = call.pointer("/function/name").and_then(Value::as_str).map(str::to_owned);
    let Some(name) = name else {
        let path = format!("{path}.function.name");
        let message = format!("Invalid value for '{path}': expected the name of a function.");
        return Err(ApiError::field(path, message).with_code("invalid_type"));
    };
    if let Some(id) = call.get("id").and_then(Value::as_str) {
        functions.insert(id.to_owned(), name);
    }
    if let Some(map) = call.as_object_mut() {
        map.entry("type").or_insert("function".into());
    }
    let Some(function) = call.get_mut("function").and_then(Value::as_object_mut) else {
        return Ok(call);
    };
    let arguments = function.entry("arguments").or_insert("{}".into());
    match arguments {
        Value::String(text) if text.trim().is_empty() => *text = "{}".to_owned(),
        Value::String(_) | Value::Object(_) => {}
        other => {
            let path = format!("{path}.function.arguments");
            return Err(out_of_range(&path, "a string of JSON", other.clone()));
        }
    }
    Ok(call)
}

/// A content: a text, or a list of parts, which become lines.
fn text(content: Value, path: &str) -> Result<String, ApiError> {
    let parts = match content {
        Value::String(text) => return Ok(text),
        Value::Array(parts) => parts,
        other => return Err(out_of_range(path, "a string or a list of parts", other)),
    };
    let texts = parts.into_iter().enumerate().map(|(i, part)| {
        let path = format!("{path}[{i}]");
        let kind = part.get("type").and_then(Value::as_str).unwrap_or("text");
        let field = match kind {
            "text" | "input_text" | "output_text" => "text",
            "refusal" => "refusal",
            other => {
                let message =
                    format!("'{path}' is of type '{other}', but the model reads text only");
                return Err(unsupported(&path, message));
            }
        };
        let text = part.get(field).and_then(Value::as_str).map(str::to_owned);
        let path = format!("{path}.{field}");
        text.ok_or_else(|| out_of_range(&path, "a string", part.get(field).unwrap_or(&Value::Null)))
    });
    Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(messages: Value) -> Result<Vec<Message>, ApiError> {
        #[derive(Deserialize)]
        struct Body {
            messages: Vec<Said>,
        }
        let body = json!({"messages": messages});
        conversation(super::super::part::<Body>(&body)?.messages)
    }

    #[test]
    fn roles_parts_and_calls() {
        let messages = read(json!([
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "18"},
            {"role": "assistant", "function_call": {"name": "g", "arguments": "{}"}},
            {"role": "function", "name": "g", "content": "19"},
        ]))
        .unwrap();
        let roles: Vec<&str> = messages.iter().map(|m| m.role.as_str()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool", "assistant", "tool"]);
        assert_eq!(messages[1].content, "a\nb");
        assert_eq!(messages[2].thinking.as_deref(), Some("hm"));
        let calls = messages[2].tool_calls.as_ref().unwrap();
        assert_eq!(calls[0]["function"]["arguments"], "{}");
        // The result knows the function that it is of.
        assert_eq!(messages[3].name.as_deref(), Some("f"));
        assert_eq!(messages[4].tool_calls.as_ref().unwrap()[0]["function"]["name"], "g");
    }

    #[test]
    fn what_cannot_be_read_is_told_by_its_place() {
        for (messages, param) in [
            (json!([]), "messages"),
            (json!("hi"), "messages"),
            (json!([{"content": "x"}]), "messages[0]"),
            (json!([{"role": "king", "content": "x"}]), "messages[0].role"),
            (json!([{"role": 1, "content": "x"}]), "messages[0].role"),
            (json!([{"role": "user"}]), "messages[0].content"),
            (json!([{"role": "user", "content": 5}]), "messages[0].content"),
            (
                json!([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
                "messages[0].content[0]",
            ),
            (
                json!([{"role": "user", "content": [{"type": "input_audio"}]}]),
                "messages[0].content[0]",
            ),
            (
                json!([{"role": "user", "content": [{"type": "text"}]}]),
                "messages[0].content[0].text",
            ),
            (
                json!([{"role": "assistant", "tool_calls": [{}]}]),
                "messages[0].tool_calls[0].function.name",
            ),
            (
                json!([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 5}}]}]),
                "messages[0].tool_calls[0].function.arguments",
            ),
        ] {
            let error = read(messages.clone()).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{messages}: {error}");
        }
    }
}
