//! `/api/generate` and `/api/chat`: one answer, streamed by default. Tool calls come whole; what may still become one is held back.

use std::time::SystemTime;

use axum::extract::State as Shared;
use axum::response::Response;
use futures_util::{StreamExt, stream as streams};
use hob_text::{ChatAnswer, ChatEvent, Message, Token};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{named, options};
use crate::access;
use crate::answer::{Ask, End, Heard, Prepared, Reason, TokenLogprob, Whole};
use crate::app::State;
use crate::error::ApiError;
use crate::http::body::{Json, or_default};
use crate::http::{dropped, shape::Dialect, stream};
use crate::models::KeepAlive;
use crate::prompt::{Conversation, Input, Think};

/// Most likeliest tokens that may be asked for.
const MAX_TOP_LOGPROBS: i64 = 20;

/// What both requests have.
#[derive(Deserialize)]
struct Common {
    #[serde(default, deserialize_with = "or_default")]
    model: String,
    stream: Option<bool>,
    format: Option<Value>,
    #[serde(default, deserialize_with = "options::keep_alive")]
    keep_alive: Option<KeepAlive>,
    options: Option<Map<String, Value>>,
    #[serde(default, deserialize_with = "options::think")]
    think: Option<Think>,
    truncate: Option<bool>,
    logprobs: Option<bool>,
    top_logprobs: Option<i64>,
    /// hob's own: chunks tell their tokens.
    token_ids: Option<bool>,
    #[serde(rename = "_debug_render_only")]
    render_only: Option<bool>,
}

/// `/api/generate`.
#[derive(Deserialize)]
pub struct Generate {
    #[serde(flatten)]
    common: Common,
    prompt: Option<String>,
    suffix: Option<String>,
    system: Option<String>,
    template: Option<String>,
    context: Option<Vec<Token>>,
    raw: Option<bool>,
    images: Option<Vec<Value>>,
}

/// `/api/chat`.
#[derive(Deserialize)]
pub struct Chat {
    #[serde(flatten)]
    common: Common,
    messages: Option<Vec<Said>>,
    tools: Option<Vec<Value>>,
    template: Option<String>,
}

/// A message of a request.
#[derive(Deserialize)]
struct Said {
    role: String,
    #[serde(default)]
    content: Option<String>,
    thinking: Option<String>,
    images: Option<Vec<Value>>,
    tool_calls: Option<Vec<Value>>,
    tool_name: Option<String>,
    tool_call_id: Option<String>,
}

/// Whose words the response is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    Generate,
    Chat,
}

/// Handles `/api/generate`.
pub async fn generate(
    Shared(state): Shared<State>,
    Json(request): Json<Generate>,
) -> Result<Response, ApiError> {
    let Generate { common, prompt, suffix, system, template, context, raw, images } = request;
    let prompt = prompt.unwrap_or_default();
    let raw = raw.unwrap_or(false);
    if raw && (template.is_some() || system.is_some() || context.is_some()) {
        return Err(ApiError::invalid("raw mode does not support template, system, or context"));
    }
    if images.is_some_and(|images| !images.is_empty()) {
        return Err(no_images(&common.model));
    }
    if prompt.is_empty() && suffix.as_ref().is_none_or(String::is_empty) {
        return touch(&state, &common, Route::Generate).await;
    }
    let input = move |has_template: bool| match suffix {
        Some(suffix) if !suffix.is_empty() => Input::Infill { prefix: prompt, suffix },
        _ if raw || !(has_template || template.is_some()) => Input::Text(prompt),
        _ => {
            let system = system.map(|text| Message::new("system", text));
            let messages = system.into_iter().chain([Message::new("user", prompt)]).collect();
            let think = common.think;
            Input::Chat(Box::new(Conversation { messages, think, template, ..Default::default() }))
        }
    };
    let before = context.unwrap_or_default();
    let keeps_context = !raw;
    let work = Work { state, common, before };
    work.answer(Route::Generate, keeps_context, move |loaded| Ok(input(loaded.template.is_some())))
        .await
}

