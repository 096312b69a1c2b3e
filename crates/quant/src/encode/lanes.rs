//! Sixteen blocks side by side: lane j of every value belongs to block j, so a search needs no sum across a vector and
//! its result depends neither on the instruction set nor on the neighbours. Plain arrays that the compiler turns into
//! vectors. A group is the lanes of one super-block.

use std::ops::{Add, Div, Mul, Neg, Sub};
use std::sync::atomic::{Ordering, compiler_fence};

/// Blocks worked on at once.
pub(super) const LANES: usize = 16;

/// One number of each block.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(align(64))]
pub(super) struct Lanes(pub [f32; LANES]);

/// Ends the body of a loop over values of this kind: keeps the compiler from making vectors across iterations, with
/// gathers, where the lanes are the vector already. No instruction comes of it.
#[inline(always)]
pub(super) fn apart() {
    compiler_fence(Ordering::SeqCst);
}

#[inline(always)]
fn zip(mut a: Lanes, b: Lanes, f: impl Fn(f32, f32) -> f32) -> Lanes {
    for i in 0..LANES {
        a.0[i] = f(a.0[i], b.0[i]);
    }
    a
}

macro_rules! operators {
    ($($trait:ident $name:ident $op:tt),*) => {$(
        impl $trait for Lanes {
            type Output = Lanes;
            #[inline(always)]
            fn $name(self, other: Lanes) -> Lanes {
                zip(self, other, #[inline(always)] |a, b| a $op b)
            }
        }
    )*};
}

operators!(Add add +, Sub sub -, Mul mul *, Div div /);

impl Neg for Lanes {
    type Output = Lanes;
    #[inline(always)]
    fn neg(self) -> Lanes {
        Lanes::splat(0.0) - self
    }
}

impl Lanes {
    pub const ZERO: Lanes = Lanes([0.0; LANES]);

    #[inline(always)]
    pub fn splat(x: f32) -> Lanes {
        Lanes([x; LANES])
    }

    #[inline(always)]
    pub fn map(mut self, f: impl Fn(f32) -> f32) -> Lanes {
        for x in &mut self.0 {
            *x = f(*x);
        }
        self
    }

    #[inline(always)]
    pub fn min(self, other: Lanes) -> Lanes {
        zip(
            self,
            other,
            #[inline(always)]
            |a, b| if a < b { a } else { b },
        )
    }

    #[inline(always)]
    pub fn max(self, other: Lanes) -> Lanes {
        zip(
            self,
            other,
            #[inline(always)]
            |a, b| if a > b { a } else { b },
        )
    }

    /// The nearest whole number from `low` to `high`, both small.
    #[inline(always)]
    pub fn round(self, low: f32, high: f32) -> Lanes {
        // Adding 1.5 * 2^23 leaves no bit for a fraction; ties go to even numbers.
        const WHOLE: f32 = 12_582_912.0;
        self.map(
            #[inline(always)]
            |x| {
                let x = if x > low { x } else { low };
                let x = if x < high { x } else { high };
                (x + WHOLE) - WHOLE
            },
        )
    }

    /// `1 / self`, 0 where that is not finite.
    #[inline(always)]
    pub fn inverse(self) -> Lanes {
        self.map(
            #[inline(always)]
            |x| if x.abs() > 1e-30 { 1.0 / x } else { 0.0 },
        )
    }

    /// Where `a < b` these lanes, elsewhere `other`.
    #[inline(always)]
    pub fn if_less(mut self, a: Lanes, b: Lanes, other: Lanes) -> Lanes {
        for i in 0..LANES {
            self.0[i] = if a.0[i] < b.0[i] { self.0[i] } else { other.0[i] };
        }
        self
    }

    /// The sum of each group of `B` lanes, in all of its lanes.
    #[inline(always)]
    pub fn group_sum<const B: usize>(self) -> Lanes {
        self.group::<B>(
            #[inline(always)]
            |a, b| a + b,
        )
    }

    /// Of each group the lane of largest magnitude, with its sign.
    #[inline(always)]
    pub fn group_extreme<const B: usize>(self) -> Lanes {
        self.group::<B>(
            #[inline(always)]
            |a, b| {
                let (x, y) = (a.abs(), b.abs());
                // Equal magnitudes: the positive one, from either side.
                if x > y || (x == y && a > b) { a } else { b }
            },
        )
    }

    #[inline(always)]
    fn group<const B: usize>(mut self, f: impl Fn(f32, f32) -> f32) -> Lanes {
        let mut step = 1;
        while step < B {
            let mut other = self;
            for i in 0..LANES {
                other.0[i] = self.0[i ^ step];
            }
            self = zip(self, other, &f);
            step *= 2;
        }
        self
    }
}

/// Weights and their importance, transposed: `x[i]` has weight i of each block.
pub(super) struct Tile<const N: usize> {
    pub x: [Lanes; N],
    pub w: [Lanes; N],
}

impl<const N: usize> Tile<N> {
    /// Up to sixteen blocks; those missing at the end weigh nothing.
    #[inline(always)]
    pub fn load(x: &[f32], w: &[f32]) -> Self {
        let mut tile = Tile { x: [Lanes::ZERO; N], w: [Lanes::ZERO; N] };
        let blocks = x.as_chunks::<N>().0.iter().zip(w.as_chunks::<N>().0);
        for (lane, (x, w)) in blocks.take(LANES).enumerate() {
            for i in 0..N {
                tile.x[i].0[lane] = x[i];
                tile.w[i].0[lane] = w[i];
            }
        }
        tile
    }

    /// Sums over a block: of the weights' importance, of x and of x squared, both weighed.
    #[inline(always)]
    pub fn moments(&self) -> [Lanes; 3] {
        let mut sums = [Lanes::ZERO; 3];
        for i in 0..N {
            let wx = self.w[i] * self.x[i];
            sums = [sums[0] + self.w[i], sums[1] + wx, sums[2] + wx * self.x[i]];
            apart();
        }
        sums
    }

    /// Of each block the weight of largest magnitude.
    #[inline(always)]
    pub fn extreme(&self) -> Lanes {
        let mut best = Lanes::ZERO;
        for x in self.x {
            let (new, old) = (x.map(f32::abs), best.map(f32::abs));
            best = x.if_less(old, new, best);
            apart();
        }
        best
    }
}
