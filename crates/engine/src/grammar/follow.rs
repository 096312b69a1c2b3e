//! One answer's way through its grammar: which tokens may come next, and whether it is complete.
//! A failure concerns this answer alone.

use llguidance::toktrie::SimpleVob;
use llguidance::{Matcher, TokenParser};

use super::{GrammarError, short};

/// Where an answer stands in its grammar.
pub(crate) struct Follower {
    matcher: Matcher,
    /// End tokens that must not come, whatever the grammar says.
    forbidden: Vec<u32>,
    ends: Vec<u32>,
    mask: SimpleVob,
}

impl Follower {
    pub(super) fn new(parser: TokenParser, ends: &[u32]) -> Self {
        let matcher = Matcher::new(Ok(parser));
        Follower { matcher, forbidden: Vec::new(), ends: ends.to_vec(), mask: SimpleVob::new() }
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
        self.mask = self.matcher.compute_mask().map_err(|e| stuck(&e))?;
        for &token in &self.forbidden {
            if (token as usize) < self.mask.len() {
                self.mask.disallow_token(token);
            }
        }
        Ok((!self.mask.is_zero()).then_some(self.mask.as_slice()))
    }

    /// Goes on with a token that was allowed.
    pub(crate) fn take(&mut self, token: u32) -> Result<(), GrammarError> {
        self.matcher.consume_token(token).map_err(|e| stuck(&e))
    }

    /// Whether nothing but the end can follow.
    pub(crate) fn is_complete(&self) -> bool {
        self.matcher.is_stopped() && self.matcher.stop_reason().is_ok()
    }
}

fn stuck(error: &impl ToString) -> GrammarError {
    GrammarError::Stuck(short(&error.to_string()))
}
