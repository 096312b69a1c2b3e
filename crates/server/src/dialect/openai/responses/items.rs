//! Items of input as the neutral messages of templates. What the assistant thought, said and called in one turn are several items here and one
//! message there. What a text model cannot see is refused, except in the output of a tool, where a note takes its place.

use std::collections::HashMap;

use hob_text::Message;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::http::fields::Fields;
use crate::ids;

/// The items of a request's `input`, each with an identifier. A text is one item.
///
/// # Errors
/// When there are none, or one is no object.
pub fn given(request: &Fields) -> Result<Vec<Value>, ApiError> {
    let mut items = match request.need("input", request.get("input"))? {
        Value::String(text) => {
            let content = json!([{"type": "input_text", "text": text}]);
            vec![json!({"type": "message", "role": "user", "content": content})]
        }
        _ => {
            request.objects("input")?;
            request.list("input")?.unwrap_or_default().to_vec()
        }
    };
    if items.is_empty() {
        return Err(request.error("input", "at least one item is required"));
    }
    for item in items.iter_mut().filter_map(Value::as_object_mut) {
        item.entry("type").or_insert("message".into());
        if !item.get("id").is_some_and(Value::is_string) {
            item.insert("id".to_owned(), ids::random("item_", 24).into());
        }
    }
    Ok(items)
}

/// The messages that items stand for. `place` names an item in errors.
///
/// # Errors
/// For items that cannot be read.
pub fn messages<'a>(
    items: impl Iterator<Item = &'a Value>,
    place: impl Fn(usize) -> String,
) -> Result<Vec<Message>, ApiError> {
    let mut reader = Reader::default();
    for (i, item) in items.enumerate() {
        reader.item(&Fields::of(item, place(i))?)?;
    }
    reader.end_turn();
    Ok(reader.messages)
}

#[derive(Default)]
struct Reader<'a> {
    messages: Vec<Message>,
    /// What the assistant thought and called in the turn that is being read, and what it said, if it has.
    thinking: String,
    said: Option<String>,
    calls: Vec<Value>,
    /// Names of the functions by the identifiers of their calls.
    names: HashMap<&'a str, &'a str>,
}

impl<'a> Reader<'a> {
    fn item(&mut self, item: &Fields<'a>) -> Result<(), ApiError> {
        match item.kind("message")? {
            "message" => self.message(item),
            "reasoning" => self.reasoning(item),
            "function_call" => {
                let arguments = item.need("arguments", item.text("arguments")?)?;
                let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
                self.call(item, arguments.into())
            }
            // A call whose argument is a text.
            "custom_tool_call" => {
                let input = item.need("input", item.text("input")?)?;
                self.call(item, json!({"input": input}))
            }
            "function_call_output" | "custom_tool_call_output" => self.output(item),
            // Says only that there was one.
            "web_search_call" => Ok(()),
            other => Err(item.refuse(format!("items of type \"{other}\" are not supported here"))),
        }
    }

    fn message(&mut self, item: &Fields<'a>) -> Result<(), ApiError> {
        let role = match item.need("role", item.text("role")?)? {
            "developer" => "system",
            role @ ("user" | "assistant" | "system") => role,
            _ => {
                let expected = "expected \"user\", \"assistant\", \"system\" or \"developer\"";
                return Err(item.error("role", expected));
            }
        };
        item.need("content", item.get("content"))?;
        if role == "assistant" {
            let text = text(item, "content", "", |part| Err(unseen(part)))?;
            if self.said.is_some() || !self.calls.is_empty() {
                self.end_turn();
            }
            self.said = Some(text);
            return Ok(());
        }
        let text = text(item, "content", "\n\n", |part| Err(unseen(part)))?;
        self.end_turn();
        self.messages.push(Message::new(role, text));
        Ok(())
    }

    fn reasoning(&mut self, item: &Fields<'a>) -> Result<(), ApiError> {
        if self.said.is_some() || !self.calls.is_empty() {
            self.end_turn();
        }
        let (content, summary) = (item.objects("content")?, item.objects("summary")?);
        let parts = if content.is_empty() { summary } else { content };
        for part in &parts {
            self.thinking.push_str(part.text("text")?.unwrap_or_default());
        }
        Ok(())
    }

    fn call(&mut self, item: &Fields<'a>, arguments: Value) -> Result<(), ApiError> {
        let id = item.need("call_id", item.text("call_id")?)?;
        let name = item.need("name", item.text("name")?)?;
        self.names.insert(id, name);
        let function = json!({"name": name, "arguments": arguments});
        self.calls.push(json!({"id": id, "type": "function", "function": function}));
        Ok(())
    }

    fn output(&mut self, item: &Fields<'a>) -> Result<(), ApiError> {
        self.end_turn();
        let id = item.need("call_id", item.text("call_id")?)?;
        item.need("output", item.get("output"))?;
        let note = |part: &Fields| match part.kind("")? {
            "input_image" => Ok("[an image, which this model cannot see]".to_owned()),
            _ => Err(unseen(part)),
        };
        self.messages.push(Message {
            tool_call_id: Some(id.to_owned()),
            name: self.names.get(id).map(|&name| name.to_owned()),
            ..Message::new("tool", text(item, "output", "\n\n", note)?)
        });
        Ok(())
    }

