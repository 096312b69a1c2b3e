//! What was measured of this machine, kept in the store by the name of the hardware (`probes/NAME.json`). A damaged file, one of other hardware
//! or of another version of hob is as good as none. Measuring is `engine`'s; when to measure is the verbs' business.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hob_machine::{Machine, Probe, fingerprint};

use crate::progress;

/// A kept measurement has some kB.
const MAX_PROBE: u64 = 1 << 20;

/// The hardware and the program whose kernels were measured.
fn name(machine: &Machine) -> String {
    format!("{}-{}", fingerprint(machine), env!("CARGO_PKG_VERSION"))
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
        && sane(probe.seconds_per_block)
        && sane(probe.attention_row_operations_per_second)
        && sane(probe.attention_operations_per_second)
        && probe
            .kernels
            .iter()
            .all(|k| sane(k.decode_bytes_per_second) && sane(k.prefill_operations_per_second));
    (probe.fingerprint == name(machine) && whole).then_some(probe)
}

/// Measures this machine, which takes some seconds, and keeps the result. A store that cannot be written to costs a warning.
///
/// # Errors
/// When memory or threads for it are not there.
pub fn take(store: &Path, machine: &Machine, threads: usize) -> Result<Probe> {
    let bar = progress::parts_bar("measuring this machine");
    let probe = hob_engine::probe::take(name(machine), threads, &mut |done, parts| {
        bar.set_length(parts as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let probe = probe.context("cannot measure this machine")?;
    if let Err(error) = keep(&file(store, machine), &probe) {
        crate::out::say(&format!("cannot keep what was measured: {error:#}"));
    }
    Ok(probe)
}

/// Written beside its place and renamed: whoever reads meanwhile sees a whole one.
fn keep(file: &Path, probe: &Probe) -> Result<()> {
    let folder = file.parent().context("a store has a folder")?;
    std::fs::create_dir_all(folder)?;
    let part = file.with_extension(format!("{}.part", std::process::id()));
    std::fs::write(&part, serde_json::to_vec_pretty(probe)?)?;
    Ok(std::fs::rename(&part, file)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(machine: &Machine) -> Probe {
        Probe {
            fingerprint: name(machine),
            taken: 1,
            threads: 2,
            read_bytes_per_second: 1e10,
            kernels: Vec::new(),
            seconds_per_block: 1e-5,
            attention_row_operations_per_second: 1e9,
            attention_operations_per_second: 1e10,
        }
    }

    #[test]
    fn a_kept_probe_is_read_if_it_is_of_this_hardware_and_program() {
        let store = tempfile::tempdir().unwrap();
        let machine = Machine::default();
        let place = file(store.path(), &machine);
        assert_eq!(kept(store.path(), &machine), None);
        let probe = probe(&machine);
        keep(&place, &probe).unwrap();
        assert_eq!(kept(store.path(), &machine), Some(probe.clone()));
        for wrong in [
            Probe { fingerprint: "another".to_owned(), ..probe.clone() },
            Probe { read_bytes_per_second: 0.0, ..probe.clone() },
            Probe { seconds_per_block: -1.0, ..probe },
        ] {
            keep(&place, &wrong).unwrap();
            assert_eq!(kept(store.path(), &machine), None, "{wrong:?}");
        }
        for garbage in [&b""[..], b"{}", b"\xff\xfe\x00", b"[1e999]", &[b' '; 2 << 20]] {
            std::fs::write(&place, garbage).unwrap();
            assert_eq!(kept(store.path(), &machine), None);
        }
    }
}
