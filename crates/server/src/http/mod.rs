//! What all dialects share of HTTP: bodies in and out, connections, the form of errors. Nothing here knows a model.

pub mod body;
pub mod fields;
pub mod holder;
pub mod listen;
pub mod shape;
pub mod stream;

use axum::http::HeaderValue;
use axum::response::Response;

/// Says in a response's head how many tokens of the prompt were left out, if any.
pub fn dropped(mut response: Response, tokens: usize) -> Response {
    if tokens > 0 {
        response.headers_mut().insert("x-hob-dropped-tokens", HeaderValue::from(tokens));
    }
    response
}
