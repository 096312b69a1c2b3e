//! JSON schemas in the words that llguidance understands, so that every answer is valid for the schema as it was sent: formats that no standard
//! knows say nothing, and alternatives of `oneOf` are set apart. References are written without escapes. Absent: keywords that llguidance refuses; these stay refused.

use serde_json::{Map, Value, json};

macro_rules! date {
    () => {
        "[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
    };
}

macro_rules! time {
    () => {
        r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
    };
}

/// Formats that validators know by the standards. llguidance follows some of them and refuses the others; any other name says nothing.
const STANDARD: [&str; 19] = [
    "date",
    "time",
    "date-time",
    "duration",
    "email",
    "idn-email",
    "hostname",
    "idn-hostname",
    "ipv4",
    "ipv6",
    "uri",
    "uri-reference",
    "uri-template",
    "iri",
    "iri-reference",
    "uuid",
    "json-pointer",
    "relative-json-pointer",
    "regex",
];
/// An address that every validator takes.
const EMAIL: &str = r"^[A-Za-z0-9_+-]{1,20}(\.[A-Za-z0-9_+-]{1,20}){0,2}@([A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?\.){1,4}[A-Za-z]{2,12}$";
/// Expressions that look ahead, which no automaton can, as libraries write them, and others for the same texts.
const SAME: [(&str, &str); 1] = [(
    // Zod's email; fewer texts, all of which are addresses for validators, too.
    r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$",
    EMAIL,
)];
/// The longest texts of formats for which their standards have a limit, characters.
const LENGTHS: [(&str, u64); 1] = [("hostname", 253)];
/// Formats as expressions, where what the standards allow is more than what validators take: leap seconds, small letters, quoted names.
/// 29 February is left out.
const EXPRESSED: [(&str, &str); 3] = [
    ("time", concat!("^", time!(), "$")),
    ("date-time", concat!("^", date!(), "T", time!(), "$")),
    ("email", EMAIL),
];
/// Keywords whose values are no schemas.
const DATA: [&str; 5] = ["const", "enum", "default", "examples", "required"];
/// References that are followed one after the other.
const HOPS: usize = 16;
/// Most alternatives that are compared with each other.
const MOST: usize = 64;

/// A schema for the same or fewer values.
pub(super) fn adapted(schema: &Value) -> Value {
    let mut out = schema.clone();
    adapt(&mut out, schema);
    let mut escaped = Vec::new();
    rename(&mut out, &mut escaped);
    for i in 0.. {
        let Some(to) = escaped.get(i) else { break };
        let target = schema.pointer(to.trim_start_matches('#'));
        if let (Some(target), Some(map)) = (target, out.as_object_mut()) {
            let mut target = target.clone();
            adapt(&mut target, schema);
            rename(&mut target, &mut escaped);
            let all = map.entry("$defs").or_insert_with(|| json!({}));
            all.as_object_mut().and_then(|all| all.insert(name(i), target));
        }
    }
    out
}

/// Gives definitions behind references with escapes, which llguidance does not know, names of their own.
fn rename(value: &mut Value, escaped: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, escaped)),
        Value::Object(map) => {
            if let Some(Value::String(to)) = map.get_mut("$ref")
                && to.starts_with("#/")
                && to.contains('~')
            {
                let known = escaped.iter().position(|known| known == to);
                let i = known.unwrap_or(escaped.len());
                if known.is_none() {
                    escaped.push(to.clone());
                }
                *to = format!("#/$defs/{}", name(i));
            }
            let inner = map.iter_mut().filter(|(key, _)| !DATA.contains(&key.as_str()));
            inner.for_each(|(_, value)| rename(value, escaped));
        }
        _ => {}
    }
}

fn name(i: usize) -> String {
    format!("escaped reference {i}")
}

