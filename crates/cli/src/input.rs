//! What comes in by standard input: text, limited, or an error that says why not.

use std::io::{IsTerminal, Read, stdin};

use anyhow::{Context, Result, bail};

use crate::out;

/// More text than any model's context; what is longer is a mistake, found before it fills the memory.
const MAX_BYTES: u64 = 256 << 20;

/// Whether a person could type there.
pub fn is_terminal() -> bool {
    stdin().is_terminal()
}

/// Everything from standard input.
pub fn read_stdin() -> Result<String> {
    let mut bytes = Vec::new();
    stdin()
        .lock()
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .context("cannot read standard input")?;
    if bytes.len() as u64 > MAX_BYTES {
        bail!(
            "standard input holds more than {}, which no model can read at once",
            out::memory_size(MAX_BYTES)
        );
    }
    String::from_utf8(bytes).map_err(|e| {
        anyhow::anyhow!(
            "standard input is not UTF-8 text (at byte {})",
            e.utf8_error().valid_up_to()
        )
    })
}
