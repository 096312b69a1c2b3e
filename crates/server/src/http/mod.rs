//! What all dialects share of HTTP: bodies in and out, connections, the form of errors. Nothing here knows a model.

pub mod body;
pub mod fields;
pub mod holder;
pub mod listen;
pub mod shape;
pub mod stream;

use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;

use crate::answer::Caller;

/// Says in a response's head how many tokens of the prompt were left out, if any.
pub fn dropped(mut response: Response, tokens: usize) -> Response {
    if tokens > 0 {
        response.headers_mut().insert("x-hob-dropped-tokens", HeaderValue::from(tokens));
    }
    response
}

/// Who asks, from the headers that the guard has written.
pub fn caller(headers: &HeaderMap) -> Caller {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let number = |name: &str| text(name).and_then(|t| t.trim().parse().ok()).unwrap_or(0);
    let (priority, most) = (number("x-hob-priority"), number("x-hob-most-priority"));
    let client = text("x-hob-client").map_or(0, |name| {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        hasher.finish().max(1)
    });
    Caller { client, priority, most }
}
