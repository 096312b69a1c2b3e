//! `hob doctor`: what this machine has, what hob will use of it, why not the rest, and what to change; in English or Chinese, or as JSON
//! (docs/doctor.md). Collects here; what to advise, how it is said and how it is laid out are pure functions, one file each.

mod advice;
pub mod lang;
mod report;
pub mod screen;
pub mod words;

use std::path::Path;

use anyhow::Result;
use hob_hub::Hub;
use hob_machine::{Machine, Probe, disk};
use hob_server::here;

use crate::{out, probe};
use report::Report;

/// Look at this machine: what is there, what is used, what to change
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  hob doctor\n  hob doctor --lang zh\n  hob doctor --json\n\n\
    The language is --lang, else HOB_LANG, else that of the system.")]
pub struct Args {
    /// Print JSON, as docs/doctor.md describes it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    spoken: lang::Asked,
    /// Measure this machine's speed anew [default: once, then it is known]
    #[arg(long, conflicts_with = "no_probe")]
    probe: bool,
    /// Do not measure, and leave out what was measured
    #[arg(long)]
    no_probe: bool,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let lang = args.spoken.lang();
    let hub = Hub::open()?;
    let machine = Machine::detect()?;
    let threads = hob_server::default_threads(&machine);
    let report = Report {
        probe: probe_of(args, hub.root(), &machine, threads),
        threads,
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

/// What is known of this machine's speed, measured now if it was not before. If that fails, all else is told nevertheless.
fn probe_of(args: &Args, store: &Path, machine: &Machine, threads: usize) -> Option<Probe> {
    if args.no_probe {
        return None;
    }
    let kept = if args.probe { None } else { here::kept(store, machine) };
    kept.or_else(|| {
        let taken = probe::take(store, machine, threads);
        taken.inspect_err(|error| out::say(&format!("{error:#}"))).ok()
    })
}

/// Columns to write in: what `COLUMNS` says, else the terminal's, else 80; not so many that lines are hard to read.
pub fn width() -> usize {
    let set = std::env::var("COLUMNS").ok().and_then(|n| n.parse::<usize>().ok());
    let terminal = || console::Term::stdout().size_checked().map(|(_, columns)| columns.into());
    set.filter(|n| *n > 0).or_else(terminal).unwrap_or(80).clamp(40, 120)
}
