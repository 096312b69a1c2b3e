//! What comes out of a model's answer: events as they happen, and the message that they make.
//! A call's events come together once it is complete: what was announced could not be taken back.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Message;

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChatEvent {
    /// More of the text.
    Content(String),
    /// More of what the model thinks.
    Thinking(String),
    /// A call begins.
    ToolCallStart {
        /// Which call of the answer, from 0.
        index: usize,
        /// The identifier, where the model writes one.
        id: Option<String>,
        /// The function.
        name: String,
    },
    /// More of a call's arguments: a JSON object.
    ToolCallArguments {
        /// Which call.
        index: usize,
        /// JSON.
        text: String,
    },
    /// A call is complete.
    ToolCallEnd {
        /// Which call.
        index: usize,
    },
    /// A call that cannot be read, or was cut off, with its markers: as the model wrote it.
    BrokenCall(String),
}

/// One complete call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The identifier, where the model writes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The function.
    pub name: String,
    /// A JSON object.
    pub arguments: String,
}

/// A whole answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChatAnswer {
    /// The text.
    pub content: String,
    /// What the model thought.
    pub thinking: String,
    /// Its calls.
    pub tool_calls: Vec<ToolCall>,
    /// Calls that could not be read.
    pub broken: String,
}

impl ChatAnswer {
    /// Adds what happened.
    pub fn extend(&mut self, events: impl IntoIterator<Item = ChatEvent>) {
        for event in events {
            match event {
                ChatEvent::Content(text) => self.content.push_str(&text),
                ChatEvent::Thinking(text) => self.thinking.push_str(&text),
                ChatEvent::BrokenCall(text) => self.broken.push_str(&text),
                ChatEvent::ToolCallStart { id, name, .. } => {
                    self.tool_calls.push(ToolCall { id, name, arguments: String::new() });
                }
                ChatEvent::ToolCallArguments { index, text } => {
                    if let Some(call) = self.tool_calls.get_mut(index) {
                        call.arguments.push_str(&text);
                    }
                }
                ChatEvent::ToolCallEnd { .. } => {}
            }
        }
    }

    /// The assistant's message for the conversation to go on with; what could not be read is part of its content.
    pub fn into_message(self) -> Message {
        let calls = self.tool_calls.iter().map(|call| {
            json!({
                "type": "function",
                "id": call.id,
                "function": {"name": call.name, "arguments": call.arguments},
            })
        });
        let calls: Vec<Value> = calls.collect();
        Message {
            role: "assistant".to_owned(),
            content: self.content + &self.broken,
            thinking: Some(self.thinking).filter(|text| !text.is_empty()),
            tool_calls: (!calls.is_empty()).then(|| calls.into()),
            ..Message::default()
        }
    }
}
