//! The oracle: block-by-block products in plain Rust with the arithmetic that the vector kernels must reproduce bit
//! for bit. Also the fallback on processors without a vector kernel. Written for clarity, not speed.

use half::f16;
use hob_quant::{GgmlType, decode_row};

use super::acts::ActsView;
use super::{Dst, Matrix, Src};

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
                match w.ty {
                    GgmlType::Q4_K => k_row(bytes, 144, 8, acts, n, q4_k),
                    GgmlType::Q5_K => k_row(bytes, 176, 8, acts, n, q5_k),
                    GgmlType::Q6_K => k_row(bytes, 210, 16, acts, n, q6_k),
                    GgmlType::Q4_0 => {
                        block_row(bytes, 18, acts, n, |b| (nibbles(&b[2..], 8), None))
                    }
                    GgmlType::Q4_1 => block_row(bytes, 20, acts, n, |b| {
                        (nibbles(&b[4..], 0), Some(half(&b[2..])))
                    }),
                    GgmlType::Q8_0 => block_row(bytes, 34, acts, n, |b| {
                        (std::array::from_fn(|i| i32::from(b[2 + i] as i8)), None)
                    }),
                    ty => {
                        let _ = decode_row(ty, bytes, &mut floats);
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

fn nibbles(quants: &[u8], offset: i32) -> [i32; 32] {
    std::array::from_fn(|i| {
        i32::from(if i < 16 { quants[i] & 15 } else { quants[i - 16] >> 4 }) - offset
    })
}

/// A block's codes and minimum; its scale is the first half.
type Block32 = ([i32; 32], Option<f32>);

unsafe fn block_row(
    row: &[u8],
    size: usize,
    acts: ActsView,
    n: usize,
    read: impl Fn(&[u8]) -> Block32,
) -> f32 {
    let mut total = 0f32;
    for (b, bytes) in row.chunks_exact(size).enumerate() {
        let (codes, min) = read(bytes);
        // SAFETY: the caller's.
        let (x, scale) =
            unsafe { (std::slice::from_raw_parts(acts.codes(n, 32 * b), 32), *acts.scale(n, b)) };
        let sum: i32 = codes.iter().zip(x).map(|(c, &x)| c * i32::from(x)).sum();
        total = (sum as f32).mul_add(half(bytes) * scale, total);
        if let Some(min) = min {
            let all: i32 = x.iter().map(|&x| i32::from(x)).sum();
            total = min.mul_add(scale * all as f32, total);
        }
    }
    total
}

/// A super-block: 256 codes, a scale and a minimum per sub-block, `d`, `dmin` (None: minima share `d`).
struct Super {
    codes: [i32; 256],
    scales: [i32; 16],
    mins: [i32; 16],
    d: f32,
    dmin: Option<f32>,
}

unsafe fn k_row(
    row: &[u8],
    size: usize,
    subs: usize,
    acts: ActsView,
    n: usize,
    read: fn(&[u8]) -> Super,
) -> f32 {
    let mut total = 0f32;
    for (b, bytes) in row.chunks_exact(size).enumerate() {
        let block = read(bytes);
        // SAFETY: the caller's.
        let (x, scale) =
            unsafe { (std::slice::from_raw_parts(acts.codes(n, 256 * b), 256), *acts.scale(n, b)) };
        let (mut sum, mut min) = (0i32, 0i32);
        for (s, x) in x.chunks_exact(256 / subs).enumerate() {
            let codes = &block.codes[s * x.len()..];
            let dot: i32 = codes.iter().zip(x).map(|(c, &x)| c * i32::from(x)).sum();
            let all: i32 = x.iter().map(|&x| i32::from(x)).sum();
            sum += block.scales[s] * dot;
            min += block.mins[s] * all;
        }
        match block.dmin {
            None => total = ((sum - min) as f32).mul_add(block.d * scale, total),
            Some(dmin) => {
                total = (sum as f32).mul_add(block.d * scale, total);
                total = (-(min as f32)).mul_add(dmin * scale, total);
            }
        }
    }
    total
}

/// Six-bit scales and minima (ggml's packing of eight pairs in 12 bytes).
fn six_bit(packed: &[u8]) -> ([i32; 16], [i32; 16]) {
    let (mut scales, mut mins) = ([0; 16], [0; 16]);
    for j in 0..8 {
        let (scale, min) = match j {
            0..4 => (packed[j] & 63, packed[j + 4] & 63),
            _ => (
                packed[j + 4] & 15 | packed[j - 4] >> 6 << 4,
                packed[j + 4] >> 4 | packed[j] >> 6 << 4,
            ),
        };
        (scales[j], mins[j]) = (scale.into(), min.into());
    }
    (scales, mins)
}

fn q4_k(b: &[u8]) -> Super {
    let (scales, mins) = six_bit(&b[4..16]);
    let codes =
        std::array::from_fn(|i| i32::from(b[16 + i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15));
    Super { codes, scales, mins, d: half(b), dmin: Some(half(&b[2..])) }
}

fn q5_k(b: &[u8]) -> Super {
    let (scales, mins) = six_bit(&b[4..16]);
    let codes = std::array::from_fn(|i| {
        let low = b[48 + i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
        i32::from(low | (b[16 + i % 32] >> (i / 32) & 1) << 4)
    });
    Super { codes, scales, mins, d: half(b), dmin: Some(half(&b[2..])) }
}

fn q6_k(b: &[u8]) -> Super {
    let codes = std::array::from_fn(|i| {
        let (n, quarter, l) = (i / 128, i / 32 % 4, i % 32);
        let low = b[64 * n + quarter % 2 * 32 + l] >> (quarter / 2 * 4) & 15;
        let high = b[128 + 32 * n + l] >> (2 * quarter) & 3;
        i32::from(low | high << 4)
    });
    let scales: [i32; 16] = std::array::from_fn(|s| i32::from(b[192 + s] as i8));
    Super { codes, scales, mins: scales.map(|s| 32 * s), d: half(&b[208..]), dmin: None }
}
