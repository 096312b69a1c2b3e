//! Mirostat's truncations (Basu and others 2020, arXiv 2007.14966), as in llama.cpp: version 1 estimates the exponent
//! of Zipf's law and from it a k, version 2 drops tokens whose surprise is above `mu`. The chain updates `mu`.

use super::exp::sum_exp;
use super::select::{Candidate, at_least, by_rank, top_k};

/// Tokens from which version 1 estimates the exponent (the paper's m).
const ESTIMATE_FROM: usize = 100;

/// Keeps the k tokens that give a surprise of `mu` bits under Zipf's law, in rank order.
pub(super) fn keep_v1(mu: f32, temperature: f32, logits: &[f32], out: &mut Vec<Candidate>) {
    top_k(logits, ESTIMATE_FROM, out);
    out.sort_unstable_by(by_rank);
    let (mut products, mut squares) = (0.0, 0.0);
    for (i, pair) in out.windows(2).enumerate() {
        let t = ((i + 2) as f32 / (i + 1) as f32).ln();
        products += t * (pair[0].logit - pair[1].logit) / temperature;
        squares += t * t;
    }
    let exponent = products / squares;
    let epsilon = exponent - 1.0;
    let k =
        (epsilon * mu.exp2() / (1.0 - (logits.len() as f32).powf(-epsilon))).powf(1.0 / exponent);
    // A flat or very short list gives NaN here: then one token stays, as in llama.cpp.
    let k = (k as usize).clamp(1, logits.len());
    if k > out.len() {
        top_k(logits, k, out);
        out.sort_unstable_by(by_rank);
    }
    out.truncate(k);
}

/// Keeps the tokens whose surprise is at most `mu` bits, at least the likeliest, in id order.
pub(super) fn keep_v2(
    mu: f32,
    temperature: f32,
    logits: &[f32],
    peak: f32,
    out: &mut Vec<Candidate>,
) {
    let mass = sum_exp(logits, peak, 1.0 / temperature);
    let floor = mass.ln() - f64::from(mu) * std::f64::consts::LN_2;
    let floor = f64::from(peak) + f64::from(temperature) * floor;
    at_least(logits, (floor as f32).min(peak), out);
    if floor > f64::from(peak) {
        out.truncate(1);
    }
}
