//! hob-text
