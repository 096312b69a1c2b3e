//! Causal attention over KV pages with a running softmax (arXiv 2205.14135): pages in order of position, keys in
//! order within a page, so a row's result is the same in decode, in any prefill chunk and beside any neighbours.
//! Scores and mixing are one kernel: rows of f32 times a page of cached values, sums in order over the inner index.
#![allow(unsafe_op_in_unsafe_fn)]

use std::ops::Range;

use hob_model::{KvType, PAGE};

use crate::isa::{Floats, IsaKind, Plain};
use crate::kv::{GROUP, HeadPage, KvView};
use crate::linear::{Dst, Src};
use crate::rows::{dispatch, exp};

/// Query rows (of all heads that share keys) that pass over a page together.
const ROWS: usize = 32;
/// Vectors of a column block.
const VECTORS: usize = 4;

/// One unit of work: some rows of a span and one key head.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// First batch row.
    pub row: usize,
    /// Batch rows.
    pub rows: usize,
    /// Position of the first row.
    pub start: usize,
    /// Range of the batch's page list.
    pub pages: (usize, usize),
    /// Key head.
    pub head: usize,
}

/// What all tasks of a layer share.
#[derive(Clone, Copy)]
pub struct Attention<'a> {
    /// Layer of the cache.
    pub layer: usize,
    /// Queries, `heads * head_dim` wide.
    pub q: Src,
    /// Results, likewise.
    pub dst: Dst,
    /// The batch's page list.
    pub pages: &'a [u32],
    /// The cache.
    pub kv: KvView<'a>,
    /// Query heads per key head.
    pub group: usize,
    /// Factor on scores.
    pub scale: f32,
    /// How many positions a row sees, its own included.
    pub window: usize,
}

/// One head of one page, and how to read it.
#[derive(Clone, Copy)]
struct Cached {
    kind: KvType,
    page: HeadPage,
    dim: usize,
}

/// Buffers of one thread.
#[derive(Default)]
pub struct Space {
    q: Vec<f32>,
    scores: Vec<f32>,
    mixed: Vec<f32>,
    most: Vec<f32>,
    sums: Vec<f32>,
}

/// Batch rows per task when `group` query heads share a key head.
pub fn rows_per_task(group: usize) -> usize {
    (ROWS / group).max(1)
}

impl Attention<'_> {
    /// Runs one task.
    ///
    /// # Safety
    /// Views cover the task's rows, its results are written by no one else, its keys and values are in place.
    pub unsafe fn run(&self, isa: IsaKind, task: Task, space: &mut Space) {
        let whole = self.kv.head_dim(self.layer).is_multiple_of(16);
        let isa = if whole { isa } else { IsaKind::Scalar };
        dispatch!(isa, |isa| self.rows(isa, task, space))
    }

    #[inline(always)]
    unsafe fn rows<I: Floats>(&self, isa: I, task: Task, space: &mut Space) {
        let dim = self.kv.head_dim(self.layer);
        let rows = task.rows * self.group;
        self.load(task, dim, space);
        let last = task.start + task.rows - 1;
        let passed = (task.start + 1).saturating_sub(self.window) / PAGE;
        for (index, &page) in self.pages[task.pages.0..task.pages.1].iter().enumerate().skip(passed)
        {
            let first = index * PAGE;
            if first > last {
                break;
            }
            let keys = PAGE.min(last + 1 - first);
            let page = self.kv.head(self.layer, page, task.head);
            let cached = Cached { kind: self.kv.kind(), page, dim };
            for_rows(rows, |at, n| match n {
                3 => scores::<I, 3>(isa, cached, at, space),
                _ => scores::<I, 1>(isa, cached, at, space),
            });
            for row in 0..rows {
                let end = task.start + row / self.group + 1;
                let slot = |position: usize| position.saturating_sub(first).min(PAGE);
                let visible = slot(end.saturating_sub(self.window))..slot(end);
                softmax(isa, row, visible, dim, space);
            }
            for_rows(rows, |at, n| match n {
                3 => mix::<I, 3>(isa, cached, keys, at, space),
                _ => mix::<I, 1>(isa, cached, keys, at, space),
            });
        }
        self.finish(task, dim, space);
    }

    /// Copies the queries, scaled, and resets the running softmax.
    unsafe fn load(&self, task: Task, dim: usize, space: &mut Space) {
        let rows = task.rows * self.group;
        space.q.clear();
        for row in 0..rows {
            let (r, g) = (row / self.group, row % self.group);
            let q = self.q.row(task.row + r).add((task.head * self.group + g) * dim);
            let q = std::slice::from_raw_parts(q, dim);
            space.q.extend(q.iter().map(|q| q * self.scale));
        }
        space.scores.resize(rows * PAGE, 0.0);
        space.mixed.clear();
        space.mixed.resize(rows * dim, 0.0);
        space.most.clear();
        space.most.resize(rows, f32::NEG_INFINITY);
        space.sums.clear();
        space.sums.resize(rows, 0.0);
    }

    unsafe fn finish(&self, task: Task, dim: usize, space: &Space) {
        for (row, mixed) in space.mixed.chunks_exact(dim).enumerate() {
            let (r, g) = (row / self.group, row % self.group);
            let out = self.dst.at(task.row + r, (task.head * self.group + g) * dim);
            let scale = 1.0 / space.sums[row];
            for (i, x) in mixed.iter().enumerate() {
                *out.add(i) = x * scale;
            }
        }
    }
}

