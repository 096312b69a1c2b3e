//! The search for grid points. All points of a grid are tried, for sixteen blocks at once: the costs of the levels are summed for
//! each half of a group once, and a point is then two look-ups, an addition and a comparison. So the nearest point is exact, and
//! the scale can be searched by least squares from several starts, as in `levels`. Scales are odd multiples of a unit.

#![allow(clippy::needless_range_loop, reason = "one index goes through several arrays")]

use std::marker::PhantomData;

use super::half;
use super::lanes::{LANES, Lanes, Tile, apart};
use super::levels::{self, Levels};

/// A code book of points.
pub(super) trait Grid {
    /// Weights of a point: 8 with 3 levels each, or 4 with 8.
    const GROUP: usize;
    /// The levels of a weight.
    const LEVELS: &'static [f32];
    /// For each point the levels of its two halves, as numbers of which the first weight is the lowest digit.
    const HALVES: &'static [[u8; 2]];
    /// The levels of each point.
    const POINTS: &'static [[f32; 8]];
    /// What may be added to all levels of a group, and whether a block's groups add the same.
    const DELTAS: &'static [f32];
    const SHARED: bool;
    /// Where the largest weight is put to begin with, and around: it is often better cut off.
    const ENDS: [f32; 2];
    /// Largest scale in units.
    const TOP: f32;
    /// Units in the format's factor d.
    const UNITS: f32;
}

/// The levels of a grid without the grid, to start from.
struct Free<G>(PhantomData<G>);

impl<G: Grid> Levels for Free<G> {
    const ENDS: [f32; 2] = G::ENDS;
    const TRIES: i32 = 5;
    const STEP: f32 = 0.1 * (G::ENDS[1] - G::ENDS[0]);

    #[inline(always)]
    fn nearest(u: Lanes) -> Lanes {
        u.map(
            #[inline(always)]
            |u| {
                let mut level = G::LEVELS[0];
                for pair in G::LEVELS.windows(2) {
                    level += if u > 0.5 * (pair[0] + pair[1]) { pair[1] - pair[0] } else { 0.0 };
                }
                level
            },
        )
    }
}

/// Sums of costs for the halves of two groups. Reused, as clearing it would cost more than filling it.
struct Sums([[[Lanes; 128]; 2]; 2]);

/// The points of a tile's groups at some scale.
#[derive(Clone, Copy)]
pub(super) struct Points {
    /// The number of each group's point, and what it adds.
    pub index: [Lanes; 8],
    pub delta: [Lanes; 8],
    /// `sum w x l`, `sum w l l`.
    xl: Lanes,
    ll: Lanes,
    /// Weighted error divided by the square of the scale.
    error: Lanes,
}

/// The nearest points to `x * inverse`.
#[inline(always)]
fn nearest<G: Grid, const N: usize>(t: &Tile<N>, inverse: Lanes, sums: &mut Sums) -> Points {
    let zero = [Lanes::ZERO; 8];
    let mut tries =
        [Points { index: zero, delta: zero, xl: zero[0], ll: zero[0], error: zero[0] }; 2];
    let mut costs = [[Lanes::ZERO; 8]; 2];
    for (number, (points, costs)) in tries.iter_mut().zip(&mut costs).enumerate() {
        let Some(&delta) = G::DELTAS.get(number) else { break };
        for k in (0..N / G::GROUP).step_by(2) {
            let found = pair::<G, N>(t, k * G::GROUP, inverse, delta, sums);
            for (i, (cost, index)) in found.into_iter().enumerate() {
                (costs[k + i], points.index[k + i]) = (cost, index);
                points.delta[k + i] = Lanes::splat(delta);
            }
        }
    }
    let [mut points, other] = tries;
    if G::DELTAS.len() > 1 {
        let total = |costs: &[Lanes; 8]| costs.iter().fold(Lanes::ZERO, |sum, &c| sum + c);
        let all = [total(&costs[0]), total(&costs[1])];
        for k in 0..N / G::GROUP {
            let [a, b] = if G::SHARED { all } else { [costs[0][k], costs[1][k]] };
            points.index[k] = other.index[k].if_less(b, a, points.index[k]);
            points.delta[k] = other.delta[k].if_less(b, a, points.delta[k]);
            costs[0][k] = costs[1][k].if_less(b, a, costs[0][k]);
        }
    }
    for k in 0..N / G::GROUP {
        points.error = points.error + costs[0][k];
        let mut rows = [[0.0; 8]; LANES];
        for (row, &index) in rows.iter_mut().zip(&points.index[k].0) {
            *row = G::POINTS[index as usize];
        }
        for e in 0..G::GROUP {
            let mut level = points.delta[k];
            for (level, row) in level.0.iter_mut().zip(&rows) {
                *level += row[e];
            }
            let i = k * G::GROUP + e;
            let wl = t.w[i] * level;
            points.xl = points.xl + wl * t.x[i];
            points.ll = points.ll + wl * level;
            apart();
        }
    }
    points
}

