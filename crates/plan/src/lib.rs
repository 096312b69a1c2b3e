//! Arithmetic about what fits and how fast it is: from a model's description and a machine's numbers to a context, a placement, a recipe and
//! advice. Pure functions over data; nothing here asks the hardware, reads a file or allocates a cache.

pub mod advise;
mod context;
pub mod fit;
pub mod memory;
pub mod placement;
mod rig;
pub mod speed;
pub mod units;

pub use context::{Conditions, Context, NoContext, STEP_ROWS};
pub use rig::{Card, Host, Note, Rig, THIS_MACHINE, rig_of_devices, rig_of_machine};
