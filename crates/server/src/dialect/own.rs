//! hob's own routes: whether it lives, whether it is ready, what it counts, tokens of texts.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State as Shared;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use hob_hub::LocalModel;
use hob_text::{EncodeOptions, Token, Tokenizer};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::State;
use crate::error::{ApiError, Kind, LoadError};
use crate::file::ModelFile;
use crate::http::body::Json;
use crate::http::stream;
use crate::models::blocking;
use crate::routes::Routes;

/// Its routes.
pub fn routes() -> Routes {
    Routes::default()
        .get("/health", health)
        .get("/ready", ready)
        .get("/metrics", metrics)
        .post("/tokenize", tokenize)
        .post("/detokenize", detokenize)
        .get("/openapi.json", description)
}

/// The description of all routes.
pub const OPENAPI: &str = include_str!("openapi.json");

async fn health() -> Response {
    stream::json(&json!({"status": "ok"}))
}

async fn ready(Shared(state): Shared<State>) -> Response {
    match state.shutdown.is_closing() {
        true => ApiError::new(Kind::Unavailable, "the server is shutting down").into_response(),
        false => stream::json(&json!({"status": "ready"})),
    }
}

async fn metrics(Shared(state): Shared<State>) -> Response {
    let text = state.metrics.text(&state.models.seen());
    let mut response = text.into_response();
    let form =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, form);
    response
}

async fn description() -> Response {
    let mut response = OPENAPI.into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// `/tokenize`, as in llama.cpp, with the model's name.
#[derive(Deserialize)]
struct Tokenize {
    model: String,
    #[serde(alias = "text", alias = "prompt")]
    content: String,
    add_special: Option<bool>,
    parse_special: Option<bool>,
    with_pieces: Option<bool>,
}

async fn tokenize(
    Shared(state): Shared<State>,
    Json(asked): Json<Tokenize>,
) -> Result<Response, ApiError> {
    let tokenizer = state.tokenizer(&asked.model).await?;
    let options = EncodeOptions {
        add_special: asked.add_special.unwrap_or(false),
        parse_special: asked.parse_special.unwrap_or(true),
    };
    let pieces = asked.with_pieces.unwrap_or(false);
    let reply = blocking(move || {
        let tokens = tokenizer.encode(&asked.content, options);
        let piece =
            |&t: &Token| String::from_utf8_lossy(tokenizer.token_bytes(t, true)).into_owned();
        let with = |t: &Token| json!({"id": t, "piece": piece(t)});
        match pieces {
            true => json!({"tokens": tokens.iter().map(with).collect::<Vec<Value>>()}),
            false => json!({"tokens": tokens}),
        }
    });
    Ok(stream::json(&reply.await?))
}

/// `/detokenize`, likewise.
#[derive(Deserialize)]
struct Detokenize {
    model: String,
    tokens: Vec<Token>,
}

async fn detokenize(
    Shared(state): Shared<State>,
    Json(asked): Json<Detokenize>,
) -> Result<Response, ApiError> {
    let tokenizer = state.tokenizer(&asked.model).await?;
    let known = tokenizer.vocab_size();
    if let Some(token) = asked.tokens.iter().find(|&&t| t as usize >= known) {
        let message = format!("token {token} is not one of the vocabulary's {known}");
        return Err(ApiError::field("tokens", message));
    }
    let text = tokenizer.decode_with(&asked.tokens, true);
    Ok(stream::json(&json!({"content": text})))
}

/// Vocabularies of models that need not be loaded: the last few.
#[derive(Default)]
pub struct Tokenizers(Mutex<Vec<(LocalModel, Arc<Tokenizer>)>>);

/// How many are kept.
const KEPT: usize = 4;

impl State {
    /// The vocabulary of a model, which is not loaded for it.
    ///
    /// # Errors
    /// When there is no such model, or it cannot be read.
    pub async fn tokenizer(&self, model: &str) -> Result<Arc<Tokenizer>, ApiError> {
        if model.is_empty() {
            return Err(ApiError::field("model", "model is required"));
        }
        let local = self.models.find(model).await?;
        let loaded = self.models.seen().into_iter().map(|seen| seen.loaded);
        if let Some(loaded) = loaded.into_iter().find(|l| l.file.local == local) {
            return Ok(loaded.tokenizer.clone());
        }
        let kept = || self.tokenizers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, tokenizer)) = kept().iter().find(|(known, _)| *known == local) {
            return Ok(tokenizer.clone());
        }
        let (hub, wanted) = (self.models.hub().clone(), local.clone());
        let read = move || -> Result<Tokenizer, LoadError> {
            let file = ModelFile::read(&hub, wanted, &mut |_| {})?;
            Ok(Tokenizer::from_gguf(file.meta())?)
        };
        let tokenizer = Arc::new(blocking(read).await??);
        let mut all = kept();
        all.insert(0, (local, tokenizer.clone()));
        all.truncate(KEPT);
        Ok(tokenizer)
    }
}
