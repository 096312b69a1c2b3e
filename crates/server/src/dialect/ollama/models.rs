//! What models there are and what they are: `/api/tags`, `/api/ps`, `/api/show`; their names and removal: `/api/copy`, `/api/delete`. Names
//! only: no request leads to a path of this machine, and no answer tells one.

use std::time::{Duration, SystemTime};

use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hob_hub::{HubError, Keeper, LocalModel};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::State;
use crate::describe::{self, From};
use crate::error::{ApiError, Kind};
use crate::file::ModelFile;
use crate::http::body::Json;
use crate::http::stream;
use crate::models::{Seen, blocking};

/// `expires_at` of what never goes, as far ahead as Ollama's: Go's longest duration.
const NEVER: Duration = Duration::from_nanos(i64::MAX as u64);

/// A request that names a model.
#[derive(Deserialize)]
pub struct Named {
    model: Option<String>,
    name: Option<String>,
    verbose: Option<bool>,
}

/// `/api/copy`.
#[derive(Deserialize)]
pub struct Copy {
    source: Option<String>,
    destination: Option<String>,
}

impl Named {
    fn name(&self) -> Result<String, ApiError> {
        super::either(self.model.as_deref(), self.name.as_deref())
    }
}

/// Handles `/api/tags`, newest first.
pub async fn tags(Shared(state): Shared<State>) -> Result<Response, ApiError> {
    let (hub, cards) = (state.models.hub().clone(), state.cards.clone());
    let models = blocking(move || {
        let mut models = hub.list()?.models;
        models.sort_by_key(|m| std::cmp::Reverse(m.modified));
        let tag = |m: &LocalModel| describe::tag(&hub, m, cards.card(&hub, m).as_ref());
        Ok::<Value, HubError>(models.iter().map(tag).collect())
    });
    Ok(stream::json(&json!({"models": models.await??})))
}

/// Handles `/api/ps`.
pub async fn ps(Shared(state): Shared<State>) -> Result<Response, ApiError> {
    let seen = state.models.seen();
    let models: Value = blocking(move || seen.iter().map(loaded).collect()).await?;
    Ok(stream::json(&json!({"models": models})))
}

fn loaded(seen: &Seen) -> Value {
    let model = &seen.loaded;
    let expires = seen.expires.unwrap_or_else(|| SystemTime::now() + NEVER);
    json!({
        "name": model.name(),
        "model": model.name(),
        "size": model.memory,
        "digest": describe::digest(&model.file.local),
        "details": describe::details(&model.file),
        "expires_at": describe::timestamp(expires),
        "size_vram": 0,
        "context_length": model.context.tokens,
        // hob's own.
        "users": seen.users,
        "sequences": model.context.limits.sequences,
        "load_duration": model.load_time.as_nanos() as u64,
    })
}

/// Handles `/api/show`.
pub async fn show(
    Shared(state): Shared<State>,
    headers: HeaderMap,
    Json(request): Json<Named>,
) -> Result<Response, ApiError> {
    let name = request.name()?;
    let local = state.models.find(&name).await?;
    let hub = state.models.hub().clone();
    let verbose = request.verbose.unwrap_or(false);
    let mut reply = blocking(move || {
        let file = ModelFile::peek(&hub, local)?;
        let mut reply = describe::show(&file, verbose, From::Name)?;
        reply["measured"] = hub.measured(&file.local).into();
        Ok::<Value, ApiError>(reply)
    })
    .await??;
    // Copilot knows models by this key.
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if agent.contains("Copilot") {
        reply["model_info"]["general.basename"] = name.into();
    }
    Ok(stream::json(&reply))
}

/// Handles `/api/copy`.
pub async fn copy(
    Shared(state): Shared<State>,
    Json(request): Json<Copy>,
) -> Result<Response, ApiError> {
    let part = |name: Option<String>, what| match name.filter(|n| !n.is_empty()) {
        Some(name) => Ok(name),
        None => Err(ApiError::field(what, format!("{what} \"\" is invalid"))),
    };
    let source = part(request.source, "source")?;
    let destination = part(request.destination, "destination")?;
    let local = kept_here(&state, &source, "source").await?;
    let hub = state.models.hub().clone();
    let copied = blocking(move || match hub.copy(&local.name, &destination) {
        Err(HubError::BadName { .. }) => {
            Err(ApiError::field("destination", format!("destination \"{destination}\" is invalid")))
        }
        other => Ok(other?),
    });
    copied.await??;
    Ok(StatusCode::OK.into_response())
}

/// Handles `/api/delete`. Who uses the model keeps it until his answer ends.
pub async fn delete(
    Shared(state): Shared<State>,
    Json(request): Json<Named>,
) -> Result<Response, ApiError> {
    let name = request.name()?;
    let local = match kept_here(&state, &name, "model").await {
        Ok(local) => local.name,
        // A damaged one can be removed all the same.
        Err(error) if error.kind == Kind::Internal => name,
        Err(error) => return Err(error),
    };
    let hub = state.models.hub().clone();
    let removed = local.clone();
    blocking(move || hub.remove(&removed)).await??;
    state.models.dismiss(&local);
    Ok(StatusCode::OK.into_response())
}

/// A model of hob's own store, which alone is changed here.
async fn kept_here(state: &State, name: &str, what: &'static str) -> Result<LocalModel, ApiError> {
    let (hub, wanted) = (state.models.hub().clone(), name.to_owned());
    let local = match blocking(move || hub.find_named(&wanted)).await? {
        Ok(Some(local)) => local,
        Ok(None) => {
            let message = format!("model \"{name}\" not found");
            return Err(ApiError::new(Kind::NotFound, message).with_code("model_not_found"));
        }
        Err(HubError::BadName { .. }) => {
            return Err(ApiError::field(what, format!("{what} \"{name}\" is invalid")));
        }
        Err(e) => return Err(e.into()),
    };
    match local.keeper {
        Keeper::Hob => Ok(local),
        other => Err(ApiError::field(
            what,
            format!(
                "\"{name}\" is kept by {}; hob does not change what is not its own",
                other.name()
            ),
        )),
    }
}
