//! What Ollama's requests have in common: `options` over the model's own parameters, `keep_alive`, `think`, `format`. Errors are Ollama's words.

use hob_engine::Speculate;
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

use crate::answer::Form;
use crate::dialect::extras;
use crate::error::ApiError;
use crate::models::KeepAlive;
use crate::prompt::Think;
use crate::sampling::{PARAMETERS, Sampling};

/// Options with a whole number, a number, a truth, and of texts.
const INTEGERS: &[&str] = &[
    "num_ctx",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
    "num_keep",
    "seed",
    "num_predict",
    "top_k",
    "repeat_last_n",
    "draft_num_predict",
];
const FLOATS: &[&str] = &[
    "temperature",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
];

/// The request's options over a model's sampling; gives the context that is asked for.
///
/// # Errors
/// For a value of a wrong type or out of its range. Unknown names are passed over.
pub fn apply(
    options: Option<&Map<String, Value>>,
    sampling: &mut Sampling,
) -> Result<Option<usize>, ApiError> {
    let mut context = None;
    for (name, value) in options.into_iter().flatten().filter(|(_, v)| !v.is_null()) {
        let name = name.as_str();
        check_type(name, value)?;
        match name {
            "num_ctx" => context = usize::try_from(whole(value)).ok().filter(|&n| n > 0),
            "stop" => {
                sampling.stop.clear();
                for text in value.as_array().into_iter().flatten().filter_map(Value::as_str) {
                    sampling.set(name, text)?;
                }
            }
            _ if PARAMETERS.contains(&name) => {
                let text = match INTEGERS.contains(&name) {
                    true => whole(value).to_string(),
                    false => value.to_string(),
                };
                sampling.set(name, &text).map_err(|e| ApiError::field(name, e.to_string()))?;
            }
            "speculate" => {}
            _ => tracing::debug!(name, "unknown or meaningless option"),
        }
    }
    Ok(context)
}

/// Whether tokens are drafted, by the option `speculate`, which is hob's own.
///
/// # Errors
/// For a value that is none of the three.
pub fn speculate(options: Option<&Map<String, Value>>) -> Result<Option<Speculate>, ApiError> {
    extras::speculate(options.and_then(|options| options.get("speculate")))
}

/// Whether an option or parameter of this name has a meaning somewhere.
pub fn is_known(name: &str) -> bool {
    INTEGERS.contains(&name) || FLOATS.contains(&name) || matches!(name, "use_mmap" | "stop")
}

fn check_type(name: &str, value: &Value) -> Result<(), ApiError> {
    let texts = || value.as_array().is_some_and(|all| all.iter().all(Value::is_string));
    let (ok, expected) = match name {
        _ if INTEGERS.contains(&name) => (is_whole(value), "integer"),
        _ if FLOATS.contains(&name) => (value.is_number(), "float32"),
        "use_mmap" => (value.is_boolean(), "boolean"),
        "stop" => (texts(), "array of strings"),
        _ => (true, ""),
    };
    let wrong = || ApiError::field(name, format!("option \"{name}\" must be of type {expected}"));
    if ok { Ok(()) } else { Err(wrong()) }
}

/// Clients write whole numbers as floats, too.
fn is_whole(value: &Value) -> bool {
    let float = value.as_f64().is_some_and(|x| x.fract() == 0.0 && x.abs() < 1e15);
    value.is_i64() || (!value.is_u64() && float)
}

fn whole(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| value.as_f64().unwrap_or_default() as i64)
}

/// `keep_alive`: seconds, or a duration in Go's form; negative for always.
pub fn keep_alive<'de, D: Deserializer<'de>>(from: D) -> Result<Option<KeepAlive>, D::Error> {
    let value = Value::deserialize(from)?;
    if value.is_null() {
        return Ok(None);
    }
    let wrong = "keep_alive must be a number of seconds or a duration like 5m";
    KeepAlive::of(&value).map(Some).ok_or_else(|| de::Error::custom(wrong))
}

/// `think`: yes, no, or how much.
pub fn think<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Think>, D::Error> {
    Ok(Some(match Value::deserialize(from)? {
        Value::Null => return Ok(None),
        Value::Bool(true) => Think::On,
        Value::Bool(false) => Think::Off,
        Value::String(text) => match text.as_str() {
            "low" => Think::Low,
            "medium" => Think::Medium,
            "high" => Think::High,
            "max" => Think::Max,
            _ => {
                let message = format!(
                    "invalid think value: \"{text}\" (must be \"high\", \"medium\", \"low\", \"max\", true, or false)"
                );
                return Err(de::Error::custom(message));
            }
        },
        _ => return Err(de::Error::custom("think must be a boolean or a string")),
    }))
}

/// `format`: nothing, `"json"`, or a JSON Schema.
///
/// # Errors
/// For anything else.
pub fn format(value: Option<Value>) -> Result<Form, ApiError> {
    match value {
        None | Some(Value::Null) => Ok(Form::Free),
        Some(Value::String(text)) if text.is_empty() => Ok(Form::Free),
        Some(Value::String(text)) if text == "json" => Ok(Form::Json),
        Some(schema @ Value::Object(_)) => Ok(Form::Schema(schema)),
        Some(other) => Err(ApiError::field(
            "format",
            format!(
                "invalid format: {}; expected \"json\" or a valid JSON Schema object",
                short(&other)
            ),
        )),
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn options_are_typed() {
        let mut sampling = Sampling { stop: vec!["old".into()], ..Sampling::default() };
        let options = json!({"num_ctx": 100.0, "temperature": 0, "stop": ["a", "b"], "seed": 7,
            "num_predict": 5, "nonsense": {}, "top_k": null});
        let context = apply(options.as_object(), &mut sampling).unwrap();
        assert_eq!((context, sampling.options.temperature), (Some(100), 0.0));
        assert_eq!((sampling.max_tokens, sampling.options.seed), (Some(5), Some(7)));
        assert_eq!(sampling.stop, ["a", "b"]);
        for (options, part) in [
            (json!({"num_ctx": "4096"}), "option \"num_ctx\" must be of type integer"),
            (json!({"num_ctx": 9223372036854775808u64}), "must be of type integer"),
            (json!({"temperature": "hot"}), "must be of type float32"),
            (json!({"temperature": 1e308}), "temperature"),
            (json!({"top_p": -1}), "top_p"),
            (json!({"stop": "x"}), "must be of type array"),
            (json!({"stop": [""]}), "stop"),
        ] {
            let error = apply(options.as_object(), &mut sampling.clone());
            match error {
                Err(error) => assert!(error.message.contains(part), "{error}"),
                // An empty stop text is refused by the engine.
                Ok(_) => assert_eq!(part, "stop"),
            }
        }
    }

    #[test]
    fn formats() {
        assert_eq!(format(Some(json!(""))).unwrap(), Form::Free);
        assert_eq!(format(Some(json!("json"))).unwrap(), Form::Json);
        assert!(format(Some(json!({"type": "object"}))).is_ok());
        assert!(format(Some(json!("yaml"))).unwrap_err().message.starts_with("invalid format"));
        assert!(format(Some(json!(7))).is_err());
    }
}
