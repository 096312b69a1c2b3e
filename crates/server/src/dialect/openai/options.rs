//! What chat and text completions have in common: how tokens are chosen, how many answers, how they are sent. Where a request says nothing the
//! model's own parameters count, else hob's defaults. Ranges are OpenAI's; names beside its own are those of llama.cpp, vLLM and Ollama.

use std::collections::BTreeMap;

use hob_engine::Speculate;
use serde::Deserialize;
use serde_json::Value;

use super::{out_of_range, unsupported};
use crate::access;
use crate::answer::{Ask, Caller};
use crate::dialect::extras;
use crate::error::ApiError;
use crate::models::KeepAlive;
use crate::sampling::Sampling;

/// Most answers to one request.
pub const MAX_ANSWERS: i64 = 64;
/// Most texts that end an answer.
const MAX_STOPS: usize = 16;
/// Most tokens whose logits are moved.
const MAX_BIASES: usize = 4096;
/// Most likeliest tokens that may be asked for.
pub const MAX_TOP_LOGPROBS: i64 = 20;

/// The fields.
#[derive(Debug, Default, Deserialize)]
pub struct Options {
    pub model: Option<String>,
    pub n: Option<i64>,
    pub stream: Option<bool>,
    pub stream_options: Option<StreamOptions>,
    pub max_tokens: Option<i64>,
    pub max_completion_tokens: Option<i64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<i64>,
    min_p: Option<f64>,
    typical_p: Option<f64>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    #[serde(alias = "repetition_penalty")]
    repeat_penalty: Option<f64>,
    repeat_last_n: Option<i64>,
    seed: Option<i64>,
    stop: Option<Value>,
    logit_bias: Option<BTreeMap<String, f64>>,
    ignore_eos: Option<bool>,
    keep_alive: Option<Value>,
    num_ctx: Option<i64>,
    options: Option<Inner>,
    priority: Option<i64>,
    truncate: Option<bool>,
    speculate: Option<Value>,
}

/// `stream_options`; obfuscation is padding against eavesdroppers of OpenAI's, which is not done here.
#[derive(Debug, Default, Deserialize)]
pub struct StreamOptions {
    include_usage: Option<bool>,
}

/// `options`, as Ollama's clients send them: the context alone has no other name.
#[derive(Debug, Default, Deserialize)]
struct Inner {
    num_ctx: Option<i64>,
}

/// Fields that were checked, beside those of sampling.
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Tokens of prompt and answer together.
    pub context: Option<usize>,
    /// How long the model stays.
    pub keep_alive: Option<KeepAlive>,
    caller: Caller,
    speculate: Option<Speculate>,
    truncate: bool,
    ignore_eos: bool,
}

impl Checked {
    /// Puts them into what is asked of a model.
    pub fn put(&self, ask: &mut Ask) {
        (ask.context, ask.caller, ask.speculate) = (self.context, self.caller, self.speculate);
        (ask.truncate, ask.ignore_eos) = (self.truncate, self.ignore_eos);
    }
}

