//! Truncation of the distribution without sorting it: a threshold or a bounded selection leaves few candidates, and
//! only those are sorted. Ties go to the lower id, and sums run in rank or id order, so results repeat exactly.

use std::cmp::Ordering;

use super::SampleOptions;
use super::exp::{exp, sum_exp};

/// A token that may still be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) id: u32,
    pub(super) logit: f32,
    /// Unnormalised probability, or a sort key while sorting by something else.
    pub(super) weight: f32,
}

/// Larger logits first, then lower ids.
pub(super) fn by_rank(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal).then(a.id.cmp(&b.id))
}

/// The `k` largest logits, in no particular order; fewer when fewer are above minus infinity.
pub(super) fn top_k(logits: &[f32], k: usize, out: &mut Vec<Candidate>) {
    const LANES: usize = 16;
    out.clear();
    let mut threshold = f32::NEG_INFINITY;
    for (chunk, values) in logits.chunks(LANES).enumerate() {
        // Few chunks pass once the threshold has risen, and this test is a vector comparison.
        if !values.iter().fold(false, |any, &x| any | (x > threshold)) {
            continue;
        }
        for (i, &logit) in values.iter().enumerate().filter(|(_, x)| **x > threshold) {
            out.push(Candidate { id: (chunk * LANES + i) as u32, logit, weight: 0.0 });
        }
        if out.len() >= k.saturating_mul(2).max(LANES) && out.len() > k {
            threshold = keep_best(out, k);
        }
    }
    if out.len() > k {
        keep_best(out, k);
    }
}

/// Keeps the `k` best (`0 < k < len`) and returns the logit of the last of them.
fn keep_best(out: &mut Vec<Candidate>, k: usize) -> f32 {
    let (_, last, _) = out.select_nth_unstable_by(k - 1, by_rank);
    let threshold = last.logit;
    out.truncate(k);
    threshold
}

/// All logits from `threshold` up, in id order.
pub(super) fn at_least(logits: &[f32], threshold: f32, out: &mut Vec<Candidate>) {
    let floor = threshold.max(f32::MIN); // minus infinity is forbidden, whatever the threshold
    out.clear();
    let kept = logits.iter().enumerate().filter(|(_, x)| **x >= floor);
    out.extend(kept.map(|(id, &logit)| Candidate { id: id as u32, logit, weight: 0.0 }));
}

/// Top-k, typical, top-p and min-p, in this order; never leaves nothing.
pub(super) fn truncate(o: &SampleOptions, logits: &[f32], peak: f32, out: &mut Vec<Candidate>) {
    let mut mass = first_cut(o, logits, peak, out);
    if o.typical_p < 1.0 {
        mass = typical(o.typical_p, mass, peak, out);
    }
    if o.top_p < 1.0 {
        top_p(o.top_p, mass, out);
    }
    if o.min_p > 0.0 {
        let max = out.iter().fold(f32::NEG_INFINITY, |m, c| m.max(c.logit));
        let floor = max + o.min_p.ln();
        out.retain(|c| c.logit >= floor);
    }
}

/// Leaves what top-k keeps, or all that the later truncations could keep, in canonical order; weights them by
/// `exp(logit - peak)` where a later truncation needs it, and returns the mass of the distribution.
fn first_cut(o: &SampleOptions, logits: &[f32], peak: f32, out: &mut Vec<Candidate>) -> f64 {
    let needs_mass = o.typical_p < 1.0 || o.top_p < 1.0;
    if (1..logits.len()).contains(&o.top_k) {
        top_k(logits, o.top_k, out);
        out.sort_unstable_by(by_rank);
        return if needs_mass { weigh(peak, out) } else { 0.0 };
    }
    if !needs_mass {
        at_least(logits, f32::NEG_INFINITY, out);
        return 0.0;
    }
    if o.typical_p < 1.0 {
        at_least(logits, f32::NEG_INFINITY, out);
        return weigh(peak, out);
    }
    // Tokens below a share of (1 - p) / n weigh less than 1 - p together: top-p never gets to them.
    let mass = sum_exp(logits, peak, 1.0);
    let share = (1.0 - f64::from(o.top_p)) / logits.len() as f64;
    let floor = f64::from(peak) + (mass * share).ln();
    at_least(logits, (floor as f32).min(peak), out);
    weigh(peak, out);
    mass
}

fn weigh(peak: f32, out: &mut [Candidate]) -> f64 {
    out.iter_mut().for_each(|c| c.weight = exp(c.logit - peak));
    out.iter().map(|c| f64::from(c.weight)).sum()
}

/// Keeps the likeliest until their mass reaches `p`; leaves rank order.
fn top_p(p: f32, mass: f64, out: &mut Vec<Candidate>) {
    let (mut sum, enough) = (0.0, f64::from(p) * mass);
    keep_until(out, by_rank, |c| {
        sum += f64::from(c.weight);
        sum >= enough
    });
}

/// Keeps the tokens whose surprise is nearest the entropy until their mass exceeds `p`; returns the mass kept and
/// leaves rank order.
fn typical(p: f32, mass: f64, peak: f32, out: &mut Vec<Candidate>) -> f64 {
    out.retain(|c| c.weight > 0.0);
    let surprise = |c: &Candidate| mass.ln() - f64::from(c.logit - peak);
    let entropy: f64 = out.iter().map(|c| f64::from(c.weight) / mass * surprise(c)).sum();
    out.iter_mut().for_each(|c| c.weight = (surprise(c) - entropy).abs() as f32);
    let by_distance =
        |a: &Candidate, b: &Candidate| a.weight.total_cmp(&b.weight).then_with(|| by_rank(a, b));
    let (mut sum, enough) = (0.0, f64::from(p) * mass);
    keep_until(out, by_distance, |c| {
        sum += f64::from(exp(c.logit - peak));
        sum > enough
    });
    out.sort_unstable_by(by_rank);
    weigh(peak, out)
}

/// Keeps candidates in `order` up to and with the first that `last` accepts. Sorts only as far as it gets.
fn keep_until(
    out: &mut Vec<Candidate>,
    order: impl Fn(&Candidate, &Candidate) -> Ordering + Copy,
    mut last: impl FnMut(&Candidate) -> bool,
) {
    let (mut done, mut step) = (0, 256);
    while done < out.len() {
        let mut part = &mut out[done..];
        if step < part.len() {
            part.select_nth_unstable_by(step - 1, order);
            part = &mut part[..step];
        }
        part.sort_unstable_by(order);
        if let Some(i) = part.iter().position(&mut last) {
            out.truncate(done + i + 1);
            return;
        }
        done += part.len();
        step *= 8;
    }
}
