//! Encoders of the formats whose indices name points of a grid: IQ1, IQ2 and IQ3. The search is `grid`'s; here are the grids
//! themselves and the places of the numbers.

use half::f16;

use super::grid::{self, Grid, Scales, halves_of, index, points_of};
use super::lanes::{LANES, Lanes, Tile};
use super::objective::Row;
use super::signs;
use crate::blocks::*;
use crate::simd::widest;
use crate::tables::*;

/// Levels of the 2-bit grids.
const TWO: [f32; 3] = [8.0, 25.0, 43.0];
/// Levels of the 1-bit grids; what is added to them; and the bytes that stand for them.
const ONE: [f32; 3] = [-1.0, 0.0, 1.0];
const SHIFTS: [f32; 2] = [IQ1_DELTA, -IQ1_DELTA];
const ONE_BYTES: [u8; 3] = [255, 0, 1];

macro_rules! grids {
    ($($name:ident: $group:literal of $levels:expr, $points:expr, $bytes:expr, deltas $deltas:expr, $shared:literal,
       ends $ends:expr, top $top:literal, units $units:literal;)*) => {$(
        struct $name;
        impl Grid for $name {
            const GROUP: usize = $group;
            const LEVELS: &'static [f32] = &$levels;
            const HALVES: &'static [[u8; 2]] = &halves_of(&$points, $group, &$bytes);
            const POINTS: &'static [[f32; 8]] = &points_of(&$points, $levels[0] < 0.0);
            const DELTAS: &'static [f32] = &$deltas;
            const SHARED: bool = $shared;
            const ENDS: [f32; 2] = $ends;
            const TOP: f32 = $top;
            const UNITS: f32 = $units;
        }
    )*};
}

const XXS3: [u8; 8] = [4, 12, 20, 28, 36, 44, 52, 62];
const S3: [u8; 8] = [1, 3, 5, 7, 9, 11, 13, 15];

const fn floats(bytes: [u8; 8]) -> [f32; 8] {
    let mut floats = [0.0; 8];
    let mut i = 0;
    while i < 8 {
        floats[i] = bytes[i] as f32;
        i += 1;
    }
    floats
}

const fn wide<const P: usize>(points: &[u32; P]) -> [u64; P] {
    let mut out = [0; P];
    let mut i = 0;
    while i < P {
        out[i] = points[i] as u64;
        i += 1;
    }
    out
}

grids! {
    Grid2Xxs: 8 of TWO, IQ2XXS_GRID, [8, 25, 43], deltas [0.0], false, ends [43.0, 64.0], top 31.0, units 8.0;
    Grid2Xs: 8 of TWO, IQ2XS_GRID, [8, 25, 43], deltas [0.0], false, ends [43.0, 64.0], top 31.0, units 8.0;
    Grid2S: 8 of TWO, IQ2S_GRID, [8, 25, 43], deltas [0.0], false, ends [43.0, 64.0], top 31.0, units 8.0;
    Grid3Xxs: 4 of floats(XXS3), wide(&IQ3XXS_GRID), XXS3, deltas [0.0], false, ends [62.0, 70.0], top 31.0, units 4.0;
    Grid3S: 4 of floats(S3), wide(&IQ3S_GRID), S3, deltas [0.0], false, ends [15.0, 17.0], top 31.0, units 1.0;
    Grid1S: 8 of ONE, IQ1S_GRID, ONE_BYTES, deltas SHIFTS, true, ends [1.5, 2.6], top 15.0, units 1.0;
    Grid1M: 8 of ONE, IQ1S_GRID, ONE_BYTES, deltas SHIFTS, false, ends [1.5, 2.6], top 15.0, units 1.0;
}

/// A format of this kind, with blocks of `N` weights.
pub(super) trait Encode<const N: usize>: Block {
    /// Whether signs are kept apart, and with an even number of minus signs.
    const SIGNS: Option<bool>;
    /// Encodes the super-blocks of a tile; `signs` has a byte for each 8 weights.
    fn encode(tile: &Tile<N>, signs: &[u8], out: &mut [Self]);
}

