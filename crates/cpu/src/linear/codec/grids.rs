//! Indices into code books: IQ1, IQ2 and IQ3. Points are looked up row by row, in tables that stand above an offset;
//! signs mirror them around it, as products want unsigned codes. Scales `(s + 1/2) / 2^n` are the integers `2 s + 1`
//! under a smaller factor.

use hob_quant::tables::{IQ1S_GRID, IQ2S_GRID, IQ2XS_GRID, IQ2XXS_GRID, IQ3S_GRID, IQ3XXS_GRID};

use super::*;

/// Points of eight magnitudes as codes above `zero`.
const fn above8<const N: usize>(mut points: [u64; N], zero: u64) -> [u64; N] {
    let mut i = 0;
    while i < N {
        points[i] += zero * 0x0101_0101_0101_0101;
        i += 1;
    }
    points
}

/// Points of four magnitudes as codes above `zero`.
const fn above4<const N: usize>(mut points: [u32; N], zero: u32) -> [u32; N] {
    let mut i = 0;
    while i < N {
        points[i] += zero * 0x0101_0101;
        i += 1;
    }
    points
}

static IQ2XXS: [u64; 256] = above8(IQ2XXS_GRID, 64);
static IQ2XS: [u64; 512] = above8(IQ2XS_GRID, 64);
static IQ2S: [u64; 1024] = above8(IQ2S_GRID, 64);
static IQ3XXS: [u32; 256] = above4(IQ3XXS_GRID, 64);
static IQ3S: [u32; 512] = above4(IQ3S_GRID, 16);

/// Codes above `zero`, mirrored to below it where the bit in `signs` is set.
#[inline(always)]
unsafe fn around<I: Isa, const HALF: usize>(
    isa: I,
    zero: u32,
    signs: I::V,
    above: [I::V; 4],
) -> [I::V; 4] {
    let twice = isa.splat(2 * zero * 0x0101_0101);
    let mut below = above;
    for v in &mut below {
        *v = isa.sub_i32(twice, *v);
    }
    choose::<I, HALF>(isa, signs, below, above)
}

/// Sign bytes of seven bits each; the eighth makes the number of minus signs even.
#[inline(always)]
unsafe fn even_signs<I: Isa>(isa: I, sevens: I::V) -> I::V {
    static PARITY: [u8; 16] = {
        let (mut parity, mut i) = ([0; 16], 0);
        while i < 16 {
            parity[i] = (i.count_ones() as u8 & 1) << 7;
            i += 1;
        }
        parity
    };
    let folded = isa.xor(sevens, isa.shr::<4>(sevens));
    let folded = isa.and(folded, isa.splat(0x0f0f_0f0f));
    isa.or(sevens, isa.look_up16(PARITY.as_ptr(), folded))
}

/// Four codes of seven bits from the bottom of a dword, each to its byte.
#[inline(always)]
unsafe fn four_sevens<I: Isa>(isa: I, v: I::V) -> I::V {
    let ab = isa.or(isa.and(v, isa.splat(0x7f)), isa.and(isa.shl::<1>(v), isa.splat(0x7f00)));
    let cd = isa.or(
        isa.and(isa.shl::<2>(v), isa.splat(0x7f_0000)),
        isa.and(isa.shl::<3>(v), isa.splat(0x7f00_0000)),
    );
    isa.or(ab, cd)
}

/// `2 s + 1` for the s in bits 1 to 4 of `v`.
#[inline(always)]
unsafe fn odd<I: Isa>(isa: I, v: I::V) -> I::V {
    isa.or(isa.and(v, isa.splat(0x1e)), isa.splat(1))
}

