//! A placement in one line of plain English.

use hob_machine::Kind;

use super::{Placement, Seat, Share};
use crate::rig::Rig;
use crate::units::memory_size;

impl Placement {
    /// What lies where, for the user.
    pub fn line(&self, rig: &Rig) -> String {
        let blocks: usize = self.shares.values().map(|share| share.blocks).sum();
        let cards: Vec<(&Seat, &Share)> =
            self.shares.iter().filter(|(seat, share)| **seat != Seat::Cores && share.blocks > 0).collect();
        let cores = self.shares.get(&Seat::Cores).copied().unwrap_or_default();
        match cards.as_slice() {
            [] => self.cores_line(rig),
            [(seat, _)] if cores.blocks + cores.experts == 0 => {
                format!("all {blocks} layers on {}", name(rig, **seat))
            }
            [(seat, _)] if cores.blocks == 0 => {
                let rest = name(rig, **seat);
                format!("experts of {} layers on the CPU, all else on {rest}", cores.experts)
            }
            [(seat, share)] => {
                let there = name(rig, **seat);
                let more = experts_too(cores);
                format!("{} of {blocks} layers on {there}, {} on the CPU{more}", share.blocks, cores.blocks)
            }
            several => {
                let spread = spread(rig, several);
                match (cores.blocks, cores.experts) {
                    (0, 0) => format!("all {blocks} layers over {spread}"),
                    (0, n) => format!("experts of {n} layers on the CPU, all else over {spread}"),
                    (n, _) => format!("{} of {blocks} layers over {spread}, {n} on the CPU{}", blocks - n, experts_too(cores)),
                }
            }
        }
    }

    /// On the cores alone; and why not on the GPU that shares their memory.
    fn cores_line(&self, rig: &Rig) -> String {
        let shared = rig.cards.iter().find(|card| card.kind == Kind::Integrated);
        let limited = |limit: u64| self.shares.values().map(Share::total).sum::<u64>() > limit;
        match (shared, rig.host.limit) {
            (_, Some(limit)) => {
                format!("on the CPU cores: the GPU may use {} of the memory", memory_size(limit))
            }
            (Some(card), _) if limited(card.free) => {
                format!("on the CPU: {} may use {} of the memory", card.name, memory_size(card.free))
            }
            _ => "on the CPU".to_owned(),
        }
    }
}

fn experts_too(cores: Share) -> String {
    match cores.experts > cores.blocks {
        true => " with the experts of all".to_owned(),
        false => String::new(),
    }
}

fn name(rig: &Rig, seat: Seat) -> String {
    match seat {
        Seat::Card(index) => rig.cards.get(index).map_or_else(String::new, |card| card.name.clone()),
        Seat::Chip => rig.host.name.clone(),
        Seat::Cores => "the CPU".to_owned(),
    }
}

/// `2 x A100`, or the layers of each where they differ.
fn spread(rig: &Rig, cards: &[(&Seat, &Share)]) -> String {
    let names: Vec<String> = cards.iter().map(|(seat, _)| name(rig, **seat)).collect();
    match names.first() {
        Some(first) if names.iter().all(|n| n == first) => format!("{} x {first}", names.len()),
        _ => {
            let each = names.iter().zip(cards).map(|(n, (_, share))| format!("{} on {n}", share.blocks));
            format!("{} cards ({})", names.len(), each.collect::<Vec<_>>().join(", "))
        }
    }
}
