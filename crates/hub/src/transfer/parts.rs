//! The table of a file's parts: missing, claimed or here, who delivered each, and what is begun. Pure bookkeeping, no input or output.
//! Runs are handed out in the order of the file, so that the digest can follow, and get shorter towards the end.

use std::collections::HashMap;
use std::hash::Hasher;

use twox_hash::XxHash3_64;

/// No file is larger (16 TiB): a bound on what a table of parts may take.
pub(super) const MAX_BYTES: u64 = 1 << 44;
/// The longest run in one request.
const MAX_RUN: u64 = 64 << 20;

/// Who delivered a part: one of the job's origins by number, or nobody in particular (an earlier process, or two in turn).
pub(super) type By = Option<u16>;

/// The parts of a file of so many bytes.
pub(super) fn count(total: u64, part: u64) -> usize {
    usize::try_from(total.div_ceil(part.max(1))).unwrap_or(usize::MAX)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Missing,
    Claimed,
    Here,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub state: State,
    pub by: By,
    /// xxh3-64 of its bytes, once it is here.
    pub sum: u64,
    /// Whether the sum is of bytes that came in this transfer or were read again since.
    pub proven: bool,
}

const MISSING: Part = Part { state: State::Missing, by: None, sum: 0, proven: false };

/// A part that is being filled from its start.
#[derive(Clone)]
pub(super) struct Filling {
    pub index: usize,
    /// Bytes of it on the disk.
    pub done: u64,
    pub by: By,
    sum: XxHash3_64,
}

impl Filling {
    fn new(index: usize, by: By) -> Filling {
        Filling { index, done: 0, by, sum: XxHash3_64::new() }
    }

    /// Counts bytes in that follow those before.
    pub fn add(&mut self, bytes: &[u8]) {
        self.sum.write(bytes);
        self.done += bytes.len() as u64;
    }

    pub fn sum(&self) -> u64 {
        self.sum.finish()
    }
}

/// All parts of one file.
pub(super) struct Table {
    part: u64,
    total: Option<u64>,
    parts: Vec<Part>,
    begun: HashMap<usize, Filling>,
    missing: usize,
    /// No part before this one is missing.
    first: usize,
    /// Bytes of the parts that are here.
    here: u64,
}

impl Table {
    /// A file with nothing here yet. While its length is not known it has no parts.
    pub fn new(part: u64, total: Option<u64>) -> Table {
        let parts = vec![MISSING; total.map_or(0, |t| count(t, part))];
        let missing = parts.len();
        Table { part, total, parts, begun: HashMap::new(), missing, first: 0, here: 0 }
    }

    pub fn total(&self) -> Option<u64> {
        self.total
    }

    pub fn len(&self) -> usize {
        self.parts.len()
    }

    pub fn missing(&self) -> usize {
        self.missing
    }

    pub fn get(&self, index: usize) -> Option<&Part> {
        self.parts.get(index)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter()
    }

    /// Where a part starts.
    pub fn start(&self, index: usize) -> u64 {
        (index as u64).saturating_mul(self.part)
    }

    /// Where a part ends; in a file of unknown length all parts are full ones.
    pub fn end(&self, index: usize) -> u64 {
        self.start(index + 1).min(self.total.unwrap_or(u64::MAX))
    }

    pub fn part_len(&self, index: usize) -> u64 {
        self.end(index).saturating_sub(self.start(index))
    }

    /// Bytes kept: parts that are here and what is begun. What is being filled right now is the claims' to tell.
    pub fn kept(&self) -> u64 {
        self.here + self.begun.values().map(|f| f.done).sum::<u64>()
    }

    /// Claims the first missing part and those behind it, at most `most` and at most 64 MiB. A part that is begun only starts a run.
    pub fn run(&mut self, most: usize, by: By) -> Option<(Filling, usize)> {
        while self.parts.get(self.first).is_some_and(|p| p.state != State::Missing) {
            self.first += 1;
        }
        let first = self.first;
        let filling = self.claim(first, by)?;
        let most = most.min(usize::try_from(MAX_RUN / self.part).unwrap_or(1)).max(1);
        let mut end = first + 1;
        while end < first + most && !self.begun.contains_key(&end) && self.mark_claimed(end) {
            end += 1;
        }
        Some((filling, end))
    }

    /// Claims one part if it is missing.
    pub fn claim(&mut self, index: usize, by: By) -> Option<Filling> {
        self.mark_claimed(index).then(|| self.filling(index, by))
    }

    /// Claims the first missing part from `index` on.
    pub fn claim_from(&mut self, index: usize, by: By) -> Option<Filling> {
        let rest = self.parts.get(index..)?;
        let found = index + rest.iter().position(|p| p.state == State::Missing)?;
        self.claim(found, by)
    }

    /// Adds a claimed part at the end of a file of unknown length.
    pub fn grow(&mut self, by: By) -> Filling {
        self.parts.push(Part { state: State::Claimed, ..MISSING });
        self.filling(self.parts.len() - 1, by)
    }

    /// What there is of a claimed part.
    pub fn filling(&mut self, index: usize, by: By) -> Filling {
        match self.begun.remove(&index) {
            Some(begun) if begun.by == by => begun,
            Some(begun) => Filling { by: None, ..begun },
            None => Filling::new(index, by),
        }
    }

