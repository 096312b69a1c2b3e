//! The fitting procedure: least squares in logarithms, by Gauss and Newton, with Student's weights so that wrong rows pull little, held to what
//! was assumed by its spread. No device counts for more than fifteen different rows, and rows that repeat each other count as one.

use std::collections::BTreeMap;

use hob_plan::speed::calibration::{self, Constants, Prior};

use crate::rows::{PROMPT, Row};

/// Deviation of the logarithm of a speed that measures repeat, beyond which a row pulls less and less.
const NOISE: f64 = 0.1;
/// Different rows that one device counts for.
const ROWS_OF_A_DEVICE: f64 = 15.0;

/// Which speed is fitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Speed {
    Decode,
    Prefill,
}

impl Speed {
    pub fn measured(self, row: &Row) -> Option<f64> {
        match self {
            Speed::Decode => Some(row.decode),
            Speed::Prefill => row.prefill,
        }
    }

    /// Speed and unscaled deviation.
    pub fn predicted(self, row: &Row, constants: &Constants) -> (f64, f64) {
        match self {
            Speed::Decode => calibration::decode(&row.segments, constants),
            Speed::Prefill => {
                // Attention of the prompt's last token, where the row's depth is that of decoding.
                let mut segments = row.segments.clone();
                for segment in &mut segments {
                    segment.work.attention *= PROMPT as f64 / row.depth as f64;
                }
                calibration::prefill(&segments, PROMPT, constants)
            }
        }
    }

    fn priors(self) -> &'static [Prior] {
        match self {
            Speed::Decode => calibration::decode_priors(),
            Speed::Prefill => calibration::prefill_priors(),
        }
    }

    fn values(self, constants: &mut Constants) -> &mut [f64] {
        match self {
            Speed::Decode => &mut constants.decode,
            Speed::Prefill => &mut constants.prefill,
        }
    }

    /// Logarithm of measured over predicted.
    pub fn residual(self, row: &Row, constants: &Constants) -> f64 {
        let measured = self.measured(row).unwrap();
        (measured / self.predicted(row, constants).0).ln()
    }
}

/// How much each row counts.
pub fn weights(rows: &[&Row]) -> Vec<f64> {
    let key = |row: &Row| (row.device.clone(), row.model.clone(), row.recipe.clone(), row.depth);
    let mut repeats = BTreeMap::new();
    for row in rows {
        *repeats.entry(key(row)).or_insert(0.0) += 1.0;
    }
    let mut different = BTreeMap::new();
    for (device, ..) in repeats.keys() {
        *different.entry(device.clone()).or_insert(0.0) += 1.0;
    }
    let weight =
        |row: &&Row| (ROWS_OF_A_DEVICE / different[&row.device]).min(1.0) / repeats[&key(row)];
    rows.iter().map(weight).collect()
}

/// The constants of `speed` that explain `rows`, beginning with those of `start`.
pub fn fit(speed: Speed, rows: &[&Row], start: &Constants, rounds: usize) -> Constants {
    let priors = speed.priors();
    let weights = weights(rows);
    let mut constants = start.clone();
    for _ in 0..rounds {
        let step = step(speed, rows, &weights, &constants, priors);
        let values = speed.values(&mut constants);
        values.iter_mut().zip(&step).for_each(|(value, step)| *value *= step.exp());
        if step.iter().all(|step| step.abs() < 1e-4) {
            break;
        }
    }
    constants
}

fn step(
    speed: Speed,
    rows: &[&Row],
    weights: &[f64],
    constants: &Constants,
    priors: &[Prior],
) -> Vec<f64> {
    const NUDGE: f64 = 1e-4;
    let n = priors.len();
    let residuals: Vec<f64> = rows.iter().map(|row| speed.residual(row, constants)).collect();
    let slopes: Vec<Vec<f64>> = (0..n)
        .map(|j| {
            let mut nudged = constants.clone();
            speed.values(&mut nudged)[j] *= NUDGE.exp();
            let slope = |(row, r): (&&Row, &f64)| (r - speed.residual(row, &nudged)) / NUDGE;
            rows.iter().zip(&residuals).map(slope).collect()
        })
        .collect();
    let pull: Vec<f64> = residuals
        .iter()
        .zip(weights)
        .map(|(r, w)| w / (1.0 + (r / (2.0 * NOISE)).powi(2)) / (NOISE * NOISE))
        .collect();
    let mut matrix = vec![vec![0.0; n]; n];
    let mut right = vec![0.0; n];
    let mut current = constants.clone();
    for i in 0..n {
        for j in 0..n {
            let products = slopes[i].iter().zip(&slopes[j]).zip(&pull);
            matrix[i][j] = products.map(|((a, b), p)| a * b * p).sum();
        }
        let held = 1.0 / priors[i].spread.powi(2);
        let away = (speed.values(&mut current)[i] / priors[i].value).ln();
        matrix[i][i] += held;
        let products = slopes[i].iter().zip(&residuals).zip(&pull);
        right[i] = products.map(|((a, r), p)| a * r * p).sum::<f64>() - held * away;
    }
    solve(matrix, right).into_iter().map(|step| step.clamp(-0.5, 0.5)).collect()
}

/// Gauss's elimination of a symmetric, positive matrix.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let n = right.len();
    for i in 0..n {
        for k in i + 1..n {
            let factor = matrix[k][i] / matrix[i][i];
            for j in i..n {
                matrix[k][j] -= factor * matrix[i][j];
            }
            right[k] -= factor * right[i];
        }
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|j| matrix[i][j] * right[j]).sum();
        right[i] = (right[i] - known) / matrix[i][i];
    }
    right
}

/// By what deviations are to be multiplied so that four of five residuals are inside.
pub fn scale(residuals: &[(f64, f64)], weights: &[f64]) -> f64 {
    let ratio = |((residual, deviation), weight): (&(f64, f64), &f64)| {
        (residual.abs() / deviation, *weight)
    };
    let mut ratios: Vec<(f64, f64)> = residuals.iter().zip(weights).map(ratio).collect();
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut left = 0.8 * weights.iter().sum::<f64>();
    for (ratio, weight) in &ratios {
        left -= weight;
        if left <= 0.0 {
            return *ratio;
        }
    }
    1.0
}
