//! Makes model files and judges them. So far it judges: perplexity and divergence from a reference, by the protocol
//! of llama.cpp's `llama-perplexity`, so that figures can be compared. Deliberately absent: terminals and model names.

pub mod eval;
pub mod imatrix;
