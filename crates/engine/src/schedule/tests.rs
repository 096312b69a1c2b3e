//! The plan: who has rows, and that everybody gets some.

use hob_testkit::Rng;
use proptest::prelude::*;

use super::*;
use crate::client::{AGE, Shares};

/// A sequence of a client of its own.
fn running(id: u64, computed: usize, known: usize) -> Running {
    Running {
        id,
        client: Client::Own(id),
        share: Share::default(),
        priority: 0,
        computed,
        known,
        stop_at: usize::MAX,
        began: 1,
        draft: 0,
        served: 1,
    }
}

fn of(client: u64, had: u64, r: Running) -> Running {
    Running { client: Client::Named(client), share: Share { rows: had, filled: 1 }, ..r }
}

fn budget(rows: usize, mixed_rows: usize) -> Budget {
    Budget { rows, mixed_rows, sequences: 8 }
}

/// A plan as (sequence, rows, whether they are its last).
fn plan(running: &[Running], budget: Budget) -> Vec<(u64, usize, bool)> {
    schedule(running, &budget, 1).iter().map(|c| (c.id, c.rows, c.last)).collect()
}

#[test]
fn decoding_comes_first() {
    let state = [running(1, 0, 1000), running(2, 50, 51), running(3, 10, 500)];
    assert_eq!(plan(&state, budget(105, 105)), [(2, 1, true), (1, 104, false)]);
    assert_eq!(plan(&[], budget(105, 105)), []);
}

#[test]
fn a_decoding_sequence_does_not_wait_for_a_long_prefill() {
    let mut state = vec![running(1, 0, 1000)];
    assert_eq!(plan(&state, budget(512, 64)), [(1, 512, false)]);
    state.push(running(2, 50, 51));
    assert_eq!(plan(&state, budget(512, 64)), [(2, 1, true), (1, 64, false)]);
}

#[test]
fn drafts_have_what_prefills_leave() {
    let drafts = |id, draft| Running { draft, ..running(id, 9, 10) };
    let state = [drafts(1, 8), drafts(2, 2), running(3, 0, 4)];
    assert_eq!(plan(&state, budget(64, 10)), [(1, 5, true), (2, 3, true), (3, 4, true)]);
    assert_eq!(plan(&state[..2], budget(6, 10)), [(1, 3, true), (2, 3, true)]);
    // Every decoding sequence comes before any draft, and so does a prompt.
    let state = [drafts(1, 8), drafts(2, 8), running(3, 0, 100)];
    assert_eq!(plan(&state, budget(64, 10)), [(1, 1, true), (2, 1, true), (3, 10, false)]);
    // What prefills has no draft.
    let state = [Running { draft: 8, ..running(1, 0, 20) }];
    assert_eq!(plan(&state, budget(64, 64)), [(1, 20, true)]);
}

#[test]
fn more_sequences_than_rows_take_turns() {
    let mut state: Vec<Running> = (0..5).map(|id| running(id, 9, 10)).collect();
    state[0].served = 3;
    state[3].served = 2;
    assert_eq!(plan(&state, budget(3, 3)), [(1, 1, true), (2, 1, true), (4, 1, true)]);
    // A prefill is not shut out where decoding takes all rows.
    state.truncate(3);
    state.push(Running { served: 0, ..running(7, 0, 100) });
    assert_eq!(plan(&state, budget(3, 3)), [(1, 1, true), (2, 1, true), (7, 1, false)]);
}

#[test]
fn who_had_fewer_rows_goes_first() {
    let mut state: Vec<Running> = (0..60).map(|id| of(1, 9000, running(id, 0, 800))).collect();
    state.push(of(2, 8999, running(60, 0, 20)));
    assert_eq!(plan(&state, budget(64, 64)), [(0, 44, false), (60, 20, true)]);
}

