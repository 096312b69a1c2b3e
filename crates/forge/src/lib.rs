//! Makes model files and judges them: converts checkpoints, quantizes with or without an importance matrix, and measures
//! perplexity and divergence from a reference by the protocol of llama.cpp's `llama-perplexity`, so that figures can be
//! compared. Deliberately absent: terminals and model names.

pub mod convert;
pub mod eval;
pub mod imatrix;
pub mod quantize;
