//! How each block type becomes codes, scales and minima of a panel: one body per type for all instruction sets.
//! Bytes of `LANES` rows are loaded transposed, so that unpacking is the same bit arithmetic as on a single row.
//! Layouts: `hob_quant::blocks`. Types without a codec here go through the float kernels.
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

    /// Writes one super-block of `LANES` rows to a panel.
    ///
    /// # Safety
    /// `block + lane * stride` points to `BYTES` bytes for every lane; the panel has room.
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, panel: SuperPanel);
}

/// One super-block of `LANES` rows, unpacked. In vectors of `LANES` dwords: 64 of codes, `SUBS` scales, `SUBS / 2`
/// pairs of minima, `d`, `dmin`.
#[derive(Clone, Copy)]
pub struct SuperPanel {
    pub(super) start: *mut u8,
}

impl SuperPanel {
    /// Bytes of one super-block.
    pub const fn bytes<I: Isa, C: SuperCodec>() -> usize {
        4 * I::LANES * (64 + C::SUBS + C::SUBS / 2 + 2)
    }
    #[inline(always)]
    unsafe fn vector<I: Isa>(self, index: usize) -> *mut u8 {
        self.start.add(4 * I::LANES * index)
    }
    /// Codes of sub-block `sub`.
    #[inline(always)]
    pub unsafe fn codes<I: Isa, C: SuperCodec>(self, sub: usize) -> *mut u8 {
        self.vector::<I>(sub * (64 / C::SUBS))
    }
    /// Scale of sub-block `sub`.
    #[inline(always)]
    pub unsafe fn scale<I: Isa>(self, sub: usize) -> *mut u8 {
        self.vector::<I>(64 + sub)
    }
    /// Minima of sub-blocks `2 * pair` and `2 * pair + 1`.
    #[inline(always)]
    pub unsafe fn mins<I: Isa, C: SuperCodec>(self, pair: usize) -> *mut u8 {
        self.vector::<I>(64 + C::SUBS + pair)
    }
    /// `d`, then `dmin`.
    #[inline(always)]
    pub unsafe fn factors<I: Isa, C: SuperCodec>(self) -> *mut f32 {
        self.vector::<I>(64 + C::SUBS + C::SUBS / 2).cast()
    }

