//! Ollama's native API: lines of JSON, durations in nanoseconds, errors as `{"error": text}`. Where Ollama cuts a long prompt without a
//! word, hob refuses it, unless `truncate` is asked for.

mod answer;
mod blobs;
mod create;
mod embed;
mod models;
mod options;
mod other;
mod pull;

use axum::Router;
use axum::routing::{delete, get, head, post};

use crate::app::State;
use crate::error::ApiError;

/// Its routes.
pub fn routes() -> Router<State> {
    Router::new()
        .route("/", get(async || "Ollama is running"))
        .route("/api/version", get(other::version))
        .route("/api/status", get(other::status))
        .route("/api/tags", get(models::tags))
        .route("/api/ps", get(models::ps))
        .route("/api/show", post(models::show))
        .route("/api/generate", post(answer::generate))
        .route("/api/chat", post(answer::chat))
        .route("/api/embed", post(embed::embed))
        .route("/api/embeddings", post(embed::embeddings))
        .route("/api/pull", post(pull::pull))
        .route("/api/push", post(pull::push))
        .route("/api/create", post(create::create))
        .route("/api/copy", post(models::copy))
        .route("/api/delete", delete(models::delete))
        .route("/api/blobs/{digest}", head(blobs::head).post(blobs::receive))
        .route("/api/me", post(other::no_account))
        .route("/api/signout", post(other::no_account))
        .route("/api/user/keys/{key}", delete(other::no_account))
        .route("/api/experimental/web_search", post(other::no_cloud))
        .route("/api/experimental/web_fetch", post(other::no_cloud))
        .route("/api/experimental/model-recommendations", get(other::recommendations))
}

/// A model has to be named.
fn named(model: &str) -> Result<(), ApiError> {
    match model.is_empty() {
        true => Err(ApiError::field("model", "model is required")),
        false => Ok(()),
    }
}

/// The name, under today's key or the one of before.
fn either(model: Option<&str>, name: Option<&str>) -> Result<String, ApiError> {
    let name = model.filter(|m| !m.is_empty()).or(name).unwrap_or_default();
    named(name).map(|()| name.to_owned())
}
