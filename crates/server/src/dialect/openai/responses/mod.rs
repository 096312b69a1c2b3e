//! OpenAI's Responses API. Responses are kept in this server's memory, as many as `store` bounds, each for its own client; what goes on from one
//! needs it to be there still. Nothing runs in the background, and no tool runs here.

mod answer;
mod items;
mod output;
mod request;
mod store;

use std::sync::Arc;

use axum::Extension;

use crate::routes::Routes;

/// Its routes, with a store of their own.
pub fn routes() -> Routes {
    let kept = Arc::new(store::Store::default());
    Routes::default()
        .post("/v1/responses", answer::create)
        .get("/v1/responses/{id}", answer::retrieve)
        .delete("/v1/responses/{id}", answer::delete)
        .get("/v1/responses/{id}/input_items", answer::input_items)
        .post("/v1/responses/{id}/cancel", answer::cancel)
        .with(|router| router.layer(Extension(kept)))
}
