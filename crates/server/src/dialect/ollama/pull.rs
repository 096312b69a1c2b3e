//! `/api/pull` and `/api/push`: statuses in Ollama's words and order. Who asks for a model that is already on its way hears of that transfer;
//! when nobody listens any more it stops, and the next one goes on from there. Which recipe is taken, and why, is one more status.

use axum::extract::State as Shared;
use axum::response::Response;
use futures_util::stream as streams;
use hob_hub::{Hub, HubError, LocalModel, Progress, Wishes};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::State;
use crate::choose::Chooser;
use crate::describe;
use crate::error::{ApiError, Kind};
use crate::http::body::Json;
use crate::http::{shape::Dialect, stream};
use crate::jobs::{Listener, Teller};
use crate::models::blocking;

/// Both requests.
#[derive(Deserialize)]
pub struct Transfer {
    model: Option<String>,
    name: Option<String>,
    stream: Option<bool>,
    insecure: Option<bool>,
    /// hob's own: the recipe wanted, without a tag.
    recipe: Option<String>,
    /// hob's own: ask the sources again even if the model is here.
    update: Option<bool>,
}

/// What a pull is to bring.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    pub recipe: Option<String>,
    pub update: bool,
}

impl Transfer {
    /// The name, which leads to no plain connection unless that is allowed.
    fn name(&self) -> Result<String, ApiError> {
        let name = super::either(self.model.as_deref(), self.name.as_deref())?;
        match name.starts_with("http://") && self.insecure != Some(true) {
            true => Err(ApiError::field("model", "insecure protocol http")),
            false => Ok(name),
        }
    }
}

/// Handles `/api/pull`.
pub async fn pull(
    Shared(state): Shared<State>,
    Json(request): Json<Transfer>,
) -> Result<Response, ApiError> {
    let name = request.name()?;
    let hub = state.models.hub().clone();
    let (named, looked) = (name.clone(), hub.clone());
    let known = blocking(move || {
        looked.find_named(&named).map(drop).or_else(but_bad_name)?;
        // A tag of a registry may mean something new by now. The catalogue's and the hubs' names mean what is here.
        Ok::<bool, HubError>(named.starts_with("hf.co/") || looked.describe(&named).is_ok())
    });
    let known = known.await??;
    let Transfer { recipe, update, .. } = request;
    let order = Order { recipe, update: update.unwrap_or(!known) };
    let key = format!("pull {} {order:?}", name.to_lowercase());
    let listener = state.jobs.join(&key, move |teller| {
        pulled(&hub, &name, &order, teller)?;
        teller.tell(json!({"status": "success"}));
        Ok(())
    });
    reply(&state, listener, request.stream).await
}

/// A damaged model is a reason to pull it.
fn but_bad_name(error: HubError) -> Result<(), HubError> {
    if matches!(error, HubError::BadName { .. }) { Err(error) } else { Ok(()) }
}

/// Fetches a model and tells how it goes, but for the success.
pub(super) fn pulled(
    hub: &Hub,
    name: &str,
    order: &Order,
    teller: &Teller,
) -> Result<LocalModel, ApiError> {
    teller.tell(json!({"status": "pulling manifest"}));
    let hub = hub.until(&teller.stop);
    let chooser = Chooser::new(&hub, name);
    let choose = |name: &str, choices: &[hob_hub::Choice]| {
        let picked = chooser.choose(name, choices)?;
        chooser.reason().iter().for_each(|line| teller.tell(json!({"status": line})));
        Ok(picked)
    };
    let wishes = Wishes {
        recipe: order.recipe.clone(),
        update: order.update,
        hugging_face_cache: false,
        choose: &choose,
        describe: &describe::facts,
    };
    let mut layers = Layers::new("pulling", teller);
    let pulled = hub.pull_named(name, &wishes, &mut |event| layers.show(event));
    let local = pulled.map_err(|error| match layers.begun {
        true => error.into(),
        false => in_words("pull model manifest", error),
    })?;
    if !layers.begun {
        let digest = local.digest.clone();
        let (bytes, here) = (Some(local.bytes), true);
        layers.show(Progress::File { digest, before: 0, bytes, here });
    }
    teller.tell(json!({"status": "verifying sha256 digest"}));
    teller.tell(json!({"status": "writing manifest"}));
    Ok(local)
}

