//! hob-cpu
