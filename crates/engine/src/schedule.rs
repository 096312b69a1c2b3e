//! Which rows the next step computes: a plain value computed from plain values. Continuous batching with chunked
//! prefill. A sequence is admitted only when pages for its whole length are promised, so running work is never
//! preempted; hence there is no swapping and no recomputation here. Who is admitted is the queue's decision.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::client::{Client, Share, level};

/// A sequence that holds pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// Caller's name for it.
    pub id: u64,
    /// Whose it is.
    pub client: Client,
    /// What its client had.
    pub share: Share,
    /// Higher goes first.
    pub priority: i8,
    /// Positions whose keys and values are in place.
    pub computed: usize,
    /// Tokens known; more than `computed`. One more means decoding, several prefill.
    pub known: usize,
    /// Position beyond `computed` that no step may run over, as something is to be done there; `usize::MAX` for none.
    pub stop_at: usize,
    /// Step of its admission.
    pub began: u64,
    /// Tokens proposed beyond the known ones while it decodes: rows that it can use but does not need.
    pub draft: usize,
    /// Step at which it last had rows (or was admitted).
    pub served: u64,
}

impl Running {
    /// Rows that it could have in a step.
    fn wants(&self) -> usize {
        self.known.min(self.stop_at) - self.computed
    }

    fn decodes(&self) -> bool {
        self.known - self.computed == 1
    }
}

/// What a step may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Rows of a step, at least 1.
    pub rows: usize,
    /// Rows of a step while a sequence decodes (its next token waits for all of them), from 1 to `rows`.
    pub mixed_rows: usize,
    /// Sequences running at once, at least 1.
    pub sequences: usize,
}

/// Rows of one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The sequence.
    pub id: u64,
    /// Position of the first row.
    pub start: usize,
    /// Number of rows, at least 1; those beyond the known tokens are for drafted ones.
    pub rows: usize,
    /// Whether the last known token has a row, whose logits choose the next.
    pub last: bool,
}

/// Plans a step of what runs, given in order of admission.
///
/// Every decoding sequence gets one row. What is left goes to the prefills of one client after the other: by the highest
/// priority among them, which grows while they have nothing, then by the rows that the clients had. Of a client's
/// prefills the oldest gets half, so that none waits for ever; then the shortest of the highest priority go first.
/// What they leave goes to drafts, in equal parts. Where decoding takes all rows and more is running, everybody takes turns.
pub fn schedule(running: &[Running], budget: &Budget, now: u64) -> Vec<Chunk> {
    let decoding = running.iter().filter(|r| r.decodes()).count();
    let most = match decoding {
        0 => budget.rows,
        _ => budget.rows.min(decoding + budget.mixed_rows),
    };
    let rows = match decoding >= most && running.len() > most {
        true => turns(running, most),
        false => shares(running, most - decoding, now),
    };
    let chunk = |(r, rows): (&Running, usize)| Chunk {
        id: r.id,
        start: r.computed,
        rows,
        last: r.computed + rows >= r.known,
    };
    let planned = running.iter().zip(rows).filter(|&(_, rows)| rows > 0);
    let mut chunks: Vec<(bool, Chunk)> = planned.map(|p| (!p.0.decodes(), chunk(p))).collect();
    chunks.sort_by_key(|&(prefill, _)| prefill);
    chunks.into_iter().map(|(_, chunk)| chunk).collect()
}

/// One row for each of those that waited longest.
fn turns(running: &[Running], most: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..running.len()).collect();
    order.sort_by_key(|&i| running[i].served);
    let mut rows = vec![0; running.len()];
    order[..most].iter().for_each(|&i| rows[i] = 1);
    rows
}

/// One row for whoever decodes, and `left` for prefills.
fn shares(running: &[Running], mut left: usize, now: u64) -> Vec<usize> {
    let mut rows: Vec<usize> = running.iter().map(|r| usize::from(r.decodes())).collect();
    let mut groups: BTreeMap<Client, Vec<usize>> = BTreeMap::new();
    for (i, r) in running.iter().enumerate().filter(|(_, r)| !r.decodes()) {
        groups.entry(r.client).or_default().push(i);
    }
    let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
    groups.sort_by_cached_key(|group| {
        let oldest = &running[group[0]];
        let since = oldest.share.filled.max(oldest.began);
        let level = group.iter().map(|&i| level(running[i].priority, since, now)).max();
        (Reverse(level), oldest.share.rows, group[0])
    });
    for mut group in groups {
        let oldest = group[0];
        rows[oldest] = running[oldest].wants().min(left.div_ceil(2));
        left -= rows[oldest];
        group.sort_by_key(|&i| {
            (Reverse(running[i].priority), running[i].known - running[i].computed)
        });
        for i in group {
            let more = (running[i].wants() - rows[i]).min(left);
            rows[i] += more;
            left -= more;
        }
    }
    draft(running, &mut rows, left);
    rows
}

/// Gives `left` rows to drafts in equal parts, where what one does not need goes to the others.
fn draft(running: &[Running], rows: &mut [usize], mut left: usize) {
    let wants = |i: usize, rows: &[usize]| {
        let draft = if running[i].decodes() && rows[i] > 0 { running[i].draft } else { 0 };
        draft.saturating_sub(rows[i].saturating_sub(1))
    };
    while left > 0 {
        let hungry: Vec<usize> = (0..running.len()).filter(|&i| wants(i, rows) > 0).collect();
        if hungry.is_empty() {
            return;
        }
        let part = (left / hungry.len()).max(1);
        for i in hungry {
            let more = part.min(wants(i, rows)).min(left);
            rows[i] += more;
            left -= more;
        }
    }
}

#[cfg(test)]
mod tests;
