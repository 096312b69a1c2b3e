//! Measures of difference between a device and the oracle. No tolerances: each test states its own.

/// Largest absolute difference, in units of the root mean square of `expected`. Infinite when a value is not a
/// number or the lengths differ.
pub fn max_error(found: &[f32], expected: &[f32]) -> f64 {
    let squares: f64 = expected.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    let rms = (squares / expected.len().max(1) as f64).sqrt().max(f64::MIN_POSITIVE);
    let differences =
        found.iter().zip(expected).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs());
    let finite = found.len() == expected.len() && found.iter().all(|x| x.is_finite());
    match finite {
        true => differences.fold(0.0, f64::max) / rms,
        false => f64::INFINITY,
    }
}

/// Kullback-Leibler divergence, in nats, of the distribution of the logits `found` from that of `expected`.
pub fn kl_divergence(expected: &[f32], found: &[f32]) -> f64 {
    assert_eq!(expected.len(), found.len());
    let (p, q) = (log_softmax(expected), log_softmax(found));
    p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().map(|&x| f64::from(x)).fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - max).exp()).sum();
    logits.iter().map(|&x| f64::from(x) - max - sum.ln()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_relative_to_the_scale() {
        assert_eq!(max_error(&[2.0, 2.5], &[2.0, 2.0]), 0.25);
        assert_eq!(max_error(&[f32::NAN], &[1.0]), f64::INFINITY);
        assert_eq!(max_error(&[1.0], &[1.0, 2.0]), f64::INFINITY);
    }

    #[test]
    fn kl_of_two_coins() {
        let (p, q) = ([0.5f32.ln(), 0.5f32.ln()], [0.25f32.ln(), 0.75f32.ln()]);
        let exact = 0.5 * 2f64.ln() + 0.5 * (2.0 / 3.0f64).ln();
        assert!((kl_divergence(&p, &q) - exact).abs() < 1e-6);
        assert_eq!(kl_divergence(&p, &p), 0.0);
    }
}