    /// Puts together what the assistant did.
    fn end_turn(&mut self) {
        let (said, calls) = (self.said.take(), std::mem::take(&mut self.calls));
        let thinking = std::mem::take(&mut self.thinking);
        if said.is_none() && calls.is_empty() {
            // Thoughts without an answer are of no use to a template.
            return;
        }
        self.messages.push(Message {
            thinking: Some(thinking).filter(|t| !t.is_empty()),
            tool_calls: (!calls.is_empty()).then(|| calls.into()),
            ..Message::new("assistant", said.unwrap_or_default())
        });
    }
}

/// A text, or parts of text; `other` says what becomes of parts that are none.
fn text(
    item: &Fields,
    name: &str,
    gap: &str,
    other: impl Fn(&Fields) -> Result<String, ApiError>,
) -> Result<String, ApiError> {
    if let Some(Value::String(text)) = item.get(name) {
        return Ok(text.clone());
    }
    let parts = item.objects(name)?;
    let texts = parts.iter().map(|part| match part.kind("")? {
        "input_text" | "output_text" | "text" => {
            Ok(part.need("text", part.text("text")?)?.to_owned())
        }
        "refusal" => Ok(part.need("refusal", part.text("refusal")?)?.to_owned()),
        _ => other(part),
    });
    Ok(texts.collect::<Result<Vec<_>, ApiError>>()?.join(gap))
}

fn unseen(part: &Fields) -> ApiError {
    match part.kind("") {
        Ok("") => part.error("type", "field required"),
        Ok(kind) => {
            let what =
                format!("parts of type \"{kind}\" are not supported: the model reads text only");
            part.refuse(what)
        }
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(items: &Value) -> Result<Vec<Message>, ApiError> {
        messages(items.as_array().unwrap().iter(), |i| format!("input.{i}"))
    }

    #[test]
    fn a_turn_of_the_assistant_is_one_message() {
        let all = read(&json!([
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "s"}]},
            {"role": "user", "content": "a"},
            {"role": "user", "content": [{"type": "input_text", "text": "b"}, {"type": "input_text", "text": "c"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": null},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "d"}]},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{\"x\":1}"},
            {"type": "function_call", "call_id": "c2", "name": "g", "arguments": ""},
            {"type": "function_call_output", "call_id": "c1", "output": "18"},
            {"type": "function_call_output", "call_id": "c2", "output": [
                {"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": "data:"}]},
            {"type": "custom_tool_call", "call_id": "c3", "name": "patch", "input": "+"},
            {"type": "custom_tool_call_output", "call_id": "c3", "output": "done"},
            {"type": "message", "role": "assistant", "content": "e"},
            {"type": "message", "role": "assistant", "content": "f"},
        ]))
        .unwrap();
        let roles: Vec<&str> = all.iter().map(|m| m.role.as_str()).collect();
        let expected =
            "system user user assistant tool tool assistant tool assistant assistant".split(' ');
        assert_eq!(roles, expected.collect::<Vec<_>>());
        assert_eq!(all[2].content, "b\n\nc");
        assert_eq!((all[3].content.as_str(), all[3].thinking.as_deref()), ("d", Some("hm")));
        let calls = all[3].tool_calls.as_ref().unwrap();
        assert_eq!(calls[0]["function"], json!({"name": "f", "arguments": "{\"x\":1}"}));
        assert_eq!(calls[1]["function"]["arguments"], "{}");
        assert_eq!((all[4].content.as_str(), all[4].name.as_deref()), ("18", Some("f")));
        assert_eq!(all[5].content, "x\n\n[an image, which this model cannot see]");
        assert_eq!(all[6].tool_calls.as_ref().unwrap()[0]["function"]["arguments"]["input"], "+");
        assert_eq!(all[9].content, "f");
    }

    #[test]
    fn what_cannot_be_read_is_told_by_its_place() {
        for (items, place) in [
            (json!([5]), "input.0"),
            (json!([{"content": "x"}]), "input.0.role"),
            (json!([{"role": "tool", "content": "x"}]), "input.0.role"),
            (json!([{"role": "user"}]), "input.0.content"),
            (json!([{"role": "user", "content": [{"type": "input_image"}]}]), "input.0.content.0"),
            (json!([{"role": "user", "content": [{"text": "x"}]}]), "input.0.content.0.type"),
            (json!([{"type": "mcp_call"}]), "input.0"),
            (json!([{"type": "function_call", "name": "f", "arguments": "{}"}]), "input.0.call_id"),
            (json!([{"type": "function_call", "name": "f", "call_id": "x"}]), "input.0.arguments"),
            (json!([{"type": "function_call_output", "output": "x"}]), "input.0.call_id"),
            (json!([{"type": "function_call_output", "call_id": "x"}]), "input.0.output"),
        ] {
            let error = read(&items).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(place), "{error}");
        }
    }

    #[test]
    fn items_get_identifiers() {
        let of = |value: Value| given(&Fields::top(value.as_object().unwrap()));
        let items = of(json!({"input": "hello"})).unwrap();
        assert_eq!(items[0]["content"][0]["text"], "hello");
        assert!(items[0]["id"].as_str().unwrap().starts_with("item_"));
        let items = of(json!({"input": [{"role": "user", "content": "x", "id": "mine"}]})).unwrap();
        assert_eq!((&items[0]["id"], &items[0]["type"]), (&json!("mine"), &json!("message")));
        assert!(of(json!({"input": []})).is_err());
        assert!(of(json!({"input": [1]})).is_err());
        assert!(of(json!({"input": 1})).is_err());
        assert!(of(json!({})).is_err());
    }
}