/// Scales of 8 sub-blocks in the nibbles of a dword, low first, and minima of `2^SHIFT` times the scale.
#[inline(always)]
unsafe fn nibble_scales<I: Isa, const SHIFT: i32>(
    isa: I,
    first: usize,
    packed: I::V,
    to: &mut impl SuperSink<I>,
) {
    let (mask, one) = (isa.splat(0x1e1e_1e1e), isa.splat(0x0101_0101));
    let even = bytes(isa, isa.or(isa.and(isa.shl::<1>(packed), mask), one));
    let odd = bytes(isa, isa.or(isa.and(isa.shr::<3>(packed), mask), one));
    for j in 0..4 {
        to.scale(first + 2 * j, even[j]);
        to.scale(first + 2 * j + 1, odd[j]);
        to.mins(first / 2 + j, isa.shl::<SHIFT>(pair(isa, even[j], odd[j])));
    }
}

/// 8 magnitudes per index, signs in 7 bits, a scale per 32.
#[derive(Clone, Copy)]
pub struct Iq2Xxs;

impl SuperCodec for Iq2Xxs {
    const BYTES: usize = 66;
    const SUBS: usize = 8;
    const DEPTH: usize = 1;
    const ONE_FACTOR: bool = true;

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl SuperSink<I>) {
        let d = isa.fmul(isa.half_rows(block, stride), isa.fsplat(0.125));
        to.factors(d, d);
        for part in 0..4 {
            let [first, head, second, tail] = isa.load_rows(block.add(2 + 16 * part), stride);
            let scales = [odd(isa, isa.shr::<27>(head)), odd(isa, isa.shr::<27>(tail))];
            to.mins(part, isa.shl::<6>(pair(isa, scales[0], scales[1])));
            for (j, (indices, word)) in [(first, head), (second, tail)].into_iter().enumerate() {
                to.scale(2 * part + j, scales[j]);
                let signs = even_signs(isa, four_sevens(isa, word));
                let [a, b, c, d] = bytes(isa, indices);
                let points = isa.look_up8(IQ2XXS.as_ptr(), [a, b]);
                to.codes(2 * part + j, 0, around::<I, 0>(isa, 64, signs, points));
                let points = isa.look_up8(IQ2XXS.as_ptr(), [c, d]);
                to.codes(2 * part + j, 4, around::<I, 1>(isa, 64, signs, points));
            }
        }
    }
}

/// 8 magnitudes per index, signs in 7 bits beside it, a scale per 16.
#[derive(Clone, Copy)]
pub struct Iq2Xs;

impl SuperCodec for Iq2Xs {
    const BYTES: usize = 74;
    const SUBS: usize = 16;
    const DEPTH: usize = 1;
    const ONE_FACTOR: bool = true;

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl SuperSink<I>) {
        let d = isa.fmul(isa.half_rows(block, stride), isa.fsplat(0.125));
        to.factors(d, d);
        let [_, _, a, b] = isa.load_rows(block.add(58), stride);
        nibble_scales::<I, 6>(isa, 0, a, to);
        nibble_scales::<I, 6>(isa, 8, b, to);
        for part in 0..4 {
            let words = isa.load_rows(block.add(2 + 16 * part), stride);
            for (j, v) in words.into_iter().enumerate() {
                let sevens = isa.or(
                    isa.and(isa.shr::<9>(v), isa.splat(0x7f)),
                    isa.and(isa.shr::<17>(v), isa.splat(0x7f00)),
                );
                let indices =
                    [isa.and(v, isa.splat(511)), isa.and(isa.shr::<16>(v), isa.splat(511))];
                let points = isa.look_up8(IQ2XS.as_ptr(), indices);
                let signs = even_signs(isa, sevens);
                to.codes(4 * part + j, 0, around::<I, 0>(isa, 64, signs, points));
            }
        }
    }
}

/// 8 magnitudes per index, all signs, a scale per 16.
#[derive(Clone, Copy)]
pub struct Iq2S;

