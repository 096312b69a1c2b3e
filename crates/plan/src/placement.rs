//! Where a model's parts go on a rig: every sensible layout that fits is built, and the fastest is taken. Blocks stay together and in order; cards
//! fill in proportion to their room. Deliberately absent: tensor parallelism, which is another engine's business (`advise`).

mod cut;
mod words;

use std::collections::BTreeMap;

use hob_model::{KvType, Model};

use crate::context::most_tokens;
use crate::memory::{self, Stored, Weights};
use crate::rig::Rig;
use crate::speed::{self, Interval, Segment, Unit, Work};
use cut::{Costs, Cut};
pub use words::{Place, Where};

/// Tokens of a context that are enough for a conversation.
const USUAL_CONTEXT: usize = 8192;

/// What is asked of a placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wishes {
    /// Tokens of every sequence, prompt and answer together.
    pub context: usize,
    /// Sequences that have this context at the same time.
    pub users: usize,
    /// Element type of the cache.
    pub kv: KvType,
    /// Tokens that stand before the one whose speed is told; 0 as in benchmarks of other programs.
    pub depth: usize,
    /// Tokens of the prompt whose reading speed is told.
    pub prompt: usize,
}

impl Wishes {
    /// What a model is judged by where nobody asks for anything: one sequence of 8192 tokens, or of as many as the model has.
    pub fn usual(model: &Model) -> Wishes {
        Wishes::new(USUAL_CONTEXT.min(model.context as usize))
    }

    /// One sequence of this context; speeds at its beginning, over a prompt of 512 tokens.
    pub fn new(context: usize) -> Wishes {
        Wishes { context, users: 1, kv: KvType::F16, depth: 0, prompt: 512 }
    }
}

/// What computes a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Seat {
    /// A card, by its index in the rig.
    Card(usize),
    /// The GPU of a unified chip.
    Chip,
    /// The cores, from main memory.
    Cores,
}

/// What lies at one seat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Blocks, their routed experts left aside.
    pub blocks: usize,
    /// Blocks whose routed experts it has.
    pub experts: usize,
    /// Bytes of weights.
    pub weights: u64,
    /// Bytes of caches and states.
    pub kv: u64,
    /// Bytes of buffers, and of what an engine takes beside them.
    pub buffers: u64,
}

impl Share {
    /// Everything.
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.kv).saturating_add(self.buffers)
    }
}

/// A layout that fits.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// What lies where.
    pub shares: BTreeMap<Seat, Share>,
    /// Whether nothing is left to slower cores beside a card or a chip. On a machine whose only memory is main memory the cores are no fallback.
    pub whole: bool,
    cut: Cut,
}

impl Placement {
    /// Whether cores do all of it.
    pub fn on_cores(&self) -> bool {
        self.cut.seats() == [Seat::Cores]
    }

    /// Over all seats.
    pub fn total(&self) -> Share {
        self.shares.values().fold(Share::default(), |sum, share| Share {
            blocks: sum.blocks + share.blocks,
            experts: sum.experts + share.experts,
            weights: sum.weights.saturating_add(share.weights),
            kv: sum.kv.saturating_add(share.kv),
            buffers: sum.buffers.saturating_add(share.buffers),
        })
    }
}

/// A model whose tensors have types, and what is asked of it.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// Its description.
    pub model: &'a Model,
    /// Its weights.
    pub weights: &'a Weights,
    /// What is asked.
    pub wishes: Wishes,
}

