//! Changes of single logits before the choice: bias, the three penalties, DRY. All are sparse: they cost the length
//! of the look-back, not of the vocabulary. Formulas and order are llama.cpp's.

use super::{Dry, SampleOptions};

/// exp() of more overflows an f32.
const MAX_LOG: f32 = 88.722_84;

/// Working memory.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    recent: Vec<u32>,
    repeats: Vec<usize>,
    longest: Vec<(u32, usize)>,
}

pub(super) fn apply(options: &SampleOptions, history: &[u32], logits: &mut [f32], s: &mut Scratch) {
    for &(token, bias) in &options.logit_bias {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit += bias;
        }
    }
    if options.penalties() {
        penalties(options, history, logits, &mut s.recent);
    }
    if let Some(dry) = &options.dry {
        self::dry(dry, history, logits, s);
    }
}

fn last(history: &[u32], n: Option<usize>) -> &[u32] {
    &history[history.len() - n.unwrap_or(usize::MAX).min(history.len())..]
}

fn penalties(o: &SampleOptions, history: &[u32], logits: &mut [f32], recent: &mut Vec<u32>) {
    recent.clear();
    recent.extend_from_slice(last(history, o.repeat_last_n));
    recent.sort_unstable();
    for run in recent.chunk_by(|a, b| a == b) {
        let Some(logit) = logits.get_mut(run[0] as usize) else { continue };
        match *logit <= 0.0 {
            true => *logit *= o.repeat_penalty,
            false => *logit /= o.repeat_penalty,
        }
        *logit -= run.len() as f32 * o.frequency_penalty + o.presence_penalty;
    }
}

/// For every token that followed an earlier copy of the text's end: a penalty by the longest such copy.
fn dry(dry: &Dry, history: &[u32], logits: &mut [f32], s: &mut Scratch) {
    let history = last(history, dry.last_n);
    s.recent.clear();
    s.recent.extend(history.iter().rev());
    let text = &s.recent; // the last token first
    let reach = since_breaker(text, &dry.breakers);
    if dry.multiplier == 0.0 || text.len() <= dry.allowed_length || reach < dry.allowed_length {
        return;
    }
    common_prefixes(text, &mut s.repeats);
    s.longest.clear();
    for i in 1..text.len() {
        let length = s.repeats[i].min(reach);
        if length >= dry.allowed_length.max(1) {
            s.longest.push((text[i - 1], length));
        }
    }
    s.longest.sort_unstable();
    let max_exponent = match dry.base > 1.000_001 {
        true => MAX_LOG / dry.base.ln(),
        false => f32::INFINITY,
    };
    for run in s.longest.chunk_by(|a, b| a.0 == b.0) {
        let (token, length) = run[run.len() - 1];
        let exponent = ((length - dry.allowed_length) as f32).min(max_exponent);
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit -= (dry.multiplier * dry.base.powf(exponent)).min(f32::MAX);
        }
    }
}

/// Tokens after the end of the last breaker; all, when there is none. `text` runs backwards.
fn since_breaker(text: &[u32], breakers: &[Vec<u32>]) -> usize {
    let ends_here = |end: usize| {
        breakers
            .iter()
            .any(|b| text[end..].len() >= b.len() && b.iter().rev().eq(&text[end..][..b.len()]))
    };
    (0..text.len()).find(|&end| ends_here(end)).unwrap_or(text.len())
}

