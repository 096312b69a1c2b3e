//! What Ollama's API has beside models: the version, the state of its cloud, accounts, recommendations. hob has neither cloud nor accounts, and
//! says so in the shapes that clients know.

use axum::extract::State as Shared;
use axum::response::Response;
use hob_hub::{CatalogueModel, Hub, Kind as For};
use hob_machine::Machine;
use hob_model::hf::HfConfig;
use hob_model::{KvType, Model};
use hob_plan::{Conditions, units};
use serde_json::{Value, json};

use crate::app::State;
use crate::error::{ApiError, Kind};
use crate::http::stream;
use crate::models::blocking;

/// The version of Ollama whose API this is: clients look at it before they use what is newer.
const API_VERSION: &str = "0.30.0";
/// Most models that are recommended.
const RECOMMENDED: usize = 6;
/// Bits of a weight in the usual recipe, Q4_K_M, with its larger tensors counted in.
const USUAL_BITS: f64 = 4.9;
/// Tokens of context that a recommended model has room for.
const CONTEXT: usize = 8192;

/// Handles `/api/version`.
pub async fn version() -> Response {
    stream::json(&json!({"version": API_VERSION, "hob": env!("CARGO_PKG_VERSION")}))
}

/// Handles `/api/status`.
pub async fn status() -> Response {
    stream::json(&json!({"cloud": {"disabled": true, "source": "config"}}))
}

/// Handles what takes an account.
pub async fn no_account() -> ApiError {
    ApiError::new(Kind::Unauthorized, "unauthorized")
}

/// Handles what takes a cloud.
pub async fn no_cloud() -> ApiError {
    ApiError::new(Kind::Forbidden, "hob has no cloud: it searches and fetches nothing from the web")
}

/// Handles `/api/experimental/model-recommendations`: what of the catalogue this machine can run, the largest first.
pub async fn recommendations(Shared(state): Shared<State>) -> Result<Response, ApiError> {
    let hub = state.models.hub().clone();
    let most = state.models.settings().wishes.available;
    let list = blocking(move || recommended(&hub, most)).await?;
    Ok(stream::json(&json!({"recommendations": list})))
}

fn recommended(hub: &Hub, most: u64) -> Vec<Value> {
    let available = Machine::host().map_or(most, |m| m.memory.available_bytes.min(most));
    let chat = |m: &&CatalogueModel| m.kinds.first().is_some_and(|kind| *kind == For::Chat);
    let mut models: Vec<&CatalogueModel> = hub.search("").into_iter().filter(chat).collect();
    models.sort_by_key(|m| std::cmp::Reverse(m.parameters));
    let fitting = models.into_iter().filter_map(|m| recommendation(hub, m, available));
    fitting.take(RECOMMENDED).collect()
}

/// `None` for what does not fit, or whose shape is not known.
fn recommendation(hub: &Hub, entry: &CatalogueModel, available: u64) -> Option<Value> {
    let name = entry.full_name();
    let (_, published) = hub.published(&name).ok()??;
    let model: Model = HfConfig::parse(&published.config.to_string()).ok()?.describe().ok()?;
    let weights = (model.parameters() as f64 * USUAL_BITS / 8.0) as u64;
    let context = CONTEXT.min(model.context as usize);
    let (kv, asked) = (KvType::F16, Some(context));
    Conditions { model: &model, weights, available, kv, sequences: 1, asked }.choose().ok()?;
    let size = units::file_size(weights);
    let parameters = units::count(entry.parameters);
    let description =
        format!("{parameters} parameters, about {size} in Q4_K_M; licence {}", entry.licence);
    Some(json!({"model": name, "description": description, "context_length": model.context}))
}