#[test]
fn of_one_client_the_oldest_gets_half_and_then_the_shortest_go_first() {
    let state = [
        of(1, 0, running(0, 0, 5000)),
        of(1, 0, running(1, 0, 900)),
        of(1, 0, running(2, 0, 10)),
        of(1, 0, running(3, 0, 30)),
    ];
    let expected = [(0, 50, false), (1, 10, false), (2, 10, true), (3, 30, true)];
    assert_eq!(plan(&state, budget(100, 100)), expected);
    assert_eq!(plan(&state[..1], budget(100, 100)), [(0, 100, false)]);
}

#[test]
fn priority_goes_first_and_grows_with_waiting() {
    let urgent = Running { priority: 3, ..of(1, 9000, running(0, 0, 5000)) };
    let mut state = [of(2, 0, running(1, 0, 5000)), urgent];
    assert_eq!(plan(&state, budget(64, 64)), [(0, 64, false)]);
    let now = 1 + 3 * AGE;
    state[1].share.filled = now - 1;
    let first = |now| schedule(&state, &budget(64, 64), now)[0].id;
    assert_eq!((first(now - 1), first(now)), (0, 1));
    // Within a client, the oldest has its half all the same.
    state[0].client = Client::Named(1);
    state[1].known = 10;
    assert_eq!(plan(&state, budget(64, 64)), [(1, 54, false), (0, 10, true)]);
}

#[test]
fn no_step_runs_over_a_stop() {
    let mut state =
        [of(1, 0, Running { stop_at: 65, ..running(1, 60, 1000) }), of(1, 0, running(2, 0, 1000))];
    assert_eq!(plan(&state, budget(100, 100)), [(1, 5, false), (2, 95, false)]);
    // One row before a stop is no decoding.
    state[0].stop_at = 61;
    assert_eq!(plan(&state, budget(100, 10)), [(1, 1, false), (2, 99, false)]);
    // A stop at the end of what is known ends the prompt all the same.
    state[0].stop_at = 1000;
    assert_eq!(plan(&state[..1], budget(2000, 10)), [(1, 940, true)]);
}

/// A sequence of the simulation: the plan's view, and tokens still to decode.
struct Job {
    r: Running,
    prompt: usize,
    left: usize,
}

/// Where a prompt of the simulation is to be stopped: half-way.
fn stop(prompt: usize, computed: usize) -> usize {
    if computed < prompt / 2 { prompt / 2 } else { usize::MAX }
}

impl Job {
    /// Does as planned.
    fn advance(&mut self, c: &Chunk, now: u64) {
        assert_eq!(c.start, self.r.computed);
        let draft = if self.r.decodes() { self.r.draft } else { 0 };
        assert!(c.rows > 0 && c.start + c.rows <= self.r.known.min(self.r.stop_at) + draft);
        assert_eq!(c.last, c.start + c.rows >= self.r.known);
        // Of the drafted tokens about half are right.
        let drafted = (c.start + c.rows).saturating_sub(self.r.known);
        let right = (drafted / 2).min(self.left.saturating_sub(1));
        self.r.computed += c.rows - drafted + right;
        self.r.served = now;
        if c.last {
            self.r.known += 1 + right;
            self.left -= 1 + right;
        }
        self.r.draft = (now % 4) as usize;
        self.r.stop_at = stop(self.prompt, self.r.computed);
    }
}

