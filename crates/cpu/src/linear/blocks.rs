//! Tiles of types with blocks of 32: kept in a panel for many activation rows, or multiplied at once for one.
#![allow(unsafe_op_in_unsafe_fn)]

use std::marker::PhantomData;

use super::acts::ActsView;
use super::codec::{BlockCodec, Codes};
use super::tile::{Tile, ahead};
use crate::isa::Isa;

/// Blocks of 32.
#[derive(Clone, Copy)]
pub(super) struct BlockTile<I, C> {
    isa: I,
    codec: PhantomData<C>,
}

impl<I: Isa, C: BlockCodec> BlockTile<I, C> {
    const CODE_BYTES: usize = match C::CODES {
        Codes::Unsigned { .. } => 32 * I::LANES,
        Codes::Signed => I::SIGNED_BYTES,
    };
    /// Codes, `d`, `m`.
    const BYTES: usize = Self::CODE_BYTES + 8 * I::LANES;

    pub(super) fn new(isa: I) -> Self {
        BlockTile { isa, codec: PhantomData }
    }

    /// Takes the offset of the codes off a block's sum.
    #[inline(always)]
    unsafe fn centre(self, sum: I::V, acts: ActsView, row: usize, block: usize) -> I::V {
        match C::CODES {
            Codes::Signed | Codes::Unsigned { offset: 0 } => sum,
            Codes::Unsigned { offset } => {
                let off = offset * i32::from(*acts.sums32(row, block));
                self.isa.sub_i32(sum, self.isa.splat(off as u32))
            }
        }
    }

    /// Adds a block to a row's result.
    #[inline(always)]
    unsafe fn add(
        self,
        total: I::F,
        sum: I::V,
        [d, m]: [I::F; 2],
        acts: ActsView,
        row: usize,
        block: usize,
    ) -> I::F {
        let (isa, scale) = (self.isa, *acts.scale(row, block));
        let total = isa.fma(isa.to_f32(sum), isa.fmul(d, isa.fsplat(scale)), total);
        if !C::MIN {
            return total;
        }
        let sum = scale * f32::from(*acts.sums32(row, block));
        isa.fma(m, isa.fsplat(sum), total)
    }

    /// `d`, and `m` where the type has one.
    #[inline(always)]
    unsafe fn factors(self, block: *const u8, stride: usize) -> [I::F; 2] {
        let d = self.isa.half_rows(block, stride);
        [d, if C::MIN { self.isa.half_rows(block.add(2), stride) } else { d }]
    }
}

impl<I: Isa, C: BlockCodec> Tile for BlockTile<I, C> {
    #[inline(always)]
    fn panel_bytes(self, width: usize) -> usize {
        width / 32 * Self::BYTES
    }

    #[inline(always)]
    unsafe fn unpack(self, rows: *const u8, stride: usize, width: usize, panel: *mut u8) {
        let isa = self.isa;
        for block in 0..width / 32 {
            ahead(isa, rows, stride, block, C::BYTES);
            let (from, to) = (rows.add(block * C::BYTES), panel.add(block * Self::BYTES));
            for (half, codes) in C::unpack(isa, from, stride).into_iter().enumerate() {
                match C::CODES {
                    Codes::Signed => isa.store_signed(to, half, codes),
                    Codes::Unsigned { .. } => {
                        for (t, v) in codes.into_iter().enumerate() {
                            isa.store(to.add(4 * I::LANES * (4 * half + t)), v);
                        }
                    }
                }
            }
            let [d, m] = self.factors(from, stride);
            let factors = to.add(Self::CODE_BYTES).cast::<f32>();
            isa.fstore(factors, d);
            isa.fstore(factors.add(I::LANES), m);
        }
    }

    #[inline(always)]
    unsafe fn multiply<const N: usize>(
        self,
        panel: *const u8,
        width: usize,
        acts: ActsView,
        first: usize,
        out: [*mut f32; N],
    ) {
        let isa = self.isa;
        let mut total = [isa.fsplat(0.0); N];
        let one = isa.scale(isa.splat(1));
        for block in 0..width / 32 {
            let codes = panel.add(block * Self::BYTES);
            let sums = match C::CODES {
                Codes::Signed => isa
                    .signed_dot::<N>(codes, std::array::from_fn(|n| acts.signed(first + n, block))),
                Codes::Unsigned { .. } => {
                    let at =
                        std::array::from_fn(|n| acts.codes(first + n, 32 * block).cast_const());
                    let mut sums = [isa.splat(0); N];
                    isa.sub_dot::<N>(&mut sums, codes, at, one, 8, 8);
                    sums
                }
            };
            let factors = codes.add(Self::CODE_BYTES).cast::<f32>();
            let factors = [isa.fload(factors), isa.fload(factors.add(I::LANES))];
            for n in 0..N {
                let sum = self.centre(sums[n], acts, first + n, block);
                total[n] = self.add(total[n], sum, factors, acts, first + n, block);
            }
        }
        for n in 0..N {
            isa.fstore(out[n], total[n]);
        }
    }

    #[inline(always)]
    unsafe fn dot(
        self,
        rows: *const u8,
        stride: usize,
        width: usize,
        acts: ActsView,
        out: *mut f32,
    ) {
        let isa = self.isa;
        let mut total = isa.fsplat(0.0);
        let one = isa.scale(isa.splat(1));
        for block in 0..width / 32 {
            ahead(isa, rows, stride, block, C::BYTES);
            let from = rows.add(block * C::BYTES);
            let [low, high] = C::unpack(isa, from, stride);
            let at = acts.codes(0, 32 * block).cast_const();
            let mut sum = isa.splat(0);
            for (codes, at) in [(low, at), (high, at.add(16))] {
                sum = match C::CODES {
                    Codes::Signed => isa.signed_quad(sum, codes, at),
                    Codes::Unsigned { .. } => isa.quad_dot(sum, codes, at, one, 8),
                };
            }
            let sum = self.centre(sum, acts, 0, block);
            total = self.add(total, sum, self.factors(from, stride), acts, 0, block);
        }
        isa.fstore(out, total);
    }
}
