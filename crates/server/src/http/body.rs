//! A request's JSON: bounded, parsed, and what is wrong with it told. The type that a client claims for it is not looked at: many claim none.

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use crate::error::{ApiError, Kind};

/// Longest body that is read. Conversations of a million tokens have some megabytes.
pub const MAX_BODY: usize = 64 << 20;

/// A body of JSON.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let bytes = read(request.into_body()).await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(ApiError::invalid("missing request body"));
        }
        // Nesting is bounded by serde_json itself, at 128.
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Json).map_err(|e| ApiError::invalid(format!("the request is not valid: {e}")))
    }
}

/// The whole of a body.
///
/// # Errors
/// When it is longer than [`MAX_BODY`], or breaks off.
pub async fn read(body: Body) -> Result<bytes::Bytes, ApiError> {
    to_bytes(body, MAX_BODY).await.map_err(|e| {
        let mut cause: Option<&dyn std::error::Error> = Some(&e);
        while let Some(error) = cause {
            if error.to_string().contains("length limit exceeded") {
                let message = format!("the request is longer than {MAX_BODY} bytes");
                return ApiError::new(Kind::TooLarge, message);
            }
            cause = error.source();
        }
        ApiError::invalid(format!("the request breaks off: {e}"))
    })
}
