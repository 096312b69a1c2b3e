//! Bytes per second over all connections of a transfer: a bucket that fills with time and that every reader draws from.
//! Deliberately absent: fairness between connections, which the scheduler of claims does not need.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::lock;

/// How much may come at once after a pause, in seconds' worth of bytes.
const BURST: f64 = 0.25;

/// A limit, or none.
#[derive(Debug)]
pub(super) struct Rate {
    bytes_per_second: Option<u64>,
    /// When the bytes taken so far are paid for.
    paid: Mutex<Instant>,
}

impl Rate {
    pub fn new(bytes_per_second: Option<u64>) -> Rate {
        Rate { bytes_per_second: bytes_per_second.map(|r| r.max(1)), paid: Instant::now().into() }
    }

    /// The most to read in one go, so that reading is smooth at a low rate.
    pub fn piece(&self, most: usize) -> usize {
        let smooth = |rate: u64| usize::try_from(rate / 16).unwrap_or(most).clamp(1 << 10, most);
        self.bytes_per_second.map_or(most, smooth)
    }

    /// The connections that are worth having: one per MiB/s at least.
    pub fn connections(&self, most: usize) -> usize {
        let worth = |rate: u64| usize::try_from(rate >> 20).unwrap_or(most);
        self.bytes_per_second.map_or(most, worth).clamp(1, most.max(1))
    }

    /// Waits as long as bytes that came are to be paid for.
    pub fn pay(&self, bytes: usize) {
        let wait = self.owed(bytes, Instant::now());
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
    }

    fn owed(&self, bytes: usize, now: Instant) -> Duration {
        let Some(rate) = self.bytes_per_second else { return Duration::ZERO };
        let mut paid = lock(&self.paid);
        let earliest = now.checked_sub(Duration::from_secs_f64(BURST)).unwrap_or(now);
        *paid = (*paid).max(earliest) + Duration::from_secs_f64(bytes as f64 / rate as f64);
        paid.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_cost_time() {
        let rate = Rate::new(Some(1000));
        let start = Instant::now() + Duration::from_secs(5);
        assert_eq!(rate.owed(250, start), Duration::ZERO);
        assert_eq!(rate.owed(500, start), Duration::from_millis(500));
        assert_eq!(rate.owed(1000, start + Duration::from_millis(500)), Duration::from_secs(1));
        // A long pause saves up no more than the burst.
        assert_eq!(rate.owed(1250, start + Duration::from_secs(100)), Duration::from_secs(1));
        assert_eq!(Rate::new(None).owed(usize::MAX, start), Duration::ZERO);
        assert_eq!((rate.connections(8), Rate::new(Some(3 << 20)).connections(8)), (1, 3));
        assert_eq!((rate.piece(1 << 20), Rate::new(None).piece(1 << 20)), (1 << 10, 1 << 20));
    }
}
