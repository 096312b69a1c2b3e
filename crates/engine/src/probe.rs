//! The speed probe: how fast this machine reads memory and how fast hob's own kernels are on it, measured in some seconds with the forward pass that
//! answers run, on models made up here (a block or a few, one type of weights, no file). What the figures mean for a real model is arithmetic of
//! `plan`. Deliberately absent: disks, GPUs, and keeping the result.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hob_gguf::{Gguf, MetaBuilder, Writer};
use hob_machine::{AttentionSpeed, KernelSpeed, Probe};
use hob_model::{Batch, Header, KvType, Limits, Model, Output, PAGE, Place};
use hob_quant::{GgmlType, encode::encode_row};

use crate::{EngineError, LoadOptions, Runner};

/// Bytes that the reading test goes through at least, and at most where caches are larger.
const READ_BYTES: usize = 256 << 20;
const MOST_READ_BYTES: usize = 2 << 30;
/// Bytes of the weights that one row is multiplied with: where caches could hold half of them, these are swept before each run.
const WEIGHT_BYTES: u64 = 160 << 20;
/// Most weights for that: types of few bits compute long before they read much.
const MOST_WEIGHTS: u64 = 256 << 20;
/// Rows of a measured step of prefill.
const ROWS: usize = 128;
/// Depth at which attention is measured, in tokens.
const DEPTH: usize = 1024;
/// Caches over which attention is measured: those that can be asked for.
const CACHES: [KvType; 2] = [KvType::F16, KvType::Q8_0];
/// Time that one measurement takes, and how often it runs at least.
const TIME: Duration = Duration::from_millis(40);
const LEAST_RUNS: usize = 5;
/// Weights whose encoded form fills a matrix over and over: the speed of products does not depend on values.
const PATTERN: usize = 4096;
const VOCABULARY: usize = 256;

