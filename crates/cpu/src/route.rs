//! Which experts a row goes to, and the order in which rows are dispatched: by expert, then by row. Lists are reused from
//! layer to layer. The arithmetic of a row is its own, so its experts and weights depend on nothing beside it.

use std::ops::Range;

use hob_model::{Moe, Score};

use crate::device::{CpuOps, View, vector};
use crate::isa::Plain;
use crate::rows;

/// Choices of the last `route`.
#[derive(Default)]
pub(crate) struct Routes {
    /// Batch row of every dispatched row.
    pub(crate) rows: Vec<u32>,
    /// Experts in use and their dispatched rows.
    pub(crate) used: Vec<(usize, Range<usize>)>,
    /// For each batch row, its dispatched rows and their weights.
    shares: Vec<(u32, f32)>,
    per_row: usize,
    chosen: Vec<(u32, f32)>,
    starts: Vec<usize>,
    choice: Choice,
}

/// Lists of one row's choice.
#[derive(Default)]
struct Choice {
    scores: Vec<f32>,
    wishes: Vec<f32>,
    order: Vec<u32>,
    groups: Vec<(f32, usize)>,
}

impl Routes {
    /// Dispatched rows of a batch row.
    pub(crate) fn used_per_row(&self) -> usize {
        self.per_row
    }

    /// The sum of what a row's experts gave, in the order of their scores.
    pub(crate) fn combine<'a>(
        &self,
        row: usize,
        out: &mut [f32],
        given: impl Fn(usize) -> &'a [f32],
    ) {
        out.fill(0.0);
        for &(slot, share) in &self.shares[row * self.per_row..(row + 1) * self.per_row] {
            out.iter_mut().zip(given(slot as usize)).for_each(|(y, x)| *y += share * x);
        }
    }

    /// Sorts the chosen experts of all rows into dispatched rows.
    fn dispatch(&mut self, experts: usize) {
        self.starts.clear();
        self.starts.resize(experts + 1, 0);
        self.chosen.iter().for_each(|&(e, _)| self.starts[e as usize + 1] += 1);
        for e in 0..experts {
            self.starts[e + 1] += self.starts[e];
        }
        self.used.clear();
        for e in 0..experts {
            let slots = self.starts[e]..self.starts[e + 1];
            if !slots.is_empty() {
                self.used.push((e, slots));
            }
        }
        self.rows.clear();
        self.rows.resize(self.chosen.len(), 0);
        self.shares.clear();
        for (i, &(e, share)) in self.chosen.iter().enumerate() {
            let slot = &mut self.starts[e as usize];
            self.rows[*slot] = (i / self.per_row) as u32;
            self.shares.push((*slot as u32, share));
            *slot += 1;
        }
    }
}

impl CpuOps {
    /// Chooses experts for every row of `scores`.
    pub(crate) fn choose_experts(&mut self, scores: View, moe: &Moe) {
        let [bias, own] = [moe.choice_bias, moe.expert_scale]
            .map(|id| id.map_or(&[][..], |id| vector(&self.held, id)));
        let routes = &mut self.routes;
        routes.chosen.clear();
        routes.per_row = moe.used as usize;
        for row in 0..scores.rows {
            // SAFETY: one thread.
            routes.choice.choose(unsafe { scores.slice(row) }, moe, bias);
            routes.choice.weigh(moe, own, &mut routes.chosen);
        }
        routes.dispatch(moe.experts as usize);
    }
}

impl Choice {
    /// Puts the experts of a row first in `order`.
    fn choose(&mut self, logits: &[f32], moe: &Moe, bias: &[f32]) {
        let r = &moe.routing;
        self.scores.clear();
        self.scores.extend(logits.iter().map(|x| x * r.temper));
        match r.score {
            Score::Softmax => softmax(&mut self.scores),
            Score::Sigmoid => self.scores.iter_mut().for_each(|x| *x = rows::sigmoid(*x)),
            Score::SoftmaxOfChosen => {}
        }
        self.wishes.clear();
        let biases = bias.iter().copied().chain(std::iter::repeat(0.0));
        self.wishes.extend(self.scores.iter().zip(biases).map(|(s, b)| s + b));
        if r.groups > 1 {
            self.close_groups(r.groups as usize, r.used_groups as usize, r.pair);
        }
        let used = moe.used as usize;
        self.order.clear();
        self.order.extend(0..logits.len() as u32);
        let wishes = &self.wishes;
        // Equal wishes: the lower number first, as everywhere.
        let by_wish =
            |a: &u32, b: &u32| wishes[*b as usize].total_cmp(&wishes[*a as usize]).then(a.cmp(b));
        if used < self.order.len() {
            self.order.select_nth_unstable_by(used, by_wish);
            self.order.truncate(used);
        }
        self.order.sort_unstable_by(by_wish);
    }

    /// Leaves the experts of the best groups to choose from.
    fn close_groups(&mut self, groups: usize, used: usize, pair: bool) {
        let each = self.wishes.len() / groups;
        let score = |wishes: &[f32]| {
            let (mut best, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
            for &w in wishes {
                (best, second) = (best.max(w), if w > best { best } else { second.max(w) });
            }
            if pair { best + second } else { best }
        };
        self.groups.clear();
        self.groups.extend(self.wishes.chunks_exact(each).map(score).zip(0..));
        self.groups.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for &(_, group) in &self.groups[used..] {
            self.wishes[group * each..(group + 1) * each].fill(f32::NEG_INFINITY);
        }
    }

    /// Adds the chosen experts with their weights.
    fn weigh(&mut self, moe: &Moe, own: &[f32], out: &mut Vec<(u32, f32)>) {
        let r = &moe.routing;
        let first = out.len();
        out.extend(self.order.iter().map(|&e| (e, self.scores[e as usize])));
        let chosen = &mut out[first..];
        if r.score == Score::SoftmaxOfChosen {
            // The scores of others are not needed any more.
            self.wishes.clear();
            self.wishes.extend(chosen.iter().map(|c| c.1));
            softmax(&mut self.wishes);
            chosen.iter_mut().zip(&self.wishes).for_each(|(c, w)| c.1 = *w);
        }
        let sum = if r.normalize { chosen.iter().map(|c| c.1).sum() } else { 1.0 };
        for (e, weight) in chosen {
            *weight *= r.scale * own.get(*e as usize).copied().unwrap_or(1.0) / sum;
        }
    }
}

fn softmax(x: &mut [f32]) {
    let most = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // SAFETY: plain Rust.
    x.iter_mut().for_each(|x| *x = unsafe { rows::exp(Plain, *x - most) });
    let sum: f32 = x.iter().sum();
    x.iter_mut().for_each(|x| *x /= sum);
}
