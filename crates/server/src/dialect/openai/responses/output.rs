//! A response in the making: what is heard becomes events, and the same items make up the response that is not streamed. One item is open at a
//! time. A model's thoughts are a summary where one was asked for, else the item's content.

use hob_text::ChatEvent;
use serde_json::{Map, Value, json};

use crate::answer::{End, Heard, Piece, Reason, TokenLogprob};
use crate::error::{ApiError, Kind};
use crate::http::stream::Sse;
use crate::ids;

/// A response.
#[derive(Debug)]
pub struct Output {
    /// Everything but what was answered.
    response: Map<String, Value>,
    summary: bool,
    items: Vec<Value>,
    open: Option<Open>,
    /// The open item's text or arguments, which it gets when it is closed, with the probabilities of its tokens.
    text: String,
    logprobs: Vec<Value>,
    /// Probabilities of tokens that are not part of a text yet.
    pending: Vec<Value>,
    number: u64,
}

/// The kind of the last item, while there may come more of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
    Call,
}

/// The part of an item that holds text, and the events that tell of it.
struct Part {
    /// The item's field with its parts.
    list: &'static str,
    /// The part's type.
    kind: &'static str,
    index: &'static str,
    added: &'static str,
    delta: &'static str,
    done: &'static str,
    closed: &'static str,
}

const TEXT: Part = Part {
    list: "content",
    kind: "output_text",
    index: "content_index",
    added: "response.content_part.added",
    delta: "response.output_text.delta",
    done: "response.output_text.done",
    closed: "response.content_part.done",
};
const SUMMARY: Part = Part {
    list: "summary",
    kind: "summary_text",
    index: "summary_index",
    added: "response.reasoning_summary_part.added",
    delta: "response.reasoning_summary_text.delta",
    done: "response.reasoning_summary_text.done",
    closed: "response.reasoning_summary_part.done",
};
const THOUGHTS: Part = Part {
    list: "content",
    kind: "reasoning_text",
    index: "content_index",
    added: "response.content_part.added",
    delta: "response.reasoning_text.delta",
    done: "response.reasoning_text.done",
    closed: "response.content_part.done",
};

impl Part {
    /// The part with its text.
    fn of(&self, text: String, logprobs: Vec<Value>) -> Value {
        let mut part = json!({"type": self.kind, "text": text});
        if self.kind == TEXT.kind {
            part["annotations"] = json!([]);
            part["logprobs"] = logprobs.into();
        }
        part
    }
}

impl Output {
    /// Nothing is answered yet. `echo` is what the response says of its request.
    pub fn new(id: &str, created: u64, echo: Map<String, Value>, summary: bool) -> Self {
        let mut response = Map::new();
        response.insert("id".into(), id.into());
        response.insert("object".into(), "response".into());
        response.insert("created_at".into(), created.into());
        response.insert("status".into(), "in_progress".into());
        response.insert("error".into(), Value::Null);
        response.insert("incomplete_details".into(), Value::Null);
        response.extend(echo);
        Output {
            response,
            summary,
            items: Vec::new(),
            open: None,
            text: String::new(),
            logprobs: Vec::new(),
            pending: Vec::new(),
            number: 0,
        }
    }

    /// The items of the answer.
    pub fn items(&self) -> &[Value] {
        &self.items
    }

    /// The events in front of all others.
    pub fn begin(&mut self) -> Vec<Sse> {
        let response = self.response(Value::Null);
        let created = self.event("response.created", json!({"response": response}));
        vec![created, self.event("response.in_progress", json!({"response": response}))]
    }

    /// Takes in what was heard; gives the events for it, and at the end the whole response.
    pub fn take(&mut self, heard: Heard) -> (Vec<Sse>, Option<Value>) {
        let mut events = Vec::new();
        let whole = match heard {
            Heard::Started { .. } => None,
            Heard::Piece(piece) => {
                self.piece(piece, &mut events);
                None
            }
            Heard::End(end) => Some(self.end(&end, &mut events)),
        };
        (events, whole)
    }

    /// The end of a response that failed.
    pub fn fail(&mut self, error: &ApiError) -> Vec<Sse> {
        let code = error.code.unwrap_or(match error.kind {
            Kind::Busy => "rate_limit_exceeded",
            _ => "server_error",
        });
        self.response.insert("status".into(), "failed".into());
        self.response.insert("error".into(), json!({"code": code, "message": error.message}));
        let response = self.response(Value::Null);
        vec![self.event("response.failed", json!({"response": response}))]
    }

    fn end(&mut self, end: &End, events: &mut Vec<Sse>) -> Value {
        let (status, name) = match end.reason {
            Reason::Length => ("incomplete", "response.incomplete"),
            Reason::Stop | Reason::StopText(_) => ("completed", "response.completed"),
        };
        self.close(status, events);
        self.response.insert("status".into(), status.into());
        if status == "incomplete" {
            let details = json!({"reason": "max_output_tokens"});
            self.response.insert("incomplete_details".into(), details);
        }
        let response = self.response(usage(end));
        events.push(self.event(name, json!({"response": response})));
        response
    }