    /// Writes four dwords of each row of sub-block `sub`, from dword `step`.
    #[inline(always)]
    unsafe fn put<I: Isa, C: SuperCodec>(self, isa: I, sub: usize, step: usize, v: I::V) {
        isa.store(self.codes::<I, C>(sub).add(4 * I::LANES * step), v);
    }
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

/// Six-bit scales and minima of Q4_K and Q5_K, and the two factors: the first 16 bytes of the block.
#[inline(always)]
unsafe fn k_head<I: Isa, C: SuperCodec>(
    isa: I,
    block: *const u8,
    stride: usize,
    panel: SuperPanel,
) {
    let [d, low, mid, high] = isa.load_rows(block, stride);
    isa.fstore(panel.factors::<I, C>(), isa.half_low(d));
    isa.fstore(panel.factors::<I, C>().add(I::LANES), isa.half_high(d));
    let (six, four, two) = (isa.splat(0x3f3f_3f3f), isa.splat(0x0f0f_0f0f), isa.splat(0x3030_3030));
    let top = |v: I::V| isa.and(isa.shr::<2>(v), two);
    let scales = [isa.and(low, six), isa.or(isa.and(high, four), top(low))];
    let mins = [isa.and(mid, six), isa.or(isa.and(isa.shr::<4>(high), four), top(mid))];
    for half in 0..2 {
        for (j, scale) in bytes(isa, scales[half]).into_iter().enumerate() {
            isa.store(panel.scale::<I>(4 * half + j), isa.scale(scale));
        }
        let [a, b, c, d] = bytes(isa, mins[half]);
        isa.store(panel.mins::<I, C>(2 * half), isa.or(a, isa.shl::<16>(b)));
        isa.store(panel.mins::<I, C>(2 * half + 1), isa.or(c, isa.shl::<16>(d)));
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
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, panel: SuperPanel) {
        k_head::<I, Self>(isa, block, stride, panel);
        let nibble = isa.splat(0x0f0f_0f0f);
        for part in 0..8 {
            let (sub, step) = (part / 2 * 2, part % 2 * 4);
            let q = isa.load_rows(block.add(16 + 16 * part), stride);
            for (t, q) in q.into_iter().enumerate() {
                panel.put::<I, Self>(isa, sub, step + t, isa.and(q, nibble));
                panel.put::<I, Self>(isa, sub + 1, step + t, isa.and(isa.shr::<4>(q), nibble));
            }
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
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, panel: SuperPanel) {
        k_head::<I, Self>(isa, block, stride, panel);
        let (nibble, fifth) = (isa.splat(0x0f0f_0f0f), isa.splat(0x1010_1010));
        for half in 0..2 {
            let high = isa.load_rows(block.add(16 + 16 * half), stride);
            for pair in 0..4 {
                let q = isa.load_rows(block.add(48 + 32 * pair + 16 * half), stride);
                for t in 0..4 {
                    let (low_bit, high_bit) = match pair {
                        0 => (isa.shl::<4>(high[t]), isa.shl::<3>(high[t])),
                        1 => (isa.shl::<2>(high[t]), isa.shl::<1>(high[t])),
                        2 => (high[t], isa.shr::<1>(high[t])),
                        _ => (isa.shr::<2>(high[t]), isa.shr::<3>(high[t])),
                    };
                    let low = isa.or(isa.and(q[t], nibble), isa.and(low_bit, fifth));
                    let next =
                        isa.or(isa.and(isa.shr::<4>(q[t]), nibble), isa.and(high_bit, fifth));
                    panel.put::<I, Self>(isa, 2 * pair, 4 * half + t, low);
                    panel.put::<I, Self>(isa, 2 * pair + 1, 4 * half + t, next);
                }
            }
        }
    }
}

/// 6 bits around 32 and a signed scale per 16: the offset is a minimum of 32 times the scale.
#[derive(Clone, Copy)]
pub struct Q6K;

impl Q6K {
    #[inline(always)]
    unsafe fn scales<I: Isa>(isa: I, block: *const u8, stride: usize, panel: SuperPanel) {
        for (group, v) in isa.load_rows(block.add(192), stride).into_iter().enumerate() {
            let [a, b, c, d] = [
                isa.sar::<24>(isa.shl::<24>(v)),
                isa.sar::<24>(isa.shl::<16>(v)),
                isa.sar::<24>(isa.shl::<8>(v)),
                isa.sar::<24>(v),
            ];
            for (j, scale) in [a, b, c, d].into_iter().enumerate() {
                isa.store(panel.scale::<I>(4 * group + j), isa.scale(scale));
            }
            let low = isa.splat(0xffff);
            let pair = |x, y| isa.or(isa.and(isa.shl::<5>(x), low), isa.shl::<21>(y));
            isa.store(panel.mins::<I, Self>(2 * group), pair(a, b));
            isa.store(panel.mins::<I, Self>(2 * group + 1), pair(c, d));
        }
    }
}

impl SuperCodec for Q6K {
    const BYTES: usize = 210;
    const SUBS: usize = 16;
    const DEPTH: usize = 2;
    const ONE_FACTOR: bool = true;

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, panel: SuperPanel) {
        isa.fstore(panel.factors::<I, Self>(), isa.half_rows(block.add(208), stride));
        Self::scales(isa, block, stride, panel);
        let (nibble, top) = (isa.splat(0x0f0f_0f0f), isa.splat(0x3030_3030));
        for part in 0..4 {
            let (n, half) = (part / 2, part % 2);
            let first = isa.load_rows(block.add(64 * n + 16 * half), stride);
            let second = isa.load_rows(block.add(64 * n + 32 + 16 * half), stride);
            let high = isa.load_rows(block.add(128 + 32 * n + 16 * half), stride);
            for t in 0..4 {
                let (q0, q1, h) = (first[t], second[t], high[t]);
                let codes = [
                    isa.or(isa.and(q0, nibble), isa.and(isa.shl::<4>(h), top)),
                    isa.or(isa.and(q1, nibble), isa.and(isa.shl::<2>(h), top)),
                    isa.or(isa.and(isa.shr::<4>(q0), nibble), isa.and(h, top)),
                    isa.or(isa.and(isa.shr::<4>(q1), nibble), isa.and(isa.shr::<2>(h), top)),
                ];
                for (quarter, v) in codes.into_iter().enumerate() {
                    panel.put::<I, Self>(isa, 8 * n + 2 * quarter + half, t, v);
                }
            }
        }
    }
}

/// A type with blocks of 32 and one or two half-precision factors per block.
pub trait BlockCodec: Copy + Send + Sync + 'static {
    /// Bytes of a block.
    const BYTES: usize;
    /// How the codes are stored in a panel.
    const CODES: Codes;
    /// A second factor `m` is added to every weight.
    const MIN: bool;

    /// Writes the codes of one block of `LANES` rows.
    ///
    /// # Safety
    /// `block + lane * stride` points to `BYTES` bytes for every lane; `codes` has `Codes::bytes` of room.
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, codes: *mut u8);
}

/// Codes of a 32-block in a panel.
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

impl Codes {
    /// Bytes of a block of `LANES` rows: codes, `d`, `m`.
    pub const fn panel_bytes<I: Isa>(self) -> usize {
        self.code_bytes::<I>() + 8 * I::LANES
    }
    /// Bytes of the codes alone.
    pub const fn code_bytes<I: Isa>(self) -> usize {
        match self {
            Codes::Unsigned { .. } => 32 * I::LANES,
            Codes::Signed => I::SIGNED_BYTES,
        }
    }
}

/// Low nibbles are weights 0 to 15, high nibbles 16 to 31.
#[inline(always)]
unsafe fn nibbles<I: Isa>(isa: I, quants: *const u8, stride: usize, codes: *mut u8) {
    let nibble = isa.splat(0x0f0f_0f0f);
    for (t, q) in isa.load_rows(quants, stride).into_iter().enumerate() {
        isa.store(codes.add(4 * I::LANES * t), isa.and(q, nibble));
        isa.store(codes.add(4 * I::LANES * (4 + t)), isa.and(isa.shr::<4>(q), nibble));
    }
}

/// 4 bits around 8.
#[derive(Clone, Copy)]
pub struct Q4_0;

impl BlockCodec for Q4_0 {
    const BYTES: usize = 18;
    const CODES: Codes = Codes::Unsigned { offset: 8 };
    const MIN: bool = false;
    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, codes: *mut u8) {
        nibbles(isa, block.add(2), stride, codes);
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
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, codes: *mut u8) {
        nibbles(isa, block.add(4), stride, codes);
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
    unsafe fn unpack<I: Isa>(isa: I, block: *const u8, stride: usize, codes: *mut u8) {
        for half in 0..2 {
            isa.store_signed(codes, half, isa.load_rows(block.add(2 + 16 * half), stride));
        }
    }
}
