//! The processor by `/proc/cpuinfo` and `/sys/devices/system/cpu`. Vulnerabilities, clocks and temperatures are not looked at.

use std::collections::BTreeSet;

use crate::text::printable;
use crate::tree::{Tree, value};
use crate::{Cache, Clock, Cpu, Isa, cgroup};

/// `/proc/cpuinfo` has some 2 kB for each hardware thread.
const MAX_CPUINFO: u64 = 8 << 20;
/// More hardware threads than any machine has.
const MAX_CPUS: u32 = 8192;
const CPUS: &str = "sys/devices/system/cpu";

/// What `/proc/cpuinfo` tells.
#[derive(Default)]
struct Info {
    brand: String,
    threads: usize,
    cores: usize,
    flags: BTreeSet<String>,
}

pub(super) fn read(tree: &Tree) -> Cpu {
    let info = info(&tree.long("proc/cpuinfo", MAX_CPUINFO).unwrap_or_default());
    let online = tree.text(format!("{CPUS}/online")).and_then(|text| list(&text));
    let online = online.unwrap_or_else(|| (0..info.threads as u32).collect());
    let logical = online.len().max(1);
    let cores = if info.cores > 0 { info.cores } else { cores(tree, &online) };
    let features: Vec<String> = FEATURES
        .iter()
        .filter(|(_, kernel)| info.flags.contains(*kernel))
        .map(|(rust, _)| (*rust).to_owned())
        .collect();
    Cpu {
        brand: info.brand,
        physical_cores: cores.clamp(1, logical),
        logical_cores: logical,
        usable_cores: usable(tree, logical),
        isa: Isa::best(&features.iter().map(String::as_str).collect::<Vec<_>>()),
        features,
        caches: caches(tree, &online),
        clock: clock(tree),
    }
}

fn info(text: &str) -> Info {
    let mut info = Info::default();
    let mut pairs = BTreeSet::new();
    let (mut package, mut implementer, mut part) = (None, None, None);
    for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match key.trim() {
            "processor" if value.parse::<u32>().is_ok() => info.threads += 1,
            "model name" | "Model Name" if info.brand.is_empty() => {
                info.brand = printable(value).unwrap_or_default();
            }
            "physical id" => package = value.parse::<u32>().ok(),
            "core id" => pairs.extend(value.parse::<u32>().ok().map(|core| (package, core))),
            "CPU implementer" => implementer = implementer.or(hexadecimal(value)),
            "CPU part" => part = part.max(hexadecimal(value)),
            "flags" | "Features" if info.flags.is_empty() => {
                info.flags = value.split_whitespace().map(str::to_owned).collect();
            }
            _ => {}
        }
    }
    info.threads = info.threads.min(MAX_CPUS as usize);
    info.cores = pairs.len();
    if let (true, Some(maker), Some(part)) = (info.brand.is_empty(), implementer, part) {
        info.brand = arm_core(maker, part).unwrap_or_default().to_owned();
    }
    info
}

fn hexadecimal(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// ARM cores by the numbers of their makers (MIDR_EL1: implementer and part), those of machines that run language models.
fn arm_core(maker: u32, part: u32) -> Option<&'static str> {
    Some(match (maker, part) {
        (0x41, 0xd03) => "ARM Cortex-A53",
        (0x41, 0xd05) => "ARM Cortex-A55",
        (0x41, 0xd08) => "ARM Cortex-A72",
        (0x41, 0xd0b) => "ARM Cortex-A76",
        (0x41, 0xd0c) => "ARM Neoverse N1",
        (0x41, 0xd40) => "ARM Neoverse V1",
        (0x41, 0xd41) => "ARM Cortex-A78",
        (0x41, 0xd42) => "ARM Cortex-A78AE",
        (0x41, 0xd49) => "ARM Neoverse N2",
        (0x41, 0xd4f) => "ARM Neoverse V2",
        (0x41, 0xd85) => "ARM Cortex-X925",
        (0x41, 0xd87) => "ARM Cortex-A725",
        (0x46, 0x001) => "Fujitsu A64FX",
        (0x48, 0xd01) => "HiSilicon Kunpeng 920",
        (0x51, 0x001) => "Qualcomm Oryon",
        (0x61, _) => "Apple silicon",
        (0xc0, 0xac3) => "Ampere-1",
        _ => return None,
    })
}

