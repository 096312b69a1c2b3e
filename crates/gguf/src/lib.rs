//! hob-gguf
