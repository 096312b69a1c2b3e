//! From logits to a token: one chain in llama.cpp's order. No full sort of the vocabulary and, once the scratch
//! has grown, no allocation per token (but for log-probabilities asked for). What a grammar allows is
//! told it as a mask.
//!
//! 0. Tokens that the mask forbids get minus infinity.
//! 1. Edits of single logits: logit bias, repetition, presence and frequency penalties, DRY.
//! 2. At temperature 0: the first largest logit. Nothing below applies.
//! 3. With mirostat: temperature, then mirostat's own truncation. Otherwise top-k, typical, top-p, min-p, each on
//!    the distribution renormalised over what the one before left, then temperature.
//! 4. A draw from what is left, by the request's own generator.
//!
//! Log-probabilities are those of the model's distribution, before any of this.

mod edits;
mod exp;
mod mirostat;
mod options;
mod rng;
mod select;

use exp::{exp, sum_exp};
pub use options::{Dry, Mirostat, OptionError, SampleOptions};
use rng::Rng;
use select::{Candidate, by_rank, top_k};

/// Logits that no token can be drawn from.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SampleError {
    /// NaN or infinity.
    #[error("the logit of token {token} is {value}: the model or its file is broken")]
    NotFinite {
        /// Index of the first such logit.
        token: usize,
        /// Its value.
        value: f32,
    },
    /// Every token is forbidden.
    #[error("no token is left to choose from: the logit bias forbids all that may come")]
    NoCandidate,
}

/// Natural logarithms of probabilities under the model's own distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct Logprobs {
    /// Of the chosen token.
    pub chosen: f32,
    /// The likeliest tokens, likeliest first.
    pub top: Vec<(u32, f32)>,
}

/// A chosen token.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Its id.
    pub token: u32,
    /// Present when asked for.
    pub logprobs: Option<Logprobs>,
}

/// Working memory of samplers, shared by all that run on one thread.
#[derive(Debug, Default)]
pub struct Scratch {
    logits: Vec<f32>,
    candidates: Vec<Candidate>,
    edits: edits::Scratch,
}

/// The state of one request's sampling.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SampleOptions,
    rng: Rng,
    mu: f32,
}

impl Sampler {
    /// A sampler for validated options. Equal seeds and equal logits give equal tokens.
    pub fn new(options: SampleOptions, seed: u64) -> Self {
        let mu = match options.mirostat {
            Mirostat::Off => 0.0,
            Mirostat::V1 { tau, .. } | Mirostat::V2 { tau, .. } => 2.0 * tau,
        };
        Sampler { options, rng: Rng::new(seed), mu }
    }

    /// Chooses the token after `history` (prompt and answer so far) from its logits, among those whose bit is set in `allowed`;
    /// beyond its end all are forbidden.
    ///
    /// # Errors
    /// When a logit is NaN or infinite, or no token is left.
    pub fn sample(
        &mut self,
        logits: &[f32],
        allowed: Option<&[u32]>,
        history: &[u32],
        scratch: &mut Scratch,
    ) -> Result<Choice, SampleError> {
        let Scratch { logits: copy, candidates, edits } = scratch;
        let edited = match (allowed, self.options.edits()) {
            (None, false) => logits,
            (_, edit) => {
                copy.clear();
                match allowed {
                    None => copy.extend_from_slice(logits),
                    Some(mask) => masked(logits, mask, copy)?,
                }
                if edit {
                    edits::apply(&self.options, history, copy, edits);
                }
                copy.as_slice()
            }
        };
        let (best, peak) = peak(edited)?;
        let token = match (self.options.temperature, self.options.mirostat) {
            (0.0, _) => best as u32,
            (_, Mirostat::Off) => {
                select::truncate(&self.options, edited, peak, candidates);
                self.draw(candidates).0
            }
            (temperature, Mirostat::V1 { tau, eta }) => {
                mirostat::keep_v1(self.mu, temperature, edited, candidates);
                self.draw_and_learn(candidates, tau, eta)
            }
            (temperature, Mirostat::V2 { tau, eta }) => {
                mirostat::keep_v2(self.mu, temperature, edited, peak, candidates);
                self.draw_and_learn(candidates, tau, eta)
            }
        };
        let logprobs = match self.options.top_logprobs {
            None => None,
            Some(top) => Some(logprobs(logits, token, top, candidates)?),
        };
        Ok(Choice { token, logprobs })
    }

