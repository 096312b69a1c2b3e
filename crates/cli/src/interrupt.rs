//! Ctrl-C: while an answer is being written it asks for its end; the second time, and at any other moment, it ends the program.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result};

use crate::out;

const IDLE: u8 = 0;
const ANSWERING: u8 = 1;
const ASKED: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(IDLE);

/// Takes over SIGINT. Called once, before anything takes long.
pub fn install() -> Result<()> {
    ctrlc::set_handler(on_signal).context("cannot listen for Ctrl-C")
}

fn on_signal() {
    if STATE.compare_exchange(ANSWERING, ASKED, Ordering::Relaxed, Ordering::Relaxed).is_err() {
        let mut stderr = std::io::stderr();
        if stderr.is_terminal() {
            // A progress bar hides the cursor.
            let _ = writeln!(stderr, "\x1b[?25h");
        }
        std::process::exit(out::INTERRUPTED.into());
    }
}

/// The time in which Ctrl-C ends an answer, not the program.
pub struct Answering(());

impl Answering {
    /// It begins.
    pub fn begin() -> Answering {
        STATE.store(ANSWERING, Ordering::Relaxed);
        Answering(())
    }

    /// Whether Ctrl-C was pressed since.
    pub fn stop_asked(&self) -> bool {
        STATE.load(Ordering::Relaxed) == ASKED
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        STATE.store(IDLE, Ordering::Relaxed);
    }
}
