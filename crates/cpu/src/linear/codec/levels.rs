//! Nibbles that name one of 16 levels: IQ4_NL, IQ4_XS and the two FP4 types. Levels are stored as products want them:
//! those of IQ4 biased, as they need all of a signed byte; those of FP4 around 12.

use hob_quant::tables::{KVALUES_FP4, KVALUES_IQ4NL};

use super::simple::nibbles;
use super::*;

/// Levels above `zero`, modulo 256.
const fn above(levels: [i8; 16], zero: u8) -> [u8; 16] {
    let (mut bytes, mut i) = ([0; 16], 0);
    while i < 16 {
        bytes[i] = (levels[i] as u8).wrapping_add(zero);
        i += 1;
    }
    bytes
}

const FP4_ZERO: u8 = 12;
static FP4: [u8; 16] = above(KVALUES_FP4, FP4_ZERO);

struct Iq4<I>(I);

impl<I: Isa> Iq4<I> {
    const LEVELS: &[u8; 16] = &above(KVALUES_IQ4NL, I::BIAS);
}

#[inline(always)]
unsafe fn levels<I: Isa>(isa: I, table: &[u8; 16], codes: [[I::V; 4]; 2]) -> [[I::V; 4]; 2] {
    let mut levels = codes;
    for v in levels.as_flattened_mut() {
        *v = isa.look_up16(table.as_ptr(), *v);
    }
    levels
}

/// Uneven levels.
#[derive(Clone, Copy)]
pub struct Iq4Nl;

impl BlockCodec for Iq4Nl {
    const BYTES: usize = 18;
    const DEPTH: usize = SIGNED;
    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl BlockSink<I>) {
        let d = isa.half_rows(block, stride);
        to.part(0, [d, d], levels(isa, Iq4::<I>::LEVELS, nibbles(isa, block.add(2), stride)));
    }
}

/// The same levels, and a six-bit scale around 32 per 32.
#[derive(Clone, Copy)]
pub struct Iq4Xs;

impl SuperCodec for Iq4Xs {
    const BYTES: usize = 136;
    const SUBS: usize = 8;
    const DEPTH: usize = SIGNED;
    const ONE_FACTOR: bool = true;

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl SuperSink<I>) {
        let [head, mut fours, ..] = isa.load_rows(block, stride);
        let d = isa.half_low(head);
        to.factors(d, d);
        let mut tops = isa.shr::<12>(head);
        let mut scales = [head; 8];
        for (sub, scale) in scales.iter_mut().enumerate() {
            let six = isa.or(isa.and(fours, isa.splat(15)), isa.and(tops, isa.splat(0x30)));
            *scale = isa.sub_i32(six, isa.splat(32));
            to.scale(sub, *scale);
            fours = isa.shr::<4>(fours);
            tops = isa.shr::<2>(tops);
        }
        for pair in 0..4 {
            let both = super::pair(isa, scales[2 * pair], scales[2 * pair + 1]);
            to.mins(pair, biased(isa, both));
        }
        for sub in 0..8 {
            let codes = nibbles(isa, block.add(8 + 16 * sub), stride);
            let [first, second] = levels(isa, Iq4::<I>::LEVELS, codes);
            to.codes(sub, 0, first);
            to.codes(sub, 4, second);
        }
    }
}

/// The minima that take the bias of signed codes back: pairs of scales times it.
#[inline(always)]
unsafe fn biased<I: Isa>(isa: I, pair: I::V) -> I::V {
    match I::BIAS {
        0 => isa.splat(0),
        _ => isa.and(isa.shl::<7>(pair), isa.splat(0xff80_ff80)),
    }
}

/// E2M1 with a power of two per 32.
#[derive(Clone, Copy)]
pub struct Mxfp4;

impl Mxfp4 {
    /// `2^(e - 128)` as the product of two powers that are normal numbers.
    #[inline(always)]
    unsafe fn scale<I: Isa>(isa: I, e: I::V) -> I::F {
        let half = isa.shr::<1>(e);
        let (a, b) = (isa.to_f32(half), isa.to_f32(isa.sub_i32(e, half)));
        let bias = isa.fsplat(-64.0);
        isa.fmul(isa.exp2_int(isa.fadd(a, bias)), isa.exp2_int(isa.fadd(b, bias)))
    }
}

impl BlockCodec for Mxfp4 {
    const BYTES: usize = 17;
    const DEPTH: usize = 4;
    const OFFSET: u8 = FP4_ZERO;
    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl BlockSink<I>) {
        let d = Self::scale(isa, isa.byte_rows(block, stride));
        to.part(0, [d, d], levels(isa, &FP4, nibbles(isa, block.add(1), stride)));
    }
}

/// E2M1 with an UE4M3 scale per 16.
#[derive(Clone, Copy)]
pub struct Nvfp4;

impl Nvfp4 {
    /// Half of each of four UE4M3 scales: exponent and mantissa are those of an f16 with another bias. 0x7f is zero.
    #[inline(always)]
    unsafe fn scales<I: Isa>(isa: I, packed: I::V) -> [I::F; 4] {
        let low = isa.and(packed, isa.splat(0x7f7f_7f7f));
        let next = isa.add_i32(low, isa.splat(0x0101_0101));
        let unsigned = isa.xor(packed, isa.splat(0x8080_8080));
        let zero = isa.and(isa.and(next, unsigned), isa.splat(0x8080_8080));
        let magnitude = isa.xor(low, isa.sub_i32(zero, isa.shr::<7>(zero)));
        let rebias = isa.fsplat(128.0);
        let halves = |v| isa.and(v, isa.splat(0x3f80_3f80));
        let even = halves(isa.shl::<7>(isa.and(magnitude, isa.splat(0x00ff_00ff))));
        let odd = halves(isa.shr::<1>(isa.and(magnitude, isa.splat(0xff00_ff00))));
        [
            isa.fmul(isa.half_low(even), rebias),
            isa.fmul(isa.half_low(odd), rebias),
            isa.fmul(isa.half_high(even), rebias),
            isa.fmul(isa.half_high(odd), rebias),
        ]
    }
}

impl BlockCodec for Nvfp4 {
    const BYTES: usize = 36;
    const PARTS: usize = 2;
    const DEPTH: usize = 4;
    const OFFSET: u8 = FP4_ZERO;
    const FACTORS: Factors = Factors::Halves;
    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, to: &mut impl BlockSink<I>) {
        let [packed, ..] = isa.load_rows(block, stride);
        let d = Self::scales(isa, packed);
        for part in 0..2 {
            let q = isa.load_rows(block.add(4 + 16 * part), stride);
            let (low, high) = (low(isa, q), high(isa, q));
            let codes = [[low[0], low[1], high[0], high[1]], [low[2], low[3], high[2], high[3]]];
            to.part(part, [d[2 * part], d[2 * part + 1]], levels(isa, &FP4, codes));
        }
    }
}
