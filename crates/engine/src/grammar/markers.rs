//! Markers in a Lark grammar, written `<|name|>`: which of them are tokens only the vocabulary knows, so that they are settled here.
//! A marker becomes its control token where there is one, else its text. Strings, expressions and comments are left alone.

use hob_text::Tokenizer;

/// The grammar with markers as `<[id]>` or as strings. `<[NAME]>` stands for the marker `[NAME]`; sets of numbers stay what they are.
pub(super) fn settled(grammar: &str, tokenizer: &Tokenizer) -> String {
    let mut out = String::with_capacity(grammar.len());
    for piece in pieces(grammar) {
        match marker(piece) {
            Some(name) => out.push_str(&written(name, tokenizer)),
            None => out.push_str(piece),
        }
    }
    out
}

/// A grammar cut into strings, expressions, comments, markers, and what stands between them.
pub(super) fn pieces(grammar: &str) -> impl Iterator<Item = &str> {
    let mut rest = grammar;
    std::iter::from_fn(move || {
        let at = rest.find(['"', '/', '#', '<']).unwrap_or(rest.len());
        let length = if at == 0 && !rest.is_empty() { length(rest) } else { at };
        let (piece, behind) = rest.split_at(length);
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Length of the string, expression, comment or marker at the front.
fn length(text: &str) -> usize {
    let line = text.find('\n').unwrap_or(text.len());
    match text.as_bytes() {
        [b'#', ..] | [b'/', b'/', ..] => line,
        [quote @ (b'"' | b'/'), ..] => quoted(text, *quote),
        _ => match text.find(|c: char| c == '>' || c.is_whitespace()) {
            Some(end) if text[end..].starts_with('>') => end + 1,
            _ => 1,
        },
    }
}

/// Length of what stands between two quotes, these included; of one that is not closed, the quote's.
fn quoted(text: &str, quote: u8) -> usize {
    let mut escaped = false;
    for (i, &byte) in text.as_bytes().iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            _ if byte == quote => return i + 1,
            _ => {}
        }
    }
    1
}

/// The name of a marker; `None` for sets of token numbers and for what is none.
fn marker(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('<')?.strip_suffix('>').filter(|inner| !inner.is_empty())?;
    let Some(name) = inner.strip_prefix('[').and_then(|name| name.strip_suffix(']')) else {
        return Some(text);
    };
    let set = |c: char| c.is_ascii_digit() || matches!(c, '^' | '*' | ',' | '-');
    (!name.chars().all(set)).then_some(inner)
}

fn written(name: &str, tokenizer: &Tokenizer) -> String {
    match tokenizer.token_id(name).filter(|&token| tokenizer.is_control(token)) {
        Some(token) => format!("<[{token}]>"),
        // A JSON string is a Lark string.
        None => serde_json::Value::from(name).to_string(),
    }
}
