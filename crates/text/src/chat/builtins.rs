//! The functions and filters that transformers adds to Jinja, and Python's string and dictionary methods (`minijinja-contrib`).

use std::time::SystemTime;

use jiff::{Timestamp, Zoned, tz::TimeZone};
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::python::{Json, write_json};

/// Installs everything but the clock.
pub(super) fn install(env: &mut Environment<'_>) {
    env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    env.add_filter("tojson", to_json);
    env.add_test("iterable", is_iterable);
    env.add_function("raise_exception", raise_exception);
}

/// Installs `strftime_now`: the time of rendering, in the local zone.
pub(super) fn install_clock(env: &mut Environment<'_>, now: Option<SystemTime>) {
    env.add_function("strftime_now", move |format: &str| strftime_now(now, format));
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
