//! Plain bits under factors as they stand in the file: Q4_0 to Q8_0, Q1_0, Q2_0 and the ternary types.

use super::*;

/// Low nibbles are weights 0 to 15, high nibbles 16 to 31.
#[inline(always)]
pub(super) unsafe fn nibbles<I: Isa>(isa: I, quants: *const u8, stride: usize) -> [[I::V; 4]; 2] {
    let q = isa.load_rows(quants, stride);
    [low(isa, q), high(isa, q)]
}

/// Nibbles with a fifth bit each: bit i of `fifths` belongs to weight i.
#[inline(always)]
unsafe fn five_bits<I: Isa>(
    isa: I,
    quants: *const u8,
    stride: usize,
    fifths: I::V,
) -> [[I::V; 4]; 2] {
    let [first, second] = nibbles(isa, quants, stride);
    let (sixteen, none) = ([isa.splat(0x1010_1010); 4], [isa.splat(0); 4]);
    let tops =
        [choose::<I, 0>(isa, fifths, sixteen, none), choose::<I, 1>(isa, fifths, sixteen, none)];
    [join(isa, first, tops[0], u32::MAX), join(isa, second, tops[1], u32::MAX)]
}

/// 4 bits around 8.
#[derive(Clone, Copy)]
pub struct Q4_0;

impl BlockCodec for Q4_0 {
    const BYTES: usize = 18;
    const DEPTH: usize = 8;
    const OFFSET: u8 = 8;
    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl BlockSink<I>) {
        let d = isa.half_rows(block, stride);
        to.part(0, [d, d], nibbles(isa, block.add(2), stride));
    }
}

/// 4 bits above a minimum.
#[derive(Clone, Copy)]
pub struct Q4_1;

impl BlockCodec for Q4_1 {
    const BYTES: usize = 20;
    const DEPTH: usize = 8;
    const FACTORS: Factors = Factors::Minimum;
    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl BlockSink<I>) {
        let [factors, ..] = isa.load_rows(block, stride);
        let factors = [isa.half_low(factors), isa.half_high(factors)];
        to.part(0, factors, nibbles(isa, block.add(4), stride));
    }
}

/// 5 bits around 16.
#[derive(Clone, Copy)]
pub struct Q5_0;

impl BlockCodec for Q5_0 {
    const BYTES: usize = 22;
    const DEPTH: usize = 4;
    const OFFSET: u8 = 16;
    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl BlockSink<I>) {
        let [first, second, ..] = isa.load_rows(block, stride);
        let d = isa.half_low(first);
        let fifths = isa.or(isa.shr::<16>(first), isa.shl::<16>(second));
        to.part(0, [d, d], five_bits(isa, block.add(6), stride, fifths));
    }
}

/// 5 bits above a minimum.
#[derive(Clone, Copy)]
pub struct Q5_1;

impl BlockCodec for Q5_1 {
    const BYTES: usize = 24;
    const DEPTH: usize = 4;
    const FACTORS: Factors = Factors::Minimum;
    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl BlockSink<I>) {
        let [factors, fifths, ..] = isa.load_rows(block, stride);
        let factors = [isa.half_low(factors), isa.half_high(factors)];
        to.part(0, factors, five_bits(isa, block.add(8), stride, fifths));
    }
}

/// Signed bytes.
#[derive(Clone, Copy)]
pub struct Q8_0;

impl BlockCodec for Q8_0 {
    const BYTES: usize = 34;
    const DEPTH: usize = SIGNED;
    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl BlockSink<I>) {
        let d = isa.half_rows(block, stride);
        let mut codes = [isa.load_rows(block.add(2), stride), isa.load_rows(block.add(18), stride)];
        for v in codes.as_flattened_mut() {
            *v = isa.xor(*v, isa.splat(u32::from(I::BIAS) * 0x0101_0101));
        }
        to.part(0, [d, d], codes);
    }
}

/// A sign: codes 0 and 2 around 1.
#[derive(Clone, Copy)]
pub struct Q1_0;

impl BlockCodec for Q1_0 {
    const BYTES: usize = 18;
    const PARTS: usize = 4;
    const DEPTH: usize = 8;
    const OFFSET: u8 = 1;
    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl BlockSink<I>) {
        let d = isa.half_rows(block, stride);
        let (plus, minus) = ([isa.splat(0x0202_0202); 4], [isa.splat(0); 4]);
        for (part, bits) in isa.load_rows(block.add(2), stride).into_iter().enumerate() {
            let first = choose::<I, 0>(isa, bits, plus, minus);
            to.part(part, [d, d], [first, choose::<I, 1>(isa, bits, plus, minus)]);
        }
    }
}

