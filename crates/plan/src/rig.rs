//! What computes, as the planner sees it: a host with main memory, and cards with memory of their own. Made from this machine (`machine`), or
//! from the device table for hardware that is asked about. Numbers only; nothing here asks a device.

mod asked;
mod here;
mod notes;

use hob_machine::{Kind, Probe, Vendor};
use serde::Serialize;

pub use asked::rig_of_devices;
pub use here::{THIS_MACHINE, rig_of_machine};
pub use notes::Note;

use crate::speed::Unit;

/// Hardware that a model is to run on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rig {
    /// As the user named it, or this machine's own name.
    pub name: String,
    /// Main memory and the processor that computes from it: the CPU, or the whole chip where memory is unified.
    pub host: Host,
    /// Cards with memory of their own, and at most one integrated GPU, the fastest first.
    pub cards: Vec<Card>,
    /// What was assumed or left out.
    pub notes: Vec<Note>,
}

/// Main memory and what computes from it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Host {
    /// The processor's name.
    pub name: String,
    /// [`Kind::Cpu`], or [`Kind::Unified`] where the GPU of the same chip computes from the same memory.
    pub kind: Kind,
    /// Its maker.
    pub vendor: Vendor,
    /// Bytes of main memory.
    pub memory: u64,
    /// Bytes of it that a model may take.
    pub free: u64,
    /// Bytes per second, by the data sheet or measured.
    pub bandwidth: f64,
    /// Operations per second of the arithmetic that prefill uses (F16 with F32 sums on GPUs; what the instruction set gives on CPUs).
    pub operations: f64,
    /// Bytes that the GPU of a unified chip may use as the system comes; more after a setting.
    pub limit: Option<u64>,
    /// hob's own speed on it, where it was measured.
    #[serde(skip)]
    pub probe: Option<Probe>,
}

/// A GPU beside the host.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Card {
    /// Its name.
    pub name: String,
    /// [`Kind::Discrete`] or [`Kind::Integrated`]; the latter's memory is part of the host's.
    pub kind: Kind,
    /// Its maker.
    pub vendor: Vendor,
    /// Bytes of memory that it may use.
    pub memory: u64,
    /// Bytes of these that a model may take.
    pub free: u64,
    /// Bytes per second, by the data sheet or measured.
    pub bandwidth: f64,
    /// F16 operations per second with F32 sums, dense.
    pub operations: f64,
    /// Bytes per second from main memory to it.
    pub link: f64,
}

/// What a processor's cores reach of a unified memory, as part of what its GPU reaches.
const CORES_OF_UNIFIED: f64 = 0.5;
/// Operations per second of the cores of such a chip.
const OPERATIONS_OF_CORES: f64 = 1.5e12;

impl Host {
    /// The processor's cores, as the speed model sees them.
    pub fn cores(&self) -> Unit {
        let unified = self.kind == Kind::Unified;
        Unit {
            kind: Kind::Cpu,
            vendor: self.vendor,
            bandwidth: if unified { CORES_OF_UNIFIED * self.bandwidth } else { self.bandwidth },
            operations: if unified {
                OPERATIONS_OF_CORES.min(self.operations)
            } else {
                self.operations
            },
            link: None,
            probe: self.probe.clone(),
        }
    }

    /// The GPU of a unified chip.
    pub fn chip(&self) -> Option<Unit> {
        (self.kind == Kind::Unified).then_some(Unit {
            kind: Kind::Unified,
            vendor: self.vendor,
            bandwidth: self.bandwidth,
            operations: self.operations,
            link: None,
            probe: None,
        })
    }
}

impl Card {
    /// The card, as the speed model sees it.
    pub fn unit(&self) -> Unit {
        Unit {
            kind: self.kind,
            vendor: self.vendor,
            bandwidth: self.bandwidth,
            operations: self.operations,
            link: Some(self.link),
            probe: None,
        }
    }
}

impl Rig {
    /// The same rig whose GPU was given so many bytes of the memory that it shares: by a setting of firmware or system.
    #[must_use]
    pub fn with_gpu_memory(mut self, bytes: u64) -> Rig {
        let bytes = bytes.min(self.host.free);
        for card in self.cards.iter_mut().filter(|card| card.kind == Kind::Integrated) {
            (card.memory, card.free) = (bytes, bytes);
        }
        self.host.limit = self.host.limit.map(|_| bytes);
        self
    }

    /// The same rig without its GPUs: what hob computes on today.
    #[must_use]
    pub fn cores_only(mut self) -> Rig {
        self.cards.clear();
        // Of a unified memory the cores reach a part.
        let Unit { bandwidth, operations, .. } = self.host.cores();
        self.host = Host { kind: Kind::Cpu, limit: None, bandwidth, operations, ..self.host };
        self
    }

    /// What its GPU may use of memory that it shares, if it has such a one.
    pub fn shared_limit(&self) -> Option<u64> {
        let card = self.cards.iter().find(|card| card.kind == Kind::Integrated);
        card.map(|card| card.memory).or(self.host.limit)
    }

    /// Whether it has a GPU of any kind.
    pub fn has_gpu(&self) -> bool {
        self.host.kind == Kind::Unified || !self.cards.is_empty()
    }

    /// Bytes per second of its fastest memory.
    pub fn bandwidth(&self) -> f64 {
        self.cards.iter().map(|card| card.bandwidth).fold(self.host.bandwidth, f64::max)
    }

    /// Bytes that all its memories give a model, where shared memory counts once.
    pub fn room(&self) -> u64 {
        let own = self.cards.iter().filter(|c| c.kind == Kind::Discrete).map(|c| c.free);
        own.fold(self.host.free, u64::saturating_add)
    }
}

/// What a running system leaves of main memory.
fn left_by_system(memory: u64) -> u64 {
    memory.saturating_sub((2 << 30) + memory / 16)
}

/// What driver and desktop leave of a card's memory.
fn left_by_driver(memory: u64) -> u64 {
    memory.saturating_sub((256 << 20) + memory / 32)
}
