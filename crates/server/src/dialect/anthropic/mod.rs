//! Anthropic's Messages API. Nothing is stored and nothing is run for the caller: tools that Anthropic's servers run are refused, as are
//! images, files and containers. Headers of versions and betas may say what they like; caching is the engine's, whatever `cache_control` says.

mod answer;
mod blocks;
mod messages;
mod request;

use crate::routes::Routes;

/// Its routes.
pub fn routes() -> Routes {
    Routes::default()
        .post("/v1/messages", answer::create)
        .post("/v1/messages/count_tokens", answer::count)
}
