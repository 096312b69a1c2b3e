//! This machine as hob computes on it: its cores and its main memory, at the speed that was measured of them, where it was. What was measured is
//! kept in the store by the name of the hardware (`probes/NAME.json`); a damaged file, one of other hardware or of another version of hob is as
//! good as none. Deliberately absent: measuring, which takes seconds and is for `hob doctor`, and GPUs, on which hob does not compute yet.

use std::io;
use std::path::{Path, PathBuf};

use hob_machine::{Machine, Probe, fingerprint};
use hob_model::{Head, Model};
use hob_plan::speed::Interval;
use hob_plan::{Rig, rig_of_machine};

/// A kept measurement has some kB.
const MAX_PROBE: u64 = 1 << 20;

/// What `pull`, `run` and `serve` plan for. On a machine without a GPU it is what `hob fit` plans for too; with one, `hob fit` tells what programs
/// reach there that use it, and in a note what is chosen here.
pub fn cores(store: &Path, machine: &Machine) -> Rig {
    rig_of_machine(machine, kept(store, machine).as_ref()).cores_only()
}

/// The speed that matters of a model: of its answers, or of the texts that it reads if it makes vectors of them.
pub(crate) fn speed(model: &Model, decode: Interval, prefill: Interval) -> String {
    match model.head {
        Head::Logits(_) => decode.to_string(),
        Head::Pool(_) => format!("{prefill} of text"),
    }
}

/// The hardware and the program whose kernels were measured. Without GPUs: they are not measured, and who asks no drivers shall find it too.
pub fn name(machine: &Machine) -> String {
    let bare = Machine { gpus: Vec::new(), ..machine.clone() };
    format!("{}-{}", fingerprint(&bare), env!("CARGO_PKG_VERSION"))
}

fn file(store: &Path, machine: &Machine) -> PathBuf {
    store.join("probes").join(format!("{}.json", name(machine)))
}

/// What was measured of this machine before.
pub fn kept(store: &Path, machine: &Machine) -> Option<Probe> {
    let file = file(store, machine);
    let length = std::fs::metadata(&file).ok().filter(|m| m.is_file())?.len();
    if length > MAX_PROBE {
        return None;
    }
    let probe: Probe = serde_json::from_slice(&std::fs::read(&file).ok()?).ok()?;
    let sane = |speed: f64| speed.is_finite() && speed > 0.0;
    let whole = sane(probe.read_bytes_per_second)
        && sane(probe.seconds_per_activation)
        && probe
            .attention
            .iter()
            .all(|a| sane(a.row_operations_per_second) && sane(a.operations_per_second))
        && probe
            .kernels
            .iter()
            .flat_map(|k| {
                [k.decode_bytes_per_second, k.seconds_per_block, k.prefill_operations_per_second]
            })
            .all(sane);
    (probe.fingerprint == name(machine) && whole).then_some(probe)
}

/// Keeps what was measured of this machine. Written beside its place and renamed: whoever reads meanwhile sees a whole one.
///
/// # Errors
/// When the store cannot be written to.
pub fn keep(store: &Path, machine: &Machine, probe: &Probe) -> io::Result<()> {
    let file = file(store, machine);
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let part = file.with_extension(format!("{}.part", std::process::id()));
    std::fs::write(&part, serde_json::to_vec_pretty(probe)?)?;
    std::fs::rename(&part, file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hob_machine::{Cpu, Gpu, KernelSpeed, Memory};

    fn probe(machine: &Machine) -> Probe {
        Probe {
            fingerprint: name(machine),
            taken: 1,
            threads: 2,
            read_bytes_per_second: 1e10,
            kernels: Vec::new(),
            seconds_per_activation: 1e-9,
            attention: Vec::new(),
        }
    }

    #[test]
    fn a_kept_probe_is_read_if_it_is_of_this_hardware_and_program() {
        let store = tempfile::tempdir().unwrap();
        let machine = Machine::default();
        assert_eq!(kept(store.path(), &machine), None);
        let probe = probe(&machine);
        keep(store.path(), &machine, &probe).unwrap();
        assert_eq!(kept(store.path(), &machine), Some(probe.clone()));
        let kernel = KernelSpeed {
            ty: "Q8_0".to_owned(),
            decode_bytes_per_second: 1e10,
            seconds_per_block: 0.0,
            prefill_operations_per_second: 1e11,
        };
        for wrong in [
            Probe { kernels: vec![kernel], ..probe.clone() },
            Probe { fingerprint: "another".to_owned(), ..probe.clone() },
            Probe { read_bytes_per_second: 0.0, ..probe.clone() },
            Probe { seconds_per_activation: -1.0, ..probe },
        ] {
            keep(store.path(), &machine, &wrong).unwrap();
            assert_eq!(kept(store.path(), &machine), None, "{wrong:?}");
        }
        let place = file(store.path(), &machine);
        for garbage in [&b""[..], b"{}", b"\xff\xfe\x00", b"[1e999]", &[b' '; 2 << 20]] {
            std::fs::write(&place, garbage).unwrap();
            assert_eq!(kept(store.path(), &machine), None);
        }
    }

    /// `hob doctor` asks the drivers before it measures, `hob run` does not; and `hob fit` and `hob pull` agree where there is nothing to ask.
    #[test]
    fn a_gpu_changes_neither_what_is_found_nor_what_is_planned_for() {
        let store = tempfile::tempdir().unwrap();
        let memory =
            Memory { total_bytes: 32 << 30, available_bytes: 20 << 30, ..Memory::default() };
        for brand in ["AMD Ryzen 7 7840HS w/ Radeon 780M Graphics", "Apple M1 Max", "unheard of"] {
            let cpu = Cpu { brand: brand.to_owned(), physical_cores: 8, ..Cpu::default() };
            let bare = Machine { cpu, memory: memory.clone(), ..Machine::default() };
            let with = Machine { gpus: vec![Gpu::unknown()], ..bare.clone() };
            let rig = |machine: &Machine| Rig { notes: Vec::new(), ..cores(store.path(), machine) };
            assert_eq!(rig(&bare), rig(&with), "{brand}");
            assert!(!rig(&bare).has_gpu());
            keep(store.path(), &with, &probe(&with)).unwrap();
            assert_eq!(rig(&bare).host.probe, Some(probe(&bare)));
            assert_eq!(rig(&bare), rig(&with), "{brand}");
        }
    }
}
