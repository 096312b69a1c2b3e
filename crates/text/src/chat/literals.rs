//! Values as models write them outside JSON: Python's literals and calls, and Gemma's notation with its own quotes.
//! One small recursive reader for both; whatever it cannot read is `None`. Absent: expressions, escapes beyond the usual.

use serde_json::{Map, Number, Value};

/// Deeper values are refused: Rust's stack is the resource.
const MAX_DEPTH: usize = 64;

/// A reader of values at the front of `rest`.
#[derive(Debug, Clone)]
pub(super) struct Reader<'t> {
    pub(super) rest: &'t str,
    /// Gemma's quote; `None` for Python's two.
    quote: Option<&'static str>,
    depth: usize,
}

impl<'t> Reader<'t> {
    pub(super) fn new(rest: &'t str, quote: Option<&'static str>) -> Self {
        Self { rest, quote, depth: 0 }
    }

    /// Skips blanks, then `text` if it is there.
    pub(super) fn take(&mut self, text: &str) -> bool {
        self.rest = self.rest.trim_start();
        let found = self.rest.strip_prefix(text);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    /// A name with dots, as functions and keywords have.
    pub(super) fn name(&mut self) -> Option<&'t str> {
        self.rest = self.rest.trim_start();
        let stop = |c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | '-'));
        let (name, rest) = self.rest.split_at(self.rest.find(stop).unwrap_or(self.rest.len()));
        self.rest = rest;
        (!name.is_empty() && name.len() <= 256).then_some(name)
    }

    /// Pairs up to `close`, with `between` key and value.
    pub(super) fn pairs(&mut self, between: &str, close: &str) -> Option<Map<String, Value>> {
        let mut map = Map::new();
        while !self.take(close) {
            if !map.is_empty() && !self.take(",") {
                return None;
            }
            if self.take(close) {
                break;
            }
            let key = match self.string() {
                Some(key) => key,
                None => self.name()?.to_owned(),
            };
            if !self.take(between) {
                return None;
            }
            map.insert(key, self.value()?);
        }
        Some(map)
    }

    /// One value.
    pub(super) fn value(&mut self) -> Option<Value> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let value = if let Some(text) = self.string() {
            Some(text.into())
        } else if self.take("{") {
            self.pairs(":", "}").map(Value::Object)
        } else if self.take("[") {
            self.items("]")
        } else if self.quote.is_none() && self.take("(") {
            self.items(")")
        } else {
            self.word()
        };
        self.depth -= 1;
        value
    }

    fn items(&mut self, close: &str) -> Option<Value> {
        let mut items = Vec::new();
        while !self.take(close) {
            if !items.is_empty() && !self.take(",") {
                return None;
            }
            if self.take(close) {
                break;
            }
            items.push(self.value()?);
        }
        Some(items.into())
    }

    /// A number, a constant, or a text without quotes (some templates forget them).
    fn word(&mut self) -> Option<Value> {
        let end = self.rest.find([',', ')', ']', '}', '\n']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        let word = word.trim();
        self.rest = rest;
        (!word.is_empty()).then(|| constant(word).unwrap_or_else(|| word.into()))
    }

    fn string(&mut self) -> Option<String> {
        self.rest = self.rest.trim_start();
        if let Some(quote) = self.quote {
            let (text, rest) = self.rest.strip_prefix(quote)?.split_once(quote)?;
            self.rest = rest;
            return Some(text.to_owned());
        }
        let quote = self.rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let mut out = String::new();
        let mut chars = self.rest.get(1..)?.chars();
        loop {
            match chars.next()? {
                '\\' => escape(&mut chars, &mut out)?,
                c if c == quote => break,
                c => out.push(c),
            }
        }
        self.rest = chars.as_str();
        Some(out)
    }
}

/// What follows a backslash in Python's strings.
fn escape(chars: &mut std::str::Chars<'_>, out: &mut String) -> Option<()> {
    let digits = match chars.next()? {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        c => {
            let known = "ntr\\'\"".find(c).and_then(|i| "\n\t\r\\'\"".chars().nth(i));
            if known.is_none() {
                out.push('\\');
            }
            out.push(known.unwrap_or(c));
            return Some(());
        }
    };
    let code = chars.as_str().get(..digits)?;
    *chars = chars.as_str().get(digits..)?.chars();
    let code = u32::from_str_radix(code, 16).ok()?;
    out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
    Some(())
}

/// Python's and JSON's constants and numbers.
pub(super) fn constant(word: &str) -> Option<Value> {
    match word {
        "True" | "true" => Some(true.into()),
        "False" | "false" => Some(false.into()),
        "None" | "null" => Some(Value::Null),
        _ => {
            let integer = word.parse::<i64>().ok().map(Value::from);
            integer.or_else(|| word.parse().ok().and_then(Number::from_f64).map(Value::Number))
        }
    }
}

/// A whole text as a Python value.
pub(super) fn python(text: &str) -> Option<Value> {
    let mut reader = Reader::new(text.trim(), None);
    if let Some(value) = constant(reader.rest) {
        return Some(value);
    }
    if !reader.rest.starts_with(['{', '[', '(', '"', '\'']) {
        return None;
    }
    let value = reader.value()?;
    reader.rest.trim().is_empty().then_some(value)
}
