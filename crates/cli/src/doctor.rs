//! `hob doctor`: what this machine has, what hob will use of it, why not the rest, and what to change; in English or Chinese, or as JSON
//! (docs/doctor.md). Collects here; what to advise, how it is said and how it is laid out are pure functions, one file each.

mod advice;
pub mod lang;
mod report;
pub mod screen;
mod words;

use std::path::Path;

use anyhow::Result;
use hob_hub::Hub;
use hob_machine::{Machine, Probe, disk, fingerprint};

use crate::out;
use lang::Lang;
use report::Report;

/// Look at this machine: what is there, what is used, what to change
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  hob doctor\n  hob doctor --lang zh\n  hob doctor --json\n\n\
    The language is --lang, else HOB_LANG, else that of the system.")]
pub struct Args {
    /// Print JSON, as docs/doctor.md describes it
    #[arg(long)]
    json: bool,
    /// Language of sentences
    #[arg(long, value_enum)]
    lang: Option<Lang>,
    /// Leave out what was measured of this machine
    #[arg(long)]
    no_probe: bool,
}

/// A kept measurement has some kB.
const MAX_PROBE: u64 = 1 << 20;

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let lang = lang::choose(args.lang, |name| std::env::var(name).ok());
    let hub = Hub::open()?;
    let machine = Machine::detect()?;
    let report = Report {
        probe: if args.no_probe { None } else { probe_of(hub.root(), &machine) },
        threads: hob_server::default_threads(&machine),
        store: hub.root().to_owned(),
        disk: disk::disk(hub.root()).map_err(|e| e.to_string()),
        variables: report::in_effect(std::env::vars_os()),
        machine,
    };
    if args.json {
        return out::print_json(&report.to_json(lang));
    }
    out::print(&screen::render(&report, lang, width()))
}

/// What was measured of this machine before: the store keeps it by the name of the hardware. A file that is damaged, or of other hardware,
/// is none.
pub fn probe_of(store: &Path, machine: &Machine) -> Option<Probe> {
    let name = fingerprint(machine);
    let file = store.join("probes").join(format!("{name}.json"));
    let length = std::fs::metadata(&file).ok().filter(|m| m.is_file())?.len();
    if length > MAX_PROBE {
        return None;
    }
    let probe: Probe = serde_json::from_slice(&std::fs::read(&file).ok()?).ok()?;
    let sane = |speed: f64| speed.is_finite() && speed > 0.0;
    (probe.fingerprint == name && sane(probe.read_bytes_per_second)).then_some(probe)
}

/// Columns to write in: what `COLUMNS` says, else the terminal's, else 80; not so many that lines are hard to read.
pub fn width() -> usize {
    let set = std::env::var("COLUMNS").ok().and_then(|n| n.parse::<usize>().ok());
    let terminal = || console::Term::stdout().size_checked().map(|(_, columns)| columns.into());
    set.filter(|n| *n > 0).or_else(terminal).unwrap_or(80).clamp(40, 120)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_probe_is_read_if_it_is_of_this_hardware() {
        let store = tempfile::tempdir().unwrap();
        let machine = Machine::default();
        let file = store.path().join("probes").join(format!("{}.json", fingerprint(&machine)));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let keep = |content: &[u8]| {
            std::fs::write(&file, content).unwrap();
            probe_of(store.path(), &machine)
        };
        let probe = Probe { fingerprint: fingerprint(&machine), ..report::tests::probe() };
        assert_eq!(keep(&serde_json::to_vec(&probe).unwrap()), Some(probe.clone()));
        let other = Probe { fingerprint: "another".to_owned(), ..probe.clone() };
        assert_eq!(keep(&serde_json::to_vec(&other).unwrap()), None);
        let stopped = Probe { read_bytes_per_second: 0.0, ..probe };
        assert_eq!(keep(&serde_json::to_vec(&stopped).unwrap()), None);
        for garbage in [&b""[..], b"{}", b"\xff\xfe\x00", b"[1e999]", &[b' '; 2 << 20]] {
            assert_eq!(keep(garbage), None);
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(probe_of(store.path(), &machine), None);
    }
}
