//! Linux tells everything in files: this room reads them, below a root that tests replace. One file per subject; `pci` knows what the bus
//! tells of a card, `cards` what its driver does.

mod boards;
mod cards;
mod cpu;
mod driver;
mod kfd;
mod memory;
mod names;
mod pci;
mod system;
#[cfg(test)]
mod tests;

use crate::tree::Tree;
use crate::{Machine, MachineError};

pub(crate) use cards::{Libraries, gpus};

/// Everything but the GPUs.
pub(crate) fn host(tree: &Tree) -> Result<Machine, MachineError> {
    let (memory, swap) = memory::read(tree).ok_or(MachineError::NoMemory(String::new()))?;
    Ok(Machine {
        cpu: cpu::read(tree),
        memory,
        swap,
        numa: memory::nodes(tree),
        gpus: Vec::new(),
        system: system::read(tree),
        problems: Vec::new(),
    })
}
