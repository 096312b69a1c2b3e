//! OpenAI's Responses API. Responses are kept in this server's memory, as many as `store` bounds, each for its own client; what goes on from one
//! needs it to be there still. Nothing runs in the background, and no tool runs here.

mod answer;
mod items;
mod output;
mod request;
mod store;

use std::sync::Arc;

use axum::routing::{get, post};
use axum::{Extension, Router};

use crate::app::State;

/// Its routes, with a store of their own.
pub fn routes() -> Router<State> {
    let kept = Arc::new(store::Store::default());
    Router::new()
        .route("/v1/responses", post(answer::create))
        .route("/v1/responses/{id}", get(answer::retrieve).delete(answer::delete))
        .route("/v1/responses/{id}/input_items", get(answer::input_items))
        .route("/v1/responses/{id}/cancel", post(answer::cancel))
        .layer(Extension(kept))
}
