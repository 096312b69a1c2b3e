//! Arithmetic about what fits: from a model's description and a machine's numbers to a context and its memory. Pure functions over data;
//! nothing here asks the hardware, reads a file or allocates a cache.

mod context;
mod rig;
pub mod speed;
pub mod units;

pub use context::{Conditions, Context, NoContext, STEP_ROWS};
pub use rig::{Card, Host, Rig};