    fn response(&self, usage: Value) -> Value {
        let mut response = self.response.clone();
        response.insert("output".into(), self.items.clone().into());
        response.insert("usage".into(), usage);
        response.into()
    }

    fn piece(&mut self, piece: Piece, events: &mut Vec<Sse>) {
        self.pending.extend(piece.logprob.as_ref().map(|l| logprob(l, true)));
        for said in piece.events {
            match said {
                ChatEvent::Content(text) | ChatEvent::BrokenCall(text) => {
                    self.text(Open::Text, &text, events);
                }
                ChatEvent::Thinking(text) => {
                    self.pending.clear();
                    self.text(Open::Thinking, &text, events);
                }
                ChatEvent::ToolCallStart { id, name, .. } => {
                    let id = id.unwrap_or_else(ids::call);
                    let item = json!({"type": "function_call", "id": ids::random("fc_", 24), "status": "in_progress",
                        "call_id": id, "name": name, "arguments": ""});
                    self.add(Open::Call, item, events);
                }
                ChatEvent::ToolCallArguments { text, .. } => self.arguments(&text, events),
                ChatEvent::ToolCallEnd { .. } => {
                    self.pending.clear();
                    self.close("completed", events);
                }
            }
        }
    }

    /// More text for an item of this kind.
    fn text(&mut self, kind: Open, text: &str, events: &mut Vec<Sse>) {
        if text.is_empty() {
            return;
        }
        if self.open != Some(kind) {
            self.add_text(kind, events);
        }
        let part = self.part(kind);
        let mut delta = self.place(Some(&part));
        delta["delta"] = text.into();
        if kind == Open::Text {
            let new = std::mem::take(&mut self.pending);
            self.logprobs.extend(new.iter().cloned());
            delta["logprobs"] = new.into();
        }
        self.text.push_str(text);
        let event = self.event(part.delta, delta);
        events.push(event);
    }

    fn add_text(&mut self, kind: Open, events: &mut Vec<Sse>) {
        let item = match kind {
            Open::Thinking => {
                json!({"type": "reasoning", "id": ids::random("rs_", 24), "summary": []})
            }
            _ => json!({"type": "message", "id": ids::random("msg_", 24), "status": "in_progress",
                "role": "assistant", "content": []}),
        };
        self.add(kind, item, events);
        let part = self.part(kind);
        let mut added = self.place(Some(&part));
        added["part"] = part.of(String::new(), Vec::new());
        let event = self.event(part.added, added);
        events.push(event);
    }

    /// A call's arguments, which come at once.
    fn arguments(&mut self, text: &str, events: &mut Vec<Sse>) {
        let mut delta = self.place(None);
        delta["delta"] = text.into();
        let event = self.event("response.function_call_arguments.delta", delta);
        events.push(event);
        self.text.push_str(text);
    }

    fn add(&mut self, kind: Open, item: Value, events: &mut Vec<Sse>) {
        self.close("completed", events);
        let index = self.items.len();
        let added = json!({"output_index": index, "item": item});
        events.push(self.event("response.output_item.added", added));
        self.items.push(item);
        self.open = Some(kind);
    }

    /// Ends the open item, if one is.
    fn close(&mut self, status: &str, events: &mut Vec<Sse>) {
        let Some(kind) = self.open.take() else { return };
        let text = std::mem::take(&mut self.text);
        let (field, value) = match kind {
            Open::Call => {
                let mut done = self.place(None);
                done["name"] = self.items.last().map(|item| item["name"].clone()).into();
                done["arguments"] = text.as_str().into();
                events.push(self.event("response.function_call_arguments.done", done));
                ("arguments", text.into())
            }
            Open::Text | Open::Thinking => {
                let part = self.part(kind);
                let whole = part.of(text, std::mem::take(&mut self.logprobs));
                let mut done = self.place(Some(&part));
                done["text"] = whole["text"].clone();
                if kind == Open::Text {
                    done["logprobs"] = whole["logprobs"].clone();
                }
                events.push(self.event(part.done, done));
                let mut closed = self.place(Some(&part));
                closed["part"] = whole.clone();
                events.push(self.event(part.closed, closed));
                (part.list, json!([whole]))
            }
        };
        if let Some(item) = self.items.last_mut() {
            item[field] = value;
        }
        if let Some(item) = self.items.last_mut().filter(|item| item.get("status").is_some()) {
            item["status"] = status.into();
        }
        let index = self.items.len().saturating_sub(1);
        let done = json!({"output_index": index, "item": self.items.last()});
        events.push(self.event("response.output_item.done", done));
    }

