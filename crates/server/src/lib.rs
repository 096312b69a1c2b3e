//! hob's server: models behind HTTP in the dialects of Ollama, OpenAI and Anthropic. A dialect turns its request into an [`Ask`] and what is
//! [`Heard`] into its response; everything between is shared. No terminal, and no tensor, is touched here.
//!
//! The lower half serves `hob run` too: [`ModelFile`], [`Loaded`], [`Sampling`], [`Chooser`].

mod answer;
mod app;
mod choose;
mod dialect;
mod duration;
mod error;
mod file;
mod http;
mod ids;
mod loaded;
mod models;
mod prompt;
mod sampling;
mod shutdown;

pub use answer::{
    Answer, Ask, Caller, End, Form, Heard, Piece, Prepared, Reason, TokenLogprob, Whole,
};
pub use app::{Config, ServeError, State, bind, router, serve};
pub use choose::Chooser;
pub use error::{ApiError, Kind, LoadError};
pub use file::{ModelFile, recipe};
pub use loaded::{Infill, Loaded, Wishes, default_threads};
pub use models::{KeepAlive, Lease, Models, PoolSettings, Seen};
pub use prompt::{Conversation, Input, Prompt, Room, Think, ToolChoice};
pub use sampling::{PARAMETERS, Sampling, SamplingError};
pub use shutdown::Shutdown;
