//! `/v1/models`: what is stored, loaded or not. Clients of Anthropic's API ask on the same path; they are known by their header and get its
//! form.

use std::time::SystemTime;

use axum::extract::{Path, State as Shared};
use axum::http::HeaderMap;
use axum::response::Response;
use hob_hub::LocalModel;
use serde_json::{Value, json};

use super::unknown;
use crate::app::State;
use crate::error::ApiError;
use crate::http::stream;
use crate::models::blocking;

/// Handles the list.
pub async fn list(Shared(state): Shared<State>, headers: HeaderMap) -> Result<Response, ApiError> {
    let hub = state.models.hub().clone();
    let models = blocking(move || hub.list()).await??.models;
    if is_anthropic(&headers) {
        let data: Vec<Value> = models.iter().map(anthropic).collect();
        let id = |model: Option<&LocalModel>| model.map(|m| m.name.clone());
        let (first, last) = (id(models.first()), id(models.last()));
        return Ok(stream::json(
            &json!({"data": data, "has_more": false, "first_id": first, "last_id": last}),
        ));
    }
    let data: Vec<Value> = models.iter().map(open_ai).collect();
    Ok(stream::json(&json!({"object": "list", "data": data})))
}

/// Handles one.
pub async fn one(
    Shared(state): Shared<State>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let model = state.models.find(&id).await.map_err(|e| unknown(e, &id))?;
    let shape = if is_anthropic(&headers) { anthropic } else { open_ai };
    Ok(stream::json(&shape(&model)))
}

fn is_anthropic(headers: &HeaderMap) -> bool {
    headers.contains_key("anthropic-version")
}

fn open_ai(model: &LocalModel) -> Value {
    let created = model.modified.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    json!({"id": model.name, "object": "model", "created": created, "owned_by": owner(&model.name)})
}

fn anthropic(model: &LocalModel) -> Value {
    let created = humantime::format_rfc3339_seconds(model.modified).to_string();
    json!({"type": "model", "id": model.name, "display_name": model.name, "created_at": created})
}

/// Who publishes it: what stands before the model's own name.
fn owner(name: &str) -> &str {
    name.rsplit('/').nth(1).unwrap_or("library")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners() {
        for (name, expected) in [
            ("smollm2:135m", "library"),
            ("someone/model:tag", "someone"),
            ("hf.co/Org/Repo:Q4_K_M", "Org"),
        ] {
            assert_eq!(owner(name), expected);
        }
    }
}
