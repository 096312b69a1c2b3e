//! Float weights, and any block type without a kernel of its own (decoded to f32 a few rows at a time): activations
//! stay f32, one vector accumulator per result runs over the columns, so the order never depends on the batch.
#![allow(unsafe_op_in_unsafe_fn)]

use hob_quant::{GgmlType, decode_row};

use super::{Dst, Matrix, Src};
use crate::isa::Isa;

/// Weight rows multiplied together.
const ROWS: usize = 4;
/// Weight rows multiplied together with few activation rows: enough sums in flight to hide the latency of an addition.
const ALONE: usize = 8;
/// Activation rows multiplied together.
const ACTS: usize = 3;
/// Rows decoded ahead for types without a kernel: they are used by all activations before the next ones.
const AHEAD: usize = 16;

/// Element loads of a float type.
trait Element: Copy {
    const BYTES: usize;
    unsafe fn load<I: Isa>(isa: I, p: *const u8) -> I::F;
    unsafe fn one(p: *const u8) -> f32;
}

#[derive(Clone, Copy)]
struct F32;
#[derive(Clone, Copy)]
struct F16;
#[derive(Clone, Copy)]
struct Bf16;

impl Element for F32 {
    const BYTES: usize = 4;
    #[inline(always)]
    unsafe fn load<I: Isa>(isa: I, p: *const u8) -> I::F {
        isa.fload(p.cast())
    }
    #[inline(always)]
    unsafe fn one(p: *const u8) -> f32 {
        p.cast::<f32>().read_unaligned()
    }
}

impl Element for F16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load<I: Isa>(isa: I, p: *const u8) -> I::F {
        isa.load_f16(p.cast())
    }
    #[inline(always)]
    unsafe fn one(p: *const u8) -> f32 {
        half::f16::from_bits(p.cast::<u16>().read_unaligned()).to_f32()
    }
}

impl Element for Bf16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load<I: Isa>(isa: I, p: *const u8) -> I::F {
        isa.load_bf16(p.cast())
    }
    #[inline(always)]
    unsafe fn one(p: *const u8) -> f32 {
        half::bf16::from_bits(p.cast::<u16>().read_unaligned()).to_f32()
    }
}

/// Multiplies rows of a float matrix, or of one that is decoded on the way, with `count` rows of `src`.
///
/// # Safety
/// Called inside `isa.with`; `src` and `dst` cover the rows; no one else writes them.
#[inline(always)]
pub(super) unsafe fn run<I: Isa>(
    isa: I,
    w: &Matrix,
    rows: std::ops::Range<usize>,
    src: Src,
    count: usize,
    dst: Dst,
    buffer: &mut Vec<f32>,
) {
    let place = |data, stride| Rows { data, stride, cols: w.cols };
    match w.ty {
        GgmlType::F32 => rows_of::<I, F32>(isa, place(w.data, w.row_bytes), rows, src, count, dst),
        GgmlType::F16 => rows_of::<I, F16>(isa, place(w.data, w.row_bytes), rows, src, count, dst),
        GgmlType::BF16 => {
            rows_of::<I, Bf16>(isa, place(w.data, w.row_bytes), rows, src, count, dst)
        }
        ty => {
            buffer.resize(AHEAD * w.cols, 0.0);
            let mut start = rows.start;
            while start < rows.end {
                let end = rows.end.min(start + AHEAD);
                for (row, out) in (start..end).zip(buffer.chunks_exact_mut(w.cols)) {
                    // Sizes were checked when the matrix was made; a failure would leave zeros.
                    let _ = decode_row(ty, w.row(row), out);
                }
                let base = buffer.as_ptr().cast::<u8>().wrapping_sub(start * w.cols * 4);
                rows_of::<I, F32>(isa, place(base, w.cols * 4), start..end, src, count, dst);
                start = end;
            }
        }
    }
}

/// Float rows: where row 0 would be, bytes from row to row, elements of a row.
#[derive(Clone, Copy)]
struct Rows {
    data: *const u8,
    stride: usize,
    cols: usize,
}

#[inline(always)]
unsafe fn rows_of<I: Isa, E: Element>(
    isa: I,
    w: Rows,
    rows: std::ops::Range<usize>,
    src: Src,
    count: usize,
    dst: Dst,
) {
    let mut row = rows.start;
    while row < rows.end {
        row += match rows.end - row {
            ALONE.. if count < ACTS => strip::<I, E, ALONE>(isa, w, row, src, count, dst),
            ROWS.. => strip::<I, E, ROWS>(isa, w, row, src, count, dst),
            _ => strip::<I, E, 1>(isa, w, row, src, count, dst),
        };
    }
}

/// Multiplies `R` weight rows with all activation rows; returns `R`.
#[inline(always)]
unsafe fn strip<I: Isa, E: Element, const R: usize>(
    isa: I,
    w: Rows,
    row: usize,
    src: Src,
    count: usize,
    dst: Dst,
) -> usize {
    let mut rows = [w.data; R];
    for (r, place) in rows.iter_mut().enumerate() {
        *place = w.data.wrapping_add((row + r) * w.stride);
    }
    let mut act = 0;
    while act < count {
        if count - act >= ACTS {
            let three = [src.row(act), src.row(act + 1), src.row(act + 2)];
            write(dst, row, act, &dots::<I, E, R, ACTS>(isa, rows, three, w.cols));
            act += ACTS;
        } else {
            write(dst, row, act, &dots::<I, E, R, 1>(isa, rows, [src.row(act)], w.cols));
            act += 1;
        }
    }
    R
}

#[inline(always)]
unsafe fn write<const R: usize, const N: usize>(
    dst: Dst,
    row: usize,
    act: usize,
    y: &[[f32; N]; R],
) {
    for (r, y) in y.iter().enumerate() {
        for (n, y) in y.iter().enumerate() {
            *dst.at(act + n, row + r) = *y;
        }
    }
}

#[inline(always)]
unsafe fn dots<I: Isa, E: Element, const R: usize, const N: usize>(
    isa: I,
    rows: [*const u8; R],
    acts: [*const f32; N],
    cols: usize,
) -> [[f32; N]; R] {
    let mut sums = [[isa.fsplat(0.0); N]; R];
    let whole = cols / I::LANES * I::LANES;
    for k in (0..whole).step_by(I::LANES) {
        let a = acts.map(|p| isa.fload(p.add(k)));
        for r in 0..R {
            let w = E::load(isa, rows[r].add(k * E::BYTES));
            for n in 0..N {
                sums[r][n] = isa.fma(w, a[n], sums[r][n]);
            }
        }
    }
    let mut out = [[0.0; N]; R];
    for r in 0..R {
        for n in 0..N {
            out[r][n] = isa.fsum(sums[r][n]);
            for k in whole..cols {
                out[r][n] = E::one(rows[r].add(k * E::BYTES)).mul_add(*acts[n].add(k), out[r][n]);
            }
        }
    }
    out
}
