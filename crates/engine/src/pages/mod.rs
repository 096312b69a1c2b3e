//! Which memory belongs to whom: KV pages of every group of layers and slots of recurrent state, promised, counted, and
//! found again by the tokens that led to them. Integers only: the memory is the backend's. A prefix can be continued where
//! every group still has the pages that its next row sees and, on recurrent models, a checkpoint has the state. Absent:
//! partly filled pages are not shared, and nothing is moved to make room.

mod group;
mod prefix;
mod slots;

use std::ops::Range;

use hob_model::{CacheKind, CacheLayout, Limits, NO_PAGE, PAGE};

use group::{Group, Lane};
use prefix::{Prefixes, ROOT};
use slots::Slots;

/// Pages between the checkpoints of a long prompt.
const STRIDE: usize = 16;

/// The pages of a group of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupRoom {
    /// How many there are.
    pub pages: usize,
    /// Positions that a row sees, its own included; `None` for all.
    pub window: Option<usize>,
}

/// Slots of recurrent state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateRoom {
    /// For running sequences.
    pub sequences: usize,
    /// For the states after prefixes.
    pub checkpoints: usize,
}

/// What a device has for sequences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Groups of layers; at least one.
    pub groups: Vec<GroupRoom>,
    /// Rows of the largest step.
    pub rows: usize,
    /// Present on recurrent models.
    pub states: Option<StateRoom>,
    /// Whether a prefix means the same whatever follows it: not where rows see what comes after them.
    pub reuse: bool,
}

impl Room {
    /// The room of a device that was built for `limits`, of which `sequences` are to run at once.
    pub fn of(layout: &CacheLayout, limits: &Limits, sequences: usize, reuse: bool) -> Self {
        let groups = layout.groups.iter().map(|group| GroupRoom {
            pages: group.pages(limits),
            window: match group.kind {
                CacheKind::Window(window) => Some(window as usize),
                CacheKind::Full | CacheKind::Latent => None,
            },
        });
        let mut groups: Vec<GroupRoom> = groups.collect();
        if groups.is_empty() {
            // Without attention nothing is behind these pages; they bound lengths all the same.
            groups.push(GroupRoom { pages: limits.pages, window: None });
        }
        let checkpoints = limits.states.saturating_sub(sequences);
        let states = (!layout.states.is_empty()).then_some(StateRoom { sequences, checkpoints });
        Room { groups, rows: limits.rows, states, reuse }
    }
}

/// What one sequence holds. Give it back with [`Pages::release`].
#[derive(Debug)]
pub struct Table {
    lanes: Vec<Lane>,
    cached: usize,
    published: usize,
    prefix: u64,
    /// Pages of the longest prefix of its prompt that leaves a token: where another turn can go on.
    tip: usize,
    state: Option<u32>,
    resumes: Option<u32>,
}

impl Table {
    /// Page numbers of every group, by position / 64; [`NO_PAGE`] where a window has passed.
    pub fn tables(&self) -> Vec<&[u32]> {
        self.lanes.iter().map(|lane| lane.pages.as_slice()).collect()
    }

    /// Slot of its recurrent state; 0 where there is none.
    pub fn state(&self) -> u32 {
        self.state.unwrap_or(0)
    }

    /// Slot whose contents its state starts with. To be copied before anything else is computed or kept.
    pub fn resumes(&self) -> Option<u32> {
        self.resumes
    }

    /// Positions that were in the cache when the sequence was admitted.
    pub fn cached(&self) -> usize {
        self.cached
    }
}

/// What a sequence would take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Positions found in the cache.
    pub cached: usize,
    /// Pages taken out of the available ones, in every group.
    pub pages: Vec<usize>,
}

/// All pages and slots of a backend.
#[derive(Debug)]
pub struct Pages {
    groups: Vec<Group>,
    slots: Option<Slots>,
    prefixes: Prefixes,
    reuse: bool,
}

impl Pages {
    /// All of the room, free.
    pub fn new(room: &Room) -> Self {
        let groups = room.groups.iter().map(|g| Group::new(g.pages, g.window, room.rows));
        Pages {
            groups: groups.collect(),
            slots: room.states.map(|s| Slots::new(s.sequences, s.checkpoints)),
            prefixes: Prefixes::new(room.groups.len()),
            reuse: room.reuse,
        }
    }