/// Rust's names of features that kernels ask for, and the kernel's.
const FEATURES: [(&str, &str); 21] = [
    ("sse4.2", "sse4_2"),
    ("avx", "avx"),
    ("avx2", "avx2"),
    ("fma", "fma"),
    ("f16c", "f16c"),
    ("avxvnni", "avx_vnni"),
    ("avx512f", "avx512f"),
    ("avx512bw", "avx512bw"),
    ("avx512dq", "avx512dq"),
    ("avx512vl", "avx512vl"),
    ("avx512vnni", "avx512_vnni"),
    ("avx512vbmi", "avx512vbmi"),
    ("avx512bf16", "avx512_bf16"),
    ("avx512fp16", "avx512_fp16"),
    ("neon", "asimd"),
    ("fp16", "asimdhp"),
    ("dotprod", "asimddp"),
    ("i8mm", "i8mm"),
    ("bf16", "bf16"),
    ("sve", "sve"),
    ("sve2", "sve2"),
];

/// A list of numbers and ranges, `0-3,8`, as the kernel writes sets of processors; `None` for anything else.
pub(super) fn list(text: &str) -> Option<Vec<u32>> {
    let mut cpus = BTreeSet::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if first > last || last >= MAX_CPUS {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus.into_iter().collect())
}

/// Cores by which threads share one; for machines whose `/proc/cpuinfo` does not number them.
fn cores(tree: &Tree, online: &[u32]) -> usize {
    let siblings = |cpu: &u32| {
        let file = |name| tree.line(format!("{CPUS}/cpu{cpu}/topology/{name}"));
        file("core_cpus_list").or_else(|| file("thread_siblings_list"))
    };
    let sets: Option<BTreeSet<String>> = online.iter().map(siblings).collect();
    sets.map_or(online.len(), |sets| sets.len())
}

/// Threads by affinity mask and quota; a part of a processor counts as one, as in Rust's library.
fn usable(tree: &Tree, logical: usize) -> usize {
    let status = tree.text("proc/self/status").unwrap_or_default();
    let allowed = value(&status, "Cpus_allowed_list", ':').and_then(list).unwrap_or_default();
    let allowed = if allowed.is_empty() { logical } else { allowed.len() };
    let quota = cgroup::processors(tree).map_or(logical, |quota| quota as usize);
    logical.min(allowed).min(quota).max(1)
}

/// Caches of the second and third level, counted by the threads that share one.
fn caches(tree: &Tree, online: &[u32]) -> Vec<Cache> {
    let mut caches: Vec<Cache> = Vec::new();
    for level in [2, 3] {
        let mut covered = BTreeSet::new();
        for cpu in online {
            if covered.contains(cpu) {
                continue;
            }
            let Some((bytes, shared)) = cache(tree, *cpu, level) else { break };
            covered.insert(*cpu);
            covered.extend(shared);
            match caches.iter_mut().find(|c| (c.level, c.bytes) == (level, bytes)) {
                Some(same) => same.count += 1,
                None => caches.push(Cache { level, bytes, count: 1 }),
            }
        }
    }
    caches
}

