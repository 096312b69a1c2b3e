//! `/v1/completions`: texts or tokens continued as they are, several at once, or the gap between two texts filled in. The older API, which
//! editors and measuring programs still use. Log-probabilities of the prompt itself are not computed, and asking for them is an error.

use axum::extract::State as Shared;
use axum::response::Response;
use hob_text::{ChatEvent, Token};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answers::{Choices, Frame};
use super::chat::sampling;
use super::form::Forms;
use super::options::{self, Options};
use super::{model, named, out_of_range, part, unknown, unsupported};
use crate::answer::{Ask, End, Piece, Prepared, Reason, TokenLogprob, Whole};
use crate::app::State;
use crate::error::ApiError;
use crate::http::body::Json;
use crate::prompt::Input;

/// Most prompts of a request.
const MAX_PROMPTS: usize = 128;
/// Most answers to all of them.
const MAX_ALL: usize = 256;
/// Tokens of an answer where the request says nothing: OpenAI's number.
const USUAL_TOKENS: usize = 16;

/// What is its own.
#[derive(Deserialize)]
struct Completion {
    prompt: Option<Value>,
    suffix: Option<String>,
    echo: Option<bool>,
    best_of: Option<i64>,
    logprobs: Option<i64>,
}

/// Handles it.
pub async fn completion(
    Shared(state): Shared<State>,
    Json(body): Json<Map<String, Value>>,
) -> Result<Response, ApiError> {
    let body = Value::Object(body);
    let options: Options = part(&body)?;
    let own: Completion = part(&body)?;
    let (form, form_field) = part::<Forms>(&body)?.form()?;
    let name = model(options.model.as_deref())?;
    let answers = options.answers()?;
    own.check_best_of(answers)?;
    let top = own.logprobs.map(|n| options::top_logprobs("logprobs", Some(n))).transpose()?;
    let echo = own.echo.unwrap_or(false);
    if echo && top.is_some() {
        let message =
            "'echo' with 'logprobs' asks for probabilities of the prompt, which are not computed";
        return Err(unsupported("echo", message));
    }
    let (checked, most) = (options.checked()?, options.max_tokens(0)?);
    let inputs = own.inputs()?;
    if inputs.len() * answers > MAX_ALL {
        return Err(out_of_range(
            "n",
            &format!("at most {MAX_ALL} answers"),
            inputs.len() * answers,
        ));
    }

    let lease = state.models.lease(name, checked.context, checked.keep_alive).await;
    let lease = lease.map_err(|e| unknown(e, name))?;
    let mut sampling = sampling(&options, lease.loaded())?;
    sampling.options.top_logprobs = top;
    sampling.max_tokens = most.map_or(Some(USUAL_TOKENS), |most| most.tokens());
    let (mut prepared, mut echoes) = (Vec::new(), Vec::new());
    for input in inputs {
        echoes.push(if echo { Some(input.clone()) } else { None });
        let mut ask = Ask::new(input, sampling.clone());
        checked.put(&mut ask);
        ask.form = form.clone();
        let made = lease.clone().prepare(ask).await;
        prepared.push(made.map_err(|e| named(e, form_field))?);
    }
    let echoes = echoes.into_iter().zip(&prepared).map(|(input, prompt)| shown(input, prompt));
    let offsets = vec![0; prepared.len() * answers];
    let choices = Texts { echoes: echoes.collect(), answers, logprobs: top.is_some(), offsets };
    let mut frame = Frame::new("cmpl-", "text_completion", name, answers);
    match options.stream.unwrap_or(false) {
        false => frame.wait(&prepared, choices).await,
        true => {
            frame.include_usage = options.include_usage();
            frame.stream(&prepared, choices)
        }
    }
}

/// The prompt's text, where it is wanted in front of the answer.
fn shown(input: Option<Input>, prompt: &Prepared) -> String {
    match input {
        None => String::new(),
        Some(Input::Text(text)) => text,
        Some(Input::Infill { prefix, .. }) => prefix,
        Some(_) => prompt.loaded().tokenizer.decode_with(&prompt.prompt.tokens, true),
    }
}

