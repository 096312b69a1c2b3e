//! What templates are given: messages and tools as the types of Ollama's templates, whose JSON has a fixed order of keys.
//! Tools, their functions and parameters, and arguments print themselves as JSON wherever a template writes them: that is what the
//! ecosystem's templates count on. Keys of a tool that these types don't have are left out. Absent: images.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value as Json;

use super::value::{Field, List, Map, Show, Value, sorted};
use crate::{Message, RenderOptions};

/// Depth of a parameter's schema; deeper parts are left out.
const MAX_SCHEMA_DEPTH: usize = 32;

/// A message, or several of one role that follow each other.
pub(super) struct Turn<'m> {
    pub(super) role: &'m str,
    pub(super) content: Cow<'m, str>,
    thinking: Cow<'m, str>,
    /// In OpenAI's form.
    calls: Vec<&'m Json>,
    tool: &'m str,
    call_id: &'m str,
}

/// Messages of one role become one, with a blank line between their texts; those of tools stay apart.
pub(super) fn turns(messages: &[Message]) -> Vec<Turn<'_>> {
    let mut turns: Vec<Turn<'_>> = Vec::new();
    for message in messages {
        let calls = message.tool_calls.as_ref().and_then(Json::as_array).into_iter().flatten();
        let thinking = message.thinking.as_deref().unwrap_or_default();
        match turns.last_mut().filter(|last| last.role == message.role && last.role != "tool") {
            Some(last) => {
                let content = last.content.to_mut();
                content.push_str("\n\n");
                content.push_str(&message.content);
                if last.thinking.is_empty() {
                    last.thinking = thinking.into();
                } else if !thinking.is_empty() {
                    let before = last.thinking.to_mut();
                    before.push_str("\n\n");
                    before.push_str(thinking);
                }
                last.calls.extend(calls);
            }
            None => turns.push(Turn {
                role: &message.role,
                content: message.content.as_str().into(),
                thinking: thinking.into(),
                calls: calls.collect(),
                tool: message.name.as_deref().unwrap_or_default(),
                call_id: message.tool_call_id.as_deref().unwrap_or_default(),
            }),
        }
    }
    turns
}

