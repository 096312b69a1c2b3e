//! The arithmetic on one row of logits: negative log-likelihood, divergence from a reference row, and the 16-bit
//! code in which reference files keep a row. Rows are shared among threads. Sums are f64, exponentials f32.

use std::ops::Range;

use super::EvalError;

/// Log-probabilities below this count as none: the file's code reaches 16 below the row's largest. Held to for a
/// live reference too, so that both kinds give the same figures.
const FLOOR: f32 = -16.0;
/// Codes of a stored row go from 0 to this.
const CODES: f32 = 65535.0;

/// Rows of a reference.
#[derive(Clone, Copy)]
pub(crate) enum Base<'a> {
    Nothing,
    /// As a reference file has them, [`row_bytes`] each.
    Coded(&'a [u8]),
    /// Logits of another model.
    Exact(&'a [f32]),
}

/// What one prediction came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Score {
    /// Negative log-likelihood of the text's token.
    pub(super) nll: f64,
    pub(super) versus: Option<Versus>,
}

/// A prediction beside the reference's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Versus {
    /// Negative log-likelihood by the reference.
    pub(super) nll: f64,
    pub(super) kl: f64,
    pub(super) same_top: bool,
    /// Probability of the text's token, less the reference's.
    pub(super) delta_p: f64,
}

/// Bytes of a coded row: scale and least log-probability as f32, then the codes, padded to an even number.
pub(super) fn row_bytes(vocab: usize) -> usize {
    8 + 2 * vocab.next_multiple_of(2)
}

/// Scores rows on some threads; keeps the memory of encoded ones.
pub(crate) struct Scorer {
    vocab: usize,
    threads: usize,
    coded: Vec<u8>,
}

impl Scorer {
    pub(crate) fn new(vocab: usize, threads: usize) -> Self {
        Scorer { vocab, threads, coded: Vec::new() }
    }

    /// One score per row of logits; row i is to predict `targets[i]`.
    pub(crate) fn score(
        &self,
        logits: &[f32],
        targets: &[u32],
        base: Base<'_>,
    ) -> Result<Vec<Score>, EvalError> {
        let (vocab, bytes) = (self.vocab, row_bytes(self.vocab));
        let parts = self.parallel(targets.len(), |row| {
            let ours = LogSoftmax::new(&logits[row * vocab..][..vocab], "logits")?;
            let target = targets[row] as usize;
            let versus = match base {
                Base::Nothing => None,
                Base::Coded(rows) => {
                    let theirs = Coded::new(&rows[row * bytes..][..bytes], vocab)?;
                    Some(compare(&ours, &theirs, target))
                }
                Base::Exact(rows) => {
                    let theirs =
                        LogSoftmax::new(&rows[row * vocab..][..vocab], "the reference's logits")?;
                    Some(compare(&ours, &theirs, target))
                }
            };
            Ok(Score { nll: -ours.log_prob(target), versus })
        });
        parts.into_iter().collect()
    }

    /// Rows of logits as a reference file keeps them.
    pub(super) fn encode(&mut self, logits: &[f32]) -> &[u8] {
        let (vocab, bytes) = (self.vocab, row_bytes(self.vocab));
        let rows = self
            .parallel(logits.len() / vocab, |row| encode(&logits[row * vocab..][..vocab], bytes));
        self.coded.clear();
        rows.iter().for_each(|row| self.coded.extend_from_slice(row));
        &self.coded
    }

    /// `f` of every row, in order.
    fn parallel<T: Send>(&self, rows: usize, f: impl Fn(usize) -> T + Sync) -> Vec<T> {
        let share = rows.div_ceil(self.threads.max(1)).max(1);
        let run = |part: Range<usize>| part.map(&f).collect::<Vec<T>>();
        std::thread::scope(|scope| {
            let parts = (share..rows).step_by(share).map(|at| at..(at + share).min(rows));
            let others: Vec<_> = parts.map(|part| scope.spawn(|| run(part))).collect();
            let mut all = run(0..share.min(rows));
            for other in others {
                all.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            all
        })
    }
}

/// A distribution over the vocabulary.
trait Distribution {
    fn log_probs(&self) -> impl Iterator<Item = f32>;
    fn log_prob(&self, token: usize) -> f64;
    /// The first of the likeliest tokens.
    fn top(&self) -> usize;
}

/// A row of logits with what makes it a distribution.
struct LogSoftmax<'a> {
    logits: &'a [f32],
    /// Log of the sum of exponentials.
    norm: f64,
    top: usize,
}

