//! What is worth saying about a machine: findings, each with how much it matters. Pure; the words are elsewhere. A finding is made only of
//! what the machine told, never of what it did not.

use std::path::PathBuf;

use hob_machine::{Clock, Container, DiskKind, Gpu, Isa, Kind, Machine, Problem, Vendor, devices};
use serde::Serialize;

use super::report::Report;

const GIB: u64 = 1 << 30;
/// Room in the store below which the next model may not fit.
const LITTLE_ROOM: u64 = 20_000_000_000;
/// Free memory below which only the smallest models run.
const LITTLE_MEMORY: u64 = 2 * GIB;
/// Part of the table's bandwidth that even a plain program reaches; one channel of two gives half.
const USUAL_PART: f64 = 0.6;
/// Machines with more than this seldom need swap.
const NEEDS_NO_SWAP: u64 = 48 * GIB;

/// How much a finding matters. The order is that of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something is there and cannot be used.
    Problem,
    /// Something is slower or smaller than it could be.
    Warning,
    /// Something to know.
    Hint,
}

/// Who lends main memory to a GPU, which decides how the limit is raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lender {
    /// The kernel, by pages; and the firmware sets some aside.
    Amd,
    /// The kernel, by pages.
    Intel,
    /// macOS.
    Apple,
}

/// What can be advised.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// A GPU has a problem.
    Gpu { name: String, vendor: Vendor, problem: Problem, inside: Option<Container> },
    /// GPUs of some makers are not looked for on this system.
    Unseen { makers: String },
    /// An x86 processor without AVX2.
    NoAvx2 { guest: bool },
    /// Little memory is free.
    LittleMemory { free: u64, total: u64 },
    /// A control group allows less than there is.
    MemoryLimit { limit: u64, installed: u64, inside: Option<Container> },
    /// Windows keeps a part of the memory.
    WslMemory { memory: u64 },
    /// Memory has been moved to swap.
    SwapInUse { used: u64 },
    /// There is none.
    NoSwap { total: u64 },
    /// One channel of memory has modules.
    OneChannel,
    /// Memory is read much more slowly than the processor could, in bytes per second.
    SlowMemory { measured: f64, expected: f64 },
    /// Fewer threads than there are.
    FewerThreads { usable: usize, all: usize },
    /// The processor is set to save power.
    SavesPower { setting: String },
    /// The store's disk is nearly full.
    LittleRoom { free: u64, store: PathBuf },
    /// The store is on a disk that turns.
    SlowDisk,
    /// The store is on another machine, or on Windows' side.
    FarDisk { wsl: bool },
    /// The store is in main memory.
    MemoryDisk,
    /// The store's disk does not answer.
    NoDisk { error: String },
    /// A GPU that hob does not use.
    IdleGpu { name: String, vendor: Vendor, shares_memory: bool },
    /// A GPU that may use less of main memory than it could.
    SharedLimit { name: String, limit: u64, installed: u64, lender: Lender },
    /// No GPU is to be seen in a container.
    NoGpuInside { inside: Container },
    /// Memory is in parts.
    Nodes { count: usize },
    /// Nothing has been measured.
    NotMeasured,
}

impl Finding {
    /// Its name in JSON.
    pub fn id(&self) -> &'static str {
        match self {
            Finding::Gpu { problem, .. } => problem_id(problem),
            Finding::Unseen { .. } => "gpus-not-looked-for",
            Finding::NoAvx2 { .. } => "no-avx2",
            Finding::LittleMemory { .. } => "little-memory",
            Finding::MemoryLimit { .. } => "memory-limit",
            Finding::WslMemory { .. } => "wsl-memory",
            Finding::SwapInUse { .. } => "swap-in-use",
            Finding::NoSwap { .. } => "no-swap",
            Finding::OneChannel => "one-memory-channel",
            Finding::SlowMemory { .. } => "slow-memory",
            Finding::FewerThreads { .. } => "fewer-threads",
            Finding::SavesPower { .. } => "saves-power",
            Finding::LittleRoom { .. } => "little-room",
            Finding::SlowDisk => "slow-disk",
            Finding::FarDisk { .. } => "far-disk",
            Finding::MemoryDisk => "memory-disk",
            Finding::NoDisk { .. } => "no-disk",
            Finding::IdleGpu { .. } => "gpu-not-used",
            Finding::SharedLimit { .. } => "gpu-memory-limit",
            Finding::NoGpuInside { .. } => "no-gpu-in-container",
            Finding::Nodes { .. } => "numa",
            Finding::NotMeasured => "not-measured",
        }
    }

    /// How much it matters.
    pub fn severity(&self) -> Severity {
        match self {
            Finding::Gpu { problem, .. } if problem.hinders() => Severity::Problem,
            Finding::NoDisk { .. } => Severity::Problem,
            Finding::NoAvx2 { .. }
            | Finding::LittleMemory { .. }
            | Finding::SwapInUse { .. }
            | Finding::OneChannel
            | Finding::SlowMemory { .. }
            | Finding::SavesPower { .. }
            | Finding::LittleRoom { .. }
            | Finding::FarDisk { .. }
            | Finding::MemoryDisk => Severity::Warning,
            _ => Severity::Hint,
        }
    }
}

