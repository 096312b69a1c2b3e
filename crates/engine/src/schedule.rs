//! Which rows the next step computes: a plain value computed from plain values. Continuous batching with chunked
//! prefill. A sequence is admitted only when pages for its whole length are promised, so running work is never
//! preempted; hence there is no swapping and no recomputation here.

/// A sequence that holds pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// Caller's name for it.
    pub id: u64,
    /// Positions whose keys and values are in place.
    pub computed: usize,
    /// Tokens known; more than `computed`. One more means decoding, several prefill.
    pub known: usize,
    /// Position beyond `computed` that no step may run over, as something is to be done there; `usize::MAX` for none.
    pub stop_at: usize,
    /// Tokens proposed beyond the known ones while it decodes: rows that it can use but does not need.
    pub draft: usize,
    /// Step at which it last had rows (or was admitted).
    pub served: u64,
}

impl Running {
    /// Rows that it could have in a step.
    fn wants(&self) -> usize {
        let draft = if self.known - self.computed == 1 { self.draft } else { 0 };
        self.known.min(self.stop_at) - self.computed + draft
    }
}

/// A request in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Caller's name for it.
    pub id: u64,
    /// Positions of its prompt that are in the cache.
    pub cached: usize,
    /// Tokens of its prompt.
    pub prompt: usize,
    /// Its first [`Running::stop_at`].
    pub stop_at: usize,
    /// Pages that it takes out of the available ones in every group of layers, to its greatest length.
    pub pages: Vec<usize>,
}

/// Everything that a step depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// In order of admission.
    pub running: Vec<Running>,
    /// In order of arrival.
    pub waiting: Vec<Waiting>,
    /// Pages of every group that are free or evictable, and not promised.
    pub available: Vec<usize>,
    /// Number of this step.
    pub now: u64,
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

/// A step to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// How many of the waiting are admitted, from the first.
    pub admitted: usize,
    /// Rows, decoding sequences first.
    pub chunks: Vec<Chunk>,
}

/// Plans a step.
///
/// Admission is first come, first served. Every running sequence gets one row, decoding ones first; if there are more
/// sequences than rows, the longest unserved first. The rows that are left go to prefills and drafts in equal shares.
pub fn schedule(state: &State, budget: &Budget) -> Step {
    let admitted = admit(state, budget);
    let fresh = state.waiting[..admitted].iter().map(|w| Running {
        id: w.id,
        computed: w.cached,
        known: w.prompt,
        stop_at: w.stop_at,
        draft: 0,
        served: state.now,
    });
    let mut order: Vec<Running> = state.running.iter().copied().chain(fresh).collect();
    let decoding = order.iter().any(|r| r.known - r.computed == 1);
    let rows = if decoding { budget.mixed_rows.min(budget.rows) } else { budget.rows };
    if order.len() > rows {
        order.sort_by_key(|r| r.served);
        order.truncate(rows);
    }
    order.sort_by_key(|r| r.known - r.computed > 1);
    let rows = share(&order, rows);
    let chunks = order.iter().zip(rows).map(|(r, rows)| Chunk {
        id: r.id,
        start: r.computed,
        rows,
        last: r.computed + rows >= r.known,
    });
    Step { admitted, chunks: chunks.collect() }
}

fn admit(state: &State, budget: &Budget) -> usize {
    let slots = budget.sequences.saturating_sub(state.running.len());
    let mut left = state.available.clone();
    let fits = |w: &&Waiting| {
        let mut groups = left.iter_mut().zip(&w.pages);
        groups.all(|(left, &pages)| {
            let fits = pages <= *left;
            *left -= pages.min(*left);
            fits
        })
    };
    state.waiting.iter().take(slots).take_while(fits).count()
}

/// Rows for each: one, then equal shares of the rest, where what one does not need goes to the others.
fn share(order: &[Running], rows: usize) -> Vec<usize> {
    let mut given = vec![1; order.len()];
    let mut left = rows - order.len();
    let mut hungry: Vec<usize> = (0..order.len()).collect();
    loop {
        hungry.retain(|&i| order[i].wants() > given[i]);
        if hungry.is_empty() || left == 0 {
            return given;
        }
        let part = (left / hungry.len()).max(1);
        for &i in &hungry {
            let more = part.min(order[i].wants() - given[i]).min(left);
            given[i] += more;
            left -= more;
        }
    }
}

#[cfg(test)]
mod tests {
    use hob_testkit::Rng;
    use proptest::prelude::*;

    use super::*;

    fn running(id: u64, computed: usize, known: usize) -> Running {
        Running { id, computed, known, stop_at: usize::MAX, draft: 0, served: 0 }
    }

    fn rows(step: &Step) -> Vec<(u64, usize, bool)> {
        step.chunks.iter().map(|c| (c.id, c.rows, c.last)).collect()
    }

