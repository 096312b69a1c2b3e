//! The functions of templates: Go's own, and those that the ecosystem adds (`json`, dates, TypeScript types).
//! `and` and `or` do not stand here: they are evaluated lazily, by `eval.rs`. Absent: `call`, since no value is a function.

use std::cmp::Ordering;
use std::time::SystemTime;

use jiff::{Timestamp, ToSpan, Zoned, tz::TimeZone};

use super::print::{Buffer, NO_VALUE, Refusal, chars, is_print, write_json, write_plain};
use super::printf;
use super::value::{Struct, Value};

/// A function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    And,
    Or,
    Not,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Len,
    Index,
    Slice,
    Print,
    Printf,
    Println,
    Html,
    Js,
    UrlQuery,
    Json,
    CurrentDate,
    YesterdayDate,
    ToTypeScriptType,
}

const FUNCTIONS: [(&str, Function); 22] = [
    ("and", Function::And),
    ("or", Function::Or),
    ("not", Function::Not),
    ("eq", Function::Eq),
    ("ne", Function::Ne),
    ("lt", Function::Lt),
    ("le", Function::Le),
    ("gt", Function::Gt),
    ("ge", Function::Ge),
    ("len", Function::Len),
    ("index", Function::Index),
    ("slice", Function::Slice),
    ("print", Function::Print),
    ("printf", Function::Printf),
    ("println", Function::Println),
    ("html", Function::Html),
    ("js", Function::Js),
    ("urlquery", Function::UrlQuery),
    ("json", Function::Json),
    ("currentDate", Function::CurrentDate),
    ("yesterdayDate", Function::YesterdayDate),
    ("toTypeScriptType", Function::ToTypeScriptType),
];

impl Function {
    /// The function of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        FUNCTIONS.iter().find(|(n, _)| *n == name).map(|(_, function)| *function)
    }

    pub(super) fn name(self) -> &'static str {
        FUNCTIONS.iter().find(|(_, f)| *f == self).map_or("", |(name, _)| name)
    }

    /// The least and the largest number of arguments.
    fn arity(self) -> (usize, usize) {
        use Function::*;
        match self {
            And | Or | Index | Slice | Printf | Eq => (1, usize::MAX),
            Not | Len | Json | ToTypeScriptType => (1, 1),
            Ne | Lt | Le | Gt | Ge => (2, 2),
            Print | Println | Html | Js | UrlQuery | CurrentDate | YesterdayDate => (0, usize::MAX),
        }
    }

    /// Refuses a wrong number of arguments.
    pub(super) fn check_arity(self, given: usize) -> Result<(), Refusal> {
        let (least, most) = self.arity();
        let name = self.name();
        if given < least && most == usize::MAX {
            return Err(format!(
                "wrong number of args for {name}: want at least {least} got {given}"
            )
            .into());
        }
        if !(least..=most).contains(&given) {
            return Err(format!("wrong number of args for {name}: want {least} got {given}").into());
        }
        Ok(())
    }

    /// Its value. A text is written to `out`, whose end bounds it; `now` is the time for dates.
    pub(super) fn call(
        self,
        arguments: &[Value],
        out: &mut Buffer,
        now: Option<SystemTime>,
    ) -> Result<Value, Refusal> {
        use Function::*;
        self.check_arity(arguments.len())?;
        let (first, others) = arguments.split_first().unwrap_or((&Value::Nil, &[]));
        let second = others.first().unwrap_or(&Value::Nil);
        if matches!(self, Eq | Ne | Lt | Le | Gt | Ge) {
            out.work += arguments.iter().map(text_bytes).sum::<usize>();
        }
        let order = || compare(first, second);
        Ok(match self {
            And | Or => first.clone(),
            Not => Value::Bool(!first.truth()),
            Eq => Value::Bool(equal_to_one(first, others)?),
            Ne => Value::Bool(!equal(first, second)?),
            Lt => Value::Bool(order()?.is_some_and(Ordering::is_lt)),
            Le => Value::Bool(order()?.is_some_and(Ordering::is_le)),
            // Not simply greater: what is no number is neither lower nor the same.
            Gt => Value::Bool(!order()?.is_some_and(Ordering::is_le)),
            Ge => Value::Bool(!order()?.is_some_and(Ordering::is_lt)),
            Len => Value::Int(length(first)?),
            Index if matches!(first, Value::Nil) => return Err("index of untyped nil".into()),
            Index => others.iter().try_fold(first.clone(), |item, at| index(&item, at))?,
            Slice => {
                let part = slice(first, others)?;
                out.work += text_bytes(&part);
                part
            }
            _ => {
                self.write(arguments, out, now)?;
                Value::Text(std::mem::take(&mut out.bytes).into())
            }
        })
    }

    /// Writes the value of a function that makes texts.
    fn write(
        self,
        arguments: &[Value],
        out: &mut Buffer,
        now: Option<SystemTime>,
    ) -> Result<(), Refusal> {
        let (first, others) = arguments.split_first().unwrap_or((&Value::Nil, &[]));
        match self {
            Function::Println => {
                for (i, value) in arguments.iter().enumerate() {
                    out.push_str(if i > 0 { " " } else { "" })?;
                    write_plain(value, out)?;
                }
                out.push_str("\n")
            }
            Function::Printf => match first {
                Value::Text(format) => printf::write(format, others, out),
                other => Err(wrong_type("string", other)),
            },
            Function::Html | Function::Js | Function::UrlQuery => {
                let text = out.aside(|text| print(&shown(arguments), text))?;
                escape(self, &text, out)
            }
            Function::Json => write_json(first, out),
            Function::CurrentDate => date(arguments, now, 0, out),
            Function::YesterdayDate => date(arguments, now, 1, out),
            Function::ToTypeScriptType => out.push_str(&typescript(first)),
            _ => print(arguments, out),
        }
    }
}

