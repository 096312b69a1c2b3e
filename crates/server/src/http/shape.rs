//! Errors in the form that each protocol has for them, in one place: handlers return [`ApiError`], which travels beside an empty response to
//! here, where the path tells the dialect.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::{Value, json};

use crate::error::{ApiError, Kind};

/// A protocol that clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Ollama's own, and hob's.
    Ollama,
    /// OpenAI's.
    OpenAi,
    /// Anthropic's.
    Anthropic,
}

impl Dialect {
    /// Whose a path is.
    pub fn of(path: &str) -> Self {
        match path {
            _ if path.starts_with("/v1/messages") => Dialect::Anthropic,
            _ if path.starts_with("/v1/") || path == "/rerank" => Dialect::OpenAi,
            _ => Dialect::Ollama,
        }
    }

    /// The status that it has for an error.
    pub fn status(self, error: &ApiError) -> u16 {
        match (self, error.kind) {
            (Dialect::OpenAi | Dialect::Anthropic, Kind::Busy) => 429,
            (Dialect::Anthropic, Kind::Unavailable | Kind::Memory) => 529,
            (Dialect::Ollama, Kind::Memory) => 500,
            (_, kind) => kind.status(),
        }
    }

    /// The body that it has for an error; also what is sent when a stream fails.
    pub fn error(self, error: &ApiError) -> Value {
        let message = error.message.as_str();
        match self {
            Dialect::Ollama => json!({"error": message}),
            Dialect::OpenAi => json!({"error": {
                "message": open_ai_message(error),
                "type": open_ai_type(error.kind),
                "param": error.param,
                "code": error.code,
            }}),
            Dialect::Anthropic => json!({"type": "error", "error": {
                "type": anthropic_type(error.kind),
                "message": anthropic_message(error),
            }}),
        }
    }

    /// The same, with the request's identifier where the dialect has a place for it.
    pub fn error_of(self, error: &ApiError, id: &RequestId) -> Value {
        let mut value = self.error(error);
        if self == Dialect::Anthropic {
            value["request_id"] = id.0.as_str().into();
        }
        value
    }

    /// The whole response for an error.
    pub fn response(self, error: &ApiError, id: &RequestId) -> Response {
        let status = StatusCode::from_u16(self.status(error)).unwrap_or_default();
        let mut response = Response::new(Body::from(self.error_of(error, id).to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(after) = error.retry_after {
            headers.insert(header::RETRY_AFTER, seconds(after).into());
        }
        response
    }
}

/// Whole seconds, at least one.
fn seconds(time: Duration) -> u64 {
    (time.as_millis().div_ceil(1000) as u64).max(1)
}

fn open_ai_type(kind: Kind) -> &'static str {
    match kind {
        // OpenAI calls an unknown model, too, an invalid request.
        Kind::Invalid
        | Kind::NotFound
        | Kind::Method
        | Kind::TooLarge
        | Kind::Unsupported
        | Kind::Timeout => "invalid_request_error",
        Kind::Unauthorized => "authentication_error",
        Kind::Forbidden => "permission_error",
        Kind::Busy => "rate_limit_error",
        Kind::Unavailable | Kind::Memory | Kind::Internal => "api_error",
    }
}

fn anthropic_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Invalid | Kind::Method | Kind::Unsupported | Kind::Timeout => "invalid_request_error",
        Kind::TooLarge => "request_too_large",
        Kind::Unauthorized => "authentication_error",
        Kind::Forbidden => "permission_error",
        Kind::NotFound => "not_found_error",
        Kind::Busy => "rate_limit_error",
        Kind::Unavailable | Kind::Memory => "overloaded_error",
        Kind::Internal => "api_error",
    }
}

/// Gateways look for these words, and take a model with more context when they find them.
fn open_ai_message(error: &ApiError) -> String {
    match error.too_long {
        Some((_, most)) => {
            let most = most.saturating_add(1);
            format!("This model's maximum context length is {most} tokens: {}", error.message)
        }
        None => error.message.clone(),
    }
}

/// Claude Code looks for these words, and shortens the conversation when it finds them.
fn anthropic_message(error: &ApiError) -> String {
    match error.too_long {
        Some((tokens, most)) => {
            format!("prompt is too long: {tokens} tokens > {most} maximum; {}", error.message)
        }
        None => error.message.clone(),
    }
}

/// By which a request can be asked after: an extension of the request, which `access` puts there and into the head of the response.
#[derive(Clone, Debug, Default)]
pub struct RequestId(pub String);

/// The layer that turns an [`ApiError`] beside a response into the dialect's answer.
pub async fn errors(request: Request, next: Next) -> Response {
    let dialect = Dialect::of(request.uri().path());
    let id = request.extensions().get::<RequestId>().cloned().unwrap_or_default();
    let mut response = next.run(request).await;
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        response = dialect.response(&error, &id);
        // For the log, which is further out.
        response.extensions_mut().insert(error);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dialect_has_its_form() {
        let error = ApiError { param: Some("n".into()), ..ApiError::invalid("no") };
        assert_eq!(Dialect::of("/api/chat").error(&error), json!({"error": "no"}));
        assert_eq!(
            Dialect::of("/v1/chat/completions").error(&error),
            json!({"error": {"message": "no", "type": "invalid_request_error", "param": "n", "code": null}})
        );
        assert_eq!(
            Dialect::of("/v1/messages/count_tokens").error(&error),
            json!({"type": "error", "error": {"type": "invalid_request_error", "message": "no"}})
        );
    }

    #[test]
    fn anthropic_s_clients_find_what_they_look_for() {
        let error = ApiError::too_long(5000, 4097);
        let body = Dialect::Anthropic.error_of(&error, &RequestId("req_1".into()));
        assert_eq!(body["request_id"], "req_1");
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("prompt is too long: 5000 tokens > 4096 maximum"), "{message}");
    }

    #[test]
    fn openai_s_clients_find_what_they_look_for() {
        let body = Dialect::OpenAi.error(&ApiError::too_long(5000, 4096));
        assert_eq!(body["error"]["code"], "context_length_exceeded");
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("This model's maximum context length is 4096 tokens"));
    }

    #[test]
    fn a_full_queue_says_when_to_come_back() {
        let error = ApiError::busy("full", Duration::from_millis(1200));
        for (dialect, status) in
            [(Dialect::Ollama, 503), (Dialect::OpenAi, 429), (Dialect::Anthropic, 429)]
        {
            let response = dialect.response(&error, &RequestId("req_1".into()));
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        }
    }
}