/// Encodes a row.
pub(super) fn row<B: Encode<N>, const N: usize>(mut row: Row, out: &mut [u8]) {
    let signs = match B::SIGNS {
        Some(even) => signs::split(&mut row, even),
        None => vec![0; row.x.len() / 8],
    };
    widest(
        #[inline(always)]
        || {
            let tiles = row.x.chunks(LANES * N).zip(row.w.chunks(LANES * N));
            let tiles = tiles.zip(signs.chunks(LANES * N / 8));
            let mut blocks = [B::zeroed(); 2];
            let supers = LANES * N / 256;
            for (((x, w), signs), out) in tiles.zip(out.chunks_mut(supers * size_of::<B>())) {
                let count = out.len() / size_of::<B>();
                B::encode(&Tile::load(x, w), signs, &mut blocks[..count]);
                out.copy_from_slice(&bytemuck::cast_slice(&blocks)[..out.len()]);
            }
        },
    )
}

/// The 4-bit code of a lane's scale.
#[inline(always)]
fn code(s: Lanes, lane: usize) -> u8 {
    s.0[lane] as u8 >> 1
}

/// Codes of sixteen or eight scales, two in a byte.
#[inline(always)]
fn nibbles<const BYTES: usize>(s: Lanes, first: usize) -> [u8; BYTES] {
    std::array::from_fn(|j| code(s, first + 2 * j) | code(s, first + 2 * j + 1) << 4)
}

/// Signs of 32 weights in seven bits for each 8, and a scale's code in the top four.
#[inline(always)]
fn word(signs: &[u8], scale: u8) -> [u8; 4] {
    let signs = (0..4).fold(0, |word, k| word | u32::from(signs[k] & 127) << (7 * k));
    (signs | u32::from(scale) << 28).to_le_bytes()
}

impl Encode<32> for BlockIq2Xxs {
    const SIGNS: Option<bool> = Some(true);

    #[inline(always)]
    fn encode(tile: &Tile<32>, signs: &[u8], out: &mut [Self]) {
        let Scales { d, s, points } = grid::scales::<Grid2Xxs, 32, 8>(tile);
        for (i, out) in out.iter_mut().enumerate() {
            out.d = f16::from_f32(d.0[8 * i]);
            for (j, qs) in out.qs.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                let lane = 8 * i + j;
                let [a, b, c, d] = std::array::from_fn(|k| index(&points, k, lane) as u8);
                let [e, f, g, h] = word(&signs[4 * lane..], code(s, lane));
                *qs = [a, b, c, d, e, f, g, h];
            }
        }
    }
}

impl Encode<16> for BlockIq2Xs {
    const SIGNS: Option<bool> = Some(true);

    #[inline(always)]
    fn encode(tile: &Tile<16>, signs: &[u8], out: &mut [Self]) {
        let Scales { d, s, points } = grid::scales::<Grid2Xs, 16, 16>(tile);
        for out in out {
            *out = BlockIq2Xs {
                d: f16::from_f32(d.0[0]),
                qs: std::array::from_fn(|g| {
                    index(&points, g % 2, g / 2) | u16::from(signs[g] & 127) << 9
                }),
                scales: nibbles(s, 0),
            };
        }
    }
}

impl Encode<16> for BlockIq2S {
    const SIGNS: Option<bool> = Some(false);

    #[inline(always)]
    fn encode(tile: &Tile<16>, signs: &[u8], out: &mut [Self]) {
        let Scales { d, s, points } = grid::scales::<Grid2S, 16, 16>(tile);
        let indices: [u16; 32] = std::array::from_fn(|g| index(&points, g % 2, g / 2));
        let high = |i: usize| (0..4).fold(0, |b, k| b | (indices[4 * i + k] >> 8) << (2 * k)) as u8;
        for out in out {
            *out = BlockIq2S {
                d: f16::from_f32(d.0[0]),
                qs: indices.map(|index| index as u8),
                signs: std::array::from_fn(|g| signs[g]),
                qh: std::array::from_fn(high),
                scales: nibbles(s, 0),
            };
        }
    }
}

