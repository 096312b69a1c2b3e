//! One answer's way through its grammar: which tokens may come next, and whether it is complete.
//! A failure concerns this answer alone, and so does the time that its grammar takes: what is spent on a token is bounded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hob_text::Tokenizer;
use llguidance::toktrie::SimpleVob;
use llguidance::{CancellationHandle, Matcher, TokenParser};

use super::{GrammarError, SLOWNESS, short, watch};

/// What half a token may take on the average: finding what is allowed, or taking one. Other answers wait meanwhile.
const SHARE: Duration = Duration::from_millis(25).saturating_mul(SLOWNESS);
/// What may be saved up for dear ones, and the longest that one may take.
const MOST: Duration = Duration::from_millis(500).saturating_mul(SLOWNESS);

/// Most digits in a row in JSON, where anything else fits too: weak models that have begun to repeat one know no end.
pub(super) const MAX_DIGITS: usize = 32;

/// What limits digits.
#[derive(Clone)]
pub(super) struct Digits {
    tokenizer: Arc<Tokenizer>,
    /// Tokens that begin with one.
    tokens: Arc<SimpleVob>,
}

impl Digits {
    pub(super) fn new(tokenizer: &Arc<Tokenizer>) -> Self {
        let vocab = tokenizer.vocab_size();
        let mut tokens = SimpleVob::alloc(vocab);
        let digit =
            |t: &u32| tokenizer.token_bytes(*t, false).first().is_some_and(u8::is_ascii_digit);
        (0..vocab as u32).filter(digit).for_each(|token| tokens.allow_token(token));
        Digits { tokenizer: tokenizer.clone(), tokens: Arc::new(tokens) }
    }

    /// The length of a row of digits behind a token, when it was `row` before it.
    fn row(&self, row: usize, token: u32) -> usize {
        let bytes = self.tokenizer.token_bytes(token, false);
        let last = bytes.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        if last == bytes.len() { row + last } else { last }
    }
}

/// Where an answer stands in its grammar.
pub(crate) struct Follower {
    matcher: Matcher,
    /// Ends what the matcher does.
    handle: CancellationHandle,
    /// Time that may be spent.
    saved: Duration,
    /// End tokens that must not come, whatever the grammar says.
    forbidden: Vec<u32>,
    ends: Vec<u32>,
    mask: SimpleVob,
    digits: Option<Digits>,
    /// Digits in a row at the end.
    row: usize,
}

impl Follower {
    pub(super) fn new(parser: TokenParser, ends: &[u32], digits: Option<Digits>) -> Self {
        let matcher = Matcher::new(Ok(parser)).into_cancellable();
        Follower {
            handle: matcher.cancellation_handle().unwrap_or_default(),
            matcher,
            saved: MOST,
            forbidden: Vec::new(),
            ends: ends.to_vec(),
            mask: SimpleVob::new(),
            digits,
            row: 0,
        }
    }

    /// End tokens are not to come: the answer ends when the grammar leaves nothing else.
    pub(crate) fn forbid_ends(&mut self) {
        self.forbidden.clone_from(&self.ends);
    }

    /// The tokens that may come next, one bit each; `None` when the answer is complete and nothing can follow.
    pub(crate) fn allowed(&mut self) -> Result<Option<&[u32]>, GrammarError> {
        if self.is_complete() {
            return Ok(None);
        }
        self.mask = self.spend(Matcher::compute_mask)?;
        for &token in &self.forbidden {
            if (token as usize) < self.mask.len() {
                self.mask.disallow_token(token);
            }
        }
        if let Some(digits) = self.digits.as_ref().filter(|_| self.row >= MAX_DIGITS) {
            let mut others = self.mask.clone();
            others.sub(&digits.tokens);
            if !others.is_zero() {
                self.mask = others;
            }
        }
        Ok((!self.mask.is_zero()).then_some(self.mask.as_slice()))
    }

    /// Goes on with a token that was allowed.
    pub(crate) fn take(&mut self, token: u32) -> Result<(), GrammarError> {
        self.row = self.digits.as_ref().map_or(0, |digits| digits.row(self.row, token));
        self.spend(|matcher| matcher.consume_token(token))
    }

    /// Whether nothing but the end can follow.
    pub(crate) fn is_complete(&self) -> bool {
        self.matcher.is_stopped() && self.matcher.stop_reason().is_ok()
    }

    /// What the last mask took, of what llguidance counts: items of the grammar, and work of its expressions.
    #[cfg(test)]
    pub(super) fn work(&self) -> (usize, u64) {
        let stats = self.matcher.last_step_stats();
        stats.map_or((0, 0), |stats| (stats.all_items, stats.lexer_cost))
    }

    /// Lets the matcher work for no longer than was saved up.
    fn spend<T, E: ToString>(
        &mut self,
        work: impl FnOnce(&mut Matcher) -> Result<T, E>,
    ) -> Result<T, GrammarError> {
        let begun = Instant::now();
        let done = watch::within(self.saved, &self.handle, || work(&mut self.matcher));
        self.saved = (self.saved.saturating_sub(begun.elapsed()) + SHARE).min(MOST);
        done.map_err(|e| match self.matcher.is_cancelled() {
            true => GrammarError::Stuck("finding the next token takes too long".to_owned()),
            false => GrammarError::Stuck(short(&e.to_string())),
        })
    }
}