    #[test]
    fn decoding_comes_first_and_prefills_share_the_rest() {
        let state = State {
            running: vec![
                running(1, 0, 1000),
                running(2, 50, 51),
                running(3, 0, 4),
                running(4, 10, 500),
            ],
            ..State::default()
        };
        let step = schedule(&state, &Budget { rows: 105, mixed_rows: 105, sequences: 8 });
        assert_eq!(rows(&step), [(2, 1, true), (1, 50, false), (3, 4, true), (4, 50, false)]);
    }

    #[test]
    fn a_decoding_sequence_does_not_wait_for_a_long_prefill() {
        let mut state = State { running: vec![running(1, 0, 1000)], ..State::default() };
        let budget = Budget { rows: 512, mixed_rows: 64, sequences: 8 };
        assert_eq!(rows(&schedule(&state, &budget)), [(1, 512, false)]);
        state.running.push(running(2, 50, 51));
        assert_eq!(rows(&schedule(&state, &budget)), [(2, 1, true), (1, 63, false)]);
    }

    #[test]
    fn drafts_take_their_part_of_what_is_left() {
        let mut state = State { running: vec![running(1, 50, 51)], ..State::default() };
        state.running[0].draft = 8;
        let budget = Budget { rows: 100, mixed_rows: 40, sequences: 8 };
        assert_eq!(rows(&schedule(&state, &budget)), [(1, 9, true)]);
        assert_eq!(rows(&schedule(&state, &Budget { mixed_rows: 4, ..budget })), [(1, 4, true)]);
        // Beside a prompt.
        state.running.push(running(2, 0, 1000));
        assert_eq!(rows(&schedule(&state, &budget)), [(1, 9, true), (2, 31, false)]);
        // Every decoding sequence comes before any draft.
        state.running = (0..6).map(|id| Running { draft: 8, ..running(id, 9, 10) }).collect();
        let step = schedule(&state, &Budget { mixed_rows: 6, ..budget });
        assert!(rows(&step).iter().all(|c| c.1 == 1));
        let step = schedule(&state, &Budget { mixed_rows: 20, ..budget });
        assert_eq!(step.chunks.iter().map(|c| c.rows).sum::<usize>(), 20);
        assert!(rows(&step).iter().all(|c| (3..=5).contains(&c.1)));
        // None while the prompt is read.
        state.running = vec![Running { draft: 8, ..running(1, 0, 20) }];
        assert_eq!(rows(&schedule(&state, &budget)), [(1, 20, true)]);
    }

    #[test]
    fn more_sequences_than_rows_take_turns() {
        let mut state =
            State { running: (0..5).map(|id| running(id, 9, 10)).collect(), ..State::default() };
        state.running[0].served = 3;
        state.running[3].served = 2;
        let step = schedule(&state, &Budget { rows: 3, mixed_rows: 3, sequences: 8 });
        assert_eq!(rows(&step), [(1, 1, true), (2, 1, true), (4, 1, true)]);
    }

    #[test]
    fn admission_is_in_order_and_within_pages_and_slots() {
        let waiting = |id, pages| Waiting {
            id,
            cached: 64,
            prompt: 70,
            stop_at: usize::MAX,
            pages: vec![pages, 1],
        };
        let mut state = State {
            waiting: vec![waiting(1, 4), waiting(2, 7), waiting(3, 1)],
            available: vec![10, 3],
            ..State::default()
        };
        let budget = Budget { rows: 16, mixed_rows: 16, sequences: 8 };
        let step = schedule(&state, &budget);
        assert_eq!((step.admitted, rows(&step)), (1, vec![(1, 6, true)]));
        assert_eq!(step.chunks[0].start, 64);
        state.available = vec![12, 3];
        assert_eq!(schedule(&state, &budget).admitted, 3);
        state.available = vec![12, 2];
        assert_eq!(schedule(&state, &budget).admitted, 2, "the second group is full");
        assert_eq!(schedule(&state, &Budget { sequences: 2, ..budget }).admitted, 2);
        assert_eq!(schedule(&State::default(), &budget), Step::default());
    }

    #[test]
    fn no_step_runs_over_a_stop() {
        let mut state = State {
            running: vec![Running { stop_at: 65, ..running(1, 60, 1000) }, running(2, 0, 1000)],
            ..State::default()
        };
        let budget = Budget { rows: 100, mixed_rows: 100, sequences: 8 };
        assert_eq!(rows(&schedule(&state, &budget)), [(1, 5, false), (2, 95, false)]);
        // One row before a stop is no decoding.
        state.running[0].stop_at = 61;
        let budget = Budget { mixed_rows: 10, ..budget };
        assert_eq!(rows(&schedule(&state, &budget)), [(1, 1, false), (2, 99, false)]);
        // A stop at the end of what is known ends the prompt all the same.
        state.running.truncate(1);
        state.running[0].stop_at = 1000;
        assert_eq!(rows(&schedule(&state, &Budget { rows: 2000, ..budget })), [(1, 940, true)]);
    }