impl Encode<32> for BlockIq3Xxs {
    const SIGNS: Option<bool> = Some(true);

    #[inline(always)]
    fn encode(tile: &Tile<32>, signs: &[u8], out: &mut [Self]) {
        let Scales { d, s, points } = grid::scales::<Grid3Xxs, 32, 8>(tile);
        for (i, out) in out.iter_mut().enumerate() {
            out.d = f16::from_f32(d.0[8 * i]);
            out.qs = std::array::from_fn(|g| index(&points, g % 8, 8 * i + g / 8) as u8);
            let words = out.scales_and_signs.as_chunks_mut::<4>().0;
            for (j, out) in words.iter_mut().enumerate() {
                *out = word(&signs[4 * (8 * i + j)..], code(s, 8 * i + j));
            }
        }
    }
}

impl Encode<32> for BlockIq3S {
    const SIGNS: Option<bool> = Some(false);

    #[inline(always)]
    fn encode(tile: &Tile<32>, signs: &[u8], out: &mut [Self]) {
        let Scales { d, s, points } = grid::scales::<Grid3S, 32, 8>(tile);
        for (i, out) in out.iter_mut().enumerate() {
            let indices: [u16; 64] = std::array::from_fn(|g| index(&points, g % 8, 8 * i + g / 8));
            let high = |j: usize| (0..8).fold(0, |b, k| b | (indices[8 * j + k] >> 8) << k) as u8;
            *out = BlockIq3S {
                d: f16::from_f32(d.0[8 * i]),
                qs: indices.map(|index| index as u8),
                qh: std::array::from_fn(high),
                signs: std::array::from_fn(|g| signs[32 * i + g]),
                scales: nibbles(s, 8 * i),
            };
        }
    }
}

impl Encode<32> for BlockIq1S {
    const SIGNS: Option<bool> = None;

    #[inline(always)]
    fn encode(tile: &Tile<32>, _: &[u8], out: &mut [Self]) {
        let Scales { d, s, points } = grid::scales::<Grid1S, 32, 8>(tile);
        for (i, out) in out.iter_mut().enumerate() {
            let word = |j: usize| {
                let lane = 8 * i + j;
                let high = (0..4).fold(0, |b, k| b | (index(&points, k, lane) >> 8) << (3 * k));
                let subtract = u16::from(points.delta[0].0[lane] < 0.0);
                high | u16::from(code(s, lane)) << 12 | subtract << 15
            };
            *out = BlockIq1S {
                d: f16::from_f32(d.0[8 * i]),
                qs: std::array::from_fn(|g| index(&points, g % 4, 8 * i + g / 4) as u8),
                qh: std::array::from_fn(word),
            };
        }
    }
}

impl Encode<16> for BlockIq1M {
    const SIGNS: Option<bool> = None;

    #[inline(always)]
    fn encode(tile: &Tile<16>, _: &[u8], out: &mut [Self]) {
        let Scales { d, s, points } = grid::scales::<Grid1M, 16, 16>(tile);
        let high = |g: usize| {
            let subtract = u8::from(points.delta[g % 2].0[g / 2] < 0.0);
            (index(&points, g % 2, g / 2) >> 8) as u8 | subtract << 3
        };
        let d = f16::from_f32(d.0[0]).to_bits();
        let word = |i: usize| {
            let scales = (0..4).fold(0, |b, k| b | u16::from(code(s, 4 * i + k)) << (3 * k));
            scales | (d >> (4 * i) & 15) << 12
        };
        for out in out {
            *out = BlockIq1M {
                qs: std::array::from_fn(|g| index(&points, g % 2, g / 2) as u8),
                qh: std::array::from_fn(|i| high(2 * i) | high(2 * i + 1) << 4),
                scales: std::array::from_fn(|i| word(i / 2).to_le_bytes()[i % 2]),
            };
        }
    }
}