fn text_bytes(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        _ => 0,
    }
}

fn wrong_type(wanted: &str, found: &Value) -> Refusal {
    format!("wrong type for value; expected {wanted}; got {}", found.kind()).into()
}

fn equal_to_one(value: &Value, others: &[Value]) -> Result<bool, Refusal> {
    if others.is_empty() {
        return Err("missing argument for comparison".into());
    }
    for other in others {
        if equal(value, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equal(a: &Value, b: &Value) -> Result<bool, Refusal> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Int(a), Value::Int(b)) => Ok(a == b),
        (Value::Float(a), Value::Float(b)) => Ok(a == b),
        (Value::Text(a), Value::Text(b)) => Ok(a == b),
        _ if is_basic(a) && is_basic(b) => Err("incompatible types for comparison".into()),
        _ if a.is_nil() || b.is_nil() => Ok(a.is_nil() && b.is_nil()),
        _ if is_basic(a) || is_basic(b) => Err("incompatible types for comparison".into()),
        _ => Err(format!("non-comparable types {}, {}", a.kind(), b.kind()).into()),
    }
}

fn is_basic(value: &Value) -> bool {
    matches!(value, Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_))
}

fn compare(a: &Value, b: &Value) -> Result<Option<Ordering>, Refusal> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Ok(Some(a.cmp(b))),
        (Value::Float(a), Value::Float(b)) => Ok(a.partial_cmp(b)),
        (Value::Text(a), Value::Text(b)) => Ok(Some(a.cmp(b))),
        (Value::Bool(_), Value::Bool(_)) => Err("invalid type for comparison".into()),
        _ if is_basic(a) && is_basic(b) => Err("incompatible types for comparison".into()),
        _ => Err("invalid type for comparison".into()),
    }
}

fn length(value: &Value) -> Result<i64, Refusal> {
    let length = match value {
        Value::Text(text) => text.len(),
        Value::List(list) => list.items().len(),
        Value::Map(map) => map.entries.len(),
        other => return Err(format!("len of type {}", other.kind()).into()),
    };
    Ok(i64::try_from(length).unwrap_or(i64::MAX))
}

/// A position that is at most `most`.
fn position(value: &Value, most: usize) -> Result<usize, Refusal> {
    let Value::Int(i) = value else {
        return Err(format!("cannot index slice/array with type {}", value.kind()).into());
    };
    let at = usize::try_from(*i).ok().filter(|at| *at <= most);
    at.ok_or_else(|| format!("index out of range: {i}").into())
}

fn index(item: &Value, at: &Value) -> Result<Value, Refusal> {
    let outside = |i: usize| Refusal::Wrong(format!("index out of range: {i}"));
    match item {
        Value::List(list) => {
            let i = position(at, list.items().len())?;
            list.items().get(i).cloned().ok_or_else(|| outside(i))
        }
        Value::Text(text) => {
            let i = position(at, text.len())?;
            text.get(i).map(|byte| Value::Int(i64::from(*byte))).ok_or_else(|| outside(i))
        }
        Value::Map(map) => match at {
            Value::Text(key) => Ok(map.get(key).clone()),
            other => Err(wrong_type("string", other)),
        },
        Value::Nil => Err("index of nil".into()),
        other => Err(format!("can't index item of type {}", other.kind()).into()),
    }
}

