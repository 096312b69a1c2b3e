//! Computers whose GPU is no card: NVIDIA's Jetson boards, which are known by their device tree. A Raspberry Pi's GPU is left out, as
//! nothing for language models runs on it.

use crate::Memory;
use crate::gpu::{Gpu, Kind, Vendor};
use crate::text::printable;
use crate::tree::Tree;

/// The GPU of the board.
pub(super) fn gpu(tree: &Tree, memory: &Memory) -> Option<Gpu> {
    let model = tree.line("proc/device-tree/model")?;
    // A list of names, each with a zero byte behind it.
    let kin = tree.text("proc/device-tree/compatible").unwrap_or_default();
    if !kin.contains("nvidia,tegra") && !model.contains("Jetson") {
        return None;
    }
    let model = model.replace(" Developer Kit", "").replace(" Engineering Reference", "");
    let name = if model.starts_with("NVIDIA") { model } else { format!("NVIDIA {model}") };
    Some(Gpu {
        name,
        vendor: Vendor::Nvidia,
        kind: Kind::Unified,
        memory_bytes: Some(memory.total_bytes),
        free_bytes: Some(memory.available_bytes),
        driver: driver(tree),
        ..Gpu::unknown()
    })
}

/// NVIDIA's system for these boards has a file that begins `# R36 (release), REVISION: 3.0, ...`.
fn driver(tree: &Tree) -> Option<String> {
    let text = tree.line("etc/nv_tegra_release")?;
    let (release, rest) = text.strip_prefix("# R")?.split_once(' ')?;
    let revision = rest.split_once("REVISION: ")?.1.split([',', ' ']).next()?;
    printable(&format!("L4T {release}.{revision}"))
}