fn problem_id(problem: &Problem) -> &'static str {
    match problem {
        Problem::NoDriver => "gpu-no-driver",
        Problem::DisplayDriver(_) => "gpu-display-driver",
        Problem::SetAside => "gpu-set-aside",
        Problem::DriverHangs => "gpu-driver-hangs",
        Problem::NoLibrary(_) => "gpu-no-library",
        Problem::DriverMismatch => "gpu-driver-mismatch",
        Problem::DriverSays(_) => "gpu-driver-error",
        Problem::MemoryUnknown => "gpu-memory-unknown",
        Problem::NoDeviceFile(_) => "gpu-no-device-file",
        Problem::NoPermission(_) => "gpu-no-permission",
        Problem::Divided => "gpu-divided",
        Problem::BehindWindows => "gpu-behind-windows",
        Problem::OnlyLookedFor(_) => "gpus-not-looked-for",
    }
}

/// All findings, what matters most first.
pub fn findings(report: &Report) -> Vec<Finding> {
    let mut found = Vec::new();
    gpus(&report.machine, &mut found);
    processor(&report.machine, &mut found);
    memory(&report.machine, &mut found);
    found.extend(slow_memory(report));
    store(report, &mut found);
    if report.probe.is_none() {
        found.push(Finding::NotMeasured);
    }
    found.sort_by_key(Finding::severity);
    found
}

fn gpus(machine: &Machine, found: &mut Vec<Finding>) {
    let inside = machine.system.container;
    for gpu in &machine.gpus {
        let (name, vendor) = (gpu.name.clone(), gpu.vendor);
        found.extend(gpu.problems.iter().map(|problem| Finding::Gpu {
            name: name.clone(),
            vendor,
            problem: problem.clone(),
            inside,
        }));
        if gpu.is_ready() {
            found.extend(shared_limit(machine, gpu));
            let shares_memory = gpu.kind != Kind::Discrete;
            found.push(Finding::IdleGpu { name, vendor, shares_memory });
        }
    }
    for problem in &machine.problems {
        if let Problem::OnlyLookedFor(makers) = problem {
            found.push(Finding::Unseen { makers: makers.clone() });
        }
    }
    if let (true, Some(inside)) = (machine.gpus.is_empty(), inside) {
        found.push(Finding::NoGpuInside { inside });
    }
}

/// A limit that its owner can raise, when it is well below what there is.
fn shared_limit(machine: &Machine, gpu: &Gpu) -> Option<Finding> {
    let driver = gpu.driver.as_deref().unwrap_or_default();
    let lender = match (gpu.vendor, gpu.kind) {
        (Vendor::Apple, _) => Lender::Apple,
        (Vendor::Amd, Kind::Integrated) if driver.starts_with("amdgpu") => Lender::Amd,
        (Vendor::Intel, Kind::Integrated) if driver.starts_with("xe") => Lender::Intel,
        _ => return None,
    };
    let (limit, installed) = (gpu.memory_bytes?, machine.memory.installed_bytes);
    let name = gpu.name.clone();
    let is_low = installed >= 8 * GIB && limit < wanted(installed);
    is_low.then_some(Finding::SharedLimit { name, limit, installed, lender })
}

/// What a GPU may have of main memory, so that enough is left for the rest: four fifths.
pub fn wanted(installed: u64) -> u64 {
    installed / 5 * 4
}