fn slice(item: &Value, positions: &[Value]) -> Result<Value, Refusal> {
    if positions.len() > 3 {
        return Err(format!("too many slice indexes: {}", positions.len()).into());
    }
    let (length, capacity) = match item {
        Value::Text(_) if positions.len() == 3 => {
            return Err("cannot 3-index slice a string".into());
        }
        Value::Text(text) => (text.len(), text.len()),
        Value::List(list) => (list.items().len(), list.capacity()),
        Value::Nil => return Err("slice of untyped nil".into()),
        other => return Err(format!("can't slice item of type {}", other.kind()).into()),
    };
    let mut bounds = [0, length, capacity];
    for (bound, given) in bounds.iter_mut().zip(positions) {
        *bound = position(given, capacity)?;
    }
    let [from, to, end] = bounds;
    if from > to || positions.len() == 3 && to > end {
        return Err(format!("invalid slice index: {from} > {to}").into());
    }
    let part = match item {
        Value::Text(text) => text.get(from..to).map(|part| Value::Text(part.into())),
        Value::List(list) => list.part(from, to).map(Value::List),
        _ => None,
    };
    part.ok_or_else(|| "invalid slice index".into())
}

/// Arguments as an action would write them.
fn shown(arguments: &[Value]) -> Vec<Value> {
    let shown = |value: &Value| match value {
        Value::Nil => Value::text(NO_VALUE),
        value => value.clone(),
    };
    arguments.iter().map(shown).collect()
}

/// As `fmt.Sprint`: a blank between two where neither is a text.
fn print(arguments: &[Value], out: &mut Buffer) -> Result<(), Refusal> {
    let mut after_text = true;
    for value in arguments {
        let text = matches!(value, Value::Text(_));
        if !text && !after_text {
            out.push_str(" ")?;
        }
        write_plain(value, out)?;
        after_text = text;
    }
    Ok(())
}

fn escape(function: Function, text: &[u8], out: &mut Buffer) -> Result<(), Refusal> {
    if function == Function::UrlQuery {
        for &byte in text {
            match byte {
                b' ' => out.push(b"+")?,
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    out.push(&[byte])?
                }
                _ => out.push_str(&format!("%{byte:02X}"))?,
            }
        }
        return Ok(());
    }
    for c in chars(text) {
        let escaped = if function == Function::Html { html(c) } else { js(c) };
        match escaped {
            Some(text) => out.push_str(&text)?,
            None => out.push_str(c.encode_utf8(&mut [0; 4]))?,
        }
    }
    Ok(())
}

fn html(c: char) -> Option<String> {
    let text = match c {
        '\0' => "\u{fffd}",
        '"' => "&#34;",
        '\'' => "&#39;",
        '&' => "&amp;",
        '<' => "&lt;",
        '>' => "&gt;",
        _ => return None,
    };
    Some(text.to_owned())
}

fn js(c: char) -> Option<String> {
    Some(match c {
        '\\' => "\\\\".to_owned(),
        '\'' => "\\'".to_owned(),
        '"' => "\\\"".to_owned(),
        '<' | '>' | '&' | '=' | '\0'..='\x1f' => format!("\\u{:04X}", u32::from(c)),
        _ if !is_print(c) => format!("\\u{:04X}", u32::from(c)),
        _ => return None,
    })
}

/// The date so many days ago in the local zone. Arguments are texts that mean nothing yet.
fn date(
    arguments: &[Value],
    now: Option<SystemTime>,
    days: i64,
    out: &mut Buffer,
) -> Result<(), Refusal> {
    if let Some(other) = arguments.iter().find(|a| !matches!(a, Value::Text(_))) {
        return Err(wrong_type("string", other));
    }
    let wrong = |e: jiff::Error| Refusal::Wrong(e.to_string());
    let now = match now {
        Some(time) => Timestamp::try_from(time).map_err(wrong)?.to_zoned(TimeZone::system()),
        None => Zoned::now(),
    };
    let date = now.date().checked_sub(days.days()).map_err(wrong)?;
    out.push_str(&date.to_string())
}

/// The TypeScript type of a tool's parameter; of anything else `any`.
fn typescript(value: &Value) -> String {
    let Value::Struct(property) = value else { return "any".to_owned() };
    let alternatives = items(property, "AnyOf");
    let types: Vec<String> = if alternatives.is_empty() {
        items(property, "Type").iter().map(|t| typescript_name(t).to_owned()).collect()
    } else {
        alternatives.iter().map(typescript).collect()
    };
    if types.is_empty() { "any".to_owned() } else { types.join(" | ") }
}

fn items<'v>(structure: &'v Struct, name: &str) -> &'v [Value] {
    match structure.fields.iter().find(|f| f.name == name).map(|f| &f.value) {
        Some(Value::List(list)) => list.items(),
        _ => &[],
    }
}

fn typescript_name(json: &Value) -> &'static str {
    let Value::Text(name) = json else { return "any" };
    match name.as_ref() {
        b"string" => "string",
        b"number" | b"integer" => "number",
        b"boolean" => "boolean",
        b"array" => "any[]",
        b"object" => "Record<string, any>",
        b"null" => "null",
        _ => "any",
    }
}
