//! What tests of every room share: a naive device ([`RefOps`]) that is the oracle of all others, small random
//! models as GGUF files in memory ([`Tiny`]), and measures of difference. A development dependency only, so
//! it may panic; it knows no speed and no real model file.

mod compare;
mod families;
mod refmix;
mod refops;
mod rng;
mod tiny;

pub use compare::{kl_divergence, max_error};
pub use families::Family;
pub use refops::RefOps;
pub use rng::Rng;
pub use tiny::Tiny;
