//! The pages of one group of layers: users, promises, and the order in which what nobody uses is evicted. A window group
//! keeps of a sequence what its next rows see; the other groups keep everything. Which tokens a page holds is not known here.

use std::collections::BTreeMap;
use std::ops::Range;

use hob_model::{NO_PAGE, PAGE};

use super::prefix::ROOT;

/// Order of eviction: what a sequence gave back while it went on, then the ends of prompts and of sequences, from where
/// they may be continued; each by the time of its last use.
type Rank = (bool, u64);

#[derive(Clone, Debug, Default)]
struct Page {
    /// Lanes that hold it.
    users: u32,
    /// Prefix under which it can be found, or [`ROOT`].
    prefix: u64,
    /// While it can be found and has no users.
    rank: Rank,
}

/// The pages of one sequence in one group, by position / [`PAGE`].
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) pages: Vec<u32>,
    /// Entries from the first that have no page any more.
    gone: usize,
    /// Pages that it may still take.
    promised: usize,
}

/// All pages of one group.
#[derive(Debug)]
pub(super) struct Group {
    window: Option<usize>,
    /// Pages that a sequence needs at most at a time, in a window group.
    at_once: usize,
    pages: Vec<Page>,
    free: Vec<u32>,
    idle: BTreeMap<Rank, u32>,
    /// Pages promised to lanes but not taken.
    promised: usize,
    /// Pages in lanes; those in several count for each.
    held: usize,
    found: usize,
    clock: u64,
}

impl Group {
    /// `count` free pages; sequences advance by at most `rows` positions at a time.
    pub(super) fn new(count: usize, window: Option<usize>, rows: usize) -> Self {
        // The window before the last page boundary, the page begun, and the rows.
        let at_once = window.map_or(usize::MAX, |window| {
            window.saturating_sub(1).div_ceil(PAGE) + (rows + PAGE - 1).div_ceil(PAGE)
        });
        Group {
            window,
            at_once,
            pages: vec![Page::default(); count],
            free: (0..count as u32).rev().collect(),
            idle: BTreeMap::new(),
            promised: 0,
            held: 0,
            found: 0,
            clock: 0,
        }
    }

    /// Whether sequences keep all of their pages.
    pub(super) fn keeps_all(&self) -> bool {
        self.window.is_none()
    }

    /// Pages that new sequences can have. Where windows move on, a page in two lanes may have to become two, so that each
    /// lane counts in full; elsewhere a shared page stays shared.
    pub(super) fn available(&self) -> usize {
        match self.window {
            None => self.free.len() + self.idle.len() - self.promised,
            Some(_) => self.pages.len() - self.promised - self.held,
        }
    }

    /// Pages that can be found by their tokens.
    pub(super) fn found(&self) -> usize {
        self.found
    }

