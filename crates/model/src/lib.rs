//! hob-model