/// 2 bits in order, around 1.
#[derive(Clone, Copy)]
pub struct Q2_0;

impl Q2_0 {
    /// The 16 codes of a dword, four to a vector.
    #[inline(always)]
    unsafe fn spread<I: Isa>(isa: I, v: I::V) -> [I::V; 4] {
        let mut four = bytes(isa, v);
        for v in &mut four {
            // Copies of the byte six bits apart bring each code to the bottom of a byte of its own.
            let two = isa.or(*v, isa.shl::<6>(*v));
            *v = isa.and(isa.or(two, isa.shl::<12>(two)), isa.splat(0x0303_0303));
        }
        four
    }
}

impl BlockCodec for Q2_0 {
    const BYTES: usize = 18;
    const PARTS: usize = 2;
    const DEPTH: usize = 8;
    const OFFSET: u8 = 1;
    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl BlockSink<I>) {
        let d = isa.half_rows(block, stride);
        let q = isa.load_rows(block.add(2), stride);
        for part in 0..2 {
            let [first, second] = [q[2 * part], q[2 * part + 1]];
            to.part(part, [d, d], [Self::spread(isa, first), Self::spread(isa, second)]);
        }
    }
}

/// Ternary types have one factor and codes around 1: scales and minima are all 1.
#[inline(always)]
unsafe fn ones<I: Isa>(isa: I, d: I::F, to: &mut impl SuperSink<I>) {
    to.factors(d, d);
    for pair in 0..4 {
        to.scale(2 * pair, isa.splat(1));
        to.scale(2 * pair + 1, isa.splat(1));
        to.mins(pair, isa.splat(0x0001_0001));
    }
}

/// Digits of base 3, five to a byte.
#[derive(Clone, Copy)]
pub struct Tq1_0;

impl Tq1_0 {
    /// Takes the leading digit off each byte, a fraction of 256: three times it is the digit and the rest.
    #[inline(always)]
    unsafe fn digit<I: Isa>(isa: I, v: &mut I::V) -> I::V {
        let (low, high) = (isa.splat(0x00ff_00ff), isa.splat(0xff00_ff00));
        let even = isa.and(*v, low);
        let even = isa.add_i32(even, isa.shl::<1>(even));
        let odd = isa.and(isa.shr::<8>(*v), low);
        let odd = isa.add_i32(odd, isa.shl::<1>(odd));
        *v = isa.or(isa.and(even, low), isa.shl::<8>(isa.and(odd, low)));
        isa.or(isa.shr::<8>(isa.and(even, high)), isa.and(odd, high))
    }

    #[inline(always)]
    unsafe fn digits<I: Isa>(isa: I, v: &mut [I::V; 4]) -> [I::V; 4] {
        let [a, b, c, d] = v;
        [Self::digit(isa, a), Self::digit(isa, b), Self::digit(isa, c), Self::digit(isa, d)]
    }
}

impl SuperCodec for Tq1_0 {
    const BYTES: usize = 54;
    const SUBS: usize = 8;
    const DEPTH: usize = 8;
    const ONE_FACTOR: bool = true;

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl SuperSink<I>) {
        let [.., last] = isa.load_rows(block.add(36), stride);
        let d = isa.half_rows(block.add(52), stride);
        ones(isa, d, to);
        for half in 0..2 {
            let mut q = isa.load_rows(block.add(16 * half), stride);
            for n in 0..5 {
                to.codes(n, 4 * half, Self::digits(isa, &mut q));
            }
        }
        let mut q = isa.load_rows(block.add(32), stride);
        for n in 10..15 {
            to.codes(n / 2, n % 2 * 4, Self::digits(isa, &mut q));
        }
        let mut q = last;
        let mut rest = [last; 4];
        for v in &mut rest {
            *v = Self::digit(isa, &mut q);
        }
        to.codes(7, 4, rest);
    }
}

/// Ternary in 2 bits.
#[derive(Clone, Copy)]
pub struct Tq2_0;

impl SuperCodec for Tq2_0 {
    const BYTES: usize = 66;
    const SUBS: usize = 8;
    const DEPTH: usize = 8;
    const ONE_FACTOR: bool = true;

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl SuperSink<I>) {
        ones(isa, isa.half_rows(block.add(64), stride), to);
        for part in 0..4 {
            let (n, half) = (part / 2, part % 2);
            let mut twos = isa.load_rows(block.add(32 * n + 16 * half), stride);
            for plane in 0..4 {
                to.codes(4 * n + plane, 4 * half, and(isa, twos, 0x0303_0303));
                twos = shr::<I, 2>(isa, twos);
            }
        }
    }
}
