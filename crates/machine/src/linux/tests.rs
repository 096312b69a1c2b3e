//! Whole machines, as files of a folder: what each of them is taken for.

use std::fs;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tempfile::TempDir;

use super::Libraries;
use crate::nvml::{Card, Query, Told};
use crate::tree::Tree;
use crate::vulkan;
use crate::{
    Cache, Clock, Container, Cpu, Gpu, Isa, Kind, Link, Machine, Memory, Node, Problem, Swap,
    System, Vendor,
};

const GIB: u64 = 1 << 30;

/// A folder that looks like the root of a machine with two cores, four threads and 32 GiB.
struct Fake {
    dir: TempDir,
}

impl Fake {
    fn new() -> Fake {
        let fake = Fake { dir: TempDir::new().unwrap() };
        let thread = |n: u32| {
            format!(
                "processor\t: {n}\nmodel name\t: Fake CPU @ 3.00GHz\nphysical id\t: 0\ncore id\t\t: {}\n\
                flags\t\t: fpu sse4_2 avx avx2 fma f16c\n\n",
                n / 2
            )
        };
        fake.put("proc/cpuinfo", &(0..4).map(thread).collect::<String>());
        fake.put("sys/devices/system/cpu/online", "0-3\n");
        fake.put(
            "proc/meminfo",
            "MemTotal:       33554432 kB\nMemFree:         1048576 kB\nMemAvailable:   25165824 kB\n\
            SwapTotal:       2097152 kB\nSwapFree:        1048576 kB\n",
        );
        fake.put("proc/sys/kernel/osrelease", "6.8.0-45-generic\n");
        fake.put("proc/sys/kernel/arch", "x86_64\n");
        fake.put("etc/os-release", "NAME=\"Ubuntu\"\nPRETTY_NAME=\"Ubuntu 24.04.1 LTS\"\n");
        fake
    }

