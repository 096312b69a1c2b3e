//! Drafting tokens that the model then only has to confirm, several in one step. Exact by construction: every token is
//! sampled from the model's own logits by the request's own sampler, in order, and a draft is kept while it agrees, so
//! that drafts change how many tokens a step gives and nothing else. Absent: trees of drafts.

mod gain;
mod lookup;

use gain::{Belief, Costs, Wish, plan};
use lookup::Lookup;

use crate::sequence::Sequence;

/// Most tokens that are drafted for a sequence in a step. A device whose [`hob_model::Limits::logits`] has room for one
/// more (and for one row of every other sequence) computes their logits at once.
pub const MAX_DRAFT: usize = 8;

/// Tokens of one sequence that are indexed in a step.
const INDEXED: usize = 4096;

/// Whether a request's tokens are drafted. Its answer is the same in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speculate {
    /// Never.
    #[default]
    Off,
    /// Whenever there is something to propose, as many as the step has room for.
    On,
    /// As many as pay, by what is measured.
    Auto,
}

/// The drafts of one sequence.
#[derive(Debug, Default)]
pub(crate) struct Drafting {
    mode: Speculate,
    /// Tokens proposed for the coming step.
    pub(crate) tokens: Vec<u32>,
    /// Tokens before them that were found to match.
    matched: usize,
    lookup: Lookup,
    belief: Belief,
    /// Tokens that were computed as drafts, and those that were right.
    pub(crate) drafted: usize,
    pub(crate) accepted: usize,
}

impl Drafting {
    pub(crate) fn new(mode: Speculate) -> Self {
        Drafting { mode, ..Drafting::default() }
    }

    /// Looks for a draft of at most `most` tokens after `tokens`.
    fn look_up(&mut self, tokens: &[u32], most: usize) {
        self.tokens.clear();
        if self.mode == Speculate::Off {
            return;
        }
        self.lookup.extend(tokens, INDEXED);
        if let Some(found) = self.lookup.find(tokens, most).filter(|_| most > 0) {
            (self.tokens, self.matched) = (found.tokens, found.matched);
        }
    }

    fn wish(&mut self) -> Wish {
        let most = self.tokens.len();
        let trial = most > 0 && self.belief.pass();
        Wish { most, rate: self.belief.rate(self.matched), trial }
    }

    /// Notes how many of the rows behind the first were right, if they were drafted.
    pub(crate) fn settle(&mut self, rows: usize, right: usize) -> (usize, usize) {
        if self.tokens.is_empty() || rows == 0 {
            self.tokens.clear();
            return (0, 0);
        }
        self.tokens.clear();
        self.belief.learn(self.matched, rows, right);
        self.drafted += rows;
        self.accepted += right;
        (rows, right)
    }
}

/// What drafts depend on beside their sequence.
#[derive(Debug)]
pub(crate) struct Speculator {
    costs: Costs,
    /// Whether anything is drafted.
    able: bool,
}

impl Speculator {
    pub(crate) fn new(able: bool) -> Self {
        Speculator { costs: Costs::default(), able }
    }

    /// Proposes drafts for a step of at most `rows` rows.
    pub(crate) fn propose(&mut self, running: &mut [Sequence], rows: usize) {
        if !self.able {
            return;
        }
        let (mut known, mut deciding) = (0, 0);
        for sequence in running.iter_mut() {
            known += sequence.tokens.len() - sequence.computed;
            deciding += usize::from(sequence.decodes());
            let most = if sequence.decodes() { sequence.room().min(MAX_DRAFT) } else { 0 };
            sequence.drafting.look_up(&sequence.tokens, most);
        }
        let auto = |s: &&mut Sequence| s.drafting.mode == Speculate::Auto;
        let mut measured: Vec<&mut Drafting> =
            running.iter_mut().filter(auto).map(|s| &mut s.drafting).collect();
        let wishes: Vec<Wish> = measured.iter_mut().map(|drafting| drafting.wish()).collect();
        let drafts = plan(known.min(rows), deciding, &wishes, &self.costs, 0.0);
        for (drafting, draft) in measured.into_iter().zip(drafts) {
            drafting.tokens.truncate(draft);
        }
    }

    /// Learns how long a step took.
    pub(crate) fn learn(&mut self, rows: usize, seconds: f64) {
        self.costs.learn(rows, seconds);
    }
}
