//! What an encoder makes small: the sum of `w * error^2` over a row, with `w = importance * sqrt(factor * mean square + x^2)`
//! as in llama.cpp. The mean square is that of a span of weights around x, so large weights count for more than their
//! importance alone. Importance is scaled to a mean of one and kept above zero, as only its shape matters.

use super::lanes::LANES;

/// How large weights count.
#[derive(Clone, Copy)]
pub(super) enum Size {
    /// Not at all.
    Ignored,
    /// By their span's mean square, times this factor. A span of 0 is the whole row.
    Span { weights: usize, factor: f32 },
}

/// Least importance, as a part of the mean.
const LEAST: f32 = 1e-4;
/// Weights below this decode to zero whatever the format.
const TINY: f32 = 1e-12;

/// A row without what is too small to count, and the weight of each error.
pub(super) struct Row {
    pub x: Vec<f32>,
    pub w: Vec<f32>,
}

impl Row {
    pub fn new(weights: &[f32], importance: Option<&[f32]>, size: Size) -> Row {
        let x = weights.iter().map(|&x| if x.abs() < TINY { 0.0 } else { x }).collect::<Vec<_>>();
        let mut w = match importance {
            Some(importance) => relative(importance),
            None => vec![1.0; x.len()],
        };
        if let Size::Span { weights, factor } = size {
            let span = if weights == 0 { x.len().max(1) } else { weights };
            for (x, w) in x.chunks(span).zip(w.chunks_mut(span)) {
                let base = factor * mean_square(x);
                for (w, x) in w.iter_mut().zip(x) {
                    *w *= (base + x * x).sqrt();
                }
            }
        }
        Row { x, w }
    }

    /// The row with all weights that many times as large, as a target: the search and the errors' weights are the same at
    /// any size, so the format's factor gets just as much larger.
    pub fn times(mut self, factor: f32) -> Row {
        self.x.iter_mut().for_each(|x| *x *= factor);
        self
    }
}

/// Importance with a mean of one.
fn relative(importance: &[f32]) -> Vec<f32> {
    let sum: f64 = importance.iter().map(|&x| f64::from(x)).sum();
    let over = importance.len() as f64 / sum;
    if !over.is_finite() {
        return vec![1.0; importance.len()];
    }
    importance.iter().map(|&x| LEAST + (f64::from(x) * over) as f32).collect()
}

/// Summed lane by lane, so that every instruction set gets the same.
#[inline(always)]
fn mean_square(x: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    for x in x.chunks(LANES) {
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum += x * x;
        }
    }
    sums.iter().sum::<f32>() / x.len() as f32
}