/// Handles `/api/chat`.
pub async fn chat(
    Shared(state): Shared<State>,
    Json(request): Json<Chat>,
) -> Result<Response, ApiError> {
    let Chat { common, messages, tools, template } = request;
    let messages = messages.unwrap_or_default();
    if messages.is_empty() {
        return touch(&state, &common, Route::Chat).await;
    }
    let messages: Vec<Message> =
        messages.into_iter().map(|m| m.message(&common.model)).collect::<Result<_, _>>()?;
    let tools = tools.filter(|tools| !tools.is_empty());
    let think = common.think;
    let work = Work { state, common, before: Vec::new() };
    work.answer(Route::Chat, false, move |loaded| {
        if tools.is_some() && !loaded.capabilities().tools {
            let name = loaded.name();
            return Err(ApiError::field("tools", format!("{name} does not support tools")));
        }
        Ok(Input::Chat(Box::new(Conversation {
            messages,
            tools: tools.map(Value::from),
            parallel: true,
            think,
            template,
            ..Default::default()
        })))
    })
    .await
}

fn no_images(model: &str) -> ApiError {
    ApiError::field("images", format!("\"{model}\" does not support images: it reads text only"))
}

impl Said {
    fn message(self, model: &str) -> Result<Message, ApiError> {
        if self.images.is_some_and(|images| !images.is_empty()) {
            return Err(no_images(model));
        }
        let calls = self.tool_calls.filter(|calls| !calls.is_empty());
        Ok(Message {
            role: self.role.to_lowercase(),
            content: self.content.unwrap_or_default(),
            thinking: self.thinking.filter(|text| !text.is_empty()),
            tool_calls: calls.map(|calls| calls.into_iter().map(with_type).collect()),
            tool_call_id: self.tool_call_id,
            name: self.tool_name,
        })
    }
}

/// A call in OpenAI's form, which says that it is one of a function.
fn with_type(mut call: Value) -> Value {
    if let Value::Object(map) = &mut call {
        map.entry("type").or_insert("function".into());
    }
    call
}

/// An empty prompt loads a model, and with a `keep_alive` of zero unloads it.
async fn touch(state: &State, common: &Common, route: Route) -> Result<Response, ApiError> {
    let model = &common.model;
    named(model)?;
    let off = common.keep_alive == Some(KeepAlive::For(std::time::Duration::ZERO));
    let reason = match off {
        true => {
            let local = state.models.find(model).await?;
            state.models.dismiss(&local.name);
            "unload"
        }
        false => {
            let mut sampling = crate::sampling::Sampling::default();
            let context = options::apply(common.options.as_ref(), &mut sampling)?;
            state.models.lease(model, context, common.keep_alive).await?;
            "load"
        }
    };
    let mut reply = json!({"model": model, "created_at": now()});
    match route {
        Route::Generate => reply["response"] = "".into(),
        Route::Chat => reply["message"] = json!({"role": "assistant", "content": ""}),
    }
    reply["done"] = true.into();
    reply["done_reason"] = reason.into();
    Ok(stream::json(&reply))
}

/// A request on its way.
struct Work {
    state: State,
    common: Common,
    /// Tokens of an earlier answer to go on from.
    before: Vec<Token>,
}

