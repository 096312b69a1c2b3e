//! `/v1/chat/completions`: a request read, its model leased, its answers sent.

use axum::extract::State as Shared;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::answers::Frame;
use super::chat_shape::ChatChoices;
use super::form::Forms;
use super::messages::{self, Said};
use super::options::{self, Options};
use super::tools::Tools;
use super::{model, named, out_of_range, part, unknown, unsupported};
use crate::answer::Ask;
use crate::app::State;
use crate::error::ApiError;
use crate::http::body::Json;
use crate::loaded::Loaded;
use crate::prompt::{Conversation, Input, Think};
use crate::sampling::Sampling;

/// What is chat's own.
#[derive(Deserialize)]
struct Chat {
    messages: Option<Vec<Said>>,
    logprobs: Option<bool>,
    top_logprobs: Option<i64>,
    reasoning_effort: Option<String>,
    reasoning: Option<Reasoning>,
    chat_template: Option<String>,
    chat_template_kwargs: Option<Map<String, Value>>,
    modalities: Option<Vec<String>>,
    audio: Option<Value>,
    web_search_options: Option<Value>,
}

/// `reasoning`, as gateways send it.
#[derive(Deserialize)]
struct Reasoning {
    effort: Option<String>,
    enabled: Option<bool>,
}

/// Handles it.
pub async fn chat(
    Shared(state): Shared<State>,
    Json(body): Json<Map<String, Value>>,
) -> Result<Response, ApiError> {
    let body = Value::Object(body);
    let options: Options = part(&body)?;
    let chat: Chat = part(&body)?;
    let (form, form_field) = part::<Forms>(&body)?.form()?;
    let offer = part::<Tools>(&body)?.offer()?;
    let name = model(options.model.as_deref())?;
    chat.refuse_what_is_not_text()?;
    // All that can be checked without the model is, before it is loaded.
    let (top, think, answers) = (chat.top()?, chat.think()?, options.answers()?);
    let (checked, most) = (options.checked()?, options.max_tokens(1)?);
    let messages = messages::conversation(chat.messages.unwrap_or_default())?;

    let lease = state.models.lease(name, checked.context, checked.keep_alive).await;
    let lease = lease.map_err(|e| unknown(e, name))?;
    let loaded = lease.loaded();
    if !offer.tools.is_empty() && !loaded.capabilities().tools {
        let message = format!("\"{}\" does not support tools", loaded.name());
        return Err(unsupported(offer.field(), message));
    }
    let conversation = Conversation {
        messages,
        tools: (!offer.tools.is_empty()).then(|| offer.tools.into()),
        choice: offer.choice,
        parallel: offer.parallel,
        // Effort is a hint, and clients give it to all models.
        think: think.filter(|_| loaded.thinks() || chat.chat_template.is_some()),
        template: chat.chat_template,
        variables: chat.chat_template_kwargs.unwrap_or_default(),
        ..Default::default()
    };
    let mut sampling = sampling(&options, loaded)?;
    sampling.options.top_logprobs = top;
    if let Some(most) = most {
        sampling.max_tokens = most.tokens();
    }
    let mut ask = Ask::new(Input::Chat(Box::new(conversation)), sampling);
    checked.put(&mut ask);
    ask.form = form;
    let prepared = [lease.prepare(ask).await.map_err(|e| named(e, form_field))?];
    let choices = ChatChoices::new(answers, !offer.parallel, offer.legacy, top.is_some());
    let mut frame = Frame::new("chatcmpl-", "chat.completion", name, answers);
    match options.stream.unwrap_or(false) {
        false => frame.wait(&prepared, choices).await,
        true => {
            frame.object = "chat.completion.chunk";
            frame.include_usage = options.include_usage();
            frame.stream(&prepared, choices)
        }
    }
}

/// The request's word over the model's, held against its vocabulary.
pub fn sampling(options: &Options, loaded: &Loaded) -> Result<Sampling, ApiError> {
    let mut sampling = loaded.sampling.clone();
    options.apply(&mut sampling)?;
    let valid = sampling.options.validate(loaded.model.vocab as usize);
    valid.map_err(|e| ApiError::field(e.field, e.to_string()).with_code("invalid_value"))?;
    Ok(sampling)
}

impl Chat {
    fn refuse_what_is_not_text(&self) -> Result<(), ApiError> {
        let wants_sound = |kinds: &Vec<String>| kinds.iter().any(|kind| kind != "text");
        if self.modalities.as_ref().is_some_and(wants_sound) || self.audio.is_some() {
            let field = if self.audio.is_some() { "audio" } else { "modalities" };
            return Err(unsupported(field, "models here write text only"));
        }
        match self.web_search_options {
            Some(_) => Err(unsupported("web_search_options", "hob does not search the web")),
            None => Ok(()),
        }
    }

    /// Likeliest tokens to be told, if any probabilities are.
    fn top(&self) -> Result<Option<usize>, ApiError> {
        let top = options::top_logprobs("top_logprobs", self.top_logprobs)?;
        match (self.logprobs.unwrap_or(false), self.top_logprobs.is_some() && top > 0) {
            (true, _) => Ok(Some(top)),
            (false, false) => Ok(None),
            (false, true) => {
                let message = "'top_logprobs' is only allowed when 'logprobs' is set to true.";
                Err(ApiError::field("top_logprobs", message).with_code("invalid_value"))
            }
        }
    }

    fn think(&self) -> Result<Option<Think>, ApiError> {
        let inner = self.reasoning.as_ref();
        let (path, effort) = match (&self.reasoning_effort, inner.and_then(|r| r.effort.as_ref())) {
            (Some(effort), _) => ("reasoning_effort", effort),
            (None, Some(effort)) => ("reasoning.effort", effort),
            (None, None) => {
                let enabled = inner.and_then(|r| r.enabled);
                return Ok(enabled.map(|yes| if yes { Think::On } else { Think::Off }));
            }
        };
        Ok(Some(effort_of(path, effort)?))
    }
}

/// A degree of thinking by OpenAI's names.
fn effort_of(path: &str, effort: &str) -> Result<Think, ApiError> {
    Ok(match effort {
        "none" => Think::Off,
        "minimal" | "low" => Think::Low,
        "medium" => Think::Medium,
        "high" => Think::High,
        "xhigh" | "max" => Think::Max,
        other => {
            let expected = "'none', 'minimal', 'low', 'medium', 'high' or 'xhigh'";
            return Err(out_of_range(path, expected, format!("'{other}'")));
        }
    })
}
