//! Cuts: which seat has which block. All that fit are listed; which is the fastest is asked elsewhere, so that more bandwidth never changes what
//! fits.

use std::collections::BTreeMap;

use hob_machine::{Kind, Vendor};
use hob_model::footprint;

use super::{Job, Placement, Seat, Share};
use crate::context::{Conditions, budget};
use crate::memory::{self, BlockWeights};
use crate::rig::{Card, Rig};

/// Steps in which cards are filled evenly.
const LEVELS: u64 = 256;

/// Seats of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    /// Of all but the routed experts.
    pub dense: Seat,
    /// Of the routed experts.
    pub experts: Seat,
}

/// A layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub blocks: Vec<At>,
    pub head: Seat,
    pub whole: bool,
}

impl Cut {
    /// Everything at one seat.
    pub fn all(seat: Seat, blocks: usize, whole: bool) -> Cut {
        Cut { blocks: vec![At { dense: seat, experts: seat }; blocks], head: seat, whole }
    }

    /// Those that compute something.
    pub fn seats(&self) -> Vec<Seat> {
        let blocks = self.blocks.iter().flat_map(|at| [at.dense, at.experts]);
        let mut seats: Vec<Seat> = blocks.chain([self.head]).collect();
        seats.sort_unstable();
        seats.dedup();
        seats
    }
}

/// What a job takes on a rig.
pub(super) struct Costs<'a> {
    job: &'a Job<'a>,
    /// Cache of each block.
    kv: Vec<u64>,
    /// Cache of all blocks where hob's own backend allocates it, states of prefixes included.
    kv_alone: u64,
    /// Compute buffers of a card.
    card_buffers: u64,
    /// Those of hob's own backend.
    host_buffers: u64,
    /// What a model may take of main memory.
    host_room: u64,
}