/// Costs and numbers of the best points for two groups of weights, the first of which begins at `at`: two, so that one's
/// comparisons fill the time in which the other's are waited for.
#[inline(always)]
fn pair<G: Grid, const N: usize>(
    t: &Tile<N>,
    at: usize,
    inverse: Lanes,
    delta: f32,
    sums: &mut Sums,
) -> [(Lanes, Lanes); 2] {
    for (k, sums) in sums.0.iter_mut().enumerate() {
        fill::<G, N>(t, at + k * G::GROUP, inverse, delta, sums);
    }
    let [first, second] = &sums.0;
    let none = (Lanes::splat(f32::INFINITY), Lanes::ZERO);
    let (mut best, mut other, mut number) = (none, none, Lanes::ZERO);
    for &[a, b] in G::HALVES {
        // All digits are below 128; the mask spares a check.
        let (a, b) = (usize::from(a & 127), usize::from(b & 127));
        offer(&mut best, first[0][a] + first[1][b], number);
        offer(&mut other, second[0][a] + second[1][b], number);
        number = number + Lanes::splat(1.0);
        apart();
    }
    [best, other]
}

#[inline(always)]
fn offer(best: &mut (Lanes, Lanes), cost: Lanes, number: Lanes) {
    best.1 = number.if_less(cost, best.0, best.1);
    best.0 = cost.min(best.0);
}

/// The sums of costs of a group's halves.
#[inline(always)]
fn fill<G: Grid, const N: usize>(
    t: &Tile<N>,
    at: usize,
    inverse: Lanes,
    delta: f32,
    sums: &mut [[Lanes; 128]; 2],
) {
    let mut costs = [[Lanes::ZERO; 8]; 8];
    for e in 0..G::GROUP {
        let y = t.x[at + e] * inverse - Lanes::splat(delta);
        for (cost, &level) in costs[e].iter_mut().zip(G::LEVELS) {
            let rest = y - Lanes::splat(level);
            *cost = t.w[at + e] * rest * rest;
            apart();
        }
    }
    for (sums, costs) in sums.iter_mut().zip(costs.chunks_exact(G::GROUP / 2)) {
        halves::<G>(costs, sums);
    }
}

/// The sum of costs of every combination of levels in half a group.
#[inline(always)]
fn halves<G: Grid>(costs: &[[Lanes; 8]], sums: &mut [Lanes; 128]) {
    let (mut low, mut high) = ([Lanes::ZERO; 9], [Lanes::ZERO; 9]);
    let width = if let &[a, b] = costs {
        low[..8].copy_from_slice(&a);
        high[..8].copy_from_slice(&b);
        8
    } else if let &[a, b, c, d] = costs {
        for i in 0..9 {
            low[i] = a[i % 3] + b[i / 3];
            high[i] = c[i % 3] + d[i / 3];
            apart();
        }
        9
    } else {
        0
    };
    debug_assert_eq!(width, G::LEVELS.len().pow(costs.len() as u32 / 2));
    for (high, sums) in high.iter().zip(sums.chunks_exact_mut(width.max(1))) {
        for (low, sum) in low.iter().zip(sums) {
            *sum = *low + *high;
            apart();
        }
    }
}

