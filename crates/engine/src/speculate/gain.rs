//! Whether drafts pay, from what was measured: how often drafted tokens were right, and how long steps of so many rows
//! take. Arithmetic only. No model of the machine is assumed, so a step that is not wider than the fastest known is free
//! until it was tried.

/// Part of a new measurement in a running average of times.
const TIME_WEIGHT: f64 = 0.2;
/// Part of one token in the running average of those that were right.
const TOKEN_WEIGHT: f64 = 0.12;
/// Steps without a draft after which one is tried whatever the averages say.
const RETRY: u32 = 64;
/// Most tokens of such a trial.
const TRIAL: usize = 4;

/// Seconds of a step by its rows: singly up to 16, then four classes per doubling.
#[derive(Clone, Debug)]
pub(super) struct Costs {
    seconds: [Option<f64>; CLASSES],
}

const SINGLE: usize = 16;
const CLASSES: usize = 64;

impl Default for Costs {
    fn default() -> Self {
        Costs { seconds: [None; CLASSES] }
    }
}

fn class(rows: usize) -> usize {
    if rows <= SINGLE {
        return rows;
    }
    let doublings = (rows / SINGLE).ilog2();
    let quarter = (rows >> doublings) * 4 / SINGLE - 4;
    (SINGLE + 1 + 4 * doublings as usize + quarter).min(CLASSES - 1)
}

/// Rows in the middle of a class.
fn middle(class: usize) -> f64 {
    let Some(beyond) = class.checked_sub(SINGLE + 1) else { return class as f64 };
    let quarter = ((SINGLE / 4) << (beyond / 4)) as f64;
    quarter * (4 + beyond % 4) as f64 + (quarter - 1.0) / 2.0
}

impl Costs {
    /// Learns how long a step took.
    pub(super) fn learn(&mut self, rows: usize, seconds: f64) {
        let known = &mut self.seconds[class(rows)];
        *known = Some(known.map_or(seconds, |s| s + TIME_WEIGHT * (seconds - s)));
    }

    /// Expected seconds: between two known classes in proportion, beyond them as the nearest.
    pub(super) fn expect(&self, rows: usize) -> f64 {
        let (rows, at) = (rows as f64, class(rows));
        let known = |i: usize| self.seconds[i].map(|seconds| (middle(i), seconds));
        let below = (0..=at).rev().filter_map(known).find(|&(r, _)| r <= rows);
        let above = (at..CLASSES).filter_map(known).find(|&(r, _)| r >= rows);
        match (below, above) {
            (Some((l, low)), Some((h, high))) if h > l => low + (high - low) * (rows - l) / (h - l),
            (Some((_, seconds)), _) | (None, Some((_, seconds))) => seconds,
            (None, None) => 1.0,
        }
    }
}

/// How often the drafts of one sequence were right, by how sure their source was.
#[derive(Clone, Debug)]
pub(super) struct Belief {
    rates: [f64; 6],
    /// Steps since the last draft.
    idle: u32,
}

impl Default for Belief {
    fn default() -> Self {
        Belief { rates: [0.4, 0.5, 0.6, 0.75, 0.9, 0.5], idle: 0 }
    }
}

impl Belief {
    /// Class of a match of so many tokens; of none is what goes on behind a wrong token.
    fn class(matched: usize) -> usize {
        match matched {
            0 => 5,
            1..=2 => 0,
            3 => 1,
            4..=7 => 2,
            8..=15 => 3,
            _ => 4,
        }
    }

    /// Chance that a drafted token is right when those before it were.
    pub(super) fn rate(&self, matched: usize) -> f64 {
        self.rates[Self::class(matched)]
    }

    /// Learns what became of a draft.
    pub(super) fn learn(&mut self, matched: usize, drafted: usize, accepted: usize) {
        self.idle = 0;
        let rate = &mut self.rates[Self::class(matched)];
        for right in (0..drafted.min(accepted + 1)).map(|i| i < accepted) {
            *rate += TOKEN_WEIGHT * (f64::from(u8::from(right)) - *rate);
        }
    }

    /// Notes a step without a draft. Whether it is time to try one.
    pub(super) fn pass(&mut self) -> bool {
        self.idle = self.idle.saturating_add(1);
        self.idle >= RETRY
    }
}

/// What one sequence could draft.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// Most tokens.
    pub(super) most: usize,
    /// Chance of each to be right.
    pub(super) rate: f64,
    /// Whether some are to be tried in any case.
    pub(super) trial: bool,
    /// Whether a model drafts them.
    pub(super) model: bool,
}

