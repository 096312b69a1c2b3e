//! How choices of `/v1/chat/completions` look, whole and in pieces. Thinking goes by both names that clients know. A call that the request
//! has no use for, since it wants one at most, is left out.

use hob_text::{ChatEvent, ToolCall};
use serde_json::{Value, json};

use super::answers::Choices;
use crate::answer::{End, Piece, Reason, TokenLogprob, Whole};

/// The choices of one response.
pub struct ChatChoices {
    /// At most one call.
    pub single: bool,
    /// Calls in the older form.
    pub legacy: bool,
    /// Probabilities were asked for. They are of all tokens: those that are thought and those of calls too.
    pub logprobs: bool,
    /// Of each answer, the probabilities of tokens whose text is still held back.
    pub pending: Vec<Vec<Value>>,
}

impl ChatChoices {
    pub fn new(answers: usize, single: bool, legacy: bool, logprobs: bool) -> Self {
        ChatChoices { single, legacy, logprobs, pending: vec![Vec::new(); answers] }
    }

    fn finish(&self, end: &End) -> &'static str {
        match (&end.reason, end.called) {
            (Reason::Length, _) => "length",
            (_, true) if self.legacy => "function_call",
            (_, true) => "tool_calls",
            (_, false) => "stop",
        }
    }

    fn is_wanted(&self, call: usize) -> bool {
        call == 0 || !self.single
    }

    fn delta(&self, event: ChatEvent) -> Option<Value> {
        let call = |index: usize, function: Value| match self.legacy {
            true => json!({"function_call": function}),
            false => json!({"tool_calls": [{"index": index, "function": function}]}),
        };
        match event {
            ChatEvent::Content(text) | ChatEvent::BrokenCall(text) => {
                Some(json!({"content": text}))
            }
            ChatEvent::Thinking(text) => {
                Some(json!({"reasoning_content": text, "reasoning": text}))
            }
            ChatEvent::ToolCallStart { index, id, name } => self.is_wanted(index).then(|| {
                let mut delta = call(index, json!({"name": name, "arguments": ""}));
                if !self.legacy {
                    delta["tool_calls"][0]["id"] = id.into();
                    delta["tool_calls"][0]["type"] = "function".into();
                }
                delta
            }),
            ChatEvent::ToolCallArguments { index, text } => {
                self.is_wanted(index).then(|| call(index, json!({"arguments": text})))
            }
            ChatEvent::ToolCallEnd { .. } => None,
        }
    }

    fn chunk(&mut self, index: usize, delta: Value, finish: Option<&str>) -> Value {
        let pending = self.pending.get_mut(index).map(std::mem::take).unwrap_or_default();
        let logprobs = (!pending.is_empty()).then(|| json!({"content": pending, "refusal": null}));
        json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish})
    }
}

impl Choices for ChatChoices {
    fn whole(&mut self, index: usize, whole: Whole) -> Value {
        let Whole { said, logprobs, end, .. } = whole;
        let content = match said.content.is_empty() && !said.tool_calls.is_empty() {
            true => Value::Null,
            false => said.content.into(),
        };
        let mut message = json!({"role": "assistant", "content": content, "refusal": null});
        if !said.thinking.is_empty() {
            message["reasoning_content"] = said.thinking.as_str().into();
            message["reasoning"] = said.thinking.into();
        }
        let wanted = if self.single { 1 } else { usize::MAX };
        let calls: Vec<Value> = said.tool_calls.iter().take(wanted).map(call).collect();
        match (self.legacy, calls.is_empty()) {
            (_, true) => {}
            (true, false) => message["function_call"] = calls[0]["function"].clone(),
            (false, false) => message["tool_calls"] = calls.into(),
        }
        let all: Vec<Value> = logprobs.iter().map(logprob).collect();
        let logprobs = self.logprobs.then(|| json!({"content": all, "refusal": null}));
        json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": self.finish(&end)})
    }

    fn first(&mut self, index: usize) -> Option<Value> {
        Some(self.chunk(index, json!({"role": "assistant", "content": "", "refusal": null}), None))
    }

    fn piece(&mut self, index: usize, piece: Piece) -> Vec<Value> {
        if let Some(pending) = self.pending.get_mut(index) {
            pending.extend(piece.logprob.as_ref().map(logprob));
        }
        let deltas: Vec<Value> = piece.events.into_iter().filter_map(|e| self.delta(e)).collect();
        deltas.into_iter().map(|delta| self.chunk(index, delta, None)).collect()
    }

    fn last(&mut self, index: usize, end: &End) -> Vec<Value> {
        vec![self.chunk(index, json!({}), Some(self.finish(end)))]
    }
}

fn call(call: &ToolCall) -> Value {
    let arguments = if call.arguments.is_empty() { "{}" } else { &call.arguments };
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
}