    /// Draws in the order of `candidates`; the token and its probability among them.
    fn draw(&mut self, candidates: &mut [Candidate]) -> (u32, f32) {
        let max = candidates.iter().fold(f32::NEG_INFINITY, |m, c| m.max(c.logit));
        let mut total = 0.0;
        for c in candidates.iter_mut() {
            c.weight = exp((c.logit - max) / self.options.temperature);
            total += f64::from(c.weight);
        }
        let mut left = self.rng.unit() * total;
        let mut chosen = (0, 0.0);
        for c in candidates.iter().filter(|c| c.weight > 0.0) {
            chosen = (c.id, (f64::from(c.weight) / total) as f32);
            left -= f64::from(c.weight);
            if left < 0.0 {
                break;
            }
        }
        chosen
    }

    fn draw_and_learn(&mut self, candidates: &mut [Candidate], tau: f32, eta: f32) -> u32 {
        let (token, probability) = self.draw(candidates);
        self.mu -= eta * (-probability.log2() - tau);
        token
    }
}

/// Adds the logits to `out`, those of forbidden tokens as minus infinity. Logits that are wrong are so whether forbidden or not: an
/// answer does not hide that its model is broken.
fn masked(logits: &[f32], mask: &[u32], out: &mut Vec<f32>) -> Result<(), SampleError> {
    peak(logits)?;
    let words = mask.iter().copied().chain(std::iter::repeat(0));
    for (chunk, word) in logits.chunks(u32::BITS as usize).zip(words) {
        match word {
            0 => out.extend(chunk.iter().map(|_| f32::NEG_INFINITY)),
            u32::MAX => out.extend_from_slice(chunk),
            _ => out.extend(chunk.iter().enumerate().map(|(i, &logit)| match word >> i & 1 {
                1 => logit,
                _ => f32::NEG_INFINITY,
            })),
        }
    }
    Ok(())
}

/// Index of the first largest logit, and its value. Logits of minus infinity are forbidden tokens.
fn peak(logits: &[f32]) -> Result<(usize, f32), SampleError> {
    const LANES: usize = 16;
    let (mut max, mut odd) = ([f32::NEG_INFINITY; LANES], [false; LANES]);
    let mut chunks = logits.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (i, &x) in chunk.iter().enumerate() {
            odd[i] |= x.is_nan() | (x == f32::INFINITY);
            max[i] = if x > max[i] { x } else { max[i] };
        }
    }
    let rest = chunks.remainder();
    let odd = odd.contains(&true) || rest.iter().any(|x| x.is_nan() || *x == f32::INFINITY);
    if odd {
        let token = logits.iter().position(|x| x.is_nan() || *x == f32::INFINITY).unwrap_or(0);
        return Err(SampleError::NotFinite { token, value: logits[token] });
    }
    let max = max.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
    match logits.iter().position(|&x| x == max) {
        Some(index) if max > f32::NEG_INFINITY => Ok((index, max)),
        _ => Err(SampleError::NoCandidate),
    }
}

fn logprobs(
    logits: &[f32],
    token: u32,
    top: usize,
    candidates: &mut Vec<Candidate>,
) -> Result<Logprobs, SampleError> {
    let (_, peak) = peak(logits)?;
    let sum = sum_exp(logits, peak, 1.0);
    let logprob = |logit: f32| (f64::from(logit - peak) - sum.ln()) as f32;
    candidates.clear();
    if top > 0 {
        top_k(logits, top, candidates);
        candidates.sort_unstable_by(by_rank);
    }
    Ok(Logprobs {
        chosen: logits.get(token as usize).map_or(f32::NEG_INFINITY, |&x| logprob(x)),
        top: candidates.iter().map(|c| (c.id, logprob(c.logit))).collect(),
    })
}

#[cfg(test)]
mod tests;
