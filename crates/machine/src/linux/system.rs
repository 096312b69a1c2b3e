//! The system, and what it runs in: containers, virtual machines, Windows. Marks that others leave, in the order in which they can be
//! believed; a container that leaves none is not seen.

use crate::text::printable;
use crate::tree::{Tree, value};
use crate::{Container, System};

pub(super) fn read(tree: &Tree) -> System {
    let kernel = tree.line("proc/sys/kernel/osrelease");
    let wsl = kernel.as_deref().and_then(wsl);
    System {
        name: name(tree),
        architecture: tree
            .line("proc/sys/kernel/arch")
            .unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        container: container(tree),
        wsl,
        // What runs below Windows' subsystem is a virtual machine of Windows' own: that is said already.
        virtual_machine: if wsl.is_none() { virtual_machine(tree) } else { None },
        model: model(tree),
        kernel,
    }
}

fn name(tree: &Tree) -> String {
    let release = tree.text("etc/os-release").or_else(|| tree.text("usr/lib/os-release"));
    let release = release.unwrap_or_default();
    let named = value(&release, "PRETTY_NAME", '=').or_else(|| value(&release, "NAME", '='));
    named.and_then(|name| printable(name.trim_matches(['"', '\'']))).unwrap_or("Linux".to_owned())
}

/// Windows names its kernels `5.15.90.1-microsoft-standard-WSL2`; the first version's had no kernel of its own: `4.4.0-19041-Microsoft`.
fn wsl(kernel: &str) -> Option<u8> {
    let kernel = kernel.to_lowercase();
    kernel.contains("microsoft").then(|| if kernel.starts_with("4.4.0-") { 1 } else { 2 })
}

fn container(tree: &Tree) -> Option<Container> {
    let groups = tree.text("proc/self/cgroup").unwrap_or_default();
    if tree.exists("var/run/secrets/kubernetes.io")
        || tree.exists("run/secrets/kubernetes.io")
        || groups.contains("kubepods")
    {
        return Some(Container::Kubernetes);
    }
    if tree.exists("run/.containerenv") || groups.contains("libpod") {
        return Some(Container::Podman);
    }
    // systemd's own mark, which every one of them may set.
    match tree.line("run/systemd/container").as_deref() {
        Some("docker") => return Some(Container::Docker),
        Some("podman") => return Some(Container::Podman),
        Some("lxc" | "lxc-libvirt") => return Some(Container::Lxc),
        Some("wsl") | None => {}
        Some(_) => return Some(Container::Other),
    }
    // Virtual machines whose disks were made of images of containers have the file, too.
    if (tree.exists(".dockerenv") && !root_is_a_disk(tree)) || groups.contains("/docker") {
        return Some(Container::Docker);
    }
    (tree.exists("dev/lxd") || tree.exists("dev/.lxc") || groups.contains("/lxc"))
        .then_some(Container::Lxc)
}

/// Whether the whole of a disk is mounted as the root, which no container has.
fn root_is_a_disk(tree: &Tree) -> bool {
    let mounts = tree.text("proc/self/mountinfo").unwrap_or_default();
    let root = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some("/"));
    let Some((place, source)) = root.and_then(|line| line.split_once(" - ")) else { return false };
    let device = source.split(' ').nth(1).unwrap_or_default();
    place.split(' ').nth(3) == Some("/")
        && device.starts_with("/dev/")
        && !device.starts_with("/dev/mapper/docker-")
}

fn virtual_machine(tree: &Tree) -> Option<String> {
    let dmi = |name| tree.line(format!("sys/class/dmi/id/{name}")).unwrap_or_default();
    let (vendor, product) = (dmi("sys_vendor"), dmi("product_name"));
    let by = |words: &[&str]| words.iter().any(|w| vendor.contains(w) || product.contains(w));
    let named = if tree.line("sys/hypervisor/type").as_deref() == Some("xen") || by(&["Xen"]) {
        "Xen"
    } else if by(&["VMware"]) {
        "VMware"
    } else if by(&["innotek", "VirtualBox"]) {
        "VirtualBox"
    } else if vendor.starts_with("Microsoft") && product == "Virtual Machine" {
        "Hyper-V"
    } else if by(&["Parallels"]) {
        "Parallels"
    } else if by(&["Apple Virtualization"]) {
        "Apple"
    } else if by(&[
        "QEMU",
        "KVM",
        "Amazon EC2",
        "Google Compute Engine",
        "Alibaba Cloud",
        "Firecracker",
    ]) && !product.contains("metal")
    {
        "KVM"
    } else {
        let info = tree.text("proc/cpuinfo").unwrap_or_default();
        let flags = value(&info, "flags", ':').unwrap_or_default();
        flags.split(' ').find(|flag| *flag == "hypervisor").map(|_| "unknown")?
    };
    Some(named.to_owned())
}

