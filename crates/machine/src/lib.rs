//! hob-machine: asks the hardware what is there. Plain data out, nothing decided and nothing cached: the planner does arithmetic on
//! these numbers, `doctor` prints them. The operating system's own figures come from `sysinfo`; what it does not know (the memory a
//! control group leaves this process, the instruction sets that hob has kernels for) is read here. No GPUs and no measured bandwidth yet.

mod cgroup;
pub mod devices;
mod gpu;
mod isa;
mod probe;

use std::path::Path;

use serde::{Deserialize, Serialize};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

pub use gpu::{Gpu, Kind, Link, Vendor};
pub use isa::Isa;
pub use probe::{KernelSpeed, Probe};

/// This machine as a process on it sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Processor cores and instruction sets.
    pub cpu: Cpu,
    /// Main memory.
    pub memory: Memory,
}

/// The processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// Marketing name as the processor reports it; empty when it reports none (many ARM machines).
    pub brand: String,
    /// Cores that own their arithmetic units; at most `logical_cores`.
    pub physical_cores: usize,
    /// Hardware threads of the machine.
    pub logical_cores: usize,
    /// Hardware threads that this process may use: its affinity mask and CPU quota applied.
    pub usable_cores: usize,
    /// The best instruction set hob has a name for.
    pub isa: Isa,
    /// The single CPU features that matter to the kernels, in the spelling of Rust's `target_feature`.
    pub features: Vec<String>,
}

/// Main memory, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Installed memory, or the control group's limit where that is lower.
    pub total_bytes: u64,
    /// What a new allocation can count on without swapping, under the same limit.
    pub available_bytes: u64,
    /// The control group's limit, when one below the installed memory applies.
    pub limit_bytes: Option<u64>,
}

/// Why a machine could not be described.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The operating system told no memory size, without which nothing can be planned.
    #[error("the operating system does not say how much memory this machine has{0}")]
    NoMemory(String),
}

impl Machine {
    /// Describes the machine this process runs on. Takes a few milliseconds; call it once.
    ///
    /// # Errors
    /// [`MachineError::NoMemory`] when the operating system tells no memory size.
    pub fn detect() -> Result<Machine, MachineError> {
        let kinds = RefreshKind::nothing()
            .with_memory(MemoryRefreshKind::nothing().with_ram())
            .with_cpu(CpuRefreshKind::nothing());
        let system = System::new_with_specifics(kinds)
            .map_err(|e| MachineError::NoMemory(format!(": {e:?}")))?;
        if system.total_memory() == 0 {
            return Err(MachineError::NoMemory(String::new()));
        }
        let group = cgroup::memory(Path::new("/"));
        Ok(Machine {
            cpu: cpu(&system),
            memory: memory(system.total_memory(), system.available_memory(), group),
        })
    }
}

/// The name that this machine gives itself.
pub fn host_name() -> Option<String> {
    System::host_name().ok()
}

fn cpu(system: &System) -> Cpu {
    let usable = std::thread::available_parallelism().map_or(1, usize::from);
    let logical = system.cpus().len().max(usable);
    let physical = System::physical_core_count().unwrap_or(logical).clamp(1, logical);
    let brand = system.cpus().first().map_or("", |c| c.brand()).trim().to_owned();
    let features = isa::features();
    Cpu {
        brand,
        physical_cores: physical,
        logical_cores: logical,
        usable_cores: usable,
        isa: Isa::best(&features),
        features: features.iter().map(|f| (*f).to_owned()).collect(),
    }
}

/// Narrows the machine's memory to what a control group leaves. A limit above the installed memory is none (version 1 writes a huge
/// number for "unlimited").
fn memory(total: u64, available: u64, group: Option<cgroup::Headroom>) -> Memory {
    let available = available.min(total);
    match group.filter(|g| g.limit < total) {
        None => Memory { total_bytes: total, available_bytes: available, limit_bytes: None },
        Some(g) => Memory {
            total_bytes: g.limit,
            available_bytes: available.min(g.available),
            limit_bytes: Some(g.limit),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_this_machine() {
        let m = Machine::detect().unwrap();
        assert!(m.memory.total_bytes > 64 << 20);
        assert!(m.memory.available_bytes <= m.memory.total_bytes);
        assert!(m.cpu.physical_cores >= 1 && m.cpu.physical_cores <= m.cpu.logical_cores);
        assert!(m.cpu.usable_cores >= 1 && m.cpu.usable_cores <= m.cpu.logical_cores);
        let json = serde_json::to_value(&m).unwrap();
        assert!(json["cpu"]["isa"].is_string(), "{json}");
        assert_eq!(serde_json::from_value::<Machine>(json).unwrap(), m);
    }

    #[test]
    fn features_agree_with_the_kernel() {
        let Ok(info) = std::fs::read_to_string("/proc/cpuinfo") else { return };
        if !cfg!(target_arch = "x86_64") {
            return;
        }
        let flags = info.lines().find(|l| l.starts_with("flags")).unwrap_or("");
        let has = |f: &str| flags.split_whitespace().any(|w| w == f);
        let found = isa::features();
        for name in ["avx2", "fma", "f16c"] {
            assert_eq!(found.contains(&name), has(name), "{name}");
        }
        assert_eq!(found.contains(&"avx512vnni"), has("avx512_vnni"));
    }

    #[test]
    fn a_limit_above_the_installed_memory_is_none() {
        let group = Some(cgroup::Headroom { limit: u64::MAX >> 1, available: 5 });
        let m = memory(100, 90, group);
        assert_eq!(m, Memory { total_bytes: 100, available_bytes: 90, limit_bytes: None });
    }

    #[test]
    fn a_limit_narrows_both_numbers() {
        let m = memory(100, 90, Some(cgroup::Headroom { limit: 50, available: 20 }));
        assert_eq!(m, Memory { total_bytes: 50, available_bytes: 20, limit_bytes: Some(50) });
        let m = memory(100, 10, Some(cgroup::Headroom { limit: 50, available: 20 }));
        assert_eq!(m.available_bytes, 10);
    }
}
