//! How many rules are compiled at once: a thread of llguidance that compiles cannot be ended, so that there must not be many.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Places for threads that compile.
pub(super) struct Slots {
    free: Mutex<usize>,
    freed: Condvar,
}

/// A place, free again when dropped.
pub(super) struct Slot(&'static Slots);

impl Slots {
    pub(super) const fn new(free: usize) -> Self {
        Slots { free: Mutex::new(free), freed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, if one becomes free in time.
    pub(super) fn take(&'static self, patience: Duration) -> Option<Slot> {
        let taken = self.freed.wait_timeout_while(self.lock(), patience, |free| *free == 0);
        let (mut free, _) = taken.unwrap_or_else(PoisonError::into_inner);
        *free = free.checked_sub(1)?;
        Some(Slot(self))
    }

    /// How many are free.
    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        *self.lock()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *self.0.lock() += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_than_said() {
        static TWO: Slots = Slots::new(2);
        let first = TWO.take(Duration::ZERO);
        let second = TWO.take(Duration::ZERO);
        assert!(first.is_some() && second.is_some() && TWO.take(Duration::ZERO).is_none());
        let waiting = std::thread::spawn(|| TWO.take(Duration::from_secs(3600)).is_some());
        drop(first);
        assert!(waiting.join().unwrap());
        assert_eq!(TWO.free(), 1);
    }
}
