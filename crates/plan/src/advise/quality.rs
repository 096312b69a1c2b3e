//! A stand-in for how good answers are, from what is known of every model: its size, its age and the bits of its file. It is a proxy, made to put
//! models in a plausible order; for a certain task only trying tells. Measured quality of files is `hob eval`'s.

/// Part of a mixture's size that all of its parameters make; the rest those that a token meets.
const ALL: f64 = 0.6;
/// Months in which models of one size get as good as models of twice the size were before. Published estimates lie between 3 and 12.
const MONTHS: f64 = 9.0;
/// When counting starts, and what stands for an unknown date.
const START: (u16, u8) = (2023, 1);
const UNKNOWN: (u16, u8) = (2024, 1);

/// What a file loses by its bits per weight, in halvings of the model: after the perplexities that llama.cpp publishes of its recipes beside those of
/// a model of twice the size, doubled, since newer models lose more.
const LOSSES: &[(f64, f64)] = &[
    (1.6, 6.0),
    (2.1, 3.5),
    (2.5, 2.3),
    (2.7, 1.9),
    (3.0, 1.4),
    (3.5, 0.8),
    (3.9, 0.5),
    (4.25, 0.25),
    (4.6, 0.17),
    (4.9, 0.12),
    (5.7, 0.04),
    (6.6, 0.01),
    (8.5, 0.0),
];

/// The proxy: a point more is like twice the parameters.
pub fn quality(parameters: u64, active: u64, released: Option<(u16, u8)>, bits: f64) -> f64 {
    let log = |n: u64| (n.max(1) as f64 / 1e9).log2();
    let size = ALL * log(parameters) + (1.0 - ALL) * log(active.min(parameters));
    let months = |(year, month): (u16, u8)| 12.0 * f64::from(year) + f64::from(month);
    let age = (months(released.unwrap_or(UNKNOWN)) - months(START)).max(0.0);
    size + age / MONTHS - loss(bits)
}

fn loss(bits: f64) -> f64 {
    let above = LOSSES.iter().position(|(b, _)| *b >= bits).unwrap_or(LOSSES.len());
    let at = |index: usize| LOSSES.get(index).copied();
    match (above.checked_sub(1).and_then(at), at(above)) {
        (Some((b0, l0)), Some((b1, l1))) => l0 + (l1 - l0) * (bits - b0) / (b1 - b0),
        (None, Some((_, loss))) | (Some((_, loss)), None) => loss,
        (None, None) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_better() {
        let q =
            |billions: u64, bits| quality(billions << 30, billions << 30, Some((2025, 4)), bits);
        for bits in 10..160 {
            let bits = f64::from(bits) / 10.0;
            assert!(q(14, bits) <= q(14, bits + 0.1), "{bits}");
            assert!((q(28, bits) - q(14, bits) - 1.0).abs() < 1e-9);
        }
        let newer = quality(1 << 30, 1 << 30, Some((2026, 1)), 8.0);
        assert!(newer > quality(1 << 30, 1 << 30, Some((2025, 1)), 8.0));
        assert!(newer > quality(1 << 30, 1 << 30, None, 8.0));
        // Fewer bits of a model of twice the size are better, down to three.
        assert!(q(32, 4.8) > q(16, 8.5) && q(32, 3.9) > q(16, 8.5) && q(32, 2.1) < q(16, 8.5));
    }

    #[test]
    fn a_mixture_is_between_its_parts() {
        let mixture = quality(30 << 30, 3 << 30, None, 8.5);
        let dense = |billions: u64| quality(billions << 30, billions << 30, None, 8.5);
        assert!(dense(9) < mixture && mixture < dense(14));
    }
}