impl<'a> Costs<'a> {
    pub fn of(job: &'a Job<'a>, rig: &Rig) -> Costs<'a> {
        let wishes = &job.wishes;
        let conditions = Conditions {
            model: job.model,
            weights: job.weights.total(),
            available: rig.host.free,
            kv: wishes.kv,
            sequences: wishes.users.max(1),
            asked: Some(wishes.context),
        };
        let (lean, usual) = (conditions.lean(wishes.context), conditions.limits(wishes.context));
        Costs {
            job,
            kv: memory::cache_by_block(job.model, &lean),
            kv_alone: footprint(job.model, &usual, 0).kv,
            card_buffers: memory::card_buffers(job.model, &lean),
            host_buffers: footprint(job.model, &lean, 0).buffers,
            host_room: budget(rig.host.free),
        }
    }

    /// All of it in main memory.
    pub fn alone(&self) -> Share {
        let blocks = self.kv.len();
        let experts = self.job.weights.blocks.iter().filter(|b| b.experts.bytes > 0).count();
        let (weights, buffers) = (self.job.weights.total(), self.host_buffers);
        Share { blocks, experts, weights, kv: self.kv_alone, buffers }
    }

    /// Bytes of a block with its cache: all but its experts, and these.
    fn block(&self, index: usize) -> (u64, u64) {
        let weights = self.job.weights.blocks.get(index);
        let kv = self.kv.get(index).copied().unwrap_or(0);
        weights
            .map_or((0, 0), |w: &BlockWeights| (w.dense.bytes.saturating_add(kv), w.experts.bytes))
    }

    /// Layouts that leave nothing to slower cores.
    pub fn whole_cuts(&self, rig: &Rig) -> Vec<Cut> {
        let blocks = self.kv.len();
        let mut cuts: Vec<Cut> =
            sets(rig).iter().filter_map(|set| self.on_cards(rig, set, 0, 0)).collect();
        if let Some(index) = rig.cards.iter().position(|c| c.kind == Kind::Integrated) {
            let fits = rig.cards.get(index).is_some_and(|c| self.shares(c.free, c.kind, c.vendor));
            cuts.extend(fits.then(|| Cut::all(Seat::Card(index), blocks, true)));
        }
        match rig.host.kind {
            Kind::Unified => {
                let limit = rig.host.limit.unwrap_or(rig.host.free);
                let fits = self.shares(limit, Kind::Unified, rig.host.vendor);
                cuts.extend(fits.then(|| Cut::all(Seat::Chip, blocks, true)));
            }
            _ if rig.cards.iter().any(|c| c.kind == Kind::Discrete) => {}
            _ => cuts.extend(self.on_cores(true)),
        }
        cuts
    }

    /// Layouts in which cores do what does not fit elsewhere.
    pub fn partial_cuts(&self, rig: &Rig) -> Vec<Cut> {
        let blocks = self.kv.len();
        let mut cuts = Vec::new();
        for set in sets(rig) {
            if self.job.weights.blocks.iter().any(|b| b.experts.bytes > 0) {
                // Where all experts away are not enough, blocks follow.
                let experts = least(blocks, |n| self.on_cards(rig, &set, 0, n));
                cuts.extend(
                    experts.or_else(|| least(blocks, |n| self.on_cards(rig, &set, n, blocks))),
                );
            }
            cuts.extend(least(blocks, |n| self.on_cards(rig, &set, n, n)));
        }
        cuts.retain(|cut| self.on_host(cut) <= self.host_room);
        cuts.extend(self.on_cores(false));
        cuts
    }

    /// All of it on the cores.
    pub fn on_cores(&self, whole: bool) -> Option<Cut> {
        let lean: u64 = self.kv.iter().fold(0, |sum, kv| sum.saturating_add(*kv));
        let total = Share { kv: lean, ..self.alone() }.total();
        (total <= self.host_room).then(|| Cut::all(Seat::Cores, self.kv.len(), whole))
    }

    /// Whether all of it fits the part of main memory that a GPU may use.
    fn shares(&self, limit: u64, kind: Kind, vendor: Vendor) -> bool {
        let items = (0..self.kv.len()).map(|i| self.block(i));
        let parts = items.fold(self.job.weights.head.bytes, |sum, (dense, experts)| {
            sum.saturating_add(dense).saturating_add(experts)
        });
        let there = parts.saturating_add(self.beside(kind, vendor));
        there <= limit && there.saturating_add(self.job.weights.tables.bytes) <= self.host_room
    }

    /// The cut that has the first `away` blocks on the cores, the experts of the first `experts` too, and the rest over the cards of a set, if
    /// their room allows it.
    fn on_cards(&self, rig: &Rig, set: &[usize], away: usize, experts: usize) -> Option<Cut> {
        let blocks = self.kv.len();
        let room = |index: &usize| rig.cards.get(*index).map_or(0, |card| self.room(card));
        let rooms: Vec<u64> = set.iter().map(room).collect();
        let item = |index: usize| {
            let (dense, stack) = self.block(index);
            if index < experts { dense } else { dense.saturating_add(stack) }
        };
        let mut items: Vec<u64> = (away..blocks).map(item).collect();
        items.push(self.job.weights.head.bytes);
        let seats = evenly(&items, &rooms)?;
        let seat = |at: usize| {
            let card = seats.get(at).and_then(|&room| set.get(room)).copied();
            card.map_or(Seat::Cores, Seat::Card)
        };
        let at = |index: usize| match index.checked_sub(away) {
            None => At { dense: Seat::Cores, experts: Seat::Cores },
            Some(nth) => At {
                dense: seat(nth),
                experts: if index < experts && self.block(index).1 > 0 {
                    Seat::Cores
                } else {
                    seat(nth)
                },
            },
        };
        let whole = away == 0 && experts == 0;
        Some(Cut { blocks: (0..blocks).map(at).collect(), head: seat(blocks - away), whole })
    }

    fn room(&self, card: &Card) -> u64 {
        card.free.saturating_sub(self.beside(card.kind, card.vendor))
    }

    /// What a GPU holds beside weights and caches.
    fn beside(&self, kind: Kind, vendor: Vendor) -> u64 {
        memory::overhead(kind, vendor).saturating_add(self.card_buffers)
    }

    /// What cores and main memory hold of a cut beside cards.
    fn on_host(&self, cut: &Cut) -> u64 {
        let held = cut.blocks.iter().enumerate().map(|(index, at)| {
            let (dense, experts) = self.block(index);
            let here = |seat: Seat, bytes: u64| if seat == Seat::Cores { bytes } else { 0 };
            here(at.dense, dense).saturating_add(here(at.experts, experts))
        });
        let fixed = self.job.weights.tables.bytes.saturating_add(self.host_buffers);
        held.fold(fixed, u64::saturating_add)
    }

    /// A cut with what lies where.
    pub fn placement(&self, rig: &Rig, cut: Cut) -> Placement {
        let mut shares: BTreeMap<Seat, Share> = BTreeMap::new();
        let weights = self.job.weights;
        for ((at, block), kv) in cut.blocks.iter().zip(&weights.blocks).zip(&self.kv) {
            let dense = shares.entry(at.dense).or_default();
            dense.blocks += 1;
            dense.weights = dense.weights.saturating_add(block.dense.bytes);
            dense.kv = dense.kv.saturating_add(*kv);
            if block.experts.bytes > 0 {
                let experts = shares.entry(at.experts).or_default();
                experts.experts += 1;
                experts.weights = experts.weights.saturating_add(block.experts.bytes);
            }
        }
        let head = shares.entry(cut.head).or_default();
        head.weights = head.weights.saturating_add(weights.head.bytes);
        let alone = cut.seats() == [Seat::Cores];
        for (seat, share) in &mut shares {
            share.buffers = match seat {
                Seat::Cores => self.host_buffers,
                Seat::Card(index) => {
                    rig.cards.get(*index).map_or(0, |card| self.beside(card.kind, card.vendor))
                }
                Seat::Chip => self.beside(Kind::Unified, rig.host.vendor),
            };
        }
        if weights.tables.bytes > 0 {
            let cores = shares.entry(Seat::Cores).or_default();
            cores.weights = cores.weights.saturating_add(weights.tables.bytes);
        }
        if let Some(cores) = shares.get_mut(&Seat::Cores).filter(|_| alone) {
            cores.kv = self.kv_alone;
        }
        Placement { shares, whole: cut.whole, cut }
    }
}

