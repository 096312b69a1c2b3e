//! Q2_K to Q6_K: plain bits under integer scales. Where weights lie around a zero, the offset of the codes is a minimum
//! of that many times the scale.

use super::*;

/// 2 bits, and a four-bit scale and minimum per 16.
#[derive(Clone, Copy)]
pub struct Q2K;

impl SuperCodec for Q2K {
    const BYTES: usize = 84;
    const SUBS: usize = 16;
    const DEPTH: usize = 4;
    const ONE_FACTOR: bool = false;

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl SuperSink<I>) {
        let [.., d] = isa.load_rows(block.add(68), stride);
        to.factors(isa.half_low(d), isa.half_high(d));
        let packed = isa.load_rows(block, stride);
        for group in 0..4 {
            let v = packed[group];
            for (j, scale) in bytes(isa, isa.and(v, isa.splat(0x0f0f_0f0f))).into_iter().enumerate()
            {
                to.scale(4 * group + j, scale);
            }
            let [a, b, c, d] = bytes(isa, isa.and(isa.shr::<4>(v), isa.splat(0x0f0f_0f0f)));
            to.mins(2 * group, pair(isa, a, b));
            to.mins(2 * group + 1, pair(isa, c, d));
        }
        for part in 0..4 {
            let (n, half) = (part / 2, part % 2);
            let mut twos = isa.load_rows(block.add(16 + 32 * n + 16 * half), stride);
            for plane in 0..4 {
                to.codes(8 * n + 2 * plane + half, 0, and(isa, twos, 0x0303_0303));
                twos = shr::<I, 2>(isa, twos);
            }
        }
    }
}

/// 3 bits around 4, and a six-bit scale around 32 per 16.
#[derive(Clone, Copy)]
pub struct Q3K;

impl Q3K {
    #[inline(always)]
    unsafe fn scales<I: Isa>(isa: I, packed: [I::V; 3], to: &mut impl SuperSink<I>) {
        let (four, two) = (isa.splat(0x0f0f_0f0f), isa.splat(0x3030_3030));
        let [even, odd, tops] = packed;
        let groups = [
            isa.or(isa.and(even, four), isa.and(isa.shl::<4>(tops), two)),
            isa.or(isa.and(odd, four), isa.and(isa.shl::<2>(tops), two)),
            isa.or(isa.and(isa.shr::<4>(even), four), isa.and(tops, two)),
            isa.or(isa.and(isa.shr::<4>(odd), four), isa.and(isa.shr::<2>(tops), two)),
        ];
        for (group, v) in groups.into_iter().enumerate() {
            let mut scales = bytes(isa, v);
            for (j, scale) in scales.iter_mut().enumerate() {
                *scale = isa.sub_i32(*scale, isa.splat(32));
                to.scale(4 * group + j, *scale);
            }
            let [a, b, c, d] = shl::<I, 2>(isa, scales);
            to.mins(2 * group, pair(isa, a, b));
            to.mins(2 * group + 1, pair(isa, c, d));
        }
    }
}

impl SuperCodec for Q3K {
    const BYTES: usize = 110;
    const SUBS: usize = 16;
    const DEPTH: usize = 4;
    const ONE_FACTOR: bool = true;

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl SuperSink<I>) {
        let d = isa.half_rows(block.add(108), stride);
        to.factors(d, d);
        let [_, a, b, c] = isa.load_rows(block.add(92), stride);
        Self::scales(isa, [a, b, c], to);
        for half in 0..2 {
            // Bit j of a byte is the third bit of its weight in run j of 32: it moves down as the runs go by.
            let mut thirds = isa.load_rows(block.add(16 * half), stride);
            for n in 0..2 {
                let mut twos = isa.load_rows(block.add(32 + 32 * n + 16 * half), stride);
                for plane in 0..4 {
                    let low = and(isa, twos, 0x0303_0303);
                    let codes = join(isa, low, shl::<I, 2>(isa, thirds), 0x0404_0404);
                    to.codes(8 * n + 2 * plane + half, 0, codes);
                    twos = shr::<I, 2>(isa, twos);
                    thirds = shr::<I, 1>(isa, thirds);
                }
            }
        }
    }
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
        to.mins(2 * half, pair(isa, a, b));
        to.mins(2 * half + 1, pair(isa, c, d));
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
            let [a, b, c, d] = shl::<I, 5>(isa, scales);
            to.mins(2 * group, pair(isa, a, b));
            to.mins(2 * group + 1, pair(isa, c, d));
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
