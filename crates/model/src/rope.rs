//! Rotary position encoding as a table of frequencies: every scaling kind ends as one inverse frequency per pair
//! and one factor on cos and sin, so backends know no kinds. LongRoPE's two tables of divisors are chosen by the longest
//! sequence that the backend is built for, as in llama.cpp: positions that are cached keep their meaning.

use crate::WeightId;

/// Which elements of a head form a rotated pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// `(2i, 2i+1)`: llama files, whose q and k rows are permuted for it.
    Adjacent,
    /// `(i, i + dims/2)`: GPT-NeoX order, everyone else.
    Halves,
}

/// How trained positions are stretched to longer contexts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// As trained.
    None,
    /// Positions divided by the factor (arXiv 2306.15595).
    Linear(f32),
    /// YaRN (arXiv 2309.00071): high frequencies kept, low ones interpolated, scores sharpened.
    Yarn {
        /// Context extension factor.
        factor: f32,
        /// Context before the extension.
        original: u32,
        /// Rotations above which a pair is kept.
        beta_fast: f32,
        /// Rotations below which a pair is interpolated.
        beta_slow: f32,
        /// Factor on the attention magnitude, beside the YaRN rule.
        attn_factor: f32,
        /// Whether the bounds of the interpolated region are whole pairs; gpt-oss was trained without that.
        truncate: bool,
    },
    /// LongRoPE (arXiv 2402.13753): tables of divisors are tensors; here is the factor on the attention magnitude.
    Long(f32),
}

/// Tensors of divisors, `[dims / 2]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factors {
    /// None.
    One,
    /// `rope_freqs.weight`: Llama 3's frequency factors.
    Always(WeightId),
    /// LongRoPE: `short` for contexts up to `original`, else `long`.
    ByContext {
        /// `rope_factors_short.weight`.
        short: WeightId,
        /// `rope_factors_long.weight`.
        long: WeightId,
        /// Context before extension.
        original: u32,
    },
}

impl Factors {
    /// The table for sequences of at most `context` tokens.
    pub fn choose(&self, context: usize) -> Option<WeightId> {
        match *self {
            Factors::One => None,
            Factors::Always(id) => Some(id),
            Factors::ByContext { short, long, original } => {
                Some(if context > original as usize { long } else { short })
            }
        }
    }
}

/// One position encoding. The angle of pair i at position p is `p * inv_freq[i] / factors[i]`.
#[derive(Clone, Debug)]
pub struct Rope {
    /// Pairing.
    pub pairs: RopePairs,
    /// Rotated elements at the start of each head; the rest passes.
    pub dims: u32,
    /// Radians per position, `dims / 2` of them.
    pub inv_freq: Vec<f64>,
    /// Factor on cos and sin.
    pub magnitude: f32,
    /// Divisors.
    pub factors: Factors,
}

impl Rope {
    /// Builds the table for `dims` rotated elements and base frequency `base`.
    pub fn new(pairs: RopePairs, dims: u32, base: f64, scaling: RopeScaling) -> Self {
        let plain = (0..dims / 2).map(|i| base.powf(-2.0 * f64::from(i) / f64::from(dims)));
        let (inv_freq, magnitude) = match scaling {
            RopeScaling::None => (plain.collect(), 1.0),
            RopeScaling::Long(magnitude) => (plain.collect(), magnitude),
            RopeScaling::Linear(factor) => (plain.map(|f| f / f64::from(factor)).collect(), 1.0),
            RopeScaling::Yarn { factor, original, beta_fast, beta_slow, attn_factor, truncate } => {
                let [mut low, mut high] =
                    [beta_fast, beta_slow].map(|beta| correction(dims, base, original, beta));
                if truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                let (low, high) = (low.max(0.0), high.min(f64::from(dims) - 1.0));
                let mixed = plain.enumerate().map(|(i, f)| {
                    let kept = 1.0 - ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
                    f * kept + f / f64::from(factor) * (1.0 - kept)
                });
                (mixed.collect(), attn_factor * (1.0 + 0.1 * factor.max(1.0).ln()))
            }
        };
        Rope { pairs, dims, inv_freq, magnitude, factors: Factors::One }
    }

    /// Writes cos and sin of `position` for every pair, given the divisors (empty: none).
    pub fn angles(&self, position: u32, factors: &[f32], cos: &mut [f32], sin: &mut [f32]) {
        for (i, inv_freq) in self.inv_freq.iter().enumerate() {
            let divisor = factors.get(i).map_or(1.0, |&f| f64::from(f));
            let (s, c) = (f64::from(position) * inv_freq / divisor).sin_cos();
            cos[i] = c as f32 * self.magnitude;
            sin[i] = s as f32 * self.magnitude;
        }
    }
}

/// Pair index whose wavelength makes `rotations` turns within the original context (YaRN, eq. 18 region bounds).
fn correction(dims: u32, base: f64, original: u32, rotations: f32) -> f64 {
    let turns = f64::from(original) / (f64::from(rotations) * std::f64::consts::TAU);
    f64::from(dims) * turns.ln() / (2.0 * base.ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_scaling_divides_positions() {
        let plain = Rope::new(RopePairs::Halves, 64, 1e4, RopeScaling::None);
        let half = Rope::new(RopePairs::Halves, 64, 1e4, RopeScaling::Linear(2.0));
        let (mut c, mut s, mut c2, mut s2) = ([0.0; 32], [0.0; 32], [0.0; 32], [0.0; 32]);
        plain.angles(7, &[], &mut c, &mut s);
        half.angles(14, &[], &mut c2, &mut s2);
        assert_eq!((c, s), (c2, s2));
    }

    /// Reference values by the transformers package, `_compute_yarn_parameters` for
    /// dim 128, theta 1e6, factor 4, original 32768 (Qwen2.5/Qwen3's published YaRN setting).
    #[test]
    fn yarn_keeps_high_and_divides_low_frequencies() {
        let yarn = RopeScaling::Yarn {
            factor: 4.0,
            original: 32768,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attn_factor: 1.0,
            truncate: true,
        };
        let rope = Rope::new(RopePairs::Halves, 128, 1e6, yarn);
        let plain = Rope::new(RopePairs::Halves, 128, 1e6, RopeScaling::None);
        assert_eq!(rope.inv_freq[0], plain.inv_freq[0]);
        assert_eq!(rope.inv_freq[63], plain.inv_freq[63] / 4.0);
        assert!((rope.magnitude - 1.138_629_4).abs() < 1e-6);
    }
}
