//! The speed probe: how fast this machine reads memory and how fast hob's own kernels are on it, measured in some seconds with the forward pass that
//! answers run, on models made up here (a block or a few, one type of weights, no file). What the figures mean for a real model is arithmetic of
//! `plan`. Deliberately absent: disks, GPUs, and keeping the result.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hob_cpu::{CpuError, CpuOps, IsaKind, Pool};
use hob_gguf::{Gguf, MetaBuilder, Writer};
use hob_machine::{AttentionSpeed, KernelSpeed, Probe};
use hob_model::{Batch, Header, KvType, Limits, Model, Output, PAGE, Place};
use hob_quant::{GgmlType, encode::encode_row};

use crate::{EngineError, Runner};

/// Bytes that the reading test goes through at least, and at most where caches are larger.
const READ_BYTES: usize = 256 << 20;
const MOST_READ_BYTES: usize = 2 << 30;
/// Rows of a measured step of prefill.
const ROWS: usize = 256;
/// Depth at which attention is measured, in tokens.
const DEPTH: usize = 1024;
/// Caches over which attention is measured: those that can be asked for.
const CACHES: [KvType; 2] = [KvType::F16, KvType::Q8_0];
/// Time for the steps of all models together, and how often many rows are stepped at least.
const TIME: Duration = Duration::from_secs(5);
const LEAST_RUNS: usize = 4;
/// Steps of one row for each of many rows, which take longer.
const ONES: usize = 6;
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
    let others = GgmlType::ALL.iter().copied().filter(|&ty| is_weights(ty) && ty != USUAL);
    let types: Vec<GgmlType> = std::iter::once(USUAL).chain(others).collect();
    let mut specs: Vec<Spec> = types.iter().flat_map(|&ty| Spec::of_type(ty, threads)).collect();
    specs.extend(CACHES.iter().flat_map(|&kv| Spec::of_attention(kv)));
    // Models are made, which takes less time, then stepped.
    let parts = 3 * specs.len();
    progress(0, parts);
    let pool = Pool::new(threads).map_err(CpuError::from)?;
    let mut memory = Memory::new(&pool, cache_bytes);
    let read_bytes_per_second = memory.bytes_per_second();
    let measured = measure(&specs, &pool, TIME, &mut memory, &mut |done| progress(done, parts))?;

    let (of_types, of_caches) = measured.split_at(2 * types.len());
    let seconds_per_activation = activation(&of_types[0], &of_types[1]);
    let kernel = |(&ty, pair): (&GgmlType, &[Measured])| {
        kernel_speed(ty, &pair[0], &pair[1], seconds_per_activation)
    };
    let kernels = types.iter().zip(of_types.chunks_exact(2)).map(kernel).collect();
    let attention =
        |(&kv, pair): (&KvType, &[Measured])| attention_speed(kv, threads, &pair[0], &pair[1]);
    let attention = CACHES.iter().zip(of_caches.chunks_exact(2)).map(attention).collect();
    let taken = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
    Ok(Probe {
        fingerprint,
        taken,
        threads,
        read_bytes_per_second,
        kernels,
        seconds_per_activation,
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
    pool: Pool,
    cache_bytes: u64,
}

impl Memory {
    fn new(pool: &Pool, cache_bytes: u64) -> Memory {
        let twice = usize::try_from(cache_bytes.saturating_mul(2)).unwrap_or(MOST_READ_BYTES);
        let bytes = twice.clamp(READ_BYTES, MOST_READ_BYTES);
        Memory { data: vec![1; bytes / size_of::<u64>()], pool: pool.clone(), cache_bytes }
    }

    /// What all threads together read. The best of several passes: the first one pays for the pages, others for neighbours.
    fn bytes_per_second(&mut self) -> f64 {
        let timed = |_| {
            let start = Instant::now();
            self.pass();
            start.elapsed().as_secs_f64()
        };
        let best = (0..5).map(timed).fold(f64::INFINITY, f64::min);
        size_of_val(self.data.as_slice()) as f64 / best.max(f64::MIN_POSITIVE)
    }

    fn pass(&mut self) {
        let (data, threads) = (&self.data, self.pool.threads());
        let part = data.len().div_ceil(threads);
        self.pool.run(threads, &|_, unit| {
            // Eight sums, so that additions do not wait for each other.
            let mut sums = [0u64; 8];
            for eight in data.chunks(part).nth(unit).unwrap_or_default().chunks_exact(8) {
                sums.iter_mut().zip(eight).for_each(|(sum, x)| *sum = sum.wrapping_add(*x));
            }
            std::hint::black_box(sums);
        });
    }

    /// Leaves nothing of a model of this size in caches that could hold a good part of it.
    fn sweep(&mut self, bytes: u64) {
        if bytes < self.cache_bytes.saturating_mul(2) {
            self.pass();
        }
    }
}

/// A made-up model.
#[derive(Clone, Copy)]
struct Spec {
    ty: GgmlType,
    shape: Shape,
    kv: KvType,
    /// The tokens that are there already.
    depth: usize,
    /// Whether it is stepped with many rows too.
    many: bool,
}

impl Spec {
    /// Weights of a type in a large block and in small ones, of whose time less is products.
    fn of_type(ty: GgmlType, threads: usize) -> [Spec; 2] {
        let large = if threads < MANY_THREADS { NARROW } else { WIDE };
        let spec = Spec { ty, shape: large, kv: KvType::F16, depth: 0, many: true };
        [spec, Spec { shape: SMALL, many: ty == USUAL, ..spec }]
    }

    /// A cache of a type, at the start and at a depth.
    fn of_attention(kv: KvType) -> [Spec; 2] {
        let spec = Spec { ty: USUAL, shape: ATTENTION, kv, depth: 0, many: true };
        [spec, Spec { depth: DEPTH, ..spec }]
    }
}

/// A model that was measured.
#[derive(Clone, Copy)]
struct Measured {
    size: Size,
    /// Seconds of a step of one row.
    one: f64,
    /// Seconds of a step of many rows; 0 where there was none.
    many: f64,
}

/// Steps models in turn, over and over, for so long: what slows the machine down for a while hits all of them a little and none wholly. Of
/// each the middle run counts. Each finds its weights in memory, as others went through the caches meanwhile. `heard` hears of each model once
/// when it is made, and twice when it was stepped for long enough.
fn measure(
    specs: &[Spec],
    pool: &Pool,
    time: Duration,
    memory: &mut Memory,
    heard: &mut dyn FnMut(usize),
) -> Result<Vec<Measured>, EngineError> {
    let mut benches = Vec::with_capacity(specs.len());
    for spec in specs {
        benches.push(Bench::new(spec, pool)?);
        heard(benches.len());
    }
    let (begin, models) = (Instant::now(), benches.len());
    for run in 1.. {
        step_all(&mut benches, memory)?;
        let part = (run as f64 / LEAST_RUNS as f64).min(begin.elapsed().div_duration_f64(time));
        heard(models + (2.0 * models as f64 * part.min(1.0)) as usize);
        if part >= 1.0 {
            break;
        }
    }
    Ok(benches.into_iter().map(Bench::measured).collect())
}

/// One row of each model, several times, then many rows.
fn step_all(benches: &mut [Bench], memory: &mut Memory) -> Result<(), EngineError> {
    let bytes = benches.iter().map(|bench| bench.size.bytes).sum();
    // Whoever is first finds the threads awake, as all others do.
    memory.pass();
    for _ in 0..ONES {
        for bench in benches.iter_mut() {
            memory.sweep(bytes);
            let taken = bench.step(bench.spec.depth, 1)?;
            bench.one.push(taken);
        }
    }
    for bench in benches.iter_mut().filter(|bench| bench.spec.many) {
        let taken = bench.step(bench.spec.depth, ROWS)?;
        bench.many.push(taken);
    }
    Ok(())
}

/// The middle one, or of two the lesser: the first finds buffers that were never touched.
fn median(mut list: Vec<f64>) -> f64 {
    list.sort_by(f64::total_cmp);
    list.get(list.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

/// What a block costs beside its weights, in seconds: time is proportional to weights, plus proportional to blocks.
fn block(large: &Measured, small: &Measured) -> f64 {
    let blocks = [large, small].map(|m| m.size.blocks as f64);
    second_cost([large, small].map(|m| m.one), [large.size, small.size], blocks).max(1e-6)
}

/// What a row among many costs for each number that goes into a product or comes out of one, in seconds.
fn activation(large: &Measured, small: &Measured) -> f64 {
    let block = block(large, small);
    let seconds = [large, small].map(|m| m.many - m.size.blocks as f64 * block);
    let activations = [large, small].map(|m| (m.size.activations * ROWS as u64) as f64);
    second_cost(seconds, [large.size, small.size], activations).max(1e-12)
}

/// Solves `seconds = weights * first + count * second` of two sizes for the second.
fn second_cost([t, u]: [f64; 2], sizes: [Size; 2], [m, n]: [f64; 2]) -> f64 {
    let [v, w] = sizes.map(|size| size.weights as f64);
    (t * w - u * v) / (m * w - n * v)
}

/// Products with weights of a type: what blocks and activations leave of the time, which is most of it.
fn kernel_speed(ty: GgmlType, large: &Measured, small: &Measured, activation: f64) -> KernelSpeed {
    let seconds_per_block = block(large, small);
    let blocks = large.size.blocks as f64 * seconds_per_block;
    let one = (large.one - blocks).max(large.one / 2.0);
    let activations = (large.size.activations * ROWS as u64) as f64 * activation;
    let many = (large.many - blocks - activations).max(large.many / 2.0);
    KernelSpeed {
        ty: ty.name().to_owned(),
        decode_bytes_per_second: large.size.bytes as f64 / one,
        seconds_per_block,
        prefill_operations_per_second: (2 * large.size.weights * ROWS as u64) as f64 / many,
    }
}

/// Attention, from what steps of the same model take longer at a depth.
fn attention_speed(
    kv: KvType,
    threads: usize,
    start: &Measured,
    depth: &Measured,
) -> AttentionSpeed {
    let row = (depth.size.blocks * 4 * ATTENTION.heads * HEAD * DEPTH) as f64;
    let busy = hob_machine::busy_part(ATTENTION.kv_heads, threads);
    AttentionSpeed {
        cache: kv.name().to_owned(),
        row_operations_per_second: row / (depth.one - start.one).max(1e-7) / busy,
        operations_per_second: row * ROWS as f64 / (depth.many - start.many).max(1e-7),
    }
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
/// Of usual width, to be multiplied with; and wider, where so many threads have too little to do with it.
const NARROW: Shape = Shape { blocks: 1, width: 1024, heads: 16, kv_heads: 8, ffn: 4096 };
const WIDE: Shape = Shape { blocks: 1, width: 2048, heads: 32, kv_heads: 8, ffn: 8192 };
const MANY_THREADS: usize = 8;
/// Blocks as small as those of the smallest models.
const SMALL: Shape = Shape { blocks: 4, width: 512, heads: 8, kv_heads: 4, ffn: 1536 };
/// Much attention, and few weights: four query heads share keys, as in most models.
const ATTENTION: Shape = Shape { blocks: 1, width: 256, heads: 32, kv_heads: 8, ffn: 256 };

impl Shape {
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

/// What every row meets in a model's blocks.
#[derive(Clone, Copy, Debug)]
struct Size {
    blocks: usize,
    /// Of matrices.
    weights: u64,
    bytes: u64,
    /// Numbers that go into products and come out of them.
    activations: u64,
}

impl Size {
    fn of(model: &Model, ty: GgmlType) -> Size {
        let mut size = Size { blocks: model.blocks.len(), weights: 0, bytes: 0, activations: 0 };
        for weight in &model.weights {
            if weight.is_matrix() && weight.name.starts_with("blk.") {
                size.weights += weight.shape.iter().product::<u64>();
                size.activations += weight.shape.iter().sum::<u64>();
            }
        }
        Size { bytes: ty.row_bytes(size.weights).unwrap_or(0), ..size }
    }
}

/// A made-up model that is stepped, and the seconds that its steps took.
struct Bench {
    spec: Spec,
    runner: Runner,
    batch: Batch,
    pages: Vec<u32>,
    size: Size,
    one: Vec<f64>,
    many: Vec<f64>,
}

impl Bench {
    fn new(spec: &Spec, pool: &Pool) -> Result<Bench, EngineError> {
        let gguf = Arc::new(spec.shape.gguf(spec.ty, pool.threads())?);
        let model = hob_model::describe(&gguf)?;
        let bound = hob_model::bind(&model, &gguf)?;
        let pages = (spec.depth + ROWS).div_ceil(PAGE);
        let limits = Limits { kv: spec.kv, ..Limits::new(ROWS, pages) };
        let ops = CpuOps::on(&model, gguf, &bound, &limits, pool.clone(), IsaKind::best())?;
        let mut bench = Bench {
            spec: *spec,
            size: Size::of(&model, spec.ty),
            runner: Runner::with_ops(model, limits, ops)?,
            batch: Batch::new(),
            pages: (0..pages as u32).collect(),
            one: Vec::new(),
            many: Vec::new(),
        };
        for at in (0..spec.depth).step_by(ROWS) {
            bench.step(at, ROWS)?;
        }
        Ok(bench)
    }

    fn measured(self) -> Measured {
        Measured { size: self.size, one: median(self.one), many: median(self.many) }
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

    /// What a machine takes where a weight costs a tenth of a nanosecond, and a hundredth for a row among many; a block these seconds, and an
    /// activation these.
    fn measured(blocks: usize, weights: u64, activations: u64, costs: (f64, f64)) -> Measured {
        let beside = blocks as f64 * costs.0;
        let row = weights as f64 * 1e-11 + activations as f64 * costs.1;
        Measured {
            size: Size { blocks, weights, bytes: weights, activations },
            one: weights as f64 * 1e-10 + beside,
            many: row * ROWS as f64 + beside,
        }
    }

    #[test]
    fn what_a_step_costs_is_told_from_its_products() {
        let costs = (5e-5, 1e-9);
        let large = measured(1, 16_000_000, 22_000, costs);
        let small = measured(4, 12_000_000, 40_000, costs);
        let close = |x: f64, to: f64| assert!((x / to - 1.0).abs() < 1e-6, "{x} {to}");
        close(activation(&large, &small), costs.1);
        let speed = kernel_speed(USUAL, &large, &small, costs.1);
        close(speed.seconds_per_block, costs.0);
        close(speed.decode_bytes_per_second, 1e10);
        close(speed.prefill_operations_per_second, 2e11);
    }

    /// A machine that was slow, or fast, while the small blocks ran: nothing that comes of it is without end or below nothing.
    #[test]
    fn noise_gives_speeds_too() {
        let large = measured(1, 16_000_000, 22_000, (5e-5, 1e-9));
        for by in [0.0, 0.1, 10.0, 1000.0] {
            let mut small = measured(4, 12_000_000, 40_000, (5e-5, 1e-9));
            (small.one, small.many) = (small.one * by, small.many * by);
            let activation = activation(&large, &small);
            let speed = kernel_speed(USUAL, &large, &small, activation);
            let all = [
                activation,
                speed.seconds_per_block,
                speed.decode_bytes_per_second,
                speed.prefill_operations_per_second,
            ];
            assert!(all.iter().all(|x| x.is_finite() && *x > 0.0), "{activation} {speed:?}");
        }
    }

    #[test]
    fn types_and_attention_have_speeds() {
        let pool = Pool::new(2).unwrap();
        let mut memory = Memory::new(&pool, 0);
        let mut specs = [USUAL, GgmlType::Q4_0].map(|ty| Spec::of_type(ty, 2)).concat();
        specs.extend(CACHES.iter().flat_map(|&kv| Spec::of_attention(kv)));
        let mut parts = Vec::new();
        let heard = &mut |part| parts.push(part);
        let measured = measure(&specs, &pool, Duration::ZERO, &mut memory, heard).unwrap();
        assert!(parts.is_sorted() && parts.last() == Some(&(3 * specs.len())), "{parts:?}");
        let activation = activation(&measured[0], &measured[1]);
        let speed = kernel_speed(GgmlType::Q4_0, &measured[2], &measured[3], activation);
        assert_eq!(speed.ty, "Q4_0");
        let mut speeds = vec![
            activation,
            speed.seconds_per_block,
            speed.decode_bytes_per_second,
            speed.prefill_operations_per_second,
        ];
        for (kv, pair) in CACHES.into_iter().zip(measured[4..].chunks(2)) {
            let attention = attention_speed(kv, 2, &pair[0], &pair[1]);
            assert_eq!(attention.cache, kv.name());
            speeds.extend([attention.row_operations_per_second, attention.operations_per_second]);
        }
        assert!(speeds.iter().all(|x| x.is_finite() && *x > 0.0), "{speeds:?}");
    }
}
