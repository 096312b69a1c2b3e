//! Who leaves the queue next: priority that grows with waiting, then the client that runs least, then arrival. Pure: what
//! a request needs is its caller's knowledge, who answers whether it fits. Nobody is ever put back into it.

use std::cmp::Reverse;
use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::ops::Bound;

use crate::client::{AGE, Client, level};

/// Requests that did not fit and were passed by others, in one step at most.
const MOST_PASSED: usize = 8;
/// Steps that a request whose turn it is can be passed by smaller ones; then all wait until there is room for it.
const PATIENCE: u64 = 32;

/// What the queue knows of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Its number, in order of arrival.
    pub id: u64,
    /// Whose it is; 0 for nobody's.
    pub client: u64,
    /// Higher goes first.
    pub priority: i8,
    /// Step of its arrival.
    pub since: u64,
}

/// Order of the requests of one client: as if each had arrived [`AGE`] steps earlier per level of its priority.
type Key = (i64, u64);

impl Ticket {
    fn key(&self) -> Key {
        (self.since as i64 - i64::from(self.priority) * AGE as i64, self.id)
    }
}

/// What a client has already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Sequences that run.
    pub held: usize,
    /// Rows that it had: see [`crate::client::Shares`].
    pub had: u64,
}

/// A request whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// Which.
    pub ticket: Ticket,
    /// Whether its client runs nothing, so that it may use what is kept for such.
    pub newcomer: bool,
    /// Whether it has waited so long that nobody may pass it any more.
    pub overdue: bool,
}

impl Pick {
    /// Its client.
    pub fn client(&self) -> Client {
        Client::of(self.ticket.client, self.ticket.id)
    }
}

/// The requests of one client; under client 0 those that are nobody's.
#[derive(Debug)]
struct Lane<T> {
    entries: BTreeMap<Key, (Ticket, T)>,
    /// Last step in which the client had something running: whoever is served does not age.
    seen: u64,
}

/// Requests that wait.
#[derive(Debug)]
pub struct Queue<T> {
    lanes: HashMap<u64, Lane<T>>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue { lanes: HashMap::new() }
    }
}

impl<T> Queue<T> {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Whether a client has something waiting; never so of requests that are nobody's.
    pub fn has(&self, client: Client) -> bool {
        matches!(client, Client::Named(client) if self.lanes.contains_key(&client))
    }

    /// Puts a request in.
    pub fn push(&mut self, ticket: Ticket, item: T) {
        let lane = self.lanes.entry(ticket.client);
        let lane = lane.or_insert_with(|| Lane { entries: BTreeMap::new(), seen: 0 });
        lane.entries.insert(ticket.key(), (ticket, item));
    }

    /// Notes that a client has something running in this step.
    pub fn note(&mut self, client: Client, now: u64) {
        if let Client::Named(client) = client
            && let Some(lane) = self.lanes.get_mut(&client)
        {
            lane.seen = now;
        }
    }

    /// What stands behind a pick.
    pub fn get(&self, pick: &Pick) -> Option<&T> {
        let lane = self.lanes.get(&pick.ticket.client)?;
        lane.entries.get(&pick.ticket.key()).map(|(_, item)| item)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, pick: &Pick) -> Option<&mut T> {
        let lane = self.lanes.get_mut(&pick.ticket.client)?;
        lane.entries.get_mut(&pick.ticket.key()).map(|(_, item)| item)
    }

    /// Takes one out.
    pub fn take(&mut self, pick: &Pick) -> Option<T> {
        let lane = self.lanes.get_mut(&pick.ticket.client)?;
        let Slot::Occupied(entry) = lane.entries.entry(pick.ticket.key()) else { return None };
        let (_, item) = entry.remove();
        if lane.entries.is_empty() {
            self.lanes.remove(&pick.ticket.client);
        }
        Some(item)
    }

    /// Takes all out that are `which`, in no order. Looks at every one.
    pub fn extract(&mut self, which: impl Fn(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        for lane in self.lanes.values_mut() {
            let keys =
                lane.entries.iter().filter(|(_, (_, item))| which(item)).map(|(&key, _)| key);
            let keys: Vec<Key> = keys.collect();
            taken.extend(keys.iter().filter_map(|k| lane.entries.remove(k)).map(|(_, item)| item));
        }
        self.lanes.retain(|_, lane| !lane.entries.is_empty());
        taken
    }
}

/// How far a step has come in a lane.
#[derive(Clone, Copy, Debug)]
enum Passed {
    /// What comes after this one is still there.
    Until(Key),
    All,
}

/// Smallest first: level downwards, sequences and rows of the client, the order within it.
type Rank = (Reverse<i64>, usize, u64, Key);

/// The picks of one step.
#[derive(Debug)]
pub struct Round {
    now: u64,
    /// The first of every lane, once they were looked at, but for that of the last pick.
    firsts: Option<BinaryHeap<Reverse<(Rank, u64)>>>,
    /// Lane of the last pick; nothing changes in the others meanwhile.
    last: Option<u64>,
    passed: HashMap<u64, Passed>,
    refused: usize,
    over: bool,
}

impl Round {
    /// That of step `now`.
    pub fn new(now: u64) -> Self {
        let passed = HashMap::new();
        Round { now, firsts: None, last: None, passed, refused: 0, over: false }
    }