fn processor(machine: &Machine, found: &mut Vec<Finding>) {
    let (cpu, system) = (&machine.cpu, &machine.system);
    if cpu.isa == Isa::Scalar && system.architecture == "x86_64" {
        found.push(Finding::NoAvx2 { guest: system.virtual_machine.is_some() });
    }
    if cpu.usable_cores < cpu.logical_cores {
        found.push(Finding::FewerThreads { usable: cpu.usable_cores, all: cpu.logical_cores });
    }
    if let Some(setting) = cpu.clock.as_ref().and_then(saving) {
        found.push(Finding::SavesPower { setting });
    }
    let nodes = machine.numa.iter().filter(|node| node.memory_bytes > 0).count();
    if nodes > 1 {
        found.push(Finding::Nodes { count: nodes });
    }
}

/// The setting that keeps the processor slow. With drivers that leave the choice to the processor, the rule named `powersave` does not.
fn saving(clock: &Clock) -> Option<String> {
    let chooses = matches!(clock.driver.as_deref(), Some("intel_pstate" | "amd-pstate-epp"));
    match (clock.governor.as_deref(), clock.preference.as_deref()) {
        (_, Some("power")) => Some("energy_performance_preference = power".to_owned()),
        (Some("powersave"), _) if !chooses => Some("scaling_governor = powersave".to_owned()),
        _ => None,
    }
}

fn memory(machine: &Machine, found: &mut Vec<Finding>) {
    let (memory, swap, system) = (&machine.memory, machine.swap, &machine.system);
    let (free, total) = (memory.available_bytes, memory.total_bytes);
    if free < LITTLE_MEMORY.max(total / 4) {
        found.push(Finding::LittleMemory { free, total });
    }
    if let Some(limit) = memory.limit_bytes {
        let (installed, inside) = (memory.installed_bytes, system.container);
        found.push(Finding::MemoryLimit { limit, installed, inside });
    }
    if system.wsl == Some(2) {
        found.push(Finding::WslMemory { memory: memory.installed_bytes });
    }
    let used = swap.total_bytes.saturating_sub(swap.free_bytes);
    if used > GIB && used > swap.total_bytes / 4 {
        found.push(Finding::SwapInUse { used });
    }
    if swap.total_bytes == 0 && total < NEEDS_NO_SWAP && system.container.is_none() {
        found.push(Finding::NoSwap { total });
    }
    if memory.channels == Some(1) {
        found.push(Finding::OneChannel);
    }
}

/// Only where all cores were measured, and the memory is the machine's own.
fn slow_memory(report: &Report) -> Option<Finding> {
    let (cpu, system) = (&report.machine.cpu, &report.machine.system);
    if cpu.usable_cores < cpu.physical_cores || system.virtual_machine.is_some() {
        return None;
    }
    let row = devices::processor(&cpu.brand).or_else(|| devices::by_name(&cpu.brand))?;
    let (measured, expected) = (report.probe.as_ref()?.read_bytes_per_second, row.bandwidth);
    (measured < USUAL_PART * expected).then_some(Finding::SlowMemory { measured, expected })
}

