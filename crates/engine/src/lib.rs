//! Runs models: sequences, KV bookkeeping, scheduling, sampling. It owns time and knows neither HTTP nor terminals;
//! limits come in from its caller, and of all tensors it reads only logits.
//!
//! [`Runner`] steps a loaded model by hand; [`Engine`] serves many requests at once on one thread: [`pages`] says
//! which KV page and which state belong to whom, [`queue`] who runs next, [`schedule`] which rows come next, [`sample`]
//! which token follows, [`grammar`] which may; tokens can be drafted, so that one step gives several ([`Speculate`]); texts
//! to be embedded run between the steps of answers.

pub mod client;
mod embed;
mod engine;
mod error;
mod fault;
pub mod grammar;
pub mod pages;
pub mod probe;
pub mod queue;
mod request;
mod runner;
pub mod sample;
pub mod schedule;
mod sequence;
mod speculate;
mod stop;
mod worker;

pub use embed::{Embed, Embedding};
pub use engine::{Engine, EngineConfig, Status};
pub use error::EngineError;
pub use grammar::{Constraint, GrammarError, Grammars, Rule};
pub use request::{
    Cancel, Done, Event, Failure, Finish, MAX_STOP_BYTES, MAX_STOPS, Request, Sink, Stream, Timings,
};
pub use runner::{LoadOptions, Runner};
pub use sample::{Dry, Logprobs, Mirostat, SampleOptions};
pub use speculate::{Draft, DraftError, MAX_DRAFT, Speculate};