impl SuperCodec for Iq2S {
    const BYTES: usize = 82;
    const SUBS: usize = 16;
    const DEPTH: usize = 1;
    const ONE_FACTOR: bool = true;

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl SuperSink<I>) {
        let d = isa.fmul(isa.half_rows(block, stride), isa.fsplat(0.125));
        to.factors(d, d);
        let [first, second, a, b] = isa.load_rows(block.add(66), stride);
        nibble_scales::<I, 6>(isa, 0, a, to);
        nibble_scales::<I, 6>(isa, 8, b, to);
        for (part, tops) in [first, second].into_iter().enumerate() {
            let low = isa.load_rows(block.add(2 + 16 * part), stride);
            let signs = isa.load_rows(block.add(34 + 16 * part), stride);
            let (tops, top) = (bytes(isa, tops), isa.splat(0x300));
            for j in 0..4 {
                let [a, b, c, d] = bytes(isa, low[j]);
                let sub = 8 * part + 2 * j;
                let a = isa.or(a, isa.and(isa.shl::<8>(tops[j]), top));
                let b = isa.or(b, isa.and(isa.shl::<6>(tops[j]), top));
                let points = isa.look_up8(IQ2S.as_ptr(), [a, b]);
                to.codes(sub, 0, around::<I, 0>(isa, 64, signs[j], points));
                let c = isa.or(c, isa.and(isa.shl::<4>(tops[j]), top));
                let d = isa.or(d, isa.and(isa.shl::<2>(tops[j]), top));
                let points = isa.look_up8(IQ2S.as_ptr(), [c, d]);
                to.codes(sub + 1, 0, around::<I, 1>(isa, 64, signs[j], points));
            }
        }
    }
}

/// 4 magnitudes per index, signs in 7 bits per 8, a scale per 32.
#[derive(Clone, Copy)]
pub struct Iq3Xxs;

impl Iq3Xxs {
    #[inline(always)]
    unsafe fn points<I: Isa>(isa: I, indices: I::V) -> [I::V; 4] {
        let mut points = bytes(isa, indices);
        for v in &mut points {
            *v = isa.look_up4(IQ3XXS.as_ptr(), *v);
        }
        points
    }
}

impl SuperCodec for Iq3Xxs {
    const BYTES: usize = 98;
    const SUBS: usize = 8;
    const DEPTH: usize = 1;
    const ONE_FACTOR: bool = true;

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl SuperSink<I>) {
        let d = isa.fmul(isa.half_rows(block, stride), isa.fsplat(0.25));
        to.factors(d, d);
        for half in 0..2 {
            let words = isa.load_rows(block.add(66 + 16 * half), stride);
            let mut scales = words;
            for (j, scale) in scales.iter_mut().enumerate() {
                *scale = odd(isa, isa.shr::<27>(*scale));
                to.scale(4 * half + j, *scale);
            }
            to.mins(2 * half, isa.shl::<6>(pair(isa, scales[0], scales[1])));
            to.mins(2 * half + 1, isa.shl::<6>(pair(isa, scales[2], scales[3])));
            for part in 0..2 {
                let indices = isa.load_rows(block.add(2 + 32 * half + 16 * part), stride);
                for j in 0..2 {
                    let sub = 4 * half + 2 * part + j;
                    let signs = even_signs(isa, four_sevens(isa, words[2 * part + j]));
                    let points = Self::points(isa, indices[2 * j]);
                    to.codes(sub, 0, around::<I, 0>(isa, 64, signs, points));
                    let points = Self::points(isa, indices[2 * j + 1]);
                    to.codes(sub, 4, around::<I, 1>(isa, 64, signs, points));
                }
            }
        }
    }
}

/// 4 magnitudes up to 15 per index, all signs, a scale per 32.
#[derive(Clone, Copy)]
pub struct Iq3S;

impl Iq3S {
    /// Points of 4 indices whose ninth bits are the lowest four of `tops`.
    #[inline(always)]
    unsafe fn points<I: Isa>(isa: I, indices: I::V, tops: I::V) -> [I::V; 4] {
        let [a, b, c, d] = bytes(isa, indices);
        let top = isa.splat(0x100);
        let points = [
            isa.or(a, isa.and(isa.shl::<8>(tops), top)),
            isa.or(b, isa.and(isa.shl::<7>(tops), top)),
            isa.or(c, isa.and(isa.shl::<6>(tops), top)),
            isa.or(d, isa.and(isa.shl::<5>(tops), top)),
        ];
        let table = IQ3S.as_ptr();
        [
            isa.look_up4(table, points[0]),
            isa.look_up4(table, points[1]),
            isa.look_up4(table, points[2]),
            isa.look_up4(table, points[3]),
        ]
    }
}

