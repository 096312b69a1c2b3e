//! Links of AMD's cards among each other (xGMI), by the topology that the kernel's compute driver keeps. Bandwidths in it are nominal, so
//! they are left out.

use std::collections::BTreeMap;

use crate::tree::Tree;

const NODES: &str = "sys/class/kfd/kfd/topology/nodes";
/// The kind of a link that is xGMI (kernel: `CRAT_IOLINK_TYPE_XGMI`).
const XGMI: u64 = 11;

/// For each card's address, those of the cards that it is linked with.
pub(super) fn peers(tree: &Tree) -> BTreeMap<String, Vec<String>> {
    let nodes = tree.names(NODES);
    let address_of = |node: &str| address(&properties(tree, &format!("{NODES}/{node}/properties")));
    let addresses: BTreeMap<&str, String> =
        nodes.iter().filter_map(|node| Some((node.as_str(), address_of(node)?))).collect();
    let linked = |node: &str| {
        let links = format!("{NODES}/{node}/io_links");
        let mut peers: Vec<String> = tree
            .names(&links)
            .iter()
            .map(|link| properties(tree, &format!("{links}/{link}/properties")))
            .filter(|link| link.get("type") == Some(&XGMI))
            .filter_map(|link| addresses.get(link.get("node_to")?.to_string().as_str()).cloned())
            .collect();
        peers.sort();
        peers
    };
    addresses.iter().map(|(node, address)| (address.clone(), linked(node))).collect()
}

/// Lines `key number`.
fn properties(tree: &Tree, file: &str) -> BTreeMap<String, u64> {
    let text = tree.text(file).unwrap_or_default();
    let pair = |line: &str| {
        let (key, number) = line.trim().split_once(' ')?;
        Some((key.to_owned(), number.parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// Bus, device and function are one number; processors are nodes without one.
fn address(node: &BTreeMap<String, u64>) -> Option<String> {
    let place = node.get("location_id").filter(|place| (1..=0xffff).contains(*place))?;
    let domain = node.get("domain").unwrap_or(&0);
    Some(format!("{domain:04x}:{:02x}:{:02x}.{:x}", place >> 8, (place >> 3) & 31, place & 7))
}
