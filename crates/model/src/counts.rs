//! Numbers read off a description: parameters, and those that one token meets. Cached elements are in `cache`.
//! Deliberately absent: bytes, which depend on a recipe.

use crate::{
    Conv, DeltaGates, Dense, Ffn, Head, Linear, Mixer, Model, Moe, Role, Temper, Weight, WeightId,
};

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

    /// Every linear of the tree.
    pub fn linears(&self) -> Vec<&Linear> {
        let mut all = Vec::new();
        for block in &self.blocks {
            block.mixer.linears(&mut all);
            block.ffn.linears(&mut all);
            all.extend(block.per_layer.iter().flat_map(|input| [&input.gate, &input.up]));
        }
        all.extend(self.embed.per_layer.as_ref().map(|p| &p.project));
        if let Head::Logits(head) = &self.head {
            all.push(&head.linear);
        }
        all
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

impl Mixer {
    fn linears<'a>(&'a self, all: &mut Vec<&'a Linear>) {
        match self {
            Mixer::Gqa(g) | Mixer::Gated(g) => {
                all.extend([&g.q, &g.o]);
                all.extend(g.kv.iter().flat_map(|kv| [Some(&kv.k), kv.v.as_ref()]).flatten());
            }
            Mixer::Mla(m) => {
                all.extend(m.q_a.as_ref().map(|(down, _)| down));
                all.extend([&m.q_b, &m.kv_a, &m.k_b, &m.v_b, &m.o]);
            }
            Mixer::DeltaNet(d) => {
                all.extend([&d.qkv, &d.z, &d.out]);
                match &d.gates {
                    DeltaGates::Apart { alpha, beta } => all.extend([alpha, beta]),
                    DeltaGates::Mixed(both) => all.push(both),
                }
            }
            Mixer::Mamba2(m) => all.extend([&m.z, &m.xbc, &m.dt, &m.out]),
            Mixer::ShortConv(s) => {
                all.extend(&s.bcx);
                all.push(&s.out);
            }
        }
    }
}

impl Ffn {
    fn linears<'a>(&'a self, all: &mut Vec<&'a Linear>) {
        let dense = |d: &'a Dense| [&d.gate, &d.up, &d.down];
        match self {
            Ffn::Dense(d) => all.extend(dense(d)),
            Ffn::Plain(p) => all.extend([&p.up, &p.down]),
            Ffn::Moe(_) => {}
            Ffn::Both(both) => all.extend(dense(&both.dense)),
        }
        let Some(moe) = self.moe() else { return };
        all.extend([&moe.router, &moe.gate, &moe.up, &moe.down]);
        if let Some(shared) = &moe.shared {
            all.extend(dense(&shared.dense));
            all.extend(&shared.gate);
        }
    }
}

impl Temper {
    /// The factor at a position.
    pub fn at(&self, position: usize) -> f32 {
        let turns = position / self.original.max(1) as usize;
        (1.0 + f64::from(self.beta) * (1.0 + turns as f64).ln()) as f32
    }
}

impl Conv {
    /// Elements of its state.
    pub fn state(&self) -> usize {
        (self.kernel as usize - 1) * self.channels as usize
    }
}
