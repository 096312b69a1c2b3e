//! Who leaves the queue next: priority that grows with waiting, then the client that runs least, then arrival. Pure: what
//! a request needs is its caller's knowledge, who answers whether it fits. Nobody is ever put back into it.

use std::cmp::Reverse;
use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap};
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

/// The picks of one step.
#[derive(Debug)]
pub struct Round {
    now: u64,
    passed: HashMap<u64, Passed>,
    refused: usize,
    over: bool,
}

impl Round {
    /// That of step `now`.
    pub fn new(now: u64) -> Self {
        Round { now, passed: HashMap::new(), refused: 0, over: false }
    }

    /// Whose turn it is. With `reserved`, what is left is for clients that run nothing.
    ///
    /// The cost is that of looking at the first request of every client.
    pub fn next<T>(
        &self,
        queue: &Queue<T>,
        reserved: bool,
        standing: impl Fn(Client) -> Standing,
    ) -> Option<Pick> {
        if self.over {
            return None;
        }
        let firsts = queue.lanes.iter().filter_map(|(&client, lane)| {
            let ticket = self.first(client, lane)?;
            let standing = standing(Client::of(client, ticket.id));
            if reserved && standing.held > 0 {
                return None;
            }
            let since = ticket.since.max(lane.seen);
            let level = level(ticket.priority, since, self.now);
            let rank = (Reverse(level), standing.held, standing.had, ticket.key());
            let overdue = self.now.saturating_sub(since) >= PATIENCE;
            Some((rank, Pick { ticket, newcomer: standing.held == 0, overdue }))
        });
        firsts.min_by_key(|&(rank, _)| rank).map(|(_, pick)| pick)
    }

    fn first<T>(&self, client: u64, lane: &Lane<T>) -> Option<Ticket> {
        let from = match self.passed.get(&client) {
            None => Bound::Unbounded,
            Some(&Passed::Until(key)) => Bound::Excluded(key),
            Some(Passed::All) => return None,
        };
        lane.entries.range((from, Bound::Unbounded)).next().map(|(_, (ticket, _))| *ticket)
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
