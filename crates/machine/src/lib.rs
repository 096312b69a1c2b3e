//! hob-machine: asks the machine what it has. Plain data out, nothing decided and nothing cached: the planner does arithmetic on these
//! numbers, `doctor` prints them. Linux is read from its own files, other systems through `sysinfo`. Nothing is measured here, and no
//! driver can hold anybody up (`patience`): what does not answer is a GPU's problem and no more.

#[cfg(any(target_os = "macos", test))]
mod apple;
#[cfg(target_os = "linux")]
mod cgroup;
pub mod devices;
pub mod disk;
mod fingerprint;
mod gpu;
mod isa;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(target_os = "linux", windows))]
mod nvml;
mod patience;
#[cfg(any(not(target_os = "linux"), test))]
mod portable;
mod probe;
#[cfg(any(target_os = "linux", windows))]
mod text;
#[cfg(target_os = "linux")]
mod tree;
#[cfg(any(target_os = "linux", windows))]
mod vulkan;

use serde::{Deserialize, Serialize};

pub use disk::{Disk, DiskKind};
pub use fingerprint::fingerprint;
pub use gpu::{Gpu, Kind, Link, Problem, Vendor};
pub use isa::Isa;
pub use probe::{AttentionSpeed, KernelSpeed, Probe, busy_part};

/// This machine as a process on it sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Processor cores and instruction sets.
    pub cpu: Cpu,
    /// Main memory.
    pub memory: Memory,
    /// Where memory is moved to when there is too little of it.
    pub swap: Swap,
    /// Parts of main memory that are nearer to some cores than to others; one at most where all is alike, none where that is not known.
    pub numa: Vec<Node>,
    /// Graphics processors and accelerators, those without a driver too, in the order of their addresses. Adapters that only show pictures
    /// (of servers and virtual machines) are left out.
    pub gpus: Vec<Gpu>,
    /// The operating system and what it runs in.
    pub system: System,
    /// What could not be found out.
    pub problems: Vec<Problem>,
}

/// The processor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// Marketing name as the processor reports it, or its cores' where there is none (ARM); empty when neither is known.
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
    /// Caches of the second and third level, as far as known.
    pub caches: Vec<Cache>,
    /// How the system sets the clock; `None` where it does not (in virtual machines) or does not tell.
    pub clock: Option<Clock>,
}

impl Cpu {
    /// Bytes of all caches that are known.
    pub fn cache_bytes(&self) -> u64 {
        let bytes = |cache: &Cache| cache.bytes.saturating_mul(cache.count as u64);
        self.caches.iter().map(bytes).fold(0, u64::saturating_add)
    }
}

/// Caches of one level and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// 2 or 3.
    pub level: u8,
    /// Bytes of one of them.
    pub bytes: u64,
    /// How many there are.
    pub count: usize,
}

/// How the system sets the processor's clock (Linux: cpufreq).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// The driver, such as `amd-pstate-epp`.
    pub driver: Option<String>,
    /// The rule, such as `powersave`; what that means depends on the driver.
    pub governor: Option<String>,
    /// What the processor itself is to prefer, such as `balance_performance`.
    pub preference: Option<String>,
}

/// Main memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// What the system has, whatever this process may use of it. What firmware and kernel keep for themselves is not counted.
    pub installed_bytes: u64,
    /// Installed memory, or the control group's limit where that is lower.
    pub total_bytes: u64,
    /// What a new allocation can count on without swapping, under the same limit.
    pub available_bytes: u64,
    /// The control group's limit, when one below the installed memory applies.
    pub limit_bytes: Option<u64>,
    /// Channels with memory in them. Known of servers whose kernel watches memory errors (EDAC), hardly anywhere else.
    pub channels: Option<u32>,
}

/// Swap space, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// All of it; 0 without any.
    pub total_bytes: u64,
    /// What is not in use.
    pub free_bytes: u64,
}

/// A NUMA node: memory, and the cores that are near to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The system's number of it.
    pub id: u32,
    /// Numbers of the hardware threads; empty for memory without cores.
    pub cpus: Vec<u32>,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes that nothing uses, not even as a cache of files.
    pub free_bytes: u64,
}

/// The operating system and what it runs in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    /// Its name and version, such as `Debian GNU/Linux 12 (bookworm)`.
    pub name: String,
    /// The kernel's version.
    pub kernel: Option<String>,
    /// The processor's architecture, such as `x86_64`.
    pub architecture: String,
    /// The container that this process is in.
    pub container: Option<Container>,
    /// The version of the Windows Subsystem for Linux, inside one.
    pub wsl: Option<u8>,
    /// What the virtual machine is made by, inside one: `KVM`, or `unknown`.
    pub virtual_machine: Option<String>,
    /// What the computer is called by its maker.
    pub model: Option<String>,
}

