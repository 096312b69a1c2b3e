//! Encoders of lone blocks of 32 weights that search for their scale: Q4_0 to Q5_1 where importance is known, and MXFP4, whose
//! scale is a power of two. (Without importance the first four are `simple`'s, as ggml's reference.)

use half::f16;

use super::affine::{self, Fit};
use super::half;
use super::kquants::Encode;
use super::lanes::{LANES, Lanes, Tile};
use super::levels::{self, Levels, Whole};
use super::simple::{pack_fifth_bits, pack_nibbles};
use crate::blocks::*;
use crate::float::e8m0_half;
use crate::tables::KVALUES_FP4;

/// Scale and codes of sixteen blocks whose middle code is zero.
#[inline(always)]
fn centred<const N: i32>(tile: &Tile<32>) -> (Lanes, [[u8; 32]; LANES]) {
    let d = half::<1>(levels::scale::<Whole<N>, 32>(tile));
    let mut values = [0.0; 32 * LANES];
    levels::levels::<Whole<N>, 32>(tile, d, &mut values);
    let code = |lane: usize, i: usize| (values[32 * lane + i] + N as f32) as u8;
    (d, std::array::from_fn(|lane| std::array::from_fn(|i| code(lane, i))))
}

impl Encode<32> for BlockQ4_0 {
    #[inline(always)]
    fn encode(tile: &Tile<32>, out: &mut [Self]) {
        let (d, codes) = centred::<8>(tile);
        for (lane, (out, codes)) in out.iter_mut().zip(&codes).enumerate() {
            *out = BlockQ4_0 { d: f16::from_f32(d.0[lane]), qs: pack_nibbles(codes) };
        }
    }
}

impl Encode<32> for BlockQ5_0 {
    #[inline(always)]
    fn encode(tile: &Tile<32>, out: &mut [Self]) {
        let (d, codes) = centred::<16>(tile);
        for (lane, (out, codes)) in out.iter_mut().zip(&codes).enumerate() {
            let d = f16::from_f32(d.0[lane]);
            *out = BlockQ5_0 { d, qh: pack_fifth_bits(codes), qs: pack_nibbles(codes) };
        }
    }
}

/// Fit and codes of sixteen blocks with a minimum, which may have either sign.
#[inline(always)]
fn shifted(tile: &Tile<32>, top: f32) -> (Fit, [u8; 32 * LANES]) {
    let Fit { scale, min } = affine::fit::<32, true>(tile, top);
    let fit = Fit { scale: half::<1>(scale), min: half::<1>(min) };
    let mut codes = [0; 32 * LANES];
    affine::codes(tile, fit, top, &mut codes);
    (fit, codes)
}

impl Encode<32> for BlockQ4_1 {
    #[inline(always)]
    fn encode(tile: &Tile<32>, out: &mut [Self]) {
        let (fit, codes) = shifted(tile, 15.0);
        for (lane, (out, codes)) in out.iter_mut().zip(codes.as_chunks().0).enumerate() {
            let (d, m) = (f16::from_f32(fit.scale.0[lane]), f16::from_f32(-fit.min.0[lane]));
            *out = BlockQ4_1 { d, m, qs: pack_nibbles(codes) };
        }
    }
}

impl Encode<32> for BlockQ5_1 {
    #[inline(always)]
    fn encode(tile: &Tile<32>, out: &mut [Self]) {
        let (fit, codes) = shifted(tile, 31.0);
        for (lane, (out, codes)) in out.iter_mut().zip(codes.as_chunks().0).enumerate() {
            let (d, m) = (f16::from_f32(fit.scale.0[lane]), f16::from_f32(-fit.min.0[lane]));
            *out = BlockQ5_1 { d, m, qh: pack_fifth_bits(codes), qs: pack_nibbles(codes) };
        }
    }
}

/// Twice the values of E2M1.
struct Fp4;

impl Levels for Fp4 {
    const ENDS: [f32; 2] = [-12.0, 12.0];
    const TRIES: i32 = 0;
    const STEP: f32 = 0.0;

    #[inline(always)]
    fn nearest(u: Lanes) -> Lanes {
        u.map(
            #[inline(always)]
            |u| {
                let mut level = 0.0;
                for pair in KVALUES_FP4[..8].windows(2) {
                    let (low, high) = (f32::from(pair[0]), f32::from(pair[1]));
                    level += if u.abs() > 0.5 * (low + high) { high - low } else { 0.0 };
                }
                if u < 0.0 { -level } else { level }
            },
        )
    }
}

/// The code of a doubled E2M1 value.
#[inline(always)]
fn fp4_code(level: f32) -> u8 {
    const CODES: [u8; 13] = [0, 1, 2, 3, 4, 0, 5, 0, 6, 0, 0, 0, 7];
    CODES[usize::from(level.abs() as u8).min(12)] | if level < 0.0 { 8 } else { 0 }
}

impl Encode<32> for BlockMxfp4 {
    /// The largest weight is put on 6 or below, or cut off, whichever of the neighbouring powers serves best.
    #[inline(always)]
    fn encode(tile: &Tile<32>, out: &mut [Self]) {
        let start = tile.extreme().0.map(|x| (x.to_bits() >> 23 & 255) as i32 - 2);
        let (mut best, mut least) = ([0u8; LANES], Lanes::splat(f32::INFINITY));
        let mut scales = Lanes::ZERO;
        for by in [0, 1, -1] {
            let e = start.map(|e| (e + by).clamp(0, 254) as u8);
            let scale = Lanes(e.map(e8m0_half));
            let error = levels::error::<Fp4, 32>(tile, scale);
            for lane in 0..LANES {
                if error.0[lane] < least.0[lane] {
                    best[lane] = e[lane];
                }
            }
            scales = scale.if_less(error, least, scales);
            least = error.min(least);
        }
        let mut values = [0.0; 32 * LANES];
        levels::levels::<Fp4, 32>(tile, scales, &mut values);
        for (lane, (out, values)) in out.iter_mut().zip(values.as_chunks::<32>().0).enumerate() {
            let qs = std::array::from_fn(|j| fp4_code(values[j]) | fp4_code(values[j + 16]) << 4);
            *out = BlockMxfp4 { e: best[lane], qs };
        }
    }
}
