//! e^x for x <= 0, as the compiler can turn into vector instructions: a softmax over 150,000 logits is mostly this
//! function. Ours also so that draws do not depend on the version of the system's mathematics library.

/// Below this the result would not be a normal number; it is zero.
const LOWEST: f32 = -87.3;

/// e^x for `x` from minus infinity to 0, within 2 units in the last place. Range reduction by powers of two, then the
/// polynomial of Cephes' `expf`.
#[inline]
pub(super) fn exp(x: f32) -> f32 {
    // Adding this rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let t = x.max(LOWEST);
    let shifted = t * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = t - n * LN2_HIGH - n * LN2_LOW;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    let y = (p * r * r + r + 1.0) * f32::from_bits(power);
    if x < LOWEST { 0.0 } else { y }
}

/// Sum of `exp((x - peak) * scale)`, where `peak` is the largest x.
pub(super) fn sum_exp(logits: &[f32], peak: f32, scale: f32) -> f64 {
    const LANES: usize = 16;
    let mut sums = [0.0f64; LANES];
    let mut chunks = logits.chunks_exact(LANES);
    for chunk in &mut chunks {
        let values: [f32; LANES] = std::array::from_fn(|i| exp((chunk[i] - peak) * scale));
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from(value));
    }
    let rest = chunks.remainder().iter().map(|&x| f64::from(exp((x - peak) * scale)));
    sums.iter().sum::<f64>() + rest.sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_library() {
        for i in 0..=1_000_000 {
            let x = i as f32 * -8.73e-5;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2.4e-7, "exp({x}): relative error {error}");
        }
        assert_eq!(
            [exp(0.0), exp(-88.0), exp(-1e30), exp(f32::NEG_INFINITY)],
            [1.0, 0.0, 0.0, 0.0]
        );
    }

    #[test]
    fn sums_count_every_term() {
        for n in [1, 15, 16, 17, 100] {
            assert_eq!(sum_exp(&vec![3.0; n], 3.0, 0.7), n as f64);
        }
        assert!((sum_exp(&[0.0, -2.0], 0.0, 0.5) - 1.0 - (-1.0f64).exp()).abs() < 1e-7);
    }
}