impl Work {
    /// Loads, asks, and answers in the form that is wanted.
    async fn answer(
        self,
        route: Route,
        keeps_context: bool,
        input: impl FnOnce(&crate::loaded::Loaded) -> Result<Input, ApiError>,
    ) -> Result<Response, ApiError> {
        let Work { state, common, before } = self;
        named(&common.model)?;
        let top = common.top_logprobs.unwrap_or(0);
        if !(0..=MAX_TOP_LOGPROBS).contains(&top) {
            return Err(ApiError::field("top_logprobs", "top_logprobs must be between 0 and 20"));
        }
        let form = options::format(common.format)?;
        // Options are checked before a model is loaded for them.
        let context = options::apply(common.options.as_ref(), &mut Default::default())?;
        let speculate = options::speculate(common.options.as_ref())?;
        let lease = state.models.lease(&common.model, context, common.keep_alive).await?;
        let mut sampling = lease.loaded().sampling.clone();
        options::apply(common.options.as_ref(), &mut sampling)?;
        let logprobs = common.logprobs.unwrap_or(false) || top > 0;
        sampling.options.top_logprobs = logprobs.then_some(top as usize);
        let mut ask = Ask::new(input(lease.loaded())?, sampling);
        (ask.context, ask.form) = (context, form);
        ask.speculate = speculate;
        ask.truncate = common.truncate.unwrap_or(false);
        ask.caller = access::caller();
        ask.before = before;
        let prepared = lease.prepare(ask).await?;
        let token_ids = common.token_ids.unwrap_or(false);
        let form = Shape { route, model: common.model, keeps_context, token_ids };
        if common.render_only.unwrap_or(false) {
            return Ok(stream::json(&form.rendered(&prepared)));
        }
        let dropped_tokens = prepared.prompt.dropped;
        let answer = prepared.start(0)?;
        let prompt = match keeps_context {
            true => prepared.prompt.tokens.clone(),
            false => Vec::new(),
        };
        let response = match common.stream.unwrap_or(true) {
            true => {
                let mut chunks = Chunks { form, context: prompt };
                let heard = answer.into_stream();
                let values = heard.flat_map(move |heard| streams::iter(chunks.chunk(heard)));
                stream::lines(values)
            }
            false => stream::json(&form.whole(answer.whole().await?, prompt)),
        };
        Ok(dropped(response, dropped_tokens))
    }
}

/// How responses look.
struct Shape {
    route: Route,
    model: String,
    keeps_context: bool,
    token_ids: bool,
}

impl Shape {
    fn head(&self) -> Value {
        json!({"model": self.model, "created_at": now()})
    }

    /// A chunk with what was said.
    fn said(&self, said: &ChatAnswer, logprobs: &[TokenLogprob]) -> Value {
        let mut chunk = self.head();
        let calls: Vec<Value> = said.tool_calls.iter().enumerate().map(call).collect();
        let body = match self.route {
            Route::Generate => {
                chunk["response"] = said.content.as_str().into();
                &mut chunk
            }
            Route::Chat => {
                chunk["message"] = json!({"role": "assistant", "content": said.content});
                &mut chunk["message"]
            }
        };
        if !said.thinking.is_empty() {
            body["thinking"] = said.thinking.as_str().into();
        }
        if !calls.is_empty() {
            body["tool_calls"] = calls.into();
        }
        if !logprobs.is_empty() {
            chunk["logprobs"] = logprobs.iter().map(|l| logprob(l, true)).collect();
        }
        chunk["done"] = false.into();
        chunk
    }

    /// Marks a chunk as the last.
    fn ended(&self, chunk: &mut Value, end: &End, context: Vec<Token>) {
        chunk["done"] = true.into();
        chunk["done_reason"] = match end.reason {
            Reason::Length => "length",
            Reason::Stop | Reason::StopText(_) => "stop",
        }
        .into();
        if self.keeps_context {
            chunk["context"] = context.into();
        }
        let t = &end.timings;
        let total = end.before + t.queue + t.prefill + t.decode;
        chunk["total_duration"] = nanoseconds(total);
        chunk["load_duration"] = nanoseconds(end.load);
        chunk["prompt_eval_count"] = end.prompt_tokens.into();
        chunk["prompt_eval_duration"] = nanoseconds(t.prefill);
        chunk["eval_count"] = end.answer_tokens.into();
        chunk["eval_duration"] = nanoseconds(t.decode);
        if end.cached_tokens > 0 {
            chunk["cached_tokens"] = end.cached_tokens.into();
        }
        if end.drafted_tokens > 0 {
            chunk["drafted_tokens"] = end.drafted_tokens.into();
            chunk["accepted_tokens"] = end.accepted_tokens.into();
        }
        if end.dropped_tokens > 0 {
            chunk["dropped_tokens"] = end.dropped_tokens.into();
        }
    }