impl<'a> LogSoftmax<'a> {
    fn new(logits: &'a [f32], what: &'static str) -> Result<Self, EvalError> {
        let (top, max) = largest(logits.iter().copied());
        let sum: f64 = logits.iter().map(|&x| f64::from((x - max).exp())).sum();
        let norm = f64::from(max) + sum.ln();
        match norm.is_finite() {
            true => Ok(LogSoftmax { logits, norm, top }),
            false => Err(EvalError::NotFinite(what)),
        }
    }
}

impl Distribution for LogSoftmax<'_> {
    fn log_probs(&self) -> impl Iterator<Item = f32> {
        let norm = self.norm as f32;
        self.logits.iter().map(move |x| x - norm)
    }
    fn log_prob(&self, token: usize) -> f64 {
        f64::from(self.logits[token]) - self.norm
    }
    fn top(&self) -> usize {
        self.top
    }
}

/// A stored row.
struct Coded<'a> {
    scale: f32,
    least: f32,
    codes: &'a [[u8; 2]],
}

impl<'a> Coded<'a> {
    fn new(row: &'a [u8], vocab: usize) -> Result<Self, EvalError> {
        let float =
            |at: usize| f32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]]);
        let (scale, least) = (float(0), float(4));
        match scale.is_finite() && least.is_finite() {
            true => Ok(Coded { scale, least, codes: &row[8..].as_chunks().0[..vocab] }),
            false => Err(EvalError::NotFinite("the reference's file")),
        }
    }

    fn value(&self, code: [u8; 2]) -> f32 {
        self.scale * f32::from(u16::from_le_bytes(code)) + self.least
    }
}

impl Distribution for Coded<'_> {
    fn log_probs(&self) -> impl Iterator<Item = f32> {
        self.codes.iter().map(|&code| self.value(code))
    }
    fn log_prob(&self, token: usize) -> f64 {
        f64::from(self.value(self.codes[token]))
    }
    fn top(&self) -> usize {
        largest(self.log_probs()).0
    }
}

fn compare(ours: &LogSoftmax<'_>, theirs: &impl Distribution, target: usize) -> Versus {
    let pairs = theirs.log_probs().zip(ours.log_probs()).filter(|&(p, _)| p > FLOOR);
    let kl = pairs.map(|(p, q)| f64::from(p.exp() * (p - q))).sum();
    let (p, q) = (theirs.log_prob(target), ours.log_prob(target));
    Versus { nll: -p, kl, same_top: theirs.top() == ours.top, delta_p: q.exp() - p.exp() }
}

/// The first largest value and its place.
fn largest(values: impl Iterator<Item = f32>) -> (usize, f32) {
    let first = (0, f32::NEG_INFINITY);
    values.enumerate().fold(first, |best, (i, x)| if x > best.1 { (i, x) } else { best })
}

