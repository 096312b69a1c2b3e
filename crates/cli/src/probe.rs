//! Measuring this machine with something to see meanwhile, and keeping the result. The measurement is `engine`'s, where it is kept `server`'s
//! (`here`); when to measure is the verbs' business.

use std::path::Path;

use anyhow::{Context, Result};
use hob_machine::{Machine, Probe};
use hob_server::here;

use crate::progress;

/// Measures this machine, which takes some seconds, and keeps the result. A store that cannot be written to costs a warning.
///
/// # Errors
/// When memory or threads for it are not there.
pub fn take(store: &Path, machine: &Machine, threads: usize) -> Result<Probe> {
    let bar = progress::parts_bar("measuring this machine");
    let mut progress = |done, parts| {
        bar.set_length(parts as u64);
        bar.set_position(done as u64);
    };
    let caches = machine.cpu.cache_bytes();
    let probe = hob_engine::probe::take(here::name(machine), threads, caches, &mut progress);
    bar.finish_and_clear();
    let probe = probe.context("cannot measure this machine")?;
    if let Err(error) = here::keep(store, machine, &probe) {
        crate::out::say(&format!("cannot keep what was measured: {error}"));
    }
    Ok(probe)
}
