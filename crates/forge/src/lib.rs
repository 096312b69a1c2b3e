//! hob-forge
