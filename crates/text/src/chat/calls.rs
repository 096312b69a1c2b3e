//! Calls out of the text of one block, by the syntax of its family.
//! Every reader says what it did not use, so that no text is lost; what it cannot read is `None`. Types of arguments written without
//! quotes come from the tool's schema. Absent: streams and markers (`parser.rs`), checks of arguments against the schema.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use regex::Regex;
use serde_json::{Map, Value};

use super::format::Syntax;
use super::literals::{Reader, python};

/// An expression of the table, compiled once: calls are short, compiling is not.
pub(super) fn expression(source: &'static str) -> Option<Regex> {
    static COMPILED: Mutex<BTreeMap<&str, Regex>> = Mutex::new(BTreeMap::new());
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(regex) = compiled.get(source) {
        return Some(regex.clone());
    }
    let regex = Regex::new(source).ok()?;
    compiled.insert(source, regex.clone());
    Some(regex)
}

/// One call as the model wrote it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) id: Option<String>,
    pub(super) name: String,
    pub(super) arguments: Map<String, Value>,
}

/// The tools offered, in OpenAI's form.
#[derive(Debug, Clone, Default)]
pub(super) struct Tools(Option<Value>);

impl Tools {
    pub(super) fn new(tools: Option<&Value>) -> Self {
        Self(tools.cloned())
    }

    fn functions(&self) -> impl Iterator<Item = &Value> {
        let tools = self.0.as_ref().and_then(Value::as_array);
        tools.into_iter().flatten().map(|tool| tool.get("function").unwrap_or(tool))
    }

    fn find(&self, name: &str) -> Option<&Value> {
        self.functions().find(|f| f.get("name").and_then(Value::as_str) == Some(name))
    }

    /// Whether calls without a marker may name this function.
    pub(super) fn allow(&self, name: &str) -> bool {
        self.0.is_none() || self.find(name).is_some()
    }

    fn schema(&self, name: &str, key: &str) -> Option<&Value> {
        self.find(name)?.get("parameters")?.get("properties")?.get(key)
    }
}

/// The calls at the front of a block's text, and the text behind them.
pub(super) fn read<'t>(
    syntax: Syntax,
    body: &'t str,
    tools: &Tools,
) -> Option<(Vec<Call>, &'t str)> {
    let (mut calls, rest) = match syntax {
        Syntax::Json => json_calls(body, named),
        Syntax::Keyed => json_calls(body, keyed),
        Syntax::Headed { head, tail } => headed(body, head, tail),
        Syntax::Tagged { call, argument } => tagged(body, call, argument, tools),
        Syntax::Python => python_calls(body).or_else(|| json_calls(body, named)),
        Syntax::Ipython => Some(ipython(body, tools)),
        Syntax::Gemma { quote } => gemma(body, quote),
    }?;
    if matches!(syntax, Syntax::Python | Syntax::Gemma { .. }) {
        calls.iter_mut().for_each(|call| retype(call, tools));
    }
    let valid = |call: &Call| !call.name.is_empty() && call.name.len() <= 256;
    (!calls.is_empty() && calls.iter().all(valid)).then_some((calls, rest))
}

/// JSON values, one after another or in lists, with commas or a fence around.
fn json_calls(body: &str, convert: fn(Value) -> Option<Call>) -> Option<(Vec<Call>, &str)> {
    let (mut calls, mut rest) = (Vec::new(), body);
    loop {
        let start = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, ',' | ';'));
        let start = start.strip_prefix("```json").unwrap_or(start);
        let start = start.strip_prefix("```").unwrap_or(start).trim_start();
        let Some((value, behind)) = json_value(start) else {
            return Some((calls, start));
        };
        let values = match value {
            Value::Array(values) => values,
            value => vec![value],
        };
        let found: Option<Vec<Call>> = values.into_iter().map(convert).collect();
        match found {
            Some(found) => calls.extend(found),
            None => return Some((calls, rest)),
        }
        rest = behind;
    }
}

fn json_value(text: &str) -> Option<(Value, &str)> {
    if !text.starts_with(['{', '[', '"']) {
        return None;
    }
    let mut stream = serde_json::Deserializer::from_str(text).into_iter();
    let value = stream.next()?.ok()?;
    Some((value, text.get(stream.byte_offset()..)?))
}

