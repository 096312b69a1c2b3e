//! What a graphics processor is, as plain data: what the system tells of it, and nothing that only a table knows (bandwidth, arithmetic,
//! price: `devices`). Whether hob computes on it is not said here.

use serde::{Deserialize, Serialize};

/// Who made a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// NVIDIA.
    Nvidia,
    /// AMD.
    Amd,
    /// Intel.
    Intel,
    /// Apple.
    Apple,
    /// Huawei's Ascend.
    Huawei,
    /// Anybody else.
    Other,
}

/// Where a processor's memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A card with memory of its own.
    Discrete,
    /// Part of the processor's package; it uses main memory, up to a limit of the system.
    Integrated,
    /// Processor and graphics on one memory that both use at full width (Apple silicon, GB10).
    Unified,
    /// No graphics: the processor itself.
    Cpu,
}

/// A graphics processor of this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    /// As its driver names it, or made of vendor and number where no driver does.
    pub name: String,
    /// Its maker.
    pub vendor: Vendor,
    /// Where its memory is.
    pub kind: Kind,
    /// Bytes of memory that it may use: its own, or the part of main memory that the system gives it.
    pub memory_bytes: Option<u64>,
    /// Bytes of these that are free now.
    pub free_bytes: Option<u64>,
    /// PCI vendor and device number.
    pub pci_id: Option<(u16, u16)>,
    /// PCI address, such as `0000:01:00.0`.
    pub address: Option<String>,
    /// Driver and its version, as far as known.
    pub driver: Option<String>,
    /// The link to main memory.
    pub link: Option<Link>,
    /// The NUMA node it hangs on.
    pub numa_node: Option<u32>,
    /// Watts that it may take, as set now.
    pub power_limit_watts: Option<f64>,
    /// Addresses of other cards that it reaches by a link of their own (NVLink, xGMI).
    pub peers: Vec<String>,
    /// What is wrong with it or unknown of it, one sentence each.
    pub problems: Vec<String>,
}

/// A PCI Express link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Generation that the slot and the card can.
    pub generation: u8,
    /// Lanes.
    pub lanes: u8,
}

impl Link {
    /// Bytes per second in one direction, less the encoding and the protocol's own.
    pub fn bytes_per_second(self) -> f64 {
        let lane = match self.generation {
            0 | 1 => 0.25e9,
            2 => 0.5e9,
            3 => 0.985e9,
            4 => 1.969e9,
            5 => 3.938e9,
            _ => 7.563e9,
        };
        0.85 * lane * f64::from(self.lanes)
    }
}
