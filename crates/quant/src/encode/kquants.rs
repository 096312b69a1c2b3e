//! Encoders of the super-blocks of 256 weights whose blocks have whole-numbered scales: Q2_K to Q6_K and IQ4_XS. The
//! searches are `affine` and `levels`; here the numbers get their places.

use half::f16;

use super::affine;
use super::iq4::Iq4;
use super::lanes::{LANES, Lanes, Tile};
use super::levels::{self, Levels, Whole};
use super::objective::Row;
use crate::blocks::*;
use crate::simd::widest;

/// A format whose blocks of `N` weights are encoded a tile at a time. (A trait, as functions that are passed as values are
/// not inlined, and so would miss the vectors.)
pub(super) trait Encode<const N: usize>: Block {
    /// Encodes a whole tile.
    fn encode(tile: &Tile<N>, out: &mut [Self]);
}

/// Encodes a row.
pub(super) fn row<B: Encode<N>, const N: usize>(row: &Row, out: &mut [u8]) {
    widest(
        #[inline(always)]
        || {
            let tiles = row.x.chunks(LANES * N).zip(row.w.chunks(LANES * N));
            let mut blocks = [B::zeroed(); LANES];
            let count = LANES * N / B::LEN;
            for ((x, w), out) in tiles.zip(out.chunks_mut(count * size_of::<B>())) {
                B::encode(&Tile::load(x, w), &mut blocks[..count]);
                out.copy_from_slice(&bytemuck::cast_slice(&blocks)[..out.len()]);
            }
        },
    )
}

/// Packs codes of `BITS` bits in planes of `CHUNK` bytes, as [`crate::decode::planes`] reads them; bits above are dropped.
#[inline(always)]
fn pack<const BITS: usize, const CHUNK: usize, const N: usize>(codes: &[u8]) -> [u8; N] {
    let mask = u8::MAX >> (8 - BITS);
    let mut bytes = [0; N];
    let runs = codes.chunks_exact(CHUNK * 8 / BITS);
    for (bytes, run) in bytes.chunks_exact_mut(CHUNK).zip(runs) {
        for (plane, codes) in run.chunks_exact(CHUNK).enumerate() {
            for (byte, code) in bytes.iter_mut().zip(codes) {
                *byte |= (code & mask) << (plane * BITS);
            }
        }
    }
    bytes
}

/// Bits above the lowest `by` of each code.
#[inline(always)]
fn above(codes: &[u8], by: u32) -> [u8; 256] {
    std::array::from_fn(|i| codes[i] >> by)
}

/// The lanes of a super-block as bytes, after an offset is added.
#[inline(always)]
fn whole<const B: usize>(lanes: Lanes, at: usize, offset: f32) -> [u8; B] {
    std::array::from_fn(|j| (lanes.0[at + j] + offset) as u8)
}

/// A half-precision number of the super-block whose lanes begin at `at`.
#[inline(always)]
fn factor(lanes: Lanes, at: usize) -> f16 {
    f16::from_f32(lanes.0[at])
}

impl Encode<16> for BlockQ2K {
    #[inline(always)]
    fn encode(tile: &Tile<16>, out: &mut [Self]) {
        let s = affine::scales::<16, 16>(tile, 3.0, 15.0);
        let mut codes = [0; 256];
        affine::codes(tile, s.fit(), 3.0, &mut codes);
        let (scales, mins): ([u8; 16], [u8; 16]) = (whole(s.s, 0, 0.0), whole(s.m, 0, 0.0));
        for out in out {
            *out = BlockQ2K {
                scales: std::array::from_fn(|j| scales[j] | mins[j] << 4),
                qs: pack::<2, 32, 64>(&codes),
                d: factor(s.d, 0),
                dmin: factor(s.dmin, 0),
            };
        }
    }
}

impl Encode<16> for BlockQ3K {
    #[inline(always)]
    fn encode(tile: &Tile<16>, out: &mut [Self]) {
        let s = levels::scales::<Whole<4>, 16, 16>(tile, -32.0, 31.0);
        let codes = centred::<Whole<4>, 16, 256>(tile, s, 4.0);
        let scales: [u8; 16] = whole(s.s, 0, 32.0);
        let low: [u8; 8] = pack::<4, 8, 8>(&scales);
        let high: [u8; 4] = pack::<2, 4, 4>(&scales.map(|s| s >> 4));
        for out in out {
            *out = BlockQ3K {
                hmask: pack::<1, 32, 32>(&above(&codes, 2)),
                qs: pack::<2, 32, 64>(&codes),
                scales: std::array::from_fn(|j| if j < 8 { low[j] } else { high[j - 8] }),
                d: factor(s.d, 0),
            };
        }
    }
}