/// A super-block's unit, the odd number of units in each of its blocks' scales, and the points.
pub(super) struct Scales {
    /// The unit times [`Grid::UNITS`], half precision.
    pub d: Lanes,
    /// Odd numbers.
    pub s: Lanes,
    pub points: Points,
}

/// Searches scales and points of super-blocks of `B` blocks.
#[inline(always)]
pub(super) fn scales<G: Grid, const N: usize, const B: usize>(t: &Tile<N>) -> Scales {
    let sums = &mut Sums([[[Lanes::ZERO; 128]; 2]; 2]);
    let (exact, weight) = scale::<G, N>(t, sums);
    let unit = unit::<B, G>(exact, weight);
    let mut best =
        Found { unit, ..Found::at::<G, N>(t, unit, odd::<G>(exact * unit.inverse()), sums) };
    for _ in 0..2 {
        best.step::<G, N>(t, sums);
        best.refit::<G, N, B>(t, sums);
    }
    Scales { d: best.unit * Lanes::splat(G::UNITS), s: best.s, points: best.points }
}

/// The best scale of each block, and how much the error grows with the distance from it.
#[inline(always)]
fn scale<G: Grid, const N: usize>(t: &Tile<N>, sums: &mut Sums) -> (Lanes, Lanes) {
    const AROUND: [f32; 4] = [1.0, 0.9, 1.1, 1.2];
    // Signed weights may give it the sign of the largest.
    let start = levels::scale::<Free<G>, N>(t).map(f32::abs);
    let (mut best, mut saved, mut weight) = (Lanes::ZERO, Lanes::ZERO, Lanes::ZERO);
    for k in 0..AROUND.len() + 1 {
        let from = match AROUND.get(k) {
            Some(&times) => start * Lanes::splat(times),
            None => best,
        };
        let found = nearest::<G, N>(t, from.inverse(), sums);
        let new = found.xl * found.ll.inverse();
        let saves = new * found.xl;
        best = new.if_less(saved, saves, best);
        weight = found.ll.if_less(saved, saves, weight);
        saved = saves.max(saved);
    }
    (best.max(Lanes::ZERO), weight)
}

/// The nearest odd number of units.
#[inline(always)]
fn odd<G: Grid>(u: Lanes) -> Lanes {
    let half = Lanes::splat(0.5);
    let s = (u * half - half).round(0.0, 0.5 * (G::TOP - 1.0));
    s + s + Lanes::splat(1.0)
}

/// Half precision, as the format's factor will have it.
#[inline(always)]
fn rounded<G: Grid, const B: usize>(unit: Lanes) -> Lanes {
    half::<B>(unit * Lanes::splat(G::UNITS)) * Lanes::splat(1.0 / G::UNITS)
}

/// The unit that fits the scales best when each is an odd multiple.
#[inline(always)]
fn unit<const B: usize, G: Grid>(scale: Lanes, weight: Lanes) -> Lanes {
    let start = scale.group_extreme::<B>().inverse();
    let (mut best, mut saved) = (Lanes::ZERO, Lanes::ZERO);
    for k in -12..=4 {
        let s = odd::<G>(scale * start * Lanes::splat(G::TOP + 0.25 * k as f32));
        let ws = weight * s;
        let xs = (ws * scale).group_sum::<B>();
        let d = xs * (ws * s).group_sum::<B>().inverse();
        let saves = d * xs;
        best = d.if_less(saved, saves, best);
        saved = saves.max(saved);
    }
    rounded::<G, B>(best)
}