/// An object with a name and arguments, as families variously call them.
fn named(value: Value) -> Option<Call> {
    let Value::Object(mut map) = value else { return None };
    if let Some(function @ Value::Object(_)) = map.shift_remove("function") {
        let mut call = named(function)?;
        call.id = call.id.or_else(|| text_of(&mut map, &["id"]));
        return Some(call);
    }
    let name = text_of(&mut map, &["name", "tool_name"])?;
    let id = text_of(&mut map, &["id", "tool_call_id"]);
    let arguments =
        ["arguments", "parameters", "args"].iter().find_map(|key| map.shift_remove(*key));
    Some(Call { id, name, arguments: object(arguments.unwrap_or(Value::Null))? })
}

fn text_of(map: &mut Map<String, Value>, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| match map.get(*key) {
        Some(Value::String(text)) => Some(text.clone()),
        _ => None,
    })
}

/// An object whose only key is the function.
fn keyed(value: Value) -> Option<Call> {
    let Value::Object(map) = value else { return None };
    let mut pairs = map.into_iter();
    let ((name, arguments), None) = (pairs.next()?, pairs.next()) else { return None };
    Some(Call { id: None, name, arguments: object(arguments)? })
}

/// Arguments: an object, a string of JSON, or nothing.
fn object(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(map) => Some(map),
        Value::Null => Some(Map::new()),
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(Value::Object(map)) => Some(map),
            _ => None,
        },
        _ => None,
    }
}

fn headed<'t>(
    body: &'t str,
    head: &'static str,
    tail: &'static str,
) -> Option<(Vec<Call>, &'t str)> {
    let head = expression(head)?;
    let found = head.captures(body);
    let Some(found) = found else {
        // The older form of the same marker.
        return json_calls(body, named);
    };
    let name = found.name("name")?.as_str().to_owned();
    let id = found.name("id").map(|id| id.as_str().trim().to_owned()).filter(|id| !id.is_empty());
    let behind = body.get(found.get(0)?.end()..)?.trim_start();
    let (arguments, mut rest) = json_value(behind)?;
    if !tail.is_empty() {
        let end = expression(tail)?.find(rest).map_or(0, |m| m.end());
        rest = rest.get(end..)?;
    }
    Some((vec![Call { id, name, arguments: object(arguments)? }], rest))
}

fn tagged<'t>(
    body: &'t str,
    call: &'static str,
    argument: &'static str,
    tools: &Tools,
) -> Option<(Vec<Call>, &'t str)> {
    let (call, argument) = (expression(call)?, expression(argument)?);
    let (mut calls, mut rest) = (Vec::new(), body);
    while let Some(found) = call.captures(rest) {
        let name = found.name("name")?.as_str().trim().to_owned();
        let args = found.name("args")?.as_str();
        let (mut arguments, mut end) = (Map::new(), 0);
        for pair in argument.captures_iter(args) {
            let whole = pair.get(0)?;
            if !is_filler(args.get(end..whole.start())?) {
                return None;
            }
            end = whole.end();
            let text = |part| pair.name(part).map(|m| m.as_str());
            let key = text("key")?.to_owned();
            let said = text("string").map(|s| s == "true").or(text("type").map(|t| t == "string"));
            let value = typed(text("value")?, said, tools.schema(&name, &key));
            arguments.insert(key, value);
        }
        if !is_filler(args.get(end..)?) {
            return None;
        }
        calls.push(Call { id: None, name, arguments });
        rest = rest.get(found.get(0)?.end()..)?;
    }
    Some((calls, rest))
}

/// Nothing, or the rest of a tag that an argument's expression does not cover.
fn is_filler(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || text.len() < 256 && text.ends_with('>') && !text.contains(['<', ' ', '\n'])
}

/// A value written without quotes: by what the model said, else by the schema, else by its looks.
fn typed(text: &str, said: Option<bool>, schema: Option<&Value>) -> Value {
    let text = text.strip_prefix('\n').unwrap_or(text);
    let text = text.strip_suffix('\n').unwrap_or(text);
    let is_string = said.or_else(|| schema.and_then(takes_string)).unwrap_or(false);
    if is_string {
        return text.into();
    }
    let json = serde_json::from_str(text.trim()).ok();
    json.or_else(|| python(text)).unwrap_or_else(|| text.into())
}

/// Whether a schema wants a string; `None` if it does not say.
fn takes_string(schema: &Value) -> Option<bool> {
    match schema.get("type")? {
        Value::String(kind) => Some(kind == "string"),
        Value::Array(kinds) => Some(kinds.iter().any(|kind| kind == "string")),
        _ => None,
    }
}

