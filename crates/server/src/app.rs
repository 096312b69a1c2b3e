//! The server as a whole: its settings, its routes and the layers around them, from the port to the last answer.

use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Router, middleware};
use futures_util::FutureExt;
use hob_hub::Hub;
use tokio::net::TcpListener;

use crate::access::access;
use crate::describe::Cards;
use crate::dialect;
use crate::dialect::own::Tokenizers;
use crate::error::{ApiError, Kind};
use crate::guard::{Guard, guard};
use crate::http::{holder, listen, shape};
use crate::jobs::Jobs;
use crate::metrics::Metrics;
use crate::models::{Models, PoolSettings, blocking};
use crate::routes::Routes;
use crate::shutdown::Shutdown;

/// What a server is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// How models are loaded and kept.
    pub models: PoolSettings,
    /// Who is let in.
    pub guard: Guard,
    /// How long running answers have when the server goes down.
    pub grace: Duration,
}

/// What handlers share. Clones are the same.
#[derive(Clone)]
pub struct State {
    /// The loaded models and the store.
    pub models: Arc<Models>,
    /// The settings.
    pub config: Arc<Config>,
    /// Pulls, pushes and creations on their way.
    pub jobs: Arc<Jobs>,
    /// What the files of models say.
    pub cards: Arc<Cards>,
    /// The end.
    pub shutdown: Arc<Shutdown>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Vocabularies of models that are not loaded.
    pub(crate) tokenizers: Arc<Tokenizers>,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Somebody else has the port.
    #[error(
        "{address} is taken{}; choose another with --host HOST:PORT or HOB_HOST",
        holder.as_deref().map_or(String::new(), |who| format!(" by what seems to be {who}"))
    )]
    Taken {
        /// The address.
        address: SocketAddr,
        /// Who seems to hold it.
        holder: Option<String>,
    },
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Takes the port.
///
/// # Errors
/// When it is taken or cannot be had.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
            let holder = blocking(move || holder::holder(address)).await.ok().flatten();
            Err(ServeError::Taken { address, holder })
        }
        Err(source) => Err(ServeError::Bind { address, source }),
    }
}

impl State {
    /// A server on a store; no model is loaded.
    pub fn new(hub: Hub, config: Config) -> Self {
        let shutdown = Arc::new(Shutdown::default());
        let models = Models::new(Arc::new(hub), config.models.clone(), shutdown.clone());
        State {
            models: Arc::new(models),
            config: Arc::new(config),
            jobs: Arc::default(),
            cards: Arc::default(),
            shutdown,
            metrics: Arc::default(),
            tokenizers: Arc::default(),
        }
    }
}

/// All routes.
pub fn routes() -> Routes {
    dialect::own::routes()
        .and(dialect::ollama::routes())
        .and(dialect::anthropic::routes())
        .and(dialect::openai::routes())
}

/// All routes with their layers.
pub fn router(state: State) -> Router {
    routes()
        .router()
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(contained))
        .layer(from_fn_with_state(state.clone(), open))
        .layer(from_fn_with_state(state.clone(), guard))
        .layer(from_fn(shape::errors))
        .layer(from_fn_with_state(state.clone(), access))
        .layer(middleware::map_response(name))
        .with_state(state)
}

/// Serves until the shutdown.
pub async fn serve(listener: TcpListener, state: State) {
    let sweeper = tokio::spawn(state.models.clone().keep_swept());
    listen::serve(listener, router(state.clone()), state.shutdown.clone()).await;
    sweeper.abort();
}

async fn no_route(request: Request) -> ApiError {
    ApiError::new(Kind::NotFound, format!("there is no {} here", request.uri().path()))
}

async fn wrong_method(request: Request) -> ApiError {
    let (method, path) = (request.method(), request.uri().path());
    ApiError::new(Kind::Method, format!("{path} does not take {method}"))
}

/// A handler that panics fails its own request only.
async fn contained(request: Request, next: Next) -> Response {
    let handled = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    handled.unwrap_or_else(|_| ApiError::internal("the server made a mistake").into_response())
}

/// Refuses new work while the server goes down, and old work in the end; streams say themselves that they end.
async fn open(
    axum::extract::State(state): axum::extract::State<State>,
    request: Request,
    next: Next,
) -> Response {
    let asks = matches!(request.uri().path(), "/health" | "/ready" | "/metrics");
    let down = || ApiError::new(Kind::Unavailable, "the server is shutting down").into_response();
    if asks {
        return next.run(request).await;
    }
    if state.shutdown.is_closing() {
        return down();
    }
    tokio::select! {
        response = next.run(request) => response,
        () = state.shutdown.ending() => down(),
    }
}

/// The server's name, by which `hob run` knows it.
async fn name(mut response: Response) -> Response {
    let name = HeaderValue::from_static(concat!("hob/", env!("CARGO_PKG_VERSION")));
    response.headers_mut().insert(header::SERVER, name);
    response
}
