//! Names for GPUs whose driver has none: from libdrm's table for AMD (it knows revisions), hob's own table of devices where a number means
//! one of them only, and the list of PCI numbers that distributions install. Without any a card is called by its numbers.

use super::pci::Function;
use crate::devices;
use crate::text::printable;
use crate::tree::Tree;

/// The list of PCI numbers has 1.5 MB, libdrm's table 20 kB.
const MAX_LIST: u64 = 8 << 20;
const PCI_IDS: [&str; 3] =
    ["usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids", "usr/share/pci.ids"];
const AMD_IDS: [&str; 2] = ["usr/share/libdrm/amdgpu.ids", "opt/amdgpu/share/libdrm/amdgpu.ids"];

/// The best name that is to be had without the driver.
pub(super) fn of(tree: &Tree, function: &Function) -> String {
    let known = amd(tree, function).or_else(|| tabled(function));
    known.or_else(|| listed(tree, function)).unwrap_or_else(|| {
        let what = match maker(function) {
            Some("Huawei") => "Huawei accelerator".to_owned(),
            Some(maker) => format!("{maker} GPU"),
            None => "GPU".to_owned(),
        };
        format!("{what} {:04x}:{:04x}", function.vendor, function.device)
    })
}

fn maker(function: &Function) -> Option<&'static str> {
    Some(match function.vendor {
        0x10de => "NVIDIA",
        0x1002 => "AMD",
        0x8086 => "Intel",
        0x19e5 => "Huawei",
        0x1ed5 => "Moore Threads",
        0x9999 => "MetaX",
        0x1d94 => "Hygon",
        0xcabc => "Cambricon",
        0x1e3e => "Iluvatar",
        0x1da3 => "Habana",
        _ => return None,
    })
}

/// libdrm's table has lines `744C,\tC8,\tAMD Radeon RX 7900 XTX`.
fn amd(tree: &Tree, function: &Function) -> Option<String> {
    if !function.is_amd() {
        return None;
    }
    let text = AMD_IDS.iter().find_map(|path| tree.long(path, MAX_LIST))?;
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut fields = line.splitn(3, ',').map(str::trim);
        let number = |text: &str| u32::from_str_radix(text, 16).ok();
        let (device, revision) = (number(fields.next()?)?, number(fields.next()?)?);
        let same = (device, revision) == (function.device.into(), function.revision.into());
        if same { printable(fields.next()?) } else { None }
    })
}

/// The only device of the table that has this number.
fn tabled(function: &Function) -> Option<String> {
    let id = (function.vendor, function.device);
    let mut rows = devices::all().iter().filter(|device| device.pci_ids.contains(&id));
    match (rows.next(), rows.next()) {
        (Some(device), None) => Some(made_by(function, &device.name)),
        _ => None,
    }
}

/// A name with its maker's before it.
fn made_by(function: &Function, name: &str) -> String {
    match maker(function) {
        Some(maker) if !name.starts_with(maker) => format!("{maker} {name}"),
        _ => name.to_owned(),
    }
}

/// The list has makers at the beginning of lines, `10de  NVIDIA Corporation`, and their devices behind a tab:
/// `\t2684  AD102 [GeForce RTX 4090]`. What is sold stands in brackets, if the chip is not all of it.
fn listed(tree: &Tree, function: &Function) -> Option<String> {
    let text = PCI_IDS.iter().find_map(|path| tree.long(path, MAX_LIST))?;
    let (maker_key, device_key) =
        (format!("{:04x} ", function.vendor), format!("\t{:04x} ", function.device));
    let below = text.lines().skip_while(|line| !line.starts_with(&maker_key)).skip(1);
    let mut own = below.take_while(|line| line.starts_with(['\t', '#']) || line.is_empty());
    let name = own.find_map(|line| line.strip_prefix(&device_key))?;
    let sold = name.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    let name = printable(sold.map_or(name, |(sold, _)| sold))?;
    Some(made_by(function, &name))
}
