//! Drafts by a second, smaller model with the same vocabulary: it reads what the first one reads, on pages of its own,
//! and continues greedily. What it proposed in vain is computed over. Its failures cost drafts, never an answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use hob_model::{Batch, Head, Output, Place};
use hob_text::Tokenizer;

use crate::Runner;
use crate::fault::tried;
use crate::pages::{Pages, Room, Table};

/// Ids that one of two equal vocabularies may have more, as padding.
const PADDING: usize = 256;
/// Part of a new measurement in a running average.
const WEIGHT: f64 = 0.2;

/// A model that drafts for another.
pub struct Draft {
    /// The model; of its limits `rows`, `pages`, `sequences` and `logits` should be as for the one that it drafts for.
    pub runner: Runner,
    /// Its tokenizer, to be compared with the other's token by token.
    pub tokenizer: Option<Arc<Tokenizer>>,
}

/// Why a model cannot draft for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// Their vocabularies differ in size.
    #[error(
        "the draft model knows {draft} tokens, but the model {target}: they must share a vocabulary"
    )]
    Size {
        /// Tokens of the model.
        target: usize,
        /// Tokens of the draft model.
        draft: usize,
    },
    /// A token means different bytes.
    #[error("token {token} is another text for the draft model: they must share a vocabulary")]
    Token {
        /// The first such token.
        token: u32,
    },
    /// Its kind cannot draft.
    #[error("the draft model cannot draft: {0}")]
    Unfit(&'static str),
}

impl Draft {
    /// Checks that it can draft for a model; gives the number of tokens that both know.
    pub(crate) fn check(
        &self,
        target: &Runner,
        tokenizer: &Tokenizer,
    ) -> Result<usize, DraftError> {
        let model = self.runner.model();
        let (target, draft) = (target.model().vocab as usize, model.vocab as usize);
        if matches!(model.head, Head::Pool(_)) {
            return Err(DraftError::Unfit("it is an encoder"));
        }
        if !self.runner.layout().states.is_empty() {
            return Err(DraftError::Unfit("its recurrent state cannot be taken back"));
        }
        if target.abs_diff(draft) > PADDING {
            return Err(DraftError::Size { target, draft });
        }
        let common = target.min(draft);
        let Some(own) = &self.tokenizer else { return Ok(common) };
        let known = own.vocab_size().min(tokenizer.vocab_size()).min(common) as u32;
        let differs = |&t: &u32| own.token_bytes(t, true) != tokenizer.token_bytes(t, true);
        match (0..known).find(differs) {
            Some(token) => Err(DraftError::Token { token }),
            None => Ok(common),
        }
    }
}

/// What a sequence has on the draft model's device.
struct Lane {
    table: Table,
    /// Tokens whose keys and values are in place.
    tokens: Vec<u32>,
}

/// A sequence that the draft model is to continue.
pub(super) struct Turn<'a> {
    pub(super) id: u64,
    /// Its tokens, all of them chosen.
    pub(super) known: &'a [u32],
    /// Tokens to draft; none to let the model read only.
    pub(super) most: usize,
    /// What was drafted.
    pub(super) draft: Vec<u32>,
}

/// A draft model at work.
pub(crate) struct Drafter {
    runner: Runner,
    pages: Pages,
    lanes: HashMap<u64, Lane>,
    /// Tokens below it are known to both models.
    common: u32,
    batch: Batch,
    /// Seconds of a round: one token for every sequence.
    round: f64,
}

impl Drafter {
    pub(crate) fn new(runner: Runner, sequences: usize, common: usize) -> Self {
        let room = Room::of(runner.layout(), runner.limits(), sequences, true);
        let pages = Pages::new(&room);
        let common = u32::try_from(common).unwrap_or(u32::MAX);
        let batch = Batch::new();
        Drafter { runner, pages, lanes: HashMap::new(), common, batch, round: 0.0 }
    }

    /// Seconds that each further token of a draft takes.
    pub(super) fn round(&self) -> f64 {
        self.round
    }

    /// Forgets the sequences that do not run any more.
    pub(super) fn keep(&mut self, runs: impl Fn(u64) -> bool) {
        let ended: Vec<u64> = self.lanes.keys().copied().filter(|&id| !runs(id)).collect();
        for lane in ended.into_iter().filter_map(|id| self.lanes.remove(&id)) {
            self.pages.release(lane.table);
        }
    }

    /// Whether a sequence of `tokens`, which may grow to `positions`, has pages here; gives it some if there are any.
    pub(super) fn serves(&mut self, id: u64, tokens: &[u32], positions: usize) -> bool {
        if !self.lanes.contains_key(&id) {
            let Some(table) = self.pages.admit(tokens, positions) else { return false };
            let tokens = tokens[..table.cached()].to_vec();
            self.lanes.insert(id, Lane { table, tokens });
        }
        true
    }