impl Completion {
    fn check_best_of(&self, answers: usize) -> Result<(), ApiError> {
        match self.best_of {
            Some(best) if best != answers as i64 => {
                let message = format!(
                    "'best_of' is {best}, but answers are not ranked: leave it out, or give it the value of 'n'"
                );
                Err(unsupported("best_of", message))
            }
            _ => Ok(()),
        }
    }

    /// What is to be continued.
    fn inputs(self) -> Result<Vec<Input>, ApiError> {
        let missing = || {
            ApiError::field("prompt", "Missing required parameter: 'prompt'.")
                .with_code("missing_required_parameter")
        };
        let prompts = texts_or_tokens("prompt", self.prompt.ok_or_else(missing)?, MAX_PROMPTS)?;
        let Some(suffix) = self.suffix.filter(|suffix| !suffix.is_empty()) else {
            return Ok(prompts.into_iter().map(Text::input).collect());
        };
        let infill = |prompt| match prompt {
            Text::Text(prefix) => Ok(Input::Infill { prefix, suffix: suffix.clone() }),
            Text::Tokens(_) => Err(unsupported("suffix", "'suffix' needs a prompt of text")),
        };
        prompts.into_iter().map(infill).collect()
    }
}

/// A text as OpenAI lets it be given.
#[derive(Clone, Debug, PartialEq)]
pub enum Text {
    /// As such.
    Text(String),
    /// As the model's tokens.
    Tokens(Vec<Token>),
}

impl Text {
    fn input(self) -> Input {
        match self {
            Text::Text(text) => Input::Text(text),
            Text::Tokens(tokens) => Input::Tokens(tokens),
        }
    }
}

/// A text, a list of texts, a list of tokens, or a list of such lists.
///
/// # Errors
/// For everything else, for none and for more than `most`.
pub fn texts_or_tokens(path: &str, value: Value, most: usize) -> Result<Vec<Text>, ApiError> {
    let expected = "a string, a list of strings, a list of tokens, or a list of such lists";
    let token = |value: &Value| value.as_u64().and_then(|id| Token::try_from(id).ok());
    let tokens = |all: &[Value]| -> Option<Vec<Token>> { all.iter().map(token).collect() };
    let all = match value {
        Value::String(text) => return Ok(vec![Text::Text(text)]),
        Value::Array(all) => all,
        other => return Err(out_of_range(path, expected, kind(&other))),
    };
    if all.is_empty() {
        let message = format!("Invalid '{path}': the list is empty.");
        return Err(ApiError::field(path, message).with_code("empty_array"));
    }
    if let Some(tokens) = tokens(&all) {
        return Ok(vec![Text::Tokens(tokens)]);
    }
    if all.len() > most {
        return Err(out_of_range(path, &format!("at most {most} texts"), all.len()));
    }
    let one = |(i, value): (usize, Value)| {
        let path = format!("{path}[{i}]");
        match value {
            Value::String(text) => Ok(Text::Text(text)),
            Value::Array(all) => tokens(&all)
                .map(Text::Tokens)
                .ok_or_else(|| out_of_range(&path, "a list of tokens", "another list")),
            other => Err(out_of_range(&path, "a string or a list of tokens", kind(&other))),
        }
    };
    all.into_iter().enumerate().map(one).collect()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The choices of one response.
struct Texts {
    /// What stands in front of the answers to each prompt.
    echoes: Vec<String>,
    /// Answers to each.
    answers: usize,
    logprobs: bool,
    /// Characters of each answer so far.
    offsets: Vec<usize>,
}

impl Texts {
    fn echo(&self, index: usize) -> String {
        self.echoes.get(index / self.answers).cloned().unwrap_or_default()
    }

    /// The older form of probabilities: lists side by side.
    fn told(&mut self, index: usize, all: &[TokenLogprob]) -> Value {
        if !self.logprobs {
            return Value::Null;
        }
        let (mut offsets, at) = (Vec::new(), self.offsets.get_mut(index));
        let mut offset = at.as_ref().map_or(0, |at| **at);
        for token in all {
            offsets.push(offset);
            // A character counts where it begins.
            offset += token.bytes.iter().filter(|&&byte| byte & 0xc0 != 0x80).count();
        }
        if let Some(at) = at {
            *at = offset;
        }
        let tops = all.iter().map(|token| {
            let each = token.top.iter().chain([token]);
            Value::Object(each.map(|t| (spelled(t), t.logprob.into())).collect())
        });
        json!({
            "tokens": all.iter().map(spelled).collect::<Vec<_>>(),
            "token_logprobs": all.iter().map(|t| t.logprob).collect::<Vec<_>>(),
            "top_logprobs": tops.collect::<Vec<_>>(),
            "text_offset": offsets,
        })
    }
}

/// A token's text; parts of characters by their bytes, so that they stay apart.
fn spelled(token: &TokenLogprob) -> String {
    match std::str::from_utf8(&token.bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let bytes = token.bytes.iter().map(|byte| format!("\\x{byte:02x}"));
            format!("bytes:{}", bytes.collect::<String>())
        }
    }
}

