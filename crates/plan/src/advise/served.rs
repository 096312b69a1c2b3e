//! Where vLLM's case begins: many users at once on cards of a data centre, or on several of them. Its tensors lie in slices over all cards, which
//! then work at the same time; weights are as published, or FP8 where the cards compute it. Figures are this planner's, as nothing of it is
//! measured here.

use hob_machine::{Kind, Vendor};
use hob_model::{CacheLayout, Limits, Mixer, Model, PAGE};

use super::{Candidate, Case, Choice, Constraints, Engine, Made, Offer, Purpose, Run, each};
use crate::memory::Weights;
use crate::placement::{Job, Share, Where};
use crate::speed::{self, Interval, Segment};

/// Users from which on batching outweighs what vLLM asks for.
const USERS: usize = 8;
/// Part of a card's memory that it takes (`--gpu-memory-utilization`).
const PART: f64 = 0.9;
/// Bytes that it takes of a card beside weights and cache: captured graphs, activations.
const BESIDE: u64 = 3 << 30;
/// What of the sum of several cards remains when they exchange sums twice per layer: over NVLink, and over PCI Express.
const TOGETHER: f64 = 0.8;
/// Part of the whole context that a user's sequence has on average.
const FILLED: f64 = 0.5;
/// Most answers on one hardware.
pub(super) const MOST: usize = 4;

/// The precisions it is advised with, and the recipes that have their bytes (Q8_0 has six hundredths more than FP8).
const PRECISIONS: &[(&str, &str)] = &[("BF16", "BF16"), (FP8, "Q8_0")];
const FP8: &str = "FP8";

/// Whether this is a case for it.
pub(super) fn is_case(offer: &Offer, constraints: &Constraints) -> bool {
    let cards = &offer.rig.cards;
    let fit = |vendor: Vendor| matches!(vendor, Vendor::Nvidia | Vendor::Amd);
    let all = !cards.is_empty() && cards.iter().all(|c| c.kind == Kind::Discrete && fit(c.vendor));
    let alike = cards.first().is_some_and(|first| cards.iter().all(|c| c.name == first.name));
    let many = constraints.users >= USERS && constraints.purpose != Purpose::Embedding;
    all && alike && many && (offer.server || cards.len() > 1)
}

/// All models for a purpose in the precisions that it computes, the best first.
pub(super) fn made(candidates: &[Candidate], purpose: Purpose) -> Vec<Made> {
    super::made_in(candidates, purpose, |_| PRECISIONS)
}

/// With vLLM.
pub(super) fn choice(case: Case) -> Option<Choice> {
    let Case { offer: (_, offer), made, candidate, constraints } = case;
    if made.label == FP8 && !offer.fp8 {
        return None;
    }
    let (speed_all, memory) = serve(offer, &candidate.model, &made.weights, constraints)?;
    let cards = offer.rig.cards.len();
    let name = offer.rig.cards.first().map_or("", |c| c.name.as_str());
    case.choice(Run {
        engine: Engine::Vllm { parallel: cards },
        speed: each(speed_all, constraints.users),
        speed_all: speed_all.mid,
        memory,
        placement: Where::Sliced { cards, name: name.to_owned() },
        cores: Share::default(),
        whole: true,
    })
}

/// Tokens per second of all users, and bytes of all cards; `None` where it does not fit.
fn serve(
    offer: &Offer,
    model: &Model,
    weights: &Weights,
    constraints: &Constraints,
) -> Option<(Interval, u64)> {
    let wishes = constraints.wishes();
    let cards = &offer.rig.cards;
    let count = cards.len();
    if wishes.context > model.context as usize || !divides(model, count) {
        return None;
    }
    let filled = (wishes.context as f64 * FILLED) as usize;
    let pages = filled.div_ceil(PAGE) * wishes.users;
    let limits = Limits { sequences: wishes.users, states: wishes.users, ..Limits::new(1, pages) };
    let cache = CacheLayout::of(model).bytes(&limits);
    let whole = weights.total().saturating_add(cache);
    let needed = whole.saturating_add(BESIDE.saturating_mul(count as u64));
    let least = cards.iter().map(|c| c.memory).min()?;
    let room = (least as f64 * PART * count as f64) as u64;
    if needed > room {
        return None;
    }
    let mut unit = cards.first()?.unit();
    let gain = if count > 1 { TOGETHER * count as f64 } else { 1.0 };
    unit.bandwidth *= gain;
    unit.operations *= gain;
    let job = Job { model, weights, wishes };
    let segment = Segment { unit, work: job.all_work(wishes.depth) };
    Some((speed::decode_batch(&[segment], wishes.users), needed))
}

/// Tensor parallelism gives every card the same number of heads.
fn divides(model: &Model, cards: usize) -> bool {
    let heads = model.blocks.iter().filter_map(|block| match &block.mixer {
        Mixer::Gqa(g) | Mixer::Gated(g) => Some(g.attend.heads),
        Mixer::Mla(m) => Some(m.attend.heads),
        Mixer::DeltaNet(d) => Some(d.v_heads),
        Mixer::Mamba2(m) => Some(m.heads),
        Mixer::ShortConv(_) => None,
    });
    heads.into_iter().all(|heads| (heads as usize).is_multiple_of(cards.max(1)))
}
