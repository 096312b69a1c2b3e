//! `/v1/responses` and what can be asked about a kept one. A response is kept when it is complete; one whose reader has gone is not.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State as Shared};
use axum::response::Response;
use futures_util::{StreamExt, stream as streams};
use hob_text::Message;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::items;
use super::output::Output;
use super::request::Request;
use super::store::{Store, Stored};
use crate::access;
use crate::answer::{Answer, Ask, Heard, Prepared};
use crate::app::State;
use crate::error::{ApiError, Kind};
use crate::http::body::Json;
use crate::http::{dropped, stream};
use crate::ids;
use crate::loaded::Loaded;
use crate::prompt::{Conversation, Input};

/// Items of one page of input items: usually, and at most.
const PAGE: usize = 20;
const MAX_PAGE: usize = 100;

type Kept = Extension<Arc<Store>>;

/// Handles a request for a response.
pub async fn create(
    Shared(state): Shared<State>,
    Extension(store): Kept,
    Json(body): Json<Map<String, Value>>,
) -> Result<Response, ApiError> {
    let mut request = Request::read(&body)?;
    let said = Said::gather(&mut request, &store, access::caller().client)?;
    let messages = said.messages(&request)?;
    let extras = request.extras;
    let lease = state.models.lease(&request.model, extras.context, extras.keep_alive).await?;
    let mut ask = ask(&request, messages, lease.loaded())?;
    ask.caller = extras.caller();
    let options = &ask.sampling.options;
    let mut echo = std::mem::take(&mut request.echo);
    echo.insert("model".to_owned(), request.model.clone().into());
    echo.insert("temperature".to_owned(), decimal(options.temperature));
    echo.insert("top_p".to_owned(), decimal(options.top_p));
    let id = ids::random("resp_", 32);
    let output = Output::new(&id, now(), echo, request.summary);
    let keeper = request.store.then(|| Keeper { store, id, said });
    let prepared = match lease.prepare(ask).await {
        // Clients that stream look for this among the events.
        Err(error) if request.stream && error.too_long.is_some() => {
            return Ok(failed(output, &error));
        }
        prepared => prepared?,
    };
    respond(&prepared, request.stream, output, keeper).await
}

async fn respond(
    prepared: &Prepared,
    streams: bool,
    mut output: Output,
    keeper: Option<Keeper>,
) -> Result<Response, ApiError> {
    let mut answer = prepared.start(0)?;
    let response = match streams {
        true => events(answer, output, keeper),
        false => loop {
            let heard = answer.next().await;
            let heard = heard.ok_or_else(|| ApiError::internal("an answer without an end"))??;
            if let (_, Some(whole)) = output.take(heard) {
                keep(keeper, &whole, &output);
                break stream::json(&whole);
            }
        },
    };
    Ok(dropped(response, prepared.prompt.dropped))
}

fn events(answer: Answer, mut output: Output, mut keeper: Option<Keeper>) -> Response {
    let first = output.begin();
    let heard = answer.into_stream();
    let rest = heard.flat_map(move |heard: Result<Heard, ApiError>| {
        streams::iter(match heard {
            Err(error) => output.fail(&error),
            Ok(heard) => {
                let (events, whole) = output.take(heard);
                if let Some(whole) = whole {
                    keep(keeper.take(), &whole, &output);
                }
                events
            }
        })
    });
    stream::events(streams::iter(first).chain(rest), stream::COMMENT)
}

fn failed(mut output: Output, error: &ApiError) -> Response {
    let mut events = output.begin();
    events.extend(output.fail(error));
    stream::events(streams::iter(events), stream::COMMENT)
}

/// What was said, before the request and in it.
struct Said {
    client: u64,
    before: Vec<Arc<Value>>,
    input: Vec<Arc<Value>>,
}

impl Said {
    /// Items of the responses that the request goes on from, and its own, with references looked up.
    fn gather(request: &mut Request, store: &Store, client: u64) -> Result<Self, ApiError> {
        let before = match &request.previous {
            None => Vec::new(),
            Some(id) => match store.get(id, client) {
                Some(stored) => stored.items().cloned().collect(),
                None => {
                    let message = format!("Previous response with id '{id}' not found.");
                    let error = ApiError::field("previous_response_id", message);
                    return Err(error.with_code("previous_response_not_found"));
                }
            },
        };
        let mut input = Vec::with_capacity(request.input.len());
        for (i, item) in std::mem::take(&mut request.input).into_iter().enumerate() {
            if item["type"] != "item_reference" {
                input.push(Arc::new(item));
                continue;
            }
            let id = item["id"].as_str().unwrap_or_default();
            let found = store.item(id, client);
            let missing =
                || ApiError::field(format!("input.{i}"), format!("Item with id '{id}' not found."));
            input.push(found.ok_or_else(missing)?);
        }
        Ok(Said { client, before, input })
    }

    fn messages(&self, request: &Request) -> Result<Vec<Message>, ApiError> {
        let all = self.before.iter().chain(&self.input).map(Arc::as_ref);
        let earlier = self.before.len();
        let said = items::messages(all, |i| match i.checked_sub(earlier) {
            Some(i) => format!("input.{i}"),
            None => format!("previous_response_id: item {i}"),
        })?;
        let system = request.instructions.iter().map(|text| Message::new("system", text.as_str()));
        Ok(system.chain(said).collect())
    }
}