#[inline(always)]
fn for_rows(rows: usize, mut f: impl FnMut(usize, usize)) {
    let mut at = 0;
    while at < rows {
        let n = if rows - at >= 3 { 3 } else { 1 };
        f(at, n);
        at += n;
    }
}

/// One page's share of the running softmax of one row: scores become weights, the past is rescaled.
#[inline(always)]
unsafe fn softmax<I: Floats>(
    isa: I,
    row: usize,
    visible: Range<usize>,
    dim: usize,
    space: &mut Space,
) {
    let scores = &mut space.scores[row * PAGE..(row + 1) * PAGE];
    if visible.is_empty() {
        scores.fill(0.0);
        return;
    }
    fill_outside(scores, &visible, f32::NEG_INFINITY);
    let p = scores.as_mut_ptr();
    let mut most = isa.fload(p);
    for i in (I::LANES..PAGE).step_by(I::LANES) {
        most = isa.fmax(isa.fload(p.add(i)), most);
    }
    let (before, now) = (space.most[row], isa.fmax_lane(most).max(space.most[row]));
    let shift = isa.fsplat(now);
    for i in (0..PAGE).step_by(I::LANES) {
        let x = isa.fnma(shift, isa.fsplat(1.0), isa.fload(p.add(i)));
        isa.fstore(p.add(i), exp(isa, x));
    }
    fill_outside(scores, &visible, 0.0);
    let mut sum = isa.fsplat(0.0);
    for i in (0..PAGE).step_by(I::LANES) {
        sum = isa.fadd(sum, isa.fload(p.add(i)));
    }
    let sum = isa.fsum(sum);
    if now > before {
        let fade = if before == f32::NEG_INFINITY { 0.0 } else { exp(Plain, before - now) };
        space.sums[row] = space.sums[row] * fade + sum;
        space.most[row] = now;
        let (m, fade) = (space.mixed.as_mut_ptr().add(row * dim), isa.fsplat(fade));
        for i in (0..dim).step_by(I::LANES) {
            isa.fstore(m.add(i), isa.fmul(isa.fload(m.add(i)), fade));
        }
    } else {
        space.sums[row] += sum;
    }
}

#[inline(always)]
fn fill_outside(scores: &mut [f32], visible: &Range<usize>, value: f32) {
    scores[..visible.start].fill(value);
    scores[visible.end..].fill(value);
}

/// Cached values as vectors: `at(i, v)` is vector `v` of inner index `i`. A trait and not a closure: a closure that
/// is not inlined loses its instruction set.
trait Load<I: Floats>: Copy {
    unsafe fn at(self, isa: I, i: usize, v: usize) -> I::F;
}

/// F32, `stride` apart.
#[derive(Clone, Copy)]
struct Singles {
    data: *const f32,
    stride: usize,
}

impl<I: Floats> Load<I> for Singles {
    #[inline(always)]
    unsafe fn at(self, isa: I, i: usize, v: usize) -> I::F {
        isa.fload(self.data.add(i * self.stride + v * I::LANES))
    }
}

/// F16, `stride` apart.
#[derive(Clone, Copy)]
struct Halves {
    data: *const u16,
    stride: usize,
}

impl<I: Floats> Load<I> for Halves {
    #[inline(always)]
    unsafe fn at(self, isa: I, i: usize, v: usize) -> I::F {
        isa.load_f16(self.data.add(i * self.stride + v * I::LANES))
    }
}

/// Signed bytes, `stride` apart, not yet scaled.
#[derive(Clone, Copy)]
struct Bytes {
    data: *const i8,
    stride: usize,
}

