//! One folder or file per protocol: its routes, its requests and its responses. A dialect knows nothing of engines; it makes an `Ask`.

pub mod anthropic;
mod extras;
pub mod ollama;
pub mod openai;
pub mod own;
