//! Numbers read off a description: parameters, and those that one token meets. Cached elements are in `cache`.
//! Deliberately absent: bytes, which depend on a recipe.

use crate::{Conv, Head, Model, Moe, Role, Weight, WeightId};

impl Model {
    /// Parameters: elements of all tensors, rope factor tables apart (they are constants, not trained).
    pub fn parameters(&self) -> u64 {
        let trained = self.weights.iter().filter(|w| w.role != Role::RopeFreqs);
        trained.map(Weight::elements).sum()
    }

    /// Parameters that one token meets: all but the experts that are not chosen for it.
    pub fn active_parameters(&self) -> u64 {
        let idle = |moe: &Moe| {
            let stacks = [&moe.gate, &moe.up, &moe.down];
            let mut stacks: Vec<WeightId> =
                stacks.into_iter().flat_map(|l| [Some(l.weight), l.bias]).flatten().collect();
            stacks.sort();
            stacks.dedup(); // gates and ups may be one tensor
            let all: u64 = stacks.into_iter().map(|id| self.weight(id).elements()).sum();
            all / u64::from(moe.experts.max(1)) * u64::from(moe.experts.saturating_sub(moe.used))
        };
        self.parameters() - self.blocks.iter().filter_map(|b| b.ffn.moe()).map(idle).sum::<u64>()
    }

    /// The weight behind an id.
    pub fn weight(&self, id: WeightId) -> &Weight {
        &self.weights[id.index()]
    }

    /// Whether a tensor of a file is left out on purpose: layers that predict further tokens follow the last block.
    pub fn skips(&self, tensor: &str) -> bool {
        let layer = tensor.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
        let layer = layer.and_then(|(number, _)| number.parse::<usize>().ok());
        let predicted = self.blocks.len()..self.blocks.len() + self.predictors as usize;
        layer.is_some_and(|layer| predicted.contains(&layer))
    }

    /// The matrix that gives logits.
    pub fn output(&self) -> Option<WeightId> {
        match &self.head {
            Head::Logits(head) => Some(head.linear.weight),
            Head::Pool(_) => None,
        }
    }
}

impl Conv {
    /// Elements of its state.
    pub fn state(&self) -> usize {
        (self.kernel as usize - 1) * self.channels as usize
    }
}
