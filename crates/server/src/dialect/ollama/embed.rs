//! `/api/embed` and its older form `/api/embeddings`. What is too long is refused unless `truncate` is asked for; then the answer says how many
//! tokens were left out.

use std::time::Instant;

use axum::extract::State as Shared;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::options;
use crate::app::State;
use crate::embed::{EmbedAsk, Embedded, Texts};
use crate::error::ApiError;
use crate::http::body::{Json, or_default};
use crate::http::{dropped, stream};
use crate::models::{KeepAlive, Lease};

/// Most texts of one request.
const MAX_TEXTS: usize = 8192;

/// `/api/embed`.
#[derive(Deserialize)]
pub struct Embed {
    #[serde(default, deserialize_with = "or_default")]
    model: String,
    input: Option<Value>,
    truncate: Option<bool>,
    dimensions: Option<i64>,
    options: Option<Map<String, Value>>,
    #[serde(default, deserialize_with = "options::keep_alive")]
    keep_alive: Option<KeepAlive>,
}

/// `/api/embeddings`.
#[derive(Deserialize)]
pub struct Embeddings {
    #[serde(default, deserialize_with = "or_default")]
    model: String,
    prompt: Option<String>,
    options: Option<Map<String, Value>>,
    #[serde(default, deserialize_with = "options::keep_alive")]
    keep_alive: Option<KeepAlive>,
}

/// Handles `/api/embed`.
pub async fn embed(
    Shared(state): Shared<State>,
    Json(request): Json<Embed>,
) -> Result<Response, ApiError> {
    let begun = Instant::now();
    let texts = texts(request.input)?;
    let dimensions = match request.dimensions {
        None | Some(0) => None,
        Some(n) => Some(usize::try_from(n).map_err(|_| {
            ApiError::field("dimensions", format!("dimensions is {n}; it cannot be negative"))
        })?),
    };
    let Embed { model, options, keep_alive, truncate, .. } = request;
    let lease = lease(&state, &model, options.as_ref(), keep_alive).await?;
    if texts.is_empty() {
        return Ok(stream::json(&json!({"model": model, "embeddings": []})));
    }
    let load = lease.load_seconds();
    let truncate = truncate.unwrap_or(false);
    let ask = EmbedAsk { texts, truncate, normalize: true, dimensions, caller: None };
    let Embedded { vectors, tokens, dropped: left_out } = lease.embed_as(ask).await?;
    let mut reply = json!({
        "model": model,
        "embeddings": vectors,
        "total_duration": begun.elapsed().as_nanos() as u64,
        "load_duration": (load * 1e9) as u64,
        "prompt_eval_count": tokens,
    });
    if left_out > 0 {
        reply["dropped_tokens"] = left_out.into();
    }
    Ok(dropped(stream::json(&reply), left_out))
}

/// Handles `/api/embeddings`.
pub async fn embeddings(
    Shared(state): Shared<State>,
    Json(request): Json<Embeddings>,
) -> Result<Response, ApiError> {
    let Embeddings { model, prompt, options, keep_alive } = request;
    let lease = lease(&state, &model, options.as_ref(), keep_alive).await?;
    let prompt = prompt.unwrap_or_default();
    if prompt.is_empty() {
        return Ok(stream::json(&json!({"embedding": []})));
    }
    let texts = vec![Texts::Text(prompt)];
    let (vectors, _) = lease.embed(texts, false).await?;
    let vector = vectors.into_iter().next().unwrap_or_default();
    Ok(stream::json(&json!({"embedding": vector})))
}

/// The model, with the context that the options ask for.
async fn lease(
    state: &State,
    model: &str,
    asked: Option<&Map<String, Value>>,
    keep: Option<KeepAlive>,
) -> Result<std::sync::Arc<Lease>, ApiError> {
    super::named(model)?;
    let context = options::apply(asked, &mut Default::default())?;
    state.models.lease(model, context, keep).await
}

/// A text, or a list of them.
fn texts(input: Option<Value>) -> Result<Vec<Texts>, ApiError> {
    let wrong = || ApiError::field("input", "invalid input type");
    let all = match input {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) if text.is_empty() => Vec::new(),
        Some(text @ Value::String(_)) => vec![text],
        Some(Value::Array(all)) => all,
        Some(_) => return Err(wrong()),
    };
    if all.len() > MAX_TEXTS {
        let message = format!("{} texts; at most {MAX_TEXTS} come in one request", all.len());
        return Err(ApiError::field("input", message));
    }
    let text = |value| match value {
        Value::String(text) => Ok(Texts::Text(text)),
        _ => Err(wrong()),
    };
    all.into_iter().map(text).collect()
}
