//! Drafting tokens that the model then only has to confirm, several in one step. Exact by construction: every token is
//! sampled from the model's own logits by the request's own sampler, in order, and a draft is kept while it agrees, so
//! that drafts change how many tokens a step gives and nothing else. Absent: trees of drafts.

mod draft;
mod gain;
mod lookup;

pub(crate) use draft::Drafter;
use draft::Turn;
pub use draft::{Draft, DraftError};
use gain::{Belief, Costs, Wish, plan};
use lookup::{Found, Lookup, follow};

use crate::schedule::Chunk;
use crate::sequence::Sequence;

/// Most tokens that are drafted for a sequence in a step. A device whose [`hob_model::Limits::logits`] has room for one
/// more (and for one row of every other sequence) computes their logits at once.
pub const MAX_DRAFT: usize = 8;

/// Tokens of one sequence that are indexed in a step.
const INDEXED: usize = 4096;
/// Tokens that must match for what followed them to be preferred to what a draft model would say.
const SURE: usize = 16;
/// What a draft model's word counts for: as much as a match of so many tokens.
const MODEL: usize = 8;

/// Tokens that must match for a draft's place to be sure: there it goes on when one token was another.
const PLACED: usize = 4;

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
    /// Tokens to be drafted for the coming step.
    pub(crate) wanted: usize,
    /// Those that are known; a draft model gives its own when it is known how many there is room for.
    pub(crate) tokens: Vec<u32>,
    /// Tokens before them that were found to match, or [`MODEL`].
    matched: usize,
    /// Where the tokens were found; after the step, where what follows the chosen token should stand.
    place: Option<usize>,
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

    /// Looks for a draft of at most `most` tokens after `tokens`. With a model that could draft them, only a long match
    /// will do.
    fn look_up(&mut self, tokens: &[u32], most: usize, model: bool) {
        let place = self.place.take();
        (self.wanted, self.matched) = (0, 0);
        self.tokens.clear();
        if self.mode == Speculate::Off {
            return;
        }
        self.lookup.extend(tokens, INDEXED);
        if most == 0 {
            return;
        }
        let found = self.lookup.find(tokens, most);
        let resumed = || {
            // A short match may be anywhere; an edit goes on where it was.
            place
                .filter(|_| found.as_ref().is_none_or(|found| found.matched < PLACED))
                .and_then(|at| Some(Found { tokens: follow(tokens, at, most)?, matched: 0, at }))
        };
        let found = resumed().or(found);
        match found.filter(|found| !model || found.matched >= SURE) {
            Some(found) => {
                (self.tokens, self.matched) = (found.tokens, found.matched);
                self.place = Some(found.at);
            }
            None if model => self.matched = MODEL,
            None => return,
        }
        self.wanted = most;
    }

    /// Whether a model is to draft.
    fn by_model(&self) -> bool {
        self.wanted > 0 && self.tokens.is_empty()
    }

    fn wish(&mut self) -> Wish {
        let (most, model) = (self.wanted, self.by_model());
        let trial = most > 0 && self.belief.pass();
        Wish { most, rate: self.belief.rate(self.matched), trial, model }
    }

    fn limit(&mut self, draft: usize) {
        self.wanted = self.wanted.min(draft);
        self.tokens.truncate(draft);
    }

    /// Notes how many of the rows behind the first were right, if they were drafted.
    pub(crate) fn settle(&mut self, rows: usize, right: usize) -> (usize, usize) {
        let place = self.place.take();
        if self.tokens.is_empty() || rows == 0 {
            self.tokens.clear();
            return (0, 0);
        }
        self.tokens.clear();
        let sure = self.matched >= PLACED || self.matched == 0 && right > 0;
        self.place = place.filter(|_| sure).map(|at| at + right + 1);
        self.belief.learn(self.matched, rows, right);
        self.drafted += rows;
        self.accepted += right;
        (rows, right)
    }
}

/// What drafts depend on beside their sequence.
pub(crate) struct Speculator {
    costs: Costs,
    /// Whether anything is drafted.
    able: bool,
    drafter: Option<Drafter>,
}

impl Speculator {
    pub(crate) fn new(able: bool, drafter: Option<Drafter>) -> Self {
        Speculator { costs: Costs::default(), able, drafter }
    }

