//! Tiles of types with factors of their own for each 32 or 16 weights: kept in a panel for many activation rows, or
//! multiplied at once for one.
#![allow(unsafe_op_in_unsafe_fn)]

use std::marker::PhantomData;

use super::acts::ActsView;
use super::codec::{BlockCodec, BlockSink, Factors, SIGNED};
use super::tile::{Tile, ahead};
use crate::isa::Isa;

/// Parts of 32.
#[derive(Clone, Copy)]
pub(super) struct BlockTile<I, C> {
    isa: I,
    codec: PhantomData<C>,
}

impl<I: Isa, C: BlockCodec> BlockTile<I, C> {
    /// A vector of `LANES` dwords.
    const VECTOR: usize = 4 * I::LANES;
    /// A part in a panel: 8 vectors of codes, two factors.
    const PART: usize = Self::VECTOR * (8 + 2);
    const OFFSET: i32 = if C::DEPTH == SIGNED { I::BIAS as i32 } else { C::OFFSET as i32 };

    pub(super) fn new(isa: I) -> Self {
        BlockTile { isa, codec: PhantomData }
    }

    /// Adds codes times activations to a row's result, less the offset times `sum`, that of the activations.
    #[inline(always)]
    unsafe fn scaled(self, total: I::F, codes: I::V, d: I::F, scale: f32, sum: i16) -> I::F {
        let isa = self.isa;
        let offset = isa.splat((Self::OFFSET * i32::from(sum)) as u32);
        let codes = if Self::OFFSET == 0 { codes } else { isa.sub_i32(codes, offset) };
        isa.fma(isa.to_f32(codes), isa.fmul(d, isa.fsplat(scale)), total)
    }

    /// Adds a part to a row's result; the second sum is read for halves only.
    #[inline(always)]
    unsafe fn add(
        self,
        total: I::F,
        codes: [I::V; 2],
        factors: [I::F; 2],
        acts: ActsView,
        row: usize,
        part: usize,
    ) -> I::F {
        let (scale, sum) = (*acts.scale(row, part), *acts.sums32(row, part));
        match C::FACTORS {
            Factors::One => self.scaled(total, codes[0], factors[0], scale, sum),
            Factors::Minimum => {
                let total = self.scaled(total, codes[0], factors[0], scale, sum);
                self.isa.fma(factors[1], self.isa.fsplat(scale * f32::from(sum)), total)
            }
            Factors::Halves => {
                let sums = acts.sums16(row, 2 * part);
                let total = self.scaled(total, codes[0], factors[0], scale, *sums);
                self.scaled(total, codes[1], factors[1], scale, *sums.add(1))
            }
        }
    }
}

/// One block in a panel.
struct Panel<I, C> {
    tile: BlockTile<I, C>,
    start: *mut u8,
}

impl<I: Isa, C: BlockCodec> BlockSink<I> for Panel<I, C> {
    #[inline(always)]
    unsafe fn part(&mut self, part: usize, factors: [I::F; 2], codes: [[I::V; 4]; 2]) {
        let (isa, vector) = (self.tile.isa, BlockTile::<I, C>::VECTOR);
        let start = self.start.add(part * BlockTile::<I, C>::PART);
        for (t, v) in codes.as_flattened().iter().enumerate() {
            isa.store(start.add(t * vector), *v);
        }
        isa.fstore(start.add(8 * vector).cast(), factors[0]);
        isa.fstore(start.add(9 * vector).cast(), factors[1]);
    }
}

/// One block multiplied with one activation row while it is unpacked.
struct Dot<I: Isa, C> {
    tile: BlockTile<I, C>,
    acts: ActsView,
    /// Parts before this block.
    before: usize,
    total: I::F,
}

impl<I: Isa, C: BlockCodec> BlockSink<I> for Dot<I, C> {
    #[inline(always)]
    unsafe fn part(&mut self, part: usize, factors: [I::F; 2], codes: [[I::V; 4]; 2]) {
        let (isa, part) = (self.tile.isa, self.before + part);
        let (mut sums, one) = ([isa.splat(0); 2], isa.scale(isa.splat(1)));
        for (half, codes) in codes.into_iter().enumerate() {
            let sum = if C::FACTORS == Factors::Halves { half } else { 0 };
            let acts = self.acts.codes(0, 32 * part + 16 * half);
            sums[sum] = isa.quad_dot(sums[sum], codes, acts, one, C::DEPTH);
        }
        self.total = self.tile.add(self.total, sums, factors, self.acts, 0, part);
    }
}

impl<I: Isa, C: BlockCodec> Tile for BlockTile<I, C> {
    #[inline(always)]
    fn panel_bytes(self, width: usize) -> usize {
        width / 32 * Self::PART
    }

    #[inline(always)]
    unsafe fn unpack(self, rows: *const u8, stride: usize, width: usize, panel: *mut u8) {
        for block in 0..width / (32 * C::PARTS) {
            ahead(self.isa, rows, stride, block, C::BYTES);
            let start = panel.add(block * C::PARTS * Self::PART);
            let mut panel = Panel { tile: self, start };
            C::unpack(self.isa, rows.add(block * C::BYTES), stride, &mut panel);
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
        for part in 0..width / 32 {
            let codes = panel.add(part * Self::PART);
            let at: [*const i8; N] =
                std::array::from_fn(|n| acts.codes(first + n, 32 * part).cast_const());
            let mut sums = [[isa.splat(0); N]; 2];
            if C::FACTORS == Factors::Halves {
                isa.sub_dot(&mut sums[0], codes, at, one, 4, C::DEPTH);
                let (codes, at) = (codes.add(4 * Self::VECTOR), at.map(|at| at.add(16)));
                isa.sub_dot(&mut sums[1], codes, at, one, 4, C::DEPTH);
            } else {
                isa.sub_dot(&mut sums[0], codes, at, one, 8, C::DEPTH);
            }
            let factors = codes.add(8 * Self::VECTOR).cast::<f32>();
            let factors = [isa.fload(factors), isa.fload(factors.add(I::LANES))];
            for n in 0..N {
                let sums = [sums[0][n], sums[1][n]];
                total[n] = self.add(total[n], sums, factors, acts, first + n, part);
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
        let mut dot = Dot { tile: self, acts, before: 0, total: self.isa.fsplat(0.0) };
        for block in 0..width / (32 * C::PARTS) {
            ahead(self.isa, rows, stride, block, C::BYTES);
            dot.before = block * C::PARTS;
            C::unpack(self.isa, rows.add(block * C::BYTES), stride, &mut dot);
        }
        self.isa.fstore(out, dot.total);
    }
}