/// The data of a template that knows `.Messages`.
pub(super) fn conversation(turns: &[Turn<'_>], options: &RenderOptions) -> Value {
    let systems = turns.iter().filter(|turn| turn.role == "system");
    let system: Vec<&str> = systems.map(|turn| turn.content.as_ref()).collect();
    let entries = vec![
        ("System", Value::text(&system.join("\n\n"))),
        ("Messages", Value::list(turns.iter().map(message).collect())),
        ("Tools", tools(options.tools.as_ref())),
        ("Response", Value::text("")),
    ];
    root(entries, options)
}

/// The data of one turn.
pub(super) fn turn(system: &str, prompt: &str, response: &str, options: &RenderOptions) -> Value {
    texts(&[("System", system), ("Prompt", prompt), ("Response", response)], options)
}

/// Data of a few texts.
pub(super) fn texts(fields: &[(&'static str, &str)], options: &RenderOptions) -> Value {
    root(fields.iter().map(|(key, text)| (*key, Value::text(text))).collect(), options)
}

/// The top of the data, with what the options say.
fn root(mut entries: Vec<(&str, Value)>, options: &RenderOptions) -> Value {
    let level = options.extra.get("reasoning_effort").and_then(Json::as_str).unwrap_or_default();
    let think = options.enable_thinking.unwrap_or(!level.is_empty());
    entries.push(("Think", Value::Bool(think)));
    entries.push(("ThinkLevel", Value::text(level)));
    let set = options.enable_thinking.is_some() || !level.is_empty();
    entries.push(("IsThinkSet", Value::Bool(set)));
    entries.retain(|(key, _)| !options.extra.contains_key(*key));
    let own = entries.into_iter().map(|(key, value)| (Arc::from(key), value));
    let mut entries: Vec<_> = own.chain(sorted(&options.extra)).collect();
    entries.sort_by(|a: &(Arc<str>, Value), b| a.0.cmp(&b.0));
    Value::map(entries, Show::Plain)
}

fn message(turn: &Turn<'_>) -> Value {
    let calls = turn.calls.iter().enumerate().map(|(i, json)| call(i, json)).collect::<Vec<_>>();
    let calls =
        if calls.is_empty() { Value::List(List::absent(Show::Plain)) } else { Value::list(calls) };
    let fields = vec![
        Field::plain("Role", Value::text(turn.role)),
        Field::plain("Content", Value::text(&turn.content)),
        Field::plain("Thinking", Value::text(&turn.thinking)),
        Field::plain("Images", Value::List(List::absent(Show::Plain))),
        Field::plain("ToolCalls", calls),
        Field::plain("ToolName", Value::text(turn.tool)),
        Field::plain("ToolCallID", Value::text(turn.call_id)),
    ];
    Value::structure("message", Show::Plain, fields)
}

fn call(position: usize, json: &Json) -> Value {
    let function = json.get("function").unwrap_or(json);
    let index = function.get("index").or_else(|| json.get("index")).and_then(Json::as_i64);
    let fields = vec![
        Field::plain("Index", Value::Int(index.unwrap_or(position as i64))),
        Field::plain("Name", text(function, "name")),
        Field::plain("Arguments", arguments(function.get("arguments"))),
    ];
    let function = Value::structure("tool call's function", Show::Plain, fields);
    let fields = vec![Field::plain("ID", text(json, "id")), Field::plain("Function", function)];
    Value::structure("tool call", Show::Plain, fields)
}

/// A call's arguments: an object, or one as text, as OpenAI sends it. Another text stays what it is.
fn arguments(json: Option<&Json>) -> Value {
    let Some(json) = json else { return properties_absent() };
    let parsed = json.as_str().and_then(|text| serde_json::from_str(text).ok());
    match parsed.as_ref().unwrap_or(json) {
        Json::Object(map) => Value::map(sorted(map), Show::Json),
        Json::Null => properties_absent(),
        _ => Value::from(json),
    }
}

fn properties_absent() -> Value {
    let missing = Value::Nil;
    Value::Map(Arc::new(Map { entries: vec![], show: Show::Json, absent: true, missing }))
}

fn text(json: &Json, key: &str) -> Value {
    Value::text(json.get(key).and_then(Json::as_str).unwrap_or_default())
}

fn any(json: &Json, key: &str) -> Value {
    json.get(key).map_or(Value::Nil, Value::from)
}

fn tools(json: Option<&Json>) -> Value {
    match json.and_then(Json::as_array) {
        Some(tools) => Value::List(List::new(tools.iter().map(tool).collect(), Show::Json)),
        None => Value::List(List::absent(Show::Json)),
    }
}

fn tool(json: &Json) -> Value {
    let (function, kind) = match json.get("function") {
        Some(function) => (function, text(json, "type")),
        // A function without its envelope.
        None => (json, Value::text("function")),
    };
    let parameters = function.get("parameters").unwrap_or(&Json::Null);
    let fields = vec![
        Field::json("Type", "type", text(parameters, "type")),
        Field::json("Defs", "$defs?", any(parameters, "$defs")),
        Field::json("Items", "items?", any(parameters, "items")),
        Field::json("Required", "required?", texts_of(parameters, "required", Show::Plain)),
        Field::json("Properties", "properties", properties(parameters)),
    ];
    let parameters = Value::structure("tool's parameters", Show::Json, fields);
    let fields = vec![
        Field::json("Name", "name", text(function, "name")),
        Field::json("Description", "description", text(function, "description")),
        Field::json("Parameters", "parameters", parameters),
    ];
    let function = Value::structure("tool's function", Show::Json, fields);
    let items = if json.get("function").is_some() { any(json, "items") } else { Value::Nil };
    let fields = vec![
        Field::json("Type", "type", kind),
        Field::json("Items", "items?", items),
        Field::json("Function", "function", function),
    ];
    Value::structure("tool", Show::Json, fields)
}

/// A function's parameters by their names, in the order of these.
fn properties(parameters: &Json) -> Value {
    let Some(map) = parameters.get("properties").and_then(Json::as_object) else {
        return properties_absent();
    };
    let mut entries = property_entries(map, 0);
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    let missing = property(&Json::Null, 0);
    Value::Map(Arc::new(Map { entries, show: Show::Json, absent: false, missing }))
}

fn property_entries(map: &serde_json::Map<String, Json>, depth: usize) -> Vec<(Arc<str>, Value)> {
    map.iter().map(|(key, json)| (Arc::from(key.as_str()), property(json, depth))).collect()
}

/// A parameter. Those within it keep the order in which they came.
fn property(json: &Json, depth: usize) -> Value {
    let depth = depth + 1;
    let inner =
        json.get("properties").and_then(Json::as_object).filter(|_| depth < MAX_SCHEMA_DEPTH);
    let inner = match inner {
        Some(map) => Value::map(property_entries(map, depth), Show::Json),
        None => Value::Nil,
    };
    let alternatives =
        json.get("anyOf").and_then(Json::as_array).filter(|_| depth < MAX_SCHEMA_DEPTH);
    let alternatives = match alternatives {
        Some(list) => Value::list(list.iter().map(|json| property(json, depth)).collect()),
        None => Value::List(List::absent(Show::Plain)),
    };
    let listed = json.get("enum").and_then(Json::as_array);
    let listed = listed.map_or(Value::List(List::absent(Show::Plain)), |list| {
        Value::list(list.iter().map(Value::from).collect())
    });
    let fields = vec![
        Field::json("AnyOf", "anyOf?", alternatives),
        Field::json("Type", "type?", texts_of(json, "type", Show::Types)),
        Field::json("Items", "items?", any(json, "items")),
        Field::json("Description", "description?", text(json, "description")),
        Field::json("Enum", "enum?", listed),
        Field::json("Properties", "properties?", inner),
        Field::json("Required", "required?", texts_of(json, "required", Show::Plain)),
    ];
    Value::structure("tool's parameter", Show::Plain, fields)
}

/// One text or a list of them.
fn texts_of(json: &Json, key: &str, show: Show) -> Value {
    let one = json.get(key);
    let texts: Option<Vec<Value>> = match one {
        Some(Json::String(text)) => Some(vec![Value::text(text)]),
        Some(Json::Array(list)) => {
            Some(list.iter().filter_map(Json::as_str).map(Value::text).collect())
        }
        _ => None,
    };
    Value::List(texts.map_or_else(|| List::absent(show), |texts| List::new(texts, show)))
}
