//! Anthropic's Messages API. Nothing is stored and nothing is run for the caller: tools that Anthropic's servers run are refused, as are
//! images, files and containers. Headers of versions and betas may say what they like; caching is the engine's, whatever `cache_control` says.

mod answer;
mod blocks;
mod messages;
mod request;

use axum::Router;
use axum::routing::post;

use crate::app::State;

/// Its routes.
pub fn routes() -> Router<State> {
    Router::new()
        .route("/v1/messages", post(answer::create))
        .route("/v1/messages/count_tokens", post(answer::count))
}
