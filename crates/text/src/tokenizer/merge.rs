//! Greedy pair merging: the loop that byte-level BPE and SentencePiece BPE share.
//! A linked list of symbols and a heap of candidate pairs, n log n in the worst case: a megabyte of one character is one word.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A run of the word's bytes and what it currently stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Symbol {
    /// Token, or an id beyond the vocabulary for text that has none.
    pub(super) id: u32,
    /// Byte range in the word.
    pub(super) start: u32,
    pub(super) len: u32,
    next: u32,
    prev: u32,
}

/// "No neighbour".
const NONE: u32 = u32::MAX;

/// A pair that may be merged; the order of the heap is rank, then position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: u32,
    /// Length of the pair when it was found: differs once either half has changed.
    len: u32,
    id: u32,
}

/// The lookup that tells an algorithm from another: rank (lower is merged first) and id of a pair, if it can be merged.
pub(super) trait Pairs {
    /// `left` and `right` are adjacent in `word`.
    fn find(&self, word: &[u8], left: &Symbol, right: &Symbol) -> Option<(u32, u32)>;
}

/// Working memory, kept between words.
#[derive(Debug, Default)]
pub(super) struct Merger {
    symbols: Vec<Symbol>,
    heap: BinaryHeap<Reverse<Candidate>>,
}

impl Merger {
    /// Starts a new word.
    pub(super) fn clear(&mut self) {
        self.symbols.clear();
        self.heap.clear();
    }

    /// Appends an initial symbol of `len` bytes.
    pub(super) fn push(&mut self, id: u32, len: usize) {
        let at = self.symbols.len() as u32;
        let start = self.symbols.last().map_or(0, |s| s.start + s.len);
        if let Some(last) = self.symbols.last_mut() {
            last.next = at;
        }
        let prev = at.wrapping_sub(1);
        self.symbols.push(Symbol { id, start, len: len as u32, next: NONE, prev });
    }

    /// Merges until no pair can be, then calls `each` with what is left.
    pub(super) fn run(&mut self, word: &[u8], pairs: &impl Pairs, mut each: impl FnMut(&Symbol)) {
        for left in 0..self.symbols.len() as u32 {
            self.consider(word, pairs, left);
        }
        while let Some(Reverse(best)) = self.heap.pop() {
            self.apply(word, pairs, best);
        }
        let mut at = 0;
        while let Some(symbol) = self.symbols.get(at as usize) {
            each(symbol);
            at = symbol.next;
        }
    }

    /// Puts the pair that starts at `left` on the heap.
    fn consider(&mut self, word: &[u8], pairs: &impl Pairs, left: u32) {
        let Some(a) = self.symbols.get(left as usize) else { return };
        let Some(b) = self.symbols.get(a.next as usize) else { return };
        if let Some((rank, id)) = pairs.find(word, a, b) {
            self.heap.push(Reverse(Candidate { rank, left, len: a.len + b.len, id }));
        }
    }

    fn apply(&mut self, word: &[u8], pairs: &impl Pairs, best: Candidate) {
        let Some(&a) = self.symbols.get(best.left as usize) else { return };
        let Some(&b) = self.symbols.get(a.next as usize) else { return };
        // A swallowed symbol has length zero; a grown one makes the sum differ.
        if a.len == 0 || a.len + b.len != best.len {
            return;
        }
        if let Some(swallowed) = self.symbols.get_mut(a.next as usize) {
            swallowed.len = 0;
        }
        if let Some(after) = self.symbols.get_mut(b.next as usize) {
            after.prev = best.left;
        }
        if let Some(merged) = self.symbols.get_mut(best.left as usize) {
            *merged = Symbol { id: best.id, len: best.len, next: b.next, ..a };
        }
        self.consider(word, pairs, a.prev);
        self.consider(word, pairs, best.left);
    }
}
