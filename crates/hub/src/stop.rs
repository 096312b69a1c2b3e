//! The wish of whoever started a transfer that it end early. It is looked at between any two pieces of work, so a transfer ends within
//! moments; what has arrived stays for the next try.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::HubError;

/// A wish to stop, which clones share.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks for the end.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails once somebody asked.
    pub(crate) fn check(&self) -> Result<(), HubError> {
        if self.asked() { Err(HubError::Stopped) } else { Ok(()) }
    }
}
