//! hob-machine
