//! Go's `fmt.Sprintf` for the values of templates: verbs, flags, widths, precisions and stars; what does not fit is written as
//! Go writes it (`%!d(string=x)`). Absent: argument indexes (`%[1]d`), pointers, hexadecimal floats, and quoting with `#`.

use super::print::{
    Buffer, Refusal, chars, general, is_print, not_finite, scientific, with_exponent, write_plain,
};
use super::value::{Show, Value};

/// The widest field, as in Go.
const MAX_WIDTH: i64 = 1_000_000;

/// What stands between `%` and the verb.
#[derive(Default, Clone, Copy)]
struct Format {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Writes `arguments` as `format` says.
pub(super) fn write(format: &[u8], arguments: &[Value], out: &mut Buffer) -> Result<(), Refusal> {
    let mut arguments = arguments.iter();
    let mut rest = format;
    while let Some(at) = rest.iter().position(|&b| b == b'%') {
        let (text, after) = rest.split_at(at);
        out.push(text)?;
        let mut spec = Spec { rest: after.get(1..).unwrap_or_default(), arguments: &mut arguments };
        let mut format = Format::default();
        spec.read(&mut format, out)?;
        rest = spec.rest;
        let Some((verb, bytes)) = first_char(rest) else {
            return out.push_str("%!(NOVERB)");
        };
        rest = rest.get(bytes..).unwrap_or_default();
        if verb == 'v' {
            // Here these flags mean more of a structure, not more of a number.
            (format.plus, format.sharp) = (false, false);
        }
        if verb == '%' {
            out.push(b"%")?;
            continue;
        }
        match arguments.next() {
            Some(argument) => write_verb(verb, format, argument, out)?,
            None => {
                out.push_str(&format!("%!{verb}(MISSING)"))?;
            }
        }
    }
    out.push(rest)?;
    let unused = arguments.as_slice();
    if unused.is_empty() {
        return Ok(());
    }
    out.push_str("%!(EXTRA ")?;
    for (i, value) in unused.iter().enumerate() {
        out.push_str(if i > 0 { ", " } else { "" })?;
        if !matches!(value, Value::Nil) {
            out.push_str(value.kind())?;
            out.push(b"=")?;
        }
        write_plain(value, out)?;
    }
    out.push_str(")")
}

/// The first character and its bytes.
fn first_char(text: &[u8]) -> Option<(char, usize)> {
    let chunk = text.utf8_chunks().next()?;
    match chunk.valid().chars().next() {
        Some(c) => Some((c, c.len_utf8())),
        None => Some((char::REPLACEMENT_CHARACTER, 1)),
    }
}

/// The reader of what stands before a verb.
struct Spec<'f, 'a, 'v> {
    rest: &'f [u8],
    arguments: &'a mut std::slice::Iter<'v, Value>,
}

impl Spec<'_, '_, '_> {
    fn read(&mut self, format: &mut Format, out: &mut Buffer) -> Result<(), Refusal> {
        while let [flag, rest @ ..] = self.rest {
            match flag {
                b'#' => format.sharp = true,
                b'0' => format.zero = true,
                b'+' => format.plus = true,
                b'-' => format.minus = true,
                b' ' => format.space = true,
                _ => break,
            }
            self.rest = rest;
        }
        match self.number() {
            Some(Ok(width)) => {
                format.minus |= width < 0;
                format.width = usize::try_from(width.unsigned_abs()).ok();
            }
            Some(Err(())) => out.push_str("%!(BADWIDTH)")?,
            None => {}
        }
        let [b'.', rest @ ..] = self.rest else { return Ok(()) };
        self.rest = rest;
        match self.number() {
            Some(Ok(precision)) => format.precision = usize::try_from(precision).ok(),
            Some(Err(())) => out.push_str("%!(BADPREC)")?,
            None => format.precision = Some(0),
        }
        Ok(())
    }

    /// Digits, or the argument that a star takes.
    fn number(&mut self) -> Option<Result<i64, ()>> {
        let number = if let [b'*', rest @ ..] = self.rest {
            self.rest = rest;
            match self.arguments.next() {
                Some(Value::Int(i)) => *i,
                _ => return Some(Err(())),
            }
        } else {
            let digits = self.rest.iter().take_while(|b| b.is_ascii_digit()).count();
            let (number, rest) = self.rest.split_at(digits);
            self.rest = rest;
            std::str::from_utf8(number).ok().filter(|n| !n.is_empty())?.parse().unwrap_or(i64::MAX)
        };
        Some(if number.abs_diff(0) <= MAX_WIDTH as u64 { Ok(number) } else { Err(()) })
    }
}