    fn whole(&self, whole: Whole, mut context: Vec<Token>) -> Value {
        let mut reply = self.said(&whole.said, &whole.logprobs);
        if self.token_ids {
            reply["token_ids"] = whole.ids.as_slice().into();
        }
        context.extend(whole.ids);
        self.ended(&mut reply, &whole.end, context);
        reply
    }

    /// `_debug_render_only`.
    fn rendered(&self, prepared: &Prepared) -> Value {
        let text = prepared.prompt.text.clone();
        let tokens = &prepared.prompt.tokens;
        let text = text.unwrap_or_else(|| prepared.loaded().tokenizer.decode_with(tokens, true));
        let mut reply = self.head();
        reply["_debug_info"] = json!({"rendered_template": text});
        reply
    }
}

/// The chunks of a stream.
struct Chunks {
    form: Shape,
    context: Vec<Token>,
}

impl Chunks {
    fn chunk(&mut self, heard: Result<Heard, ApiError>) -> Vec<Value> {
        match heard {
            Err(error) => vec![Dialect::Ollama.error(&error)],
            Ok(Heard::Started { .. }) => Vec::new(),
            Ok(Heard::Piece(piece)) => {
                self.context.extend(piece.id.filter(|_| self.form.keeps_context));
                let mut said = ChatAnswer::default();
                said.extend(numbered(piece.events));
                let id = piece.id.filter(|_| self.form.token_ids);
                if said == ChatAnswer::default() && piece.logprob.is_none() && id.is_none() {
                    return Vec::new();
                }
                let mut chunk = self.form.said(&said, piece.logprob.as_slice());
                if let Some(id) = id {
                    chunk["token_ids"] = vec![id].into();
                }
                vec![chunk]
            }
            Ok(Heard::End(end)) => {
                let mut last = self.form.said(&ChatAnswer::default(), &[]);
                self.form.ended(&mut last, &end, std::mem::take(&mut self.context));
                vec![last]
            }
        }
    }
}

/// Calls of one chunk, counted from its first: a chunk is an answer of its own.
fn numbered(events: Vec<ChatEvent>) -> Vec<ChatEvent> {
    let first = events.iter().find_map(|event| match event {
        ChatEvent::ToolCallStart { index, .. } => Some(*index),
        _ => None,
    });
    let first = first.unwrap_or(0);
    let shift = |event| match event {
        ChatEvent::ToolCallArguments { index, text } => {
            ChatEvent::ToolCallArguments { index: index.saturating_sub(first), text }
        }
        other => other,
    };
    events.into_iter().map(shift).collect()
}

/// A call; its arguments are an object here.
fn call((index, call): (usize, &hob_text::ToolCall)) -> Value {
    let arguments: Value = serde_json::from_str(&call.arguments).unwrap_or(json!({}));
    json!({"id": call.id, "function": {"index": index, "name": call.name, "arguments": arguments}})
}

fn logprob(of: &TokenLogprob, with_top: bool) -> Value {
    let mut value = json!({"token": of.token, "logprob": of.logprob, "bytes": of.bytes});
    if with_top && !of.top.is_empty() {
        value["top_logprobs"] = of.top.iter().map(|t| logprob(t, false)).collect();
    }
    value
}

fn nanoseconds(seconds: f64) -> Value {
    ((seconds * 1e9) as u64).into()
}

fn now() -> String {
    humantime::format_rfc3339_micros(SystemTime::now()).to_string()
}