    /// Claims one more part for a run, if it is missing.
    pub fn mark_claimed(&mut self, index: usize) -> bool {
        match self.parts.get_mut(index) {
            Some(part) if part.state == State::Missing => {
                part.state = State::Claimed;
                self.missing -= 1;
                true
            }
            _ => false,
        }
    }

    /// A part is complete.
    pub fn fill(&mut self, index: usize, by: By, sum: u64, proven: bool) {
        let len = self.part_len(index);
        if let Some(part) = self.parts.get_mut(index).filter(|p| p.state != State::Here) {
            self.missing -= usize::from(part.state == State::Missing);
            *part = Part { state: State::Here, by, sum, proven };
            self.here += len;
        }
    }

    /// The bytes of a part were read again and are what its checksum says.
    pub fn prove(&mut self, index: usize) {
        if let Some(part) = self.parts.get_mut(index) {
            part.proven = true;
        }
    }

    /// The first part from `index` on that an earlier transfer left and nobody has looked at, with its checksum.
    pub fn unproven(&self, index: usize) -> Option<(usize, u64)> {
        let rest = self.parts.iter().enumerate().skip(index);
        let mut unproven = rest.filter(|(_, p)| p.state == State::Here && !p.proven);
        unproven.next().map(|(i, p)| (i, p.sum))
    }

    /// A claimed part is given back, with what there is of it.
    pub fn release(&mut self, index: usize, begun: Option<Filling>) {
        let Some(part) = self.parts.get_mut(index).filter(|p| p.state == State::Claimed) else {
            return;
        };
        *part = MISSING;
        self.missing += 1;
        self.first = self.first.min(index);
        if let Some(begun) = begun.filter(|b| b.done > 0) {
            self.begun.insert(index, begun);
        }
    }

    /// A part that seemed to be here is missing after all.
    pub fn discard(&mut self, index: usize) {
        let len = self.part_len(index);
        if let Some(part) = self.parts.get_mut(index).filter(|p| p.state == State::Here) {
            *part = MISSING;
            self.here -= len;
            self.missing += 1;
            self.first = self.first.min(index);
        }
    }

    /// Forgets what is begun, all of it or what one origin had a part in.
    pub fn drop_begun(&mut self, by: Option<By>) {
        self.begun.retain(|_, begun| by.is_some_and(|by| begun.by != by && begun.by.is_some()));
    }

    /// The file turns out to have this length: parts that exist are kept, missing ones are added.
    pub fn set_total(&mut self, total: u64) {
        self.total = Some(total);
        let len = count(total, self.part);
        self.missing += len.saturating_sub(self.parts.len());
        self.parts.resize(len, MISSING);
    }
}

/// How many parts a request shall ask for: all connections get several turns of what is missing.
pub(super) fn run_length(missing: usize, connections: usize) -> usize {
    (missing / (2 * connections.max(1))).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn runs_go_in_order_and_shrink_to_the_end() {
        let mut table = Table::new(4 * MIB, Some(1000 * MIB + 1));
        assert_eq!(table.len(), 251);
        let (mut at, mut lengths) = (0, Vec::new());
        while let Some((filling, end)) = table.run(run_length(table.missing(), 4), Some(0)) {
            assert_eq!(filling.index, at);
            lengths.push(end - at);
            at = end;
        }
        assert_eq!((at, table.missing(), lengths[0]), (251, 0, 16));
        assert!(lengths.windows(2).all(|w| w[0] >= w[1]) && lengths.ends_with(&[1, 1, 1, 1]));
        assert_eq!(table.part_len(250), 1);
    }

    #[test]
    fn what_is_begun_is_kept_and_only_starts_a_run() {
        let mut table = Table::new(10, Some(95));
        let (mut first, end) = table.run(5, Some(1)).unwrap();
        assert_eq!(end, 5);
        first.add(b"abc");
        for index in 1..5 {
            table.release(index, None);
        }
        let (mut second, end) = table.run(2, Some(1)).unwrap();
        assert_eq!((second.index, end), (1, 3));
        second.add(b"1234");
        table.release(1, Some(second));
        table.release(0, Some(first));
        assert_eq!((table.kept(), table.missing()), (7, 9));
        let (again, end) = table.run(5, Some(2)).unwrap();
        assert_eq!((again.index, again.done, again.by, end), (0, 3, None, 1));
        let (other, end) = table.run(5, Some(1)).unwrap();
        assert_eq!((other.index, other.done, other.by, end), (1, 4, Some(1), 2));
        assert_eq!(again.sum(), XxHash3_64::oneshot(b"abc"));
    }

    #[test]
    fn lengths_are_learned() {
        let mut table = Table::new(10, None);
        assert!(table.run(4, None).is_none());
        let filling = table.grow(Some(0));
        assert_eq!((filling.index, table.part_len(0)), (0, 10));
        table.fill(0, Some(0), 1, true);
        table.set_total(25);
        assert_eq!((table.len(), table.missing(), table.kept(), table.part_len(2)), (3, 2, 10, 5));
    }
}