fn adapt(value: &mut Value, root: &Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| adapt(item, root)),
        Value::Object(map) => {
            texts(map);
            let inner = map.iter_mut().filter(|(key, _)| !DATA.contains(&key.as_str()));
            inner.for_each(|(_, value)| adapt(value, root));
            if let Some(Value::Array(options)) = map.get_mut("oneOf") {
                set_apart(options, root);
            }
        }
        _ => {}
    }
}

/// Formats and expressions.
fn texts(map: &mut Map<String, Value>) {
    if let Some(Value::String(pattern)) = map.get_mut("pattern") {
        *pattern = match SAME.iter().find(|(known, _)| known == pattern) {
            Some((_, same)) => (*same).to_owned(),
            None => with_common_blanks(pattern),
        };
    }
    let Some(format) = map.get("format").and_then(Value::as_str) else { return };
    if !STANDARD.contains(&format) {
        map.remove("format");
    } else if let Some((_, pattern)) = EXPRESSED.iter().find(|(name, _)| *name == format)
        && map.get("pattern").is_none_or(|own| own == pattern)
    {
        map.insert("pattern".to_owned(), (*pattern).into());
        map.remove("format");
    } else if let Some(&(_, most)) = LENGTHS.iter().find(|(name, _)| *name == format) {
        let most = map.get("maxLength").and_then(Value::as_u64).map_or(most, |n| n.min(most));
        map.insert("maxLength".to_owned(), most.into());
    }
}