impl Job<'_> {
    /// The fastest layout, among those that are whole if there is one. `None` where there is no room.
    pub fn place(&self, rig: &Rig) -> Option<Placement> {
        let costs = Costs::of(self, rig);
        let mut cuts = costs.whole_cuts(rig);
        match cuts.is_empty() {
            true => cuts = costs.partial_cuts(rig),
            // There are cards that are slower than the cores.
            false => cuts.extend(costs.on_cores(true)),
        }
        let timed = |cut: Cut| {
            let speed = match self.segments_of(rig, &cut, self.wishes.depth) {
                segments if segments.is_empty() => 0.0,
                segments => speed::decode(&segments).mid,
            };
            (speed, cut)
        };
        let best = cuts.into_iter().map(timed).reduce(|a, b| if b.0 > a.0 { b } else { a });
        best.map(|(_, cut)| costs.placement(rig, cut))
    }

    /// The layout in which the cores do all of it, whether or not there is room: of a model that is loaded, that is known.
    pub fn on_cores(&self, rig: &Rig) -> Placement {
        let cut = Cut::all(Seat::Cores, self.model.blocks.len(), true);
        Costs::of(self, rig).placement(rig, cut)
    }

    /// Whether there is a layout that leaves nothing to slower cores. Speeds are not asked.
    pub fn fits_wholly(&self, rig: &Rig) -> bool {
        !Costs::of(self, rig).whole_cuts(rig).is_empty()
    }

    /// The longest context with which it fits wholly, in whole pages or the model's own; 0 if none does.
    pub fn longest(&self, rig: &Rig) -> usize {
        let fits = |context| {
            let wishes = Wishes { context, ..self.wishes };
            Job { wishes, ..*self }.fits_wholly(rig)
        };
        most_tokens(self.model, fits).min(self.model.context as usize)
    }

    /// All of it at one seat: in main memory, as hob's own backend allocates it.
    pub fn alone(&self, rig: &Rig) -> Share {
        Costs::of(self, rig).alone()
    }

    /// What each unit does for one token at a depth.
    pub fn segments(&self, rig: &Rig, placement: &Placement, depth: usize) -> Vec<Segment> {
        self.segments_of(rig, &placement.cut, depth)
    }

    /// Tokens per second of one sequence at a depth.
    pub fn decode(&self, rig: &Rig, placement: &Placement, depth: usize) -> Interval {
        speed::decode(&self.segments(rig, placement, depth))
    }

    /// Tokens per second of all users' sequences together at a depth.
    pub fn decode_all(&self, rig: &Rig, placement: &Placement, depth: usize) -> Interval {
        speed::decode_batch(&self.segments(rig, placement, depth), self.wishes.users.max(1))
    }

    /// Tokens per second at which the prompt is read.
    pub fn prefill(&self, rig: &Rig, placement: &Placement) -> Interval {
        let prompt = self.wishes.prompt.max(1);
        // The speed model takes the attention of the last token.
        speed::prefill(&self.segments(rig, placement, prompt), prompt)
    }

    /// What all of it takes of a unit that holds it alone, for one token.
    pub(crate) fn all_work(&self, depth: usize) -> Work {
        let cut = Cut::all(Seat::Chip, self.model.blocks.len(), true);
        self.work(&cut, Seat::Chip, depth)
    }

    fn segments_of(&self, rig: &Rig, cut: &Cut, depth: usize) -> Vec<Segment> {
        let seats = cut.seats();
        let segment = |seat: Seat| {
            let unit = unit(rig, seat)?;
            Some(Segment { unit, work: self.work(cut, seat, depth) })
        };
        seats.into_iter().filter_map(segment).collect()
    }

    /// What one seat reads and computes of a token.
    fn work(&self, cut: &Cut, seat: Seat, depth: usize) -> Work {
        let (mut stored, mut cache, mut attention, mut blocks) = (Stored::default(), 0, 0.0, 0);
        let mut heads = usize::MAX;
        let all = self.model.blocks.iter().zip(&self.weights.blocks).zip(&cut.blocks);
        for ((block, weights), at) in all {
            if at.dense == seat {
                stored.add(&weights.dense);
                let mixing = memory::mixing(&block.mixer, self.wishes.kv, depth);
                cache += mixing.bytes;
                attention += mixing.operations;
                heads = heads.min(mixing.heads);
            }
            if at.experts == seat {
                stored.add(&weights.experts);
            }
            let experts = at.experts == seat && weights.experts.bytes > 0;
            blocks += usize::from(at.dense == seat || experts);
        }
        let (mut head, activations) = (0.0, stored.activations as f64);
        if cut.head == seat {
            stored.add(&self.weights.head);
            head = 2.0 * self.weights.head.products as f64;
        }
        Work {
            weights: stored.read,
            all_weights: stored.bytes,
            cache,
            blocks,
            operations: 2.0 * stored.products as f64,
            head,
            activations,
            attention,
            heads,
            kv: self.wishes.kv,
        }
    }
}

/// What sits there.
fn unit(rig: &Rig, seat: Seat) -> Option<Unit> {
    match seat {
        Seat::Card(index) => rig.cards.get(index).map(crate::rig::Card::unit),
        Seat::Chip => rig.host.chip(),
        Seat::Cores => Some(rig.host.cores()),
    }
}