impl SuperCodec for Iq3S {
    const BYTES: usize = 110;
    const SUBS: usize = 8;
    const DEPTH: usize = 4;
    const ONE_FACTOR: bool = true;

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl SuperSink<I>) {
        let d = isa.half_rows(block, stride);
        to.factors(d, d);
        let [.., packed] = isa.load_rows(block.add(94), stride);
        nibble_scales::<I, 4>(isa, 0, packed, to);
        let [first, second, ..] = isa.load_rows(block.add(66), stride);
        for (half, tops) in [first, second].into_iter().enumerate() {
            let tops = bytes(isa, tops);
            let signs = isa.load_rows(block.add(74 + 16 * half), stride);
            for part in 0..2 {
                let indices = isa.load_rows(block.add(2 + 32 * half + 16 * part), stride);
                for j in 0..2 {
                    let at = 2 * part + j;
                    let points = Self::points(isa, indices[2 * j], tops[at]);
                    to.codes(4 * half + at, 0, around::<I, 0>(isa, 16, signs[at], points));
                    let points = Self::points(isa, indices[2 * j + 1], isa.shr::<4>(tops[at]));
                    to.codes(4 * half + at, 4, around::<I, 1>(isa, 16, signs[at], points));
                }
            }
        }
    }
}

/// IQ1 points as `8 (w + 1)`, so that the shift by an eighth is whole.
static TERNARY: [u64; 2048] = {
    let (mut points, mut i) = (IQ1S_GRID, 0);
    while i < 2048 {
        // Bytes -1, 0, 1 are 3, 0, 1 modulo 4: one more, and the carry dropped, leaves 0, 1, 2.
        let low = points[i] & 0x0303_0303_0303_0303;
        points[i] = ((low + 0x0101_0101_0101_0101) & 0x0303_0303_0303_0303) << 3;
        i += 1;
    }
    points
};

/// 8 weights of -1, 0, 1 per index, a scale and a shift of an eighth up or down per 32.
#[derive(Clone, Copy)]
pub struct Iq1S;

impl Iq1S {
    /// Scale and minimum of a word: the shift moves the minimum, 8 times the scale, by the scale.
    #[inline(always)]
    unsafe fn scale<I: Isa>(isa: I, word: I::V) -> [I::V; 2] {
        let scale = isa.or(isa.and(isa.shr::<11>(word), isa.splat(0xe)), isa.splat(1));
        let down = isa.and(isa.shr::<14>(word), isa.splat(2));
        [scale, isa.madd_i16(scale, isa.add_i32(down, isa.splat(7)))]
    }
}

impl SuperCodec for Iq1S {
    const BYTES: usize = 50;
    const SUBS: usize = 8;
    const DEPTH: usize = 4;
    const ONE_FACTOR: bool = true;

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl SuperSink<I>) {
        let d = isa.fmul(isa.half_rows(block, stride), isa.fsplat(0.125));
        to.factors(d, d);
        let words = isa.load_rows(block.add(34), stride);
        for part in 0..2 {
            let low = isa.load_rows(block.add(2 + 16 * part), stride);
            for pair in 0..2 {
                let both = words[2 * part + pair];
                let both = [isa.and(both, isa.splat(0xffff)), isa.shr::<16>(both)];
                let [even, odd] = [Self::scale(isa, both[0]), Self::scale(isa, both[1])];
                let sub = 4 * part + 2 * pair;
                to.scale(sub, even[0]);
                to.scale(sub + 1, odd[0]);
                to.mins(sub / 2, super::pair(isa, even[1], odd[1]));
                for (j, word) in both.into_iter().enumerate() {
                    let [a, b, c, d] = bytes(isa, low[2 * pair + j]);
                    let top = isa.splat(0x700);
                    let a = isa.or(a, isa.and(isa.shl::<8>(word), top));
                    let b = isa.or(b, isa.and(isa.shl::<5>(word), top));
                    to.codes(sub + j, 0, isa.look_up8(TERNARY.as_ptr(), [a, b]));
                    let c = isa.or(c, isa.and(isa.shl::<2>(word), top));
                    let d = isa.or(d, isa.and(isa.shr::<1>(word), top));
                    to.codes(sub + j, 4, isa.look_up8(TERNARY.as_ptr(), [c, d]));
                }
            }
        }
    }
}

