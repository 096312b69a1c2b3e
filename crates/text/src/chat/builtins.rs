//! The functions and filters that transformers adds to Jinja, and Python's string and dictionary methods (`minijinja-contrib`).

use std::time::SystemTime;

use jiff::{Timestamp, Zoned, tz::TimeZone};
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::python::{Json, write_json};

/// Installs everything but the clock.
pub(super) fn install(env: &mut Environment<'_>) {
    env.set_unknown_method_callback(method);
    env.add_filter("tojson", to_json);
    env.add_test("iterable", is_iterable);
    env.add_function("raise_exception", raise_exception);
}

/// Installs `strftime_now`: the time of rendering, in the local zone.
pub(super) fn install_clock(env: &mut Environment<'_>, now: Option<SystemTime>) {
    env.add_function("strftime_now", move |format: &str| strftime_now(now, format));
}

/// Python's methods; those whose result can be far larger than what they are given pay before it is made.
fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        state.consume_fuel(method_bytes(text, name, args) as u64 / 64)?;
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

/// At most so many bytes does a method of `text` write, beyond the length of its arguments.
fn method_bytes(text: &str, name: &str, args: &[Value]) -> usize {
    let string = |i: usize| args.get(i).and_then(Value::as_str).unwrap_or_default();
    match name {
        "replace" => {
            let count =
                if string(0).is_empty() { text.len() + 1 } else { text.matches(string(0)).count() };
            count.saturating_mul(string(1).len())
        }
        "join" => {
            let items = args.first().and_then(Value::len).unwrap_or_default();
            items.saturating_mul(text.len())
        }
        "format" => {
            // Widths stand in the text, or as `{:{}}` among the arguments.
            let numbers = text.split(|c: char| !c.is_ascii_digit());
            let written =
                numbers.filter(|n| !n.is_empty()).map(|n| n.parse().unwrap_or(usize::MAX));
            let given = args.iter().filter_map(Value::as_usize).filter(|_| text.contains(":{"));
            written.chain(given).fold(0, usize::saturating_add)
        }
        _ => 0,
    }
}

/// As in Python: `none` cannot be iterated (the engine's own test says it can).
fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime_now(now: Option<SystemTime>, format: &str) -> Result<String, Error> {
    let invalid = |e: jiff::Error| Error::new(ErrorKind::InvalidOperation, e.to_string());
    let now = match now {
        Some(time) => Timestamp::try_from(time).map_err(invalid)?.to_zoned(TimeZone::system()),
        None => Zoned::now(),
    };
    jiff::fmt::strtime::format(format, &now).map_err(invalid)
}

/// Python's `json.dumps`; unlike Jinja's own filter it escapes no HTML.
fn to_json(state: &State<'_, '_>, value: &Value, options: Kwargs) -> Result<String, Error> {
    let separators: Option<Vec<String>> = options.get("separators")?;
    let mut style = Json {
        indent: options.get::<Option<Value>>("indent")?.and_then(|v| indentation(&v)),
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        ..Json::default()
    };
    options.assert_all_used()?;
    if style.indent.is_some() {
        style.item = ",".to_owned();
    }
    if let Some([item, key]) = separators.as_deref() {
        (style.item, style.key) = (item.clone(), key.clone());
    }
    let mut out = String::new();
    write_json(value, &style, 0, &mut out)?;
    // The string itself is charged when it is returned, the work of nested values here.
    state.consume_fuel(out.len() as u64 / 64)?;
    Ok(out)
}

fn indentation(value: &Value) -> Option<String> {
    match value.as_str() {
        Some(text) => Some(text.to_owned()),
        None => Some(" ".repeat(value.as_usize()?.min(64))),
    }
}
