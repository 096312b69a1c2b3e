//! Messages of blocks, as the neutral messages of templates: text and inlined text documents, thoughts, calls and their results. What a text
//! model cannot see is refused, except in the result of a tool, where a note takes its place: a conversation goes on behind it.

use std::collections::HashMap;

use hob_text::Message;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::http::fields::Fields;

/// Between texts that stood in blocks of their own.
const GAP: &str = "\n\n";
/// Begins a block of Claude Code's system prompt that concerns Anthropic's accounting alone and differs from run to run.
const BILLING: &str = "x-anthropic-billing-header:";

/// The system prompt: a text, or blocks of text.
///
/// # Errors
/// When it is something else.
pub fn system(request: &Fields) -> Result<Option<Message>, ApiError> {
    let text = match request.get("system") {
        None => return Ok(None),
        Some(Value::String(text)) => text.clone(),
        Some(_) => {
            let blocks = request.objects("system")?;
            let texts = blocks.iter().map(text_of).collect::<Result<Vec<_>, _>>()?;
            let kept: Vec<&str> = texts.into_iter().filter(|t| !t.starts_with(BILLING)).collect();
            kept.join(GAP)
        }
    };
    Ok((!text.is_empty()).then(|| Message::new("system", text)))
}

/// All messages. Several can come of one: the results of tools are messages of their own.
///
/// # Errors
/// When one has no role, or a content that cannot be read.
pub fn messages(request: &Fields) -> Result<Vec<Message>, ApiError> {
    request.need("messages", request.get("messages"))?;
    let said = request.objects("messages")?;
    if said.is_empty() {
        return Err(request.error("messages", "at least one message is required"));
    }
    let mut reader = Reader::default();
    for message in &said {
        reader.message(message)?;
    }
    Ok(reader.messages)
}

#[derive(Default)]
struct Reader<'a> {
    messages: Vec<Message>,
    /// Names of the functions by the identifiers of their calls.
    names: HashMap<&'a str, &'a str>,
}

impl<'a> Reader<'a> {
    fn message(&mut self, message: &Fields<'a>) -> Result<(), ApiError> {
        let role = message.need("role", message.text("role")?)?;
        let content = message.need("content", message.get("content"))?;
        if !["user", "assistant", "system"].contains(&role) {
            return Err(message.error("role", "expected \"user\", \"assistant\" or \"system\""));
        }
        if let Value::String(text) = content {
            self.messages.push(Message::new(role, text.as_str()));
            return Ok(());
        }
        let blocks = message.objects("content")?;
        match role {
            "assistant" => self.assistant(&blocks),
            _ => self.user(role, &blocks),
        }
    }

    fn user(&mut self, role: &str, blocks: &[Fields<'a>]) -> Result<(), ApiError> {
        let mut texts = Vec::new();
        for block in blocks {
            match block.kind("")? {
                "tool_result" => {
                    let result = self.result(block)?;
                    self.messages.push(result);
                }
                _ => texts.push(readable(block)?),
            }
        }
        if !texts.is_empty() || blocks.is_empty() {
            self.messages.push(Message::new(role, texts.join(GAP)));
        }
        Ok(())
    }

    fn assistant(&mut self, blocks: &[Fields<'a>]) -> Result<(), ApiError> {
        let (mut text, mut thinking, mut calls) = (String::new(), String::new(), Vec::new());
        for block in blocks {
            match block.kind("")? {
                "text" => text.push_str(text_of(block)?),
                "thinking" => {
                    thinking.push_str(block.need("thinking", block.text("thinking")?)?);
                }
                // What only Anthropic can read.
                "redacted_thinking" => {}
                "tool_use" => calls.push(self.call(block)?),
                other => return Err(unknown(block, other)),
            }
        }
        self.messages.push(Message {
            thinking: Some(thinking).filter(|t| !t.is_empty()),
            tool_calls: (!calls.is_empty()).then(|| calls.into()),
            ..Message::new("assistant", text)
        });
        Ok(())
    }

    fn call(&mut self, block: &Fields<'a>) -> Result<Value, ApiError> {
        let id = block.need("id", block.text("id")?)?;
        let name = block.need("name", block.text("name")?)?;
        self.names.insert(id, name);
        block.object("input")?;
        let input = block.get("input").cloned().unwrap_or_else(|| json!({}));
        Ok(json!({"id": id, "type": "function", "function": {"name": name, "arguments": input}}))
    }

    fn result(&self, block: &Fields<'a>) -> Result<Message, ApiError> {
        let id = block.need("tool_use_id", block.text("tool_use_id")?)?;
        let text = match block.get("content") {
            None => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(_) => {
                let parts = block.objects("content")?;
                let texts = parts.iter().map(|part| match part.kind("")? {
                    "image" => Ok("[an image, which this model cannot see]".to_owned()),
                    _ => readable(part),
                });
                texts.collect::<Result<Vec<_>, ApiError>>()?.join(GAP)
            }
        };
        // Templates know no failed calls, so the text says it.
        let failed = block.truth("is_error")?.unwrap_or(false);
        let text = if failed { format!("Error: {text}") } else { text };
        Ok(Message {
            tool_call_id: Some(id.to_owned()),
            name: self.names.get(id).map(|&name| name.to_owned()),
            ..Message::new("tool", text)
        })
    }
}

fn text_of<'a>(block: &Fields<'a>) -> Result<&'a str, ApiError> {
    match block.kind("")? {
        "text" => block.need("text", block.text("text")?),
        other => Err(unknown(block, other)),
    }
}

