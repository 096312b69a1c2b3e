//! Apple's GPUs, which share all of main memory with the processor. What Metal lets programs have of it is asked of `sysctl`, or known by
//! its rule; Metal itself is not asked, as that would need its libraries.

use crate::Memory;
use crate::gpu::{Gpu, Kind, Vendor};

const GIB: u64 = 1 << 30;

/// The GPU of an Apple chip; `None` for other processors. `limit_mb` is the setting `iogpu.wired_limit_mb`, 0 unless somebody set it.
pub(crate) fn gpu(brand: &str, memory: &Memory, limit_mb: Option<u64>) -> Option<Gpu> {
    if !brand.starts_with("Apple") {
        return None;
    }
    let set = limit_mb.filter(|mb| *mb > 0).map(|mb| mb.saturating_mul(1 << 20));
    let limit = set.unwrap_or_else(|| working_set(memory.installed_bytes));
    let limit = limit.min(memory.installed_bytes);
    Some(Gpu {
        name: brand.to_owned(),
        vendor: Vendor::Apple,
        kind: Kind::Unified,
        memory_bytes: Some(limit),
        free_bytes: Some(limit.min(memory.available_bytes)),
        driver: Some("Metal".to_owned()),
        ..Gpu::unknown()
    })
}

/// What Metal recommends as the largest working set: two thirds of 32 GB and less, three quarters of more. As logs of llama.cpp show it: 10.7
/// of 16, 21.3 of 32, 27 of 36, 48 of 64 GiB. Since macOS 15 large machines get somewhat more (107.5 of 128), which is not counted on.
fn working_set(installed: u64) -> u64 {
    if installed <= 32 * GIB { installed / 3 * 2 } else { installed / 4 * 3 }
}

/// The value of a setting of the kernel.
#[cfg(target_os = "macos")]
pub(crate) fn sysctl(name: &str) -> Option<u64> {
    let output = std::process::Command::new("/usr/sbin/sysctl").args(["-n", name]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(gib: u64, set: Option<u64>) -> Option<u64> {
        let memory = Memory {
            installed_bytes: gib * GIB,
            total_bytes: gib * GIB,
            available_bytes: gib * GIB,
            ..Memory::default()
        };
        gpu("Apple M3 Max", &memory, set).and_then(|gpu| gpu.memory_bytes)
    }

    #[test]
    fn the_working_set_by_rule_and_by_setting() {
        // 10922.67 and 21845.33 MiB, as llama.cpp's logs have it.
        assert_eq!(limit(16, None).map(|b| b >> 20), Some(10922));
        assert_eq!(limit(32, Some(0)).map(|b| b >> 20), Some(21845));
        assert_eq!(limit(36, None), Some(27 * GIB));
        assert_eq!(limit(64, None), Some(48 * GIB));
        assert_eq!(limit(64, Some(57344)), Some(56 * GIB));
        assert_eq!(limit(64, Some(u64::MAX)), Some(64 * GIB));
        assert_eq!(gpu("Intel(R) Core(TM) i7", &Memory::default(), None), None);
    }
}
