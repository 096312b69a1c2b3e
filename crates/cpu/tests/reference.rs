//! The processor against the naive reference device on small models of every family, and against itself: alone, in
//! a batch, in chunks, on scattered pages, on one thread or three, the logits of a token are the same bits.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::sync::Arc;

use hob_cpu::{CpuOps, IsaKind, Pool};
use hob_model::{
    Batch, KvType, Limits, Model, Ops, Output, PAGE, Place, Scratch, bind, describe, forward, head,
};
use hob_quant::GgmlType;
use hob_testkit::{Family, RefOps, Tiny};

const LIMITS: Limits = Limits {
    rows: 512,
    logits: 512,
    pages: 64,
    sequences: 8,
    states: 8,
    context: 4096,
    kv: KvType::F16,
};

/// One span of a test: its tokens, where it starts, its pages.
#[derive(Clone)]
struct Piece<'a> {
    tokens: &'a [u32],
    start: usize,
    pages: &'a [u32],
    state: u32,
}

/// A device under test with its model.
struct Rig<O> {
    model: Model,
    scratch: Scratch,
    ops: O,
}

impl<O: Ops> Rig<O> {
    fn new(model: Model, limits: &Limits, mut ops: O) -> Self {
        let scratch = Scratch::new(&model, limits, &mut ops);
        Rig { model, scratch, ops }
    }

    /// Runs one step of several pieces; the logits of every row.
    fn step(&mut self, pieces: &[Piece]) -> Vec<f32> {
        let mut batch = Batch::new();
        for p in pieces {
            let place = Place { tables: &[p.pages], state: p.state };
            batch.push_at(p.tokens, p.start as u32, &place, Output::All).unwrap();
        }
        forward(&self.model, &self.scratch, &batch, &mut self.ops);
        head(&self.model, &self.scratch, 0..batch.rows(), &mut self.ops).unwrap().to_vec()
    }
}

fn cpu(tiny: &Tiny, limits: Limits, isa: IsaKind, threads: usize) -> Rig<CpuOps> {
    let gguf = Arc::new(tiny.gguf());
    let model = describe(&gguf).unwrap();
    let bound = bind(&model, &gguf).unwrap();
    let ops = CpuOps::on(&model, gguf, &bound, &limits, Pool::new(threads).unwrap(), isa).unwrap();
    Rig::new(model, &limits, ops)
}

fn reference(tiny: &Tiny) -> Rig<RefOps> {
    let gguf = tiny.gguf();
    let model = describe(&gguf).unwrap();
    let bound = bind(&model, &gguf).unwrap();
    let ops = RefOps::load(&model, &gguf, &bound, &LIMITS);
    Rig::new(model, &LIMITS, ops)
}

fn tokens(seed: u32, n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * 37 + seed * 101 + i * i) % 250).collect()
}

/// Root mean square of the differences, in units of that of `expected`: rounded activations make single logits
/// stray, on random weights more than on trained ones.
fn rms_error(found: &[f32], expected: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let size: f64 = expected.iter().map(|&x| square(x.into())).sum();
    let pairs = found.iter().zip(expected);
    let difference: f64 = pairs.map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    assert_eq!(found.len(), expected.len());
    (difference / size).sqrt()
}

/// Compares the processor with the reference on every instruction set.
fn agree(tiny: &Tiny, kv: KvType, prompt: &[u32], tolerance: f64) {
    let pages = [0, 1, 2];
    let expected =
        reference(tiny).step(&[Piece { tokens: prompt, start: 0, pages: &pages, state: 0 }]);
    for isa in IsaKind::available() {
        let mut rig = cpu(tiny, Limits { kv, ..LIMITS }, isa, 2);
        let pages = [5, 3, 9];
        let found = rig.step(&[Piece { tokens: prompt, start: 0, pages: &pages, state: 3 }]);
        let (error, family) = (rms_error(&found, &expected), tiny.family);
        assert!(error < tolerance, "{family:?} {:?} {kv:?} {isa:?}: {error}", tiny.matrices);
    }
}

#[test]
fn every_family_agrees_with_the_reference() {
    let prompt = tokens(1, 150);
    for family in Family::ALL {
        agree(&Tiny::new(family), KvType::F32, &prompt, 2e-5);
    }
}