/// Tokens to draft for each sequence, so that the step gives the most tokens per second. `rows` are computed in any case,
/// `tokens` of them give one each; `draft` is what each further token of the longest
/// draft by a model costs in seconds.
pub(super) fn plan(
    rows: usize,
    tokens: usize,
    wishes: &[Wish],
    costs: &Costs,
    draft: f64,
) -> Vec<usize> {
    // Each drafted token by the chance that it is reached and right.
    let mut single: Vec<(f64, usize, usize)> = Vec::new();
    for (i, wish) in wishes.iter().enumerate() {
        single.extend((1..=wish.most).map(|depth| (wish.rate.powi(depth as i32), i, depth)));
    }
    single.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.2.cmp(&b.2)).then(a.1.cmp(&b.1)));
    let (mut gain, mut depth) = (tokens as f64, 0);
    let (mut best, mut taken) = (gain / costs.expect(rows), 0);
    for (i, &(chance, wish, d)) in single.iter().enumerate() {
        gain += chance;
        depth = if wishes[wish].model { depth.max(d) } else { depth };
        let speed = gain / (costs.expect(rows + i + 1) + draft * depth as f64);
        if speed > best {
            (best, taken) = (speed, i + 1);
        }
    }
    let mut drafts = vec![0; wishes.len()];
    single[..taken].iter().for_each(|&(_, i, _)| drafts[i] += 1);
    for (count, wish) in drafts.iter_mut().zip(wishes).filter(|(_, wish)| wish.trial) {
        *count = (*count).max(wish.most.min(TRIAL));
    }
    drafts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(seconds: impl Fn(usize) -> f64) -> Costs {
        let mut costs = Costs::default();
        (1..200).for_each(|rows| costs.learn(rows, seconds(rows)));
        costs
    }

    fn wish(most: usize, rate: f64) -> Wish {
        Wish { most, rate, trial: false, model: false }
    }

    #[test]
    fn classes_grow_with_the_rows() {
        assert_eq!((class(1), class(16), class(17), class(20), class(32)), (1, 16, 17, 18, 21));
        assert_eq!((middle(9), middle(18), middle(21)), (9.0, 21.5, 35.5));
        assert!((17..CLASSES - 1).all(|c| class(middle(c) as usize) == c));
        assert!((1..100_000).all(|r| class(r + 1) >= class(r) && class(r) < CLASSES));
    }

    #[test]
    fn times_between_known_ones_are_in_proportion() {
        let mut costs = Costs::default();
        assert_eq!(costs.expect(3), 1.0);
        costs.learn(1, 2.0);
        assert_eq!((costs.expect(1), costs.expect(9)), (2.0, 2.0));
        costs.learn(9, 6.0);
        assert_eq!((costs.expect(3), costs.expect(5), costs.expect(40)), (3.0, 4.0, 6.0));
        (0..100).for_each(|_| costs.learn(1, 4.0));
        assert!((costs.expect(1) - 4.0).abs() < 1e-6);
    }

    #[test]
    fn rows_that_cost_nothing_are_filled_and_dear_ones_are_not() {
        let flat = costs(|_| 1.0);
        assert_eq!(plan(1, 1, &[wish(8, 0.5)], &flat, 0.0), [8]);
        let dear = costs(|rows| rows as f64);
        assert_eq!(plan(1, 1, &[wish(8, 0.9)], &dear, 0.0), [0]);
        // A second row costs half as much again: worth it for likely tokens only.
        let slope = costs(|rows| 1.0 + 0.5 * (rows - 1) as f64);
        assert_eq!(plan(1, 1, &[wish(8, 0.3)], &slope, 0.0), [0]);
        assert!(plan(1, 1, &[wish(8, 0.9)], &slope, 0.0)[0] > 2);
        // A jump at the second row is jumped where the rows behind it are cheap.
        let jump = costs(|rows| if rows == 1 { 1.0 } else { 2.0 + 0.01 * rows as f64 });
        assert_eq!(plan(1, 1, &[wish(1, 0.95)], &jump, 0.0), [0]);
        assert_eq!(plan(1, 1, &[wish(8, 0.95)], &jump, 0.0), [8]);
    }

    #[test]
    fn under_load_drafts_shrink_to_nothing() {
        // Rows are free up to eight, then each costs its part.
        let costs = costs(|rows| 1.0f64.max(rows as f64 / 8.0));
        let total = |n: usize| -> usize {
            plan(n, n, &vec![wish(8, 0.8); n], &costs, 0.0).into_iter().sum()
        };
        assert_eq!((total(1), total(4), total(8), total(32)), (7, 4, 0, 0));
    }

    #[test]
    fn likelier_drafts_go_first() {
        let costs = costs(|rows| if rows <= 6 { 1.0 } else { 100.0 });
        assert_eq!(plan(2, 2, &[wish(8, 0.5), wish(8, 0.9)], &costs, 0.0), [0, 4]);
        assert_eq!(plan(2, 2, &[wish(8, 0.9), wish(2, 0.9)], &costs, 0.0), [2, 2]);
    }

    #[test]
    fn a_draft_models_time_counts() {
        let flat = costs(|_| 1.0);
        let model = Wish { model: true, ..wish(8, 0.7) };
        assert_eq!(plan(1, 1, &[model], &flat, 2.0), [0]);
        assert_eq!(plan(1, 1, &[wish(8, 0.7)], &flat, 2.0), [8]);
        let drafts = plan(1, 1, &[model], &flat, 0.1)[0];
        assert!((1..8).contains(&drafts), "{drafts}");
    }

    #[test]
    fn what_does_not_pay_is_tried_again_now_and_then() {
        let mut belief = Belief::default();
        belief.learn(20, 8, 0);
        assert!(belief.rate(20) < Belief::default().rate(20));
        assert_eq!(belief.rate(2), Belief::default().rate(2));
        let trials = (0..RETRY).filter(|_| belief.pass()).count();
        assert_eq!(trials, 1);
        let dear = costs(|rows| rows as f64);
        let trial = |most| [Wish { rate: 0.1, trial: true, ..wish(most, 0.0) }];
        assert_eq!(plan(1, 1, &trial(8), &dear, 0.0), [TRIAL]);
        assert_eq!(plan(1, 1, &trial(2), &dear, 0.0), [2]);
        let before = belief.rate(20);
        belief.learn(20, 4, 4);
        assert!(belief.rate(20) > before && !belief.pass());
    }
}