    fn part(&self, kind: Open) -> Part {
        match (kind, self.summary) {
            (Open::Thinking, true) => SUMMARY,
            (Open::Thinking, false) => THOUGHTS,
            (Open::Text | Open::Call, _) => TEXT,
        }
    }

    /// Where the last item, or its part, is.
    fn place(&self, part: Option<&Part>) -> Value {
        let id = self.items.last().map(|item| item["id"].clone());
        let mut place = json!({"item_id": id, "output_index": self.items.len().saturating_sub(1)});
        if let Some(part) = part {
            place[part.index] = 0.into();
        }
        place
    }

    /// An event with its number.
    fn event(&mut self, name: &'static str, data: Value) -> Sse {
        let mut value = json!({"type": name, "sequence_number": self.number});
        self.number += 1;
        if let (Some(all), Value::Object(data)) = (value.as_object_mut(), data) {
            all.extend(data);
        }
        Sse::named(name, &value)
    }
}

fn usage(end: &End) -> Value {
    json!({
        "input_tokens": end.prompt_tokens,
        "input_tokens_details": {"cached_tokens": end.cached_tokens},
        "output_tokens": end.answer_tokens,
        "output_tokens_details": {"reasoning_tokens": end.thinking_tokens},
        "total_tokens": end.prompt_tokens + end.answer_tokens,
    })
}

fn logprob(of: &TokenLogprob, with_top: bool) -> Value {
    let mut value = json!({"token": of.token, "bytes": of.bytes, "logprob": of.logprob});
    if with_top {
        value["top_logprobs"] = of.top.iter().map(|t| logprob(t, false)).collect();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(reason: Reason) -> Heard {
        let (prompt_tokens, cached_tokens, answer_tokens) = (10, 4, 3);
        let end = End::of(reason, true);
        let end = End { prompt_tokens, cached_tokens, answer_tokens, thinking_tokens: 1, ..end };
        Heard::End(Box::new(end))
    }

    #[test]
    fn calls_are_items_beside_the_text() {
        let mut output = Output::new("resp_1", 0, Map::new(), true);
        let call = |index, id: Option<&str>| {
            let start =
                ChatEvent::ToolCallStart { index, id: id.map(str::to_owned), name: "f".into() };
            let arguments = ChatEvent::ToolCallArguments { index, text: "{}".into() };
            [start, arguments, ChatEvent::ToolCallEnd { index }]
        };
        let mut said = vec![ChatEvent::Thinking("hm".into()), ChatEvent::Content("a".into())];
        said.extend(call(0, Some("c1")));
        said.extend(call(1, None));
        let (events, _) = output.take(Heard::Piece(Piece { events: said, ..Piece::default() }));
        let names: Vec<&str> = events.iter().filter_map(|sse| sse.event).collect();
        let expected = "output_item.added reasoning_summary_part.added reasoning_summary_text.delta \
            reasoning_summary_text.done reasoning_summary_part.done output_item.done \
            output_item.added content_part.added output_text.delta output_text.done content_part.done output_item.done \
            output_item.added function_call_arguments.delta function_call_arguments.done output_item.done \
            output_item.added function_call_arguments.delta function_call_arguments.done output_item.done";
        let expected: Vec<String> = expected.split(' ').map(|n| format!("response.{n}")).collect();
        assert_eq!(names, expected);
        let (events, whole) = output.take(end(Reason::Stop));
        assert_eq!(events.last().and_then(|sse| sse.event), Some("response.completed"));
        let whole = whole.unwrap();
        assert_eq!(
            (&whole["status"], &whole["usage"]["total_tokens"]),
            (&json!("completed"), &json!(13))
        );
        let kinds: Vec<&Value> = output.items().iter().map(|item| &item["type"]).collect();
        assert_eq!(kinds, ["reasoning", "message", "function_call", "function_call"]);
        assert_eq!(whole["output"][0]["summary"], json!([{"type": "summary_text", "text": "hm"}]));
        let call = &whole["output"][2];
        let said = [&call["call_id"], &call["name"], &call["arguments"], &call["status"]];
        assert_eq!(said, ["c1", "f", "{}", "completed"]);
        assert!(whole["output"][3]["call_id"].as_str().unwrap().starts_with("call_"));
    }

    #[test]
    fn what_was_cut_is_incomplete() {
        let mut output = Output::new("resp_1", 0, Map::new(), false);
        let said = vec![ChatEvent::Content("a".into())];
        output.take(Heard::Piece(Piece { events: said, ..Piece::default() }));
        let whole = output.take(end(Reason::Length)).1.unwrap();
        assert_eq!(
            (&whole["status"], &whole["output"][0]["status"]),
            (&json!("incomplete"), &json!("incomplete"))
        );
    }
}