    fn put(&self, path: &str, content: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A device on the bus: `id` as `vendor:device`.
    fn card(&self, address: &str, class: &str, id: &str, driver: &str, files: &[(&str, &str)]) {
        let folder = format!("sys/bus/pci/devices/{address}");
        let (vendor, device) = id.split_once(':').unwrap();
        self.put(&format!("{folder}/class"), &format!("0x{class}00\n"));
        self.put(&format!("{folder}/vendor"), &format!("0x{vendor}\n"));
        self.put(&format!("{folder}/device"), &format!("0x{device}\n"));
        let driver = if driver.is_empty() { String::new() } else { format!("DRIVER={driver}\n") };
        self.put(&format!("{folder}/uevent"), &format!("{driver}PCI_SLOT_NAME={address}\n"));
        self.put(&format!("{folder}/numa_node"), "-1\n");
        for (name, content) in files {
            self.put(&format!("{folder}/{name}"), content);
        }
    }

    fn tree(&self) -> Tree {
        Tree::at(self.dir.path())
    }

    fn detect(&self, nvml: Option<Query>) -> Machine {
        detect(&self.tree(), nvml)
    }

    fn gpus(&self, nvml: Option<Query>) -> Vec<Gpu> {
        self.detect(nvml).gpus
    }
}

fn detect(tree: &Tree, nvml: Option<Query>) -> Machine {
    let mut machine = super::host(tree).unwrap();
    let libraries = Libraries { nvml, ..Libraries::default() };
    machine.gpus = super::gpus(tree, &machine.memory, libraries);
    machine
}

/// An RTX 4090 at 0000:01:00.0.
fn rtx_4090(sender: &Sender<Told>) {
    sender.send(Told::Driver("550.54.14".to_owned())).unwrap();
    sender.send(Told::Card(Box::new(card_4090()))).unwrap();
    sender.send(Told::Peers("00000000:01:00.0".to_owned(), vec![])).unwrap();
}

fn card_4090() -> Card {
    Card {
        name: Some("NVIDIA GeForce RTX 4090".to_owned()),
        address: "00000000:01:00.0".to_owned(),
        pci_id: Some((0x10de, 0x2684)),
        memory: Some((24 * GIB, 23 * GIB)),
        link: Some(Link { generation: 4, lanes: 16 }),
        power_limit_watts: Some(450.0),
        ..Card::default()
    }
}

fn expected_4090() -> Gpu {
    Gpu {
        name: "NVIDIA GeForce RTX 4090".to_owned(),
        vendor: Vendor::Nvidia,
        kind: Kind::Discrete,
        memory_bytes: Some(24 * GIB),
        free_bytes: Some(23 * GIB),
        pci_id: Some((0x10de, 0x2684)),
        address: Some("0000:01:00.0".to_owned()),
        driver: Some("nvidia 550.54.14".to_owned()),
        link: Some(Link { generation: 4, lanes: 16 }),
        power_limit_watts: Some(450.0),
        ..Gpu::unknown()
    }
}

#[test]
fn no_gpu() {
    let fake = Fake::new();
    fake.card("0000:00:05.0", "0300", "1234:1111", "bochs-drm", &[]);
    fake.put("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n");
    for cpu in 0..4 {
        let l3 = format!("sys/devices/system/cpu/cpu{cpu}/cache/index3");
        fake.put(&format!("{l3}/level"), "3\n");
        fake.put(&format!("{l3}/size"), "8192K\n");
        fake.put(&format!("{l3}/shared_cpu_list"), "0-3\n");
    }
    let cpu = Cpu {
        brand: "Fake CPU @ 3.00GHz".to_owned(),
        physical_cores: 2,
        logical_cores: 4,
        usable_cores: 4,
        isa: Isa::Avx2,
        features: ["sse4.2", "avx", "avx2", "fma", "f16c"].map(String::from).into(),
        caches: vec![Cache { level: 3, bytes: 8 << 20, count: 1 }],
        clock: Some(Clock {
            driver: None,
            governor: Some("powersave".to_owned()),
            preference: None,
        }),
    };
    let memory = Memory {
        installed_bytes: 32 * GIB,
        total_bytes: 32 * GIB,
        available_bytes: 24 * GIB,
        limit_bytes: None,
        channels: None,
    };
    let system = System {
        name: "Ubuntu 24.04.1 LTS".to_owned(),
        kernel: Some("6.8.0-45-generic".to_owned()),
        architecture: "x86_64".to_owned(),
        ..System::default()
    };
    let swap = Swap { total_bytes: 2 * GIB, free_bytes: GIB };
    let expected = Machine { cpu, memory, swap, system, ..Machine::default() };
    assert_eq!(Machine::detect_in(fake.dir.path()).unwrap(), expected);
}

#[test]
fn two_gpus_of_different_make() {
    let fake = Fake::new();
    fake.card("0000:01:00.0", "0300", "10de:2684", "nvidia", &[]);
    fake.card("0000:01:00.1", "0403", "10de:22ba", "snd_hda_intel", &[]);
    let amd = [
        ("revision", "0xc8\n"),
        ("numa_node", "0\n"),
        ("mem_info_vram_total", "25753026560\n"),
        ("mem_info_vram_used", "1073741824\n"),
        ("mem_info_gtt_total", "17179869184\n"),
        ("mem_info_gtt_used", "0\n"),
        ("mem_info_vram_vendor", "hynix\n"),
        ("max_link_speed", "16.0 GT/s PCIe\n"),
        ("current_link_width", "16\n"),
        ("hwmon/hwmon3/power1_cap", "339000000\n"),
        ("drm/renderD129/dev", "226:129\n"),
    ];
    fake.card("0000:0a:00.0", "0300", "1002:744c", "amdgpu", &amd);
    fake.put("dev/dri/renderD129", "");
    fake.put("usr/share/libdrm/amdgpu.ids", "1.0.0\n744C,\tC8,\tAMD Radeon RX 7900 XTX\n");
    let radeon = Gpu {
        name: "AMD Radeon RX 7900 XTX".to_owned(),
        vendor: Vendor::Amd,
        kind: Kind::Discrete,
        memory_bytes: Some(25_753_026_560),
        free_bytes: Some(25_753_026_560 - GIB),
        pci_id: Some((0x1002, 0x744c)),
        address: Some("0000:0a:00.0".to_owned()),
        driver: Some("amdgpu".to_owned()),
        link: Some(Link { generation: 4, lanes: 16 }),
        numa_node: Some(0),
        power_limit_watts: Some(339.0),
        ..Gpu::unknown()
    };
    assert_eq!(fake.gpus(Some(rtx_4090)), [expected_4090(), radeon]);
}

#[test]
fn a_laptop_with_intels_graphics_and_a_card() {
    let fake = Fake::new();
    fake.card("0000:00:02.0", "0300", "8086:1912", "i915", &[]);
    fake.card("0000:00:0b.0", "1200", "8086:7d1d", "intel_vpu", &[]);
    fake.card("0000:01:00.0", "0302", "10de:2684", "nvidia", &[]);
    let list = "# list\n8086  Intel Corporation\n\t4626  Other\n\t1912  HD Graphics 530\n\
        \t\t1028 0b19  In a laptop\n9000  Last\n\t1912  Wrong\n";
    fake.put("usr/share/misc/pci.ids", list);
    let uhd = Gpu {
        name: "Intel HD Graphics 530".to_owned(),
        vendor: Vendor::Intel,
        kind: Kind::Integrated,
        memory_bytes: Some(16 * GIB),
        free_bytes: Some(16 * GIB),
        pci_id: Some((0x8086, 0x1912)),
        address: Some("0000:00:02.0".to_owned()),
        driver: Some("i915".to_owned()),
        ..Gpu::unknown()
    };
    assert_eq!(fake.gpus(Some(rtx_4090)), [uhd, expected_4090()]);
}

/// A Ryzen with graphics at 0000:c1:00.0: `vram` and `gtt` in MiB.
fn apu(fake: &Fake, vram: u64, gtt: u64) {
    let mib = |n: u64| format!("{}\n", n << 20);
    let (vram, gtt) = (mib(vram), mib(gtt));
    let files = [
        ("mem_info_vram_total", vram.as_str()),
        ("mem_info_vram_used", "104857600\n"),
        ("mem_info_gtt_total", gtt.as_str()),
        ("mem_info_gtt_used", "209715200\n"),
        ("mem_info_vram_vendor", "unknown\n"),
        ("max_link_speed", "16.0 GT/s PCIe\n"),
        ("current_link_width", "16\n"),
    ];
    fake.card("0000:c1:00.0", "0300", "1002:15bf", "amdgpu", &files);
    fake.card("0000:c1:00.2", "1080", "1022:15c7", "ccp", &[]);
}

#[test]
fn a_laptop_with_amds_graphics_and_a_card() {
    let fake = Fake::new();
    apu(&fake, 512, 15872);
    fake.card("0000:01:00.0", "0300", "10de:2684", "nvidia", &[]);
    let gpus = fake.gpus(Some(rtx_4090));
    assert_eq!(gpus[0], expected_4090());
    let radeon = Gpu {
        name: "AMD GPU 1002:15bf".to_owned(),
        vendor: Vendor::Amd,
        kind: Kind::Integrated,
        memory_bytes: Some(16 * GIB),
        free_bytes: Some((512 + 15872 - 100 - 200) << 20),
        pci_id: Some((0x1002, 0x15bf)),
        address: Some("0000:c1:00.0".to_owned()),
        driver: Some("amdgpu".to_owned()),
        ..Gpu::unknown()
    };
    assert_eq!(gpus[1..], [radeon]);
}

#[test]
fn what_an_apu_may_use() {
    // A large part set aside by the firmware.
    let fake = Fake::new();
    apu(&fake, 98304, 16384);
    let gpu = &fake.gpus(None)[0];
    assert_eq!(gpu.memory_bytes, Some(112 * GIB));
    // The kernel lends less than the driver says.
    fake.put("sys/module/ttm/parameters/pages_limit", "1048576\n");
    let gpu = &fake.gpus(None)[0];
    assert_eq!(gpu.memory_bytes, Some(100 * GIB));
    assert_eq!(gpu.free_bytes, Some(100 * GIB - (300 << 20)));
    // Not more is free than the machine has.
    let little = "MemTotal: 33554432 kB\nMemAvailable: 1048576 kB\n";
    fake.put("proc/meminfo", little);
    assert_eq!(fake.gpus(None)[0].free_bytes, Some(97 * GIB - (100 << 20)));
}

#[test]
fn memory_limits_of_control_groups() {
    let fake = Fake::new();
    fake.put("proc/self/cgroup", "0::/user.slice/app.scope\n");
    fake.put("sys/fs/cgroup/user.slice/memory.max", &format!("{}\n", 8 * GIB));
    fake.put("sys/fs/cgroup/user.slice/memory.current", &format!("{}\n", 5 * GIB));
    fake.put("sys/fs/cgroup/user.slice/memory.stat", &format!("inactive_file {GIB}\n"));
    fake.put("sys/fs/cgroup/user.slice/app.scope/memory.max", "max\n");
    fake.put("sys/fs/cgroup/user.slice/cpu.max", "200000 100000\n");
    let nested = Memory {
        installed_bytes: 32 * GIB,
        total_bytes: 8 * GIB,
        available_bytes: 4 * GIB,
        limit_bytes: Some(8 * GIB),
        channels: None,
    };
    let machine = fake.detect(None);
    assert_eq!((machine.memory, machine.cpu.usable_cores), (nested, 2));

    let fake = Fake::new();
    fake.put("proc/self/cgroup", "4:memory:/docker/0123\n1:cpu,cpuacct:/docker/0123\n");
    let group = "sys/fs/cgroup/memory/docker/0123";
    fake.put(&format!("{group}/memory.limit_in_bytes"), &format!("{}\n", 4 * GIB));
    fake.put(&format!("{group}/memory.usage_in_bytes"), &format!("{GIB}\n"));
    let machine = fake.detect(None);
    assert_eq!(machine.memory.limit_bytes, Some(4 * GIB));
    assert_eq!(machine.memory.available_bytes, 3 * GIB);
    assert_eq!(machine.system.container, Some(Container::Docker));
}

#[test]
fn two_nodes_and_a_card_on_one_of_them() {
    let fake = Fake::new();
    for (n, cpus) in ["0-1", "2-3"].iter().enumerate() {
        let folder = format!("sys/devices/system/node/node{n}");
        fake.put(&format!("{folder}/cpulist"), &format!("{cpus}\n"));
        let meminfo = format!("Node {n} MemTotal:  16777216 kB\nNode {n} MemFree:  1048576 kB\n");
        fake.put(&format!("{folder}/meminfo"), &meminfo);
    }
    fake.put("sys/devices/system/node/node10/cpulist", "\n");
    fake.card("0000:81:00.0", "0302", "10de:20b5", "", &[("numa_node", "1\n")]);
    let machine = fake.detect(None);
    let node = |id, cpus: [u32; 2]| Node {
        id,
        cpus: cpus.into(),
        memory_bytes: 16 * GIB,
        free_bytes: GIB,
    };
    assert_eq!(machine.numa, [node(0, [0, 1]), node(1, [2, 3])]);
    assert_eq!(machine.gpus[0].numa_node, Some(1));
    assert_eq!(machine.gpus[0].problems, [Problem::NoDriver]);
    assert_eq!(machine.gpus[0].name, "NVIDIA A100 PCIe 80 GB");
}

fn sleeps(_: &Sender<Told>) {
    thread::sleep(Duration::from_secs(10));
}

fn tells_one_and_sleeps(sender: &Sender<Told>) {
    rtx_4090(sender);
    thread::sleep(Duration::from_secs(10));
}

/// Reads files of the driver for 10 seconds, others at once.
fn slowly(path: &Path, most: u64) -> Option<String> {
    if path.to_string_lossy().contains("mem_info_") {
        thread::sleep(Duration::from_secs(10));
    }
    fs::read_to_string(path).ok().filter(|text| text.len() as u64 <= most)
}

#[test]
fn drivers_that_hang_cost_their_own_card_and_little_time() {
    let fake = Fake::new();
    fake.card("0000:01:00.0", "0300", "10de:2684", "nvidia", &[]);
    fake.card("0000:02:00.0", "0300", "10de:2684", "nvidia", &[]);
    let amd = [("mem_info_vram_total", "17163091968\n")];
    fake.card("0000:0a:00.0", "0300", "1002:744c", "amdgpu", &amd);
    let start = Instant::now();
    let slow = Tree::reading(fake.dir.path(), slowly);
    let gpus = detect(&slow, Some(sleeps)).gpus;
    assert!(start.elapsed() < Duration::from_secs(9), "it did not wait for the 10 seconds");
    assert_eq!(gpus.len(), 3);
    for gpu in &gpus {
        assert_eq!((&gpu.problems[..], gpu.memory_bytes), (&[Problem::DriverHangs][..], None));
    }
    // One that answers for its first card only, and a good one beside it.
    let gpus = fake.gpus(Some(tells_one_and_sleeps));
    assert_eq!(gpus[0], expected_4090());
    assert_eq!(gpus[1].problems, [Problem::DriverHangs]);
    assert_eq!(gpus[2].memory_bytes, Some(17_163_091_968));
}

#[test]
fn a_pipe_instead_of_a_file_is_not_waited_for() {
    let fake = Fake::new();
    fake.card("0000:0a:00.0", "0300", "1002:744c", "amdgpu", &[]);
    let pipe = fake.dir.path().join("sys/bus/pci/devices/0000:0a:00.0/mem_info_vram_total");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let gpus = fake.gpus(None);
    assert_eq!(
        (gpus[0].memory_bytes, &gpus[0].problems[..]),
        (None, &[Problem::MemoryUnknown][..])
    );
}

#[test]
fn cards_that_cannot_be_used_say_why() {
    let problems = |id: &str, driver: &str, files: &[(&str, &str)], nvml: Option<Query>| {
        let fake = Fake::new();
        fake.card("0000:01:00.0", "0300", id, driver, files);
        fake.gpus(nvml).remove(0).problems
    };
    assert_eq!(problems("10de:2684", "", &[], None), [Problem::NoDriver]);
    let nouveau = Problem::DisplayDriver("nouveau".to_owned());
    assert_eq!(problems("10de:2684", "nouveau", &[], Some(sleeps)), [nouveau], "and is not asked");
    assert_eq!(problems("10de:2684", "vfio-pci", &[], None), [Problem::SetAside]);
    let no_library: Query =
        |sender| sender.send(Told::Failed(Problem::NoLibrary("libx.so".to_owned()))).unwrap();
    let expected = Problem::NoLibrary("libx.so".to_owned());
    assert_eq!(problems("10de:2684", "nvidia", &[], Some(no_library)), [expected]);
    let divided: Query = |sender| {
        let card = Card { problems: vec![Problem::Divided], ..card_4090() };
        sender.send(Told::Card(Box::new(card))).unwrap();
    };
    assert_eq!(problems("10de:2684", "nvidia", &[], Some(divided)), [Problem::Divided]);
    let node = [("drm/renderD128/dev", "226:128\n"), ("mem_info_vram_total", "17163091968\n")];
    let no_file = Problem::NoDeviceFile("renderD128".to_owned());
    assert_eq!(problems("1002:744c", "amdgpu", &node, None), [no_file]);
}

#[test]
fn windows_subsystem() {
    let fake = Fake::new();
    fake.put("proc/sys/kernel/osrelease", "5.15.90.1-microsoft-standard-WSL2\n");
    fake.put("dev/dxg", "");
    fake.card("3f2a:00:00.0", "0302", "1414:008e", "dxgkrnl", &[]);
    let machine = fake.detect(Some(rtx_4090));
    assert_eq!((machine.system.wsl, machine.gpus), (Some(2), vec![expected_4090()]));
    let machine = fake.detect(None);
    assert_eq!(machine.gpus.len(), 1);
    assert_eq!(machine.gpus[0].problems, [Problem::BehindWindows]);
}

#[test]
fn memory_that_is_all_one() {
    // DGX Spark: the driver says that there is no such number.
    let fake = Fake::new();
    fake.card("000f:01:00.0", "0302", "10de:2e12", "nvidia", &[]);
    let spark: Query = |sender| {
        let card = Card {
            name: Some("NVIDIA GB10".to_owned()),
            address: "0000000F:01:00.0".to_owned(),
            unified: true,
            ..Card::default()
        };
        sender.send(Told::Card(Box::new(card))).unwrap();
    };
    let gpus = fake.gpus(Some(spark));
    assert_eq!((gpus[0].name.as_str(), gpus[0].kind), ("NVIDIA GB10", Kind::Unified));
    assert_eq!((gpus[0].memory_bytes, gpus[0].free_bytes), (Some(32 * GIB), Some(24 * GIB)));
    assert_eq!((gpus[0].link, &gpus[0].problems[..]), (None, &[][..]));
    // Jetson: no card on the bus at all.
    let fake = Fake::new();
    fake.put("proc/device-tree/model", "NVIDIA Jetson AGX Orin Developer Kit\0");
    fake.put("proc/device-tree/compatible", "nvidia,p3737-0000\0nvidia,tegra234\0");
    fake.put("etc/nv_tegra_release", "# R36 (release), REVISION: 3.0, GCID: 1, BOARD: generic\n");
    let orin = Gpu {
        name: "NVIDIA Jetson AGX Orin".to_owned(),
        vendor: Vendor::Nvidia,
        kind: Kind::Unified,
        memory_bytes: Some(32 * GIB),
        free_bytes: Some(24 * GIB),
        driver: Some("L4T 36.3.0".to_owned()),
        ..Gpu::unknown()
    };
    assert_eq!(fake.gpus(None), [orin]);
    // A Raspberry Pi has nothing of that kind.
    let fake = Fake::new();
    fake.put("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0");
    let machine = fake.detect(None);
    assert_eq!(machine.system.model.as_deref(), Some("Raspberry Pi 5 Model B Rev 1.0"));
    assert!(machine.gpus.is_empty());
}

#[test]
fn other_makers_cards() {
    let fake = Fake::new();
    // Intel's newer driver tells its tiles' memory; the card is behind a bridge, so not on the first bus.
    let tile = [("tile0/physical_vram_size_bytes", "12884901888\n")];
    fake.card("0000:03:00.0", "0300", "8086:e20b", "xe", &tile);
    fake.card("0000:41:00.0", "1200", "19e5:d802", "devdrv_device_driver", &[]);
    fake.put("usr/local/Ascend/driver/version.info", "Version=24.1.rc1\nascendhal_version=7\n");
    let gpus = fake.gpus(None);
    assert_eq!((gpus[0].kind, gpus[0].memory_bytes), (Kind::Discrete, Some(12 * GIB)));
    assert_eq!((gpus[0].name.as_str(), gpus[0].free_bytes), ("Intel Arc B580", None));
    assert_eq!(
        (gpus[1].vendor, gpus[1].name.as_str()),
        (Vendor::Huawei, "Huawei accelerator 19e5:d802")
    );
    assert_eq!(gpus[1].driver.as_deref(), Some("devdrv_device_driver 24.1.rc1"));
    assert_eq!(gpus[1].problems, [Problem::MemoryUnknown]);
}

/// An Arc A770 as Vulkan describes it, on whatever bus.
fn arc(sender: &Sender<vulkan::Told>) {
    let heap = |bytes, local| vulkan::Heap { bytes, free: Some(bytes / 4 * 3), local };
    let device = vulkan::Device {
        name: Some("Intel(R) Arc(tm) A770 Graphics (DG2)".to_owned()),
        id: (0x8086, 0x56a0),
        kind: Some(Kind::Discrete),
        heaps: vec![heap(16 * GIB, true), heap(16 * GIB, false)],
        address: Some("0000:03:00.0".to_owned()),
        driver: None,
        identity: [1; 16],
    };
    sender.send(vulkan::Told::Opened).unwrap();
    sender.send(vulkan::Told::Device(Box::new(device))).unwrap();
}

#[test]
fn vulkan_is_asked_for_memory_that_no_file_tells() {
    let fake = Fake::new();
    fake.card("0000:03:00.0", "0300", "8086:56a0", "i915", &[]);
    fake.card("0000:04:00.0", "0300", "8086:56a0", "i915", &[]);
    fake.card("0000:05:00.0", "0300", "10de:2684", "nouveau", &[]);
    let with = |query: vulkan::Query| {
        let memory = super::host(&fake.tree()).unwrap().memory;
        let libraries = Libraries { vulkan: Some(query), ..Libraries::default() };
        super::gpus(&fake.tree(), &memory, libraries)
    };
    let gpus = with(arc);
    let name = fake.gpus(None)[0].name.clone();
    assert_eq!((&gpus[0].name, &gpus[0].problems[..]), (&name, &[][..]));
    assert_eq!((gpus[0].memory_bytes, gpus[0].free_bytes), (Some(16 * GIB), Some(12 * GIB)));
    // Another address is another card, and a driver that does not compute is no reason to ask.
    assert_eq!(gpus[1].problems, [Problem::MemoryUnknown]);
    assert_eq!(gpus[2].problems, [Problem::DisplayDriver("nouveau".to_owned())]);
    let start = Instant::now();
    let gpus = with(|_| thread::sleep(Duration::from_secs(10)));
    assert!(start.elapsed() < Duration::from_secs(9), "it did not wait for the 10 seconds");
    assert_eq!(gpus[0].problems, [Problem::MemoryUnknown]);
}

#[test]
fn cards_linked_with_each_other() {
    let fake = Fake::new();
    for bus in ["05", "26", "46"] {
        fake.card(&format!("0000:{bus}:00.0"), "1200", "1002:74a1", "amdgpu", &[]);
    }
    let nodes = "sys/class/kfd/kfd/topology/nodes";
    fake.put(&format!("{nodes}/0/properties"), "cpu_cores_count 64\nlocation_id 0\n");
    for (node, place) in [(1, 0x0500), (2, 0x2600), (3, 0x4600)] {
        fake.put(
            &format!("{nodes}/{node}/properties"),
            &format!("domain 0\nlocation_id {place}\n"),
        );
    }
    let link = |from: u32, to: u32, kind: u32| {
        let file = format!("{nodes}/{from}/io_links/{to}/properties");
        fake.put(&file, &format!("type {kind}\nnode_from {from}\nnode_to {to}\n"));
    };
    link(1, 0, 2);
    link(1, 2, 11);
    link(2, 1, 11);
    let peers: Vec<Vec<String>> = fake.gpus(None).into_iter().map(|gpu| gpu.peers).collect();
    assert_eq!(peers, [vec!["0000:26:00.0"], vec!["0000:05:00.0"], vec![]]);

    let fake = Fake::new();
    for bus in ["01", "02"] {
        fake.card(&format!("0000:{bus}:00.0"), "0302", "10de:20b5", "nvidia", &[]);
    }
    let linked: Query = |sender| {
        let address = |bus: &str| format!("00000000:{bus}:00.0");
        for bus in ["01", "02"] {
            let card = Card { address: address(bus), ..card_4090() };
            sender.send(Told::Card(Box::new(card))).unwrap();
        }
        sender.send(Told::Peers(address("01"), vec![address("02")])).unwrap();
    };
    let peers: Vec<Vec<String>> = fake.gpus(Some(linked)).into_iter().map(|g| g.peers).collect();
    assert_eq!(peers, [vec!["0000:02:00.0"], vec![]]);
}

/// Every file that is read, at least once.
const FILES: [&str; 66] = [
    "proc/cpuinfo",
    "proc/meminfo",
    "proc/self/cgroup",
    "proc/self/status",
    "proc/self/mountinfo",
    "proc/sys/kernel/osrelease",
    "proc/sys/kernel/arch",
    "proc/device-tree/model",
    "proc/device-tree/compatible",
    "proc/driver/nvidia/version",
    "proc/driver/nvidia/gpus/0000:01:00.0/information",
    "etc/os-release",
    "etc/nv_tegra_release",
    "run/systemd/container",
    "usr/share/libdrm/amdgpu.ids",
    "usr/share/misc/pci.ids",
    "usr/local/Ascend/driver/version.info",
    "sys/fs/cgroup/memory.max",
    "sys/fs/cgroup/memory.current",
    "sys/fs/cgroup/memory.stat",
    "sys/fs/cgroup/cpu.max",
    "sys/fs/cgroup/memory/memory.limit_in_bytes",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us",
    "sys/hypervisor/type",
    "sys/class/dmi/id/sys_vendor",
    "sys/class/dmi/id/product_name",
    "sys/class/dmi/id/product_family",
    "sys/devices/system/cpu/online",
    "sys/devices/system/cpu/cpu0/topology/core_cpus_list",
    "sys/devices/system/cpu/cpu0/cache/index2/level",
    "sys/devices/system/cpu/cpu0/cache/index2/size",
    "sys/devices/system/cpu/cpu0/cache/index2/shared_cpu_list",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
    "sys/devices/system/node/node0/cpulist",
    "sys/devices/system/node/node0/meminfo",
    "sys/devices/system/edac/mc/mc0/dimm0/dimm_location",
    "sys/devices/system/edac/mc/mc0/dimm0/size",
    "sys/module/ttm/parameters/pages_limit",
    "sys/module/nvidia/version",
    "sys/class/drm/card0/device/uevent",
    "sys/class/drm/card0/device/vendor",
    "sys/class/kfd/kfd/topology/nodes/1/properties",
    "sys/class/kfd/kfd/topology/nodes/1/io_links/0/properties",
    "sys/bus/pci/devices/0000:01:00.0/class",
    "sys/bus/pci/devices/0000:01:00.0/vendor",
    "sys/bus/pci/devices/0000:01:00.0/uevent",
    "sys/bus/pci/devices/0000:0a:00.0/class",
    "sys/bus/pci/devices/0000:0a:00.0/vendor",
    "sys/bus/pci/devices/0000:0a:00.0/device",
    "sys/bus/pci/devices/0000:0a:00.0/revision",
    "sys/bus/pci/devices/0000:0a:00.0/uevent",
    "sys/bus/pci/devices/0000:0a:00.0/numa_node",
    "sys/bus/pci/devices/0000:0a:00.0/max_link_speed",
    "sys/bus/pci/devices/0000:0a:00.0/current_link_width",
    "sys/bus/pci/devices/0000:0a:00.0/mem_info_vram_total",
    "sys/bus/pci/devices/0000:0a:00.0/mem_info_vram_used",
    "sys/bus/pci/devices/0000:0a:00.0/mem_info_gtt_total",
    "sys/bus/pci/devices/0000:0a:00.0/mem_info_gtt_used",
    "sys/bus/pci/devices/0000:0a:00.0/mem_info_vram_vendor",
    "sys/bus/pci/devices/0000:0a:00.0/product_name",
    "sys/bus/pci/devices/0000:0a:00.0/power/runtime_status",
    "sys/bus/pci/devices/0000:0a:00.0/hwmon/hwmon0/power1_cap",
    "sys/bus/pci/devices/0000:00:02.0/uevent",
    "sys/bus/pci/devices/0000:00:02.0/tile0/physical_vram_size_bytes",
];

fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let text = |s: &str| Just(s.as_bytes().to_vec());
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        "[ -~\n\t:=]{0,200}".prop_map(String::into_bytes),
        any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        text(""),
        text("18446744073709551615"),
        text("99999999999999999999999999"),
        text("0-4294967295"),
        text("0xffffffff"),
        text("1e308 GT/s"),
        text("0::/\n4:memory:/\n1:cpu:/\n"),
        Just(vec![b'9'; 70_000]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Some files hold garbage, the others what they should: nothing panics, and what comes out can be believed as far as it goes.
    #[test]
    fn garbage_in_any_file(contents in proptest::collection::vec(proptest::option::of(garbage()), FILES.len())) {
        let fake = Fake::new();
        apu(&fake, 512, 15872);
        fake.card("0000:0a:00.0", "0300", "1002:744c", "amdgpu", &[("mem_info_vram_total", "17163091968")]);
        fake.card("0000:01:00.0", "0300", "10de:2684", "nvidia", &[]);
        fake.card("0000:00:02.0", "0300", "8086:46a6", "xe", &[]);
        for (path, content) in FILES.iter().zip(&contents) {
            if let Some(content) = content {
                fake.put(path, "");
                fs::write(fake.dir.path().join(path), content).unwrap();
            }
        }
        let Ok(machine) = Machine::detect_in(fake.dir.path()) else { return Ok(()) };
        let (cpu, memory) = (&machine.cpu, &machine.memory);
        prop_assert!(1 <= cpu.usable_cores && cpu.usable_cores <= cpu.logical_cores);
        prop_assert!(1 <= cpu.physical_cores && cpu.physical_cores <= cpu.logical_cores);
        prop_assert!(memory.available_bytes <= memory.total_bytes);
        prop_assert!(memory.total_bytes <= memory.installed_bytes);
        for gpu in &machine.gpus {
            prop_assert!(!gpu.name.is_empty() && !gpu.name.chars().any(char::is_control));
            prop_assert!(gpu.free_bytes <= gpu.memory_bytes);
        }
        serde_json::to_string(&machine).unwrap();
        crate::fingerprint(&machine);
    }
}
