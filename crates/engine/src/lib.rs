//! hob-engine
pub mod pages;
pub mod sample;
pub mod schedule;
