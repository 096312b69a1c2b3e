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
const WEIGHT_BYTES: u64 = 128 << 20;
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
/// Types that are measured in turn, all of them in memory meanwhile.
const GROUP: usize = 4;
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
    for group in types.chunks(GROUP) {
        kernels.extend(group_speeds(group, threads, &memory)?);
        progress(kernels.len(), parts);
    }
    let seconds_per_block = block(threads, &memory)?;
    progress(types.len() + 1, parts);
    let mut attention = Vec::with_capacity(CACHES.len());
    for kv in CACHES {
        attention.push(attend(kv, threads)?);
        progress(types.len() + 1 + attention.len(), parts);
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

/// Seconds of each of `count` steps, which are run in turn, over and over: what slows the machine down for a while hits all of them a little and
/// none wholly.
fn in_turn(
    count: usize,
    mut run: impl FnMut(usize) -> Result<f64, EngineError>,
) -> Result<Vec<f64>, EngineError> {
    let (begin, time) = (Instant::now(), TIME * count as u32);
    let mut seconds = vec![Vec::new(); count];
    let mut runs = 0;
    while runs < LEAST_RUNS || begin.elapsed() < time {
        for (nth, list) in seconds.iter_mut().enumerate() {
            list.push(run(nth)?);
        }
        runs += 1;
    }
    // The lower quartile: other programs only ever add to it.
    let quartile = |mut list: Vec<f64>| {
        list.sort_by(f64::total_cmp);
        list[list.len() / 4].max(1e-7)
    };
    Ok(seconds.into_iter().map(quartile).collect())
}

/// Seconds that a block costs beside its products: many blocks, small but together larger than a cache, take longer than as many bytes in one
/// block do. Barriers are in it, and what memory loses while it waits behind them.
fn block(threads: usize, memory: &Memory) -> Result<f64, EngineError> {
    let bench = |shape| Bench::new(&shape, USUAL, threads, limits(PAGE));
    let mut benches = [bench(SMALL)?, bench(Shape::of_bytes(USUAL))?];
    let seconds = in_turn(2, |nth| benches[nth].decode_from_memory(memory))?;
    let part = benches[0].bytes as f64 / benches[1].bytes as f64;
    Ok(((seconds[0] - seconds[1] * part) / SMALL.blocks as f64).max(1e-6))
}

/// Attention over a cache of one type: what steps of the same model take longer at a depth.
fn attend(kv: KvType, threads: usize) -> Result<AttentionSpeed, EngineError> {
    let limits = Limits { kv, ..limits(DEPTH + ROWS) };
    let mut bench = Bench::new(&ATTENTION, USUAL, threads, limits)?;
    for at in (0..DEPTH).step_by(ROWS) {
        bench.step(at, ROWS)?;
    }
    let steps = [(0, ROWS), (DEPTH, ROWS), (0, 1), (DEPTH, 1)];
    let seconds = in_turn(steps.len(), |nth| bench.step(steps[nth].0, steps[nth].1))?;
    let Shape { blocks, heads, kv_heads, .. } = ATTENTION;
    let row = (blocks * 4 * heads * HEAD * DEPTH) as f64;
    let busy = hob_machine::busy_part(kv_heads, threads);
    Ok(AttentionSpeed {
        cache: kv.name().to_owned(),
        row_operations_per_second: row / (seconds[3] - seconds[2]).max(1e-7) / busy,
        operations_per_second: row * ROWS as f64 / (seconds[1] - seconds[0]).max(1e-7),
    })
}

fn limits(context: usize) -> Limits {
    Limits::new(ROWS, context.div_ceil(PAGE))
}

/// Products with weights of these types: one row with many weights, and many rows with fewer.
fn group_speeds(
    types: &[GgmlType],
    threads: usize,
    memory: &Memory,
) -> Result<Vec<KernelSpeed>, EngineError> {
    let mut benches = Vec::with_capacity(2 * types.len());
    for &ty in types {
        benches.push(Bench::new(&Shape::of_bytes(ty), ty, threads, limits(PAGE))?);
        benches.push(Bench::new(&Shape::of_products(threads), ty, threads, limits(ROWS))?);
    }
    let seconds = in_turn(benches.len(), |nth| match nth % 2 {
        0 => benches[nth].decode_from_memory(memory),
        _ => benches[nth].step(0, ROWS),
    })?;
    let speed = |((&ty, benches), seconds): ((&GgmlType, &[Bench]), &[f64])| KernelSpeed {
        ty: ty.name().to_owned(),
        decode_bytes_per_second: benches[0].bytes as f64 / seconds[0],
        prefill_operations_per_second: (2 * benches[1].weights * ROWS as u64) as f64 / seconds[1],
    };
    Ok(types.iter().zip(benches.chunks_exact(2)).zip(seconds.chunks_exact(2)).map(speed).collect())
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
        memory.sweep(self.bytes);
        self.step(0, 1)
    }

    /// Seconds of a step of so many rows at this depth.
    fn step(&mut self, at: usize, rows: usize) -> Result<f64, EngineError> {
        let tokens: Vec<u32> = (0..rows).map(|i| (at + i) as u32 % VOCABULARY as u32).collect();
        self.batch.clear();
        let pages = &self.pages[..(at + rows).div_ceil(PAGE)];
        let place = Place { tables: &[pages], state: 0 };
        self.batch.push_at(&tokens, at as u32, &place, Output::Last)?;
        let start = Instant::now();
        self.runner.step(&self.batch)?;
        Ok(start.elapsed().as_secs_f64())
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
        let types = [GgmlType::Q4_0, GgmlType::Q8_0];
        let speeds = group_speeds(&types, 1, &Memory::new(1, 0)).unwrap();
        assert_eq!(speeds.iter().map(|s| s.ty.as_str()).collect::<Vec<_>>(), ["Q4_0", "Q8_0"]);
        for speed in speeds {
            for x in [speed.decode_bytes_per_second, speed.prefill_operations_per_second] {
                assert!(x.is_finite() && x > 0.0, "{speed:?}");
            }
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