    /// A sequence of the simulation: the plan's view, and tokens still to decode.
    struct Job {
        r: Running,
        prompt: usize,
        left: usize,
        pages: Vec<usize>,
    }

    /// Where a prompt of the simulation is to be stopped: half-way.
    fn stop(prompt: usize, computed: usize) -> usize {
        if computed < prompt / 2 { prompt / 2 } else { usize::MAX }
    }

    impl Job {
        /// Does as planned. Whether that led to its stop.
        fn advance(&mut self, c: &Chunk, now: u64, rng: &mut Rng) -> bool {
            assert_eq!(c.start, self.r.computed);
            let decodes = self.r.known - self.r.computed == 1;
            let draft = if decodes { self.r.draft } else { 0 };
            assert!(c.rows > 0 && c.start + c.rows <= self.r.known.min(self.r.stop_at) + draft);
            assert_eq!(c.last, c.start + c.rows >= self.r.known);
            let drafted = (c.start + c.rows).saturating_sub(self.r.known);
            let right = rng.below(drafted + 1);
            self.r.computed += c.rows - drafted + right;
            self.r.served = now;
            if c.last {
                self.r.known += 1 + right;
                self.left -= 1 + right;
            }
            // Whatever is wished while a prompt is read is not given.
            self.r.draft = rng.below(6).min(self.left.saturating_sub(1));
            let stopped = self.r.computed == self.r.stop_at;
            self.r.stop_at = stop(self.prompt, self.r.computed);
            stopped
        }
    }

    /// Pages of each group that are promised.
    fn taken(jobs: &[Job]) -> [usize; 2] {
        [0, 1].map(|group| jobs.iter().map(|j| j.pages[group]).sum())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
        /// Runs plans until all invented requests are done: budgets hold, order holds, nobody starves.
        #[test]
        fn every_request_ends_in_time(
            seed in any::<u64>(), rows in 1usize..40, mixed in 1usize..40, sequences in 1usize..12, total in 8usize..64,
        ) {
            let mut rng = Rng::new(seed);
            let mixed_rows = mixed.min(rows);
            let budget = Budget { rows, mixed_rows, sequences };
            let requests = 1 + rng.below(30) as u64;
            let (mut stops, mut stopped) = (0, 0);
            let mut queue: Vec<(Waiting, usize)> = (0..requests).map(|id| {
                let prompt = 1 + rng.below(200);
                let cached = rng.below(prompt);
                let pages = vec![1 + rng.below(total), 1 + rng.below(total)];
                let waiting = Waiting { id, cached, prompt, stop_at: stop(prompt, cached), pages };
                (waiting, 1 + rng.below(30))
            }).collect();
            let work: usize = queue.iter().map(|(w, left)| w.prompt - w.cached + left).sum();
            let (mut jobs, mut next, mut steps): (Vec<Job>, u64, usize) = (Vec::new(), 0, 0);
            while !(jobs.is_empty() && queue.is_empty()) {
                steps += 1;
                let now = steps as u64;
                let state = State {
                    running: jobs.iter().map(|j| j.r).collect(),
                    waiting: queue.iter().map(|q| q.0.clone()).collect(),
                    available: taken(&jobs).map(|n| total - n).to_vec(),
                    now,
                };
                let step = schedule(&state, &budget);
                prop_assert!(!step.chunks.is_empty());
                for (w, left) in queue.drain(..step.admitted) {
                    prop_assert_eq!(w.id, next, "first come, first served");
                    next += 1;
                    let Waiting { id, cached: computed, prompt: known, stop_at, pages } = w;
                    stops += usize::from(stop_at != usize::MAX);
                    let r = Running { id, computed, known, stop_at, draft: 0, served: now };
                    jobs.push(Job { r, prompt: known, left, pages });
                }
                prop_assert!(jobs.len() <= sequences);
                prop_assert!(taken(&jobs).iter().all(|&n| n <= total));
                prop_assert!(step.chunks.iter().map(|c| c.rows).sum::<usize>() <= rows);
                let mut seen = Vec::new();
                for c in &step.chunks {
                    prop_assert!(!seen.contains(&c.id));
                    seen.push(c.id);
                    let job = jobs.iter_mut().find(|j| j.r.id == c.id).unwrap();
                    stopped += usize::from(job.advance(c, now, &mut rng));
                }
                let patience = jobs.len().div_ceil(mixed_rows) as u64 + 1;
                for job in &jobs {
                    prop_assert!(now - job.r.served <= patience, "{} starves", job.r.id);
                }
                jobs.retain(|j| j.left > 0);
                prop_assert!(steps <= work, "each step computes at least one row");
            }
            prop_assert_eq!(stopped, stops);
        }
    }
}