impl<I: Floats> Load<I> for Bytes {
    #[inline(always)]
    unsafe fn at(self, isa: I, i: usize, v: usize) -> I::F {
        isa.load_i8(self.data.add(i * self.stride + v * I::LANES))
    }
}

/// Signed bytes with a scale per 32 of the outer index, from column `col` of `stride`.
#[derive(Clone, Copy)]
struct Scaled {
    bytes: Bytes,
    scales: *const u16,
    col: usize,
}

impl<I: Floats> Load<I> for Scaled {
    #[inline(always)]
    unsafe fn at(self, isa: I, i: usize, v: usize) -> I::F {
        let group = (self.col + v * I::LANES) / GROUP;
        let scale = *self.scales.add(i * (self.bytes.stride / GROUP) + group);
        let scale = isa.fsplat(half::f16::from_bits(scale).to_f32());
        isa.fmul(Load::<I>::at(self.bytes, isa, i, v), scale)
    }
}

/// Scores of `N` query rows with the keys of a page.
#[inline(always)]
unsafe fn scores<I: Floats, const N: usize>(isa: I, cached: Cached, at: usize, space: &mut Space) {
    let Cached { kind, page, dim } = cached;
    let q = space.q.as_ptr().add(at * dim);
    let out = space.scores.as_mut_ptr().add(at * PAGE);
    for col in (0..PAGE).step_by(VECTORS * I::LANES) {
        let mut sums = [[isa.fsplat(0.0); VECTORS]; N];
        match kind {
            KvType::F32 => {
                let keys = Singles { data: page.k.cast::<f32>().add(col), stride: PAGE };
                products(isa, &mut sums, q, dim, dim, keys);
            }
            KvType::F16 => {
                let keys = Halves { data: page.k.cast::<u16>().add(col), stride: PAGE };
                products(isa, &mut sums, q, dim, dim, keys);
            }
            KvType::Q8_0 => {
                for group in 0..dim / GROUP {
                    let data = page.k.cast::<i8>().add(group * GROUP * PAGE + col);
                    let mut part = [[isa.fsplat(0.0); VECTORS]; N];
                    let keys = Bytes { data, stride: PAGE };
                    products(isa, &mut part, q.add(group * GROUP), dim, GROUP, keys);
                    for v in 0..VECTORS {
                        let scale =
                            isa.load_f16(page.k_scales.add(group * PAGE + col + v * I::LANES));
                        for n in 0..N {
                            sums[n][v] = isa.fma(part[n][v], scale, sums[n][v]);
                        }
                    }
                }
            }
        }
        for n in 0..N {
            for v in 0..VECTORS {
                isa.fstore(out.add(n * PAGE + col + v * I::LANES), sums[n][v]);
            }
        }
    }
}

/// Adds the values of a page, weighted, to `N` rows.
#[inline(always)]
unsafe fn mix<I: Floats, const N: usize>(
    isa: I,
    cached: Cached,
    keys: usize,
    at: usize,
    space: &mut Space,
) {
    let dim = cached.dim;
    let weights = space.scores.as_ptr().add(at * PAGE);
    let out = space.mixed.as_mut_ptr().add(at * dim);
    let mut col = 0;
    while col < dim {
        let wide = dim - col >= VECTORS * I::LANES;
        match wide {
            true => mix_columns::<I, N, VECTORS>(isa, cached, keys, col, weights, out),
            false => mix_columns::<I, N, 1>(isa, cached, keys, col, weights, out),
        }
        col += if wide { VECTORS * I::LANES } else { I::LANES };
    }
}

#[inline(always)]
unsafe fn mix_columns<I: Floats, const N: usize, const W: usize>(
    isa: I,
    cached: Cached,
    keys: usize,
    col: usize,
    weights: *const f32,
    out: *mut f32,
) {
    let Cached { kind, page, dim } = cached;
    let mut sums = [[isa.fsplat(0.0); W]; N];
    for n in 0..N {
        for v in 0..W {
            sums[n][v] = isa.fload(out.add(n * dim + col + v * I::LANES));
        }
    }
    match kind {
        KvType::F32 => {
            let values = Singles { data: page.v.cast::<f32>().add(col), stride: dim };
            products(isa, &mut sums, weights, PAGE, keys, values);
        }
        KvType::F16 => {
            let values = Halves { data: page.v.cast::<u16>().add(col), stride: dim };
            products(isa, &mut sums, weights, PAGE, keys, values);
        }
        KvType::Q8_0 => {
            let bytes = Bytes { data: page.v.cast::<i8>().add(col), stride: dim };
            let values = Scaled { bytes, scales: page.v_scales, col };
            products(isa, &mut sums, weights, PAGE, keys, values);
        }
    }
    for n in 0..N {
        for v in 0..W {
            isa.fstore(out.add(n * dim + col + v * I::LANES), sums[n][v]);
        }
    }
}

