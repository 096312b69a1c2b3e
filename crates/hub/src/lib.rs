//! hob-hub
