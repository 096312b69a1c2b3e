//! Blocks of the form `w = scale * code - min`, with codes from 0 to a top. Scale and minimum are searched together by
//! alternating least squares from several starts, for all lanes at once; in a super-block the quantized scales and minima
//! are then moved by one step where that lowers the error as it will be decoded, and both factors are fitted again.

use super::half;
use super::lanes::{Lanes, Tile, apart};

/// Starts: the lower end is moved inwards by some part of a step between two codes, and the rest divided into more or
/// fewer steps than there are.
const CUTS: [f32; 3] = [0.0, 0.3, 0.6];
const STARTS: i32 = 8;
const STEP: f32 = 0.12;
/// A determinant below this part of its first product is none.
const FLAT: f32 = 2e-6;

/// Scale and minimum of each block.
#[derive(Clone, Copy)]
pub(super) struct Fit {
    pub scale: Lanes,
    pub min: Lanes,
}

/// A block's sums with some codes.
struct Sums {
    l: Lanes,
    ll: Lanes,
    xl: Lanes,
}

#[inline(always)]
fn sums<const N: usize>(t: &Tile<N>, inverse: Lanes, min: Lanes, top: f32) -> Sums {
    let mut s = Sums { l: Lanes::ZERO, ll: Lanes::ZERO, xl: Lanes::ZERO };
    for i in 0..N {
        let code = ((t.x[i] + min) * inverse).round(0.0, top);
        let wl = t.w[i] * code;
        s = Sums { l: s.l + wl, ll: s.ll + wl * code, xl: s.xl + wl * t.x[i] };
        apart();
    }
    s
}

/// The best fit so far and its error; what of the block every try needs.
struct Search<'a, const N: usize> {
    tile: &'a Tile<N>,
    /// Sums of importance, x and x squared.
    moments: [Lanes; 3],
    top: f32,
    best: Fit,
    least: Lanes,
}

impl<const N: usize> Search<'_, N> {
    /// Takes the least-squares fit of the codes that a scale and a minimum give, where its error is lower.
    #[inline(always)]
    fn offer<const FREE: bool>(&mut self, inverse: Lanes, min: Lanes) {
        let [w, x, xx] = self.moments;
        let s = sums(self.tile, inverse, min, self.top);
        let (product, square) = (w * s.ll, s.l * s.l);
        let det = product - square;
        let over = det.inverse();
        let mut scale = (w * s.xl - x * s.l) * over;
        let mut offset = (s.ll * x - s.l * s.xl) * over;
        if !FREE {
            let through = s.xl * s.ll.inverse();
            scale = through.if_less(Lanes::ZERO, offset, scale);
            offset = offset.min(Lanes::ZERO);
        }
        let error = xx - scale * s.xl - offset * x;
        // With one code for all there is nothing to fit, and the determinant is rounding.
        let none = Lanes::splat(f32::INFINITY);
        let error = error.if_less(product * Lanes::splat(FLAT), det, none);
        self.best.scale = scale.if_less(error, self.least, self.best.scale);
        self.best.min = (-offset).if_less(error, self.least, self.best.min);
        self.least = error.min(self.least);
    }
}

/// The best fit found for each block. Minima are positive (weights may lie below zero only) unless `FREE`.
#[inline(always)]
pub(super) fn fit<const N: usize, const FREE: bool>(t: &Tile<N>, top: f32) -> Fit {
    let moments = t.moments();
    let (mut low, mut high) = (t.x[0], t.x[0]);
    for x in t.x {
        (low, high) = (low.min(x), high.max(x));
        apart();
    }
    if !FREE {
        low = low.min(Lanes::ZERO);
    }
    let [w, x, xx] = moments;
    // To begin with, all weights are the lowest.
    let least = xx - low * (x + x - low * w);
    let best = Fit { scale: Lanes::ZERO, min: -low };
    let mut search = Search { tile: t, moments, top, best, least };
    let step = (high - low) * Lanes::splat(1.0 / top);
    for cut in CUTS {
        let near = low + step * Lanes::splat(cut);
        let range = (high - near).inverse();
        for k in -STARTS..=STARTS {
            search.offer::<FREE>(range * Lanes::splat(top + STEP * k as f32), -near);
        }
    }
    for _ in 0..3 {
        let Fit { scale, min } = search.best;
        search.offer::<FREE>(scale.inverse(), min);
    }
    search.best
}

/// Weighted error of each block.
#[inline(always)]
fn error<const N: usize>(t: &Tile<N>, fit: Fit, top: f32) -> Lanes {
    let inverse = fit.scale.inverse();
    let mut sum = Lanes::ZERO;
    for i in 0..N {
        let x = t.x[i] + fit.min;
        let rest = x - fit.scale * (x * inverse).round(0.0, top);
        sum = sum + t.w[i] * rest * rest;
        apart();
    }
    sum
}

/// A super-block's factors, and the whole numbers that each of its blocks multiplies them with.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    pub d: Lanes,
    pub s: Lanes,
    pub dmin: Lanes,
    pub m: Lanes,
}

