//! A persistent thread pool: spin a little, then park. A region runs a function over numbered units that threads
//! claim one by one; which thread runs a unit never changes its result. One lock a region, for those who share the
//! pool; no allocation in it, no nesting, no work stealing, no futures.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Turns of the spin loop before a thread parks: some tens of microseconds, longer than the gap between regions.
const SPINS: u32 = 4000;

type Job = *const (dyn Fn(usize, usize) + Sync);

struct Shared {
    job: UnsafeCell<Option<Job>>,
    units: AtomicUsize,
    next: AtomicUsize,
    epoch: AtomicU32,
    running: AtomicUsize,
    parked: Vec<AtomicBool>,
    panicked: AtomicBool,
    stop: AtomicBool,
}

// SAFETY: `job` is written under the pool's lock, only while no worker runs a region (`running` is 0), and read by workers
// only after they saw the epoch that published it.
unsafe impl Sync for Shared {}
// SAFETY: as above; the job's closure is `Sync`.
unsafe impl Send for Shared {}

/// A handle on the pool: clones share its threads, one region after another. The calling thread is worker 0.
#[derive(Clone)]
pub struct Pool {
    workers: Arc<Mutex<Workers>>,
    threads: usize,
}

/// All but the caller.
struct Workers {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
}

impl Pool {
    /// A pool of `threads` workers, at least the caller.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let count = threads.max(1) - 1;
        let shared = Arc::new(Shared {
            job: UnsafeCell::new(None),
            units: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            epoch: AtomicU32::new(0),
            running: AtomicUsize::new(0),
            parked: (0..count).map(|_| AtomicBool::new(false)).collect(),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let mut workers = Workers { shared, handles: Vec::new() };
        for index in 0..count {
            let shared = workers.shared.clone();
            let name = format!("hob-cpu-{}", index + 1);
            let worker =
                std::thread::Builder::new().name(name).spawn(move || shared.work(index))?;
            workers.handles.push(worker);
        }
        Ok(Pool { workers: Arc::new(Mutex::new(workers)), threads: count + 1 })
    }

    /// Number of workers, the caller included.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `f(worker, unit)` for every unit in `0..units` and returns when all are done. A panic in any unit is
    /// raised here, after the others have finished.
    pub fn run(&mut self, units: usize, f: &(dyn Fn(usize, usize) + Sync)) {
        if units <= 1 || self.threads <= 1 {
            (0..units).for_each(|unit| f(0, unit));
            return;
        }
        // A panic that was raised below left the pool whole.
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*workers.shared;
        // SAFETY: the lock is held and no worker is in a region; the lifetime ends only after all workers have left it (below).
        unsafe {
            *shared.job.get() =
                Some(std::mem::transmute::<*const (dyn Fn(usize, usize) + Sync + '_), Job>(f))
        };
        shared.units.store(units, Ordering::Relaxed);
        shared.next.store(0, Ordering::Relaxed);
        shared.running.store(workers.handles.len(), Ordering::Relaxed);
        shared.epoch.fetch_add(1, Ordering::SeqCst);
        for (parked, handle) in shared.parked.iter().zip(&workers.handles) {
            if parked.load(Ordering::SeqCst) {
                handle.thread().unpark();
            }
        }
        shared.claim(0, f);
        let mut spins = 0;
        while shared.running.load(Ordering::Acquire) != 0 {
            spins += 1;
            if spins > SPINS {
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
        if shared.panicked.swap(false, Ordering::Relaxed) {
            panic!("a kernel panicked; see the message above");
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        self.handles.iter().for_each(|handle| handle.thread().unpark());
        for worker in self.handles.drain(..) {
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// Claims units until none is left; a panic is remembered and ends this worker's share.
    fn claim(&self, worker: usize, f: &(dyn Fn(usize, usize) + Sync)) {
        let units = self.units.load(Ordering::Relaxed);
        let share = || {
            loop {
                let unit = self.next.fetch_add(1, Ordering::Relaxed);
                if unit >= units {
                    return;
                }
                f(worker, unit);
            }
        };
        if catch_unwind(AssertUnwindSafe(share)).is_err() {
            self.panicked.store(true, Ordering::Relaxed);
        }
    }

    fn work(&self, index: usize) {
        let mut seen = 0;
        loop {
            seen = self.wait(index, seen);
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            // SAFETY: published before the epoch; alive until `running` drops to 0.
            if let Some(job) = unsafe { *self.job.get() } {
                // SAFETY: as above.
                self.claim(index + 1, unsafe { &*job });
            }
            self.running.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits for an epoch other than `seen`.
    fn wait(&self, index: usize, seen: u32) -> u32 {
        for _ in 0..SPINS {
            let epoch = self.epoch.load(Ordering::Acquire);
            if epoch != seen {
                return epoch;
            }
            std::hint::spin_loop();
        }
        self.parked[index].store(true, Ordering::SeqCst);
        let epoch = loop {
            let epoch = self.epoch.load(Ordering::SeqCst);
            if epoch != seen {
                break epoch;
            }
            std::thread::park();
        };
        self.parked[index].store(false, Ordering::SeqCst);
        epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_runs_once() {
        let mut pool = Pool::new(3).unwrap();
        for units in [0, 1, 2, 7, 1000] {
            for _ in 0..50 {
                let hits: Vec<AtomicU32> = (0..units).map(|_| AtomicU32::new(0)).collect();
                pool.run(units, &|worker, unit| {
                    assert!(worker < 3);
                    hits[unit].fetch_add(1, Ordering::Relaxed);
                });
                assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1));
            }
            std::thread::sleep(std::time::Duration::from_millis(2)); // let workers park
        }
    }

    #[test]
    fn who_shares_a_pool_waits_for_the_others() {
        let pool = Pool::new(3).unwrap();
        let (inside, ran) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let mut pool = pool.clone();
                let (inside, ran) = (&inside, &ran);
                scope.spawn(move || {
                    for region in 0..50 {
                        pool.run(8, &|_, _| {
                            inside.fetch_add(1, Ordering::SeqCst);
                            ran.fetch_add(1, Ordering::SeqCst);
                            assert!(inside.load(Ordering::SeqCst) <= 3, "{region}");
                            inside.fetch_sub(1, Ordering::SeqCst);
                        });
                    }
                });
            }
        });
        assert_eq!(ran.into_inner(), 4 * 50 * 8);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_survives() {
        let mut pool = Pool::new(2).unwrap();
        for _ in 0..3 {
            let run = || pool.run(64, &|_, unit| assert!(unit != 40, "on purpose"));
            assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        }
        let count = AtomicU32::new(0);
        pool.run(10, &|_, _| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 10);
    }
}
