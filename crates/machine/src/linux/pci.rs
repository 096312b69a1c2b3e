//! What the PCI bus tells of GPUs and accelerators: numbers, driver's name, link, NUMA node. The kernel keeps all of that itself, so reading
//! it never asks a driver and never wakes a card. Cards without a driver are found, too.

use std::path::{Path, PathBuf};

use crate::gpu::{Link, Vendor};
use crate::tree::Tree;

const DEVICES: &str = "sys/bus/pci/devices";

/// One device on the bus.
#[derive(Clone, Debug)]
pub(super) struct Function {
    /// Its folder in the tree.
    pub folder: PathBuf,
    /// Such as `0000:01:00.0`.
    pub address: String,
    pub vendor: u16,
    pub device: u16,
    pub revision: u8,
    /// Its class without the programming interface: 0x0300 and so on.
    class: u16,
    pub driver: Option<String>,
    pub numa_node: Option<u32>,
}

impl Function {
    pub fn maker(&self) -> Vendor {
        Vendor::of_pci(self.vendor)
    }

    pub fn is_nvidia(&self) -> bool {
        self.maker() == Vendor::Nvidia
    }

    pub fn is_amd(&self) -> bool {
        self.maker() == Vendor::Amd
    }

    pub fn is_intel(&self) -> bool {
        self.maker() == Vendor::Intel
    }

    pub fn is_huawei(&self) -> bool {
        self.maker() == Vendor::Huawei
    }

    /// Display controllers and processing accelerators, but for those that only show pictures and those that are no GPUs.
    fn computes(&self) -> bool {
        // Of server boards, of virtual machines, and Windows' own.
        const PICTURES: [u16; 12] = [
            0x1013, 0x102b, 0x106b, 0x1234, 0x1414, 0x15ad, 0x1a03, 0x1ab8, 0x1af4, 0x1b36, 0x1d0f,
            0x80ee,
        ];
        match self.class >> 8 {
            0x03 => !PICTURES.contains(&self.vendor) && !self.is_huawei(),
            // Intel's are small ones for quiet tasks in the background.
            0x12 => !self.is_intel(),
            _ => false,
        }
    }

    /// Whether the processor's own parts sit in the same place: then the GPU is one of them.
    pub fn is_beside_processor(&self, tree: &Tree) -> bool {
        const AMD_PROCESSORS: u32 = 0x1022;
        let Some((slot, _)) = self.address.rsplit_once('.') else { return false };
        (0..8).any(|n| tree.hex(format!("{DEVICES}/{slot}.{n}/vendor")) == Some(AMD_PROCESSORS))
    }

    /// The narrowest and slowest part of the way to main memory. Idle cards run their link slowly, so the speed is the one that both ends
    /// can do, and the width the one in use.
    pub fn link(&self, tree: &Tree) -> Option<Link> {
        let mut way = self.way(tree);
        // Intel's cards are behind a switch of their own, and tell nonsense of the inner side of it.
        if self.is_intel() && way.len() > 2 {
            way.drain(..2);
        }
        let ends = way.iter().filter_map(|folder| {
            let generation = generation(&tree.line(folder.join("max_link_speed"))?)?;
            let width =
                |name| tree.number::<u8>(folder.join(name)).filter(|n| (1..=32).contains(n));
            let lanes = width("current_link_width").or_else(|| width("max_link_width"))?;
            Some(Link { generation, lanes })
        });
        ends.reduce(|a, b| Link {
            generation: a.generation.min(b.generation),
            lanes: a.lanes.min(b.lanes),
        })
    }

    /// The folders of this device and of the bridges above it, itself first.
    fn way(&self, tree: &Tree) -> Vec<PathBuf> {
        let Ok(real) = tree.path(&self.folder).canonicalize() else { return Vec::new() };
        let is_device = |folder: &&Path| {
            folder.file_name().and_then(|name| name.to_str()).is_some_and(is_address)
        };
        let mut way = vec![real.clone()];
        way.extend(real.ancestors().skip(1).take_while(is_device).map(Path::to_owned));
        way
    }
}