/// Values become what the schema wants where that is certain: some families quote everything, some nothing.
fn retype(call: &mut Call, tools: &Tools) {
    for (key, value) in &mut call.arguments {
        let Some(schema) = tools.schema(&call.name, key) else { continue };
        let only_string = schema.get("type").is_some_and(|kind| kind == "string");
        match (takes_string(schema), &*value) {
            (Some(false), Value::String(text)) => *value = typed(text, None, None),
            (_, Value::Number(number)) if only_string => *value = number.to_string().into(),
            _ => {}
        }
    }
}

/// `[f(a=1), g()]`, `f(a=1)` or `print(f(a=1))`.
fn python_calls(body: &str) -> Option<(Vec<Call>, &str)> {
    let mut reader = Reader::new(body, None);
    let listed = reader.take("[");
    let mut calls = Vec::new();
    loop {
        if listed && reader.take("]") {
            break;
        }
        calls.push(python_call(&mut reader)?);
        let more = reader.take(",");
        if !listed && !more {
            // On lines of their own.
            let mut next = reader.clone();
            let Some(call) = python_call(&mut next) else { break };
            calls.push(call);
            reader = next;
        } else if listed && !more && !reader.rest.starts_with(']') {
            return None;
        }
    }
    Some((calls, reader.rest))
}

fn python_call(reader: &mut Reader<'_>) -> Option<Call> {
    let mut name = reader.name()?;
    let mut open = reader.take("(");
    let printed = open && name == "print";
    if printed {
        name = reader.name()?;
        open = reader.take("(");
    }
    let arguments = open.then(|| reader.pairs("=", ")"))??;
    if printed && !reader.take(")") {
        return None;
    }
    let name = name.strip_suffix(".call").unwrap_or(name).to_owned();
    Some(Call { id: None, name, arguments })
}

/// What Llama writes for its interpreter: a call of a tool, or a program.
fn ipython<'t>(body: &'t str, tools: &Tools) -> (Vec<Call>, &'t str) {
    if let Some((calls, rest)) = json_calls(body, named).filter(|(calls, _)| !calls.is_empty()) {
        return (calls, rest);
    }
    let builtin = body.split('(').next().is_some_and(|name| name.trim().ends_with(".call"));
    let known = |calls: &[Call]| calls.iter().all(|c| builtin || tools.find(&c.name).is_some());
    match python_calls(body) {
        Some((calls, rest)) if known(&calls) => (calls, rest),
        _ => {
            let arguments = Map::from_iter([("code".to_owned(), body.trim().into())]);
            (vec![Call { id: None, name: "python".to_owned(), arguments }], "")
        }
    }
}

fn gemma<'t>(body: &'t str, quote: &'static str) -> Option<(Vec<Call>, &'t str)> {
    let mut reader = Reader::new(body, Some(quote));
    let mut calls = Vec::new();
    while reader.take("call:") {
        let name = reader.name()?.to_owned();
        if !reader.take("{") {
            return None;
        }
        let arguments = reader.pairs(":", "}")?;
        calls.push(Call { id: None, name, arguments });
    }
    Some((calls, reader.rest))
}

/// The calls of an answer that has no marker; they must be all of the text and name offered tools.
pub(super) fn read_bare(syntax: Syntax, body: &str, tools: &Tools) -> Option<Vec<Call>> {
    let (calls, rest) = read(syntax, body, tools)?;
    let known = calls.iter().all(|call| tools.allow(&call.name));
    (known && rest.trim().is_empty()).then_some(calls)
}

/// Arguments of a message whose header named the function.
pub(super) fn arguments(body: &str) -> Option<Map<String, Value>> {
    match body.trim() {
        "" => Some(Map::new()),
        text => object(serde_json::from_str(text).ok()?),
    }
}

/// Whether a text that starts so can still become a call without a marker.
pub(super) fn may_be_bare(syntax: Syntax, text: &str) -> bool {
    match syntax {
        Syntax::Python => {
            let Some(inner) = text.strip_prefix('[') else { return text.is_empty() };
            let inner = inner.trim_start();
            let stop = inner.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | '-')));
            stop.is_none_or(|at| {
                at > 0 && inner.get(at..).is_some_and(|rest| rest.starts_with('('))
            })
        }
        _ => text.starts_with(['{', '[']),
    }
}
