//! What hob knows and the dialects of OpenAI and Anthropic have no field for. The names are Ollama's where it has one; clients put them into
//! the body (`extra_body` in the official packages).

use hob_engine::Speculate;
use serde_json::Value;

use crate::access;
use crate::answer::Caller;
use crate::error::ApiError;
use crate::http::fields::Fields;
use crate::models::KeepAlive;

/// Fields beside those of the dialect.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Extras {
    /// `keep_alive`: how long the model stays loaded.
    pub keep_alive: Option<KeepAlive>,
    /// `num_ctx`: tokens of prompt and answer together.
    pub context: Option<usize>,
    /// `priority`: higher is served first.
    pub priority: Option<i8>,
    /// `truncate`: leave out the oldest of what does not fit.
    pub truncate: bool,
    /// `seed`: the same answer to the same request.
    pub seed: Option<u64>,
    /// `speculate`: whether tokens are drafted.
    pub speculate: Option<Speculate>,
}

impl Extras {
    /// Those of a request.
    ///
    /// # Errors
    /// For values of a wrong type or out of their range.
    pub fn read(fields: &Fields) -> Result<Self, ApiError> {
        let priority = fields.get("priority").map(|value| {
            let level = value.as_i64().and_then(|n| i8::try_from(n).ok());
            level.ok_or_else(|| fields.error("priority", "expected a whole number, -128 to 127"))
        });
        let keep_alive = fields.get("keep_alive").map(|value| {
            let expected = "expected a number of seconds or a duration like 5m";
            KeepAlive::of(value).ok_or_else(|| fields.error("keep_alive", expected))
        });
        Ok(Extras {
            keep_alive: keep_alive.transpose()?,
            context: fields.count("num_ctx")?.filter(|&n| n > 0),
            priority: priority.transpose()?,
            truncate: fields.truth("truncate")?.unwrap_or(false),
            seed: fields.count("seed")?.map(|n| n as u64),
            speculate: speculate(fields.get("speculate"))?,
        })
    }

    /// Who asks, with the body's `priority`.
    pub fn caller(&self) -> Caller {
        access::caller().asking(self.priority)
    }
}

/// `speculate`: whether tokens are drafted, which changes no answer.
///
/// # Errors
/// For a value that is none of the three.
pub fn speculate(value: Option<&Value>) -> Result<Option<Speculate>, ApiError> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(None) };
    match value.as_str() {
        Some("off") => Ok(Some(Speculate::Off)),
        Some("on") => Ok(Some(Speculate::On)),
        Some("auto") => Ok(Some(Speculate::Auto)),
        _ => Err(ApiError::field("speculate", "speculate must be \"off\", \"on\" or \"auto\"")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn extras_are_read() {
        let read = |value: Value| Extras::read(&Fields::top(value.as_object().unwrap()));
        assert_eq!(read(json!({"seed": null})).unwrap(), Extras::default());
        let all = json!({"keep_alive": "5m", "num_ctx": 100, "priority": -3, "truncate": true, "seed": 7,
            "speculate": "on"});
        let expected = Extras {
            keep_alive: Some(KeepAlive::For(Duration::from_secs(300))),
            context: Some(100),
            priority: Some(-3),
            truncate: true,
            seed: Some(7),
            speculate: Some(Speculate::On),
        };
        assert_eq!(read(all).unwrap(), expected);
        for bad in ["keep_alive", "num_ctx", "priority", "truncate", "seed", "speculate"] {
            let error = read(json!({bad: "soon"})).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(bad));
        }
        assert!(read(json!({"priority": 128})).is_err());
    }
}
