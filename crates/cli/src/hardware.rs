//! The hardware that a question is about: this machine, or devices that the user names.

use anyhow::Result;
use hob_machine::{Machine, devices};
use hob_plan::{Rig, rig_of_devices, rig_of_machine};

/// What is said wherever a speed on a GPU is shown.
pub const GPU_SPEEDS: &str = "Speeds on GPUs are what programs of llama.cpp's kind reach there; hob itself computes on the CPU today.";

/// The rig of `--device`, else this machine.
///
/// # Errors
/// When no device is called that, with those that are; or the system tells nothing of itself.
pub fn rig(device: Option<&str>) -> Result<Rig> {
    match device {
        Some(text) => Ok(rig_of_devices(&devices::parse(text)?)),
        None => Ok(rig_of_machine(&Machine::detect()?, None)),
    }
}
