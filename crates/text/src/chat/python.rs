//! Values written as Python's `json.dumps` writes them: its separators, its floats, its escapes.

use std::fmt::Write as _;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

/// Deeper values are refused: Rust's stack is the resource.
const MAX_DEPTH: usize = 100;

/// The arguments of `json.dumps`.
pub(super) struct Json {
    pub(super) indent: Option<String>,
    pub(super) item: String,
    pub(super) key: String,
    pub(super) ascii: bool,
    pub(super) sort: bool,
}

impl Default for Json {
    fn default() -> Self {
        let (item, key) = (", ".to_owned(), ": ".to_owned());
        Self { indent: None, item, key, ascii: false, sort: false }
    }
}

/// Appends `value` to `out`.
pub(super) fn write_json(
    value: &Value,
    style: &Json,
    depth: usize,
    out: &mut String,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::new(ErrorKind::InvalidOperation, "value too deep for tojson"));
    }
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => write_number(value, out),
        ValueKind::String => write_string(value.as_str().unwrap_or_default(), style.ascii, out),
        ValueKind::Map => write_map(value, style, depth, out)?,
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter()?;
            write_items(items, ['[', ']'], style, depth, out, |item, out| {
                write_json(&item, style, depth + 1, out)
            })?;
        }
        kind => {
            let message = format!("a value of type {kind} is not JSON serializable");
            return Err(Error::new(ErrorKind::InvalidOperation, message));
        }
    }
    Ok(())
}

fn write_map(value: &Value, style: &Json, depth: usize, out: &mut String) -> Result<(), Error> {
    let mut keys: Vec<Value> = value.try_iter()?.collect();
    if style.sort {
        keys.sort();
    }
    write_items(keys.into_iter(), ['{', '}'], style, depth, out, |key, out| {
        match key.kind() {
            ValueKind::String => write_string(key.as_str().unwrap_or_default(), style.ascii, out),
            _ => {
                out.push('"');
                write_json(&key, style, depth + 1, out)?;
                out.push('"');
            }
        }
        out.push_str(&style.key);
        write_json(&value.get_item(&key)?, style, depth + 1, out)
    })
}

/// Brackets, separators and indentation around what `each` writes.
fn write_items(
    items: impl Iterator<Item = Value>,
    [open, close]: [char; 2],
    style: &Json,
    depth: usize,
    out: &mut String,
    mut each: impl FnMut(Value, &mut String) -> Result<(), Error>,
) -> Result<(), Error> {
    let new_line = |depth: usize, out: &mut String| {
        if let Some(indent) = &style.indent {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    };
    out.push(open);
    let mut empty = true;
    for item in items {
        if !empty {
            out.push_str(&style.item);
        }
        empty = false;
        new_line(depth + 1, out);
        each(item, out)?;
    }
    if !empty {
        new_line(depth, out);
    }
    out.push(close);
    Ok(())
}

fn write_number(value: &Value, out: &mut String) {
    if value.is_integer() {
        let _ = write!(out, "{value}");
        return;
    }
    let number = f64::try_from(value.clone()).unwrap_or(f64::NAN);
    out.push_str(&python_float(number));
}

/// Python's shortest writing: an exponent below 1e-4 and from 1e16 on, with a sign and two digits.
fn python_float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let magnitude = number.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{number:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or_default();
        return format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
    format!("{number:?}")
}

fn write_string(text: &str, ascii: bool, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || ascii && !(' '..='~').contains(&c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use minijinja::value::Serde;

    use super::*;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        let cases = [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (1.5e-5, "1.5e-05"),
            (0.0001, "0.0001"),
            (-0.0, "-0.0"),
            (123456789012345.0, "123456789012345.0"),
            (1e100, "1e+100"),
        ];
        for (number, expected) in cases {
            assert_eq!(python_float(number), expected);
        }
    }

    #[test]
    fn json_has_pythons_separators_and_escapes() {
        let value =
            Value::from(Serde(serde_json::json!({"a": [1, 2.5, null, true], "<b>": "é\"\n\u{1}"})));
        let write = |style: &Json| {
            let mut out = String::new();
            write_json(&value, style, 0, &mut out).unwrap();
            out
        };
        assert_eq!(write(&Json::default()), r#"{"a": [1, 2.5, null, true], "<b>": "é\"\n\u0001"}"#);
        let style =
            Json { indent: Some("  ".into()), item: ",".into(), ascii: true, ..Json::default() };
        assert_eq!(
            write(&style),
            "{\n  \"a\": [\n    1,\n    2.5,\n    null,\n    true\n  ],\n  \"<b>\": \"\\u00e9\\\"\\n\\u0001\"\n}"
        );
    }
}
