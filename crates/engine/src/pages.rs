//! Which KV page belongs to whom: reservations, reference counts, and full pages found again by the tokens that led to
//! them. Integers only: the memory is the backend's. A cached page is known by its whole prefix, not by a hash of it,
//! so a hit is never false. Absent: partly filled pages are not shared, and nothing is moved to make room.

use std::collections::{BTreeMap, HashMap};

use hob_model::PAGE;

/// Identity of a cached page: its tokens after the prefix that ends with page `parent`. Serials are never reused, so
/// equal keys mean equal prefixes, by induction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    parent: u64,
    tokens: [u32; PAGE],
}

/// Serial of the empty prefix.
const ROOT: u64 = 0;

#[derive(Clone, Debug)]
struct Cached {
    key: Key,
    serial: u64,
}

#[derive(Clone, Debug, Default)]
struct Page {
    /// Tables that hold it.
    users: u32,
    /// Set while the page can be found by its tokens.
    cached: Option<Box<Cached>>,
    /// Position in the eviction order, while cached and without users.
    stamp: u64,
}

/// The pages of one sequence, in order of position. Give it back with [`Pages::release`].
#[derive(Debug)]
pub struct Table {
    pages: Vec<u32>,
    reserved: usize,
    published: usize,
    parent: u64,
}

impl Table {
    /// Page numbers, by position / 64.
    pub fn pages(&self) -> &[u32] {
        &self.pages
    }

    /// Positions whose keys and values were there when the sequence was admitted.
    pub fn cached(&self) -> usize {
        self.published * PAGE
    }
}

/// What a sequence would take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Positions found in the cache.
    pub cached: usize,
    /// Pages taken out of the available ones.
    pub pages: usize,
}

/// All pages of a backend.
#[derive(Debug)]
pub struct Pages {
    pages: Vec<Page>,
    free: Vec<u32>,
    by_key: HashMap<Key, u32>,
    /// Cached pages without users, least recently used first.
    idle: BTreeMap<u64, u32>,
    /// Pages promised to tables but not given yet.
    reserved: usize,
    clock: u64,
}

impl Pages {
    /// `count` free pages.
    pub fn new(count: usize) -> Self {
        Pages {
            pages: vec![Page::default(); count],
            free: (0..count as u32).rev().collect(),
            by_key: HashMap::new(),
            idle: BTreeMap::new(),
            reserved: 0,
            clock: ROOT,
        }
    }

    /// Pages in all.
    pub fn count(&self) -> usize {
        self.pages.len()
    }

    /// Pages that a new sequence can have: free or evictable, and not promised.
    pub fn available(&self) -> usize {
        self.free.len() + self.idle.len() - self.reserved
    }

    /// Pages that can be found by their tokens.
    pub fn cached(&self) -> usize {
        self.by_key.len()
    }

    /// What [`Pages::admit`] would take.
    pub fn quote(&self, tokens: &[u32], positions: usize) -> Quote {
        let (prefix, _) = self.find(tokens);
        let pages = self.revived(&prefix) + fresh(&prefix, positions);
        Quote { cached: prefix.len() * PAGE, pages }
    }

    /// Starts a sequence that begins with `tokens` and may grow to `positions`: takes the longest cached prefix that
    /// leaves at least one of `tokens` to compute, and reserves the rest. `None` when there are too few pages.
    pub fn admit(&mut self, tokens: &[u32], positions: usize) -> Option<Table> {
        let (prefix, parent) = self.find(tokens);
        let reserved = fresh(&prefix, positions);
        if self.revived(&prefix) + reserved > self.available() {
            return None;
        }
        for &page in &prefix {
            self.retain(page);
        }
        self.reserved += reserved;
        Some(Table { published: prefix.len(), pages: prefix, reserved, parent })
    }

    /// Gives the table pages up to `positions`, out of its reservation. False when that is more than was reserved.
    pub fn cover(&mut self, table: &mut Table, positions: usize) -> bool {
        while table.pages.len() * PAGE < positions {
            if table.reserved == 0 {
                return false;
            }
            let Some(page) = self.take() else { return false };
            table.reserved -= 1;
            self.reserved -= 1;
            table.pages.push(page);
        }
        true
    }

    /// Makes the pages that `computed` (all tokens whose keys and values are in place) fills up known to others. Where
    /// another sequence has published the same prefix meanwhile, the table takes that page and frees its own.
    pub fn publish(&mut self, table: &mut Table, computed: &[u32]) {
        let (full, _) = computed.as_chunks::<PAGE>();
        for tokens in full.iter().skip(table.published) {
            let Some(&own) = table.pages.get(table.published) else { return };
            let key = Key { parent: table.parent, tokens: *tokens };
            match self.by_key.get(&key).copied() {
                Some(other) => {
                    self.retain(other);
                    self.drop_user(own);
                    table.pages[table.published] = other;
                    table.parent = self.serial(other);
                }
                None => {
                    self.clock += 1;
                    let serial = self.clock;
                    self.by_key.insert(key.clone(), own);
                    self.page_mut(own).cached = Some(Box::new(Cached { key, serial }));
                    table.parent = serial;
                }
            }
            table.published += 1;
        }
    }

