//! hob's server: models behind HTTP in the dialects of Ollama, OpenAI and Anthropic. A dialect turns its request into an [`Ask`] and what is
//! [`Heard`] into its response; everything between is shared. No terminal, and no tensor, is touched here.
//!
//! The lower half serves `hob run` and `hob pull` too: [`ModelFile`], [`Loaded`], [`Sampling`], [`Chooser`], [`here`].

mod access;
mod answer;
mod app;
mod choose;
mod constrain;
pub mod describe;
mod described;
mod dialect;
mod duration;
mod embed;
mod error;
mod file;
mod guard;
pub mod here;
mod http;
mod ids;
mod jobs;
mod loaded;
mod metrics;
mod models;
mod prompt;
mod routes;
mod sampling;
mod shutdown;
mod turns;

pub use answer::{
    Answer, Ask, Caller, End, Form, Heard, Piece, Prepared, Reason, TokenLogprob, Whole,
};
pub use app::{Config, ServeError, State, bind, router, routes, serve};
pub use axum::http::Method;
pub use choose::Chooser;
pub use describe::timestamp;
pub use described::{Described, Undescribed};
pub use dialect::own::OPENAPI;
pub use embed::{EmbedAsk, Embedded, Texts, shorten};
pub use error::{ApiError, Kind, LoadError};
pub use file::{ModelFile, recipe};
pub use guard::{Guard, KeyError, Keys};
pub use loaded::{Infill, Loaded, Wishes, default_threads};
pub use models::{KeepAlive, Lease, Models, PoolSettings, Seen};
pub use prompt::{Conversation, Input, Prompt, Room, Think, ToolChoice};
pub use routes::{Route, Routes};
pub use sampling::{PARAMETERS, Sampling, SamplingError};
pub use shutdown::Shutdown;
