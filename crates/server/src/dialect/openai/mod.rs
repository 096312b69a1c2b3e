//! OpenAI's API: chat and text completions, embeddings, the list of models, and the rerankings that grew beside it. Fields that change what a
//! model does are obeyed or refused; those that only concern OpenAI's own house (`store`, `user`, `service_tier`) are passed over.

mod answers;
mod chat;
mod chat_shape;
mod completion;
mod embeddings;
mod form;
mod messages;
mod models;
mod options;
mod rerank;
mod responses;
mod tools;

use serde::Deserialize;
use serde_json::Value;

use crate::error::ApiError;
use crate::routes::Routes;

/// Its routes.
pub fn routes() -> Routes {
    Routes::default()
        .post("/v1/chat/completions", chat::chat)
        .post("/v1/completions", completion::completion)
        .post("/v1/embeddings", embeddings::embeddings)
        .get("/v1/models", models::list)
        .get("/v1/models/{*id}", models::one)
        .post("/v1/rerank", rerank::rerank)
        .post("/v1/reranking", rerank::rerank)
        .post("/rerank", rerank::rerank)
        .and(responses::routes())
}

/// The part of a request that `T` knows; other fields are passed over. What is wrong is told with its path.
///
/// # Errors
/// When a field is of a wrong type.
fn part<'b, T: Deserialize<'b>>(body: &'b Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(body).map_err(|e| {
        let path = e.path().to_string();
        let message = format!("Invalid value for '{path}': {}.", e.inner());
        ApiError::field(path, message).with_code("invalid_type")
    })
}

/// A field that is not within its range.
fn out_of_range(param: &str, expected: &str, found: impl std::fmt::Display) -> ApiError {
    let message = format!("Invalid '{param}': expected {expected}, but got {found} instead.");
    ApiError::field(param, message).with_code("invalid_value")
}

/// A field that hob cannot obey.
fn unsupported(param: &str, message: impl Into<String>) -> ApiError {
    ApiError::field(param, message).with_code("unsupported_parameter")
}

/// The name of the model, which must be there.
fn model(name: Option<&str>) -> Result<&str, ApiError> {
    let missing = || ApiError::field("model", "you must provide a model parameter");
    name.filter(|name| !name.is_empty()).ok_or_else(missing)
}

/// What the middle refuses by its own names, by those of this API; `form` is the field that asked for a form.
fn named(error: ApiError, form: &str) -> ApiError {
    let name = match error.param.as_deref() {
        Some("format") => form,
        Some("template") => "chat_template",
        Some("think") => "reasoning_effort",
        _ => return error,
    };
    ApiError { param: Some(name.to_owned()), ..error }
}

/// An unknown model in OpenAI's words.
fn unknown(error: ApiError, name: &str) -> ApiError {
    match error.code {
        Some("model_not_found") => ApiError {
            message: format!(
                "The model '{name}' does not exist here; `hob pull {name}` may fetch it"
            ),
            param: Some("model".to_owned()),
            ..error
        },
        _ => error,
    }
}
