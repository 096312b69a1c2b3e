//! How each block type becomes codes, scales and minima: one body per type for all instruction sets, and for both
//! ways on from there (kept in a panel, or multiplied at once: see `tile`). Bytes of `LANES` rows are loaded
//! transposed, so that unpacking is the same bit arithmetic as on a single row. Layouts: `hob_quant::blocks`.
//! Types without a codec here go through the float kernels.
#![allow(unsafe_op_in_unsafe_fn)]

use crate::isa::Isa;

/// A type with super-blocks of 256: integer scales per sub-block, one or two half-precision factors.
pub trait SuperCodec: Copy + Send + Sync + 'static {
    /// Bytes of a super-block.
    const BYTES: usize;
    /// Sub-blocks with a scale of their own: 8 of 32 or 16 of 16.
    const SUBS: usize;
    /// Products that fit in i16 beside each other: see [`Isa::sub_dot`].
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

/// Six-bit scales and minima of Q4_K and Q5_K, and the two factors: the first 16 bytes of the block.
#[inline(always)]
unsafe fn k_head<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl SuperSink<I>) {
    let [d, first, second, third] = isa.load_rows(block, stride);
    to.factors(isa.half_low(d), isa.half_high(d));
    let (six, four) = (isa.splat(0x3f3f_3f3f), isa.splat(0x0f0f_0f0f));
    let two = isa.splat(0x3030_3030);
    let (top_scales, top_mins) =
        (isa.and(isa.shr::<2>(first), two), isa.and(isa.shr::<2>(second), two));
    let scales = [isa.and(first, six), isa.or(isa.and(third, four), top_scales)];
    let mins = [isa.and(second, six), isa.or(isa.and(isa.shr::<4>(third), four), top_mins)];
    for half in 0..2 {
        for (j, scale) in bytes(isa, scales[half]).into_iter().enumerate() {
            to.scale(4 * half + j, scale);
        }
        let [a, b, c, d] = bytes(isa, mins[half]);
        to.mins(2 * half, isa.or(a, isa.shl::<16>(b)));
        to.mins(2 * half + 1, isa.or(c, isa.shl::<16>(d)));
    }
}

/// 4 bits and a six-bit scale and minimum per 32.
#[derive(Clone, Copy)]
pub struct Q4K;

impl SuperCodec for Q4K {
    const BYTES: usize = 144;
    const SUBS: usize = 8;
    const DEPTH: usize = 8;
    const ONE_FACTOR: bool = false;

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl SuperSink<I>) {
        k_head(isa, block, stride, to);
        for part in 0..8 {
            let (sub, step) = (part / 2 * 2, part % 2 * 4);
            let q = isa.load_rows(block.add(16 + 16 * part), stride);
            to.codes(sub, step, low(isa, q));
            to.codes(sub + 1, step, high(isa, q));
        }
    }
}

/// As Q4_K, with a fifth bit per weight.
#[derive(Clone, Copy)]
pub struct Q5K;

impl SuperCodec for Q5K {
    const BYTES: usize = 176;
    const SUBS: usize = 8;
    const DEPTH: usize = 4;
    const ONE_FACTOR: bool = false;

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl SuperSink<I>) {
        k_head(isa, block, stride, to);
        for half in 0..2 {
            // Bit j of a byte is the fifth bit of its weight in sub-block j: it moves down as the pairs go by.
            let mut fifths = isa.load_rows(block.add(16 + 16 * half), stride);
            for pair in 0..4 {
                let q = isa.load_rows(block.add(48 + 32 * pair + 16 * half), stride);
                let even = join(isa, low(isa, q), shl::<I, 4>(isa, fifths), 0x1010_1010);
                let odd = join(isa, high(isa, q), shl::<I, 3>(isa, fifths), 0x1010_1010);
                to.codes(2 * pair, 4 * half, even);
                to.codes(2 * pair + 1, 4 * half, odd);
                fifths = shr::<I, 2>(isa, fifths);
            }
        }
    }
}

/// 6 bits around 32 and a signed scale per 16: the offset is a minimum of 32 times the scale.
#[derive(Clone, Copy)]
pub struct Q6K;

