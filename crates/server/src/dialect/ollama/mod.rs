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

use crate::error::ApiError;
use crate::routes::Routes;

/// Its routes.
pub fn routes() -> Routes {
    Routes::default()
        .get("/", async || "Ollama is running")
        .get("/api/version", other::version)
        .get("/api/status", other::status)
        .get("/api/tags", models::tags)
        .get("/api/ps", models::ps)
        .post("/api/show", models::show)
        .post("/api/generate", answer::generate)
        .post("/api/chat", answer::chat)
        .post("/api/embed", embed::embed)
        .post("/api/embeddings", embed::embeddings)
        .post("/api/pull", pull::pull)
        .post("/api/push", pull::push)
        .post("/api/create", create::create)
        .post("/api/copy", models::copy)
        .delete("/api/delete", models::delete)
        .head("/api/blobs/{digest}", blobs::head)
        .post("/api/blobs/{digest}", blobs::receive)
        .post("/api/me", other::no_account)
        .post("/api/signout", other::no_account)
        .delete("/api/user/keys/{key}", other::no_account)
        .post("/api/experimental/web_search", other::no_cloud)
        .post("/api/experimental/web_fetch", other::no_cloud)
        .get("/api/experimental/model-recommendations", other::recommendations)
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