    /// Ends a sequence. Its published pages stay in the cache until their room is needed.
    pub fn release(&mut self, table: Table) {
        self.reserved -= table.reserved;
        // Back to front: a page is evicted before the prefix that leads to it.
        for &page in table.pages.iter().rev() {
            self.drop_user(page);
        }
    }

    /// Pages of a prefix that nobody holds now.
    fn revived(&self, prefix: &[u32]) -> usize {
        prefix.iter().filter(|&&p| self.page(p).users == 0).count()
    }

    fn page(&self, page: u32) -> &Page {
        &self.pages[page as usize]
    }

    fn page_mut(&mut self, page: u32) -> &mut Page {
        &mut self.pages[page as usize]
    }

    fn serial(&self, page: u32) -> u64 {
        self.page(page).cached.as_ref().map_or(ROOT, |c| c.serial)
    }

    /// Cached pages of the longest prefix that leaves a token, and the serial of the last.
    fn find(&self, tokens: &[u32]) -> (Vec<u32>, u64) {
        let (full, _) = tokens[..tokens.len().saturating_sub(1)].as_chunks::<PAGE>();
        let (mut pages, mut parent) = (Vec::new(), ROOT);
        for tokens in full {
            let Some(&page) = self.by_key.get(&Key { parent, tokens: *tokens }) else { break };
            parent = self.serial(page);
            pages.push(page);
        }
        (pages, parent)
    }

    fn retain(&mut self, page: u32) {
        let entry = &mut self.pages[page as usize];
        entry.users += 1;
        if entry.users == 1 {
            self.idle.remove(&entry.stamp);
        }
    }

    fn drop_user(&mut self, page: u32) {
        self.clock += 1;
        let entry = &mut self.pages[page as usize];
        entry.users -= 1;
        if entry.users > 0 {
            return;
        }
        if entry.cached.is_some() {
            entry.stamp = self.clock;
            self.idle.insert(self.clock, page);
        } else {
            self.free.push(page);
        }
    }

    /// A page with one user: a free one, else the one unused for longest.
    fn take(&mut self) -> Option<u32> {
        let page = match self.free.pop() {
            Some(page) => page,
            None => {
                let (_, page) = self.idle.pop_first()?;
                if let Some(cached) = self.page_mut(page).cached.take() {
                    self.by_key.remove(&cached.key);
                }
                page
            }
        };
        self.page_mut(page).users = 1;
        Some(page)
    }
}

/// Pages beyond a cached prefix that `positions` need.
fn fresh(prefix: &[u32], positions: usize) -> usize {
    positions.div_ceil(PAGE).saturating_sub(prefix.len())
}

#[cfg(test)]
mod tests {
    use hob_testkit::Rng;
    use proptest::prelude::*;

    use super::*;

    /// Everything that must hold whatever happened.
    fn check(p: &Pages, tables: &[&Table]) {
        let mut users = vec![0; p.count()];
        for table in tables {
            table.pages.iter().for_each(|&page| users[page as usize] += 1);
        }
        let idle: Vec<u32> = p.idle.values().copied().collect();
        for (i, page) in p.pages.iter().enumerate() {
            assert_eq!(page.users, users[i], "references of page {i}");
            let (free, idle) = (p.free.contains(&(i as u32)), idle.contains(&(i as u32)));
            assert_eq!(free, users[i] == 0 && page.cached.is_none(), "page {i} is free");
            assert_eq!(idle, users[i] == 0 && page.cached.is_some(), "page {i} is evictable");
            if let Some(cached) = &page.cached {
                assert_eq!(p.by_key.get(&cached.key), Some(&(i as u32)));
            }
        }
        assert_eq!(p.by_key.len(), p.pages.iter().filter(|page| page.cached.is_some()).count());
        assert_eq!(p.reserved, tables.iter().map(|t| t.reserved).sum::<usize>());
        assert!(p.free.len() + p.idle.len() >= p.reserved, "promises can be kept");
        // A page that is not published belongs to one table only.
        for table in tables {
            for &page in &table.pages[table.published..] {
                assert_eq!(users[page as usize], 1);
            }
        }
    }

    fn run(p: &mut Pages, tokens: &[u32]) -> Table {
        let mut table = p.admit(tokens, tokens.len()).unwrap();
        assert!(p.cover(&mut table, tokens.len()));
        p.publish(&mut table, tokens);
        table
    }

    #[test]
    fn a_prefix_is_found_again_but_one_token_is_left_to_compute() {
        let mut p = Pages::new(8);
        let tokens: Vec<u32> = (0..200).collect();
        let table = run(&mut p, &tokens);
        p.release(table);
        assert_eq!(p.quote(&tokens, 200), Quote { cached: 192, pages: 4 });
        assert_eq!(p.quote(&tokens[..192], 192), Quote { cached: 128, pages: 3 });
        assert_eq!(p.quote(&tokens[..129], 129).cached, 128);
        assert_eq!(p.quote(&tokens[1..], 199).cached, 0);
        let mut other = tokens.clone();
        other[70] = 9;
        assert_eq!(p.quote(&other, 200).cached, 64);
    }

