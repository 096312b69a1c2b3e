//! hob-engine
