//! A ragged batch: spans of many sequences, prefill and decode alike, flattened into rows.
//! It holds integers only (tokens, positions, page tables); embeddings as input come with the encoders.

use std::ops::Range;

use crate::PAGE;

/// What a span wants back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Nothing: a prefill chunk that is not the last.
    None,
    /// The hidden state of the last row.
    Last,
    /// The hidden state of every row.
    All,
}

/// Consecutive rows of one sequence.
#[derive(Clone, Debug)]
pub struct Span {
    /// Rows of the batch.
    pub rows: Range<usize>,
    /// Position of the first row in its sequence.
    pub start: u32,
    /// Range of [`Batch::pages`]: the pages of positions `0 .. start + rows.len()`, in order.
    pub pages: Range<usize>,
    /// What it wants.
    pub output: Output,
}

/// The rows of one step.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    pages: Vec<u32>,
    spans: Vec<Span>,
    outputs: Vec<u32>,
}

/// A span that cannot be run.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// A span without rows.
    #[error("a span needs at least one token")]
    Empty,
    /// The page table does not cover the positions.
    #[error("{pages} pages of {PAGE} positions do not hold {positions} positions")]
    Pages {
        /// Pages given.
        pages: usize,
        /// Positions to hold.
        positions: usize,
    },
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the rows, keeps the memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.pages.clear();
        self.spans.clear();
        self.outputs.clear();
    }

    /// Adds `tokens` at positions `start ..` of the sequence whose KV pages are `pages`.
    pub fn push(
        &mut self,
        tokens: &[u32],
        start: u32,
        pages: &[u32],
        output: Output,
    ) -> Result<(), BatchError> {
        let end = start as usize + tokens.len();
        if tokens.is_empty() {
            return Err(BatchError::Empty);
        }
        if pages.len() * PAGE < end {
            return Err(BatchError::Pages { pages: pages.len(), positions: end });
        }
        let (row, page) = (self.tokens.len(), self.pages.len());
        let rows = row..row + tokens.len();
        match output {
            Output::None => {}
            Output::Last => self.outputs.push(rows.end as u32 - 1),
            Output::All => self.outputs.extend(rows.clone().map(|r| r as u32)),
        }
        self.tokens.extend_from_slice(tokens);
        self.positions.extend((0..tokens.len() as u32).map(|i| start + i));
        self.pages.extend_from_slice(&pages[..end.div_ceil(PAGE)]);
        self.spans.push(Span { rows, start, pages: page..self.pages.len(), output });
        Ok(())
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// Token of each row.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Position of each row in its sequence.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// The spans in row order.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The page table of a span.
    pub fn pages(&self, span: &Span) -> &[u32] {
        &self.pages[span.pages.clone()]
    }

    /// The page tables of all spans; [`Span::pages`] are ranges of it.
    pub fn all_pages(&self) -> &[u32] {
        &self.pages
    }

    /// Rows whose hidden state is wanted, in order.
    pub fn outputs(&self) -> &[u32] {
        &self.outputs
    }
}