/// The computer's name: of boards by the device tree, of others by the firmware's tables, where it says more than nothing.
fn model(tree: &Tree) -> Option<String> {
    if let Some(board) = tree.line("proc/device-tree/model") {
        return Some(board);
    }
    const FILLERS: [&str; 6] = [
        "to be filled",
        "o.e.m",
        "default string",
        "system product",
        "system manufacturer",
        "not specified",
    ];
    let dmi = |name| {
        let text = tree.line(format!("sys/class/dmi/id/{name}"))?;
        let lower = text.to_lowercase();
        (!FILLERS.iter().any(|filler| lower.contains(filler))).then_some(text)
    };
    let product = dmi("product_name")?;
    // Lenovo's product names are numbers; people know the family.
    let product = match dmi("product_family") {
        Some(family) if dmi("sys_vendor").as_deref() == Some("LENOVO") => family,
        _ => product,
    };
    match dmi("sys_vendor") {
        Some(vendor) if !product.to_lowercase().starts_with(&vendor.to_lowercase()) => {
            Some(format!("{vendor} {product}"))
        }
        _ => Some(product),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::tree;

    fn container_of(files: &[(&str, &[u8])]) -> Option<Container> {
        let (_dir, tree) = tree(files);
        read(&tree).container
    }

    #[test]
    fn containers_by_their_marks() {
        assert_eq!(container_of(&[]), None);
        assert_eq!(container_of(&[(".dockerenv", b"")]), Some(Container::Docker));
        assert_eq!(
            container_of(&[("proc/self/cgroup", b"4:memory:/docker/0123\n")]),
            Some(Container::Docker)
        );
        assert_eq!(container_of(&[("run/.containerenv", b"")]), Some(Container::Podman));
        assert_eq!(container_of(&[("run/systemd/container", b"lxc\n")]), Some(Container::Lxc));
        assert_eq!(
            container_of(&[("run/systemd/container", b"systemd-nspawn\n")]),
            Some(Container::Other)
        );
        let pod: &[(&str, &[u8])] =
            &[(".dockerenv", b""), ("run/secrets/kubernetes.io/serviceaccount/token", b"x")];
        assert_eq!(container_of(pod), Some(Container::Kubernetes));
    }

    #[test]
    fn a_virtual_machine_made_of_an_image_is_no_container() {
        let disk = b"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n";
        assert_eq!(container_of(&[(".dockerenv", b""), ("proc/self/mountinfo", disk)]), None);
        let overlay = b"27 1 0:41 / / rw,relatime - overlay overlay rw,lowerdir=/a\n";
        let files: &[(&str, &[u8])] = &[(".dockerenv", b""), ("proc/self/mountinfo", overlay)];
        assert_eq!(container_of(files), Some(Container::Docker));
    }

    #[test]
    fn windows_subsystem_by_its_kernel() {
        assert_eq!(wsl("5.15.90.1-microsoft-standard-WSL2"), Some(2));
        assert_eq!(wsl("4.4.0-19041-Microsoft"), Some(1));
        assert_eq!(wsl("6.8.0-45-generic"), None);
    }

    #[test]
    fn virtual_machines_and_computers_by_the_firmware() {
        let of = |vendor: &str, product: &str| {
            let (_dir, tree) = tree(&[
                ("sys/class/dmi/id/sys_vendor", vendor.as_bytes()),
                ("sys/class/dmi/id/product_name", product.as_bytes()),
            ]);
            (virtual_machine(&tree), model(&tree))
        };
        assert_eq!(of("QEMU", "Standard PC (Q35 + ICH9, 2009)").0.as_deref(), Some("KVM"));
        assert_eq!(of("Microsoft Corporation", "Virtual Machine").0.as_deref(), Some("Hyper-V"));
        assert_eq!(of("Amazon EC2", "g5.xlarge").0.as_deref(), Some("KVM"));
        assert_eq!(of("Amazon EC2", "g4dn.metal").0, None);
        let framework = Some("Framework Laptop 13".to_owned());
        assert_eq!(of("Framework", "Laptop 13"), (None, framework));
        assert_eq!(of("System manufacturer", "System Product Name"), (None, None));
    }

    #[test]
    fn boards_by_the_device_tree() {
        let (_dir, tree) = tree(&[("proc/device-tree/model", b"Raspberry Pi 5 Model B Rev 1.0\0")]);
        assert_eq!(read(&tree).model.as_deref(), Some("Raspberry Pi 5 Model B Rev 1.0"));
        assert_eq!(read(&tree).name, "Linux");
    }
}