fn store(report: &Report, found: &mut Vec<Finding>) {
    let disk = match &report.disk {
        Ok(disk) => disk,
        Err(error) => return found.push(Finding::NoDisk { error: error.clone() }),
    };
    if disk.free_bytes < LITTLE_ROOM {
        let store = report.store.clone();
        found.push(Finding::LittleRoom { free: disk.free_bytes, store });
    }
    match disk.kind {
        DiskKind::Hdd => found.push(Finding::SlowDisk),
        DiskKind::Network => {
            found.push(Finding::FarDisk { wsl: report.machine.system.wsl.is_some() });
        }
        DiskKind::Memory => found.push(Finding::MemoryDisk),
        DiskKind::Ssd | DiskKind::Unknown => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{laptop, server};
    use super::*;
    use hob_machine::Node;

    fn ids(report: &Report) -> Vec<&'static str> {
        findings(report).iter().map(Finding::id).collect()
    }

    #[test]
    fn a_healthy_machine_hears_little() {
        let mut report = laptop();
        report.machine.gpus.clear();
        assert_eq!(ids(&report), [""; 0]);
    }

    #[test]
    fn what_cannot_be_used_comes_first() {
        let found = findings(&server());
        assert!(found.is_sorted_by_key(Finding::severity));
        assert_eq!(found[0].id(), "gpu-no-driver");
    }

    #[test]
    fn a_gpu_that_cannot_be_used_is_not_called_idle() {
        let mut report = laptop();
        report.machine.gpus.truncate(1);
        assert_eq!(ids(&report), ["gpu-memory-limit", "gpu-not-used"]);
        report.machine.gpus[0].problems = vec![Problem::NoPermission("renderD128".to_owned())];
        assert_eq!(ids(&report), ["gpu-no-permission"]);
    }

    #[test]
    fn powersave_means_different_things() {
        let clock = |driver: &str, governor: &str, preference: Option<&str>| {
            saving(&Clock {
                driver: Some(driver.to_owned()),
                governor: Some(governor.to_owned()),
                preference: preference.map(str::to_owned),
            })
        };
        assert_eq!(clock("intel_pstate", "powersave", Some("balance_performance")), None);
        assert!(clock("intel_pstate", "powersave", Some("power")).is_some());
        assert!(clock("acpi-cpufreq", "powersave", None).is_some());
        assert_eq!(clock("acpi-cpufreq", "schedutil", None), None);
    }

    #[test]
    fn slow_memory_is_told_by_the_table() {
        // 89.6 GB/s by the table.
        let of = |measured: f64, guest: bool| {
            let mut report = laptop();
            report.machine.gpus.clear();
            report.probe.as_mut().unwrap().read_bytes_per_second = measured;
            report.machine.system.virtual_machine = guest.then(|| "KVM".to_owned());
            ids(&report)
        };
        assert_eq!(of(38e9, false), ["slow-memory"]);
        assert_eq!(of(60e9, false), [""; 0]);
        assert_eq!(of(38e9, true), [""; 0]);
    }

    #[test]
    fn each_cause_has_its_finding() {
        let with = |change: fn(&mut Report)| {
            let mut report = laptop();
            report.machine.gpus.clear();
            change(&mut report);
            ids(&report)
        };
        assert_eq!(with(|r| r.machine.cpu.isa = Isa::Scalar), ["no-avx2"]);
        assert_eq!(with(|r| r.machine.cpu.usable_cores = 4), ["fewer-threads"]);
        assert_eq!(with(|r| r.machine.memory.available_bytes = GIB), ["little-memory"]);
        assert_eq!(with(|r| r.machine.memory.limit_bytes = Some(GIB)), ["memory-limit"]);
        assert_eq!(with(|r| r.machine.memory.channels = Some(1)), ["one-memory-channel"]);
        assert_eq!(with(|r| r.machine.swap.total_bytes = 0), ["no-swap"]);
        assert_eq!(with(|r| r.machine.swap.free_bytes = 0), ["swap-in-use"]);
        assert_eq!(with(|r| r.machine.system.wsl = Some(2)), ["wsl-memory"]);
        assert_eq!(
            with(|r| r.machine.system.container = Some(Container::Docker)),
            ["no-gpu-in-container"]
        );
        assert_eq!(
            with(|r| r.machine.problems = vec![Problem::OnlyLookedFor("NVIDIA".into())]),
            ["gpus-not-looked-for"]
        );
        assert_eq!(with(|r| r.disk = Err("no answer".to_owned())), ["no-disk"]);
        assert_eq!(with(|r| r.probe = None), ["not-measured"]);
        assert_eq!(
            with(|r| {
                let node = |id| Node { id, cpus: vec![id], memory_bytes: GIB, free_bytes: 0 };
                r.machine.numa = vec![node(0), node(1)];
            }),
            ["numa"]
        );
        let disk = |kind, free| {
            let mut report = laptop();
            report.machine.gpus.clear();
            let disk = report.disk.as_mut().unwrap();
            (disk.kind, disk.free_bytes) = (kind, free);
            ids(&report)
        };
        assert_eq!(disk(DiskKind::Hdd, 1 << 40), ["slow-disk"]);
        assert_eq!(disk(DiskKind::Network, 1 << 40), ["far-disk"]);
        assert_eq!(disk(DiskKind::Memory, 1 << 40), ["memory-disk"]);
        assert_eq!(disk(DiskKind::Ssd, 1 << 30), ["little-room"]);
    }
}
