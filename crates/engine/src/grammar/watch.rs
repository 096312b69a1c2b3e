//! Deadlines for work whose cost llguidance's own limits do not count: one thread ends what is overdue. Time is counted in this thread's
//! ticks, so that a process that was stopped for a while ends nothing. Absent: ending work that cannot be cancelled.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use llguidance::CancellationHandle;

/// How precise deadlines are.
const TICK: Duration = Duration::from_millis(20);

static WATCH: Watch = Watch {
    watched: Mutex::new(Watched { next: 0, entries: Vec::new(), thread: Thread::None }),
    woken: Condvar::new(),
};

struct Watch {
    watched: Mutex<Watched>,
    /// The thread is to look again.
    woken: Condvar,
}

struct Watched {
    next: u64,
    entries: Vec<Entry>,
    thread: Thread,
}

struct Entry {
    id: u64,
    ticks: u32,
    handle: CancellationHandle,
}

#[derive(Clone, Copy, PartialEq)]
enum Thread {
    None,
    /// Looks at each tick.
    Ticks,
    /// Waits for something to watch.
    Sleeps,
}

/// Does some work; after a time, one tick more at most, its handle is cancelled.
pub(super) fn within<T>(
    time: Duration,
    handle: &CancellationHandle,
    work: impl FnOnce() -> T,
) -> T {
    let ticks = time.as_millis().div_ceil(TICK.as_millis()) as u32 + 1;
    let _watched = WATCH.add(ticks, handle.clone());
    work()
}

/// Ends the watching of an entry when dropped, after panics too.
struct Guard(u64);

impl Drop for Guard {
    fn drop(&mut self) {
        WATCH.lock().entries.retain(|entry| entry.id != self.0);
    }
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&'static self, ticks: u32, handle: CancellationHandle) -> Guard {
        let mut watched = self.lock();
        let id = watched.next;
        watched.next += 1;
        watched.entries.push(Entry { id, ticks, handle });
        match watched.thread {
            Thread::Ticks => {}
            Thread::Sleeps => self.woken.notify_one(),
            // Without a thread for now, nothing is ended: the next one tries again.
            Thread::None => {
                let made = std::thread::Builder::new().spawn(|| self.run());
                watched.thread = if made.is_ok() { Thread::Ticks } else { Thread::None };
            }
        }
        Guard(id)
    }

    fn run(&self) {
        let mut seen = 0;
        loop {
            std::thread::sleep(TICK);
            let mut watched = self.lock();
            // Work comes and goes between ticks: it sleeps when none came.
            if watched.entries.is_empty() && watched.next == seen {
                watched.thread = Thread::Sleeps;
                let idle = |watched: &mut Watched| watched.entries.is_empty();
                let woken = self.woken.wait_while(watched, idle);
                watched = woken.unwrap_or_else(PoisonError::into_inner);
                watched.thread = Thread::Ticks;
            }
            seen = watched.next;
            watched.tick();
        }
    }
}

impl Watched {
    fn tick(&mut self) {
        for entry in &mut self.entries {
            entry.ticks = entry.ticks.saturating_sub(1);
            if entry.ticks == 0 {
                entry.handle.cancel();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_too_long_is_cancelled_and_nothing_else() {
        let (slow, fast) = (CancellationHandle::default(), CancellationHandle::default());
        within(Duration::from_secs(3600), &fast, || {
            within(Duration::from_millis(1), &slow, || {
                while !slow.is_cancelled() {
                    std::thread::yield_now();
                }
            });
        });
        assert!(!fast.is_cancelled());
        let later = CancellationHandle::default();
        within(Duration::from_secs(3600), &later, || ());
        // Nothing else is given as long.
        assert!(WATCH.lock().entries.iter().all(|entry| entry.ticks < 100_000));
        assert!(!later.is_cancelled());
        // It wakes up again.
        within(Duration::ZERO, &later, || {
            while !later.is_cancelled() {
                std::thread::yield_now();
            }
        });
    }
}
