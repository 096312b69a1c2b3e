//! The table as a whole, what must be found by which name, and that nothing a user types breaks it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::name::Name;
use super::*;
use crate::Gpu;

fn named(text: &str) -> &'static str {
    by_name(text).map_or("-", |d| d.name.as_str())
}

#[test]
fn the_table_is_large_and_its_names_are_unlike() {
    assert!(all().len() >= 150, "{}", all().len());
    let names: BTreeSet<&str> = all().iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names.len(), all().len());
    for kind in [Kind::Discrete, Kind::Integrated, Kind::Unified, Kind::Cpu] {
        assert!(all().iter().filter(|d| d.kind == kind).count() >= 15, "{kind:?}");
    }
}

/// What is wrong with a row, if anything: ranges wide enough for every real device, narrow enough for slips of a decimal.
fn implausible(d: &Device) -> Option<String> {
    let within = |what: &str, low: f64, value: f64, high: f64| {
        (!(low..=high).contains(&value)).then(|| format!("{}: {what} {value:e}", d.name))
    };
    let shared = matches!(d.kind, Kind::Integrated | Kind::Unified);
    let cpu = d.kind == Kind::Cpu;
    let checks = [
        within("bandwidth", 15e9, d.bandwidth, 10e12),
        within("fp16", 0.1e12, d.fp16, 3e15),
        within("int8 to fp16", 0.4, d.int8.unwrap_or(d.fp16) / d.fp16, 5.5),
        within("fp8 to fp16", 1.99, d.fp8.unwrap_or(2.0 * d.fp16) / d.fp16, 2.01),
        within("operations to bytes", if cpu { 2.0 } else { 8.0 }, d.fp16 / d.bandwidth, 1000.0),
        within("watts", 5.0, f64::from(d.watts), 1500.0),
        within("year", 2016.0, f64::from(d.year), 2026.0),
        within("limit", 0.4, d.shared_limit.unwrap_or(1.0), 1.0),
    ];
    let memory = !d.memory.is_empty()
        && d.memory.is_sorted_by(|a, b| a < b)
        && d.memory.iter().all(|m| (2 * GIB..=4096 * GIB).contains(m));
    let words = [
        (!memory).then(|| format!("{}: memory {:?}", d.name, d.memory)),
        (shared != d.shared_limit.is_some()).then(|| format!("{}: a limit or none", d.name)),
        d.forms.is_empty().then(|| format!("{}: no form", d.name)),
        (d.source.len() < 8).then(|| format!("{}: source {}", d.name, d.source)),
    ];
    checks.into_iter().chain(words).flatten().next()
}

