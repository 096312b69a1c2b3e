//! Main memory, swap and NUMA nodes by `/proc/meminfo` and `/sys/devices/system/node`, narrowed by the control groups.

use std::collections::BTreeSet;

use super::cpu::list;
use crate::tree::{Tree, value};
use crate::{Memory, Node, Swap, cgroup};

/// Memory and swap, `None` when the kernel does not tell how much memory there is.
pub(super) fn read(tree: &Tree) -> Option<(Memory, Swap)> {
    let text = tree.text("proc/meminfo")?;
    let bytes = |key| value(&text, key, ':').and_then(kilobytes);
    let total = bytes("MemTotal").filter(|total| *total > 0)?;
    // Kernels before 3.14 do not tell what is available.
    let available = bytes("MemAvailable").or_else(|| bytes("MemFree")).unwrap_or(0);
    let memory =
        Memory { channels: channels(tree), ..narrowed(total, available, cgroup::memory(tree)) };
    let total_bytes = bytes("SwapTotal").unwrap_or(0);
    let free_bytes = bytes("SwapFree").unwrap_or(0).min(total_bytes);
    Some((memory, Swap { total_bytes, free_bytes }))
}

/// A number of the form `24689764 kB`, in bytes.
fn kilobytes(text: &str) -> Option<u64> {
    text.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The machine's memory, as far as a control group leaves it. A limit above the installed memory is none (version 1 writes a huge number
/// for "unlimited").
fn narrowed(total: u64, available: u64, group: Option<cgroup::Headroom>) -> Memory {
    let available = available.min(total);
    let group = group.filter(|g| g.limit < total);
    Memory {
        installed_bytes: total,
        total_bytes: group.map_or(total, |g| g.limit),
        available_bytes: group.map_or(available, |g| available.min(g.available)),
        limit_bytes: group.map(|g| g.limit),
        channels: None,
    }
}

/// NUMA nodes that have memory or cores.
pub(super) fn nodes(tree: &Tree) -> Vec<Node> {
    const NODES: &str = "sys/devices/system/node";
    let ids = tree.names(NODES);
    let ids = ids.iter().filter_map(|name| name.strip_prefix("node")?.parse::<u32>().ok());
    let node = |id: u32| {
        let text = tree.text(format!("{NODES}/node{id}/meminfo")).unwrap_or_default();
        let bytes = |key| value(&text, &format!("Node {id} {key}"), ':').and_then(kilobytes);
        let cpus = tree.text(format!("{NODES}/node{id}/cpulist")).and_then(|text| list(&text));
        let memory_bytes = bytes("MemTotal").unwrap_or(0);
        let free_bytes = bytes("MemFree").unwrap_or(0).min(memory_bytes);
        Node { id, cpus: cpus.unwrap_or_default(), memory_bytes, free_bytes }
    };
    let mut nodes: Vec<Node> =
        ids.map(node).filter(|n| n.memory_bytes > 0 || !n.cpus.is_empty()).collect();
    nodes.sort_by_key(|n| n.id);
    nodes
}

/// Channels with memory modules, by the drivers that watch memory errors (kernel documentation: admin-guide/RAS): every controller has a
/// folder for each module, with a size and a place such as `csrow 0 channel 1`.
fn channels(tree: &Tree) -> Option<u32> {
    const EDAC: &str = "sys/devices/system/edac/mc";
    let mut found = BTreeSet::new();
    for controller in tree.names(EDAC).into_iter().filter(|n| n.starts_with("mc")) {
        let folder = format!("{EDAC}/{controller}");
        for module in tree.names(&folder) {
            let place = tree.line(format!("{folder}/{module}/dimm_location"));
            let size = tree.number::<u64>(format!("{folder}/{module}/size")).unwrap_or(0);
            if let (Some(channel), 1..) = (place.as_deref().and_then(channel), size) {
                found.insert((controller.clone(), channel));
            }
        }
    }
    u32::try_from(found.len()).ok().filter(|n| *n > 0)
}

fn channel(place: &str) -> Option<u32> {
    let mut words = place.split_whitespace();
    words.find(|word| *word == "channel")?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::tree;

    #[test]
    fn a_limit_above_the_installed_memory_is_none() {
        let group = Some(cgroup::Headroom { limit: u64::MAX >> 1, available: 5 });
        let m = narrowed(100, 90, group);
        assert_eq!((m.total_bytes, m.available_bytes, m.limit_bytes), (100, 90, None));
    }

    #[test]
    fn a_limit_narrows_both_numbers() {
        let m = narrowed(100, 90, Some(cgroup::Headroom { limit: 50, available: 20 }));
        assert_eq!((m.total_bytes, m.available_bytes, m.limit_bytes), (50, 20, Some(50)));
        assert_eq!(m.installed_bytes, 100);
        let m = narrowed(100, 10, Some(cgroup::Headroom { limit: 50, available: 20 }));
        assert_eq!(m.available_bytes, 10);
    }

    #[test]
    fn memory_that_is_no_number_is_not_known() {
        for bad in ["-5 kB", "5", "99999999999999999999 kB", "18446744073709551615 kB", "0 kB", "x"]
        {
            let (_dir, tree) = tree(&[("proc/meminfo", format!("MemTotal: {bad}").as_bytes())]);
            assert_eq!(read(&tree), None, "{bad}");
        }
    }

    #[test]
    fn channels_are_those_with_modules_in_them() {
        let mut files: Vec<(String, String)> = Vec::new();
        for (controller, channel, size) in [(0, 0, 32768), (0, 1, 32768), (0, 1, 32768), (1, 0, 0)]
        {
            let n = files.len();
            let module = format!("sys/devices/system/edac/mc/mc{controller}/dimm{n}");
            files.push((
                format!("{module}/dimm_location"),
                format!("csrow {n} channel {channel} \n"),
            ));
            files.push((format!("{module}/size"), size.to_string()));
        }
        let files: Vec<_> = files.iter().map(|(p, c)| (p.as_str(), c.as_bytes())).collect();
        let (_dir, tree) = tree(&files);
        assert_eq!(channels(&tree), Some(2));
    }
}
