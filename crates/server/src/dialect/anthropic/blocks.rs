//! An answer as content blocks: what is heard becomes events, and the same blocks make up the message that is not streamed. One block is open at
//! a time; a block that would be empty is not there.

use hob_text::ChatEvent;
use serde_json::{Value, json};

use crate::answer::{End, Heard, Reason};
use crate::http::stream::Sse;
use crate::ids;

/// A message in the making.
#[derive(Debug)]
pub struct Message {
    id: String,
    model: String,
    shows_thinking: bool,
    stops: Vec<String>,
    /// The blocks so far; the last may be open.
    blocks: Vec<Value>,
    open: bool,
}

impl Message {
    /// An empty one. Of `stops`, those that end it are told from the model's own.
    pub fn new(model: String, shows_thinking: bool, stops: Vec<String>) -> Self {
        let id = ids::random("msg_", 24);
        Message { id, model, shows_thinking, stops, blocks: Vec::new(), open: false }
    }

    /// Takes in what was heard; gives the events for it.
    pub fn take(&mut self, heard: Heard) -> Vec<Sse> {
        let mut events = Vec::new();
        match heard {
            Heard::Started { prompt_tokens, cached_tokens } => {
                let message = self.with_end(
                    Value::Null,
                    Value::Null,
                    &usage(prompt_tokens, cached_tokens, 0),
                );
                events.push(event("message_start", json!({"message": message})));
                events.push(event("ping", json!({})));
            }
            Heard::Piece(piece) => {
                piece.events.into_iter().for_each(|said| self.said(said, &mut events));
            }
            Heard::End(end) => {
                self.close(&mut events);
                let (reason, stop) = self.stop(&end);
                let delta = json!({"stop_reason": reason, "stop_sequence": stop});
                let usage = usage_of(&end);
                events.push(event("message_delta", json!({"delta": delta, "usage": usage})));
                events.push(event("message_stop", json!({})));
            }
        }
        events
    }

    /// The whole of it.
    pub fn whole(&self, end: &End) -> Value {
        let (reason, stop) = self.stop(end);
        self.with_end(reason, stop, &usage_of(end))
    }

    fn with_end(&self, reason: Value, stop: Value, usage: &Value) -> Value {
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model,
            "content": self.blocks, "stop_reason": reason, "stop_sequence": stop, "usage": usage,
        })
    }

    fn said(&mut self, said: ChatEvent, events: &mut Vec<Sse>) {
        match said {
            ChatEvent::Content(text) | ChatEvent::BrokenCall(text) => {
                self.text("text", "text_delta", &text, events);
            }
            ChatEvent::Thinking(text) if self.shows_thinking => {
                self.text("thinking", "thinking_delta", &text, events);
            }
            ChatEvent::Thinking(_) => {}
            ChatEvent::ToolCallStart { id, name, .. } => {
                // The form of the identifier is the dialect's, unless the model writes its own.
                let id = id.filter(|id| !id.starts_with("call_"));
                let id = id.unwrap_or_else(|| ids::random("toolu_", 24));
                self.begin(
                    json!({"type": "tool_use", "id": id, "name": name, "input": {}}),
                    events,
                );
            }
            ChatEvent::ToolCallArguments { text, .. } => {
                let delta = json!({"type": "input_json_delta", "partial_json": text});
                self.delta(delta, events);
                if let Some(block) = self.blocks.last_mut() {
                    // The parser gives a call's arguments at once, and they are JSON.
                    block["input"] = serde_json::from_str(&text).unwrap_or_else(|_| json!({}));
                }
            }
            ChatEvent::ToolCallEnd { .. } => self.close(events),
        }
    }

    /// More text for a block of this kind.
    fn text(&mut self, kind: &str, delta: &str, text: &str, events: &mut Vec<Sse>) {
        if text.is_empty() {
            return;
        }
        if !(self.open && self.blocks.last().is_some_and(|block| block["type"] == kind)) {
            let mut block = json!({"type": kind, kind: ""});
            if kind == "thinking" {
                block["signature"] = "".into();
            }
            self.begin(block, events);
        }
        self.delta(json!({"type": delta, kind: text}), events);
        if let Some(Value::String(all)) = self.blocks.last_mut().and_then(|b| b.get_mut(kind)) {
            all.push_str(text);
        }
    }

    fn begin(&mut self, block: Value, events: &mut Vec<Sse>) {
        self.close(events);
        let index = self.blocks.len();
        let start = json!({"index": index, "content_block": block});
        events.push(event("content_block_start", start));
        self.blocks.push(block);
        self.open = true;
    }

    fn delta(&self, delta: Value, events: &mut Vec<Sse>) {
        let index = self.blocks.len().saturating_sub(1);
        events.push(event("content_block_delta", json!({"index": index, "delta": delta})));
    }

    fn close(&mut self, events: &mut Vec<Sse>) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        let index = self.blocks.len().saturating_sub(1);
        if self.blocks.last().is_some_and(|block| block["type"] == "thinking") {
            self.delta(json!({"type": "signature_delta", "signature": ""}), events);
        }
        events.push(event("content_block_stop", json!({"index": index})));
    }

    fn stop(&self, end: &End) -> (Value, Value) {
        match &end.reason {
            Reason::Length => ("max_tokens".into(), Value::Null),
            Reason::StopText(text) if self.stops.contains(text) => {
                ("stop_sequence".into(), text.as_str().into())
            }
            _ if end.called => ("tool_use".into(), Value::Null),
            Reason::Stop | Reason::StopText(_) => ("end_turn".into(), Value::Null),
        }
    }
}

