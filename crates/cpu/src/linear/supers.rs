//! Tiles of types with super-blocks of 256: kept in a panel for many activation rows, or multiplied at once for one.
#![allow(unsafe_op_in_unsafe_fn)]

use std::marker::PhantomData;

use super::acts::ActsView;
use super::codec::{SuperCodec, SuperSink};
use super::tile::{Tile, ahead};
use crate::isa::Isa;

/// Most sub-blocks of any type.
const MOST_SUBS: usize = 16;

/// Super-blocks of 256.
#[derive(Clone, Copy)]
pub(super) struct SuperTile<I, C> {
    isa: I,
    codec: PhantomData<C>,
}

impl<I: Isa, C: SuperCodec> SuperTile<I, C> {
    pub(super) fn new(isa: I) -> Self {
        SuperTile { isa, codec: PhantomData }
    }

    /// The sums of 16 or 32 activations that belong to a pair of minima, as two i16.
    #[inline(always)]
    unsafe fn act_sums(self, acts: ActsView, row: usize, block: usize, pair: usize) -> I::V {
        let both = match C::SUBS {
            8 => acts.sums32(row, 8 * block + 2 * pair),
            _ => acts.sums16(row, 16 * block + 2 * pair),
        };
        self.isa.splat(both.cast::<u32>().read_unaligned())
    }

    /// Adds a super-block to a row's result.
    #[inline(always)]
    unsafe fn add(
        self,
        total: I::F,
        sum: I::V,
        min: I::V,
        d: I::F,
        dmin: I::F,
        scale: f32,
    ) -> I::F {
        let (isa, scale) = (self.isa, self.isa.fsplat(scale));
        if C::ONE_FACTOR {
            return isa.fma(isa.to_f32(isa.sub_i32(sum, min)), isa.fmul(d, scale), total);
        }
        let total = isa.fma(isa.to_f32(sum), isa.fmul(d, scale), total);
        isa.fnma(isa.to_f32(min), isa.fmul(dmin, scale), total)
    }
}

/// One super-block in a panel. In vectors of `LANES` dwords: 64 of codes, `SUBS` scales, `SUBS / 2` pairs of
/// minima, `d`, `dmin`.
#[derive(Clone, Copy)]
struct Panel<I, C> {
    isa: I,
    start: *mut u8,
    codec: PhantomData<C>,
}

impl<I: Isa, C: SuperCodec> Panel<I, C> {
    const BYTES: usize = 4 * I::LANES * (64 + C::SUBS + C::SUBS / 2 + 2);

    #[inline(always)]
    fn at(isa: I, start: *mut u8, block: usize) -> Self {
        Panel { isa, start: start.wrapping_add(block * Self::BYTES), codec: PhantomData }
    }
    #[inline(always)]
    fn vector(self, index: usize) -> *mut u8 {
        self.start.wrapping_add(4 * I::LANES * index)
    }
    #[inline(always)]
    fn codes_at(self, sub: usize) -> *mut u8 {
        self.vector(sub * (64 / C::SUBS))
    }
    #[inline(always)]
    fn scale_at(self, sub: usize) -> *mut u8 {
        self.vector(64 + sub)
    }
    #[inline(always)]
    fn mins_at(self, pair: usize) -> *mut u8 {
        self.vector(64 + C::SUBS + pair)
    }
    #[inline(always)]
    fn factors_at(self) -> *mut f32 {
        self.vector(64 + C::SUBS + C::SUBS / 2).cast()
    }
}

impl<I: Isa, C: SuperCodec> SuperSink<I> for Panel<I, C> {
    #[inline(always)]
    unsafe fn factors(&mut self, d: I::F, dmin: I::F) {
        self.isa.fstore(self.factors_at(), d);
        self.isa.fstore(self.factors_at().add(I::LANES), dmin);
    }
    #[inline(always)]
    unsafe fn scale(&mut self, sub: usize, scale: I::V) {
        self.isa.store(self.scale_at(sub), self.isa.scale(scale));
    }
    #[inline(always)]
    unsafe fn mins(&mut self, pair: usize, mins: I::V) {
        self.isa.store(self.mins_at(pair), mins);
    }
    #[inline(always)]
    unsafe fn codes(&mut self, sub: usize, step: usize, codes: [I::V; 4]) {
        for (t, v) in codes.into_iter().enumerate() {
            self.isa.store(self.codes_at(sub).add(4 * I::LANES * (step + t)), v);
        }
    }
}