#[test]
fn logits_agree_with_the_reference() {
    let types = [
        (GgmlType::F32, KvType::F16, 1e-3),
        (GgmlType::F16, KvType::F16, 1e-3),
        (GgmlType::Q8_0, KvType::F16, 0.02),
        (GgmlType::Q4_0, KvType::F16, 0.02),
        (GgmlType::Q4_1, KvType::F16, 0.02),
        (GgmlType::Q5_0, KvType::F16, 0.025),
        (GgmlType::F32, KvType::Q8_0, 0.012),
    ];
    let prompt = tokens(1, 150);
    for family in [Family::Llama, Family::Qwen2, Family::Qwen3, Family::Gemma3] {
        for (ty, kv, tolerance) in types {
            let mut tiny = Tiny::new(family).quantized(ty);
            tiny.width = 128;
            agree(&tiny, kv, &prompt, tolerance);
        }
    }
}

/// The logits of every position when the prompt comes in chunks.
fn chunked(rig: &mut Rig<CpuOps>, prompt: &[u32], chunk: usize, pages: &[u32]) -> Vec<f32> {
    let mut logits = Vec::new();
    for (i, part) in prompt.chunks(chunk).enumerate() {
        logits.extend(rig.step(&[Piece { tokens: part, start: i * chunk, pages, state: 0 }]));
    }
    logits
}

#[test]
fn alone_in_batch_and_in_chunks_are_the_same_bits() {
    // Every family with one of three combinations, all of which meet all kinds of layers.
    let kinds = [
        (GgmlType::Q4_1, KvType::F16),
        (GgmlType::F32, KvType::Q8_0),
        (GgmlType::Q8_0, KvType::F16),
    ];
    for (i, family) in Family::ALL.into_iter().enumerate() {
        let (ty, kv) = kinds[i % kinds.len()];
        let mut tiny = Tiny::new(family).quantized(ty);
        tiny.width = 128;
        for isa in IsaKind::available() {
            // Past one page where plain code takes the most of this test's time, else past two.
            let prompt = tokens(2, if isa == IsaKind::Scalar { PAGE + 6 } else { 150 });
            let pages: Vec<u32> = (0..3).collect();
            let mut rig = cpu(&tiny, Limits { kv, ..LIMITS }, isa, 1);
            let whole = chunked(&mut rig, &prompt, 150, &pages);
            for (chunk, threads) in [(1, 1), (7, 3), (130, 2)] {
                let mut rig = cpu(&tiny, Limits { kv, ..LIMITS }, isa, threads);
                let parts = chunked(&mut rig, &prompt, chunk, &[40, 8, 33]);
                assert!(parts == whole, "{family:?} {ty:?} {isa:?}: chunks of {chunk}");
            }
            batch_of_eight(&tiny, kv, isa, &prompt, &whole);
        }
    }
}

/// Seven other sequences prefill or decode beside ours.
fn batch_of_eight(tiny: &Tiny, kv: KvType, isa: IsaKind, prompt: &[u32], whole: &[f32]) {
    let mut rig = cpu(tiny, Limits { kv, ..LIMITS }, isa, 3);
    let vocab = rig.model.vocab as usize;
    let others: Vec<Vec<u32>> = (0..7).map(|i| tokens(10 + i, 40)).collect();
    let ours: Vec<u32> = vec![60, 61, 62, 63, 59];
    for (i, part) in prompt.chunks(30).enumerate() {
        let other_pages: Vec<[u32; 1]> = (0..7).map(|n| [n * 7 + 1]).collect();
        let mut pieces: Vec<Piece> = others
            .iter()
            .zip(&other_pages)
            .enumerate()
            .map(|(n, (t, pages))| match n % 2 {
                0 => Piece { tokens: &t[i..i + 1], start: i, pages, state: n as u32 },
                _ => Piece { tokens: &t[..n + 3], start: 0, pages, state: n as u32 },
            })
            .collect();
        let rows_before: usize = pieces[..3].iter().map(|p| p.tokens.len()).sum();
        pieces.insert(3, Piece { tokens: part, start: i * 30, pages: &ours, state: 7 });
        let logits = rig.step(&pieces);
        let found = &logits[rows_before * vocab..][..part.len() * vocab];
        assert!(
            found == &whole[i * 30 * vocab..][..found.len()],
            "{:?} {isa:?}: step {i} in a batch of eight",
            tiny.family
        );
    }
}

/// K types need rows of 256.
#[test]
fn k_types_agree_with_the_reference() {
    let prompt = tokens(3, PAGE + 3);
    for ty in [GgmlType::Q4_K, GgmlType::Q5_K, GgmlType::Q6_K, GgmlType::Q3_K, GgmlType::IQ4_XS] {
        let tiny = Tiny::new(Family::Qwen3).quantized(ty);
        agree(&tiny, KvType::F16, &prompt, 0.08);
    }
}
