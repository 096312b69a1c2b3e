//! What goes wrong: [`LoadError`] for a model that cannot be used, [`ApiError`] for a request that cannot be answered. The latter knows no
//! dialect: `http::shape` gives it the status and the form that the caller's protocol has for it.

use std::path::PathBuf;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use hob_engine::{EngineError, Failure, GrammarError};
use hob_gguf::GgufError;
use hob_hub::HubError;
use hob_machine::MachineError;
use hob_model::ModelError;
use hob_plan::NoContext;
use hob_text::TextError;

use crate::sampling::SamplingError;

/// Why a model cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The file cannot be opened.
    #[error("cannot open {}: {source}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: GgufError,
    },
    /// The file holds no model that runs here.
    #[error("cannot use {name}: {source}")]
    Model {
        /// The model's name.
        name: String,
        /// Why.
        source: ModelError,
    },
    /// Its vocabulary or template.
    #[error(transparent)]
    Text(#[from] TextError),
    /// Its parameters.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// There is no room for it.
    #[error(transparent)]
    Memory(#[from] NoContext),
    /// The engine refused it.
    #[error("cannot load {name}: {source}")]
    Engine {
        /// The model's name.
        name: String,
        /// Why.
        source: EngineError,
    },
    /// The machine does not say what it has.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A LoRA adapter, which cannot be run yet.
    #[error("{name} has a LoRA adapter, and adapters cannot be run yet; take the model without it")]
    Adapter {
        /// The model's name.
        name: String,
    },
}

/// What kind of refusal it is; each dialect has a status and a word for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request is wrong: 400.
    Invalid,
    /// No key, or a wrong one: 401.
    Unauthorized,
    /// Not allowed to this caller: 403.
    Forbidden,
    /// No such model, route or object: 404.
    NotFound,
    /// The route exists for another method: 405.
    Method,
    /// The body took too long to come: 408.
    Timeout,
    /// The body is too long: 413.
    TooLarge,
    /// The body is of a type or encoding that is not read: 415.
    Unsupported,
    /// Too many requests wait: 503 with Retry-After (429 where the dialect wants that).
    Busy,
    /// The server is going down, or lost its device: 503.
    Unavailable,
    /// There is not enough memory for it: 507... as 500, 503 or what the dialect has.
    Memory,
    /// Everything else: 500.
    Internal,
}

impl Kind {
    /// The status that most dialects have for it.
    pub fn status(self) -> u16 {
        match self {
            Kind::Invalid => 400,
            Kind::Unauthorized => 401,
            Kind::Forbidden => 403,
            Kind::NotFound => 404,
            Kind::Method => 405,
            Kind::Timeout => 408,
            Kind::TooLarge => 413,
            Kind::Unsupported => 415,
            Kind::Busy | Kind::Unavailable | Kind::Memory => 503,
            Kind::Internal => 500,
        }
    }
}

/// A request that is not answered.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What kind.
    pub kind: Kind,
    /// For the caller: what was found, what was expected, what to do.
    pub message: String,
    /// The field of the request that is to blame.
    pub param: Option<String>,
    /// A word that programs look for (`context_length_exceeded`, `model_not_found`).
    pub code: Option<&'static str>,
    /// When another try makes sense.
    pub retry_after: Option<Duration>,
    /// Of a prompt that is too long: its tokens, and how many it may have.
    pub too_long: Option<(usize, usize)>,
}

impl ApiError {
    /// An error of a kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, message, param: None, code: None, retry_after: None, too_long: None }
    }

    /// The request is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// A field of the request is wrong.
    pub fn field(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::invalid(message) }
    }

    /// Nothing of that name is here.
    pub fn no_model(name: &str) -> Self {
        let message = format!("model '{name}' not found");
        Self { code: Some("model_not_found"), ..Self::new(Kind::NotFound, message) }
    }

    /// Something that should not happen.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// Too much is waiting.
    pub fn busy(message: impl Into<String>, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(Kind::Busy, message) }
    }

    /// A prompt that leaves no room for an answer.
    pub fn too_long(tokens: usize, context: usize) -> Self {
        let message = format!(
            "the prompt has {tokens} tokens, but the context holds {context} and one must be left for the answer; \
            shorten it, ask for a larger context, or for truncation"
        );
        Self {
            code: Some("context_length_exceeded"),
            too_long: Some((tokens, context.saturating_sub(1))),
            ..Self::invalid(message)
        }
    }

    /// The same, with a word for programs.
    #[must_use]
    pub fn with_code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }
}

/// Kept beside an empty response, for `http::shape` to find.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(axum::body::Body::empty());
        response.extensions_mut().insert(self);
        response
    }
}

impl From<LoadError> for ApiError {
    fn from(error: LoadError) -> Self {
        let kind = match &error {
            LoadError::Memory(_) => Kind::Memory,
            LoadError::Hub(inner) => return hub_error(inner),
            _ => Kind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<HubError> for ApiError {
    fn from(error: HubError) -> Self {
        hub_error(&error)
    }
}

fn hub_error(error: &HubError) -> ApiError {
    let kind = match error {
        HubError::BadName { .. } => Kind::Invalid,
        HubError::UnknownModel { .. }
        | HubError::NotStored { .. }
        | HubError::NoSuchFile { .. } => Kind::NotFound,
        HubError::NoSpace { .. } => Kind::Memory,
        _ => Kind::Internal,
    };
    ApiError::new(kind, error.to_string())
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::PromptTooLong { tokens, context } => Self::too_long(tokens, context),
            EngineError::Busy { .. } => {
                Self::busy("server busy, please try again: the queue is full", RETRY)
            }
            EngineError::Grammar(GrammarError::Busy) => Self::busy(error.to_string(), RETRY),
            EngineError::Stopped(_) => Self::new(Kind::Unavailable, error.to_string()),
            EngineError::EmptyPrompt
            | EngineError::Range { .. }
            | EngineError::Encoder
            | EngineError::EmptyText { .. }
            | EngineError::TextTooLong { .. }
            | EngineError::Option(_)
            | EngineError::Grammar(_) => Self::invalid(error.to_string()),
            other => Self::internal(other.to_string()),
        }
    }
}

/// When a full queue is worth another try.
pub(crate) const RETRY: Duration = Duration::from_secs(2);

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Stopped => Self::new(Kind::Unavailable, failure.to_string()),
            other => Self::internal(other.to_string()),
        }
    }
}

impl From<SamplingError> for ApiError {
    fn from(error: SamplingError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<TextError> for ApiError {
    fn from(error: TextError) -> Self {
        Self::invalid(error.to_string())
    }
}
