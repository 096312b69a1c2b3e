//! A placement in words: as data, so that every language can say it, and in plain English.

use std::fmt;

use hob_machine::Kind;

use super::{Placement, Seat, Share};
use crate::rig::Rig;
use crate::units::memory_size;

/// Where a model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    /// All of it at one place.
    All {
        /// Layers.
        layers: usize,
        /// The place.
        on: Place,
    },
    /// Experts on the cores, all else elsewhere.
    Experts {
        /// Layers whose experts are on the cores.
        layers: usize,
        /// Where the rest is.
        on: Place,
    },
    /// Some layers on the cores.
    Layers {
        /// Those that are elsewhere.
        there: usize,
        /// Of how many.
        of: usize,
        /// Where they are.
        on: Place,
        /// Whether the cores have the experts of all.
        experts: bool,
    },
    /// On the cores.
    Cores {
        /// A GPU that shares their memory and may use too little of it: its name, if it has one of its own, and bytes.
        limited: Option<(Option<String>, u64)>,
    },
    /// Every layer in slices over cards that are alike.
    Sliced {
        /// How many.
        cards: usize,
        /// Their name.
        name: String,
    },
}

/// One GPU or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// One.
    One(String),
    /// Several that are alike.
    Alike(usize, String),
    /// Several, with the layers of each.
    Several(Vec<(usize, String)>),
}

impl Placement {
    /// Where the model is.
    pub fn describe(&self, rig: &Rig) -> Where {
        let of: usize = self.shares.values().map(|share| share.blocks).sum();
        let gpus = self.shares.iter().filter(|(seat, s)| **seat != Seat::Cores && s.blocks > 0);
        let gpus: Vec<(usize, String)> =
            gpus.map(|(seat, share)| (share.blocks, name(rig, *seat))).collect();
        let cores = self.shares.get(&Seat::Cores).copied().unwrap_or_default();
        let Some(on) = Place::of(gpus) else {
            return Where::Cores { limited: self.limited(rig) };
        };
        match (cores.blocks, cores.experts) {
            (0, 0) => Where::All { layers: of, on },
            (0, layers) => Where::Experts { layers, on },
            (n, experts) => Where::Layers { there: of - n, of, on, experts: experts > n },
        }
    }

    /// The GPU that shares the cores' memory, if its limit is why they compute.
    fn limited(&self, rig: &Rig) -> Option<(Option<String>, u64)> {
        let total: u64 = self.shares.values().map(Share::total).sum();
        let card = rig.cards.iter().find(|card| card.kind == Kind::Integrated);
        let card = card.map(|card| (Some(card.name.clone()), card.free));
        let chip = rig.host.limit.map(|limit| (None, limit));
        card.or(chip).filter(|(_, limit)| total > *limit)
    }
}

impl Place {
    fn of(gpus: Vec<(usize, String)>) -> Option<Place> {
        let (_, first) = gpus.first()?;
        Some(match gpus.len() {
            1 => Place::One(first.clone()),
            n if gpus.iter().all(|(_, name)| name == first) => Place::Alike(n, first.clone()),
            _ => Place::Several(gpus),
        })
    }
}

fn name(rig: &Rig, seat: Seat) -> String {
    match seat {
        Seat::Card(index) => rig.cards.get(index).map_or_else(String::new, |c| c.name.clone()),
        Seat::Chip => rig.host.name.clone(),
        Seat::Cores => "the CPU".to_owned(),
    }
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Where::All { layers, on } => write!(f, "all {layers} layers {on}"),
            Where::Experts { layers, on } => {
                write!(f, "experts of {layers} layers on the CPU, all else {on}")
            }
            Where::Layers { there, of, on, experts } => {
                let too = if *experts { " with the experts of all" } else { "" };
                write!(f, "{there} of {of} layers {on}, {} on the CPU{too}", of - there)
            }
            Where::Cores { limited: None } => f.write_str("on the CPU"),
            Where::Cores { limited: Some((gpu, limit)) } => {
                let gpu = gpu.as_deref().unwrap_or("the GPU");
                write!(f, "on the CPU: {gpu} may use {} of the memory", memory_size(*limit))
            }
            Where::Sliced { cards: 1, name } => write!(f, "all of it on {name}"),
            Where::Sliced { cards, name } => {
                write!(f, "every layer in {cards} slices over {cards} x {name}")
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::One(name) => write!(f, "on {name}"),
            Place::Alike(n, name) => write!(f, "over {n} x {name}"),
            Place::Several(gpus) => {
                let each: Vec<String> =
                    gpus.iter().map(|(n, name)| format!("{n} on {name}")).collect();
                write!(f, "over {} cards ({})", gpus.len(), each.join(", "))
            }
        }
    }
}