/// With the likeliest in its place, which have no such lists.
fn logprob(of: &TokenLogprob) -> Value {
    let plain =
        |of: &TokenLogprob| json!({"token": of.token, "logprob": of.logprob, "bytes": of.bytes});
    let mut value = plain(of);
    value["top_logprobs"] = of.top.iter().map(plain).collect();
    value
}

#[cfg(test)]
mod tests {
    use hob_text::ChatAnswer;

    use super::*;

    fn end(reason: Reason) -> End {
        End { prompt_tokens: 3, answer_tokens: 9, thinking_tokens: 2, ..End::of(reason, true) }
    }

    fn calls() -> Vec<ChatEvent> {
        let call = |index: usize, name: &str| {
            let (id, name) = (Some(format!("call_{index}")), name.to_owned());
            [
                ChatEvent::ToolCallStart { index, id, name },
                ChatEvent::ToolCallArguments { index, text: "{\"a\":".to_owned() },
                ChatEvent::ToolCallArguments { index, text: "1}".to_owned() },
                ChatEvent::ToolCallEnd { index },
            ]
        };
        let thought = ChatEvent::Thinking("hm".to_owned());
        [thought].into_iter().chain(call(0, "f")).chain(call(1, "g")).collect()
    }

    fn whole(choices: &mut ChatChoices) -> Value {
        let mut said = ChatAnswer::default();
        said.extend(calls());
        choices.whole(0, Whole { said, ids: vec![], logprobs: vec![], end: end(Reason::Stop) })
    }

    #[test]
    fn calls_and_thoughts_have_openai_s_form() {
        let choice = whole(&mut ChatChoices::new(1, false, false, false));
        let call = |id: &str, name: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": "{\"a\":1}"}});
        let expected = json!({
            "index": 0,
            "message": {
                "role": "assistant", "content": null, "refusal": null,
                "reasoning_content": "hm", "reasoning": "hm",
                "tool_calls": [call("call_0", "f"), call("call_1", "g")],
            },
            "logprobs": null,
            "finish_reason": "tool_calls",
        });
        assert_eq!(choice, expected);
    }

    #[test]
    fn one_call_at_most_where_that_is_wanted_and_in_the_older_form() {
        let choice = whole(&mut ChatChoices::new(1, true, false, false));
        assert_eq!(choice["message"]["tool_calls"].as_array().unwrap().len(), 1);
        let choice = whole(&mut ChatChoices::new(1, true, true, false));
        assert_eq!(
            choice["message"]["function_call"],
            json!({"name": "f", "arguments": "{\"a\":1}"})
        );
        assert_eq!(choice["finish_reason"], "function_call");
        assert!(choice["message"].get("tool_calls").is_none());
    }

    #[test]
    fn calls_are_streamed_by_their_pieces() {
        let mut choices = ChatChoices::new(1, false, false, false);
        let piece = Piece { events: calls(), id: None, logprob: None };
        let deltas: Vec<Value> =
            choices.piece(0, piece).into_iter().map(|choice| choice["delta"].clone()).collect();
        let start = |i: usize, name: &str| {
            let function = json!({"name": name, "arguments": ""});
            json!({"tool_calls": [{"index": i, "function": function, "id": format!("call_{i}"), "type": "function"}]})
        };
        let more = |i: usize, text: &str| json!({"tool_calls": [{"index": i, "function": {"arguments": text}}]});
        assert_eq!(
            deltas,
            [
                json!({"reasoning_content": "hm", "reasoning": "hm"}),
                start(0, "f"),
                more(0, "{\"a\":"),
                more(0, "1}"),
                start(1, "g"),
                more(1, "{\"a\":"),
                more(1, "1}"),
            ]
        );
        let last = choices.last(0, &end(Reason::Stop));
        assert_eq!(last[0]["finish_reason"], "tool_calls");
        assert_eq!(choices.last(0, &end(Reason::Length))[0]["finish_reason"], "length");
    }

    #[test]
    fn probabilities_wait_for_the_text_of_their_tokens() {
        let mut choices = ChatChoices::new(1, false, false, true);
        let token = |text: &str| TokenLogprob {
            token: text.to_owned(),
            bytes: text.as_bytes().to_vec(),
            logprob: -0.5,
            top: Vec::new(),
        };
        let held = Piece { events: vec![], id: Some(1), logprob: Some(token("a")) };
        assert!(choices.piece(0, held).is_empty());
        let events = vec![ChatEvent::Content("ab".to_owned())];
        let told = choices.piece(0, Piece { events, id: Some(2), logprob: Some(token("b")) });
        let content = &told[0]["logprobs"]["content"];
        assert_eq!(
            (content[0]["token"].as_str(), content[1]["token"].as_str()),
            (Some("a"), Some("b"))
        );
        assert_eq!(content[0]["bytes"], json!([97]));
        assert_eq!(choices.last(0, &end(Reason::Stop))[0]["logprobs"], Value::Null);
    }
}
