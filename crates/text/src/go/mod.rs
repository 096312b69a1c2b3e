//! Chat templates in Go's text/template language, as Ollama's models carry them.
//! An interpreter of our own, since no kept crate has the language's rules of truth, printing and scope; what it runs on are the
//! types of Ollama's templates (`data.rs`). Absent: methods, `call`, other delimiters.

mod ast;
mod chat;
mod data;
mod eval;
mod functions;
mod inspect;
mod lexer;
mod literals;
mod parser;
mod print;
mod printf;
#[cfg(test)]
mod tests;
mod value;

pub use chat::GoTemplate;
pub use inspect::Capabilities;