    /// Pages that a new sequence can have, in every group: free or evictable, and not promised.
    pub fn available(&self) -> Vec<usize> {
        self.groups.iter().map(Group::available).collect()
    }

    /// Pages that can be found by their tokens, over all groups.
    pub fn cached(&self) -> usize {
        self.groups.iter().map(Group::found).sum()
    }

    /// States that are kept after prefixes.
    pub fn checkpoints(&self) -> usize {
        self.slots.as_ref().map_or(0, Slots::kept)
    }

    /// What [`Pages::admit`] would take.
    pub fn quote(&self, tokens: &[u32], positions: usize) -> Quote {
        let path = self.find(tokens);
        let prices = self.groups.iter().enumerate();
        let pages = prices.map(|(g, group)| group.price(&self.pages_of(&path, g), positions));
        Quote { cached: path.len() * PAGE, pages: pages.collect() }
    }

    /// Starts a sequence that begins with `tokens` and may grow to `positions`: takes the longest cached prefix that
    /// leaves at least one of `tokens` to compute, and promises the rest. `None` when there is too little.
    pub fn admit(&mut self, tokens: &[u32], positions: usize) -> Option<Table> {
        let quote = self.quote(tokens, positions);
        if quote.pages.iter().zip(self.available()).any(|(&price, available)| price > available) {
            return None;
        }
        let state = match &mut self.slots {
            None => None,
            Some(slots) => Some(slots.take()?),
        };
        let path = self.find(tokens);
        let prefix = path.last().copied().unwrap_or(ROOT);
        let resumes = self.prefixes.state(prefix);
        if let (Some(slots), Some(slot)) = (&mut self.slots, resumes) {
            slots.touch(slot);
        }
        self.prefixes.hold(prefix);
        let lanes = (0..self.groups.len()).map(|g| {
            let pages = self.pages_of(&path, g);
            self.groups[g].enter(pages, positions)
        });
        Some(Table {
            lanes: lanes.collect(),
            cached: quote.cached,
            published: path.len(),
            prefix,
            tip: tip(tokens.len()),
            state,
            resumes,
        })
    }

    /// Makes the table ready for the rows of these positions: gives back what they do not see, and takes pages for them
    /// out of its promise. False when that is more than was promised.
    pub fn cover(&mut self, table: &mut Table, rows: Range<usize>) -> bool {
        for (g, lane) in table.lanes.iter_mut().enumerate() {
            let ends = self.groups[g].first(table.tip * PAGE)..table.tip;
            self.groups[g].slide(lane, rows.start, ends);
            while lane.pages.len() * PAGE < rows.end {
                match self.groups[g].grow(lane) {
                    Some(ROOT) => {}
                    Some(evicted) => self.forget(evicted, g),
                    None => return false,
                }
            }
        }
        true
    }

    /// Makes the pages that `computed` (all tokens whose keys and values are in place) fills up known to others. Where
    /// another sequence has published the same prefix meanwhile, the table takes that page and frees its own.
    pub fn publish(&mut self, table: &mut Table, computed: &[u32]) {
        if !self.reuse {
            return;
        }
        let (full, _) = computed.as_chunks::<PAGE>();
        for tokens in full.iter().skip(table.published) {
            table.prefix = self.prefixes.advance(table.prefix, tokens);
            for (g, lane) in table.lanes.iter_mut().enumerate() {
                let Some(&own) = lane.pages.get(table.published) else { continue };
                match self.prefixes.page(table.prefix, g) {
                    Some(other) if other != own => {
                        self.groups[g].share(lane, table.published, other);
                    }
                    Some(_) => {}
                    None => {
                        self.prefixes.set_page(table.prefix, g, own);
                        self.groups[g].name(own, table.prefix);
                    }
                }
            }
            table.published += 1;
        }
    }

