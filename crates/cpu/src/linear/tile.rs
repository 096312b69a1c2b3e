//! Quantized matrix times activations: unpack `LANES` weight rows into a panel that stays in cache, multiply it with
//! all activation rows; or, for a single one, multiply while unpacking. A row's result is the same in both: exact
//! integer sums per block, one float multiply-add per block (and minimum), blocks in order.
#![allow(unsafe_op_in_unsafe_fn)]

use super::acts::ActsView;
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
    /// Unpacks and multiplies `LANES` rows with activation row 0 alone, nothing kept.
    unsafe fn dot(
        self,
        rows: *const u8,
        stride: usize,
        width: usize,
        acts: ActsView,
        out: *mut f32,
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
    if count == 1 {
        for row in rows.step_by(I::LANES) {
            let (base, stride) = w.lanes::<I>(row);
            let place = Place { act: 0, row, width: I::LANES.min(w.rows - row) };
            put::<I, 1>(
                dst,
                place,
                #[inline(always)]
                |[out]| tile.dot(base, stride, w.cols, acts, out),
            );
        }
        return;
    }
    let bytes = tile.panel_bytes(w.cols);
    let group = (PANEL_BYTES / bytes).max(1);
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
                    8 => multiply::<I, T, 8>(tile, panel, w.cols, acts, dst, place),
                    4 => multiply::<I, T, 4>(tile, panel, w.cols, acts, dst, place),
                    2 => multiply::<I, T, 2>(tile, panel, w.cols, acts, dst, place),
                    _ => multiply::<I, T, 1>(tile, panel, w.cols, acts, dst, place),
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

/// Multiplies a panel with `N` activation rows. (The attribute stands on the closure too: a body that is not inlined
/// loses its instruction set.)
#[inline(always)]
unsafe fn multiply<I: Isa, T: Tile, const N: usize>(
    tile: T,
    panel: *const u8,
    cols: usize,
    acts: ActsView,
    dst: Dst,
    place: Place,
) {
    put::<I, N>(
        dst,
        place,
        #[inline(always)]
        |out| tile.multiply(panel, cols, acts, place.act, out),
    )
}

/// Lets `compute` write `LANES` results per activation row, of which `width` are kept.
#[inline(always)]
unsafe fn put<I: Isa, const N: usize>(dst: Dst, place: Place, compute: impl FnOnce([*mut f32; N])) {
    let Place { act, row, width } = place;
    if width == I::LANES {
        return compute(std::array::from_fn(|n| dst.at(act + n, row)));
    }
    // The last rows of a matrix whose height is no multiple of LANES.
    let mut spill = [[0f32; 16]; N];
    compute(spill.each_mut().map(|s| s.as_mut_ptr()));
    for (n, spill) in spill.iter().enumerate() {
        std::ptr::copy_nonoverlapping(spill.as_ptr(), dst.at(act + n, row), width);
    }
}

/// Asks for this block's share of the next panel: rows are contiguous, but eight at a time are more streams than
/// the processor's own prefetcher follows.
#[inline(always)]
pub(super) unsafe fn ahead<I: Isa>(
    isa: I,
    rows: *const u8,
    stride: usize,
    block: usize,
    bytes: usize,
) {
    let share = I::LANES * bytes;
    let next = rows.wrapping_add(I::LANES * stride + block * share);
    for line in (0..share).step_by(64) {
        isa.prefetch(next.wrapping_add(line));
    }
}
