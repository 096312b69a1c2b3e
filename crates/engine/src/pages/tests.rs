use hob_testkit::Rng;
use proptest::prelude::*;

use super::*;

fn full(pages: usize) -> GroupRoom {
    GroupRoom { pages, window: None }
}

fn window(pages: usize, window: usize) -> GroupRoom {
    GroupRoom { pages, window: Some(window) }
}

fn room(groups: &[GroupRoom], rows: usize) -> Room {
    Room { groups: groups.to_vec(), rows, states: None, reuse: true }
}

fn pages(count: usize) -> Pages {
    Pages::new(&room(&[full(count)], 512))
}

/// Runs a sequence to the end of `tokens`, in steps as the room has them.
fn run(p: &mut Pages, tokens: &[u32], rows: usize) -> Table {
    let mut table = p.admit(tokens, tokens.len()).unwrap();
    let mut computed = table.cached();
    while computed < tokens.len() {
        let end = (computed + rows).min(tokens.len()).min(p.stop_at(tokens.len(), computed));
        assert!(p.cover(&mut table, computed..end));
        computed = end;
        p.publish(&mut table, &tokens[..computed]);
        p.keep(&table, computed);
    }
    table
}

fn cached(p: &Pages, tokens: &[u32]) -> usize {
    p.quote(tokens, tokens.len()).cached
}

/// Everything that must hold whatever happened.
fn check(p: &Pages, tables: &[&Table]) {
    for (g, group) in p.groups.iter().enumerate() {
        group.check(&tables.iter().map(|table| &table.lanes[g]).collect::<Vec<_>>());
        for page in 0..group.count() as u32 {
            let prefix = group.named(page);
            assert!(prefix == ROOT || p.prefixes.page(prefix, g) == Some(page));
        }
        // A page that is not published belongs to one table only.
        for table in tables {
            let own = table.lanes[g].pages.iter().skip(table.published);
            for page in own.filter(|&&page| page != NO_PAGE) {
                let users = tables.iter().filter(|t| t.lanes[g].pages.contains(page));
                assert_eq!(users.count(), 1);
            }
        }
    }
    let Some(slots) = &p.slots else { return };
    let mut states: Vec<u32> = tables.iter().filter_map(|table| table.state).collect();
    states.extend(slots.all_kept().iter().map(|&(slot, _)| slot));
    let [free, spare, kept] = slots.counts();
    let count = states.len();
    states.sort_unstable();
    states.dedup();
    assert_eq!(states.len(), count, "every slot has one owner");
    assert_eq!(tables.len() + kept, count);
    assert_eq!(free + spare + count, slots.count());
    for &(slot, prefix) in slots.all_kept() {
        assert_eq!(p.prefixes.state(prefix), Some(slot));
    }
}

#[test]
fn a_prefix_is_found_again_but_one_token_is_left_to_compute() {
    let mut p = pages(8);
    let tokens: Vec<u32> = (0..200).collect();
    let table = run(&mut p, &tokens, 200);
    p.release(table);
    assert_eq!(p.quote(&tokens, 200), Quote { cached: 192, pages: vec![4] });
    assert_eq!(p.quote(&tokens[..192], 192), Quote { cached: 128, pages: vec![3] });
    assert_eq!(cached(&p, &tokens[..129]), 128);
    assert_eq!(cached(&p, &tokens[1..]), 0);
    let mut other = tokens.clone();
    other[70] = 9;
    assert_eq!(cached(&p, &other), 64);
}

#[test]
fn equal_pages_after_different_prefixes_are_not_shared() {
    let mut p = pages(8);
    let (a, b) = ([1; 64], [2; 64]);
    let table = run(&mut p, &[a, b].concat(), 128);
    p.release(table);
    assert_eq!(cached(&p, &[b, b, b].concat()), 0);
    assert_eq!(cached(&p, &[a, b, b].concat()), 128);
}

#[test]
fn the_least_recently_used_goes_first_and_leaves_before_roots() {
    let mut p = pages(4);
    let (old, new): (Vec<u32>, Vec<u32>) = ((0..128).collect(), (500..628).collect());
    for tokens in [&old, &new] {
        let table = run(&mut p, tokens, 128);
        p.release(table);
    }
    let table = run(&mut p, &[7; 64], 64);
    assert_eq!(cached(&p, &[&old[..], &[0]].concat()), 64);
    assert_eq!(cached(&p, &[&new[..], &[0]].concat()), 128);
    p.release(table);
}

