//! Types with factors of their own for each 32 or 16 weights.

use hob_quant::GgmlType;
use hob_quant::float::{e8m0_half, ue4m3_half};
use hob_quant::tables::{KVALUES_FP4, KVALUES_IQ4NL};

use super::super::acts::ActsView;
use super::{bit, dot, half, sum};

/// 32 weights.
struct Part {
    codes: [i32; 32],
    factors: Factors,
}

enum Factors {
    /// Of all weights.
    One(f32),
    /// And what is added to every weight.
    Minimum(f32, f32),
    /// Of weights 0 to 15 and 16 to 31.
    Halves(f32, f32),
}

/// A row of weights times activation row `n`.
///
/// # Safety
/// `acts` covers the row.
pub(super) unsafe fn row(ty: GgmlType, row: &[u8], acts: ActsView, n: usize) -> f32 {
    let mut total = 0f32;
    let (size, parts) = (ty.block_bytes(), ty.block_len() / 32);
    for b in 0..row.len() / size * parts {
        let Part { codes, factors } = part(ty, &row[b / parts * size..][..size], b % parts);
        // SAFETY: the caller's.
        let (x, scale) =
            unsafe { (std::slice::from_raw_parts(acts.codes(n, 32 * b), 32), *acts.scale(n, b)) };
        match factors {
            Factors::One(d) => total = (dot(&codes, x) as f32).mul_add(d * scale, total),
            Factors::Minimum(d, m) => {
                total = (dot(&codes, x) as f32).mul_add(d * scale, total);
                total = m.mul_add(scale * sum(x) as f32, total);
            }
            Factors::Halves(first, second) => {
                let (low, high) = x.split_at(16);
                total = (dot(&codes[..16], low) as f32).mul_add(first * scale, total);
                total = (dot(&codes[16..], high) as f32).mul_add(second * scale, total);
            }
        }
    }
    total
}

/// Part `p` of a block.
fn part(ty: GgmlType, b: &[u8], p: usize) -> Part {
    use GgmlType::*;
    let codes = std::array::from_fn(|i| match ty {
        Q4_0 => plane(&b[2..], i) - 8,
        Q4_1 => plane(&b[4..], i),
        Q5_0 => plane(&b[6..], i) + 16 * bit(&b[2..], i) as i32 - 16,
        Q5_1 => plane(&b[8..], i) + 16 * bit(&b[4..], i) as i32,
        Q1_0 => 2 * bit(&b[2..], 32 * p + i) as i32 - 1,
        Q2_0 => i32::from(b[2 + 8 * p + i / 4] >> (i % 4 * 2) & 3) - 1,
        IQ4_NL => i32::from(KVALUES_IQ4NL[plane(&b[2..], i) as usize]),
        MXFP4 => i32::from(KVALUES_FP4[plane(&b[1..], i) as usize]),
        NVFP4 => {
            let byte = b[4 + 16 * p + i / 16 * 8 + i % 8];
            i32::from(KVALUES_FP4[usize::from(byte >> (i / 8 % 2 * 4) & 15)])
        }
        _ => i32::from(b[2 + i] as i8),
    });
    let factors = match ty {
        Q4_1 | Q5_1 => Factors::Minimum(half(b), half(&b[2..])),
        MXFP4 => Factors::One(e8m0_half(b[0])),
        NVFP4 => Factors::Halves(ue4m3_half(b[2 * p]), ue4m3_half(b[2 * p + 1])),
        _ => Factors::One(half(b)),
    };
    Part { codes, factors }
}

/// Code `i` of nibbles: the low ones are codes 0 to 15.
fn plane(quants: &[u8], i: usize) -> i32 {
    i32::from(quants[i % 16] >> (i / 16 * 4) & 15)
}