/// An expression whose `\s` are blanks in Rust's expressions and in ECMAScript's, where U+0085 is none. Sets of what must not come stay.
fn with_common_blanks(pattern: &str) -> String {
    const BLANKS: &str = r" \t\n\r\f\v";
    let (mut out, mut chars) = (String::new(), pattern.chars().peekable());
    // Within a set: whether of what must not come.
    let mut set = None;
    while let Some(c) = chars.next() {
        match (c, set) {
            ('\\', _) => match (chars.next(), set) {
                (Some('s'), None) => out += &format!("[{BLANKS}]"),
                (Some('s'), Some(false)) => out += BLANKS,
                (next, _) => out.extend(std::iter::once('\\').chain(next)),
            },
            ('[', None) => {
                set = Some(chars.peek() == Some(&'^'));
                out.push(c);
            }
            (']', Some(_)) => {
                set = None;
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

/// Narrows alternatives of `oneOf` until no value fits two of them, as far as that can be done: those that share a property of
/// different constants must have it, and of two objects each does without a property that the other requires.
fn set_apart(options: &mut [Value], root: &Value) {
    if options.len() > MOST {
        return;
    }
    let seen: Vec<Map<String, Value>> =
        options.iter().map(|option| resolved(option, root).cloned().unwrap_or_default()).collect();
    let mut more: Vec<Map<String, Value>> = vec![Map::new(); options.len()];
    for i in 0..seen.len() {
        for j in i + 1..seen.len() {
            let (a, b) = (&seen[i], &seen[j]);
            if differ(a, b) {
                continue;
            }
            if let Some(key) = told_by(a, b) {
                if !required(a).chain(required(b)).any(|own| own == key) {
                    [i, j].into_iter().for_each(|k| require(&mut more[k], &key));
                }
            } else {
                // An answer by one way must not fit the other as it was sent, and the other way round.
                for (k, without) in [(i, lacking(a, b)), (j, lacking(b, a))] {
                    without.iter().for_each(|key| forbid(&mut more[k], key));
                }
            }
        }
    }
    for (option, more) in options.iter_mut().zip(more).filter(|(_, more)| !more.is_empty()) {
        match option.as_object_mut().filter(|map| !map.contains_key("$ref")) {
            Some(map) => merge(map, &more),
            None => *option = json!({ "allOf": [option.take(), more] }),
        }
    }
}

/// Adds what [`require`] and [`forbid`] noted.
fn merge(map: &mut Map<String, Value>, more: &Map<String, Value>) {
    required(more).for_each(|key| require(map, key));
    let forbidden = more.get("properties").and_then(Value::as_object);
    forbidden.into_iter().flatten().for_each(|(key, _)| forbid(map, key));
}

/// A schema behind its references within the document; `None` for what is no object.
fn resolved<'s>(mut schema: &'s Value, root: &'s Value) -> Option<&'s Map<String, Value>> {
    for _ in 0..HOPS {
        let map = schema.as_object()?;
        let Some(Value::String(to)) = map.get("$ref") else { return Some(map) };
        schema = root.pointer(to.strip_prefix('#')?)?;
    }
    None
}

/// The values that a schema lists, if it does.
fn listed(schema: &Map<String, Value>) -> Option<Vec<&Value>> {
    let constant = schema.get("const").map(|value| vec![value]);
    constant.or_else(|| Some(schema.get("enum")?.as_array()?.iter().collect()))
}

/// The types of values, if they are said; an integer is a number.
fn types(schema: &Map<String, Value>) -> Option<Vec<&str>> {
    let names = match (schema.get("type"), listed(schema)) {
        (_, Some(values)) => values.into_iter().map(kind).collect(),
        (Some(Value::String(name)), None) => vec![name.as_str()],
        (Some(Value::Array(names)), None) => names.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    Some(names.into_iter().map(|name| if name == "integer" { "number" } else { name }).collect())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn none_in_common<T: PartialEq>(a: &[T], b: &[T]) -> bool {
    !a.iter().any(|value| b.contains(value))
}

/// Whether no value fits both, by their types, constants, or a property that one requires.
fn differ(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    let by = |found: Option<bool>| found.unwrap_or(false);
    let types = types(a).zip(types(b)).map(|(a, b)| none_in_common(&a, &b));
    let values = listed(a).zip(listed(b)).map(|(a, b)| none_in_common(&a, &b));
    let closed = |open: &Map<String, Value>, closed: &Map<String, Value>| {
        required(open).any(|key| !may_have(closed, key))
    };
    by(types) || by(values) || is_object(a) && is_object(b) && (closed(a, b) || closed(b, a))
}

fn is_object(schema: &Map<String, Value>) -> bool {
    types(schema) == Some(vec!["object"])
}

fn required(schema: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let names = schema.get("required").and_then(Value::as_array);
    names.into_iter().flatten().filter_map(Value::as_str)
}

fn property<'s>(schema: &'s Map<String, Value>, key: &str) -> Option<&'s Value> {
    schema.get("properties")?.get(key)
}

fn may_have(schema: &Map<String, Value>, key: &str) -> bool {
    let open = schema.get("additionalProperties") != Some(&Value::Bool(false));
    match property(schema, key) {
        Some(property) => *property != Value::Bool(false),
        None => open || schema.contains_key("patternProperties"),
    }
}

/// A property of both that lists values for each of which only one is right.
fn told_by(a: &Map<String, Value>, b: &Map<String, Value>) -> Option<String> {
    let values = |schema: &'_ Value| -> Option<Vec<Value>> {
        Some(listed(schema.as_object()?)?.into_iter().cloned().collect())
    };
    let tells = |(key, of_a): (&String, &Value)| {
        let apart = none_in_common(&values(of_a)?, &values(property(b, key)?)?);
        apart.then(|| key.clone())
    };
    a.get("properties")?.as_object()?.iter().find_map(tells)
}

/// A property that `b` requires and `a` can do without.
fn lacking(a: &Map<String, Value>, b: &Map<String, Value>) -> Option<String> {
    required(b).find(|key| !required(a).any(|own| own == *key)).map(str::to_owned)
}

fn require(more: &mut Map<String, Value>, key: &str) {
    let names = more.entry("required").or_insert_with(|| json!([]));
    if let Some(names) = names.as_array_mut().filter(|names| !names.iter().any(|name| name == key))
    {
        names.push(key.into());
    }
}

fn forbid(more: &mut Map<String, Value>, key: &str) {
    if let Some(properties) = more.entry("properties").or_insert_with(|| json!({})).as_object_mut()
    {
        properties.insert(key.to_owned(), Value::Bool(false));
    }
}