fn write_verb(verb: char, format: Format, value: &Value, out: &mut Buffer) -> Result<(), Refusal> {
    match value {
        _ if verb == 'T' => pad(value.kind().as_bytes(), format, out),
        Value::Nil if verb == 'v' => pad(NIL, format, out),
        Value::Int(i) if verb == 'v' => integer('d', format, *i, out),
        Value::Int(i) if "bcdoqOxXU".contains(verb) => integer(verb, format, *i, out),
        Value::Float(f) if verb == 'v' => float('g', format, *f, out),
        Value::Float(f) if "eEfFgG".contains(verb) => float(verb, format, *f, out),
        Value::Bool(b) if "tv".contains(verb) => pad(b.to_string().as_bytes(), format, out),
        _ if as_text(value) && "svqxX".contains(verb) => {
            let text = out.aside(|text| write_plain(value, text))?;
            string(verb, format, &text, out)
        }
        Value::List(list) => {
            out.push(b"[")?;
            each(list.items(), out, |item, out| write_inner(verb, format, item, out))?;
            out.push(b"]")
        }
        Value::Map(map) => {
            out.push(b"map[")?;
            each(&map.entries, out, |(key, item), out| {
                write_verb(verb, format, &Value::text(key), out)?;
                out.push(b":")?;
                write_inner(verb, format, item, out)
            })?;
            out.push(b"]")
        }
        Value::Struct(s) => {
            out.push(b"{")?;
            each(&s.fields, out, |field, out| write_inner(verb, format, &field.value, out))?;
            out.push(b"}")
        }
        _ => {
            out.push_str(&format!("%!{verb}("))?;
            if matches!(value, Value::Nil) {
                out.push(NIL)?;
            } else {
                out.push_str(value.kind())?;
                out.push(b"=")?;
                write_verb('v', format, value, out)?;
            }
            out.push(b")")
        }
    }
}

const NIL: &[u8] = b"<nil>";

/// A part of a value: nothing in it is never formatted.
fn write_inner(verb: char, format: Format, value: &Value, out: &mut Buffer) -> Result<(), Refusal> {
    match value {
        Value::Nil => out.push(NIL),
        _ => write_verb(verb, format, value, out),
    }
}

/// Whether a value writes itself as a text.
fn as_text(value: &Value) -> bool {
    match value {
        Value::Text(_) => true,
        Value::List(list) => list.show != Show::Plain,
        Value::Map(map) => map.show != Show::Plain,
        Value::Struct(s) => s.show != Show::Plain,
        _ => false,
    }
}

/// Items with blanks between them.
fn each<T>(
    items: &[T],
    out: &mut Buffer,
    mut write: impl FnMut(&T, &mut Buffer) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(b" ")?;
        }
        write(item, out)?;
    }
    Ok(())
}

fn string(verb: char, format: Format, text: &[u8], out: &mut Buffer) -> Result<(), Refusal> {
    match verb {
        'q' => pad(&quoted(&shortened(text, format.precision)), format, out),
        'x' | 'X' => {
            let bytes = &text[..format.precision.unwrap_or(text.len()).min(text.len())];
            let hex: Vec<String> = bytes
                .iter()
                .map(|b| if verb == 'x' { format!("{b:02x}") } else { format!("{b:02X}") })
                .collect();
            let prefix = match (format.sharp && !hex.is_empty(), verb) {
                (false, _) => "",
                (true, 'x') => "0x",
                (true, _) => "0X",
            };
            let between = if format.space { format!(" {prefix}") } else { String::new() };
            pad(format!("{prefix}{}", hex.join(&between)).as_bytes(), format, out)
        }
        _ => pad(&shortened(text, format.precision), format, out),
    }
}

/// So many characters of a text.
fn shortened(text: &[u8], characters: Option<usize>) -> std::borrow::Cow<'_, [u8]> {
    match characters {
        Some(n) if chars(text).nth(n).is_some() => {
            chars(text).take(n).collect::<String>().into_bytes().into()
        }
        _ => text.into(),
    }
}