    /// Proposes drafts for a step of at most `rows` rows.
    pub(crate) fn propose(&mut self, running: &mut [Sequence], rows: usize) {
        if !self.able {
            return;
        }
        if let Some(drafter) = &mut self.drafter {
            drafter.keep(|id| running.iter().any(|sequence| sequence.id == id));
        }
        let (mut known, mut deciding) = (0, 0);
        for sequence in running.iter_mut() {
            known += sequence.tokens.len() - sequence.computed;
            deciding += usize::from(sequence.decodes());
            let most = if sequence.decodes() { sequence.room().min(MAX_DRAFT) } else { 0 };
            let (id, tokens, positions) = (sequence.id, &sequence.tokens, sequence.positions());
            let drafter =
                self.drafter.as_mut().filter(|_| sequence.drafting.mode != Speculate::Off);
            let model = drafter.is_some_and(|d| d.serves(id, tokens, positions));
            sequence.drafting.look_up(tokens, most, model);
        }
        let auto = |s: &&mut Sequence| s.drafting.mode == Speculate::Auto;
        let mut measured: Vec<&mut Drafting> =
            running.iter_mut().filter(auto).map(|s| &mut s.drafting).collect();
        let wishes: Vec<Wish> = measured.iter_mut().map(|drafting| drafting.wish()).collect();
        let round = self.drafter.as_ref().map_or(0.0, Drafter::round);
        let drafts = plan(known.min(rows), deciding, &wishes, &self.costs, round);
        for (drafting, draft) in measured.into_iter().zip(drafts) {
            drafting.limit(draft);
        }
    }

    /// Lets the draft model read what this step reads, and draft what it has room for. Should it fail, it is given up.
    pub(crate) fn draft(&mut self, running: &mut [Sequence], chunks: &[Chunk]) {
        let Some(drafter) = &mut self.drafter else { return };
        let chunk_of = |id| chunks.iter().find(|chunk| chunk.id == id);
        // The plan knows sequences by their index.
        let indexed = (0..).zip(running.iter());
        let turns = indexed.filter_map(|(i, s)| turn(s, chunk_of(i)?));
        let mut turns: Vec<Turn> = turns.collect();
        let result = drafter.run(&mut turns);
        let drafts: Vec<(u64, Vec<u32>)> = turns.into_iter().map(|t| (t.id, t.draft)).collect();
        for (id, draft) in drafts.into_iter().filter(|(_, draft)| !draft.is_empty()) {
            if let Some(sequence) = running.iter_mut().find(|sequence| sequence.id == id) {
                sequence.drafting.tokens = draft;
            }
        }
        if result.is_err() {
            self.drafter = None;
        }
    }

    /// Learns how long a step took.
    pub(crate) fn learn(&mut self, rows: usize, seconds: f64) {
        if rows > 0 {
            self.costs.learn(rows, seconds);
        }
    }
}

/// What a draft model has to do for a sequence in this step, if anything.
fn turn<'a>(sequence: &'a Sequence, chunk: &Chunk) -> Option<Turn<'a>> {
    let (decodes, rows) = (sequence.decodes(), chunk.rows);
    let most = if decodes { rows - 1 } else { 0 };
    if sequence.drafting.mode == Speculate::Off
        || decodes && (most == 0 || !sequence.drafting.by_model())
    {
        return None;
    }
    let known = sequence.tokens.get(..chunk.start + rows - most)?;
    Some(Turn { id: sequence.id, known, most, draft: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps to write `text` after `prompt`, and the tokens that were drafted in vain.
    fn steps(prompt: &[u32], text: &[u32]) -> (usize, usize) {
        let mut drafting = Drafting::new(Speculate::On);
        let (mut tokens, goal) = (prompt.to_vec(), [prompt, text].concat());
        let mut steps = 0;
        while tokens.len() < goal.len() {
            let left = goal.len() - tokens.len();
            drafting.look_up(&tokens, (left - 1).min(MAX_DRAFT), false);
            let rest = &goal[tokens.len()..];
            let rows = drafting.tokens.len();
            let right = drafting.tokens.iter().zip(rest).take_while(|(a, b)| a == b).count();
            tokens.extend_from_slice(&rest[..right + 1]);
            drafting.settle(rows, right);
            steps += 1;
        }
        (steps, drafting.drafted - drafting.accepted)
    }

    fn replaced(text: &[u32], at: &[usize]) -> Vec<u32> {
        let replace = |(i, &token)| if at.contains(&i) { token + 1000 } else { token };
        text.iter().enumerate().map(replace).collect()
    }

    #[test]
    fn behind_a_replaced_token_the_draft_goes_on() {
        let text: Vec<u32> = (0..100).collect();
        // Two tokens find the place; then nine come in each step: 2 + 98 / 9.
        assert_eq!(steps(&text, &text), (13, 0));
        // One replaced: its step gives fewer, and the next one drafts again.
        assert_eq!(steps(&text, &replaced(&text, &[50])).0, 14);
        // Ten apart: a step for what is between, one for the rest.
        let every: Vec<usize> = (10..100).step_by(10).collect();
        let (apart, _) = steps(&text, &replaced(&text, &every));
        assert!(apart <= 2 + 3 * 10, "{apart}");
    }

    #[test]
    fn what_is_not_an_edit_is_given_up() {
        let text: Vec<u32> = (0..60).collect();
        // From 20 on it is another text: the place is tried once behind the wrong token.
        let other: Vec<u32> = (0..20).chain(500..540).collect();
        let (_, vain) = steps(&text, &other);
        assert!(vain <= 2 * MAX_DRAFT, "{vain}");
    }
}
