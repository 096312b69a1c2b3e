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

/// The code of each weight. A loop, because `array::map` may stay a call of its own, compiled for the baseline.
#[inline(always)]
fn codes<T: Copy + Default>(weights: &[f32; 32], code: impl Fn(f32) -> T) -> [T; 32] {
    let mut codes = [T::default(); 32];
    for (out, &weight) in codes.iter_mut().zip(weights) {
        *out = code(weight);
    }
    codes
}

/// The largest magnitude. Magnitudes are in the order of their bits, and integers are compared many at a time.
#[inline(always)]
fn magnitude(weights: &[f32; 32]) -> f32 {
    f32::from_bits(weights.iter().fold(0, |top, w| top.max(w.abs().to_bits())))
}

/// The weight of largest magnitude (the first of equals), with its sign.
#[inline(always)]
fn extreme(weights: &[f32; 32]) -> f32 {
    let top = magnitude(weights);
    let mut first = 32;
    for (j, weight) in (0u32..).zip(weights) {
        first = first.min(if weight.abs() == top { j } else { 32 });
    }
    weights.get(first as usize).copied().unwrap_or(0.0)
}

/// `x` without its fraction, from 0 to 255: by way of i32, which processors convert many at a time.
#[inline(always)]
fn truncate(x: f32) -> u8 {
    (x as i32).clamp(0, 255) as u8
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
    let (low, high) = codes.split_at(16);
    let mut packed = [0; 16];
    for (out, (low, high)) in packed.iter_mut().zip(low.iter().zip(high)) {
        *out = low & 15 | high << 4;
    }
    packed
}

/// Packs bit 4 of each code, in order.
#[inline(always)]
pub(super) fn pack_fifth_bits(codes: &[u8; 32]) -> [u8; 4] {
    let mut bits = 0;
    for (j, &code) in (0u32..).zip(codes) {
        bits |= u32::from(code >> 4 & 1) << j;
    }
    bits.to_le_bytes()
}

/// Scale and codes with the extreme weight at code 0: `w = d * (code - zero)`.
#[inline(always)]
fn symmetric(weights: &[f32; 32], zero: u8) -> (f16, [u8; 32]) {
    let d = extreme(weights) / -f32::from(zero);
    let id = inverse(d);
    let half_up = f32::from(zero) + 0.5;
    let codes = codes(
        weights,
        #[inline(always)]
        |w| truncate(w * id + half_up).min(2 * zero - 1),
    );
    (f16::from_f32(d), codes)
}

/// Scale, minimum and codes: `w = d * code + m`.
#[inline(always)]
fn affine(weights: &[f32; 32], top: u8) -> (f16, f16, [u8; 32]) {
    let (min, max) = range(weights);
    let d = (max - min) / f32::from(top);
    let id = inverse(d);
    let codes = codes(
        weights,
        #[inline(always)]
        |w| truncate((w - min) * id + 0.5).min(top),
    );
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
        let d = magnitude(weights) / 127.0;
        let id = inverse(d);
        BlockQ8_0 {
            d: f16::from_f32(d),
            qs: codes(
                weights,
                #[inline(always)]
                |w| ((w * id).round() as i32).clamp(-128, 127) as i8,
            ),
        }
    }
}