    #[test]
    fn equal_pages_after_different_prefixes_are_not_shared() {
        let mut p = Pages::new(8);
        let (a, b) = ([1; 64], [2; 64]);
        let table = run(&mut p, &[a, b].concat());
        p.release(table);
        assert_eq!(p.quote(&[b, b, b].concat(), 192).cached, 0);
        assert_eq!(p.quote(&[a, b, b].concat(), 192).cached, 128);
    }

    #[test]
    fn the_least_recently_used_goes_first_and_leaves_before_roots() {
        let mut p = Pages::new(4);
        let (old, new): (Vec<u32>, Vec<u32>) = ((0..128).collect(), (500..628).collect());
        for tokens in [&old, &new] {
            let table = run(&mut p, tokens);
            p.release(table);
        }
        let table = run(&mut p, &[7; 64]);
        assert_eq!(p.quote(&[&old[..], &[0]].concat(), 129).cached, 64);
        assert_eq!(p.quote(&[&new[..], &[0]].concat(), 129).cached, 128);
        p.release(table);
    }

    #[test]
    fn sequences_side_by_side_end_up_on_the_same_pages() {
        let mut p = Pages::new(8);
        let tokens: Vec<u32> = (0..130).collect();
        let mut tables: Vec<Table> = (0..2).map(|_| p.admit(&tokens, 200).unwrap()).collect();
        for table in &mut tables {
            assert!(p.cover(table, 130));
        }
        assert_ne!(tables[0].pages[0], tables[1].pages[0]);
        for table in &mut tables {
            p.publish(table, &tokens);
        }
        assert_eq!(tables[0].pages[..2], tables[1].pages[..2]);
        assert_ne!(tables[0].pages[2], tables[1].pages[2]);
        check(&p, &tables.iter().collect::<Vec<_>>());
    }

    #[test]
    fn more_than_reserved_is_refused() {
        let mut p = Pages::new(8);
        let mut table = p.admit(&[1; 10], 64).unwrap();
        assert!(p.cover(&mut table, 64));
        assert!(!p.cover(&mut table, 65));
        assert!(p.admit(&[1; 10], 8 * 64).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
        /// Random sequences over few tokens (so that prefixes meet), admitted, grown and dropped at any point.
        #[test]
        fn books_balance_and_contents_are_right(seed in any::<u64>(), count in 1usize..24) {
            let mut rng = Rng::new(seed);
            let mut p = Pages::new(count);
            // What a device would hold: the prefix that each page was written under.
            let mut memory: Vec<Vec<u32>> = vec![Vec::new(); count];
            let mut running: Vec<(Vec<u32>, usize, Table)> = Vec::new();
            for _ in 0..200 {
                match rng.below(4) {
                    0 => {
                        let blocks = rng.below(5);
                        let mut tokens: Vec<u32> =
                            (0..blocks).flat_map(|_| [rng.below(2) as u32; PAGE]).collect();
                        tokens.extend((0..1 + rng.below(PAGE)).map(|_| rng.below(2) as u32));
                        let quote = p.quote(&tokens, tokens.len());
                        let fits = quote.pages <= p.available();
                        let before = p.available();
                        if let Some(table) = p.admit(&tokens, tokens.len()) {
                            prop_assert_eq!(p.available(), before - quote.pages);
                            for (i, &page) in table.pages().iter().enumerate() {
                                prop_assert_eq!(&memory[page as usize], &tokens[..(i + 1) * PAGE]);
                            }
                            running.push((tokens, table.cached(), table));
                        } else {
                            prop_assert!(!fits);
                        }
                    }
                    1 if !running.is_empty() => {
                        let (_, _, table) = running.swap_remove(rng.below(running.len()));
                        p.release(table);
                    }
                    _ if !running.is_empty() => {
                        let i = rng.below(running.len());
                        let (tokens, computed, table) = &mut running[i];
                        let end = (*computed + 1 + rng.below(100)).min(tokens.len());
                        prop_assert!(p.cover(table, end));
                        for at in *computed..end {
                            memory[table.pages()[at / PAGE] as usize] = tokens[..=at].to_vec();
                        }
                        *computed = end;
                        p.publish(table, &tokens[..end]);
                    }
                    _ => {}
                }
                check(&p, &running.iter().map(|r| &r.2).collect::<Vec<_>>());
                // Nobody's page was written by somebody else.
                for (tokens, computed, table) in &running {
                    for at in (0..*computed).rev().step_by(PAGE) {
                        let end = ((at / PAGE + 1) * PAGE).min(*computed);
                        prop_assert_eq!(&memory[table.pages()[at / PAGE] as usize], &tokens[..end]);
                    }
                }
            }
            running.into_iter().for_each(|r| p.release(r.2));
            check(&p, &[]);
            prop_assert_eq!(p.available(), count);
        }
    }
}
