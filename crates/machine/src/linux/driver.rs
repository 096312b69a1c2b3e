//! What a card's driver tells in files: memory, power, versions, and whether programs may use it. These reads go through the driver, so they
//! are made on a thread that may be left behind. NVIDIA's driver says little here; `nvml` asks it for the rest.

use std::path::PathBuf;

use super::pci::Function;
use crate::gpu::{MAX_MEMORY, Problem};
use crate::text::printable;
use crate::tree::{Tree, value};

/// Bytes in all, and in use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pool {
    pub total: u64,
    /// `None`: not known.
    pub used: Option<u64>,
}

impl Pool {
    pub fn free(self) -> Option<u64> {
        self.used.map(|used| self.total.saturating_sub(used))
    }
}

/// What a driver told.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub name: Option<String>,
    pub version: Option<String>,
    /// Memory of the card's own, or set aside for it by the firmware.
    pub own: Option<Pool>,
    /// Main memory that it may use.
    pub shared: Option<Pool>,
    /// Whether its memory has a maker: that of a processor's own GPU has none.
    pub has_memory_chips: bool,
    pub power_limit_watts: Option<f64>,
    pub problems: Vec<Problem>,
}

/// Asks the driver of this card.
pub(super) fn ask(tree: &Tree, function: &Function) -> Told {
    let driver = function.driver.as_deref().unwrap_or_default();
    let told = match driver {
        "amdgpu" => amd(tree, function),
        "i915" | "xe" => intel(tree, function),
        "nvidia" => nvidia(tree, function),
        _ if function.is_huawei() => Told { version: ascend(tree), ..Told::default() },
        _ => Told::default(),
    };
    let version =
        told.version.clone().or_else(|| tree.line(format!("sys/module/{driver}/version")));
    Told { version, ..told }
}

fn amd(tree: &Tree, function: &Function) -> Told {
    let file = |name: &str| function.folder.join(name);
    let pool = |kind: &str| {
        let total = size(tree, file(&format!("mem_info_{kind}_total")))?;
        Some(Pool { total, used: tree.number(file(&format!("mem_info_{kind}_used"))) })
    };
    let maker = tree.line(file("mem_info_vram_vendor"));
    Told {
        name: tree.line(file("product_name")),
        own: pool("vram"),
        shared: pool("gtt"),
        has_memory_chips: maker.is_some_and(|maker| maker != "unknown"),
        power_limit_watts: power(tree, function),
        problems: reach(tree, function),
        ..Told::default()
    }
}

/// The newer driver, xe, tells each tile's memory; the older one only where Intel's own version of it is installed.
fn intel(tree: &Tree, function: &Function) -> Told {
    let tile = |n: u32| function.folder.join(format!("tile{n}/physical_vram_size_bytes"));
    let tiles: u64 = (0..4).map_while(|n| size(tree, tile(n))).fold(0, u64::saturating_add);
    Told {
        own: if tiles > 0 {
            Some(Pool { total: tiles, used: None })
        } else {
            older_intel(tree, function)
        },
        power_limit_watts: power(tree, function),
        problems: reach(tree, function),
        ..Told::default()
    }
}

fn older_intel(tree: &Tree, function: &Function) -> Option<Pool> {
    let drm = function.folder.join("drm");
    tree.names(&drm).iter().filter(|name| name.starts_with("card")).find_map(|card| {
        let total = size(tree, drm.join(card).join("lmem_total_bytes"))?;
        let free = tree.number::<u64>(drm.join(card).join("lmem_avail_bytes"));
        Some(Pool { total, used: free.map(|free| total.saturating_sub(free)) })
    })
}

fn nvidia(tree: &Tree, function: &Function) -> Told {
    let folder = format!("proc/driver/nvidia/gpus/{}", function.address);
    let information = tree.text(format!("{folder}/information")).unwrap_or_default();
    Told {
        name: value(&information, "Model", ':').and_then(printable),
        version: nvidia_version(tree),
        ..Told::default()
    }
}

/// `NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 ...`; the open one has other words before the number.
fn nvidia_version(tree: &Tree) -> Option<String> {
    let text = tree.text("proc/driver/nvidia/version")?;
    let is_version =
        |word: &&str| word.contains('.') && word.split('.').all(|part| part.parse::<u32>().is_ok());
    text.lines().next()?.split_whitespace().find(is_version).and_then(printable)
}

/// Ascend's driver has a file of lines `Version=24.1.rc1`.
fn ascend(tree: &Tree) -> Option<String> {
    let text = tree.text("usr/local/Ascend/driver/version.info")?;
    value(&text, "Version", '=').and_then(printable)
}

fn size(tree: &Tree, file: PathBuf) -> Option<u64> {
    tree.number(file).filter(|n| (1..=MAX_MEMORY).contains(n))
}

/// The limit that is set, in watts. A card that sleeps is left alone: this would wake it.
fn power(tree: &Tree, function: &Function) -> Option<f64> {
    let asleep = tree.line(function.folder.join("power/runtime_status"));
    if asleep.as_deref() == Some("suspended") {
        return None;
    }
    let monitors = function.folder.join("hwmon");
    tree.names(&monitors).iter().find_map(|monitor| {
        let microwatts =
            |name: &str| tree.number::<u64>(monitors.join(monitor).join(name)).filter(|n| *n > 0);
        let limit = microwatts("power1_cap").or_else(|| microwatts("power1_max"))?;
        Some(limit as f64 / 1e6).filter(|watts| *watts < 1e4)
    })
}

/// Whether programs get at it: through a file that containers may lack and that may belong to a group.
fn reach(tree: &Tree, function: &Function) -> Vec<Problem> {
    let nodes = tree.names(function.folder.join("drm"));
    let Some(node) = nodes.into_iter().find(|name| name.starts_with("renderD")) else {
        return Vec::new();
    };
    let file = tree.path("dev/dri").join(&node);
    if !file.exists() {
        return vec![Problem::NoDeviceFile(node)];
    }
    let wanted = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK;
    match rustix::fs::access(file, wanted) {
        Err(rustix::io::Errno::ACCESS) => vec![Problem::NoPermission(node)],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::tree;

    #[test]
    fn versions_of_both_kernel_modules() {
        let version = |text: &str| {
            let (_dir, tree) = tree(&[("proc/driver/nvidia/version", text.as_bytes())]);
            nvidia_version(&tree)
        };
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024\nGCC version: 13.2.0\n";
        assert_eq!(version(closed).as_deref(), Some("550.54.14"));
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86  Release Build  (root@x)\n";
        assert_eq!(version(open).as_deref(), Some("570.86"));
        assert_eq!(version("no number here. at all"), None);
    }
}