impl Options {
    /// Whether a chunk with the usage is to come last.
    pub fn include_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|o| o.include_usage).unwrap_or(false)
    }

    /// How many answers.
    ///
    /// # Errors
    /// For none, or too many.
    pub fn answers(&self) -> Result<usize, ApiError> {
        let n = integer("n", self.n, 1, MAX_ANSWERS)?;
        Ok(n.map_or(1, |n| n as usize))
    }

    /// Tokens of prompt and answer together.
    ///
    /// # Errors
    /// For a number that is none of tokens.
    pub fn context(&self) -> Result<Option<usize>, ApiError> {
        let asked = self.num_ctx.or_else(|| self.options.as_ref()?.num_ctx);
        Ok(integer("num_ctx", asked, 1, i64::from(u32::MAX))?.map(|n| n as usize))
    }

    /// How long the model stays.
    ///
    /// # Errors
    /// For what is no time.
    pub fn keep_alive(&self) -> Result<Option<KeepAlive>, ApiError> {
        let Some(value) = &self.keep_alive else { return Ok(None) };
        let expected = "a number of seconds or a duration like 5m";
        KeepAlive::of(value).map(Some).ok_or_else(|| out_of_range("keep_alive", expected, value))
    }

    /// Whether the oldest of a prompt that is too long is left out.
    pub fn truncate(&self) -> bool {
        self.truncate.unwrap_or(false)
    }

    /// Whether tokens are drafted, if the request says it.
    ///
    /// # Errors
    /// For a value that is none of the three.
    pub fn speculate(&self) -> Result<Option<Speculate>, ApiError> {
        extras::speculate(self.speculate.as_ref()).map_err(|e| e.with_code("invalid_value"))
    }

    /// Whether the model's end tokens are forbidden.
    pub fn ignore_eos(&self) -> bool {
        self.ignore_eos.unwrap_or(false)
    }

    /// What every kind of answer needs to know before a model is loaded for it.
    ///
    /// # Errors
    /// For the first field that is out of its range.
    pub fn checked(&self) -> Result<Checked, ApiError> {
        let checked = Checked {
            context: self.context()?,
            keep_alive: self.keep_alive()?,
            caller: self.caller(access::caller())?,
            speculate: self.speculate()?,
            truncate: self.truncate(),
            ignore_eos: self.ignore_eos(),
        };
        self.apply(&mut Sampling::default())?;
        Ok(checked)
    }

    /// Who asks: the body's `priority` counts more than the head's.
    ///
    /// # Errors
    /// For a priority that is none.
    pub fn caller(&self, from_head: Caller) -> Result<Caller, ApiError> {
        let (low, high) = (i64::from(i8::MIN), i64::from(i8::MAX));
        let priority = integer("priority", self.priority, low, high)?;
        Ok(from_head.asking(priority.map(|p| p as i8)))
    }

    /// Puts the request's word over a model's.
    ///
    /// # Errors
    /// For the first field that is out of its range.
    pub fn apply(&self, sampling: &mut Sampling) -> Result<(), ApiError> {
        let o = &mut sampling.options;
        for (name, value, low, high, into) in [
            ("temperature", self.temperature, 0.0, 2.0, &mut o.temperature),
            ("top_p", self.top_p, 0.0, 1.0, &mut o.top_p),
            ("min_p", self.min_p, 0.0, 1.0, &mut o.min_p),
            ("typical_p", self.typical_p, 0.0, 1.0, &mut o.typical_p),
            ("presence_penalty", self.presence_penalty, -2.0, 2.0, &mut o.presence_penalty),
            ("frequency_penalty", self.frequency_penalty, -2.0, 2.0, &mut o.frequency_penalty),
            ("repeat_penalty", self.repeat_penalty, 0.01, 100.0, &mut o.repeat_penalty),
        ] {
            if let Some(x) = number(name, value, low, high)? {
                *into = x;
            }
        }
        let most = i64::from(i32::MAX);
        if let Some(k) = integer("top_k", self.top_k, -1, most)? {
            o.top_k = usize::try_from(k).unwrap_or(0);
        }
        if let Some(n) = integer("repeat_last_n", self.repeat_last_n, -1, most)? {
            o.repeat_last_n = usize::try_from(n).ok();
        }
        if let Some(seed) = self.seed {
            // All seeds are seeds, those below zero too.
            o.seed = Some(seed as u64);
        }
        o.logit_bias.extend(self.biases()?);
        for stop in self.stops()? {
            if !sampling.stop.contains(&stop) {
                sampling.stop.push(stop);
            }
        }
        Ok(())
    }

    /// Tokens at most, by either name: -1 is for as many as the context holds, as local servers have it.
    ///
    /// # Errors
    /// For a number below `least` that is not -1.
    pub fn max_tokens(&self, least: i64) -> Result<Option<Most>, ApiError> {
        let (name, value) = match self.max_completion_tokens {
            Some(n) => ("max_completion_tokens", Some(n)),
            None => ("max_tokens", self.max_tokens),
        };
        match value {
            None => Ok(None),
            Some(-1) => Ok(Some(Most::All)),
            Some(n) => {
                let n = integer(name, Some(n), least, i64::MAX)?.unwrap_or(least);
                Ok(Some(Most::Tokens(usize::try_from(n).unwrap_or(usize::MAX))))
            }
        }
    }

    fn biases(&self) -> Result<Vec<(u32, f32)>, ApiError> {
        let all = self.logit_bias.iter().flatten();
        if all.clone().count() > MAX_BIASES {
            return Err(unsupported(
                "logit_bias",
                format!("'logit_bias' has more than {MAX_BIASES} tokens"),
            ));
        }
        all.map(|(token, &bias)| {
            let path = format!("logit_bias.{token}");
            let id = token.trim().parse().ok();
            let id = id.ok_or_else(|| out_of_range(&path, "the number of a token", token))?;
            let bias = number(&path, Some(bias), -100.0, 100.0)?.unwrap_or_default();
            Ok((id, bias))
        })
        .collect()
    }

    /// The texts that end an answer, beside those of the model.
    fn stops(&self) -> Result<Vec<String>, ApiError> {
        let all: Vec<&Value> = match &self.stop {
            None => Vec::new(),
            Some(Value::Array(all)) => all.iter().collect(),
            Some(one) => vec![one],
        };
        if all.len() > MAX_STOPS {
            let expected = format!("at most {MAX_STOPS} texts");
            return Err(out_of_range("stop", &expected, all.len()));
        }
        let text = |value: &Value| {
            let text = value.as_str().filter(|t| !t.is_empty()).map(str::to_owned);
            text.ok_or_else(|| out_of_range("stop", "texts that are not empty", value))
        };
        all.into_iter().map(text).collect()
    }
}

/// How long an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Most {
    /// As long as the context holds.
    All,
    /// So many tokens.
    Tokens(usize),
}

impl Most {
    /// As [`Sampling`] has it.
    pub fn tokens(self) -> Option<usize> {
        match self {
            Most::All => None,
            Most::Tokens(n) => Some(n),
        }
    }
}

/// A whole number within its range.
pub fn integer(
    name: &str,
    value: Option<i64>,
    low: i64,
    high: i64,
) -> Result<Option<i64>, ApiError> {
    match value {
        Some(n) if !(low..=high).contains(&n) => {
            let expected = match high {
                i64::MAX => format!("a value >= {low}"),
                _ => format!("a value from {low} to {high}"),
            };
            Err(out_of_range(name, &expected, n))
        }
        value => Ok(value),
    }
}

fn number(name: &str, value: Option<f64>, low: f64, high: f64) -> Result<Option<f32>, ApiError> {
    match value {
        Some(x) if !(low..=high).contains(&x) => {
            Err(out_of_range(name, &format!("a value from {low} to {high}"), x))
        }
        value => Ok(value.map(|x| x as f32)),
    }
}

/// How many likeliest tokens are told, if any are.
///
/// # Errors
/// For more than there may be.
pub fn top_logprobs(name: &str, value: Option<i64>) -> Result<usize, ApiError> {
    Ok(integer(name, value, 0, MAX_TOP_LOGPROBS)?.map_or(0, |n| n as usize))
}
