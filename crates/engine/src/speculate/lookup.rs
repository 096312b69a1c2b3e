//! Drafts without a second model: what followed the last tokens when they stood earlier in prompt or answer. An index
//! of short runs, kept up token by token. Only the latest place of each run is known; approximate matches are absent.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Lengths of the runs that are looked up, longest first.
const RUNS: [usize; 3] = [4, 3, 2];
/// Tokens that a match is followed back for at most.
const LONGEST: usize = 32;

/// Where runs of the tokens of one sequence stood last.
#[derive(Clone, Debug, Default)]
pub(super) struct Lookup {
    /// Position after the run, by the run's hash.
    after: HashMap<u64, u32>,
    /// Tokens that are in the index.
    seen: usize,
}

/// Tokens that may come next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The tokens.
    pub(super) tokens: Vec<u32>,
    /// Tokens before them that are equal in both places, up to 32.
    pub(super) matched: usize,
    /// Where the first of them stood.
    pub(super) at: usize,
}

impl Lookup {
    /// Takes up to `most` tokens into the index that were added to `tokens` since; the others come with later calls.
    pub(super) fn extend(&mut self, tokens: &[u32], most: usize) {
        let end = tokens.len().min(self.seen.saturating_add(most));
        for at in self.seen..end {
            for run in RUNS.into_iter().filter(|&run| run <= at) {
                self.after.insert(hash(&tokens[at - run..at]), at as u32);
            }
        }
        self.seen = self.seen.max(end);
    }

    /// What followed the last tokens where the longest run of them stood last; at most `most` tokens. A repetition
    /// that has just begun goes on.
    pub(super) fn find(&self, tokens: &[u32], most: usize) -> Option<Found> {
        let end = tokens.len();
        let at = RUNS.into_iter().filter(|&run| run < end).find_map(|run| {
            let last = &tokens[end - run..];
            let at = *self.after.get(&hash(last))? as usize;
            // Equal hashes are no equal tokens.
            (at < end && tokens[..at].ends_with(last)).then_some(at)
        })?;
        let back = tokens[..at].iter().rev().zip(tokens.iter().rev()).take(LONGEST);
        let matched = back.take_while(|(a, b)| a == b).count();
        follow(tokens, at, most).map(|tokens| Found { tokens, matched, at })
    }
}

/// What stands from `at` on, at most `most` tokens. At the end it begins anew; `None` if it is there already.
pub(super) fn follow(tokens: &[u32], at: usize, most: usize) -> Option<Vec<u32>> {
    let period = tokens.len().checked_sub(at).filter(|&period| period > 0)?;
    Some((0..most).map(|i| tokens[at + i % period]).collect())
}

fn hash(run: &[u32]) -> u64 {
    let mut hasher = DefaultHasher::new();
    run.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use hob_testkit::Rng;
    use proptest::prelude::*;

    use super::*;

    fn find(tokens: &[u32], most: usize) -> Option<Found> {
        let mut lookup = Lookup::default();
        lookup.extend(tokens, usize::MAX);
        lookup.find(tokens, most)
    }

    #[test]
    fn what_followed_last_time_is_proposed() {
        let found = find(&[1, 2, 3, 4, 5, 9, 1, 2, 3], 2).unwrap();
        assert_eq!(found, Found { tokens: vec![4, 5], matched: 3, at: 3 });
        assert_eq!(find(&[1, 2, 3], 4), None);
        assert_eq!(find(&[1, 2, 3, 4, 9, 8], 4), None);
        assert_eq!(find(&[], 4), None);
        assert_eq!(find(&[1, 1], 4), None, "one token is no run");
    }

    #[test]
    fn the_longest_run_wins_and_among_equals_the_latest() {
        // After (7, 1, 2) came 3, after the later (8, 1, 2) came 4; "6, 7, 1, 2" is the longer match.
        let tokens = [6, 7, 1, 2, 3, 8, 1, 2, 4, 6, 7, 1, 2];
        assert_eq!(find(&tokens, 1).unwrap(), Found { tokens: vec![3], matched: 4, at: 4 });
        let tokens = [1, 2, 3, 5, 1, 2, 4, 0, 1, 2];
        assert_eq!(find(&tokens, 1).unwrap(), Found { tokens: vec![4], matched: 2, at: 6 });
    }

    #[test]
    fn a_repetition_goes_on() {
        let found = find(&[5, 1, 2, 1, 2, 1, 2], 5).unwrap();
        assert_eq!(found.tokens, [1, 2, 1, 2, 1]);
        assert_eq!(find(&[7; 40], 3).unwrap(), Found { tokens: vec![7; 3], matched: 32, at: 39 });
    }

    #[test]
    fn what_is_not_taken_in_yet_is_not_found() {
        let tokens = [1, 2, 3, 9, 8, 1, 2];
        let mut lookup = Lookup::default();
        lookup.extend(&tokens, 2);
        assert_eq!(lookup.find(&tokens, 1), None);
        lookup.extend(&tokens, 1);
        assert_eq!(lookup.find(&tokens, 1).unwrap().tokens, [3]);
    }

    proptest! {
        /// Against the definition, with the index built in pieces.
        #[test]
        fn it_is_what_a_search_finds(seed in any::<u64>(), count in 0usize..60, most in 1usize..9) {
            let mut rng = Rng::new(seed);
            let tokens: Vec<u32> = (0..count).map(|_| rng.below(3) as u32).collect();
            let mut lookup = Lookup::default();
            for end in 0..=count {
                lookup.extend(&tokens[..end], 1 + rng.below(3));
            }
            lookup.extend(&tokens, usize::MAX);
            let place = RUNS.into_iter().filter(|&run| run < count).find_map(|run| {
                (run..count).rev().find(|&at| tokens[at - run..at] == tokens[count - run..])
            });
            let expected = place.map(|at| {
                let mut all = tokens.clone();
                (0..most).for_each(|i| all.push(all[at + i]));
                all.split_off(count)
            });
            prop_assert_eq!(lookup.find(&tokens, most).map(|found| found.tokens), expected);
        }
    }
}