    /// Whose turn it is. With `reserved`, which then holds for the rest of the step, what is left is for clients that
    /// run nothing. Between two calls only what concerns the picked request's client may change.
    pub fn next<T>(
        &mut self,
        queue: &Queue<T>,
        reserved: bool,
        standing: impl Fn(Client) -> Standing,
    ) -> Option<Pick> {
        if self.over {
            return None;
        }
        let looked = self.firsts.take();
        let rank = |client| self.rank(queue, client, &standing).map(Reverse);
        let mut firsts: BinaryHeap<_> = match looked {
            None => queue.lanes.keys().filter_map(|&client| rank(client)).collect(),
            Some(mut firsts) => {
                firsts.extend(self.last.and_then(rank));
                firsts
            }
        };
        let mut best = firsts.pop();
        while reserved && best.is_some_and(|Reverse(((_, held, ..), _))| held > 0) {
            best = firsts.pop();
        }
        self.firsts = Some(firsts);
        let Reverse(((_, held, _, key), client)) = best?;
        self.last = Some(client);
        let lane = queue.lanes.get(&client)?;
        let (ticket, _) = lane.entries.get(&key)?;
        let since = ticket.since.max(lane.seen);
        let overdue = self.now.saturating_sub(since) >= PATIENCE;
        Some(Pick { ticket: *ticket, newcomer: held == 0, overdue })
    }

    /// Rank of the first request of a lane that has not been passed.
    fn rank<T>(
        &self,
        queue: &Queue<T>,
        client: u64,
        standing: impl Fn(Client) -> Standing,
    ) -> Option<(Rank, u64)> {
        let lane = queue.lanes.get(&client)?;
        let from = match self.passed.get(&client) {
            None => Bound::Unbounded,
            Some(&Passed::Until(key)) => Bound::Excluded(key),
            Some(Passed::All) => return None,
        };
        let (&key, (ticket, _)) = lane.entries.range((from, Bound::Unbounded)).next()?;
        let Standing { held, had } = standing(Client::of(client, ticket.id));
        let level = level(ticket.priority, ticket.since.max(lane.seen), self.now);
        Some(((Reverse(level), held, had, key), client))
    }

    /// A pick does not fit. Requests of other clients may pass it, unless it has been passed for too long.
    pub fn refuse(&mut self, pick: &Pick) {
        self.refused += 1;
        self.over = pick.overdue || self.refused == MOST_PASSED;
        let passed = match pick.client() {
            Client::Own(_) => Passed::Until(pick.ticket.key()),
            Client::Named(_) => Passed::All,
        };
        self.passed.insert(pick.ticket.client, passed);
    }

    /// A pick stays in the queue, but has had its turn.
    pub fn pass(&mut self, pick: &Pick) {
        self.passed.insert(pick.ticket.client, Passed::Until(pick.ticket.key()));
    }
}

/// What is kept free for clients that run nothing: an eighth, and at least one of several sequences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// Sequences.
    pub sequences: usize,
    /// Pages of every group.
    pub pages: Vec<usize>,
}

impl Reserve {
    /// That of so many sequences and pages.
    pub fn of(sequences: usize, pages: &[usize]) -> Self {
        let kept = if sequences > 1 { sequences.div_ceil(8) } else { 0 };
        let pages = pages.iter().map(|n| (*n as u128 * kept as u128 / sequences as u128) as usize);
        Reserve { sequences: kept, pages: pages.collect() }
    }

    /// Whether a request that takes `price` of the `available` pages may have them.
    pub fn allows(&self, price: &[usize], available: &[usize], newcomer: bool) -> bool {
        let mut groups = price.iter().zip(available).zip(&self.pages);
        groups.all(|((price, available), kept)| {
            let kept = if newcomer { 0 } else { *kept };
            price + kept <= *available
        })
    }
}

#[cfg(test)]
mod tests;