#[test]
fn sequences_side_by_side_end_up_on_the_same_pages() {
    let mut p = pages(8);
    let tokens: Vec<u32> = (0..130).collect();
    let mut tables: Vec<Table> = (0..2).map(|_| p.admit(&tokens, 200).unwrap()).collect();
    for table in &mut tables {
        assert!(p.cover(table, 0..130));
    }
    assert_ne!(tables[0].tables()[0][0], tables[1].tables()[0][0]);
    for table in &mut tables {
        p.publish(table, &tokens);
    }
    assert_eq!(tables[0].tables()[0][..2], tables[1].tables()[0][..2]);
    assert_ne!(tables[0].tables()[0][2], tables[1].tables()[0][2]);
    check(&p, &tables.iter().collect::<Vec<_>>());
}

#[test]
fn more_than_promised_is_refused() {
    let mut p = pages(8);
    let mut table = p.admit(&[1; 10], 64).unwrap();
    assert!(p.cover(&mut table, 0..64));
    assert!(!p.cover(&mut table, 64..65));
    assert!(p.admit(&[1; 10], 8 * 64).is_none());
}

#[test]
fn a_forgotten_prefix_leaves_nothing_behind() {
    let mut p = pages(8);
    for first in 0..3 {
        let tokens: Vec<u32> = (first..first + 200).collect();
        let table = run(&mut p, &tokens, 200);
        p.release(table);
    }
    assert!(p.prefixes.len() > 6 && p.cached() > 6);
    let mut all = p.admit(&[], 8 * PAGE).unwrap();
    assert!(p.cover(&mut all, 0..8 * PAGE));
    assert_eq!((p.prefixes.len(), p.cached()), (0, 0));
}

#[test]
fn a_window_moves_on_and_its_promise_suffices() {
    let mut p = Pages::new(&room(&[full(20), window(5, 100)], 32));
    let tokens: Vec<u32> = (0..1200).collect();
    // The window before a page boundary is two pages, 32 rows reach into two more.
    assert_eq!(p.quote(&tokens, 1200).pages, [19, 4]);
    assert_eq!(p.quote(&tokens[..70], 70).pages, [2, 2]);
    let table = run(&mut p, &tokens, 32);
    let lane = table.tables()[1];
    // The last step began at 1184, whose page boundary, 1152, sees back to 1053.
    let held: Vec<usize> = (0..lane.len()).filter(|&i| lane[i] != NO_PAGE).collect();
    assert_eq!((lane.len(), held), (19, vec![16, 17, 18]));
    assert!(table.tables()[0].iter().all(|&page| page != NO_PAGE));
    check(&p, &[&table]);
    assert_eq!(p.available(), [1, 1]);
    p.release(table);
    assert_eq!(p.available(), [20, 5]);
}

#[test]
fn a_prefix_is_continued_only_where_its_window_is_cached() {
    let mut p = Pages::new(&room(&[full(90), window(10, 100)], 64));
    let tokens: Vec<u32> = (0..600).collect();
    let more = [&tokens[..], &[7; 50]].concat();
    let table = run(&mut p, &tokens, 64);
    p.release(table);
    // Nothing was evicted: every boundary will do.
    assert_eq!((cached(&p, &more), cached(&p, &tokens[..200])), (576, 192));
    // Another sequence takes the one free page, then those that the first gave back in passing, but not its end.
    let other: Vec<u32> = (1000..1500).collect();
    let table = run(&mut p, &other, 64);
    assert_eq!((cached(&p, &more), cached(&p, &tokens[..200])), (576, 0));
    assert_eq!(p.quote(&tokens[..200], 200).pages, [4, 4]);
    p.release(table);
    // However long it runs, a sequence takes what it has passed itself before the ends of others.
    let long: Vec<u32> = (2000..4000).collect();
    let table = run(&mut p, &long, 64);
    p.release(table);
    assert_eq!(
        [&more, &[&other[..], &[7]].concat(), &long].map(|t| cached(&p, t)),
        [576, 448, 1984]
    );
    // But their number is bounded: the oldest goes.
    for start in [5000, 6000] {
        let tokens: Vec<u32> = (start..start + 600).collect();
        let table = run(&mut p, &tokens, 64);
        p.release(table);
    }
    assert_eq!([&more, &[&other[..], &[7]].concat(), &long].map(|t| cached(&p, t)), [0, 448, 1984]);
}

fn recurrent(groups: &[GroupRoom], sequences: usize, checkpoints: usize) -> Pages {
    let states = Some(StateRoom { sequences, checkpoints });
    Pages::new(&Room { states, ..room(groups, 512) })
}