/// What made a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Container {
    /// Docker, or what leaves the same mark.
    Docker,
    /// Podman.
    Podman,
    /// A pod of Kubernetes.
    Kubernetes,
    /// LXC, LXD or Incus.
    Lxc,
    /// Another one.
    Other,
}

/// Why a machine could not be described.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The operating system told no memory size, without which nothing can be planned.
    #[error("the operating system does not say how much memory this machine has{0}")]
    NoMemory(String),
}

impl Machine {
    /// Describes the machine this process runs on, with its GPUs. Takes some milliseconds where the drivers answer at once, more where Vulkan
    /// has to be asked, up to a second where a card has to be woken, and 2.5 seconds where a driver hangs; call it once.
    ///
    /// # Errors
    /// [`MachineError::NoMemory`] when the operating system tells no memory size.
    pub fn detect() -> Result<Machine, MachineError> {
        let mut machine = Machine::host()?;
        #[cfg(target_os = "linux")]
        {
            let tree = tree::Tree::at("/".as_ref());
            let libraries =
                linux::Libraries { nvml: Some(nvml::query), vulkan: Some(vulkan::query) };
            machine.gpus = linux::gpus(&tree, &machine.memory, libraries);
        }
        #[cfg(not(target_os = "linux"))]
        portable::gpus(&mut machine);
        Ok(machine)
    }

    /// Everything but the GPUs: no driver is asked, so it takes a few milliseconds.
    ///
    /// # Errors
    /// As [`Machine::detect`].
    pub fn host() -> Result<Machine, MachineError> {
        #[cfg(target_os = "linux")]
        let mut machine = linux::host(&tree::Tree::at("/".as_ref()))?;
        #[cfg(not(target_os = "linux"))]
        let mut machine = portable::host()?;
        let features = isa::features();
        machine.cpu.isa = Isa::best(&features);
        machine.cpu.features = features.iter().map(|f| (*f).to_owned()).collect();
        machine.cpu.usable_cores = std::thread::available_parallelism().map_or(1, usize::from);
        machine.cpu.logical_cores = machine.cpu.logical_cores.max(machine.cpu.usable_cores);
        Ok(machine)
    }

    /// The machine that the files below `root` tell of, as those of `/` tell of this one; instruction sets by the kernel's word. No driver's
    /// library is asked.
    ///
    /// # Errors
    /// As [`Machine::detect`].
    #[cfg(target_os = "linux")]
    pub fn detect_in(root: &std::path::Path) -> Result<Machine, MachineError> {
        let tree = tree::Tree::at(root);
        let mut machine = linux::host(&tree)?;
        machine.gpus = linux::gpus(&tree, &machine.memory, linux::Libraries::default());
        Ok(machine)
    }
}

/// The name that this machine gives itself.
pub fn host_name() -> Option<String> {
    #[cfg(target_os = "linux")]
    let name = tree::Tree::at("/".as_ref()).line("proc/sys/kernel/hostname");
    #[cfg(not(target_os = "linux"))]
    let name = portable::host_name();
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_this_machine() {
        let m = Machine::detect().unwrap();
        assert!(m.memory.total_bytes > 64 << 20);
        assert!(m.memory.available_bytes <= m.memory.total_bytes);
        assert!(m.memory.total_bytes <= m.memory.installed_bytes);
        assert!(m.cpu.physical_cores >= 1 && m.cpu.physical_cores <= m.cpu.logical_cores);
        assert!(m.cpu.usable_cores >= 1 && m.cpu.usable_cores <= m.cpu.logical_cores);
        let json = serde_json::to_value(&m).unwrap();
        assert!(json["cpu"]["isa"].is_string(), "{json}");
        assert_eq!(serde_json::from_value::<Machine>(json).unwrap(), m);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_kernels_files_and_the_processor_agree() {
        let files = Machine::detect_in("/".as_ref()).unwrap();
        let asked = Machine::host().unwrap();
        assert_eq!(files.cpu, asked.cpu);
        assert_eq!(files.memory.installed_bytes, asked.memory.installed_bytes);
    }

    #[test]
    fn problems_have_names_and_sentences() {
        let json = |p: &Problem| serde_json::to_string(p).unwrap();
        assert_eq!(json(&Problem::NoDriver), "\"no-driver\"");
        let says = Problem::DriverSays("lost".to_owned());
        assert_eq!(json(&says), "{\"driver-says\":\"lost\"}");
        assert_eq!(says.to_string(), "its driver reports: lost");
    }
}