/// Measures with so many threads on a processor whose caches together hold `cache_bytes`. `progress` hears how many of how many parts are done.
///
/// # Errors
/// When memory or threads are not there.
pub fn take(
    fingerprint: String,
    threads: usize,
    cache_bytes: u64,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Probe, EngineError> {
    let types: Vec<GgmlType> = GgmlType::ALL.iter().copied().filter(|&ty| is_weights(ty)).collect();
    let parts = types.len() + 1 + CACHES.len();
    progress(0, parts);
    let memory = Memory::new(threads, cache_bytes);
    let read_bytes_per_second = memory.bytes_per_second();
    let mut kernels = Vec::with_capacity(types.len());
    for (done, ty) in types.into_iter().enumerate() {
        progress(done + 1, parts);
        kernels.push(kernel(ty, threads, &memory)?);
    }
    progress(parts - CACHES.len(), parts);
    let seconds_per_block = block(threads, &memory)?;
    let mut attention = Vec::with_capacity(CACHES.len());
    for (left, kv) in (0..CACHES.len()).rev().zip(CACHES) {
        attention.push(attend(kv, threads)?);
        progress(parts - left, parts);
    }
    let taken = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
    Ok(Probe {
        fingerprint,
        taken,
        threads,
        read_bytes_per_second,
        kernels,
        seconds_per_block,
        attention,
    })
}

/// Whether recipes put matrices into this type; those have an encoder, integers aside.
fn is_weights(ty: GgmlType) -> bool {
    let integer =
        matches!(ty, GgmlType::I8 | GgmlType::I16 | GgmlType::I32 | GgmlType::I64 | GgmlType::F64);
    !integer && pattern(ty).is_some()
}

/// More bytes than the caches hold, to be read: how fast that is, and to have nothing else left in the caches.
struct Memory {
    data: Vec<u64>,
    threads: usize,
    cache_bytes: u64,
}

impl Memory {
    fn new(threads: usize, cache_bytes: u64) -> Memory {
        let twice = usize::try_from(cache_bytes.saturating_mul(2)).unwrap_or(MOST_READ_BYTES);
        let bytes = twice.clamp(READ_BYTES, MOST_READ_BYTES);
        Memory { data: vec![1; bytes / size_of::<u64>()], threads: threads.max(1), cache_bytes }
    }

    /// What all threads together read. The best of several passes: the first one pays for the pages, others for neighbours.
    fn bytes_per_second(&self) -> f64 {
        let timed = |_| {
            let start = Instant::now();
            self.pass();
            start.elapsed().as_secs_f64()
        };
        let best = (0..5).map(timed).fold(f64::INFINITY, f64::min);
        size_of_val(self.data.as_slice()) as f64 / best.max(f64::MIN_POSITIVE)
    }

    fn pass(&self) {
        std::thread::scope(|scope| {
            for part in self.data.chunks(self.data.len().div_ceil(self.threads)) {
                // Eight sums, so that additions do not wait for each other.
                scope.spawn(|| {
                    let mut sums = [0u64; 8];
                    for eight in part.chunks_exact(8) {
                        sums.iter_mut().zip(eight).for_each(|(sum, x)| *sum = sum.wrapping_add(*x));
                    }
                    std::hint::black_box(sums)
                });
            }
        });
    }

    /// Leaves nothing of a model of this size in caches that could hold a good part of it.
    fn sweep(&self, bytes: u64) {
        if bytes < self.cache_bytes.saturating_mul(2) {
            self.pass();
        }
    }
}

/// Seconds that a block costs beside its products: many blocks, small but together larger than a cache, take longer than as many bytes in one
/// block do. Barriers are in it, and what memory loses while it waits behind them.
fn block(threads: usize, memory: &Memory) -> Result<f64, EngineError> {
    let mut bench = Bench::new(&SMALL, USUAL, threads, limits(PAGE))?;
    let (seconds, bytes) = (bench.decode_from_memory(memory)?, bench.bytes as f64);
    drop(bench);
    let mut large = Bench::new(&Shape::of_bytes(USUAL), USUAL, threads, limits(PAGE))?;
    let products = large.decode_from_memory(memory)? * bytes / large.bytes as f64;
    Ok(((seconds - products) / SMALL.blocks as f64).max(1e-6))
}

/// Attention over a cache of one type: what steps of the same model take longer at a depth.
fn attend(kv: KvType, threads: usize) -> Result<AttentionSpeed, EngineError> {
    let limits = Limits { kv, ..limits(DEPTH + ROWS) };
    let mut bench = Bench::new(&ATTENTION, USUAL, threads, limits)?;
    let (first, shallow) = (bench.prefill(0)?, bench.decode(0)?);
    for at in (ROWS..DEPTH).step_by(ROWS) {
        bench.step(at, ROWS)?;
    }
    let (last, deep) = (bench.prefill(DEPTH)?, bench.decode(DEPTH)?);
    let Shape { blocks, heads, kv_heads, .. } = ATTENTION;
    let row = (blocks * 4 * heads * HEAD * DEPTH) as f64;
    let busy = hob_machine::busy_part(kv_heads, threads);
    Ok(AttentionSpeed {
        cache: kv.name().to_owned(),
        row_operations_per_second: row / (deep - shallow).max(1e-7) / busy,
        operations_per_second: row * ROWS as f64 / (last - first).max(1e-7),
    })
}

fn limits(context: usize) -> Limits {
    Limits::new(ROWS, context.div_ceil(PAGE))
}

/// Products with weights of one type.
fn kernel(ty: GgmlType, threads: usize, memory: &Memory) -> Result<KernelSpeed, EngineError> {
    let mut large = Bench::new(&Shape::of_bytes(ty), ty, threads, limits(PAGE))?;
    let decode = large.decode_from_memory(memory)?.max(1e-7);
    let bytes = large.bytes as f64;
    drop(large);
    let mut small = Bench::new(&Shape::of_products(threads), ty, threads, limits(ROWS))?;
    let prefill = small.prefill(0)?;
    let operations = (2 * small.weights * ROWS as u64) as f64;
    Ok(KernelSpeed {
        ty: ty.name().to_owned(),
        decode_bytes_per_second: bytes / decode,
        prefill_operations_per_second: operations / prefill.max(1e-7),
    })
}

/// A made-up model: of Llama's kind.
#[derive(Clone, Copy)]
struct Shape {
    blocks: usize,
    width: usize,
    heads: usize,
    kv_heads: usize,
    ffn: usize,
}

/// The type that is measured where it does not matter.
const USUAL: GgmlType = GgmlType::Q8_0;
/// Width of a head.
const HEAD: usize = 64;
/// Of usual width, to be multiplied with.
const PRODUCTS: Shape = Shape { blocks: 1, width: 1024, heads: 16, kv_heads: 8, ffn: 4096 };
/// The same for many threads: a narrow block is not enough for them, and who has so many runs wider models.
const WIDE: Shape = Shape { blocks: 1, width: 2048, heads: 32, kv_heads: 8, ffn: 8192 };
const MANY_THREADS: usize = 8;
/// Blocks without much in them, 107 MB together.
const SMALL: Shape = Shape { blocks: 256, width: 256, heads: 4, kv_heads: 2, ffn: 256 };
/// Much attention, and few weights: four query heads share keys, as in most models.
const ATTENTION: Shape = Shape { blocks: 3, width: 256, heads: 32, kv_heads: 8, ffn: 256 };

impl Shape {
    fn of_products(threads: usize) -> Shape {
        if threads < MANY_THREADS { PRODUCTS } else { WIDE }
    }

    /// One block with weights of so many bytes that no cache holds them.
    fn of_bytes(ty: GgmlType) -> Shape {
        let weights = WEIGHT_BYTES / ty.block_bytes() as u64 * ty.block_len() as u64;
        let ffn = weights.min(MOST_WEIGHTS) as usize / (3 * PRODUCTS.width);
        Shape { ffn: ffn.next_multiple_of(256), ..PRODUCTS }
    }

    fn meta(&self) -> MetaBuilder {
        let tokens: Vec<String> = (0..VOCABULARY).map(|id| format!("t{id}")).collect();
        MetaBuilder::new()
            .set("general.architecture", "llama")
            .set("llama.block_count", self.blocks as u32)
            .set("llama.embedding_length", self.width as u32)
            .set("llama.feed_forward_length", self.ffn as u32)
            .set("llama.context_length", (DEPTH + ROWS) as u32)
            .set("llama.attention.head_count", self.heads as u32)
            .set("llama.attention.head_count_kv", self.kv_heads as u32)
            .set("llama.attention.key_length", HEAD as u32)
            .set("llama.attention.value_length", HEAD as u32)
            .set("llama.rope.dimension_count", HEAD as u32)
            .set("llama.attention.layer_norm_rms_epsilon", 1e-5f32)
            .set("tokenizer.ggml.tokens", tokens)
    }

    /// The file, with every matrix of a block in this type; the embedding is small and stays F32.
    fn gguf(&self, ty: GgmlType, threads: usize) -> Result<Gguf, EngineError> {
        let unmade = |what: &dyn std::fmt::Display| EngineError::Probe(what.to_string());
        let meta = self.meta();
        let built = meta.build().map_err(|e| unmade(&e))?;
        let model = hob_model::arch::describe(&Header::new(&built, std::iter::empty())?)?;
        let mut writer = Writer::with_meta(meta);
        for weight in &model.weights {
            let block = weight.is_matrix() && weight.name.starts_with("blk.");
            let ty = if block { ty } else { GgmlType::F32 };
            writer.add_tensor(&weight.name, ty, &weight.shape).map_err(|e| unmade(&e))?;
        }
        let patterns = [ty, GgmlType::F32].map(|ty| (ty, pattern(ty).unwrap_or_default()));
        let filled = writer.into_memory(|info, data| {
            let pattern = patterns.iter().find(|(ty, _)| *ty == info.ty);
            pattern.iter().for_each(|(_, pattern)| fill(data, pattern, threads));
        });
        filled.map_err(|e| unmade(&e))
    }
}

/// Repeats a pattern, by several threads, as most of the time goes into pages that are touched for the first time.
fn fill(data: &mut [u8], pattern: &[u8], threads: usize) {
    if pattern.is_empty() || data.is_empty() {
        return;
    }
    let part = data.len().div_ceil(threads.max(1)).next_multiple_of(pattern.len());
    std::thread::scope(|scope| {
        for part in data.chunks_mut(part) {
            scope.spawn(|| {
                part.chunks_mut(pattern.len())
                    .for_each(|place| place.copy_from_slice(&pattern[..place.len()]));
            });
        }
    });
}

/// Some encoded weights of a type; none for types without an encoder.
fn pattern(ty: GgmlType) -> Option<Vec<u8>> {
    let mut random = 0x9e37_79b9u32;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        (random as f32 / u32::MAX as f32 - 0.5) * 0.05
    };
    let weights: Vec<f32> = (0..PATTERN).map(|_| next()).collect();
    let mut bytes = vec![0; ty.row_bytes(PATTERN as u64)? as usize];
    encode_row(ty, &weights, None, &mut bytes).ok()?;
    Some(bytes)
}

