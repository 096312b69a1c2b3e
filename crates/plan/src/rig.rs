//! What computes, as the planner sees it: a host with main memory, and cards with memory of their own. Made from this machine (`machine`), or
//! from the device table for hardware that is asked about. Numbers only; nothing here asks a device.

use hob_machine::{Kind, Vendor};
use serde::Serialize;

/// Hardware that a model is to run on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rig {
    /// As the user named it, or this machine's own name.
    pub name: String,
    /// Main memory and the processor that computes from it: the CPU, or the whole chip where memory is unified.
    pub host: Host,
    /// Cards with memory of their own, and at most one integrated GPU, the fastest first.
    pub cards: Vec<Card>,
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
