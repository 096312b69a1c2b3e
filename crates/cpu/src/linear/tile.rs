//! Quantized matrix times activations: unpack `LANES` weight rows into a panel that stays in cache, multiply it with
//! all activation rows. One path for decode, small batches and prefill, so a row's result is the same in each:
//! exact integer sums per block, one float multiply-add per block (and minimum), blocks in order.
#![allow(unsafe_op_in_unsafe_fn)]

use super::acts::ActsView;
use super::codec::{BlockCodec, Codes, SuperCodec, SuperPanel};
use super::{Dst, Matrix};
use crate::isa::Isa;

/// Unpacked weights should stay in a core's own cache beside a tile of activations.
const PANEL_BYTES: usize = 192 << 10;

/// A way to unpack and multiply panels of one weight type.
pub(super) trait Tile: Copy {
    /// Bytes of a panel over `width` columns.
    fn panel_bytes(self, width: usize) -> usize;
    /// Unpacks `LANES` rows.
    unsafe fn unpack(self, rows: *const u8, stride: usize, width: usize, panel: *mut u8);
    /// Multiplies a panel with activation rows `first .. first + N`; result n goes to `out[n]`.
    unsafe fn multiply<const N: usize>(
        self,
        panel: *const u8,
        width: usize,
        acts: ActsView,
        first: usize,
        out: [*mut f32; N],
    );
}

/// Multiplies rows `rows` of `w` (a multiple of `LANES` from the start) with `count` activation rows.
///
/// # Safety
/// Called inside `isa.with`; `dst` covers the rows; no one else writes them.
#[inline(always)]
pub(super) unsafe fn run<I: Isa, T: Tile>(
    tile: T,
    w: &Matrix,
    rows: std::ops::Range<usize>,
    acts: ActsView,
    count: usize,
    dst: Dst,
    buffer: &mut Vec<u8>,
) {
    let bytes = tile.panel_bytes(w.cols);
    let group = if count == 1 { 1 } else { (PANEL_BYTES / bytes).max(1) };
    let panels = group.min(rows.len().div_ceil(I::LANES));
    if buffer.len() < panels * bytes {
        buffer.resize(panels * bytes, 0);
    }
    let panel = buffer.as_mut_ptr();
    let mut start = rows.start;
    while start < rows.end {
        let end = rows.end.min(start + panels * I::LANES);
        let starts = (start..end).step_by(I::LANES);
        for (i, row) in starts.clone().enumerate() {
            let (base, stride) = w.lanes::<I>(row);
            tile.unpack(base, stride, w.cols, panel.add(i * bytes));
        }
        let mut act = 0;
        while act < count {
            let n = step::<I>(count - act);
            for (i, row) in starts.clone().enumerate() {
                let place = Place { act, row, width: I::LANES.min(w.rows - row) };
                let panel = panel.add(i * bytes).cast_const();
                match n {
                    8 => put::<I, T, 8>(tile, panel, w.cols, acts, dst, place),
                    4 => put::<I, T, 4>(tile, panel, w.cols, acts, dst, place),
                    2 => put::<I, T, 2>(tile, panel, w.cols, acts, dst, place),
                    _ => put::<I, T, 1>(tile, panel, w.cols, acts, dst, place),
                }
            }
            act += n;
        }
        start = end;
    }
}

fn step<I: Isa>(left: usize) -> usize {
    match left {
        8.. if I::TILE >= 8 => 8,
        4.. => 4,
        2.. => 2,
        _ => 1,
    }
}

/// Where a tile's results go: activation rows from `act`, `width` weight rows from `row`.
#[derive(Clone, Copy)]
struct Place {
    act: usize,
    row: usize,
    width: usize,
}

#[inline(always)]
unsafe fn put<I: Isa, T: Tile, const N: usize>(
    tile: T,
    panel: *const u8,
    cols: usize,
    acts: ActsView,
    dst: Dst,
    Place { act, row, width }: Place,
) {
    if width == I::LANES {
        let out: [*mut f32; N] = std::array::from_fn(|n| dst.at(act + n, row));
        return tile.multiply(panel, cols, acts, act, out);
    }
    // The last rows of a matrix whose height is no multiple of LANES.
    let mut spill = [[0f32; 16]; N];
    let out: [*mut f32; N] = spill.each_mut().map(|s| s.as_mut_ptr());
    tile.multiply(panel, cols, acts, act, out);
    for (n, spill) in spill.iter().enumerate() {
        std::ptr::copy_nonoverlapping(spill.as_ptr(), dst.at(act + n, row), width);
    }
}

/// Asks for this block's share of the next panel: rows are contiguous, but eight at a time are more streams than
/// the processor's own prefetcher follows.
#[inline(always)]
unsafe fn ahead<I: Isa>(isa: I, rows: *const u8, stride: usize, block: usize, bytes: usize) {
    let share = I::LANES * bytes;
    let next = rows.wrapping_add(I::LANES * stride + block * share);
    for line in (0..share).step_by(64) {
        isa.prefetch(next.wrapping_add(line));
    }
}

/// Super-blocks of 256.
#[derive(Clone, Copy)]
pub(super) struct SuperTile<I, C> {
    pub(super) isa: I,
    pub(super) codec: std::marker::PhantomData<C>,
}

