//! Go's literals: strings in either quotes, characters, numbers of any base.
//! Strings are bytes, since `\x` may write any. Absent: imaginary numbers, and hexadecimal floats.

use super::ast::Term;

/// The bytes of a string with its quotes; `None` if it is malformed.
pub(super) fn text(literal: &str) -> Option<Vec<u8>> {
    let inner = literal.get(1..literal.len().checked_sub(1)?)?;
    if literal.starts_with('`') {
        return Some(inner.bytes().filter(|&b| b != b'\r').collect());
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(c) = rest.chars().next() {
        if c == '\\' {
            rest = escape(rest.get(1..)?, '"', &mut out)?;
        } else {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            rest = rest.get(c.len_utf8()..)?;
        }
    }
    Some(out)
}

/// The code of a character with its quotes.
pub(super) fn character(literal: &str) -> Option<i64> {
    let inner = literal.strip_prefix('\'')?.strip_suffix('\'')?;
    if let Some(escaped) = inner.strip_prefix('\\') {
        let mut out = Vec::new();
        if !escape(escaped, '\'', &mut out)?.is_empty() {
            return None;
        }
        // `\x` and octal digits give a code, not bytes of UTF-8.
        return match (std::str::from_utf8(&out), out.as_slice()) {
            (Ok(text), _) => text.chars().next().map(|c| i64::from(u32::from(c))),
            (Err(_), [byte]) => Some(i64::from(*byte)),
            _ => None,
        };
    }
    let mut chars = inner.chars();
    let c = chars.next()?;
    (chars.next().is_none() && c != '\'').then(|| i64::from(u32::from(c)))
}

/// Writes what the escape at the start of `text` means, and returns what is behind it.
fn escape<'t>(text: &'t str, quote: char, out: &mut Vec<u8>) -> Option<&'t str> {
    let kind = text.chars().next()?;
    let rest = text.get(kind.len_utf8()..)?;
    let byte = match kind {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' => b'\\',
        '\'' | '"' if kind == quote => quote as u8,
        'x' => {
            out.push(u8::from_str_radix(digits(rest, 2)?, 16).ok()?);
            return rest.get(2..);
        }
        'u' | 'U' => {
            let length = if kind == 'u' { 4 } else { 8 };
            let c = char::from_u32(u32::from_str_radix(digits(rest, length)?, 16).ok()?)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return rest.get(length..);
        }
        '0'..='7' => {
            let octal = text.get(..3).filter(|d| d.bytes().all(|b| (b'0'..=b'7').contains(&b)))?;
            out.push(u8::from_str_radix(octal, 8).ok()?);
            return text.get(3..);
        }
        _ => return None,
    };
    out.push(byte);
    Some(rest)
}

fn digits(text: &str, count: usize) -> Option<&str> {
    text.get(..count).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A whole number or one with a fraction.
pub(super) fn number(text: &str) -> Option<Term> {
    if let Some(int) = integer(text) {
        return Some(Term::Int(int));
    }
    if !text.contains(['.', 'e', 'E']) || text.contains(['x', 'X', '_']) {
        return None;
    }
    text.parse().ok().filter(|f: &f64| f.is_finite()).map(Term::Float)
}

fn integer(text: &str) -> Option<i64> {
    let (sign, size) = match text.as_bytes().first()? {
        b'-' => ("-", text.get(1..)?),
        b'+' => ("", text.get(1..)?),
        _ => ("", text),
    };
    let lower = size.to_ascii_lowercase();
    let prefixed = |prefix| lower.strip_prefix(prefix);
    let (radix, digits) = if let Some(digits) = prefixed("0x") {
        (16, digits)
    } else if let Some(digits) = prefixed("0b") {
        (2, digits)
    } else if let Some(digits) = prefixed("0o") {
        (8, digits)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    // An underscore stands between digits, or between a prefix and a digit.
    let underscored = digits.contains('_');
    let misplaced = digits.ends_with('_')
        || digits.contains("__")
        || digits.starts_with('_') && radix == 10
        || underscored && digits.is_empty();
    if misplaced || digits.starts_with(['+', '-']) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{}", digits.replace('_', "")), radix).ok()
}