/// One row in the file's code: linear between the largest logit and the least, or 16 below the largest.
fn encode(logits: &[f32], bytes: usize) -> Vec<u8> {
    let max = largest(logits.iter().copied()).1;
    let least = logits.iter().copied().fold(f32::INFINITY, f32::min).max(max + FLOOR);
    let sum: f64 = logits.iter().map(|&x| f64::from((x - max).exp())).sum();
    let scale = (max - least) / CODES;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let mut row = Vec::with_capacity(bytes);
    row.extend(scale.to_le_bytes());
    row.extend((least - max - sum.ln() as f32).to_le_bytes());
    let code = |x: f32| (inverse * (x - least)).round_ties_even() as u16; // saturates at 0
    row.extend(logits.iter().flat_map(|&x| code(x).to_le_bytes()));
    row.resize(bytes, 0);
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use hob_testkit::Rng;

    const VOCAB: usize = 101;

    fn logits(rows: usize, seed: u64) -> Vec<f32> {
        Rng::new(seed).floats(rows * VOCAB, 6.0)
    }

    /// The definition, in f64 throughout.
    fn log_probs(logits: &[f32]) -> Vec<f64> {
        let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
        logits.iter().map(|&x| f64::from(x) - sum.ln()).collect()
    }

    fn divergence(p: &[f64], q: &[f64]) -> f64 {
        p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum()
    }

    #[test]
    fn scores_follow_the_definition() {
        let (ours, theirs) = (logits(5, 1), logits(5, 2));
        let targets = [3, 0, 100, 50, 7];
        for threads in [1, 2, 3, 8] {
            let scorer = Scorer::new(VOCAB, threads);
            let scores = scorer.score(&ours, &targets, Base::Exact(&theirs)).unwrap();
            assert_eq!(scores.len(), 5);
            for (i, score) in scores.iter().enumerate() {
                let q = log_probs(&ours[i * VOCAB..][..VOCAB]);
                let p = log_probs(&theirs[i * VOCAB..][..VOCAB]);
                let (versus, target) = (score.versus.unwrap(), targets[i] as usize);
                assert!((score.nll + q[target]).abs() < 1e-5);
                assert!((versus.nll + p[target]).abs() < 1e-5);
                assert!((versus.kl - divergence(&p, &q)).abs() < 1e-5 * versus.kl);
                assert!((versus.delta_p - (q[target].exp() - p[target].exp())).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn a_coded_row_is_the_distribution_again() {
        let (ours, theirs) = (logits(3, 1), logits(3, 2));
        let mut scorer = Scorer::new(VOCAB, 2);
        let coded = scorer.encode(&theirs).to_vec();
        assert_eq!(coded.len(), 3 * (8 + 2 * 102));
        let exact = scorer.score(&ours, &[1, 2, 3], Base::Exact(&theirs)).unwrap();
        let stored = scorer.score(&ours, &[1, 2, 3], Base::Coded(&coded)).unwrap();
        for (a, b) in exact.iter().zip(&stored) {
            let (a, b) = (a.versus.unwrap(), b.versus.unwrap());
            assert!((a.kl - b.kl).abs() < 1e-4 * a.kl && (a.nll - b.nll).abs() < 2e-4);
            assert_eq!(a.same_top, b.same_top);
        }
        let same = scorer.score(&theirs, &[0, 0, 0], Base::Coded(&coded)).unwrap();
        assert!(
            same.iter().all(|s| s.versus.unwrap().same_top && s.versus.unwrap().kl.abs() < 1e-4)
        );
    }

    #[test]
    fn codes_end_16_below_the_largest() {
        let row = encode(&[0.0, -4.0, -16.0, -1e9], row_bytes(4));
        let codes: Vec<u16> =
            row[8..].as_chunks().0.iter().map(|&c| u16::from_le_bytes(c)).collect();
        assert_eq!(codes, [65535, 49151, 0, 0]);
        let flat = encode(&[2.0; 3], row_bytes(3));
        assert_eq!(flat.len(), 16);
        let row = Coded::new(&flat, 3).unwrap();
        assert!((row.log_prob(2) + 3f64.ln()).abs() < 1e-6);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let scorer = Scorer::new(3, 1);
        for bad in [f32::NAN, f32::INFINITY] {
            let found = scorer.score(&[0.0, bad, 1.0], &[0], Base::Nothing);
            assert!(matches!(found, Err(EvalError::NotFinite("logits"))), "{bad}");
            let mut row = encode(&[0.0, 1.0, 2.0], row_bytes(3));
            row[4..8].copy_from_slice(&bad.to_le_bytes());
            let found = scorer.score(&[0.0, 0.0, 1.0], &[0], Base::Coded(&row));
            assert!(matches!(found, Err(EvalError::NotFinite("the reference's file"))), "{bad}");
        }
    }
}
