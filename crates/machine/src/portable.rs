//! Systems other than Linux, by what `sysinfo` knows of them: no NUMA nodes, caches or containers, and of GPUs Apple's own, NVIDIA's, and
//! those that Vulkan tells of. On Linux it is built for its tests only, where it is held against what the kernel's files say.

use std::path::Path;

use sysinfo::{CpuRefreshKind, Disks, MemoryRefreshKind, RefreshKind, System as Info};

use crate::{Cpu, DiskKind, Machine, MachineError, Memory, Swap, System};

/// Everything but the GPUs, and but what is asked of the processor itself.
pub(crate) fn host() -> Result<Machine, MachineError> {
    let kinds = RefreshKind::nothing()
        .with_memory(MemoryRefreshKind::everything())
        .with_cpu(CpuRefreshKind::nothing());
    let info =
        Info::new_with_specifics(kinds).map_err(|e| MachineError::NoMemory(format!(": {e:?}")))?;
    let total = info.total_memory();
    if total == 0 {
        return Err(MachineError::NoMemory(String::new()));
    }
    let logical = info.cpus().len().max(1);
    let cores = Info::physical_core_count().unwrap_or(logical).clamp(1, logical);
    let cpu = Cpu {
        brand: info.cpus().first().map_or("", |c| c.brand()).trim().to_owned(),
        physical_cores: cores,
        logical_cores: logical,
        usable_cores: logical,
        ..Cpu::default()
    };
    let memory = Memory {
        installed_bytes: total,
        total_bytes: total,
        available_bytes: info.available_memory().min(total),
        limit_bytes: None,
        channels: None,
    };
    let swap = Swap {
        total_bytes: info.total_swap(),
        free_bytes: info.free_swap().min(info.total_swap()),
    };
    let system = System {
        name: Info::long_os_version().or_else(|_| Info::name()).unwrap_or_default(),
        kernel: Info::kernel_version().ok(),
        architecture: Info::cpu_arch(),
        ..System::default()
    };
    Ok(Machine { cpu, memory, swap, system, ..Machine::default() })
}

/// The disk that a path is on: kind, device, file system.
pub(crate) fn disk(path: &Path) -> (DiskKind, Option<String>, Option<String>) {
    let Ok(disks) = Disks::new_with_refreshed_list() else {
        return (DiskKind::Unknown, None, None);
    };
    let above = disks.iter().filter(|disk| path.starts_with(disk.mount_point()));
    let Some(disk) = above.max_by_key(|disk| disk.mount_point().as_os_str().len()) else {
        return (DiskKind::Unknown, None, None);
    };
    let kind = match disk.kind() {
        sysinfo::DiskKind::SSD => DiskKind::Ssd,
        sysinfo::DiskKind::HDD => DiskKind::Hdd,
        _ => DiskKind::Unknown,
    };
    let text =
        |s: &std::ffi::OsStr| Some(s.to_string_lossy().into_owned()).filter(|s| !s.is_empty());
    (kind, text(disk.name()), text(disk.file_system()))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn host_name() -> Option<String> {
    Info::host_name().ok()
}

/// Apple's GPU, which is the chip itself.
#[cfg(target_os = "macos")]
pub(crate) fn gpus(machine: &mut Machine) {
    let limit = crate::apple::sysctl("iogpu.wired_limit_mb");
    machine.gpus.extend(crate::apple::gpu(&machine.cpu.brand, &machine.memory, limit));
    if machine.gpus.is_empty() {
        machine.problems.push(crate::Problem::OnlyLookedFor("Apple".to_owned()));
    }
}

/// A library of the system's own folder: by its name alone, one might be found that somebody has put into another.
#[cfg(windows)]
pub(crate) fn of_system(library: &str) -> Option<std::path::PathBuf> {
    Some(Path::new(&std::env::var_os("SystemRoot")?).join("System32").join(library))
}

/// NVIDIA's GPUs as their own library tells of them, and others as Vulkan does.
#[cfg(windows)]
pub(crate) fn gpus(machine: &mut Machine) {
    use crate::gpu::{Gpu, Vendor};
    use crate::{nvml, patience, vulkan};
    use std::time::{Duration, Instant};

    let deadline = Instant::now() + Duration::from_millis(2500);
    let (cards, others) = (patience::beside(nvml::query), patience::beside(vulkan::query));
    for item in patience::until(&cards, deadline).0 {
        if let nvml::Told::Card(card) = item {
            machine.gpus.push(Gpu {
                name: card.name.unwrap_or_else(|| "NVIDIA GPU".to_owned()),
                vendor: Vendor::Nvidia,
                address: Some(card.address),
                driver: Some("nvidia".to_owned()),
                memory_bytes: card.memory.map(|(total, _)| total),
                free_bytes: card.memory.map(|(_, free)| free),
                pci_id: card.pci_id,
                link: card.link,
                power_limit_watts: card.power_limit_watts,
                problems: card.problems,
                ..Gpu::unknown()
            });
        }
    }
    let (told, done) = patience::until(&others, deadline);
    // Graphics drivers bring the loader: without it, or with one that hangs, none but NVIDIA's can be seen.
    if told.is_empty() || !done {
        machine.problems.push(crate::Problem::OnlyLookedFor("NVIDIA".to_owned()));
    }
    vulkan::add(&mut machine.gpus, &told, &machine.memory);
}

/// None are looked for.
#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
pub(crate) fn gpus(machine: &mut Machine) {
    machine.problems.push(crate::Problem::OnlyLookedFor("none".to_owned()));
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::disk::disk as own_disk;

    #[test]
    fn both_ways_of_asking_agree() {
        let other = host().unwrap();
        let own = Machine::host().unwrap();
        assert_eq!(other.memory.installed_bytes, own.memory.installed_bytes);
        assert_eq!(other.swap.total_bytes, own.swap.total_bytes);
        assert_eq!(other.cpu.logical_cores, own.cpu.logical_cores);
        assert_eq!(other.cpu.physical_cores, own.cpu.physical_cores);
        assert_eq!(other.cpu.brand, own.cpu.brand);
        assert_eq!(other.system.kernel, own.system.kernel);
        assert_eq!(other.system.architecture, own.system.architecture);
    }

    #[test]
    fn a_disk_has_one_file_system() {
        let (_, device, file_system) = disk(Path::new("/"));
        let own = own_disk(Path::new("/")).unwrap();
        // In containers the root may be of a kind that `sysinfo` leaves out.
        if device.is_some() {
            assert_eq!((device, file_system), (own.device, own.file_system));
        }
    }
}