    /// Position at which a step is to end, so that the state there can be kept: the end of a prompt's last full page, and
    /// those of every few pages before while there are spare slots. `usize::MAX` when there is none after `computed`.
    pub fn stop_at(&self, prompt: usize, computed: usize) -> usize {
        let Some(slots) = self.slots.as_ref().filter(|s| self.reuse && s.keeps()) else {
            return usize::MAX;
        };
        let (tip, stride) = (tip(prompt) * PAGE, STRIDE * PAGE);
        match (computed < tip, slots.has_spare()) {
            (false, _) => usize::MAX,
            (true, false) => tip,
            (true, true) => tip.min((computed / stride + 1) * stride),
        }
    }

    /// Slot to copy the state of a sequence to that stands at a position worth keeping, all of it published.
    pub fn keep(&mut self, table: &Table, computed: usize) -> Option<u32> {
        let slots = self.slots.as_mut()?;
        let at_tip = computed == table.tip * PAGE;
        let passing = computed < table.tip * PAGE && computed.is_multiple_of(STRIDE * PAGE);
        if computed != table.published * PAGE || computed == 0 || !(at_tip || passing) {
            return None;
        }
        if let Some(known) = self.prefixes.state(table.prefix) {
            slots.touch(known);
            return None;
        }
        let (slot, evicted) = slots.keep(table.prefix, at_tip)?;
        if let Some(evicted) = evicted {
            self.prefixes.take_state(evicted);
        }
        self.prefixes.set_state(table.prefix, slot);
        Some(slot)
    }

    /// Ends a sequence. What it published stays in the cache until its room is needed.
    pub fn release(&mut self, table: Table) {
        for (group, lane) in self.groups.iter_mut().zip(&table.lanes) {
            group.leave(lane);
        }
        if let (Some(slots), Some(slot)) = (&mut self.slots, table.state) {
            slots.give(slot);
        }
        self.prefixes.release(table.prefix);
    }

    /// A page of a prefix was evicted. Where sequences keep all pages, none begins with that prefix any more, and its
    /// checkpoint goes too.
    fn forget(&mut self, prefix: u64, group: usize) {
        if self.groups[group].keeps_all()
            && let Some(slot) = self.prefixes.take_state(prefix)
            && let Some(slots) = &mut self.slots
        {
            slots.forget(slot);
        }
        self.prefixes.clear_page(prefix, group);
    }

    /// The longest known prefix that leaves a token and can be continued: the path to it.
    fn find(&self, tokens: &[u32]) -> Vec<u64> {
        let (full, _) = tokens[..tokens.len().saturating_sub(1)].as_chunks::<PAGE>();
        let (mut path, mut last) = (Vec::new(), ROOT);
        if !self.reuse {
            return path;
        }
        for tokens in full {
            let Some(next) = self.prefixes.child(last, tokens) else { break };
            let mut groups = self.groups.iter().enumerate();
            if !groups.all(|(g, group)| !group.keeps_all() || self.prefixes.page(next, g).is_some())
            {
                break;
            }
            path.push(next);
            last = next;
        }
        while path.last().is_some_and(|&last| !self.continues(&path, last)) {
            path.pop();
        }
        path
    }

    /// Whether windows and state of a path's end are there.
    fn continues(&self, path: &[u64], last: u64) -> bool {
        let windows = self.groups.iter().enumerate().filter(|(_, group)| !group.keeps_all());
        let mut seen = windows.map(|(g, group)| (g, &path[group.first(path.len() * PAGE)..]));
        (self.slots.is_none() || self.prefixes.state(last).is_some())
            && seen.all(|(g, seen)| seen.iter().all(|&p| self.prefixes.page(p, g).is_some()))
    }

    /// The pages of a path in a group, where the row after it sees them.
    fn pages_of(&self, path: &[u64], group: usize) -> Vec<u32> {
        let first = self.groups[group].first(path.len() * PAGE);
        let page = |(index, &prefix): (usize, &u64)| match index < first {
            true => NO_PAGE,
            false => self.prefixes.page(prefix, group).unwrap_or(NO_PAGE),
        };
        path.iter().enumerate().map(page).collect()
    }
}

/// Full pages of a prompt that leave a token to compute.
fn tip(prompt: usize) -> usize {
    prompt.saturating_sub(1) / PAGE
}

#[cfg(test)]
mod tests;
