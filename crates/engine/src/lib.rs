//! Runs models: sequences, KV bookkeeping, scheduling, sampling. It owns time and knows neither HTTP nor terminals;
//! limits come in from its caller, and of all tensors it reads only logits.
//!
//! [`Runner`] steps a loaded model by hand; [`Engine`] serves many requests at once on one thread: [`pages`] says
//! which KV page and which state belong to whom, [`schedule`] which rows come next, [`sample`] which token follows, [`grammar`] which may;
//! texts to be embedded run between the steps of answers.

mod embed;
mod engine;
mod error;
mod fault;
pub mod grammar;
pub mod pages;
mod request;
mod runner;
pub mod sample;
pub mod schedule;
mod sequence;
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