/// As IQ1_S with a scale per 16 and a shift per 8, so that the shift is part of the codes.
#[derive(Clone, Copy)]
pub struct Iq1M;

impl Iq1M {
    /// The factor from the top nibbles of four words, and scales and minima from the rest.
    #[inline(always)]
    unsafe fn scales<I: Isa>(isa: I, words: [I::V; 2], to: &mut impl SuperSink<I>) {
        let [a, b] = words;
        let low = isa.or(
            isa.and(isa.shr::<12>(a), isa.splat(0xf)),
            isa.and(isa.shr::<24>(a), isa.splat(0xf0)),
        );
        let high = isa.or(
            isa.and(isa.shr::<4>(b), isa.splat(0xf00)),
            isa.and(isa.shr::<16>(b), isa.splat(0xf000)),
        );
        let d = isa.fmul(isa.half_low(isa.or(low, high)), isa.fsplat(0.125));
        to.factors(d, d);
        let words = [isa.shl::<1>(a), isa.shr::<15>(a), isa.shl::<1>(b), isa.shr::<15>(b)];
        for (group, mut word) in words.into_iter().enumerate() {
            let mut scales = [word; 4];
            for (j, scale) in scales.iter_mut().enumerate() {
                *scale = isa.or(isa.and(word, isa.splat(0xe)), isa.splat(1));
                to.scale(4 * group + j, *scale);
                *scale = isa.add_i32(*scale, isa.shl::<3>(*scale));
                word = isa.shr::<3>(word);
            }
            to.mins(2 * group, pair(isa, scales[0], scales[1]));
            to.mins(2 * group + 1, pair(isa, scales[2], scales[3]));
        }
    }

    /// Two more for both vectors of a group that is shifted up, which bit 3 of `nibble` says by being clear.
    #[inline(always)]
    unsafe fn shifted<I: Isa>(isa: I, points: [I::V; 2], nibble: I::V) -> [I::V; 2] {
        let up = isa.sub_i32(isa.and(isa.shr::<3>(nibble), isa.splat(1)), isa.splat(1));
        let two = isa.and(up, isa.splat(0x0202_0202));
        [isa.or(points[0], two), isa.or(points[1], two)]
    }
}

impl SuperCodec for Iq1M {
    const BYTES: usize = 56;
    const SUBS: usize = 16;
    const DEPTH: usize = 4;
    const ONE_FACTOR: bool = true;

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl SuperSink<I>) {
        let [.., a, b] = isa.load_rows(block.add(40), stride);
        Self::scales(isa, [a, b], to);
        let tops = isa.load_rows(block.add(32), stride);
        for part in 0..2 {
            let low = isa.load_rows(block.add(16 * part), stride);
            for pair in 0..2 {
                let tops = bytes(isa, tops[2 * part + pair]);
                for j in 0..2 {
                    let lows = bytes(isa, low[2 * pair + j]);
                    for k in 0..2 {
                        let nibbles = tops[2 * j + k];
                        let even = isa.and(isa.shl::<8>(nibbles), isa.splat(0x700));
                        let odd = isa.and(isa.shl::<4>(nibbles), isa.splat(0x700));
                        let index = [isa.or(lows[2 * k], even), isa.or(lows[2 * k + 1], odd)];
                        let [a, b, c, d] = isa.look_up8(TERNARY.as_ptr(), index);
                        let [a, b] = Self::shifted(isa, [a, b], nibbles);
                        let [c, d] = Self::shifted(isa, [c, d], isa.shr::<4>(nibbles));
                        to.codes(8 * part + 4 * pair + 2 * j + k, 0, [a, b, c, d]);
                    }
                }
            }
        }
    }
}
