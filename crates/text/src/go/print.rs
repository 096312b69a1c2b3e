//! How Go writes values: `%v` of `fmt`, and `encoding/json` with its escapes of `<`, `>` and `&`.
//! Everything goes through a buffer with an end, so that no template can write more than it is allowed. Absent: indentation.

use super::value::{List, Map, Show, Struct, Value};

/// Why something could not be done.
#[derive(Debug)]
pub(super) enum Refusal {
    /// What is wrong, in words.
    Wrong(String),
    /// The buffer is full.
    Full,
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Refusal::Wrong(message)
    }
}

impl From<&str> for Refusal {
    fn from(message: &str) -> Self {
        Refusal::Wrong(message.to_owned())
    }
}

/// Bytes up to a limit.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    /// All that was written or compared on the way, in bytes.
    pub(super) work: usize,
    room: usize,
}

impl Buffer {
    pub(super) fn new(room: usize) -> Self {
        Self { bytes: Vec::new(), work: 0, room }
    }

    /// How many bytes more it takes.
    pub(super) fn left(&self) -> usize {
        self.room.saturating_sub(self.bytes.len())
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if bytes.len() > self.left() {
            return Err(Refusal::Full);
        }
        self.work += bytes.len();
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn push_str(&mut self, text: &str) -> Result<(), Refusal> {
        self.push(text.as_bytes())
    }

    /// The same byte many times.
    pub(super) fn repeat(&mut self, byte: u8, times: usize) -> Result<(), Refusal> {
        if times > self.left() {
            return Err(Refusal::Full);
        }
        self.work += times;
        self.bytes.resize(self.bytes.len() + times, byte);
        Ok(())
    }

    /// What is written on the way to something else.
    pub(super) fn aside(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<(), Refusal>,
    ) -> Result<Vec<u8>, Refusal> {
        let mut aside = Self::new(self.left());
        write(&mut aside)?;
        self.work += aside.work;
        Ok(aside.bytes)
    }

    /// Items with something between them.
    fn joined<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        between: &str,
        mut write: impl FnMut(&mut Self, T) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        for (i, item) in items.into_iter().enumerate() {
            if i > 0 {
                self.push_str(between)?;
            }
            write(self, item)?;
        }
        Ok(())
    }
}

/// What an action writes for nothing.
pub(super) const NO_VALUE: &str = "<no value>";

/// What an action writes.
pub(super) fn write_action(value: &Value, out: &mut Buffer) -> Result<(), Refusal> {
    match value {
        Value::Nil => out.push_str(NO_VALUE),
        _ => write_plain(value, out),
    }
}