/// Size of a thread's cache of this level, and the threads that share it.
fn cache(tree: &Tree, cpu: u32, level: u8) -> Option<(u64, Vec<u32>)> {
    let index = |n: &u8| {
        let of = tree.number::<u8>(format!("{CPUS}/cpu{cpu}/cache/index{n}/level"));
        of == Some(level)
    };
    let directory = format!("{CPUS}/cpu{cpu}/cache/index{}", (0..8).find(index)?);
    let size = tree.line(format!("{directory}/size"))?;
    let bytes = size.strip_suffix('K')?.parse::<u64>().ok()?.checked_mul(1024)?;
    let shared = tree.text(format!("{directory}/shared_cpu_list"));
    Some((bytes, shared.and_then(|text| list(&text)).unwrap_or_default()))
}

fn clock(tree: &Tree) -> Option<Clock> {
    let file = |name| tree.line(format!("{CPUS}/cpu0/cpufreq/{name}"));
    let clock = Clock {
        driver: file("scaling_driver"),
        governor: file("scaling_governor"),
        preference: file("energy_performance_preference"),
    };
    (clock.driver.is_some() || clock.governor.is_some()).then_some(clock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::tree;

    #[test]
    fn lists_of_processors() {
        assert_eq!(list("0-3,8,10-11\n"), Some(vec![0, 1, 2, 3, 8, 10, 11]));
        assert_eq!(list("\n"), Some(vec![]));
        for bad in ["3-1", "0-4294967295", "0-9999", "x", "-1", "1-", "0 1"] {
            assert_eq!(list(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_arm_machine_is_named_by_its_largest_core() {
        let (_dir, tree) = tree(&[
            (
                "proc/cpuinfo",
                b"processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd05\n\n\
                processor\t: 1\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n",
            ),
            ("sys/devices/system/cpu/cpu0/topology/core_cpus_list", b"0\n"),
            ("sys/devices/system/cpu/cpu1/topology/core_cpus_list", b"1\n"),
        ]);
        let cpu = read(&tree);
        assert_eq!(cpu.brand, "ARM Cortex-A76");
        assert_eq!((cpu.physical_cores, cpu.logical_cores), (2, 2));
        assert_eq!(
            (cpu.isa, cpu.features),
            (Isa::Neon, ["neon", "fp16", "dotprod"].map(String::from).into())
        );
    }

    #[test]
    fn masks_and_quotas_bound_the_threads() {
        let cpus = ("sys/devices/system/cpu/online", &b"0-15\n"[..]);
        let group = ("proc/self/cgroup", &b"0::/\n"[..]);
        let mask = ("proc/self/status", &b"Name:\thob\nCpus_allowed_list:\t0-7\n"[..]);
        let quota = ("sys/fs/cgroup/cpu.max", &b"50000 100000\n"[..]);
        let usable = |files: &[_]| {
            let (_dir, tree) = tree(files);
            read(&tree).usable_cores
        };
        assert_eq!(usable(&[cpus]), 16);
        assert_eq!(usable(&[cpus, mask]), 8);
        assert_eq!(usable(&[cpus, mask, group, quota]), 1);
    }

    #[test]
    fn caches_are_counted_by_who_shares_them() {
        let mut files = vec![("sys/devices/system/cpu/online".to_owned(), "0-3".to_owned())];
        for cpu in 0..4 {
            let l2 = (2, "1024K", if cpu < 2 { "0-1" } else { "2-3" });
            for (n, (level, size, shared)) in [l2, (3, "32768K", "0-3")].into_iter().enumerate() {
                let index = format!("sys/devices/system/cpu/cpu{cpu}/cache/index{}", n + 2);
                files.push((format!("{index}/level"), level.to_string()));
                files.push((format!("{index}/size"), size.to_owned()));
                files.push((format!("{index}/shared_cpu_list"), shared.to_owned()));
            }
        }
        let files: Vec<_> = files.iter().map(|(p, c)| (p.as_str(), c.as_bytes())).collect();
        let (_dir, tree) = tree(&files);
        let l2 = Cache { level: 2, bytes: 1 << 20, count: 2 };
        assert_eq!(read(&tree).caches, [l2, Cache { level: 3, bytes: 32 << 20, count: 1 }]);
    }
}