impl Q6K {
    #[inline(always)]
    unsafe fn scales<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl SuperSink<I>) {
        for (group, v) in isa.load_rows(block.add(192), stride).into_iter().enumerate() {
            let scales = [
                isa.sar::<24>(isa.shl::<24>(v)),
                isa.sar::<24>(isa.shl::<16>(v)),
                isa.sar::<24>(isa.shl::<8>(v)),
                isa.sar::<24>(v),
            ];
            for (j, scale) in scales.into_iter().enumerate() {
                to.scale(4 * group + j, scale);
            }
            let pair = |x, y| isa.or(isa.and(isa.shl::<5>(x), isa.splat(0xffff)), isa.shl::<21>(y));
            to.mins(2 * group, pair(scales[0], scales[1]));
            to.mins(2 * group + 1, pair(scales[2], scales[3]));
        }
    }
}

impl SuperCodec for Q6K {
    const BYTES: usize = 210;
    const SUBS: usize = 16;
    const DEPTH: usize = 2;
    const ONE_FACTOR: bool = true;

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl SuperSink<I>) {
        let d = isa.half_rows(block.add(208), stride);
        to.factors(d, d);
        Self::scales(isa, block, stride, to);
        for part in 0..4 {
            let (n, half) = (part / 2, part % 2);
            let first = isa.load_rows(block.add(64 * n + 16 * half), stride);
            let second = isa.load_rows(block.add(64 * n + 32 + 16 * half), stride);
            let tops = isa.load_rows(block.add(128 + 32 * n + 16 * half), stride);
            const TOPS: u32 = 0x3030_3030;
            let sub = 8 * n + half;
            to.codes(sub, 0, join(isa, low(isa, first), shl::<I, 4>(isa, tops), TOPS));
            to.codes(sub + 2, 0, join(isa, low(isa, second), shl::<I, 2>(isa, tops), TOPS));
            to.codes(sub + 4, 0, join(isa, high(isa, first), tops, TOPS));
            to.codes(sub + 6, 0, join(isa, high(isa, second), shr::<I, 2>(isa, tops), TOPS));
        }
    }
}

/// A type with blocks of 32 and one or two half-precision factors at the start of the block.
pub trait BlockCodec: Copy + Send + Sync + 'static {
    /// Bytes of a block.
    const BYTES: usize;
    /// What the codes stand for.
    const CODES: Codes;
    /// A second factor `m` is added to every weight.
    const MIN: bool;

    /// The codes of one block of `LANES` rows: weights 0 to 15, then 16 to 31.
    ///
    /// # Safety
    /// `block + lane * stride` points to `BYTES` bytes for every lane.
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize) -> [[I::V; 4]; 2];
}

/// Codes of a 32-block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Codes {
    /// Unsigned bytes up to 15, standing for `code - offset`.
    Unsigned {
        /// Taken off each code.
        offset: i32,
    },
    /// Signed bytes.
    Signed,
}

/// Low nibbles are weights 0 to 15, high nibbles 16 to 31.
#[inline(always)]
unsafe fn nibbles<I: Isa>(isa: I, quants: *const u8, stride: usize) -> [[I::V; 4]; 2] {
    let q = isa.load_rows(quants, stride);
    [low(isa, q), high(isa, q)]
}

/// 4 bits around 8.
#[derive(Clone, Copy)]
pub struct Q4_0;

impl BlockCodec for Q4_0 {
    const BYTES: usize = 18;
    const CODES: Codes = Codes::Unsigned { offset: 8 };
    const MIN: bool = false;
    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize) -> [[I::V; 4]; 2] {
        nibbles(isa, block.add(2), stride)
    }
}

/// 4 bits above a minimum.
#[derive(Clone, Copy)]
pub struct Q4_1;

impl BlockCodec for Q4_1 {
    const BYTES: usize = 20;
    const CODES: Codes = Codes::Unsigned { offset: 0 };
    const MIN: bool = true;
    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize) -> [[I::V; 4]; 2] {
        nibbles(isa, block.add(4), stride)
    }
}

/// Signed bytes.
#[derive(Clone, Copy)]
pub struct Q8_0;

impl BlockCodec for Q8_0 {
    const BYTES: usize = 34;
    const CODES: Codes = Codes::Signed;
    const MIN: bool = false;
    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize) -> [[I::V; 4]; 2] {
        [isa.load_rows(block.add(2), stride), isa.load_rows(block.add(18), stride)]
    }
}
