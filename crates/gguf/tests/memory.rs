//! Opening stays below the file's size plus 64 MB, whatever the file says: measured with a counting
//! allocator on sparse files of 40 GB that announce the worst, and on the largest files that are accepted.
#![cfg(unix)] // where a file of 40 GB without content takes no space
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::{Image, walk};
use hob_gguf::{Gguf, GgufError, TensorFault, limits};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passes everything on to the system's allocator; only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MB: usize = 1 << 20;
const HUGE: u64 = 40 << 30;

/// Opens a file that begins with `bytes` and is `len` long; returns the result and the peak of the heap.
fn open(bytes: &[u8], len: u64) -> (Result<Gguf, GgufError>, usize) {
    let path = tempfile::NamedTempFile::new().unwrap();
    let mut file = File::create(path.path()).unwrap();
    file.write_all(bytes).unwrap();
    file.set_len(len.max(bytes.len() as u64)).unwrap();
    drop(file);
    let (start, before) = (Instant::now(), LIVE.load(Relaxed));
    PEAK.store(before, Relaxed);
    let result = Gguf::open(path.path());
    if let Ok(file) = &result {
        walk(file);
    }
    let peak = PEAK.load(Relaxed) - before;
    assert!(start.elapsed() < Duration::from_secs(10), "took {:?}", start.elapsed());
    (result, peak)
}

fn refused(f: &Image, len: u64) -> GgufError {
    let (result, peak) = open(&f.bytes, len);
    assert!(peak < 64 * MB, "{peak} bytes");
    match result.unwrap_err() {
        GgufError::File { source, .. } => *source,
        e => e,
    }
}

/// One test, because the counters are the process's.
#[test]
fn memory_is_bounded() {
    for len in [40, HUGE] {
        absurd_counts(len);
    }
    long_headers();
    largest_directory();
    largest_metadata();
}

fn absurd_counts(len: u64) {
    for count in [1 << 16, 1 << 31, HUGE / 13, u64::MAX] {
        let mut f = Image::default();
        refused(f.preamble(3, 0, count), len);
        let mut f = Image::default();
        refused(f.preamble(3, count, 0), len);
    }
    for (ty, count) in [(8, HUGE / 8 - 100), (9, HUGE / 12 - 100), (0, HUGE - 100), (12, u64::MAX)]
    {
        let mut f = Image::default();
        refused(f.preamble(3, 0, 1).key("k", 9).array(ty, count), len);
    }
    for length in [1 << 31, HUGE - 100, u64::MAX] {
        let mut f = Image::default();
        refused(f.preamble(3, 0, 1).key("k", 8).u64("length", length), len);
        let mut f = Image::default();
        refused(f.preamble(3, 0, 1).u64("key length", length), len);
        let mut f = Image::default();
        refused(f.preamble(3, 1, 0).u64("name length", length), len);
    }
}

/// Headers that go on beyond the limit in a file that could hold them: refused as such, in bounded time.
fn long_headers() {
    let mut f = Image::default();
    let e = refused(f.preamble(3, 0, 1).key("k", 9).array(8, HUGE / 8 - 100), HUGE);
    assert!(matches!(e, GgufError::Limit { limit: limits::MAX_HEADER_BYTES, .. }), "{e:?}");
    // As many empty strings, and empty arrays, as the limit allows; the zeros that follow are two pairs of
    // the same empty key.
    for (ty, size) in [(8, 8), (9, 12)] {
        let most = limits::MAX_HEADER_BYTES / size - 100;
        let mut f = Image::default();
        let e = refused(f.preamble(3, 0, 3).key("k", 9).array(ty, most), HUGE);
        assert!(matches!(e, GgufError::DuplicateKey { .. }), "{e:?}");
    }
}

/// As many tensors as are accepted, with names as long as they may be.
fn largest_directory() {
    let directory = |step: u64| {
        let mut f = Image::default();
        f.preamble(3, limits::MAX_TENSORS, 0);
        for i in 0..limits::MAX_TENSORS {
            f.tensor(&format!("{i:0255}"), &[1, 1, 1, 8], 0, i * step);
        }
        f.pad(32);
        f
    };
    let f = directory(32);
    let size = f.bytes.len() as u64 + 32 * limits::MAX_TENSORS;
    let (result, peak) = open(&f.bytes, size);
    assert_eq!(result.unwrap().tensors().len() as u64, limits::MAX_TENSORS);
    assert!(peak < 64 * MB, "{peak} bytes");
    println!("{} tensors: {peak} bytes of heap", limits::MAX_TENSORS);
    // All at the same place: the check of overlaps stays quick.
    let e = refused(&directory(0), size);
    assert!(matches!(e, GgufError::Tensor { fault: TensorFault::Overlap(_), .. }));
}

/// As many pairs as are accepted, with long keys that differ only at their ends.
fn largest_metadata() {
    let mut f = Image::default();
    f.preamble(3, 0, limits::MAX_METADATA);
    for i in 0..limits::MAX_METADATA {
        f.key(&format!("{i:0500}"), 0).raw(&[1]);
    }
    let (result, peak) = open(&f.bytes, 0);
    assert_eq!(result.unwrap().meta().len() as u64, limits::MAX_METADATA);
    assert!(peak < 64 * MB, "{peak} bytes");
    println!("{} pairs: {peak} bytes of heap", limits::MAX_METADATA);
}