impl Encode<32> for BlockQ4K {
    #[inline(always)]
    fn encode(tile: &Tile<32>, out: &mut [Self]) {
        let s = affine::scales::<32, 8>(tile, 15.0, 63.0);
        let mut codes = [0; 512];
        affine::codes(tile, s.fit(), 15.0, &mut codes);
        for (i, (out, codes)) in out.iter_mut().zip(codes.chunks_exact(256)).enumerate() {
            *out = BlockQ4K {
                d: factor(s.d, 8 * i),
                dmin: factor(s.dmin, 8 * i),
                scales: six_bits(whole(s.s, 8 * i, 0.0), whole(s.m, 8 * i, 0.0)),
                qs: pack::<4, 32, 128>(codes),
            };
        }
    }
}

impl Encode<32> for BlockQ5K {
    #[inline(always)]
    fn encode(tile: &Tile<32>, out: &mut [Self]) {
        let s = affine::scales::<32, 8>(tile, 31.0, 63.0);
        let mut codes = [0; 512];
        affine::codes(tile, s.fit(), 31.0, &mut codes);
        for (i, (out, codes)) in out.iter_mut().zip(codes.chunks_exact(256)).enumerate() {
            *out = BlockQ5K {
                d: factor(s.d, 8 * i),
                dmin: factor(s.dmin, 8 * i),
                scales: six_bits(whole(s.s, 8 * i, 0.0), whole(s.m, 8 * i, 0.0)),
                qh: pack::<1, 32, 32>(&above(codes, 4)),
                qs: pack::<4, 32, 128>(codes),
            };
        }
    }
}

impl Encode<16> for BlockQ6K {
    #[inline(always)]
    fn encode(tile: &Tile<16>, out: &mut [Self]) {
        let s = levels::scales::<Whole<32>, 16, 16>(tile, -128.0, 127.0);
        let codes = centred::<Whole<32>, 16, 256>(tile, s, 32.0);
        for out in out {
            *out = BlockQ6K {
                ql: pack::<4, 64, 128>(&codes),
                qh: pack::<2, 32, 64>(&above(&codes, 4)),
                scales: std::array::from_fn(|j| s.s.0[j] as i8),
                d: factor(s.d, 0),
            };
        }
    }
}

impl Encode<32> for BlockIq4Xs {
    #[inline(always)]
    fn encode(tile: &Tile<32>, out: &mut [Self]) {
        let s = levels::scales::<Iq4, 32, 8>(tile, -32.0, 31.0);
        let mut values = [0.0; 512];
        levels::levels::<Iq4, 32>(tile, s.d * s.s, &mut values);
        for (i, (out, values)) in out.iter_mut().zip(values.chunks_exact(256)).enumerate() {
            let scales: [u8; 8] = whole(s.s, 8 * i, 32.0);
            let codes: [u8; 256] = std::array::from_fn(|j| Iq4::code(values[j]));
            let high = (0..8).fold(0, |bits, j| bits | u16::from(scales[j] >> 4) << (2 * j));
            *out = BlockIq4Xs {
                d: factor(s.d, 8 * i),
                scales_h: high,
                scales_l: pack::<4, 1, 4>(&scales),
                qs: pack::<4, 16, 128>(&codes),
            };
        }
    }
}

/// The levels of all weights, moved so that the lowest is 0.
#[inline(always)]
fn centred<L: Levels, const N: usize, const COUNT: usize>(
    tile: &Tile<N>,
    s: levels::Scales,
    zero: f32,
) -> [u8; COUNT] {
    let mut values = [0.0; COUNT];
    levels::levels::<L, N>(tile, s.d * s.s, &mut values);
    std::array::from_fn(|i| (values[i] + zero) as u8)
}

/// Scales and minima of Q4_K and Q5_K, as [`crate::decode::scales_and_mins`] reads them.
#[inline(always)]
fn six_bits(scales: [u8; 8], mins: [u8; 8]) -> [u8; 12] {
    std::array::from_fn(|j| match j {
        0..4 => scales[j] | scales[j + 4] >> 4 << 6,
        4..8 => mins[j - 4] | mins[j] >> 4 << 6,
        _ => scales[j - 4] & 15 | mins[j - 4] << 4,
    })
}
