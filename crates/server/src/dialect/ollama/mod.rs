//! Ollama's native API: lines of JSON, durations in nanoseconds, errors as `{"error": text}`. Where Ollama cuts a long prompt without a
//! word, hob refuses it, unless `truncate` is asked for.

mod answer;
mod options;

use axum::Router;
use axum::routing::{get, post};
use serde_json::json;

use crate::app::State;
use crate::http::stream;

/// Its routes.
pub fn routes() -> Router<State> {
    Router::new()
        .route("/", get(async || "Ollama is running"))
        .route("/api/version", get(version))
        .route("/api/generate", post(answer::generate))
        .route("/api/chat", post(answer::chat))
}

/// The version of Ollama whose API this is: clients look at it before they use what is newer.
const API_VERSION: &str = "0.30.0";

async fn version() -> axum::response::Response {
    stream::json(&json!({"version": API_VERSION, "hob": env!("CARGO_PKG_VERSION")}))
}
