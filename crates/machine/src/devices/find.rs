//! Finds a device by name or by what the system tells of a GPU. Names must agree in their core exactly, so that no card is taken for its
//! bigger sister; makers and families may be missing, but not be wrong. What fits nothing or several is no match.

use super::name::{self, Name};
use super::{Device, GIB, all};
use crate::{Gpu, Kind};
use std::sync::OnceLock;

/// One name of one device.
struct Entry {
    name: Name,
    device: &'static Device,
}

fn entries() -> &'static [Entry] {
    static ENTRIES: OnceLock<Vec<Entry>> = OnceLock::new();
    ENTRIES.get_or_init(|| {
        let names = all().iter().flat_map(|device| {
            let named = move |text| Name::of(text).map(|name| Entry { name, device });
            device.names().filter_map(named)
        });
        names.collect()
    })
}

/// Devices of one name, in the order of the table, and the memory that was asked for.
#[derive(Debug)]
pub(super) struct Found {
    pub devices: Vec<&'static Device>,
    pub gib: Option<u64>,
}

impl Found {
    /// The device with the memory that was asked for, and that memory in bytes; without a size, the first and its smallest. Main memory
    /// can be of any size up to the largest in the table, since it is bought by itself.
    pub(super) fn with_memory(&self) -> Option<(&'static Device, u64)> {
        let Some(bytes) = self.gib.map(|gib| gib.saturating_mul(GIB)) else {
            return self.devices.first().and_then(|d| Some((*d, *d.memory.first()?)));
        };
        let sold = self.devices.iter().find(|d| d.memory.contains(&bytes));
        let free = |d: &&&Device| {
            matches!(d.kind, Kind::Integrated | Kind::Cpu) && d.memory.iter().any(|m| *m >= bytes)
        };
        sold.or_else(|| self.devices.iter().find(free)).map(|d| (*d, bytes))
    }
}

/// The device of that name, as drivers, `lspci`, `/proc/cpuinfo` and people write it. A processor with graphics that its name tells ("w/
/// Radeon 780M Graphics") is its graphics here; [`processor`] is the other half. None if no or several devices are called so, or if the
/// name tells a size of memory that such a device is not sold with.
pub fn by_name(name: &str) -> Option<&'static Device> {
    lookup(name)?.with_memory().map(|(device, _)| device)
}

/// The processor of that name as a device to compute on, its graphics set aside.
pub fn processor(brand: &str) -> Option<&'static Device> {
    let before = halves(brand).map_or(brand, |(before, _)| before);
    let found = exact(before, |d| d.kind == Kind::Cpu)?;
    found.with_memory().map(|(device, _)| device)
}

/// The table's row of a GPU of this machine: by its PCI number where the table has that, else by its name. Memory decides between
/// variants; where nothing does, the slowest counts.
pub fn matching(gpu: &Gpu) -> Option<&'static Device> {
    let numbered = all().iter().filter(|d| gpu.pci_id.is_some_and(|id| d.pci_ids.contains(&id)));
    let numbered: Vec<_> = numbered.collect();
    let named = lookup(&gpu.name).map(|found| found.devices).unwrap_or_default();
    let candidates: Vec<&'static Device> = if numbered.is_empty() {
        named
    } else if numbered.iter().any(|d| named.contains(d)) {
        numbered.into_iter().filter(|d| named.contains(d)).collect()
    } else {
        numbered
    };
    let fits = |d: &&&'static Device| has_memory(d, gpu.memory_bytes);
    let speed = |d: &&&'static Device| (d.bandwidth as u64, d.fp16 as u64);
    let slowest = candidates.iter().filter(fits).min_by_key(speed);
    // A card with other memory is another card; the part of main memory that a GPU may use can have been changed.
    slowest
        .or_else(|| candidates.iter().filter(|_| gpu.kind != Kind::Discrete).min_by_key(speed))
        .copied()
}

/// Whether a driver that tells so many bytes for the GPU means a size that the device is sold with. A little of a card's memory is always
/// kept back; of shared memory systems give more or less than the table's part.
fn has_memory(device: &Device, bytes: Option<u64>) -> bool {
    let Some(bytes) = bytes else { return true };
    let above = if device.kind == Kind::Discrete { 50 } else { 5 };
    let near = |size: u64| (size - size / 8..=size + size / above).contains(&bytes);
    device.memory.iter().any(|size| near(device.gpu_memory(*size)))
}

/// The devices that a text names: as it stands, or in one of the ways in which systems wrap a name.
pub(super) fn lookup(text: &str) -> Option<Found> {
    if text.len() > name::LONGEST {
        return None;
    }
    let any = |_: &Device| true;
    let plain = without_parentheses(text);
    let bracketed = || brackets(text).into_iter().rev().find_map(alternatives);
    let half = || {
        let (before, after) = halves(&plain)?;
        exact(after, any).or_else(|| exact(before, any))
    };
    exact(text, any).or_else(bracketed).or_else(|| exact(&plain, any)).or_else(half)
}

/// Devices that are called just so; the way a card is connected may be said where the table does not.
fn exact(text: &str, wanted: impl Fn(&Device) -> bool) -> Option<Found> {
    let name = Name::of(&text.to_lowercase().replace(" with max-q design", " laptop"))?;
    called(&name, &wanted).or_else(|| {
        let core = ["sxm", "pcie"].iter().find_map(|end| name.core.strip_suffix(end))?.to_owned();
        called(&Name { core, ..name }, &wanted)
    })
}

fn called(name: &Name, wanted: &impl Fn(&Device) -> bool) -> Option<Found> {
    // More families in common is better, then fewer that the text does not name.
    let rank = |e: &Entry| {
        let common = name.families.iter().filter(|f| e.name.families.contains(f)).count();
        (common, usize::MAX - e.name.families.len())
    };
    let allowed = |e: &&Entry| {
        let known =
            |f: &&str| e.name.families.contains(f) || name::of_maker(e.device.vendor).contains(f);
        e.name.core == name.core && wanted(e.device) && name.families.iter().all(known)
    };
    let best = entries().iter().filter(allowed).map(rank).max()?;
    let mut devices: Vec<&'static Device> = Vec::new();
    for entry in entries().iter().filter(allowed).filter(|e| rank(e) == best) {
        if !devices.iter().any(|d| std::ptr::eq(*d, entry.device)) {
            devices.push(entry.device);
        }
    }
    Some(Found { devices, gib: name.memory })
}

/// What a list of alternatives means ("GeForce RTX 4060 Max-Q / Mobile"), if only one thing.
fn alternatives(text: &str) -> Option<Found> {
    let mut found = text.split('/').filter_map(|t| exact(t, |_| true));
    let first = found.next()?;
    found.all(|other| other.devices == first.devices).then_some(first)
}

/// The contents of square brackets.
fn brackets(text: &str) -> Vec<&str> {
    text.split('[').skip(1).filter_map(|t| t.split_once(']')).map(|(inside, _)| inside).collect()
}

/// A processor and its graphics.
fn halves(text: &str) -> Option<(&str, &str)> {
    text.split_once(" w/ ").or_else(|| text.split_once(" with "))
}

fn without_parentheses(text: &str) -> String {
    let mut depth = 0_usize;
    let mut plain = String::with_capacity(text.len());
    // Marks such as (R) and (TM) go with the rest.
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => {
                depth = depth.saturating_sub(1);
                plain.push(' ');
            }
            _ if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    plain
}