/// GPUs and accelerators, by address.
pub(super) fn graphics(tree: &Tree) -> Vec<Function> {
    let folders = tree.names(DEVICES).into_iter().filter(|name| is_address(name));
    let on_bus = folders.filter_map(|address| {
        let folder = Path::new(DEVICES).join(&address);
        function(tree, folder, address)
    });
    let mut found: Vec<Function> = on_bus.filter(Function::computes).collect();
    for function in drawing(tree) {
        if found.iter().all(|f| f.address != function.address) {
            found.push(function);
        }
    }
    found.sort_by(|a, b| a.address.cmp(&b.address));
    found
}

/// Cards by the devices that draw; the same ones, where the bus itself is hidden (in some containers).
fn drawing(tree: &Tree) -> impl Iterator<Item = Function> {
    const CARDS: &str = "sys/class/drm";
    let is_card =
        |name: &String| name.strip_prefix("card").is_some_and(|n| n.parse::<u32>().is_ok());
    tree.names(CARDS).into_iter().filter(is_card).filter_map(|card| {
        let folder = Path::new(CARDS).join(card).join("device");
        let uevent = tree.text(folder.join("uevent"))?;
        let address = variable(&uevent, "PCI_SLOT_NAME").filter(|a| is_address(a))?.to_owned();
        function(tree, folder, address).filter(Function::computes)
    })
}

fn function(tree: &Tree, folder: PathBuf, address: String) -> Option<Function> {
    let number = |name| tree.hex(folder.join(name));
    let id = |name| number(name).and_then(|n| u16::try_from(n).ok());
    let uevent = tree.text(folder.join("uevent")).unwrap_or_default();
    Some(Function {
        vendor: id("vendor")?,
        device: id("device")?,
        class: u16::try_from(number("class")? >> 8).ok()?,
        revision: number("revision").and_then(|n| u8::try_from(n).ok()).unwrap_or(0),
        driver: variable(&uevent, "DRIVER")
            .and_then(crate::text::printable)
            .or_else(|| tree.link(folder.join("driver"))),
        // -1 where there are no nodes.
        numa_node: tree.number(folder.join("numa_node")),
        address,
        folder,
    })
}

fn variable<'a>(uevent: &'a str, name: &str) -> Option<&'a str> {
    uevent.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

/// `0000:01:00.0`: domain, bus, device, function.
fn is_address(name: &str) -> bool {
    canonical(name).is_some_and(|canonical| canonical == name)
}

/// An address in the kernel's spelling; drivers also write `00000000:01:00.0`, and capitals.
pub(super) fn canonical(address: &str) -> Option<String> {
    let (rest, function) = address.rsplit_once('.')?;
    let mut parts = rest.split(':').map(|part| u32::from_str_radix(part, 16));
    let (domain, bus, device) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    let function = u32::from_str_radix(function, 16).ok()?;
    let fits = parts.next().is_none() && bus < 256 && device < 32 && function < 8;
    fits.then(|| format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}"))
}