/// Sets of cards worth trying: each alone, and the first two, three and so on. Of cards that are alike, one alone is enough.
fn sets(rig: &Rig) -> Vec<Vec<usize>> {
    let discrete = rig.cards.iter().enumerate().filter(|(_, c)| c.kind == Kind::Discrete);
    let cards: Vec<(usize, &Card)> = discrete.collect();
    let mut sets: Vec<Vec<usize>> = Vec::new();
    for (n, (index, card)) in cards.iter().enumerate() {
        let seen = cards.iter().take(n).any(|(_, other)| other == card);
        sets.extend((!seen).then(|| vec![*index]));
    }
    let first = |n: usize| cards.iter().take(n).map(|(index, _)| *index).collect();
    sets.extend((2..=cards.len()).map(first));
    sets
}

/// The cut of the least number in `1..=most` that has one; the more, the easier.
fn least(most: usize, cut: impl Fn(usize) -> Option<Cut>) -> Option<Cut> {
    let (mut low, mut high) = (1, most);
    let mut found = cut(most)?;
    while low < high {
        let middle = low + (high - low) / 2;
        match cut(middle) {
            Some(better) => (high, found) = (middle, better),
            None => low = middle + 1,
        }
    }
    Some(found)
}

/// The room of every item, both in order, each room filled to the same part if that can be; `None` where they do not fit.
fn evenly(items: &[u64], rooms: &[u64]) -> Option<Vec<usize>> {
    let at = |level: u64| {
        let part = |room: &u64| (u128::from(*room) * u128::from(level) / u128::from(LEVELS)) as u64;
        in_order(items, &rooms.iter().map(part).collect::<Vec<_>>())
    };
    let mut found = at(LEVELS)?;
    let (mut low, mut high) = (0, LEVELS);
    while low + 1 < high && rooms.len() > 1 {
        let middle = low + (high - low) / 2;
        match at(middle) {
            Some(better) => (high, found) = (middle, better),
            None => low = middle,
        }
    }
    Some(found)
}

fn in_order(items: &[u64], rooms: &[u64]) -> Option<Vec<usize>> {
    let (mut room, mut left) = (0, rooms.first().copied()?);
    let mut seats = Vec::with_capacity(items.len());
    for &item in items {
        while item > left {
            room += 1;
            left = rooms.get(room).copied()?;
        }
        left -= item;
        seats.push(room);
    }
    Some(seats)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_fill_evenly_and_in_order() {
        assert_eq!(evenly(&[10, 10, 10, 10], &[100, 100]), Some(vec![0, 0, 1, 1]));
        assert_eq!(evenly(&[10, 10, 10], &[20, 10]), Some(vec![0, 0, 1]));
        assert_eq!(evenly(&[10, 10, 10], &[19, 11]), None);
        assert_eq!(evenly(&[10], &[5, 10]), Some(vec![1]));
        assert_eq!(evenly(&[1], &[]), None);
        // Twice the room, twice the items.
        let seats = evenly(&[5; 30], &[200, 100]).unwrap();
        assert_eq!(seats.iter().filter(|s| **s == 0).count(), 20);
    }

    #[test]
    fn more_room_never_fits_less() {
        let items = [7, 3, 9, 1, 4];
        for first in 0..30 {
            for second in 0..30 {
                let fits = |a, b| evenly(&items, &[a, b]).is_some();
                assert!(
                    !fits(first, second) || (fits(first + 1, second) && fits(first, second + 1))
                );
            }
        }
    }

    #[test]
    fn the_least_is_found_by_halving() {
        let cut = |n: usize| (n >= 13).then(|| Cut::all(Seat::Cores, n, false));
        assert_eq!(least(40, cut).unwrap().blocks.len(), 13);
        assert!(least(12, cut).is_none());
    }
}