/// What of a user's block, or a result's, is text.
fn readable(block: &Fields) -> Result<String, ApiError> {
    match block.kind("")? {
        "text" => Ok(text_of(block)?.to_owned()),
        "document" => document(block),
        "search_result" => {
            let source = block.need("source", block.text("source")?)?;
            titled(block, &format!("{source}{GAP}{}", texts(block, "content")?))
        }
        "image" => Err(block.refuse("images are not supported: the model reads text only")),
        other => Err(unknown(block, other)),
    }
}

/// A document of plain text, with its title and what is said about it in front.
fn document(block: &Fields) -> Result<String, ApiError> {
    let source = block.need("source", block.object("source")?)?;
    let text = match source.kind("")? {
        "text" => source.need("data", source.text("data")?)?.to_owned(),
        "content" => texts(&source, "content")?,
        other => {
            let what = format!(
                "documents of source \"{other}\" are not supported: the model reads text only \
                (source \"text\" or \"content\")"
            );
            return Err(block.refuse(what));
        }
    };
    titled(block, &text)
}

fn titled(block: &Fields, text: &str) -> Result<String, ApiError> {
    let front = [block.text("title")?, block.text("context")?];
    let all: Vec<&str> = front.into_iter().flatten().chain([text]).collect();
    Ok(all.join(GAP))
}

/// A text, or blocks of text.
fn texts(fields: &Fields, name: &str) -> Result<String, ApiError> {
    if let Some(Value::String(text)) = fields.get(name) {
        return Ok(text.clone());
    }
    let blocks = fields.objects(name)?;
    Ok(blocks.iter().map(text_of).collect::<Result<Vec<_>, _>>()?.join(GAP))
}

fn unknown(block: &Fields, kind: &str) -> ApiError {
    match kind.is_empty() {
        true => block.error("type", "field required"),
        false => block.refuse(format!("blocks of type \"{kind}\" are not supported here")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &Value) -> Result<Vec<Message>, ApiError> {
        messages(&Fields::top(value.as_object().unwrap()))
    }

    #[test]
    fn a_turn_with_tools_becomes_neutral_messages() {
        let request = json!({"messages": [
            {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
                {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "d"}}]},
            {"role": "system", "content": "s"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "redacted_thinking", "data": "xx"},
                {"type": "text", "text": "b"}, {"type": "text", "text": "c"},
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"x": 1}},
                {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "18", "is_error": false},
                {"type": "tool_result", "tool_use_id": "toolu_2", "is_error": true, "content": [
                    {"type": "text", "text": "no"}, {"type": "image", "source": {}}]},
                {"type": "text", "text": "go on"}]},
        ]});
        let all = read(&request).unwrap();
        let roles: Vec<&str> = all.iter().map(|m| m.role.as_str()).collect();
        assert_eq!(roles, ["user", "system", "assistant", "tool", "tool", "user"]);
        assert_eq!(all[0].content, "a\n\nT\n\nd");
        assert_eq!((all[2].content.as_str(), all[2].thinking.as_deref()), ("bc", Some("hm")));
        let call = json!({"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}});
        assert_eq!(all[2].tool_calls.as_ref().unwrap()[0], call);
        assert_eq!((all[3].content.as_str(), all[3].name.as_deref()), ("18", Some("f")));
        assert_eq!(all[3].tool_call_id.as_deref(), Some("toolu_1"));
        assert_eq!(all[4].content, "Error: no\n\n[an image, which this model cannot see]");
        assert_eq!(all[5].content, "go on");
    }

    #[test]
    fn what_cannot_be_read_is_told_by_its_place() {
        for (messages, place) in [
            (json!([]), "messages"),
            (json!("x"), "messages"),
            (json!([{"content": "x"}]), "messages.0.role"),
            (json!([{"role": "user"}]), "messages.0.content"),
            (json!([{"role": "tool", "content": "x"}]), "messages.0.role"),
            (json!([{"role": "user", "content": 5}]), "messages.0.content"),
            (json!([{"role": "user", "content": [{"type": "image"}]}]), "messages.0.content.0"),
            (json!([{"role": "user", "content": [{"text": "x"}]}]), "messages.0.content.0.type"),
            (
                json!([{"role": "user", "content": [{"type": "document", "source": {"type": "base64"}}]}]),
                "messages.0.content.0",
            ),
            (
                json!([{"role": "user", "content": [{"type": "tool_result"}]}]),
                "messages.0.content.0.tool_use_id",
            ),
            (
                json!([{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": "x"}]}]),
                "messages.0.content.0.input",
            ),
        ] {
            let error = read(&json!({"messages": messages})).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(place), "{error}");
        }
        assert!(read(&json!({})).is_err());
    }

    #[test]
    fn the_system_prompt_loses_what_is_not_for_the_model() {
        let read = |value: Value| {
            system(&Fields::top(json!({"system": value}).as_object().unwrap()))
                .map(|m| m.map(|m| m.content))
        };
        let text = |text: &str| json!({"type": "text", "text": text});
        assert_eq!(read(json!("s")).unwrap().as_deref(), Some("s"));
        let blocks =
            json!([text("x-anthropic-billing-header: cc_version=1"), text("a"), text("b")]);
        assert_eq!(read(blocks).unwrap().as_deref(), Some("a\n\nb"));
        assert_eq!(read(json!("")).unwrap(), None);
        assert_eq!(read(json!([])).unwrap(), None);
        assert!(read(json!([{"type": "image"}])).is_err());
        assert!(read(json!(7)).is_err());
    }
}
