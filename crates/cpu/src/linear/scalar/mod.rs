//! The oracle: block-by-block products in plain Rust with the arithmetic that the vector kernels must reproduce bit
//! for bit. Also the fallback on processors without a vector kernel. Written for clarity, not speed.

mod blocks;
mod supers;

use half::f16;
use hob_quant::decode_row;

use super::acts::ActsView;
use super::{ActKind, Dst, Matrix, Src};

/// Multiplies rows of a matrix with `count` activation rows.
///
/// # Safety
/// `acts` or `src` (by the type's kind) and `dst` cover the rows; no one else writes them.
pub(super) unsafe fn run(
    w: &Matrix,
    rows: std::ops::Range<usize>,
    acts: ActsView,
    src: Src,
    count: usize,
    dst: Dst,
) {
    let mut floats = vec![0.0; w.cols];
    for row in rows {
        // SAFETY: the caller's.
        let bytes = unsafe { w.row(row) };
        for n in 0..count {
            // SAFETY: the caller's.
            let y = unsafe {
                match w.acts() {
                    ActKind::Super => supers::row(w.ty, bytes, acts, n),
                    ActKind::Block32 => blocks::row(w.ty, bytes, acts, n),
                    ActKind::Float => {
                        let _ = decode_row(w.ty, bytes, &mut floats);
                        let x = std::slice::from_raw_parts(src.row(n), w.cols);
                        floats.iter().zip(x).fold(0.0, |sum: f32, (w, x)| w.mul_add(*x, sum))
                    }
                }
            };
            // SAFETY: the caller's.
            unsafe { *dst.at(n, row) = y };
        }
    }
}

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// Codes times activations.
fn dot(codes: &[i32], x: &[i8]) -> i32 {
    codes.iter().zip(x).map(|(c, &x)| c * i32::from(x)).sum()
}

fn sum(x: &[i8]) -> i32 {
    x.iter().map(|&x| i32::from(x)).sum()
}

/// Bit `i` of bytes that hold the lowest first.
fn bit(bytes: &[u8], i: usize) -> usize {
    usize::from(bytes[i / 8] >> (i % 8) & 1)
}

/// Nibble `i` of bytes that hold the low one first.
fn nibble(bytes: &[u8], i: usize) -> usize {
    usize::from(bytes[i / 2] >> (i % 2 * 4) & 15)
}
