//! What the speed model was fitted with, open to the procedure that fits it (`tests/speed`): constants as numbers in a row, what was assumed of
//! each, and the model under any of them. Callers that want a speed have no use for this.

use super::parameters::{DECODE, FITTED, PREFILL};
use super::{Segment, time};

pub use super::parameters::Prior;

/// Values of all constants.
#[derive(Clone, Debug, PartialEq)]
pub struct Constants {
    /// Of decoding, in the order of [`decode_priors`].
    pub decode: [f64; DECODE.len()],
    /// Of prefill, in the order of [`prefill_priors`].
    pub prefill: [f64; PREFILL.len()],
    /// By what the deviation of a decoding speed is multiplied, so that four truths of five are inside.
    pub decode_scale: f64,
    /// Likewise of prefill.
    pub prefill_scale: f64,
}

impl Constants {
    /// Those in use.
    pub fn fitted() -> Self {
        FITTED
    }

    /// What was assumed before the fit.
    pub fn assumed() -> Self {
        let decode = DECODE.map(|prior| prior.value);
        Constants { decode, prefill: PREFILL.map(|prior| prior.value), ..FITTED }
    }
}

/// What was assumed of decoding.
pub fn decode_priors() -> &'static [Prior] {
    &DECODE
}

/// What was assumed of prefill.
pub fn prefill_priors() -> &'static [Prior] {
    &PREFILL
}

/// Tokens per second of one sequence, and the deviation of its logarithm before it is scaled.
pub fn decode(segments: &[Segment], constants: &Constants) -> (f64, f64) {
    let time = time::decode(segments, 1, constants);
    (1.0 / time.seconds, time.spread())
}

/// Likewise over a prompt.
pub fn prefill(segments: &[Segment], tokens: usize, constants: &Constants) -> (f64, f64) {
    let time = time::prefill(segments, tokens.max(1), constants);
    (tokens.max(1) as f64 / time.seconds, time.spread())
}
