//! `/v1/messages` and its count of tokens. A stream begins when the request leaves the queue; what goes wrong behind that is an event.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State as Shared;
use axum::response::Response;
use futures_util::{StreamExt, stream as streams};
use serde_json::{Map, Value, json};

use super::blocks::Message;
use super::request::Request;
use crate::answer::{Answer, Heard};
use crate::app::State;
use crate::error::ApiError;
use crate::http::body::Json;
use crate::http::shape::{Dialect, RequestId};
use crate::http::stream::Sse;
use crate::http::{dropped, stream};
use crate::models::blocking;
use crate::prompt::Room;

/// Sent while there is nothing else to say.
const PING: &str = "event: ping\ndata: {\"type\":\"ping\"}\n\n";

/// Handles `/v1/messages`.
pub async fn create(
    Shared(state): Shared<State>,
    Extension(id): Extension<RequestId>,
    Json(body): Json<Map<String, Value>>,
) -> Result<Response, ApiError> {
    let request = Request::read(&body)?;
    let extras = request.extras;
    let lease = state.models.lease(&request.model, extras.context, extras.keep_alive).await?;
    let mut ask = request.ask(lease.loaded())?;
    ask.caller = extras.caller();
    let prepared = lease.prepare(ask).await?;
    let left_out = prepared.prompt.dropped;
    let answer = prepared.start(0)?;
    let message = Message::new(request.model, request.shows_thinking, request.stops);
    let response = match request.stream {
        true => events(answer, message, id),
        false => stream::json(&whole(answer, message).await?),
    };
    Ok(dropped(response, left_out))
}

async fn whole(mut answer: Answer, mut message: Message) -> Result<Value, ApiError> {
    while let Some(heard) = answer.next().await {
        match heard? {
            Heard::End(end) => return Ok(message.whole(&end)),
            heard => drop(message.take(heard)),
        }
    }
    Err(ApiError::internal("an answer without an end"))
}

fn events(answer: Answer, mut message: Message, id: RequestId) -> Response {
    let heard = answer.into_stream();
    let events = heard.flat_map(move |heard| {
        streams::iter(match heard {
            Ok(heard) => message.take(heard),
            Err(error) => vec![Sse::named("error", &Dialect::Anthropic.error_of(&error, &id))],
        })
    });
    stream::events(events, PING)
}

/// Handles `/v1/messages/count_tokens`: the prompt is made, and nothing is answered.
pub async fn count(
    Shared(state): Shared<State>,
    Json(body): Json<Map<String, Value>>,
) -> Result<Response, ApiError> {
    let request = Request::read_to_count(&body)?;
    let lease = state.models.lease(&request.model, None, request.extras.keep_alive).await?;
    let ask = request.ask(lease.loaded())?;
    let room = Room { context: usize::MAX, answer: 1, truncate: false };
    let lease = Arc::clone(&lease);
    let prompt = blocking(move || lease.loaded().prompt(&ask.input, room)).await??;
    Ok(stream::json(&json!({"input_tokens": prompt.tokens.len()})))
}