#[test]
fn a_state_is_kept_at_the_end_of_a_prompt_and_on_the_way() {
    let mut p = recurrent(&[full(100)], 2, 4);
    assert_eq!(
        (p.stop_at(64, 0), p.stop_at(65, 0), p.stop_at(65, 64)),
        (usize::MAX, 64, usize::MAX)
    );
    assert_eq!((p.stop_at(3000, 0), p.stop_at(3000, 1024)), (1024, 2048));
    assert_eq!((p.stop_at(3000, 2048), p.stop_at(3000, 2944)), (2944, usize::MAX));
    let tokens: Vec<u32> = (0..3000).collect();
    let table = run(&mut p, &tokens, 512);
    check(&p, &[&table]);
    assert_eq!((p.checkpoints(), table.resumes(), table.state()), (3, None, 0));
    p.release(table);
    assert_eq!((cached(&p, &tokens), cached(&p, &tokens[..2944])), (2944, 2048));
    assert_eq!((cached(&p, &tokens[..2000]), cached(&p, &tokens[..1000])), (1024, 0));
    // The state is copied from where it was kept.
    let (table, last) =
        (p.admit(&tokens, 3000).unwrap(), p.slots.as_ref().unwrap().all_kept()[2].0);
    assert_eq!((table.cached(), table.resumes()), (2944, Some(last)));
    p.release(table);
}

#[test]
fn without_slots_for_them_there_are_no_checkpoints() {
    let mut p = recurrent(&[full(8)], 1, 0);
    assert_eq!(p.stop_at(200, 0), usize::MAX);
    let tokens: Vec<u32> = (0..200).collect();
    let table = run(&mut p, &tokens, 512);
    assert!(p.admit(&[1; 10], 10).is_none(), "one slot, one sequence");
    p.release(table);
    assert_eq!((cached(&p, &tokens), p.available()), (0, vec![8]));
    assert!(p.admit(&[1; 10], 10).is_some());
}

#[test]
fn checkpoints_go_with_their_page_and_the_oldest_first() {
    let mut p = recurrent(&[full(6)], 1, 2);
    let prompt = |first: u32| (first..first + 100).collect::<Vec<u32>>();
    for first in [0, 1000, 2000] {
        let table = run(&mut p, &prompt(first), 512);
        p.release(table);
        if first == 1000 {
            assert_eq!(cached(&p, &prompt(0)), 64);
            let table = p.admit(&prompt(0), 100).unwrap();
            p.release(table);
        }
    }
    // Two slots: that of the second prompt, which was not used since, was taken.
    assert_eq!([0, 1000, 2000].map(|first| cached(&p, &prompt(first))), [64, 0, 64]);
    // A sequence that takes all pages takes the states with them.
    let mut all = p.admit(&[], 6 * PAGE).unwrap();
    assert!(p.cover(&mut all, 0..6 * PAGE));
    check(&p, &[&all]);
    assert_eq!((p.checkpoints(), p.prefixes.len()), (0, 0));
    p.release(all);
}

#[test]
fn nothing_is_found_where_rows_see_what_follows() {
    let mut p = Pages::new(&Room { reuse: false, ..room(&[full(8)], 512) });
    let tokens: Vec<u32> = (0..200).collect();
    let table = run(&mut p, &tokens, 512);
    p.release(table);
    assert_eq!((cached(&p, &tokens), p.cached(), p.available()), (0, 0, vec![8]));
}

/// What a device would hold: the prefix that each page and each state was written under.
struct Memory {
    pages: Vec<Vec<Vec<u32>>>,
    states: Vec<Vec<u32>>,
}

struct Sequence {
    tokens: Vec<u32>,
    computed: usize,
    table: Table,
}

impl Sequence {
    /// What the rows from `computed` on see is there, and nobody else wrote over it.
    fn check(&self, room: &Room, memory: &Memory) {
        for (g, group) in room.groups.iter().enumerate() {
            let lane = self.table.tables()[g];
            let first = group.window.map_or(0, |w| (self.computed + 1).saturating_sub(w));
            let held = lane.iter().enumerate().take(self.computed.div_ceil(PAGE));
            for (index, &page) in held.skip(first / PAGE) {
                let end = ((index + 1) * PAGE).min(self.computed);
                assert_eq!(memory.pages[g][page as usize], self.tokens[..end], "group {g}");
            }
        }
        if room.states.is_some() && self.computed > 0 {
            assert_eq!(memory.states[self.table.state() as usize], self.tokens[..self.computed]);
        }
    }