/// A made-up model that is stepped.
struct Bench {
    runner: Runner,
    batch: Batch,
    pages: Vec<u32>,
    /// Bytes and number of the weights in blocks, which every row meets.
    bytes: u64,
    weights: u64,
}

impl Bench {
    fn new(
        shape: &Shape,
        ty: GgmlType,
        threads: usize,
        limits: Limits,
    ) -> Result<Bench, EngineError> {
        let gguf = shape.gguf(ty, threads)?;
        let in_blocks = |model: &Model| -> u64 {
            let weights = model.weights.iter();
            let matrices = weights.filter(|w| w.is_matrix() && w.name.starts_with("blk."));
            matrices.map(|w| w.shape.iter().product::<u64>()).sum()
        };
        let runner = Runner::load(Arc::new(gguf), &LoadOptions { threads, limits })?;
        let weights = in_blocks(runner.model());
        Ok(Bench {
            batch: Batch::new(),
            pages: (0..limits.pages as u32).collect(),
            bytes: ty.row_bytes(weights).unwrap_or(0),
            weights,
            runner,
        })
    }

    /// Seconds of a step of one row at the start, its weights read from memory.
    fn decode_from_memory(&mut self, memory: &Memory) -> Result<f64, EngineError> {
        let bytes = self.bytes;
        self.timed(0, 1, &|| memory.sweep(bytes))
    }

