//! The rig that this machine is: what it says of itself, what was measured of it, and for the rest the device table.

use hob_machine::devices::{self, Device};
use hob_machine::{Gpu, Isa, Kind, Link, Machine, Probe, Vendor};

use super::{Card, Host, Note, Rig, left_by_driver};

/// What this machine is called, before the name of its processor.
pub const THIS_MACHINE: &str = "this machine";

/// Bytes per second from memory of a machine that is in no table: two channels of DDR4, and the channels of a server that a guest shares.
const DESKTOP_BANDWIDTH: f64 = 40e9;
const SERVER_BANDWIDTH: f64 = 90e9;
/// Names of processors that servers have.
const SERVERS: &[&str] =
    &["Xeon", "EPYC", "Threadripper", "Ampere", "Neoverse", "Graviton", "Kunpeng"];
/// Cycles per second of a core under load, where nobody tells.
const CLOCK: f64 = 3e9;
/// Lanes of a card whose link nobody tells.
const USUAL_LINK: Link = Link { generation: 4, lanes: 16 };

/// The rig that a machine is.
pub fn rig_of_machine(machine: &Machine, probe: Option<&Probe>) -> Rig {
    let mut notes = Vec::new();
    let brand = &machine.cpu.brand;
    // A name that tells of graphics is theirs; the memory is the same.
    let chip = devices::processor(brand).or_else(|| devices::by_name(brand));
    let unified = machine.gpus.iter().find(|g| g.kind == Kind::Unified);
    let host = host(machine, chip, unified, probe);
    let mut cards = Vec::new();
    let beside = |g: &&Gpu| matches!(g.kind, Kind::Discrete | Kind::Integrated);
    for gpu in machine.gpus.iter().filter(beside) {
        let hindrance = gpu.problems.iter().find(|problem| problem.hinders());
        match (hindrance, devices::matching(gpu)) {
            (Some(problem), _) => {
                notes.push(Note::Hindered { gpu: gpu.name.clone(), problem: problem.clone() });
            }
            (None, Some(device)) => cards.extend(card(gpu, device, &host, &mut notes)),
            (None, None) => notes.push(Note::Unknown(gpu.name.clone())),
        }
    }
    cards.sort_by(|a, b| b.bandwidth.total_cmp(&a.bandwidth));
    if host.probe.is_none() && host.kind == Kind::Cpu {
        notes.push(Note::NotMeasured);
    }
    Rig { name: name(machine), host, cards, notes }
}

fn name(machine: &Machine) -> String {
    match machine.cpu.brand.as_str() {
        "" => THIS_MACHINE.to_owned(),
        brand => format!("{THIS_MACHINE} ({brand})"),
    }
}

fn host(
    machine: &Machine,
    chip: Option<&Device>,
    unified: Option<&Gpu>,
    probe: Option<&Probe>,
) -> Host {
    let brand = &machine.cpu.brand;
    let table = unified.and_then(devices::matching).or(chip);
    let is_unified = unified.is_some() || chip.is_some_and(|c| c.kind == Kind::Unified);
    let measured = probe.map(|p| p.read_bytes_per_second).filter(|_| !is_unified);
    let memory = machine.memory.total_bytes;
    Host {
        name: if brand.is_empty() { "CPU".to_owned() } else { brand.clone() },
        kind: if is_unified { Kind::Unified } else { Kind::Cpu },
        vendor: table.map_or_else(|| vendor(brand), |t| t.vendor),
        memory,
        free: machine.memory.available_bytes,
        bandwidth: measured.or(table.map(|t| t.bandwidth)).unwrap_or_else(|| cautious(brand)),
        operations: match table.filter(|t| is_unified || t.kind == Kind::Cpu) {
            Some(table) if is_unified || probe.is_none() => table.fp16,
            _ => operations(machine, probe),
        },
        limit: is_unified.then(|| {
            let told = unified.and_then(|gpu| gpu.memory_bytes);
            told.or(table.map(|t| t.gpu_memory(memory))).unwrap_or(memory / 2).min(memory)
        }),
        probe: probe.cloned(),
    }
}

fn vendor(brand: &str) -> Vendor {
    let has = |word: &str| brand.contains(word);
    match () {
        () if has("AMD") => Vendor::Amd,
        () if has("Intel") => Vendor::Intel,
        () if has("Apple") => Vendor::Apple,
        () if has("Kunpeng") => Vendor::Huawei,
        () => Vendor::Other,
    }
}

fn cautious(brand: &str) -> f64 {
    match SERVERS.iter().any(|name| brand.contains(name)) {
        true => SERVER_BANDWIDTH,
        false => DESKTOP_BANDWIDTH,
    }
}

/// Operations per second: the best that was measured, else F32 by two vector units of the instruction set's width in every core.
fn operations(machine: &Machine, probe: Option<&Probe>) -> f64 {
    let measured = probe.map(|p| {
        let all = p.kernels.iter().map(|k| k.prefill_operations_per_second);
        all.fold(0.0, f64::max)
    });
    let per_cycle = match machine.cpu.isa {
        Isa::Avx512Vnni | Isa::Avx512 => 64.0,
        Isa::Avx2 => 32.0,
        Isa::Neon => 16.0,
        Isa::Scalar => 2.0,
    };
    let cores = machine.cpu.physical_cores.min(machine.cpu.usable_cores).max(1);
    measured.filter(|m| *m > 0.0).unwrap_or(per_cycle * CLOCK * cores as f64)
}

fn card(gpu: &Gpu, device: &Device, host: &Host, notes: &mut Vec<Note>) -> Option<Card> {
    let integrated = gpu.kind == Kind::Integrated;
    let by_table = match integrated {
        true => Some(device.gpu_memory(host.memory)),
        false => device.memory.first().copied(),
    };
    let Some(memory) = gpu.memory_bytes.or(by_table) else {
        notes.push(Note::Unsized(gpu.name.clone()));
        return None;
    };
    let free = gpu.free_bytes.unwrap_or(left_by_driver(memory)).min(memory);
    Some(Card {
        name: gpu.name.clone(),
        kind: if integrated { Kind::Integrated } else { Kind::Discrete },
        vendor: gpu.vendor,
        memory,
        free: if integrated { free.min(host.free) } else { free },
        bandwidth: if integrated { host.bandwidth.max(device.bandwidth) } else { device.bandwidth },
        operations: device.fp16,
        link: match integrated {
            true => host.bandwidth,
            false => gpu.link.unwrap_or(USUAL_LINK).bytes_per_second(),
        },
    })
}