fn in_words(what: &str, error: HubError) -> ApiError {
    let error = ApiError::from(error);
    ApiError { message: format!("{what}: {}", error.message), ..error }
}

/// Handles `/api/push`.
pub async fn push(
    Shared(state): Shared<State>,
    Json(request): Json<Transfer>,
) -> Result<Response, ApiError> {
    let name = request.name()?;
    state.models.find(&name).await?;
    let hub = state.models.hub().clone();
    let key = format!("push {}", name.to_lowercase());
    let listener = state.jobs.join(&key, move |teller| {
        teller.tell(json!({"status": "retrieving manifest"}));
        let mut layers = Layers::new("pushing", teller);
        hub.until(&teller.stop).push(&name, &mut |event| layers.show(event))?;
        teller.tell(json!({"status": "pushing manifest"}));
        teller.tell(json!({"status": "success"}));
        Ok(())
    });
    reply(&state, listener, request.stream).await
}

/// A job's lines as they come, or the last of them.
pub(super) async fn reply(
    state: &State,
    mut listener: Listener,
    streamed: Option<bool>,
) -> Result<Response, ApiError> {
    let down = || ApiError::new(Kind::Unavailable, "the server is shutting down");
    if !streamed.unwrap_or(true) {
        return tokio::select! {
            last = listener.last() => Ok(stream::json(&last?)),
            () = state.shutdown.ending() => Err(down()),
        };
    }
    // What fails at once fails with a status.
    let first = listener.next().await.transpose()?;
    let shutdown = state.shutdown.clone();
    let rest = streams::unfold(Some(listener), move |listener| {
        let shutdown = shutdown.clone();
        async move {
            let mut listener = listener?;
            let line = tokio::select! {
                line = listener.next() => line?,
                () = shutdown.ending() => Err(down()),
            };
            Some(match line {
                Ok(line) => (line, Some(listener)),
                Err(error) => (Dialect::Ollama.error(&error), None),
            })
        }
    });
    Ok(stream::lines(futures_util::StreamExt::chain(streams::iter(first), rest)))
}

/// Turns the events of a transfer into a status for each file.
pub(super) struct Layers<'a> {
    verb: &'static str,
    teller: &'a Teller,
    status: String,
    digest: Value,
    /// Bytes of the files before this one.
    before: u64,
    bytes: Option<u64>,
    /// Whether there was any file.
    pub begun: bool,
}

impl<'a> Layers<'a> {
    pub fn new(verb: &'static str, teller: &'a Teller) -> Self {
        let (status, digest) = (String::new(), Value::Null);
        Layers { verb, teller, status, digest, before: 0, bytes: None, begun: false }
    }

    pub fn show(&mut self, event: Progress) {
        match event {
            Progress::File { digest, before, bytes, here } => {
                self.begun = true;
                let short = digest.as_deref().and_then(|d| d.get(..12)).unwrap_or("a file");
                self.status = format!("{} {short}", self.verb);
                self.digest = digest.map_or(Value::Null, |d| format!("sha256:{d}").into());
                (self.before, self.bytes) = (before, bytes);
                self.tell(bytes.filter(|_| here), bytes);
            }
            Progress::Bytes { done, total } if self.begun => {
                let total = self.bytes.unwrap_or(total.saturating_sub(self.before));
                let completed = done.saturating_sub(self.before).min(total);
                self.tell(Some(completed), Some(total));
            }
            Progress::Waiting => {
                self.teller.tell(json!({"status": "waiting for another pull of this model"}));
            }
            Progress::Failed { source, reason } => {
                self.teller.tell(json!({"status": format!("gave up {source}: {reason}")}));
            }
            // Bytes are held against their digest as they come.
            Progress::Bytes { .. }
            | Progress::Verifying { .. }
            | Progress::Resolving { .. }
            | Progress::Done => {}
        }
    }

    /// What is zero or not known is left out, as in Ollama.
    fn tell(&self, completed: Option<u64>, total: Option<u64>) {
        let mut line = json!({"status": self.status});
        if !self.digest.is_null() {
            line["digest"] = self.digest.clone();
        }
        if let Some(total) = total {
            line["total"] = total.into();
        }
        if let Some(completed) = completed.filter(|n| *n > 0) {
            line["completed"] = completed.into();
        }
        self.teller.tell(line);
    }
}