    /// Reads what is known and drafts what is wanted. What does not fit into a step of this device is read in the next
    /// call, and drafted for then.
    pub(super) fn run(&mut self, turns: &mut [Turn]) -> Result<(), String> {
        turns.iter().for_each(|turn| self.settle(turn));
        let mut tips = self.read(turns)?;
        while !tips.is_empty() {
            let start = Instant::now();
            let chosen = self.choose(tips.len())?;
            let mut next = Vec::new();
            for (&tip, token) in tips.iter().zip(chosen) {
                let turn = &mut turns[tip];
                if token < self.common {
                    turn.draft.push(token);
                    next.extend((turn.draft.len() < turn.most).then_some(tip));
                }
            }
            tips = self.go_on(turns, &next)?;
            if !tips.is_empty() {
                self.round += WEIGHT * (start.elapsed().as_secs_f64() - self.round);
            }
        }
        Ok(())
    }

    /// Brings a lane in accord with what was chosen.
    fn settle(&mut self, turn: &Turn) {
        if let Some(lane) = self.lanes.get_mut(&turn.id) {
            let same = lane.tokens.iter().zip(turn.known).take_while(|(a, b)| a == b).count();
            // The last known token is read again if need be: its logits are wanted.
            lane.tokens.truncate(same.min(turn.known.len() - 1));
            self.pages.publish(&mut lane.table, &lane.tokens);
        }
    }

    /// Reads known tokens. Which turns can be drafted for, in the order of the outputs.
    fn read(&mut self, turns: &[Turn]) -> Result<Vec<usize>, String> {
        self.batch.clear();
        let (mut tips, mut left) = (Vec::new(), self.runner.limits().rows);
        let common = self.common;
        for (i, turn) in turns.iter().enumerate() {
            let Some(lane) = self.lanes.get(&turn.id) else { continue };
            let start = lane.tokens.len();
            let rows = (turn.known.len() - start).min(left);
            let tokens = &turn.known[start..start + rows];
            let tip = start + rows == turn.known.len() && turn.most > 0;
            if rows > 0 && tokens.iter().all(|&t| t < common) && self.push(turn, tokens, tip)? {
                left -= rows;
                tips.extend(tip.then_some(i));
            }
        }
        tried(|| self.runner.step(&self.batch))?;
        Ok(tips)
    }

    /// Computes the last drafted token of these turns; those that could be.
    fn go_on(&mut self, turns: &[Turn], which: &[usize]) -> Result<Vec<usize>, String> {
        self.batch.clear();
        let mut tips = Vec::new();
        for &i in which {
            let turn = &turns[i];
            let last = turn.draft.last().map(std::slice::from_ref).unwrap_or_default();
            if self.push(turn, last, true)? {
                tips.push(i);
            }
        }
        tried(|| self.runner.step(&self.batch))?;
        Ok(tips)
    }

    /// Puts the next rows of a lane into the batch. False when there is no page for them.
    fn push(&mut self, turn: &Turn, tokens: &[u32], output: bool) -> Result<bool, String> {
        let Some(lane) = self.lanes.get_mut(&turn.id) else { return Ok(false) };
        let start = lane.tokens.len();
        // Windows move on with what was chosen, not with what was drafted: from there it may have to go on.
        let chosen = start.min(turn.known.len() - 1);
        if tokens.is_empty() || !self.pages.cover(&mut lane.table, chosen..start + tokens.len()) {
            return Ok(false);
        }
        let tables = lane.table.tables();
        let place = Place { tables: &tables, state: 0 };
        let output = if output { Output::Last } else { Output::None };
        let pushed = self.batch.push_at(tokens, start as u32, &place, output);
        pushed.map_err(|error| error.to_string())?;
        lane.tokens.extend_from_slice(tokens);
        Ok(true)
    }

    /// The likeliest token of each output.
    fn choose(&mut self, outputs: usize) -> Result<Vec<u32>, String> {
        let (vocab, most) = (self.runner.model().vocab as usize, self.runner.limits().logits);
        let mut chosen = Vec::with_capacity(outputs);
        while chosen.len() < outputs {
            let end = outputs.min(chosen.len() + most);
            let logits = tried(|| self.runner.logits(chosen.len()..end))?;
            chosen.extend(logits.chunks_exact(vocab).map(likeliest));
        }
        Ok(chosen)
    }
}

/// Index of the first largest.
fn likeliest(logits: &[f32]) -> u32 {
    let first = (0, f32::NEG_INFINITY);
    let best =
        logits.iter().zip(0..).fold(first, |best, (&x, i)| if x > best.1 { (i, x) } else { best });
    best.0
}