    /// Index of the first page that is seen from `position` on.
    pub(super) fn first(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window) / PAGE)
    }

    /// What a sequence of `positions` that begins with the pages `prefix` takes out of the available ones.
    pub(super) fn price(&self, prefix: &[u32], positions: usize) -> usize {
        let all = positions.div_ceil(PAGE);
        match self.window {
            None => {
                let revived = prefix.iter().filter(|&&p| self.page(p).users == 0).count();
                revived + all.saturating_sub(prefix.len())
            }
            Some(_) => all.min(self.at_once),
        }
    }

    /// The lane of a sequence of `positions` that begins with the pages `prefix`; those before its window are
    /// [`NO_PAGE`].
    pub(super) fn enter(&mut self, prefix: Vec<u32>, positions: usize) -> Lane {
        let gone = self.first(prefix.len() * PAGE);
        let all = positions.div_ceil(PAGE);
        let promised = match self.window {
            None => all.saturating_sub(prefix.len()),
            Some(_) => all.min(self.at_once).saturating_sub(prefix.len() - gone),
        };
        for &page in &prefix[gone..] {
            self.retain(page);
        }
        self.held += prefix.len() - gone;
        self.promised += promised;
        Lane { pages: prefix, gone, promised }
    }

    /// Takes the next page of a lane out of its promise. Gives the prefix of what was evicted, or [`ROOT`]; `None` when
    /// no more was promised.
    pub(super) fn grow(&mut self, lane: &mut Lane) -> Option<u64> {
        if lane.promised == 0 {
            return None;
        }
        let (page, evicted) = self.take()?;
        lane.promised -= 1;
        self.promised -= 1;
        self.held += 1;
        lane.pages.push(page);
        Some(evicted)
    }

    /// Gives back what no row from `start` on sees, nor one at the last page boundary before, from where the sequence may
    /// be continued. Pages within `ends` are kept for longer than the others.
    pub(super) fn slide(&mut self, lane: &mut Lane, start: usize, ends: Range<usize>) {
        let first = self.first(start / PAGE * PAGE).min(lane.pages.len());
        for index in lane.gone..first {
            let page = std::mem::replace(&mut lane.pages[index], NO_PAGE);
            self.drop_user(page, ends.contains(&index));
            lane.promised += 1;
            self.promised += 1;
            self.held -= 1;
        }
        lane.gone = lane.gone.max(first);
    }

    /// Ends a lane. What can be found stays until its room is needed.
    pub(super) fn leave(&mut self, lane: &Lane) {
        self.promised -= lane.promised;
        self.held -= lane.pages.len() - lane.gone;
        // Back to front: a page is evicted before the prefix that leads to it.
        for &page in lane.pages[lane.gone..].iter().rev() {
            self.drop_user(page, true);
        }
    }

    /// Notes the prefix of a lane's page.
    pub(super) fn name(&mut self, page: u32, prefix: u64) {
        self.pages[page as usize].prefix = prefix;
        self.found += 1;
    }

    /// Puts a page of equal contents in the place of a lane's own.
    pub(super) fn share(&mut self, lane: &mut Lane, index: usize, other: u32) {
        let own = std::mem::replace(&mut lane.pages[index], other);
        self.retain(other);
        self.drop_user(own, false);
    }

    fn page(&self, page: u32) -> &Page {
        &self.pages[page as usize]
    }

    fn retain(&mut self, page: u32) {
        let entry = &mut self.pages[page as usize];
        entry.users += 1;
        if entry.users == 1 {
            self.idle.remove(&entry.rank);
        }
    }

    fn drop_user(&mut self, page: u32, end: bool) {
        self.clock += 1;
        let entry = &mut self.pages[page as usize];
        entry.users -= 1;
        if entry.users > 0 {
            return;
        }
        if entry.prefix == ROOT {
            self.free.push(page);
        } else {
            entry.rank = (end, self.clock);
            self.idle.insert(entry.rank, page);
        }
    }

    /// A page with one user: a free one, else the first to be evicted, with its prefix.
    fn take(&mut self) -> Option<(u32, u64)> {
        let page = match self.free.pop() {
            Some(page) => page,
            None => self.idle.pop_first()?.1,
        };
        let entry = &mut self.pages[page as usize];
        entry.users = 1;
        let evicted = std::mem::replace(&mut entry.prefix, ROOT);
        self.found -= usize::from(evicted != ROOT);
        Some((page, evicted))
    }

    /// Everything that must hold whatever happened.
    #[cfg(test)]
    pub(super) fn check(&self, lanes: &[&Lane]) {
        let mut users = vec![0; self.pages.len()];
        for lane in lanes {
            assert!(lane.pages[..lane.gone].iter().all(|&page| page == NO_PAGE));
            lane.pages[lane.gone..].iter().for_each(|&page| users[page as usize] += 1);
        }
        let idle: Vec<u32> = self.idle.values().copied().collect();
        for (i, page) in self.pages.iter().enumerate() {
            assert_eq!(page.users, users[i], "references of page {i}");
            let (free, idle) = (self.free.contains(&(i as u32)), idle.contains(&(i as u32)));
            assert_eq!(free, users[i] == 0 && page.prefix == ROOT, "page {i} is free");
            assert_eq!(idle, users[i] == 0 && page.prefix != ROOT, "page {i} is evictable");
        }
        assert_eq!(self.found, self.pages.iter().filter(|page| page.prefix != ROOT).count());
        assert_eq!(self.promised, lanes.iter().map(|lane| lane.promised).sum::<usize>());
        let held = lanes.iter().map(|lane| lane.pages.len() - lane.gone).sum::<usize>();
        assert_eq!(self.held, held);
        assert!(self.free.len() + self.idle.len() >= self.promised, "promises can be kept");
    }

    /// The prefix under which a page can be found.
    #[cfg(test)]
    pub(super) fn named(&self, page: u32) -> u64 {
        self.page(page).prefix
    }

    /// Pages in all.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.pages.len()
    }
}