#[test]
fn every_row_is_plausible() {
    let wrong: Vec<String> = all().iter().filter_map(implausible).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn prices_have_dates() {
    let prices =
        all().iter().flat_map(|d| d.price.iter().chain(&d.machine_price).map(move |p| (d, p)));
    for (d, price) in prices {
        let (year, month) = price.date.split_once('-').unwrap_or((price.date.as_str(), "1"));
        let date = (year.parse::<u16>(), month.parse::<u8>());
        let (Ok(year), Ok(month)) = date else { panic!("{}: {}", d.name, price.date) };
        assert!(
            (d.year..=2026).contains(&year) && (1..=12).contains(&month),
            "{}: {}",
            d.name,
            price.date
        );
        assert!((30..=100_000).contains(&price.usd), "{}: {}", d.name, price.usd);
        let yuan = price.cny.map_or(7.5, |c| f64::from(c) / f64::from(price.usd));
        assert!((5.0..=9.5).contains(&yuan), "{}: {yuan} yuan a dollar", d.name);
    }
}

#[test]
fn faster_units_follow_the_makers_rules() {
    for d in all().iter().filter(|d| d.vendor == Vendor::Nvidia && d.fp8.is_some()) {
        let int8 = d.int8.unwrap_or(2.0 * d.fp16) / d.fp16;
        let full = d.name.starts_with("GeForce") || d.name.starts_with("DGX");
        // GeForce cards halve the rate where sums are F32; signed bytes are not halved.
        assert!((int8 - if full { 4.0 } else { 2.0 }).abs() < 0.02, "{} {int8}", d.name);
    }
}

#[test]
fn names_are_unambiguous() {
    let mut groups: BTreeMap<(Vec<&str>, String), Vec<&Device>> = BTreeMap::new();
    for d in all() {
        for text in d.names() {
            let name = Name::of(text).unwrap_or_else(|| panic!("{text} is no name"));
            assert!(name.core.len() > 1, "{text}: too short to tell it by");
            let mut families = name.families.clone();
            families.sort_unstable();
            let group = groups.entry((families, name.core)).or_default();
            if !group.iter().any(|g| g.name == d.name) {
                group.push(d);
            }
        }
    }
    for (name, group) in groups {
        let mut seen = BTreeSet::new();
        for d in group.iter() {
            assert_eq!((d.vendor, d.kind), (group[0].vendor, group[0].kind), "{name:?}");
            // Whoever is not first in a group must have a size of its own, or nobody could mean it.
            assert!(
                d.memory.iter().filter(|m| seen.insert(**m)).count() > 0,
                "{name:?}: {}",
                d.name
            );
        }
    }
}

#[test]
fn every_device_is_found_by_every_name_of_its_own() {
    for d in all() {
        assert_eq!(named(&d.name), d.name, "{}", d.name);
        for alias in &d.aliases {
            let size = d.memory.last().map_or(0, |m| m / GIB);
            let found = parse(&format!("{alias} {size} GB")).or_else(|_| parse(alias)).unwrap();
            assert_eq!(found[0].device.vendor, d.vendor, "{alias}");
        }
    }
}

#[test]
fn names_of_drivers_systems_and_people() {
    let cases = [
        ("NVIDIA GeForce RTX 5090", "GeForce RTX 5090"),
        ("rtx5090", "GeForce RTX 5090"),
        ("5090", "GeForce RTX 5090"),
        ("RTX 5090 D", "GeForce RTX 5090 D"),
        ("4090 laptop", "GeForce RTX 4090 Laptop"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "GeForce RTX 4090 Laptop"),
        ("NVIDIA GeForce RTX 4070", "GeForce RTX 4070"),
        ("NVIDIA GeForce RTX 4070 Ti", "GeForce RTX 4070 Ti"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "GeForce RTX 4070 Ti SUPER"),
        ("NVIDIA GeForce RTX 3060", "GeForce RTX 3060 12 GB"),
        ("RTX 3060 8GB", "GeForce RTX 3060 8 GB"),
        ("NVIDIA GeForce GTX 1650 with Max-Q Design", "GeForce GTX 1650 Laptop"),
        ("NVIDIA A100-SXM4-80GB", "A100 SXM 80 GB"),
        ("NVIDIA A100 80GB PCIe", "A100 PCIe 80 GB"),
        ("NVIDIA A100-PCIE-40GB", "A100 PCIe 40 GB"),
        ("A100 80GB", "A100 PCIe 80 GB"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA H200", "H200 SXM"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA A40-48GB-PCIE", "A40"),
        ("Tesla T4", "Tesla T4"),
        ("Tesla V100-SXM2-32GB", "Tesla V100 SXM 32 GB"),
        ("Quadro RTX 6000", "Quadro RTX 6000"),
        ("NVIDIA RTX A6000", "RTX A6000"),
        ("A6000", "RTX A6000"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "RTX PRO 6000 Blackwell"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "RTX PRO 6000 Blackwell Max-Q"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000 Blackwell Server"),
        ("NVIDIA GB10", "DGX Spark"),
        ("Orin (nvgpu)", "Jetson AGX Orin 64 GB"),
        ("AMD Radeon RX 7900 XT", "Radeon RX 7900 XT"),
        ("AMD Radeon RX 7900 XTX (RADV NAVI31)", "Radeon RX 7900 XTX"),
        ("7900xtx", "Radeon RX 7900 XTX"),
        ("AMD Instinct MI300X OAM", "Instinct MI300X"),
        ("AMD Radeon PRO W7900", "Radeon PRO W7900"),
        ("AMD Ryzen 7 8745H w/ Radeon 780M Graphics", "Radeon 780M"),
        ("AMD Ryzen 7 7840HS w/ Radeon 780M Graphics", "Radeon 780M"),
        ("AMD Ryzen 7 7840HS", "Ryzen 7 7840HS"),
        ("AMD Ryzen 7 7840HS with Radeon Graphics", "Ryzen 7 7840HS"),
        ("AMD RYZEN AI MAX+ 395 w/ Radeon 8060S", "Radeon 8060S"),
        ("Ryzen AI Max+ 395 128GB", "Radeon 8060S 128 GB"),
        ("AMD Ryzen AI 9 HX 370 w/ Radeon 890M", "Radeon 890M"),
        ("AMD Ryzen 9 9950X 16-Core Processor", "Ryzen 9 9950X"),
        ("AMD EPYC 9654 96-Core Processor", "EPYC 9654"),
        ("AMD Ryzen Threadripper PRO 7995WX 96-Cores", "Ryzen Threadripper PRO 7995WX"),
        ("Intel(R) Core(TM) Ultra 7 155H", "Core Ultra 7 155H"),
        ("Intel(R) Core(TM) i9-10900X CPU @ 3.70GHz", "Core i9-10900X"),
        ("13th Gen Intel(R) Core(TM) i9-13900HK", "Core i9-13900HK"),
        ("Intel(R) Xeon(R) Platinum 8480+", "Xeon Platinum 8480+"),
        ("Intel(R) Arc(TM) A770 Graphics", "Arc A770 16 GB"),
        ("Intel(R) Arc(TM) B580 Graphics", "Arc B580"),
        ("Intel(R) Arc(TM) Graphics (MTL)", "Arc Graphics Meteor Lake 8 Xe"),
        ("Intel(R) Iris(R) Xe Graphics", "Iris Xe 96 EU"),
        ("Intel(R) UHD Graphics 770 (ADL-S GT1)", "UHD Graphics 770"),
        ("Apple M3 Ultra", "Apple M3 Ultra 60-core GPU 96 GB"),
        ("M3 Ultra 512GB", "Apple M3 Ultra 80-core GPU 512 GB"),
        ("M1 Max 64GB", "Apple M1 Max 32-core GPU"),
        ("Apple M1", "Apple M1"),
        ("Apple M4 Pro", "Apple M4 Pro 20-core GPU"),
        ("M3 Max 96GB", "Apple M3 Max 30-core GPU"),
        ("M3 Max 64GB", "Apple M3 Max 40-core GPU"),
        ("Apple M5 Ultra 512 GB", "Apple M5 Ultra 80-core GPU 512 GB"),
        ("Ascend 910B", "Ascend 910B 64 GB"),
        ("昇腾910B 32GB", "Ascend 910B 32 GB"),
        ("摩尔线程 MTT S80", "MTT S80"),
        ("910B3", "Ascend 910B 64 GB"),
        ("310P3", "Atlas 300I Pro"),
        ("MXC500", "MetaX C500"),
        ("NVIDIA H20-3e", "H20 141 GB"),
        ("NVIDIA B300 SXM6 AC", "B300"),
        ("NVIDIA GeForce RTX 3050 6GB Laptop GPU", "GeForce RTX 3050 Laptop 6 GB"),
        ("NVIDIA TITAN RTX", "TITAN RTX"),
        ("Intel(R) Arc(TM) 140V GPU (16GB)", "Arc 140V"),
        ("AMD Radeon(TM) 8060S Graphics", "Radeon 8060S"),
        ("Raspberry Pi 5 Model B Rev 1.0", "Raspberry Pi 5"),
    ];
    let wrong: Vec<_> = cases.iter().filter(|(text, wanted)| named(text) != *wanted).collect();
    let wrong: Vec<_> = wrong.iter().map(|(text, wanted)| (text, wanted, named(text))).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn lspci_lines() {
    let vga = "01:00.0 VGA compatible controller: ";
    let cases = [
        ("NVIDIA Corporation AD102 [GeForce RTX 4090] (rev a1)", "GeForce RTX 4090"),
        (
            "NVIDIA Corporation AD107M [GeForce RTX 4060 Max-Q / Mobile] (rev a1)",
            "GeForce RTX 4060 Laptop",
        ),
        ("NVIDIA Corporation GH100 [H100 SXM5 80GB] (rev a1)", "H100 SXM"),
        (
            "Advanced Micro Devices, Inc. [AMD/ATI] Navi 48 [Radeon AI PRO R9700]",
            "Radeon AI PRO R9700",
        ),
        // Several cards: only memory and the table's PCI numbers tell them apart.
        ("Advanced Micro Devices, Inc. [AMD/ATI] Navi 31 [Radeon RX 7900 XT/7900 XTX/7900M]", "-"),
        ("Intel Corporation DG2 [Arc A770] (rev 08)", "Arc A770 16 GB"),
        ("ASPEED Technology, Inc. ASPEED Graphics Family (rev 41)", "-"),
    ];
    for (text, wanted) in cases {
        assert_eq!(named(&format!("{vga}{text}")), wanted, "{text}");
    }
}

#[test]
fn what_is_no_device_is_not_found() {
    let none = [
        "",
        " ",
        "gpu",
        "NVIDIA",
        "GeForce",
        "AMD Radeon Graphics",
        "RTX",
        "4",
        "8",
        "Apple",
        "M",
        "Intel 5090",
        "Apple RTX 5090",
        "GTX 5090",
        "RX 5090",
        "RTX 5090 Ti",
        "RTX 4070 Ti Super Duper",
        "Radeon RX 9070 XTX",
        "RTX 5090 48GB",
        "M3 Ultra 128GB",
        "llvmpipe (LLVM 15.0.7, 256 bits)",
        "Intel(R) Graphics (BMG G21)",
    ];
    for text in none {
        assert_eq!(named(text), "-", "{text}");
    }
    assert_eq!(named(&"x".repeat(100_000)), "-");
}

#[test]
fn the_devices_that_were_measured_are_in_the_table() {
    // Devices and processors of the measurements that the speed model is calibrated on, as their drivers call them.
    let devices = [
        ("AMD Radeon RX 7900 XT", Kind::Discrete),
        ("AMD Ryzen 7 7840HS", Kind::Cpu),
        ("AMD Ryzen 7 8745H w/ Radeon 780M Graphics", Kind::Integrated),
        ("AMD Ryzen 7 8745H w/ Radeon 780M", Kind::Integrated),
        ("Intel(R) Core(TM) Ultra 7 155H", Kind::Cpu),
        ("M1 Max", Kind::Unified),
        ("NVIDIA GeForce RTX 2080", Kind::Discrete),
        ("NVIDIA GeForce RTX 5070", Kind::Discrete),
    ];
    for (name, kind) in devices {
        assert_eq!(by_name(name).map(|d| d.kind), Some(kind), "{name}");
    }
    let hosts = [
        "Intel(R) Core(TM) i9-10900X CPU @ 3.70GHz",
        "13th Gen Intel(R) Core(TM) i9-13900HK",
        "AMD Ryzen 7 8745H w/ Radeon 780M Graphics",
        "Intel(R) Core(TM) Ultra 7 155H",
    ];
    for name in hosts {
        assert_eq!(processor(name).map(|d| d.kind), Some(Kind::Cpu), "{name}");
    }
    assert_eq!(processor("NVIDIA GeForce RTX 2080"), None);
}

#[test]
fn facts_that_are_known() {
    let facts: [(&str, &[u64], f64, f64, u32); 12] = [
        ("RTX 5090", &[32], 1792e9, 209.5e12, 575),
        ("RTX 5090 Laptop", &[24], 896e9, 90.7e12, 150),
        ("RTX 4090", &[24], 1008e9, 165.2e12, 450),
        ("RTX 3090", &[24], 936.2e9, 71.2e12, 350),
        ("A100 SXM 80GB", &[80], 2039e9, 312e12, 400),
        ("A100 PCIe 80GB", &[80], 1935e9, 312e12, 300),
        ("H100", &[80], 3350e9, 989.4e12, 700),
        ("RX 7900 XTX", &[24], 960e9, 122.8e12, 355),
        ("MI300X", &[192], 5300e9, 1307e12, 750),
        ("780M", &[16, 32, 64, 96], 89.6e9, 16.6e12, 54),
        ("M3 Ultra 512GB", &[512], 819e9, 28.3e12, 270),
        ("M4 Max 128GB", &[128], 546e9, 16.2e12, 145),
    ];
    for (name, memory, bandwidth, fp16, watts) in facts {
        let d = by_name(name).unwrap_or_else(|| panic!("{name}"));
        let sizes: Vec<u64> = d.memory.iter().map(|m| m / GIB).collect();
        assert_eq!((&sizes[..], d.watts), (memory, watts), "{name}");
        assert!((d.bandwidth / bandwidth - 1.0).abs() < 1e-3, "{name} {}", d.bandwidth);
        assert!((d.fp16 / fp16 - 1.0).abs() < 5e-3, "{name} {}", d.fp16);
    }
}

#[test]
fn what_a_gpu_may_use() {
    let usable =
        |name: &str, gib: u64| by_name(name).unwrap().gpu_memory(gib * GIB) as f64 / GIB as f64;
    assert_eq!(usable("RTX 5090", 32), 32.0);
    assert_eq!(usable("780M", 16), 8.0);
    assert_eq!(usable("M3 Ultra 512GB", 512), 384.0);
    assert!((usable("M4", 24) - 16.0).abs() < 1e-6);
    assert_eq!(usable("GB10", 128), 128.0);
    assert_eq!(usable("Ryzen 7 7840HS", 64), 0.0);
}

fn told(text: &str) -> String {
    match parse(text) {
        Ok(wanted) => {
            let each = |w: &Wanted| format!("{} x {} {}", w.count, w.device.name, w.memory / GIB);
            wanted.iter().map(each).collect::<Vec<_>>().join(" + ")
        }
        Err(e) => e.to_string(),
    }
}

#[test]
fn hardware_as_people_ask_for_it() {
    let cases = [
        ("RTX 5090", "1 x GeForce RTX 5090 32"),
        ("2x A100 80GB", "2 x A100 PCIe 80 GB 80"),
        ("2xA100 80GB", "2 x A100 PCIe 80 GB 80"),
        ("4×H100", "4 x H100 SXM 80"),
        ("H100 x4", "4 x H100 SXM 80"),
        ("A100-SXM4-80GB *8", "8 x A100 SXM 80 GB 80"),
        ("8 x Ascend 910B", "8 x Ascend 910B 64 GB 64"),
        ("8卡 昇腾910B", "8 x Ascend 910B 64 GB 64"),
        ("RTX 4090 + RTX 3090", "1 x GeForce RTX 4090 24 + 1 x GeForce RTX 3090 24"),
        ("4090+3090", "1 x GeForce RTX 4090 24 + 1 x GeForce RTX 3090 24"),
        ("2x 3090, RTX 4060 Ti 16GB", "2 x GeForce RTX 3090 24 + 1 x GeForce RTX 4060 Ti 16 GB 16"),
        ("4090+4090", "1 x GeForce RTX 4090 24 + 1 x GeForce RTX 4090 24"),
        ("Ryzen AI Max+ 395 128GB", "1 x Radeon 8060S 128 GB 128"),
        ("Ryzen AI Max+ 395 + RTX 5090", "1 x Radeon 8060S 64 + 1 x GeForce RTX 5090 32"),
        ("M3 Ultra 512GB", "1 x Apple M3 Ultra 80-core GPU 512 GB 512"),
        ("M3 Ultra", "1 x Apple M3 Ultra 60-core GPU 96 GB 96"),
        ("Apple M3 Max (40-core GPU) 64GB", "1 x Apple M3 Max 40-core GPU 64"),
        ("M1 Max 64GB", "1 x Apple M1 Max 32-core GPU 64"),
        ("7900 XT", "1 x Radeon RX 7900 XT 20"),
        ("780M 24GB", "1 x Radeon 780M 24"),
        ("Ryzen 9 9950X 96GB", "1 x Ryzen 9 9950X 96"),
    ];
    let wrong: Vec<_> = cases
        .iter()
        .map(|(text, wanted)| (text, *wanted, told(text)))
        .filter(|(_, w, t)| w != t)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn errors_say_what_there_is() {
    let sold = told("RTX 5090 48GB");
    assert_eq!(sold, "GeForce RTX 5090 is not sold with 48 GB of memory, but with 32 GB");
    let sold = told("M3 Ultra 192GB");
    assert_eq!(
        sold,
        "Apple M3 Ultra is not sold with 192 GB of memory, but with 96 GB, 256 GB or 512 GB"
    );
    for (text, near) in [("RTX 5095", "RTX 509"), ("Radeon 7900", "RX 7900"), ("M4 Utlra", "M4")] {
        match parse(text) {
            Err(UnknownDevice::Name { near: found, .. }) => {
                assert!((3..=5).contains(&found.len()), "{found:?}");
                assert!(found.iter().any(|n| n.contains(near)), "{text}: {found:?}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    assert!(matches!(parse("0x RTX 5090"), Err(UnknownDevice::Count(_))));
    assert!(matches!(parse(""), Err(UnknownDevice::Name { .. })));
    assert!(matches!(parse("RTX 5090 +"), Ok(w) if w.len() == 1));
    assert_eq!(parse(&"4090,".repeat(9)), Err(UnknownDevice::TooLong));
    assert_eq!(parse(&"9".repeat(10_000)), Err(UnknownDevice::TooLong));
}

fn gpu(name: &str, kind: Kind, pci_id: Option<(u16, u16)>, gib: Option<f64>) -> Gpu {
    Gpu {
        name: name.into(),
        kind,
        memory_bytes: gib.map(|g| (g * GIB as f64) as u64),
        pci_id,
        ..Gpu::unknown()
    }
}

#[test]
fn gpus_of_the_machine_match_their_rows() {
    let navi31 = Some((0x1002, 0x744c));
    let navi21 = Some((0x1002, 0x73bf));
    let card = Kind::Discrete;
    let cases = [
        (gpu("NVIDIA GeForce RTX 4060 Ti", card, None, Some(15.6)), "GeForce RTX 4060 Ti 16 GB"),
        (
            gpu("NVIDIA GeForce RTX 4060 Ti", card, Some((0x10de, 0x2803)), Some(7.6)),
            "GeForce RTX 4060 Ti 8 GB",
        ),
        (gpu("AMD 744c", card, navi31, Some(19.98)), "Radeon RX 7900 XT"),
        (gpu("AMD 744c", card, navi31, Some(23.98)), "Radeon RX 7900 XTX"),
        (gpu("AMD 744c", card, navi31, Some(15.98)), "Radeon RX 7900M"),
        (gpu("Radeon RX 6900 XT", card, navi21, Some(15.98)), "Radeon RX 6900 XT"),
        (gpu("AMD 73bf", card, navi21, Some(15.98)), "Radeon RX 6800"),
        (gpu("NVIDIA GeForce RTX 5070", card, None, Some(11.94)), "GeForce RTX 5070"),
        (gpu("NVIDIA H200", card, None, Some(140.4)), "H200 SXM"),
        (gpu("NVIDIA GeForce RTX 4090", card, None, Some(10.0)), "-"),
        (
            gpu(
                "AMD Radeon Graphics (RADV PHOENIX)",
                Kind::Integrated,
                Some((0x1002, 0x15bf)),
                Some(15.2),
            ),
            "Radeon 760M",
        ),
        (
            gpu(
                "AMD Radeon 780M Graphics (RADV PHOENIX)",
                Kind::Integrated,
                Some((0x1002, 0x15bf)),
                None,
            ),
            "Radeon 780M",
        ),
        (gpu("Apple M3 Max", Kind::Unified, None, Some(36.0)), "Apple M3 Max 40-core GPU"),
        (gpu("Apple M3 Max", Kind::Unified, None, Some(27.0)), "Apple M3 Max 30-core GPU"),
        (gpu("Apple M3 Max", Kind::Unified, None, Some(60.0)), "Apple M3 Max 30-core GPU"),
        // As new versions of macOS report 36 GB.
        (gpu("Apple M3 Max", Kind::Unified, None, Some(28.08)), "Apple M3 Max 30-core GPU"),
        (gpu("NVIDIA GB10", Kind::Unified, None, Some(119.7)), "DGX Spark"),
        (gpu("ASPEED", card, Some((0x1a03, 0x2000)), None), "-"),
    ];
    for (gpu, wanted) in cases {
        assert_eq!(matching(&gpu).map_or("-", |d| d.name.as_str()), wanted, "{gpu:?}");
    }
}

proptest! {
    #[test]
    fn nothing_breaks_it(text in any::<String>()) {
        let _ = (by_name(&text), parse(&text), processor(&text));
    }

    #[test]
    fn nothing_that_looks_like_a_device_breaks_it(
        text in "[0-9]{0,3}[ x×*]{0,2}(RTX|Radeon|M[1-6]|w/|with|\\[|\\]|\\(|\\)|/|core|rev|max|q|GB|TB|卡|昇腾|\\+|,|@|[0-9]{1,4}| ){0,12}"
    ) {
        if let Ok(wanted) = parse(&text) {
            prop_assert!(!wanted.is_empty());
            for w in wanted {
                prop_assert!((1..=99).contains(&w.count) && w.memory > 0);
            }
        }
        let _ = (by_name(&text), processor(&text));
    }

    #[test]
    fn counts_and_spelling_keep_the_device(at in 0_usize..10_000, count in 1_u32..=99, upper: bool) {
        let device = &all()[at % all().len()];
        let name = if upper { device.name.to_uppercase() } else { device.name.to_lowercase() };
        let wanted = parse(&format!("{count}x {name}")).unwrap();
        prop_assert_eq!((wanted[0].count, &wanted[0].device.name), (count, &device.name));
    }
}