impl Scales {
    pub fn fit(&self) -> Fit {
        Fit { scale: self.d * self.s, min: self.dmin * self.m }
    }
}

/// Quantizes scales and minima of super-blocks of `B` blocks to whole numbers from 0 to `most`.
#[inline(always)]
pub(super) fn scales<const N: usize, const B: usize>(t: &Tile<N>, top: f32, most: f32) -> Scales {
    let exact = fit::<N, false>(t, top);
    // How much the error grows with the distance from the best scale and minimum.
    let weight = sums(t, exact.scale.inverse(), exact.min, top).ll;
    let d = factor::<B>(exact.scale, weight, most);
    let dmin = factor::<B>(exact.min, t.moments()[0], most);
    let s = (exact.scale * d.inverse()).round(0.0, most);
    let m = (exact.min * dmin.inverse()).round(0.0, most);
    let mut best = Scales { d, s, dmin, m };
    let mut least = error(t, best.fit(), top);
    for _ in 0..2 {
        step(t, &mut best, &mut least, top, most);
        refit::<N, B>(t, &mut best, &mut least, top);
    }
    step(t, &mut best, &mut least, top, most);
    best
}

/// The factor that fits positive numbers best when each is rounded.
#[inline(always)]
fn factor<const B: usize>(exact: Lanes, weight: Lanes, most: f32) -> Lanes {
    let start = exact.group_extreme::<B>().inverse();
    let (mut best, mut saved) = (Lanes::ZERO, Lanes::ZERO);
    for k in -9..=4 {
        let inverse = start * Lanes::splat(most + 0.1 * k as f32);
        let s = (exact * inverse).round(0.0, most);
        let ws = weight * s;
        let xs = (ws * exact).group_sum::<B>();
        let d = xs * (ws * s).group_sum::<B>().inverse();
        let saves = d * xs;
        best = d.if_less(saved, saves, best);
        saved = saves.max(saved);
    }
    half::<B>(best)
}

/// Moves scale and minimum of each block to a neighbour where that lowers its error.
#[inline(always)]
fn step<const N: usize>(t: &Tile<N>, best: &mut Scales, least: &mut Lanes, top: f32, most: f32) {
    const AROUND: [(f32, f32); 8] = [
        (-1.0, -1.0),
        (-1.0, 0.0),
        (-1.0, 1.0),
        (0.0, -1.0),
        (0.0, 1.0),
        (1.0, -1.0),
        (1.0, 0.0),
        (1.0, 1.0),
    ];
    let from = *best;
    for (ds, dm) in AROUND {
        let s = (from.s + Lanes::splat(ds)).round(0.0, most);
        let m = (from.m + Lanes::splat(dm)).round(0.0, most);
        let new = error(t, Scales { s, m, ..from }.fit(), top);
        best.s = s.if_less(new, *least, best.s);
        best.m = m.if_less(new, *least, best.m);
        *least = new.min(*least);
    }
}

/// Fits both factors to the codes of all blocks; taken where the super-block's error gets lower.
#[inline(always)]
fn refit<const N: usize, const B: usize>(
    t: &Tile<N>,
    best: &mut Scales,
    least: &mut Lanes,
    top: f32,
) {
    let Fit { scale, min } = best.fit();
    let sums = sums(t, scale.inverse(), min, top);
    let [w, x, _] = t.moments();
    // x = d (s l) - dmin m, over all weights of the super-block.
    let (s, m) = (best.s, best.m);
    let a = (s * s * sums.ll).group_sum::<B>();
    let b = (s * m * sums.l).group_sum::<B>();
    let c = (m * m * w).group_sum::<B>();
    let p = (s * sums.xl).group_sum::<B>();
    let q = (m * x).group_sum::<B>();
    let det = a * c - b * b;
    let over = det.inverse();
    let d = half::<B>(((c * p - b * q) * over).if_less(
        a * c * Lanes::splat(FLAT),
        det,
        p * a.inverse(),
    ));
    let dmin =
        half::<B>(((b * p - a * q) * over).if_less(a * c * Lanes::splat(FLAT), det, Lanes::ZERO));
    let (d, dmin) = (d.max(Lanes::ZERO), dmin.max(Lanes::ZERO));
    let errors = error(t, Scales { d, dmin, s, m }.fit(), top);
    let (new, old) = (errors.group_sum::<B>(), least.group_sum::<B>());
    best.d = d.if_less(new, old, best.d);
    best.dmin = dmin.if_less(new, old, best.dmin);
    *least = errors.if_less(new, old, *least);
}

/// The codes of all weights, block after block.
#[inline(always)]
pub(super) fn codes<const N: usize>(t: &Tile<N>, fit: Fit, top: f32, out: &mut [u8]) {
    let inverse = fit.scale.inverse();
    for i in 0..N {
        let codes = ((t.x[i] + fit.min) * inverse).round(0.0, top);
        for (lane, &code) in codes.0.iter().enumerate() {
            out[lane * N + i] = code as u8;
        }
    }
}