/// `16.0 GT/s PCIe` is generation 4.
fn generation(speed: &str) -> Option<u8> {
    Some(match speed.split_whitespace().next()?.parse::<f32>().ok()? {
        ..2.0 => return None,
        ..4.0 => 1,
        ..7.0 => 2,
        ..12.0 => 3,
        ..24.0 => 4,
        ..48.0 => 5,
        ..100.0 => 6,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::tree;
    use std::os::unix::fs::symlink;

    #[test]
    fn addresses_in_one_spelling() {
        assert_eq!(canonical("00000000:01:00.0").as_deref(), Some("0000:01:00.0"));
        assert_eq!(canonical("0000000F:01:00.0").as_deref(), Some("000f:01:00.0"));
        assert_eq!(canonical("10000:e1:00.0").as_deref(), Some("10000:e1:00.0"));
        for bad in
            ["", "0000:01:00", "0000:01:00.9", "0000:1ff:00.0", "0:0:0:0.0", "x:01:00.0", "."]
        {
            assert_eq!(canonical(bad), None, "{bad}");
        }
        assert!(is_address("0000:c1:00.0") && !is_address("pci0000:00"));
    }

    #[test]
    fn speeds_are_generations() {
        let speeds =
            ["2.5 GT/s PCIe", "5.0 GT/s PCIe", "8.0 GT/s PCIe", "16.0 GT/s PCIe", "32.0 GT/s PCIe"];
        assert_eq!(speeds.map(generation), [1, 2, 3, 4, 5].map(Some));
        for bad in ["Unknown", "", "-1 GT/s", "1e9 GT/s", "NaN"] {
            assert_eq!(generation(bad), None, "{bad}");
        }
    }

    /// A card behind a switch of its own, in a slot that is narrower than it.
    fn behind_a_switch(vendor: &str, inner: (&str, &str)) -> Option<Link> {
        let port = "sys/devices/pci0000:00/0000:00:01.1";
        let folders = [
            (port.to_owned(), ("32.0 GT/s PCIe", "8")),
            (format!("{port}/0000:01:00.0"), ("16.0 GT/s PCIe", "8")),
            (format!("{port}/0000:01:00.0/0000:02:00.0"), inner),
            (format!("{port}/0000:01:00.0/0000:02:00.0/0000:03:00.0"), inner),
        ];
        let mut files: Vec<(String, String)> = Vec::new();
        for (folder, (speed, lanes)) in &folders {
            files.push((format!("{folder}/max_link_speed"), format!("{speed}\n")));
            files.push((format!("{folder}/current_link_width"), format!("{lanes}\n")));
        }
        let card = folders[3].0.clone();
        for (name, content) in [("vendor", vendor), ("device", "0x744c"), ("class", "0x030000")] {
            files.push((format!("{card}/{name}"), format!("{content}\n")));
        }
        let files: Vec<_> = files.iter().map(|(p, c)| (p.as_str(), c.as_bytes())).collect();
        let (dir, tree) = tree(&files);
        std::fs::create_dir_all(dir.path().join(DEVICES)).unwrap();
        let link = dir.path().join(DEVICES).join("0000:03:00.0");
        symlink(format!("../../../../{card}"), link).unwrap();
        let found = graphics(&tree);
        assert_eq!(found.len(), 1);
        found[0].link(&tree)
    }

    #[test]
    fn a_link_is_as_wide_as_its_narrowest_part() {
        let wide = ("16.0 GT/s PCIe", "16");
        assert_eq!(behind_a_switch("0x1002", wide), Some(Link { generation: 4, lanes: 8 }));
        let nonsense = ("2.5 GT/s PCIe", "1");
        assert_eq!(behind_a_switch("0x8086", nonsense), Some(Link { generation: 4, lanes: 8 }));
    }

    #[test]
    fn what_only_shows_pictures_is_no_gpu() {
        let found = |class: &str, vendor: &str| {
            let folder = format!("{DEVICES}/0000:00:05.0");
            let (class, vendor) = (format!("{class}\n"), format!("{vendor}\n"));
            let (_dir, tree) = tree(&[
                (&format!("{folder}/class"), class.as_bytes()),
                (&format!("{folder}/vendor"), vendor.as_bytes()),
                (&format!("{folder}/device"), b"0x0001\n"),
            ]);
            graphics(&tree).len()
        };
        assert_eq!(found("0x030000", "0x10de"), 1);
        assert_eq!(found("0x030200", "0x1ed5"), 1, "makers that hob does not know");
        assert_eq!(found("0x120000", "0x19e5"), 1, "Ascend");
        assert_eq!(found("0x038000", "0x19e5"), 0, "the display of Huawei's servers");
        assert_eq!(found("0x120000", "0x8086"), 0, "an NPU");
        assert_eq!(found("0x030000", "0x1234"), 0, "QEMU");
        assert_eq!(found("0x040300", "0x10de"), 0, "the sound of a card");
    }

    #[test]
    fn the_drawing_devices_stand_in_for_a_hidden_bus() {
        let (_dir, tree) = tree(&[
            ("sys/class/drm/card1/device/vendor", b"0x1002\n"),
            ("sys/class/drm/card1/device/device", b"0x744c\n"),
            ("sys/class/drm/card1/device/class", b"0x030000\n"),
            ("sys/class/drm/card1/device/uevent", b"DRIVER=amdgpu\nPCI_SLOT_NAME=0000:03:00.0\n"),
            ("sys/class/drm/card1-DP-1/device/vendor", b"0x1002\n"),
        ]);
        let found = graphics(&tree);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].address.as_str(), found[0].driver.as_deref()),
            ("0000:03:00.0", Some("amdgpu"))
        );
    }
}