/// As Go writes a string in its source.
fn quoted(text: &[u8]) -> Vec<u8> {
    let mut out = String::from("\"");
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\x07' => out.push_str("\\a"),
                '\x08' => out.push_str("\\b"),
                '\x0c' => out.push_str("\\f"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\x0b' => out.push_str("\\v"),
                '\0'..='\x1f' | '\x7f' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
                _ if is_print(c) => out.push(c),
                '\u{10000}'.. => out.push_str(&format!("\\U{:08x}", u32::from(c))),
                _ => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out.into_bytes()
}

fn integer(verb: char, format: Format, i: i64, out: &mut Buffer) -> Result<(), Refusal> {
    let size = i.unsigned_abs();
    let character = || u32::try_from(i).ok().and_then(char::from_u32);
    let (prefix, mut digits) = match verb {
        'c' => {
            let c = character().unwrap_or(char::REPLACEMENT_CHARACTER);
            return pad(c.to_string().as_bytes(), format, out);
        }
        'q' => {
            let c = character().unwrap_or(char::REPLACEMENT_CHARACTER).to_string();
            let inner = String::from_utf8(quoted(c.as_bytes())).unwrap_or_default();
            let inner = inner.trim_matches('"').replace("\\\"", "\"").replace('\'', "\\'");
            let inner = if c == "\"" { "\"".to_owned() } else { inner };
            return pad(format!("'{inner}'").as_bytes(), format, out);
        }
        'U' => return pad(format!("U+{i:04X}").as_bytes(), format, out),
        'b' => (if format.sharp { "0b" } else { "" }, format!("{size:b}")),
        'o' => (if format.sharp { "0" } else { "" }, format!("{size:o}")),
        'O' => ("0o", format!("{size:o}")),
        'x' => (if format.sharp { "0x" } else { "" }, format!("{size:x}")),
        'X' => (if format.sharp { "0X" } else { "" }, format!("{size:X}")),
        _ => ("", size.to_string()),
    };
    let sign = sign(i < 0, format);
    let wanted = match (format.precision, format.width) {
        (Some(0), _) if i == 0 => return pad(b"", Format { zero: false, ..format }, out),
        (Some(precision), _) => precision,
        (None, Some(width)) if format.zero && !format.minus => width.saturating_sub(sign.len()),
        _ => 0,
    };
    digits.insert_str(0, &"0".repeat(wanted.saturating_sub(digits.len())));
    let zero = false;
    pad(format!("{sign}{prefix}{digits}").as_bytes(), Format { zero, ..format }, out)
}

fn sign(negative: bool, format: Format) -> &'static str {
    match (negative, format.plus, format.space) {
        (true, ..) => "-",
        (_, true, _) => "+",
        (_, _, true) => " ",
        _ => "",
    }
}

fn float(verb: char, format: Format, f: f64, out: &mut Buffer) -> Result<(), Refusal> {
    let sign = sign(f.is_sign_negative() && !f.is_nan(), format);
    let (zero, text) = match not_finite(f) {
        Some(name) => {
            let sign = if sign.is_empty() && f.is_infinite() { "+" } else { sign };
            (false, format!("{sign}{}", name.trim_start_matches(['+', '-'])))
        }
        None => (format.zero, format!("{sign}{}", digits(verb, format, f.abs()))),
    };
    if zero && !format.minus {
        let missing = format.width.unwrap_or(0).saturating_sub(text.len());
        out.push_str(sign)?;
        out.repeat(b'0', missing)?;
        return out.push(text.as_bytes().get(sign.len()..).unwrap_or_default());
    }
    pad(text.as_bytes(), Format { zero: false, ..format }, out)
}

/// A number that is not negative.
fn digits(verb: char, format: Format, f: f64) -> String {
    match verb {
        'f' | 'F' => format!("{f:.*}", format.precision.unwrap_or(6)),
        'e' | 'E' => {
            let text = format!("{f:.*e}", format.precision.unwrap_or(6));
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            upper(verb, with_exponent(mantissa, exponent.parse().unwrap_or(0)))
        }
        _ => match format.precision {
            None => upper(verb, general(f)),
            Some(precision) => {
                let precision = precision.max(1);
                let rounded = format!("{f:.*e}", precision - 1).parse().unwrap_or(f);
                let (mantissa, exponent) = scientific(rounded);
                let large = i32::try_from(precision).unwrap_or(i32::MAX);
                let plain = (-4..large).contains(&exponent);
                upper(
                    verb,
                    if plain { rounded.to_string() } else { with_exponent(&mantissa, exponent) },
                )
            }
        },
    }
}

fn upper(verb: char, text: String) -> String {
    if verb.is_ascii_uppercase() { text.to_uppercase() } else { text }
}

/// Fills a text up to the width, in characters.
fn pad(text: &[u8], format: Format, out: &mut Buffer) -> Result<(), Refusal> {
    let missing = format.width.unwrap_or(0).saturating_sub(chars(text).count());
    if format.minus {
        out.push(text)?;
        return out.repeat(b' ', missing);
    }
    out.repeat(if format.zero { b'0' } else { b' ' }, missing)?;
    out.push(text)
}
