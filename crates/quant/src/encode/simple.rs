//! Round-to-nearest encoders for the formats whose scale is plain arithmetic, equal bit for bit to
//! ggml's reference (`quantize_row_*_ref`). Deliberately absent: searching for scales.

use half::f16;

use crate::blocks::*;
use crate::simd::widest;

/// A format with such an encoder. (A trait, as functions that are passed as values are not inlined.)
pub(super) trait Nearest: Block {
    /// Encodes a block.
    fn nearest(weights: &[f32; 32]) -> Self;
}

/// Encodes a row.
pub(super) fn row<B: Nearest>(weights: &[f32], out: &mut [u8]) {
    widest(
        #[inline(always)]
        || {
            let blocks = out.chunks_exact_mut(size_of::<B>());
            for (out, weights) in blocks.zip(weights.as_chunks().0) {
                out.copy_from_slice(bytemuck::bytes_of(&B::nearest(weights)));
            }
        },
    )
}

/// `1 / d`, or 0 for a block of zeros.
#[inline(always)]
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// The weight of largest magnitude (the first of equals), with its sign.
#[inline(always)]
fn extreme(weights: &[f32; 32]) -> f32 {
    weights.iter().fold(0.0, |max: f32, &w| if w.abs() > max.abs() { w } else { max })
}

/// The smallest and the largest weight.
#[inline(always)]
fn range(weights: &[f32; 32]) -> (f32, f32) {
    let start = (f32::MAX, f32::MIN);
    weights.iter().fold(start, |(min, max), &w| {
        (if w < min { w } else { min }, if w > max { w } else { max })
    })
}

/// Packs 4-bit codes in planes of 16; bits above are dropped.
#[inline(always)]
pub(super) fn pack_nibbles(codes: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|j| codes[j] & 15 | codes[j + 16] << 4)
}

/// Packs bit 4 of each code, in order.
#[inline(always)]
pub(super) fn pack_fifth_bits(codes: &[u8; 32]) -> [u8; 4] {
    let bits = codes.iter().rev().fold(0u32, |bits, code| bits << 1 | u32::from(code >> 4 & 1));
    bits.to_le_bytes()
}

/// Scale and codes with the extreme weight at code 0: `w = d * (code - zero)`.
#[inline(always)]
fn symmetric(weights: &[f32; 32], zero: u8) -> (f16, [u8; 32]) {
    let d = extreme(weights) / -f32::from(zero);
    let id = inverse(d);
    let half_up = f32::from(zero) + 0.5;
    (f16::from_f32(d), weights.map(|w| ((w * id + half_up) as u8).min(2 * zero - 1)))
}

/// Scale, minimum and codes: `w = d * code + m`.
#[inline(always)]
fn affine(weights: &[f32; 32], top: u8) -> (f16, f16, [u8; 32]) {
    let (min, max) = range(weights);
    let d = (max - min) / f32::from(top);
    let id = inverse(d);
    let codes = weights.map(|w| (((w - min) * id + 0.5) as u8).min(top));
    (f16::from_f32(d), f16::from_f32(min), codes)
}

impl Nearest for BlockQ4_0 {
    #[inline(always)]
    fn nearest(weights: &[f32; 32]) -> Self {
        let (d, codes) = symmetric(weights, 8);
        BlockQ4_0 { d, qs: pack_nibbles(&codes) }
    }
}

impl Nearest for BlockQ4_1 {
    #[inline(always)]
    fn nearest(weights: &[f32; 32]) -> Self {
        let (d, m, codes) = affine(weights, 15);
        BlockQ4_1 { d, m, qs: pack_nibbles(&codes) }
    }
}

impl Nearest for BlockQ5_0 {
    #[inline(always)]
    fn nearest(weights: &[f32; 32]) -> Self {
        let (d, codes) = symmetric(weights, 16);
        BlockQ5_0 { d, qh: pack_fifth_bits(&codes), qs: pack_nibbles(&codes) }
    }
}

impl Nearest for BlockQ5_1 {
    #[inline(always)]
    fn nearest(weights: &[f32; 32]) -> Self {
        let (d, m, codes) = affine(weights, 31);
        BlockQ5_1 { d, m, qh: pack_fifth_bits(&codes), qs: pack_nibbles(&codes) }
    }
}

impl Nearest for BlockQ8_0 {
    #[inline(always)]
    fn nearest(weights: &[f32; 32]) -> Self {
        let d = extreme(weights).abs() / 127.0;
        let id = inverse(d);
        BlockQ8_0 { d: f16::from_f32(d), qs: weights.map(|w| (w * id).round() as i8) }
    }
}