/// Z-function (Gusfield 1997): for each i the length of the longest common prefix of `text` and `text[i..]`.
fn common_prefixes(text: &[u32], z: &mut Vec<usize>) {
    z.clear();
    z.resize(text.len(), 0);
    let (mut left, mut right) = (0, 0);
    for i in 1..text.len() {
        let mut n = if i < right { z[i - left].min(right - i) } else { 0 };
        while i + n < text.len() && text[n] == text[i + n] {
            n += 1;
        }
        if i + n > right {
            (left, right) = (i, i + n);
        }
        z[i] = n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(options: &SampleOptions, history: &[u32], logits: &[f32]) -> Vec<f32> {
        let mut logits = logits.to_vec();
        apply(options, history, &mut logits, &mut Scratch::default());
        logits
    }

    #[test]
    fn penalties_by_sign_and_count() {
        let options = SampleOptions {
            repeat_penalty: 2.0,
            presence_penalty: 0.5,
            frequency_penalty: 0.25,
            repeat_last_n: Some(3),
            ..SampleOptions::default()
        };
        // Token 3 lies outside the last three.
        assert_eq!(edited(&options, &[3, 0, 0, 1], &[4.0, -1.0, 1.0, 1.0]), [1.0, -2.75, 1.0, 1.0]);
    }

    #[test]
    fn bias_adds_and_forbids() {
        let options = SampleOptions {
            logit_bias: vec![(0, 1.5), (1, f32::NEG_INFINITY), (9, 1.0)],
            ..SampleOptions::default()
        };
        assert_eq!(edited(&options, &[], &[1.0, 1.0]), [2.5, f32::NEG_INFINITY]);
    }

    fn with_dry(dry: Dry) -> SampleOptions {
        SampleOptions { dry: Some(dry), ..SampleOptions::default() }
    }

    #[test]
    fn dry_penalises_the_continuation_of_the_longest_repeat() {
        let dry =
            Dry { multiplier: 1.0, base: 2.0, allowed_length: 2, last_n: None, breakers: vec![] };
        // "1 2 3 4 .. 2 3 5 .. 1 2 3": 4 would continue a repeat of three, 5 one of two.
        let history = [1, 2, 3, 4, 0, 2, 3, 5, 0, 1, 2, 3];
        assert_eq!(
            edited(&with_dry(dry.clone()), &history, &[0.0; 6]),
            [0.0, 0.0, 0.0, 0.0, -2.0, -1.0]
        );
        let near = Dry { last_n: Some(8), ..dry };
        assert_eq!(edited(&with_dry(near), &history, &[0.0; 6]), [0.0, 0.0, 0.0, 0.0, 0.0, -1.0]);
    }

    #[test]
    fn dry_does_not_reach_across_a_breaker() {
        let dry = |breakers| Dry {
            multiplier: 1.0,
            base: 2.0,
            allowed_length: 2,
            last_n: None,
            breakers,
        };
        let history = [7, 1, 2, 3, 0, 7, 1, 2];
        let penalty = |breakers: &[&[u32]]| {
            let breakers = breakers.iter().map(|b| b.to_vec()).collect();
            edited(&with_dry(dry(breakers)), &history, &[0.0; 8])[3]
        };
        assert_eq!(penalty(&[]), -2.0);
        assert_eq!(penalty(&[&[7]]), -1.0);
        assert_eq!(penalty(&[&[7, 1]]), 0.0);
        assert_eq!(penalty(&[&[9], &[7, 2]]), -2.0);
    }

    #[test]
    fn dry_of_endless_repeats_stays_finite() {
        let dry =
            Dry { multiplier: 1.0, base: 4.0, allowed_length: 1, last_n: None, breakers: vec![] };
        let logits = edited(&with_dry(dry), &[1; 500], &[0.0; 2]);
        assert!(logits[1].is_finite() && logits[1] < -1e30);
    }

    #[test]
    fn z_function_is_the_naive_one() {
        let mut rng = hob_testkit::Rng::new(5);
        for _ in 0..200 {
            let text: Vec<u32> = (0..rng.below(40)).map(|_| rng.below(3) as u32).collect();
            let mut z = Vec::new();
            common_prefixes(&text, &mut z);
            for (i, &n) in z.iter().enumerate().skip(1) {
                let naive = text[i..].iter().zip(&text).take_while(|(a, b)| a == b).count();
                assert_eq!(n, naive, "{text:?} at {i}");
            }
        }
    }
}