/// One super-block multiplied with one activation row while it is unpacked.
struct Dot<I: Isa, C> {
    tile: SuperTile<I, C>,
    acts: ActsView,
    block: usize,
    codes: *const i8,
    /// What the next panel will read, asked for a little with each part: a burst would stall on the misses that
    /// a core can have open.
    next: *const u8,
    scales: [I::V; MOST_SUBS],
    factors: [I::F; 2],
    sum: I::V,
    min: I::V,
}

impl<I: Isa, C: SuperCodec> SuperSink<I> for Dot<I, C> {
    #[inline(always)]
    unsafe fn factors(&mut self, d: I::F, dmin: I::F) {
        self.factors = [d, dmin];
    }
    #[inline(always)]
    unsafe fn scale(&mut self, sub: usize, scale: I::V) {
        self.scales[sub] = self.tile.isa.scale(scale);
    }
    #[inline(always)]
    unsafe fn mins(&mut self, pair: usize, mins: I::V) {
        let isa = self.tile.isa;
        let sums = self.tile.act_sums(self.acts, 0, self.block, pair);
        self.min = isa.add_i32(self.min, isa.madd_i16(mins, sums));
    }
    #[inline(always)]
    unsafe fn codes(&mut self, sub: usize, step: usize, codes: [I::V; 4]) {
        self.tile.isa.prefetch(self.next);
        self.tile.isa.prefetch(self.next.wrapping_add(64));
        self.next = self.next.wrapping_add(I::LANES * C::BYTES / 16);
        let acts = self.codes.add(256 / C::SUBS * sub + 4 * step);
        self.sum = self.tile.isa.quad_dot(self.sum, codes, acts, self.scales[sub], C::DEPTH);
    }
}

impl<I: Isa, C: SuperCodec> Tile for SuperTile<I, C> {
    #[inline(always)]
    fn panel_bytes(self, width: usize) -> usize {
        width / 256 * Panel::<I, C>::BYTES
    }

    #[inline(always)]
    unsafe fn unpack(self, rows: *const u8, stride: usize, width: usize, panel: *mut u8) {
        for block in 0..width / 256 {
            ahead(self.isa, rows, stride, block, C::BYTES);
            let mut panel = Panel::<I, C>::at(self.isa, panel, block);
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
        let steps = 64 / C::SUBS;
        let mut total = [isa.fsplat(0.0); N];
        for block in 0..width / 256 {
            let p = Panel::<I, C>::at(isa, panel.cast_mut(), block);
            let codes: [*const i8; N] =
                std::array::from_fn(|n| acts.codes(first + n, 256 * block).cast_const());
            let mut sums = [isa.splat(0); N];
            for sub in 0..C::SUBS {
                let at = codes.map(|c| c.add(sub * 4 * steps));
                let scale = isa.load(p.scale_at(sub));
                isa.sub_dot(&mut sums, p.codes_at(sub), at, scale, steps, C::DEPTH);
            }
            let mut mins = [isa.splat(0); N];
            for pair in 0..C::SUBS / 2 {
                let m = isa.load(p.mins_at(pair));
                for n in 0..N {
                    let both = self.act_sums(acts, first + n, block, pair);
                    mins[n] = isa.add_i32(mins[n], isa.madd_i16(m, both));
                }
            }
            let d = isa.fload(p.factors_at());
            let dmin = isa.fload(p.factors_at().add(I::LANES));
            for n in 0..N {
                let scale = *acts.scale(first + n, block);
                total[n] = self.add(total[n], sums[n], mins[n], d, dmin, scale);
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
        for block in 0..width / 256 {
            let mut dot = Dot {
                tile: self,
                acts,
                block,
                codes: acts.codes(0, 256 * block),
                next: rows.wrapping_add(I::LANES * (stride + block * C::BYTES)),
                scales: [isa.splat(0); MOST_SUBS],
                factors: [isa.fsplat(0.0); 2],
                sum: isa.splat(0),
                min: isa.splat(0),
            };
            C::unpack(isa, rows.add(block * C::BYTES), stride, &mut dot);
            let ([d, dmin], scale) = (dot.factors, *acts.scale(0, block));
            total = self.add(total, dot.sum, dot.min, d, dmin, scale);
        }
        isa.fstore(out, total);
    }
}