fn finish(end: &End) -> &'static str {
    match end.reason {
        Reason::Length => "length",
        Reason::Stop | Reason::StopText(_) => "stop",
    }
}

fn choice(index: usize, text: String, logprobs: Value, finish: Option<&str>) -> Value {
    json!({"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish})
}

impl Choices for Texts {
    fn whole(&mut self, index: usize, whole: Whole) -> Value {
        let text = self.echo(index) + &whole.said.content;
        let logprobs = self.told(index, &whole.logprobs);
        choice(index, text, logprobs, Some(finish(&whole.end)))
    }

    fn first(&mut self, index: usize) -> Option<Value> {
        let echo = self.echo(index);
        (!echo.is_empty()).then(|| choice(index, echo, Value::Null, None))
    }

    fn piece(&mut self, index: usize, piece: Piece) -> Vec<Value> {
        let mut text = String::new();
        for event in piece.events {
            if let ChatEvent::Content(more) = event {
                text += &more;
            }
        }
        if text.is_empty() && piece.logprob.is_none() {
            return Vec::new();
        }
        let logprobs = self.told(index, piece.logprob.as_slice());
        vec![choice(index, text, logprobs, None)]
    }

    fn last(&mut self, index: usize, end: &End) -> Vec<Value> {
        vec![choice(index, String::new(), Value::Null, Some(finish(end)))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_have_four_forms() {
        let read = |value| texts_or_tokens("prompt", value, 3);
        let text = |t: &str| Text::Text(t.to_owned());
        assert_eq!(read(json!("a")).unwrap(), [text("a")]);
        assert_eq!(read(json!(["a", "b"])).unwrap(), [text("a"), text("b")]);
        assert_eq!(read(json!([1, 2, 3, 4])).unwrap(), [Text::Tokens(vec![1, 2, 3, 4])]);
        let lists = read(json!([[1], [2, 3]])).unwrap();
        assert_eq!(lists, [Text::Tokens(vec![1]), Text::Tokens(vec![2, 3])]);
        for (value, param) in [
            (json!(null), "prompt"),
            (json!([]), "prompt"),
            (json!({}), "prompt"),
            (json!(["a", "b", "c", "d"]), "prompt"),
            (json!(["a", 1]), "prompt[1]"),
            (json!([1, -2]), "prompt[0]"),
            (json!([[1], ["a"]]), "prompt[1]"),
            (json!([[4294967296u64]]), "prompt[0]"),
        ] {
            let error = read(value.clone()).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{value}: {error}");
        }
    }

    #[test]
    fn offsets_count_characters_and_tokens_of_parts_stay_apart() {
        let token = |bytes: &[u8]| TokenLogprob {
            token: String::from_utf8_lossy(bytes).into_owned(),
            bytes: bytes.to_vec(),
            logprob: -1.0,
            top: Vec::new(),
        };
        let mut texts = Texts { echoes: vec![], answers: 1, logprobs: true, offsets: vec![0] };
        let all = [token("aé".as_bytes()), token(&[0xe2]), token(&[0x82, 0xac]), token(b"b")];
        let told = texts.told(0, &all);
        assert_eq!(told["text_offset"], json!([0, 2, 3, 3]));
        assert_eq!(told["tokens"], json!(["aé", "bytes:\\xe2", "bytes:\\x82\\xac", "b"]));
        assert_eq!(told["top_logprobs"][3], json!({"b": -1.0}));
        assert_eq!(texts.told(0, &[token(b"c")])["text_offset"], json!([4]));
    }
}
