//! Makes model files and judges them: quantizes with or without an importance matrix, and measures perplexity and
//! divergence from a reference by the protocol of llama.cpp's `llama-perplexity`, so that figures can be compared.
//! Deliberately absent: terminals and model names.

pub mod eval;
pub mod imatrix;
pub mod quantize;