/// An event; its type is its name.
fn event(name: &'static str, mut data: Value) -> Sse {
    let mut value = json!({"type": name});
    if let (Some(all), Some(data)) = (value.as_object_mut(), data.as_object_mut()) {
        all.append(data);
    }
    Sse::named(name, &value)
}

fn usage_of(end: &End) -> Value {
    usage(end.prompt_tokens, end.cached_tokens, end.answer_tokens)
}

/// Tokens that the cache had are not among the input's.
fn usage(prompt: usize, cached: usize, answer: usize) -> Value {
    json!({
        "input_tokens": prompt.saturating_sub(cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": answer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Piece;

    fn end(reason: Reason, called: bool) -> End {
        let (prompt_tokens, cached_tokens, answer_tokens) = (10, 4, 3);
        End {
            prompt_tokens,
            cached_tokens,
            answer_tokens,
            thinking_tokens: 1,
            ..End::of(reason, called)
        }
    }

    fn told(message: &mut Message, said: Vec<ChatEvent>) -> Vec<Value> {
        let piece = Piece { events: said, ..Piece::default() };
        let events = message.take(Heard::Piece(piece));
        events.iter().map(|sse| serde_json::from_str(&sse.data).unwrap()).collect()
    }

    #[test]
    fn blocks_open_and_close_in_their_order() {
        let mut message = Message::new("m".into(), true, Vec::new());
        let content = |text: &str| ChatEvent::Content(text.to_owned());
        let said = vec![
            ChatEvent::Thinking("h".into()),
            ChatEvent::Thinking("m".into()),
            content("a"),
            content(""),
            content("b"),
            ChatEvent::ToolCallStart { index: 0, id: Some("call_x".into()), name: "f".into() },
            ChatEvent::ToolCallArguments { index: 0, text: "{\"x\":1}".into() },
            ChatEvent::ToolCallEnd { index: 0 },
            content("c"),
        ];
        let events = told(&mut message, said);
        let names: Vec<String> = events
            .iter()
            .map(|e| match e["delta"]["type"].as_str() {
                Some(kind) => format!("{}:{kind}", e["index"]),
                None => format!("{}:{}", e["index"], e["type"].as_str().unwrap()),
            })
            .collect();
        let expected = "0:content_block_start 0:thinking_delta 0:thinking_delta 0:signature_delta 0:content_block_stop \
            1:content_block_start 1:text_delta 1:text_delta 1:content_block_stop \
            2:content_block_start 2:input_json_delta 2:content_block_stop 3:content_block_start 3:text_delta";
        assert_eq!(names.join(" "), expected);
        let whole = message.whole(&end(Reason::Stop, true));
        let id = whole["content"][2]["id"].as_str().unwrap().to_owned();
        assert!(id.starts_with("toolu_"));
        let expected = json!([
            {"type": "thinking", "thinking": "hm", "signature": ""},
            {"type": "text", "text": "ab"},
            {"type": "tool_use", "id": id, "name": "f", "input": {"x": 1}},
            {"type": "text", "text": "c"},
        ]);
        assert_eq!(whole["content"], expected);
        assert_eq!(whole["stop_reason"], "tool_use");
        let last = message.take(Heard::End(Box::new(end(Reason::Stop, true))));
        let names: Vec<_> = last.iter().map(|sse| sse.event.unwrap()).collect();
        assert_eq!(names, ["content_block_stop", "message_delta", "message_stop"]);
    }

    #[test]
    fn thoughts_that_nobody_asked_for_are_not_shown() {
        let mut message = Message::new("m".into(), false, Vec::new());
        assert_eq!(told(&mut message, vec![ChatEvent::Thinking("hm".into())]), Vec::<Value>::new());
        assert_eq!(message.whole(&end(Reason::Length, false))["content"], json!([]));
    }

    #[test]
    fn ends_have_anthropic_s_words() {
        let message = Message::new("m".into(), false, vec!["###".into()]);
        let stop = |reason, called| {
            let whole = message.whole(&end(reason, called));
            (whole["stop_reason"].clone(), whole["stop_sequence"].clone())
        };
        assert_eq!(stop(Reason::Stop, false), (json!("end_turn"), Value::Null));
        assert_eq!(stop(Reason::Stop, true), (json!("tool_use"), Value::Null));
        assert_eq!(stop(Reason::Length, true), (json!("max_tokens"), Value::Null));
        assert_eq!(
            stop(Reason::StopText("###".into()), false),
            (json!("stop_sequence"), json!("###"))
        );
        assert_eq!(stop(Reason::StopText("<end>".into()), false), (json!("end_turn"), Value::Null));
        let usage = json!({"input_tokens": 6, "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 4, "output_tokens": 3});
        assert_eq!(message.whole(&end(Reason::Stop, false))["usage"], usage);
    }
}
