//! A ragged batch: spans of many sequences, prefill and decode alike, flattened into rows.
//! It holds integers only: tokens, positions, page tables, state slots. Embeddings as input are absent.

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

/// Page number of positions that a table has given back: they lie before the window of the group's layers.
pub const NO_PAGE: u32 = u32::MAX;

/// Where a sequence lives on the device.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Page tables by position / [`PAGE`], one for each group of [`crate::CacheLayout`]; a single one serves all groups.
    pub tables: &'a [&'a [u32]],
    /// Slot of its recurrent state.
    pub state: u32,
}

/// Consecutive rows of one sequence.
#[derive(Clone, Debug)]
pub struct Span {
    /// Rows of the batch.
    pub rows: Range<usize>,
    /// Position of the first row in its sequence.
    pub start: u32,
    /// Range of [`Batch::all_pages`]: the pages of positions `0 .. start + rows.len()`, in order, in the first group.
    /// Those of the other groups follow, as many for each.
    pub pages: Range<usize>,
    /// Tables that it brought.
    pub tables: usize,
    /// Slot of its recurrent state.
    pub state: u32,
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

    /// Adds `tokens` at positions `start ..` of the sequence whose pages are `pages` in every group of layers, and whose
    /// state is in slot 0: what a caller with one sequence needs.
    pub fn push(
        &mut self,
        tokens: &[u32],
        start: u32,
        pages: &[u32],
        output: Output,
    ) -> Result<(), BatchError> {
        self.push_at(tokens, start, &Place { tables: &[pages], state: 0 }, output)
    }

    /// Adds `tokens` at positions `start ..` of the sequence that lives at `place`.
    pub fn push_at(
        &mut self,
        tokens: &[u32],
        start: u32,
        place: &Place,
        output: Output,
    ) -> Result<(), BatchError> {
        let end = start as usize + tokens.len();
        if tokens.is_empty() {
            return Err(BatchError::Empty);
        }
        let shortest = place.tables.iter().map(|t| t.len()).min().unwrap_or(0);
        if shortest * PAGE < end {
            return Err(BatchError::Pages { pages: shortest, positions: end });
        }
        let (row, page, count) = (self.tokens.len(), self.pages.len(), end.div_ceil(PAGE));
        let rows = row..row + tokens.len();
        match output {
            Output::None => {}
            Output::Last => self.outputs.push(rows.end as u32 - 1),
            Output::All => self.outputs.extend(rows.clone().map(|r| r as u32)),
        }
        self.tokens.extend_from_slice(tokens);
        self.positions.extend((0..tokens.len() as u32).map(|i| start + i));
        for table in place.tables {
            self.pages.extend_from_slice(&table[..count]);
        }
        let (tables, state) = (place.tables.len(), place.state);
        self.spans.push(Span { rows, start, pages: page..page + count, tables, state, output });
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

    /// Range of [`Batch::all_pages`] with the page table of a span in a group of layers.
    pub fn table(span: &Span, group: usize) -> Range<usize> {
        let (len, group) = (span.pages.len(), if span.tables > 1 { group } else { 0 });
        span.pages.start + group * len..span.pages.start + (group + 1) * len
    }

    /// The page table of a span in a group of layers.
    pub fn pages(&self, span: &Span, group: usize) -> &[u32] {
        &self.pages[Self::table(span, group)]
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