    /// A step of up to `rows` rows.
    fn step(&mut self, p: &mut Pages, rows: usize, memory: &mut Memory) {
        let (start, prompt) = (self.computed, self.tokens.len());
        let end = (start + rows).min(prompt).min(p.stop_at(prompt, start));
        assert!(p.cover(&mut self.table, start..end));
        for (g, lane) in self.table.tables().iter().enumerate() {
            for index in start / PAGE..end.div_ceil(PAGE) {
                let written = &self.tokens[..((index + 1) * PAGE).min(end)];
                memory.pages[g][lane[index] as usize] = written.to_vec();
            }
        }
        if let Some(slot) = self.table.state {
            memory.states[slot as usize] = self.tokens[..end].to_vec();
        }
        self.computed = end;
        p.publish(&mut self.table, &self.tokens[..end]);
        if let Some(to) = p.keep(&self.table, end) {
            memory.states[to as usize] = self.tokens[..end].to_vec();
        }
    }
}

fn invented(rng: &mut Rng) -> Vec<u32> {
    let blocks = rng.below(6);
    let mut tokens: Vec<u32> = (0..blocks).flat_map(|_| [rng.below(2) as u32; PAGE]).collect();
    tokens.extend((0..1 + rng.below(PAGE)).map(|_| rng.below(2) as u32));
    tokens
}

fn invented_room(rng: &mut Rng) -> Room {
    let groups = (0..1 + rng.below(3)).map(|_| match rng.below(2) {
        0 => full(1 + rng.below(24)),
        _ => window(1 + rng.below(24), 1 + rng.below(200)),
    });
    let groups: Vec<GroupRoom> = groups.collect();
    let states = StateRoom { sequences: 1 + rng.below(5), checkpoints: rng.below(4) };
    let states = (rng.below(2) == 0).then_some(states);
    Room { states, ..room(&groups, 1 + rng.below(150)) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    /// Random sequences over few tokens (so that prefixes meet), admitted, grown and dropped at any point.
    #[test]
    fn books_balance_and_contents_are_right(seed in any::<u64>()) {
        let mut rng = Rng::new(seed);
        let room = invented_room(&mut rng);
        let mut p = Pages::new(&room);
        let slots = room.states.map_or(0, |s| s.sequences + s.checkpoints);
        let mut memory = Memory {
            pages: room.groups.iter().map(|group| vec![Vec::new(); group.pages]).collect(),
            states: vec![Vec::new(); slots],
        };
        let mut running: Vec<Sequence> = Vec::new();
        for _ in 0..200 {
            match rng.below(4) {
                0 => {
                    let tokens = invented(&mut rng);
                    let (quote, before) = (p.quote(&tokens, tokens.len()), p.available());
                    let fits = quote.pages.iter().zip(&before).all(|(price, free)| price <= free);
                    let slot = room.states.is_none_or(|s| running.len() < s.sequences);
                    let table = p.admit(&tokens, tokens.len());
                    prop_assert_eq!(table.is_some(), fits && slot);
                    let Some(table) = table else { continue };
                    let left: Vec<usize> = before.iter().zip(&quote.pages).map(|(a, b)| a - b).collect();
                    prop_assert_eq!(p.available(), left);
                    prop_assert_eq!(table.cached(), quote.cached);
                    prop_assert_eq!(table.resumes().is_some(), room.states.is_some() && quote.cached > 0);
                    if let Some(from) = table.resumes() {
                        memory.states[table.state() as usize] = memory.states[from as usize].clone();
                    }
                    running.push(Sequence { computed: table.cached(), tokens, table });
                }
                1 if !running.is_empty() => {
                    let ended = running.swap_remove(rng.below(running.len()));
                    p.release(ended.table);
                }
                _ if !running.is_empty() => {
                    let sequence = rng.below(running.len());
                    let sequence = &mut running[sequence];
                    if sequence.computed < sequence.tokens.len() {
                        sequence.step(&mut p, 1 + rng.below(room.rows), &mut memory);
                    }
                }
                _ => {}
            }
            check(&p, &running.iter().map(|s| &s.table).collect::<Vec<_>>());
            running.iter().for_each(|s| s.check(&room, &memory));
        }
        running.into_iter().for_each(|s| p.release(s.table));
        check(&p, &[]);
        prop_assert_eq!(p.available(), room.groups.iter().map(|g| g.pages).collect::<Vec<_>>());
    }
}