/// Where a response is kept when it is there.
struct Keeper {
    store: Arc<Store>,
    id: String,
    said: Said,
}

fn keep(keeper: Option<Keeper>, whole: &Value, output: &Output) {
    let Some(Keeper { store, id, said: Said { client, before, input } }) = keeper else { return };
    let output = output.items().iter().cloned().map(Arc::new).collect();
    store.put(&id, Stored { client, response: whole.clone(), before, input, output });
}

/// What is asked of this model. A wish for thoughts is passed over by a model that has none.
fn ask(request: &Request, messages: Vec<Message>, loaded: &Loaded) -> Result<Ask, ApiError> {
    if request.tools.is_some() && !loaded.capabilities().tools {
        let name = loaded.name();
        return Err(ApiError::field("tools", format!("tools: {name} does not support tools")));
    }
    let conversation = Conversation {
        messages,
        tools: request.tools.clone(),
        choice: request.choice.clone(),
        parallel: request.parallel,
        think: request.think.filter(|_| loaded.thinks()),
        ..Conversation::default()
    };
    let mut sampling = loaded.sampling.clone();
    sampling.max_tokens = request.max_tokens.or(sampling.max_tokens);
    let options = &mut sampling.options;
    options.temperature = request.temperature.unwrap_or(options.temperature);
    options.top_p = request.top_p.unwrap_or(options.top_p);
    options.seed = request.extras.seed.or(options.seed);
    options.top_logprobs = request.logprobs;
    let mut ask = Ask::new(Input::Chat(Box::new(conversation)), sampling);
    ask.context = request.extras.context;
    (ask.truncate, ask.speculate) = (request.extras.truncate, request.extras.speculate);
    ask.form = request.form.clone();
    Ok(ask)
}

/// How a kept response may be asked for.
#[derive(Deserialize)]
pub struct How {
    stream: Option<String>,
}

/// Handles `GET /v1/responses/{id}`.
pub async fn retrieve(
    Extension(store): Kept,
    Path(id): Path<String>,
    how: Result<Query<How>, QueryRejection>,
) -> Result<Response, ApiError> {
    let how = query(how)?;
    if how.stream.is_some_and(|value| value != "false") {
        return Err(ApiError::field("stream", "stream: a kept response comes as a whole only"));
    }
    Ok(stream::json(&find(&store, &id)?.response))
}

/// Handles `DELETE /v1/responses/{id}`. What went on from it stays.
pub async fn delete(Extension(store): Kept, Path(id): Path<String>) -> Result<Response, ApiError> {
    match store.delete(&id, access::caller().client) {
        true => Ok(stream::json(&json!({"id": id, "object": "response", "deleted": true}))),
        false => Err(not_kept(&id)),
    }
}

/// Handles `POST /v1/responses/{id}/cancel`: what is kept is complete.
pub async fn cancel(Extension(store): Kept, Path(id): Path<String>) -> Result<Response, ApiError> {
    find(&store, &id)?;
    Err(ApiError::invalid(
        "only responses in the background can be cancelled, and there are none here; to end a stream, close it",
    ))
}

/// Which page of the input items.
#[derive(Deserialize)]
pub struct Page {
    limit: Option<usize>,
    order: Option<String>,
    after: Option<String>,
}

/// Handles `GET /v1/responses/{id}/input_items`: those of its own request, the last first unless `order` is `asc`.
pub async fn input_items(
    Extension(store): Kept,
    Path(id): Path<String>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, ApiError> {
    let page = query(page)?;
    let stored = find(&store, &id)?;
    let limit = page.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        let what = format!("limit: expected a number from 1 to {MAX_PAGE}");
        return Err(ApiError::field("limit", what));
    }
    let mut items: Vec<&Value> = stored.input.iter().map(Arc::as_ref).collect();
    match page.order.as_deref() {
        None | Some("desc") => items.reverse(),
        Some("asc") => {}
        Some(_) => return Err(ApiError::field("order", "order: expected \"asc\" or \"desc\"")),
    }
    if let Some(after) = &page.after {
        let at = items.iter().position(|item| item["id"] == **after);
        let missing = || ApiError::field("after", format!("after: there is no item \"{after}\""));
        items.drain(..=at.ok_or_else(missing)?);
    }
    let has_more = items.len() > limit;
    items.truncate(limit);
    let id_of = |item: Option<&&Value>| item.map(|item| item["id"].clone());
    Ok(stream::json(&json!({
        "object": "list",
        "first_id": id_of(items.first()),
        "last_id": id_of(items.last()),
        "has_more": has_more,
        "data": items,
    })))
}

fn query<T>(read: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    read.map(|Query(query)| query).map_err(|e| ApiError::invalid(e.body_text()))
}

fn find(store: &Store, id: &str) -> Result<Arc<Stored>, ApiError> {
    store.get(id, access::caller().client).ok_or_else(|| not_kept(id))
}

fn not_kept(id: &str) -> ApiError {
    ApiError::new(Kind::NotFound, format!("Response with id '{id}' not found."))
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// A number as it was written, not as its nearest float of half the width is.
fn decimal(x: f32) -> Value {
    x.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}
