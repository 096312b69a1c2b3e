//! A name for hardware, under which measurements of it are kept. It says what can change a measurement and leaves out what changes from day
//! to day; neither the program nor its version is in it.

use crate::Machine;

const GIB: u64 = 1 << 30;

/// The name of this hardware: of the processor, its instruction set, the threads that may be used, the memory and the GPUs. Good as a
/// file's name: at most 80 characters of `a-z`, `0-9` and `-`. The same machine has the same one after updates of kernel and drivers.
///
/// ```
/// let machine = hob_machine::Machine::host()?;
/// assert_eq!(hob_machine::fingerprint(&machine), hob_machine::fingerprint(&machine));
/// # Ok::<(), hob_machine::MachineError>(())
/// ```
pub fn fingerprint(machine: &Machine) -> String {
    let cpu = &machine.cpu;
    let isa = cpu.isa.name();
    let gigabytes = whole(machine.memory.installed_bytes);
    let mut gpus: Vec<String> = machine
        .gpus
        .iter()
        .map(|gpu| match gpu.pci_id {
            // Numbers stay when a driver learns a better name.
            Some((vendor, device)) => format!("{vendor:04x}:{device:04x}"),
            None => gpu.name.clone(),
        })
        .collect();
    gpus.sort();
    let all = format!(
        "{}|{isa}|{}|{}|{gigabytes}|{}",
        cpu.brand,
        cpu.physical_cores,
        cpu.usable_cores,
        gpus.join("|")
    );
    let brand: String = slug(&cpu.brand).chars().take(32).collect();
    let brand = brand.trim_matches('-');
    let brand = if brand.is_empty() { "cpu" } else { brand };
    format!("{brand}-{isa}-{}t-{gigabytes}g-{:016x}", cpu.usable_cores, fnv(all.as_bytes()))
}

/// Gigabytes as memory is sold: what firmware and kernel keep for themselves differs with their versions.
fn whole(bytes: u64) -> u64 {
    let gigabytes = bytes.div_ceil(GIB);
    if gigabytes > 8 { gigabytes.next_multiple_of(4) } else { gigabytes }
}

fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.to_lowercase().chars() {
        match c {
            'a'..='z' | '0'..='9' => slug.push(c),
            _ if slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
    }
    slug
}

/// FNV-1a with 64 bits: the same in every version of Rust, which the standard library's hash is not.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cpu, Gpu, Isa, Memory};

    fn machine() -> Machine {
        let cpu = Cpu {
            brand: "AMD Ryzen 7 7840HS w/ Radeon 780M Graphics".to_owned(),
            physical_cores: 8,
            logical_cores: 16,
            usable_cores: 16,
            isa: Isa::Avx512Vnni,
            ..Cpu::default()
        };
        let gpu = Gpu {
            name: "AMD Radeon 780M Graphics".to_owned(),
            pci_id: Some((0x1002, 0x15bf)),
            ..Gpu::unknown()
        };
        let memory = Memory { installed_bytes: 32_950_000_000, ..Memory::default() };
        Machine { cpu, memory, gpus: vec![gpu], ..Machine::default() }
    }

    #[test]
    fn known_vectors_of_the_hash() {
        assert_eq!(fnv(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(b"a"), 0xaf63_dc4c_8601_ec8c);
    }

    #[test]
    fn is_a_good_files_name() {
        let name = fingerprint(&machine());
        assert!(
            name.starts_with("amd-ryzen-7-7840hs-w-radeon-780m-avx512-vnni-16t-32g-"),
            "{name}"
        );
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(name.len() <= 80 && name.chars().all(fits), "{name}");
        let odd = Cpu { brand: "../../龙芯\0".repeat(100), ..Cpu::default() };
        let name = fingerprint(&Machine { cpu: odd, ..Machine::default() });
        assert!(name.starts_with("cpu-scalar-0t-0g-") && name.chars().all(fits), "{name}");
    }

    #[test]
    fn stays_over_updates_and_changes_with_hardware() {
        let here = machine();
        let mut updated = here.clone();
        updated.memory.installed_bytes -= 50_000_000;
        updated.memory.available_bytes = 7;
        updated.gpus[0].name = "AMD Radeon 780M".to_owned();
        updated.gpus[0].driver = Some("amdgpu 6.12".to_owned());
        updated.gpus[0].free_bytes = Some(1);
        updated.system.kernel = Some("6.12".to_owned());
        assert_eq!(fingerprint(&updated), fingerprint(&here));
        let changes: [fn(&mut Machine); 5] = [
            |m| m.cpu.brand.push('X'),
            |m| m.cpu.usable_cores = 8,
            |m| m.cpu.isa = Isa::Avx2,
            |m| m.memory.installed_bytes *= 2,
            |m| m.gpus.clear(),
        ];
        for change in changes {
            let mut other = here.clone();
            change(&mut other);
            assert_ne!(fingerprint(&other), fingerprint(&here));
        }
    }
}