/// `sums[n][v] += rows[n * stride + i] * b(i, v)` for i in order.
#[inline(always)]
unsafe fn products<I: Floats, const N: usize, const W: usize>(
    isa: I,
    sums: &mut [[I::F; W]; N],
    rows: *const f32,
    stride: usize,
    len: usize,
    load: impl Load<I>,
) {
    let mut local = *sums;
    for i in 0..len {
        let mut b = [isa.fsplat(0.0); W];
        for v in 0..W {
            b[v] = load.at(isa, i, v);
        }
        for n in 0..N {
            let a = isa.fsplat(*rows.add(n * stride + i));
            for v in 0..W {
                local[n][v] = isa.fma(a, b[v], local[n][v]);
            }
        }
    }
    *sums = local;
}

#[cfg(test)]
mod tests {
    use hob_model::{CacheGroup, CacheKind, CacheLayout};

    use super::*;
    use crate::kv::KvCache;

    const HEADS: usize = 2;
    const GROUP_OF_HEADS: usize = 3;
    const POSITIONS: usize = 150;
    /// The positions' pages, out of order: three are needed.
    const PAGES: [u32; 3] = [3, 0, 2];

    /// Numbers from -1 to 1.
    fn noise(n: usize) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * 12.9898).sin() * 43_758.547 % 1.0).collect()
    }

    fn filled(kind: KvType, dim: usize) -> KvCache {
        let rows = (2 * HEADS as u32, dim as u32);
        let group = CacheGroup { kind: CacheKind::Full, layers: vec![0], rows: vec![rows] };
        let mut cache = KvCache::new(&CacheLayout { groups: vec![group] }, kind, 4).unwrap();
        let data = noise(2 * HEADS * POSITIONS * dim);
        let mut rows = data.chunks_exact(dim);
        for at in 0..POSITIONS {
            for head in 0..HEADS {
                let (k, v) = (rows.next().unwrap(), rows.next().unwrap());
                // SAFETY: one thread.
                unsafe { cache.view().store(0, PAGES[at / PAGE], head, at % PAGE, k, v) };
            }
        }
        cache
    }

    /// The results of the last `rows` positions, `step` rows at a time.
    fn attend(
        isa: IsaKind,
        cache: &mut KvCache,
        dim: usize,
        window: usize,
        (rows, step): (usize, usize),
    ) -> Vec<f32> {
        let width = HEADS * GROUP_OF_HEADS * dim;
        let q = noise(rows * width);
        let mut out = vec![f32::NAN; rows * width];
        let attention = Attention {
            layer: 0,
            q: Src::new(q.as_ptr(), width),
            dst: Dst::new(out.as_mut_ptr(), width),
            pages: &PAGES,
            kv: cache.view(),
            group: GROUP_OF_HEADS,
            scale: 1.0 / (dim as f32).sqrt(),
            window,
        };
        let mut space = Space::default();
        for head in 0..HEADS {
            for row in (0..rows).step_by(step) {
                let (rows, start) = (step.min(rows - row), POSITIONS - rows + row);
                let task = Task { row, rows, start, pages: (0, PAGES.len()), head };
                // SAFETY: all views cover the rows; one thread.
                unsafe { attention.run(isa, task, &mut space) };
            }
        }
        out
    }

    #[test]
    fn every_instruction_set_attends_as_the_scalar_one() {
        for (kind, dim, window) in [
            (KvType::F32, 64, usize::MAX),
            (KvType::F16, 64, usize::MAX),
            (KvType::Q8_0, 128, usize::MAX),
            (KvType::F16, 80, 70),
            (KvType::Q8_0, 64, 1),
        ] {
            let mut cache = filled(kind, dim);
            let oracle = attend(IsaKind::Scalar, &mut cache, dim, window, (40, 7));
            for isa in IsaKind::available() {
                let case = format!("{isa:?} {kind:?} {dim} {window}");
                let many = attend(isa, &mut cache, dim, window, (40, 7));
                assert_eq!(many, attend(isa, &mut cache, dim, window, (40, 1)), "{case}");
                let far = many.iter().zip(&oracle).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(far < 2e-6, "{case}: {far}");
            }
        }
    }
}