impl<I: Isa, C: SuperCodec> Tile for SuperTile<I, C> {
    #[inline(always)]
    fn panel_bytes(self, width: usize) -> usize {
        width / 256 * SuperPanel::bytes::<I, C>()
    }

    #[inline(always)]
    unsafe fn unpack(self, rows: *const u8, stride: usize, width: usize, panel: *mut u8) {
        for block in 0..width / 256 {
            ahead(self.isa, rows, stride, block, C::BYTES);
            let start = panel.add(block * SuperPanel::bytes::<I, C>());
            C::unpack(self.isa, rows.add(block * C::BYTES), stride, SuperPanel { start });
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
            let start = panel.add(block * SuperPanel::bytes::<I, C>()).cast_mut();
            let p = SuperPanel { start };
            let codes: [*const i8; N] =
                std::array::from_fn(|n| acts.codes(first + n, 256 * block).cast_const());
            let mut sums = [isa.splat(0); N];
            for sub in 0..C::SUBS {
                let at = codes.map(|c| c.add(sub * 4 * steps));
                let scale = isa.load(p.scale::<I>(sub));
                isa.sub_dot(&mut sums, p.codes::<I, C>(sub), at, scale, steps, C::DEPTH);
            }
            let mut mins = [isa.splat(0); N];
            for pair in 0..C::SUBS / 2 {
                let m = isa.load(p.mins::<I, C>(pair));
                for n in 0..N {
                    let both = match C::SUBS {
                        8 => acts.sums32(first + n, 8 * block + 2 * pair),
                        _ => acts.sums16(first + n, 16 * block + 2 * pair),
                    };
                    let both = isa.splat(both.cast::<u32>().read_unaligned());
                    mins[n] = isa.add_i32(mins[n], isa.madd_i16(m, both));
                }
            }
            let d = isa.fload(p.factors::<I, C>());
            for n in 0..N {
                let scale = isa.fsplat(*acts.scale(first + n, block));
                if C::ONE_FACTOR {
                    let sum = isa.to_f32(isa.sub_i32(sums[n], mins[n]));
                    total[n] = isa.fma(sum, isa.fmul(d, scale), total[n]);
                } else {
                    let dmin = isa.fload(p.factors::<I, C>().add(I::LANES));
                    total[n] = isa.fma(isa.to_f32(sums[n]), isa.fmul(d, scale), total[n]);
                    total[n] = isa.fnma(isa.to_f32(mins[n]), isa.fmul(dmin, scale), total[n]);
                }
            }
        }
        for n in 0..N {
            isa.fstore(out[n], total[n]);
        }
    }
}

/// Blocks of 32.
#[derive(Clone, Copy)]
pub(super) struct BlockTile<I, C> {
    pub(super) isa: I,
    pub(super) codec: std::marker::PhantomData<C>,
}

impl<I: Isa, C: BlockCodec> Tile for BlockTile<I, C> {
    #[inline(always)]
    fn panel_bytes(self, width: usize) -> usize {
        width / 32 * C::CODES.panel_bytes::<I>()
    }

    #[inline(always)]
    unsafe fn unpack(self, rows: *const u8, stride: usize, width: usize, panel: *mut u8) {
        let isa = self.isa;
        for block in 0..width / 32 {
            ahead(isa, rows, stride, block, C::BYTES);
            let (from, to) =
                (rows.add(block * C::BYTES), panel.add(block * C::CODES.panel_bytes::<I>()));
            C::unpack(isa, from, stride, to);
            let factors = to.add(C::CODES.code_bytes::<I>()).cast::<f32>();
            isa.fstore(factors, isa.half_rows(from, stride));
            if C::MIN {
                isa.fstore(factors.add(I::LANES), isa.half_rows(from.add(2), stride));
            }
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
            let codes = panel.add(block * C::CODES.panel_bytes::<I>());
            let factors = codes.add(C::CODES.code_bytes::<I>()).cast::<f32>();
            let sums = match C::CODES {
                Codes::Signed => {
                    let at = std::array::from_fn(|n| acts.signed(first + n, block));
                    isa.signed_dot::<N>(codes, at)
                }
                Codes::Unsigned { offset } => {
                    let at =
                        std::array::from_fn(|n| acts.codes(first + n, 32 * block).cast_const());
                    let mut sums = [isa.splat(0); N];
                    isa.sub_dot::<N>(&mut sums, codes, at, one, 8, 8);
                    std::array::from_fn(|n| {
                        let off = offset * i32::from(*acts.sums32(first + n, block));
                        if offset == 0 {
                            sums[n]
                        } else {
                            isa.sub_i32(sums[n], isa.splat(off as u32))
                        }
                    })
                }
            };
            let d = isa.fload(factors);
            for n in 0..N {
                let scale = *acts.scale(first + n, block);
                total[n] = isa.fma(isa.to_f32(sums[n]), isa.fmul(d, isa.fsplat(scale)), total[n]);
                if C::MIN {
                    let m = isa.fload(factors.add(I::LANES));
                    let sum = scale * f32::from(*acts.sums32(first + n, block));
                    total[n] = isa.fma(m, isa.fsplat(sum), total[n]);
                }
            }
        }
        for n in 0..N {
            isa.fstore(out[n], total[n]);
        }
    }
}