/// As `%v`.
pub(super) fn write_plain(value: &Value, out: &mut Buffer) -> Result<(), Refusal> {
    match value {
        Value::Nil => out.push_str("<nil>"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(i) => out.push_str(&i.to_string()),
        Value::Float(f) => out.push_str(&general(*f)),
        Value::Text(text) => out.push(text),
        Value::List(list) => write_list(list, out),
        Value::Map(map) if map.show == Show::Json && map.absent => out.push_str("{}"),
        Value::Map(map) if map.show == Show::Json => write_json(value, out),
        Value::Map(map) => write_map(map, out),
        Value::Struct(s) if s.show == Show::Json => write_json(value, out),
        Value::Struct(s) => {
            out.push_str("{")?;
            out.joined(&s.fields, " ", |out, field| write_plain(&field.value, out))?;
            out.push_str("}")
        }
    }
}

fn write_list(list: &List, out: &mut Buffer) -> Result<(), Refusal> {
    match (list.show, list.items()) {
        (Show::Json, _) => json_list(list, out),
        (Show::Types, []) => Ok(()),
        (Show::Types, [one]) => write_plain(one, out),
        (_, items) => {
            out.push_str("[")?;
            out.joined(items, " ", |out, item| write_plain(item, out))?;
            out.push_str("]")
        }
    }
}

fn write_map(map: &Map, out: &mut Buffer) -> Result<(), Refusal> {
    out.push_str("map[")?;
    out.joined(&map.entries, " ", |out, (key, value)| {
        out.push_str(key)?;
        out.push_str(":")?;
        write_plain(value, out)
    })?;
    out.push_str("]")
}

/// As `json.Marshal`.
pub(super) fn write_json(value: &Value, out: &mut Buffer) -> Result<(), Refusal> {
    match value {
        Value::Nil => out.push_str("null"),
        Value::Bool(_) | Value::Int(_) => write_plain(value, out),
        Value::Float(f) => json_float(*f, out),
        Value::Text(text) => json_text(text, out),
        Value::List(list) => json_list(list, out),
        Value::Map(map) if map.absent => out.push_str("null"),
        Value::Map(map) => {
            out.push_str("{")?;
            out.joined(&map.entries, ",", |out, (key, value)| {
                json_text(key.as_bytes(), out)?;
                out.push_str(":")?;
                write_json(value, out)
            })?;
            out.push_str("}")
        }
        Value::Struct(s) => json_struct(s, out),
    }
}

fn json_list(list: &List, out: &mut Buffer) -> Result<(), Refusal> {
    match (list.show, list.items()) {
        _ if list.absent => out.push_str("null"),
        (Show::Types, [one]) => write_json(one, out),
        (_, items) => {
            out.push_str("[")?;
            out.joined(items, ",", |out, item| write_json(item, out))?;
            out.push_str("]")
        }
    }
}

fn json_struct(s: &Struct, out: &mut Buffer) -> Result<(), Refusal> {
    out.push_str("{")?;
    let shown = s.fields.iter().filter(|field| !(field.optional && field.value.is_empty()));
    out.joined(shown, ",", |out, field| {
        json_text(field.key.as_bytes(), out)?;
        out.push_str(":")?;
        write_json(&field.value, out)
    })?;
    out.push_str("}")
}

fn json_text(text: &[u8], out: &mut Buffer) -> Result<(), Refusal> {
    out.push_str("\"")?;
    for c in chars(text) {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)))
            }
            char::REPLACEMENT_CHARACTER => out.push_str("\u{fffd}"),
            _ => out.push_str(c.encode_utf8(&mut [0; 4])),
        }?;
    }
    out.push_str("\"")
}

/// The characters of a text; each byte that is no part of one counts as a replacement character.
pub(super) fn chars(text: &[u8]) -> impl Iterator<Item = char> + '_ {
    text.utf8_chunks().flat_map(|chunk| {
        let broken = chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER);
        chunk.valid().chars().chain(broken)
    })
}

/// Whether Go writes a character as it is.
pub(super) fn is_print(c: char) -> bool {
    use unicode_properties::{GeneralCategoryGroup as Group, UnicodeGeneralCategory};
    let seen = !matches!(c.general_category_group(), Group::Other | Group::Separator);
    seen || c == ' '
}

fn json_float(f: f64, out: &mut Buffer) -> Result<(), Refusal> {
    if !f.is_finite() {
        return Err("a number that JSON does not have".into());
    }
    let size = f.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let (mantissa, exponent) = scientific(f);
        let sign = if exponent < 0 { "-" } else { "+" };
        return out.push_str(&format!("{mantissa}e{sign}{}", exponent.abs()));
    }
    out.push_str(&f.to_string())
}

/// The shortest digits that read as `f`, as `d.ddd` and a power of ten.
pub(super) fn scientific(f: f64) -> (String, i32) {
    let text = format!("{f:e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => (mantissa.to_owned(), exponent.parse().unwrap_or(0)),
        None => (text, 0),
    }
}

/// From this power of ten on `%v` and `%g` write an exponent.
const LARGE: i32 = 6;

/// As `%g` with the shortest digits.
pub(super) fn general(f: f64) -> String {
    if let Some(name) = not_finite(f) {
        return name.to_owned();
    }
    let (mantissa, exponent) = scientific(f);
    let plain = (-4..LARGE).contains(&exponent);
    if plain { f.to_string() } else { with_exponent(&mantissa, exponent) }
}

/// A number's digits with its power of ten in Go's way: a sign, and two digits at least.
pub(super) fn with_exponent(mantissa: &str, exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// Go's names of what is no number.
pub(super) fn not_finite(f: f64) -> Option<&'static str> {
    match f {
        _ if f.is_nan() => Some("NaN"),
        f64::INFINITY => Some("+Inf"),
        f64::NEG_INFINITY => Some("-Inf"),
        _ => None,
    }
}
