//! How each block type becomes codes, scales and minima: one body per type for all instruction sets, and for both
//! ways on from there (kept in a panel, or multiplied at once: see `tile`). Bytes of `LANES` rows are loaded
//! transposed, so that unpacking is the same bit arithmetic as on a single row. Layouts: `hob_quant::blocks`.
#![allow(unsafe_op_in_unsafe_fn)]

mod grids;
mod kquants;
mod levels;
mod simple;

pub use grids::{Iq1M, Iq1S, Iq2S, Iq2Xs, Iq2Xxs, Iq3S, Iq3Xxs};
pub use kquants::{Q2K, Q3K, Q4K, Q5K, Q6K};
pub use levels::{Iq4Nl, Iq4Xs, Mxfp4, Nvfp4};
pub use simple::{Q1_0, Q2_0, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Tq1_0, Tq2_0};

use crate::isa::Isa;

/// The `DEPTH` of signed codes: see [`Isa::sub_dot`].
pub const SIGNED: usize = 0;

/// A type with super-blocks of 256: integer scales per sub-block, one or two half-precision factors.
pub trait SuperCodec: Copy + Send + Sync + 'static {
    /// Bytes of a super-block.
    const BYTES: usize;
    /// Sub-blocks with a scale of their own: 8 of 32 or 16 of 16.
    const SUBS: usize;
    /// Products that fit in i16 beside each other: see [`Isa::sub_dot`]. At most 4 where sub-blocks have 16.
    const DEPTH: usize;
    /// The minima share the scale's factor, so both sums meet as integers; else they have a factor `dmin`.
    const ONE_FACTOR: bool;

    /// Unpacks one super-block of `LANES` rows: factors, scales and minima first, then codes.
    ///
    /// # Safety
    /// `block + lane * stride` points to `BYTES` bytes for every lane.
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl SuperSink<I>);
}

/// Takes the parts of a super-block.
pub trait SuperSink<I: Isa> {
    /// `d` and, for two-factor types, `dmin`.
    unsafe fn factors(&mut self, d: I::F, dmin: I::F);
    /// The scale of a sub-block, as signed dwords.
    unsafe fn scale(&mut self, sub: usize, scale: I::V);
    /// Minima of sub-blocks `2 * pair` and `2 * pair + 1`, as pairs of i16.
    unsafe fn mins(&mut self, pair: usize, mins: I::V);
    /// Four dwords of codes of a sub-block, from dword `step`.
    unsafe fn codes(&mut self, sub: usize, step: usize, codes: [I::V; 4]);
}

/// A type with factors of its own for each 32 or 16 weights, in blocks of one or more parts of 32.
pub trait BlockCodec: Copy + Send + Sync + 'static {
    /// Bytes of a block.
    const BYTES: usize;
    /// Parts of 32 weights in a block.
    const PARTS: usize = 1;
    /// Products that fit in i16 beside each other: see [`Isa::sub_dot`]. At most 4 with [`Factors::Halves`].
    const DEPTH: usize;
    /// Taken off each code; for signed codes the bias is.
    const OFFSET: u8 = 0;
    /// What the two factors of a part are.
    const FACTORS: Factors = Factors::One;

    /// Unpacks one block of `LANES` rows, part by part.
    ///
    /// # Safety
    /// `block + lane * stride` points to `BYTES` bytes for every lane.
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl BlockSink<I>);
}

/// The factors of a part of 32 weights.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Factors {
    /// A scale; the second is not read.
    One,
    /// A scale, and what is added to every weight.
    Minimum,
    /// A scale for each half of 16.
    Halves,
}

/// Takes the parts of a block.
pub trait BlockSink<I: Isa> {
    /// Factors, then codes of weights 0 to 15 and 16 to 31 of part `part`.
    unsafe fn part(&mut self, part: usize, factors: [I::F; 2], codes: [[I::V; 4]; 2]);
}

/// The four bytes of each dword.
#[inline(always)]
unsafe fn bytes<I: Isa>(isa: I, v: I::V) -> [I::V; 4] {
    let byte = isa.splat(0xff);
    [
        isa.and(v, byte),
        isa.and(isa.shr::<8>(v), byte),
        isa.and(isa.shr::<16>(v), byte),
        isa.shr::<24>(v),
    ]
}

/// `codes | bits & mask`, vector by vector. (`array::map` with a closure may not be inlined; the closure would then
/// lose its instruction set.)
#[inline(always)]
unsafe fn join<I: Isa>(isa: I, codes: [I::V; 4], bits: [I::V; 4], mask: u32) -> [I::V; 4] {
    let mask = isa.splat(mask);
    [
        isa.or(codes[0], isa.and(bits[0], mask)),
        isa.or(codes[1], isa.and(bits[1], mask)),
        isa.or(codes[2], isa.and(bits[2], mask)),
        isa.or(codes[3], isa.and(bits[3], mask)),
    ]
}

#[inline(always)]
unsafe fn shl<I: Isa, const N: i32>(isa: I, v: [I::V; 4]) -> [I::V; 4] {
    [isa.shl::<N>(v[0]), isa.shl::<N>(v[1]), isa.shl::<N>(v[2]), isa.shl::<N>(v[3])]
}

#[inline(always)]
unsafe fn shr<I: Isa, const N: i32>(isa: I, v: [I::V; 4]) -> [I::V; 4] {
    [isa.shr::<N>(v[0]), isa.shr::<N>(v[1]), isa.shr::<N>(v[2]), isa.shr::<N>(v[3])]
}

#[inline(always)]
unsafe fn and<I: Isa>(isa: I, v: [I::V; 4], mask: u32) -> [I::V; 4] {
    let mask = isa.splat(mask);
    [isa.and(v[0], mask), isa.and(v[1], mask), isa.and(v[2], mask), isa.and(v[3], mask)]
}

/// Low nibbles of each byte.
#[inline(always)]
unsafe fn low<I: Isa>(isa: I, v: [I::V; 4]) -> [I::V; 4] {
    and(isa, v, 0x0f0f_0f0f)
}

/// High nibbles of each byte.
#[inline(always)]
unsafe fn high<I: Isa>(isa: I, v: [I::V; 4]) -> [I::V; 4] {
    and(isa, shr::<I, 4>(isa, v), 0x0f0f_0f0f)
}

/// The same for each vector of four: `choose` by the bits of dwords `4 * HALF ..` of a part of 32.
#[inline(always)]
unsafe fn choose<I: Isa, const HALF: usize>(
    isa: I,
    bits: I::V,
    set: [I::V; 4],
    clear: [I::V; 4],
) -> [I::V; 4] {
    match HALF {
        0 => [
            isa.choose::<0>(bits, set[0], clear[0]),
            isa.choose::<1>(bits, set[1], clear[1]),
            isa.choose::<2>(bits, set[2], clear[2]),
            isa.choose::<3>(bits, set[3], clear[3]),
        ],
        _ => [
            isa.choose::<4>(bits, set[0], clear[0]),
            isa.choose::<5>(bits, set[1], clear[1]),
            isa.choose::<6>(bits, set[2], clear[2]),
            isa.choose::<7>(bits, set[3], clear[3]),
        ],
    }
}

/// Two scales as the pair of i16 that minima are.
#[inline(always)]
unsafe fn pair<I: Isa>(isa: I, even: I::V, odd: I::V) -> I::V {
    isa.or(isa.and(even, isa.splat(0xffff)), isa.shl::<16>(odd))
}