    /// Seconds of a step of one row at this depth.
    fn decode(&mut self, depth: usize) -> Result<f64, EngineError> {
        self.step(depth, 1)?;
        self.timed(depth, 1, &|| ())
    }

    /// Seconds of a step of many rows at this depth.
    fn prefill(&mut self, depth: usize) -> Result<f64, EngineError> {
        self.timed(depth, ROWS, &|| ())
    }

    /// A step over and over, each time after `before`, which does not count.
    fn timed(&mut self, depth: usize, rows: usize, before: &dyn Fn()) -> Result<f64, EngineError> {
        let begin = Instant::now();
        let mut seconds = Vec::new();
        while seconds.len() < LEAST_RUNS || begin.elapsed() < TIME {
            before();
            let start = Instant::now();
            self.step(depth, rows)?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        // The lower quartile: other programs only ever add to it.
        Ok(seconds[seconds.len() / 4])
    }

    fn step(&mut self, at: usize, rows: usize) -> Result<(), EngineError> {
        let tokens: Vec<u32> = (0..rows).map(|i| (at + i) as u32 % VOCABULARY as u32).collect();
        self.batch.clear();
        let pages = &self.pages[..(at + rows).div_ceil(PAGE)];
        let place = Place { tables: &[pages], state: 0 };
        self.batch.push_at(&tokens, at as u32, &place, Output::Last)?;
        self.runner.step(&self.batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_that_recipes_use_is_probed() {
        for ty in [GgmlType::F16, GgmlType::BF16, GgmlType::Q4_K, GgmlType::IQ1_S, GgmlType::MXFP4]
        {
            assert!(is_weights(ty), "{ty}");
        }
        assert!(!is_weights(GgmlType::I32));
    }

    #[test]
    fn kernels_have_speeds() {
        let speed = kernel(GgmlType::Q4_0, 1, &Memory::new(1, 0)).unwrap();
        assert_eq!(speed.ty, "Q4_0");
        for x in [speed.decode_bytes_per_second, speed.prefill_operations_per_second] {
            assert!(x.is_finite() && x > 0.0, "{speed:?}");
        }
    }

    #[test]
    fn what_does_not_depend_on_weights_has_speeds() {
        let mut speeds = vec![block(2, &Memory::new(2, 0)).unwrap()];
        for kv in CACHES {
            let attention = attend(kv, 2).unwrap();
            assert_eq!(attention.cache, kv.name());
            speeds.extend([attention.row_operations_per_second, attention.operations_per_second]);
        }
        assert!(speeds.iter().all(|x| x.is_finite() && *x > 0.0), "{speeds:?}");
    }
}
