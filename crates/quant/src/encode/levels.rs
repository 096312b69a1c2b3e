//! Blocks of the form `w = scale * level`, where the levels are whole numbers in a row or a code book. The scale is searched
//! by alternating least squares from several starts, for all lanes at once; in a super-block the quantized scales are
//! then moved by one step where that lowers the error as it will be decoded, and the common factor is fitted again.

use super::half;
use super::lanes::{Lanes, Tile, apart};

/// A row of levels.
pub(super) trait Levels {
    /// The two ends, which the weight of largest magnitude is put on (or near) to begin with.
    const ENDS: [f32; 2];
    /// Starts on each side of an end, and how far apart they are, in levels.
    const TRIES: i32;
    const STEP: f32;
    /// The nearest level.
    fn nearest(u: Lanes) -> Lanes;
}

/// Whole numbers from `-N` to `N - 1`.
pub(super) struct Whole<const N: i32>;

impl<const N: i32> Levels for Whole<N> {
    const ENDS: [f32; 2] = [-N as f32, (N - 1) as f32];
    const TRIES: i32 = 9;
    const STEP: f32 = 0.1;
    #[inline(always)]
    fn nearest(u: Lanes) -> Lanes {
        u.round(-N as f32, (N - 1) as f32)
    }
}

/// `sum w x l` and `sum w l l` of the levels nearest to `x * inverse`.
#[inline(always)]
fn sums<L: Levels, const N: usize>(t: &Tile<N>, inverse: Lanes) -> (Lanes, Lanes) {
    let (mut xl, mut ll) = (Lanes::ZERO, Lanes::ZERO);
    for i in 0..N {
        let level = L::nearest(t.x[i] * inverse);
        let wl = t.w[i] * level;
        xl = xl + wl * t.x[i];
        ll = ll + wl * level;
        apart();
    }
    (xl, ll)
}

/// The best scale so far, and what it saves of `sum w x x`; the error is the rest.
struct Best {
    scale: Lanes,
    saved: Lanes,
}

impl Best {
    /// Takes the least-squares scale of the levels that `x * inverse` is nearest to, where it saves more.
    #[inline(always)]
    fn offer<L: Levels, const N: usize>(&mut self, t: &Tile<N>, inverse: Lanes) {
        let (xl, ll) = sums::<L, N>(t, inverse);
        let new = xl * ll.inverse();
        let saves = new * xl;
        self.scale = new.if_less(self.saved, saves, self.scale);
        self.saved = saves.max(self.saved);
    }
}

/// The best scale found for each block.
#[inline(always)]
pub(super) fn scale<L: Levels, const N: usize>(t: &Tile<N>) -> Lanes {
    let start = t.extreme().inverse();
    let mut best = Best { scale: Lanes::ZERO, saved: Lanes::ZERO };
    for end in L::ENDS {
        for k in -L::TRIES..=L::TRIES {
            best.offer::<L, N>(t, start * Lanes::splat(end + L::STEP * k as f32));
        }
    }
    for _ in 0..2 {
        best.offer::<L, N>(t, best.scale.inverse());
    }
    best.scale
}

/// Weighted error of each block with a scale.
#[inline(always)]
pub(super) fn error<L: Levels, const N: usize>(t: &Tile<N>, scale: Lanes) -> Lanes {
    let inverse = scale.inverse();
    let mut sum = Lanes::ZERO;
    for i in 0..N {
        let rest = t.x[i] - scale * L::nearest(t.x[i] * inverse);
        sum = sum + t.w[i] * rest * rest;
        apart();
    }
    sum
}

/// A super-block's factor d and the whole number that each of its blocks multiplies it with.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    pub d: Lanes,
    pub s: Lanes,
}

/// Quantizes the scales of super-blocks of `B` blocks to whole numbers from `low` to `high`.
#[inline(always)]
pub(super) fn scales<L: Levels, const N: usize, const B: usize>(
    t: &Tile<N>,
    low: f32,
    high: f32,
) -> Scales {
    let exact = scale::<L, N>(t);
    // How much the error grows with a scale's distance from the best one.
    let (_, weight) = sums::<L, N>(t, exact.inverse());
    let d = factor::<B>(exact, weight, low, high);
    let mut best = Scales { d, s: (exact * d.inverse()).round(low, high) };
    let mut least = error::<L, N>(t, best.d * best.s);
    for _ in 0..2 {
        step::<L, N>(t, &mut best, &mut least, low, high);
        refit::<L, N, B>(t, &mut best, &mut least);
    }
    step::<L, N>(t, &mut best, &mut least, low, high);
    best
}

/// The factor that fits the scales best when each is rounded.
#[inline(always)]
fn factor<const B: usize>(scale: Lanes, weight: Lanes, low: f32, high: f32) -> Lanes {
    let start = scale.group_extreme::<B>().inverse();
    let (mut best, mut saved) = (Lanes::ZERO, Lanes::ZERO);
    for end in [low, high] {
        for k in -4..=4 {
            let inverse = start * Lanes::splat(end + 0.1 * k as f32);
            let s = (scale * inverse).round(low, high);
            let ws = weight * s;
            let xs = (ws * scale).group_sum::<B>();
            let d = xs * (ws * s).group_sum::<B>().inverse();
            let saves = d * xs;
            best = d.if_less(saved, saves, best);
            saved = saves.max(saved);
        }
    }
    half::<B>(best)
}

/// Moves each scale by one where that lowers the block's error.
#[inline(always)]
fn step<L: Levels, const N: usize>(
    t: &Tile<N>,
    best: &mut Scales,
    least: &mut Lanes,
    low: f32,
    high: f32,
) {
    let from = best.s;
    for by in [-1.0, 1.0] {
        let s = (from + Lanes::splat(by)).round(low, high);
        let new = error::<L, N>(t, best.d * s);
        best.s = s.if_less(new, *least, best.s);
        *least = new.min(*least);
    }
}

/// Fits the factor to the levels of all blocks; taken where the super-block's error gets lower.
#[inline(always)]
fn refit<L: Levels, const N: usize, const B: usize>(
    t: &Tile<N>,
    best: &mut Scales,
    least: &mut Lanes,
) {
    let (xl, ll) = sums::<L, N>(t, (best.d * best.s).inverse());
    let xl = (best.s * xl).group_sum::<B>();
    let ll = (best.s * best.s * ll).group_sum::<B>();
    let d = half::<B>(xl * ll.inverse());
    let errors = error::<L, N>(t, d * best.s);
    let (new, old) = (errors.group_sum::<B>(), least.group_sum::<B>());
    best.d = d.if_less(new, old, best.d);
    *least = errors.if_less(new, old, *least);
}

/// The levels of all weights, block after block.
#[inline(always)]
pub(super) fn levels<L: Levels, const N: usize>(t: &Tile<N>, scale: Lanes, out: &mut [f32]) {
    let inverse = scale.inverse();
    for i in 0..N {
        let level = L::nearest(t.x[i] * inverse);
        for (lane, &level) in level.0.iter().enumerate() {
            out[lane * N + i] = level;
        }
    }
}