/// Scales with their points and error.
#[derive(Clone, Copy)]
struct Found {
    unit: Lanes,
    s: Lanes,
    points: Points,
    error: Lanes,
}

impl Found {
    #[inline(always)]
    fn at<G: Grid, const N: usize>(t: &Tile<N>, unit: Lanes, s: Lanes, sums: &mut Sums) -> Found {
        let scale = unit * s;
        let points = nearest::<G, N>(t, scale.inverse(), sums);
        Found { unit, s, points, error: points.error * scale * scale }
    }

    /// Takes the other's lanes where `a < b`.
    #[inline(always)]
    fn take(&mut self, other: &Found, a: Lanes, b: Lanes) {
        macro_rules! pick {
            ($new:expr, $old:expr) => {
                $new.if_less(a, b, $old)
            };
        }
        self.unit = pick!(other.unit, self.unit);
        self.s = pick!(other.s, self.s);
        self.error = pick!(other.error, self.error);
        let (new, old) = (&other.points, &mut self.points);
        old.xl = pick!(new.xl, old.xl);
        old.ll = pick!(new.ll, old.ll);
        old.error = pick!(new.error, old.error);
        for k in 0..8 {
            old.index[k] = pick!(new.index[k], old.index[k]);
            old.delta[k] = pick!(new.delta[k], old.delta[k]);
        }
    }

    /// Moves each scale to a neighbour where that lowers the block's error.
    #[inline(always)]
    fn step<G: Grid, const N: usize>(&mut self, t: &Tile<N>, sums: &mut Sums) {
        let from = self.s;
        for by in [-2.0, 2.0] {
            let new = Found::at::<G, N>(t, self.unit, odd::<G>(from + Lanes::splat(by)), sums);
            self.take(&new, new.error, self.error);
        }
    }

    /// Fits the unit to the points of all blocks; taken where the super-block's error gets lower.
    #[inline(always)]
    fn refit<G: Grid, const N: usize, const B: usize>(&mut self, t: &Tile<N>, sums: &mut Sums) {
        let xl = (self.s * self.points.xl).group_sum::<B>();
        let ll = (self.s * self.s * self.points.ll).group_sum::<B>();
        let unit = rounded::<G, B>((xl * ll.inverse()).max(Lanes::ZERO));
        let new = Found::at::<G, N>(t, unit, self.s, sums);
        let errors = [new.error, self.error].map(|e| e.group_sum::<B>());
        self.take(&new, errors[0], errors[1]);
    }
}

/// Levels of the two halves of each point, from a grid of one byte a weight.
pub(super) const fn halves_of<const P: usize>(
    points: &[u64; P],
    group: usize,
    levels: &[u8],
) -> [[u8; 2]; P] {
    let mut out = [[0; 2]; P];
    let mut i = 0;
    while i < P {
        let mut e = group;
        while e > 0 {
            e -= 1;
            let byte = (points[i] >> (8 * e)) as u8;
            let mut digit = 0;
            while levels[digit] != byte {
                digit += 1;
            }
            let half = 2 * e / group;
            out[i][half] = out[i][half] * levels.len() as u8 + digit as u8;
        }
        i += 1;
    }
    out
}

/// Levels of each point, from the same.
pub(super) const fn points_of<const P: usize>(points: &[u64; P], signed: bool) -> [[f32; 8]; P] {
    let mut out = [[0.0; 8]; P];
    let mut i = 0;
    while i < 8 * P {
        let byte = (points[i / 8] >> (8 * (i % 8))) as u8;
        out[i / 8][i % 8] = if signed { byte as i8 as f32 } else { byte as f32 };
        i += 1;
    }
    out
}

/// The number of a lane's point.
#[inline(always)]
pub(super) fn index(points: &Points, k: usize, lane: usize) -> u16 {
    points.index[k].0[lane] as u16
}

const _: () = assert!(LANES == 16);