/// Sequences of a few clients, all admitted in the first step.
fn invented(rng: &mut Rng, sequences: usize) -> Vec<Job> {
    let job = |(id, rng): (u64, &mut Rng)| {
        let prompt = 1 + rng.below(200);
        let computed = rng.below(prompt);
        let client = Client::of(rng.below(4) as u64, id);
        let priority = rng.below(5) as i8 - 2;
        let stop_at = stop(prompt, computed);
        let r = Running { client, priority, stop_at, ..running(id, computed, prompt) };
        Job { r, prompt, left: 1 + rng.below(30) }
    };
    (0..sequences as u64).map(|id| job((id, rng))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    /// Runs plans until all invented sequences are done: budgets hold, no row is wasted, nobody who decodes waits longer
    /// than the turns of all, and each client gets on.
    #[test]
    fn every_sequence_ends_in_time(
        seed in any::<u64>(), rows in 1usize..40, mixed in 1usize..40, sequences in 1usize..30,
    ) {
        let mut rng = Rng::new(seed);
        let budget = Budget { rows, mixed_rows: mixed.min(rows), sequences };
        let mut jobs = invented(&mut rng, sequences);
        let work: usize = jobs.iter().map(|j| j.prompt - j.r.computed + j.left).sum();
        let mut shares = Shares::default();
        let mut now = 0u64;
        while !jobs.is_empty() {
            now += 1;
            prop_assert!(now <= work as u64, "each step computes at least one row");
            shares.settle(|client| jobs.iter().any(|j| j.r.client == client));
            jobs.iter_mut().for_each(|j| j.r.share = shares.had(j.r.client));
            let state: Vec<Running> = jobs.iter().map(|j| j.r).collect();
            let chunks = schedule(&state, &budget, now);
            let decoding = state.iter().filter(|r| r.decodes()).count();
            let most = if decoding > 0 { rows.min(decoding + budget.mixed_rows) } else { rows };
            let drafts: usize = state.iter().filter(|r| r.decodes()).map(|r| r.draft).sum();
            let wanted = state.iter().map(Running::wants).sum::<usize>() + drafts;
            let planned: usize = chunks.iter().map(|c| c.rows).sum();
            // Where all take turns, each has one row.
            let turns = decoding >= most && state.len() > most;
            let least = if turns { most } else { most.min(wanted) };
            prop_assert_eq!(planned, least);
            let mut seen = Vec::new();
            for c in &chunks {
                prop_assert!(!seen.contains(&c.id));
                seen.push(c.id);
                let job = jobs.iter_mut().find(|j| j.r.id == c.id).unwrap();
                shares.charge(job.r.client, c.rows, !job.r.decodes(), now);
                job.advance(c, now);
            }
            let turns = state.len().div_ceil(most) as u64;
            for r in state.iter().filter(|r| r.decodes() && !seen.contains(&r.id)) {
                prop_assert!(decoding >= most && now - r.served <= turns + sequences as u64);
            }
            jobs.retain(|j| j.left > 0);
        }
    }

    /// Two clients with endless prefills have the same part of the rows, whatever the number of their sequences.
    #[test]
    fn clients_get_equal_parts(many in 1u64..40, few in 1u64..4, rows in 2usize..100) {
        let mut shares = Shares::default();
        let count = many + few;
        let mut state: Vec<Running> = (0..count).map(|id| running(id, 0, usize::MAX / 2)).collect();
        for r in &mut state {
            r.client = Client::Named(if r.id < many { 1 } else { 2 });
        }
        for now in 1..200 {
            shares.settle(|_| true);
            state.iter_mut().for_each(|r| r.share = shares.had(r.client));
            for c in schedule(&state, &budget(rows, rows), now) {
                shares.charge(state[c.id as usize].client, c.rows, true, now);
                state[c.id as usize].computed += c.rows;
            }
        }
        let [one, two] = [1, 2].map(|client| shares.had(Client::Named(client)).rows);
        prop_assert!(one.abs_diff(two) <= 2 * rows as u64, "{one} and {two}");
    }

    /// A prefill of the lowest priority gets on beside an endless one of the highest, of its own client or of another.
    #[test]
    fn no_prefill_starves(other in any::<bool>(), low in -128i8..0, high in 0i8..=127) {
        let mut shares = Shares::default();
        let mut state = [running(0, 0, 10), running(1, 0, usize::MAX / 2)];
        state[0] = Running { priority: low, client: Client::Named(1), ..state[0] };
        state[1] = Running { priority: high, client: Client::Named(1 + u64::from(other)), ..state[1] };
        let bound = 1 + (i64::from(high) - i64::from(low)) as u64 * AGE + 3;
        let served = (1..=bound).any(|now| {
            shares.settle(|_| true);
            state.iter_mut().for_each(|r| r.share = shares.had(r.client));
            schedule(&state, &budget(4, 4), now).iter().any(|c| {
                shares.charge(state[c.id as usize].client, c.rows, true, now);
                state[c.id as usize].computed += c.rows;
                c.id == 0
            })
        });
        prop_assert!(served);
    }
}
