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

impl Vendor {
    /// By its number on the PCI bus.
    #[cfg_attr(target_os = "macos", allow(dead_code))]
    pub(crate) fn of_pci(number: u16) -> Vendor {
        match number {
            0x10de => Vendor::Nvidia,
            0x1002 => Vendor::Amd,
            0x8086 => Vendor::Intel,
            0x19e5 => Vendor::Huawei,
            _ => Vendor::Other,
        }
    }
}

/// No GPU has more bytes of memory: what is beyond is no size.
#[cfg_attr(target_os = "macos", allow(dead_code))]
pub(crate) const MAX_MEMORY: u64 = 1 << 46;

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
    /// What is wrong with it or unknown of it.
    pub problems: Vec<Problem>,
}

impl Gpu {
    /// A GPU of which nothing is known: what others are made from.
    pub fn unknown() -> Gpu {
        Gpu {
            name: String::new(),
            vendor: Vendor::Other,
            kind: Kind::Discrete,
            memory_bytes: None,
            free_bytes: None,
            pci_id: None,
            address: None,
            driver: None,
            link: None,
            numa_node: None,
            power_limit_watts: None,
            peers: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Whether a program could compute on it now.
    pub fn is_ready(&self) -> bool {
        !self.problems.iter().any(Problem::hinders)
    }
}

impl Problem {
    /// Whether nothing can be computed until it is solved. What is only unknown, and a division into instances, do not hinder.
    pub fn hinders(&self) -> bool {
        !matches!(self, Problem::MemoryUnknown | Problem::Divided)
    }
}

/// Why a GPU cannot be used, or why something is not known of it. Its text is an English sentence; `doctor` has others and remedies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Problem {
    /// The kernel has no driver for it, or none is loaded.
    #[error("it has no driver")]
    NoDriver,
    /// The driver that is loaded can show pictures, but not compute.
    #[error("its driver, {0}, does not compute")]
    DisplayDriver(String),
    /// It is set aside for a virtual machine.
    #[error("it is set aside for a virtual machine (vfio-pci)")]
    SetAside,
    /// The driver did not answer in time.
    #[error("its driver does not answer")]
    DriverHangs,
    /// The library through which the driver is asked is not installed, or not passed into the container.
    #[error("the driver's library, {0}, is not installed here")]
    NoLibrary(String),
    /// The library belongs to another version of the driver than the one that is loaded.
    #[error("the driver was updated but not loaded anew since")]
    DriverMismatch,
    /// The driver answered with an error.
    #[error("its driver reports: {0}")]
    DriverSays(String),
    /// The driver does not tell how much memory it has.
    #[error("its driver does not tell how much memory it has")]
    MemoryUnknown,
    /// The file through which programs reach it is not there: it was not passed into the container.
    #[error("/dev/dri/{0} is not there")]
    NoDeviceFile(String),
    /// The file through which programs reach it is not open to this user.
    #[error("this user may not open /dev/dri/{0}")]
    NoPermission(String),
    /// It is divided into instances (MIG), of which hob sees none.
    #[error("it is divided into instances (MIG)")]
    Divided,
    /// It belongs to Windows, which tells nothing of it here (WSL).
    #[error("it is reached through Windows, which tells nothing of it here")]
    BehindWindows,
    /// GPUs are not looked for on this system, but for those whose maker is named.
    #[error("on this system only GPUs of {0} are looked for")]
    OnlyLookedFor(String),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_does_not_hinder() {
        let with = |problem| Gpu { problems: vec![problem], ..Gpu::unknown() };
        assert!(Gpu::unknown().is_ready() && with(Problem::MemoryUnknown).is_ready());
        assert!(!with(Problem::NoDriver).is_ready());
    }

    #[test]
    fn links_carry_less_than_they_clock() {
        let x16 = |generation| Link { generation, lanes: 16 }.bytes_per_second() / 1e9;
        assert!((x16(4) - 26.8).abs() < 0.1, "{}", x16(4));
        assert!((x16(5) - 53.6).abs() < 0.1, "{}", x16(5));
    }
}
