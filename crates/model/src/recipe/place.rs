//! Where a weight stands in its model, as far as rules ask: its part, its layer, its number among its kind, and the few facts of
//! the whole model. Weights without a place are those that no recipe quantizes.

use super::Part;
use crate::{Attend, Mixer, Model, Role, Weight};

/// Architectures and depths that llama.cpp calls 70B, and whether grouped queries are part of it (Llama 1 65B has none).
const SIZE_70B: &[(&str, usize, bool)] = &[("llama", 80, true), ("qwen2", 80, false)];

/// What rules ask about a whole model.
pub(super) struct Facts {
    /// Query heads per key and value head, of the first layer.
    pub group: u32,
    /// Experts of a layer that has any.
    pub experts: u32,
    pub size_70b: bool,
    layers: u32,
    tied: bool,
}

/// Where a weight stands.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub part: Part,
    /// The layer by which rules decide: its own, but values are counted, as some layers have none.
    pub layer: u32,
    /// How many of those there are.
    pub layers: u32,
    /// Number among the weights of its part, in the model's order.
    pub nth: u32,
}

/// Query heads per key head as the first layer has them. Headers of models with convolutions or Mamba-2 state key heads layer
/// by layer, and none for these; those of delta nets state one number for all.
fn group(model: &Model) -> u32 {
    let of = |a: &Attend| a.heads / a.kv_heads.max(1);
    let mut groups = model.blocks.iter().filter_map(|block| match &block.mixer {
        Mixer::Gqa(gqa) | Mixer::Gated(gqa) => Some(of(&gqa.attend)),
        Mixer::Mla(mla) => Some(of(&mla.attend)),
        Mixer::DeltaNet(_) => None,
        Mixer::Mamba2(_) | Mixer::ShortConv(_) => Some(0),
    });
    groups.next().unwrap_or(1)
}

impl Facts {
    pub fn of(model: &Model) -> Self {
        let group = group(model);
        let experts = model.blocks.iter().find_map(|block| block.ffn.moe()).map(|moe| moe.experts);
        let (experts, arch, depth) = (experts.unwrap_or(0), model.arch, model.blocks.len());
        let size_70b = |&(name, layers, grouped): &(&str, usize, bool)| {
            // With eight experts llama.cpp names the size by them.
            let other = name == "llama" && experts == 8;
            name == arch && layers == depth && !other && (!grouped || group > 1)
        };
        Facts {
            group,
            experts,
            size_70b: SIZE_70B.iter().any(size_70b),
            layers: depth as u32,
            // Encoders have no unembedding either.
            tied: !model.weights.iter().any(|weight| weight.role == Role::Output),
        }
    }

    /// The place of each weight; `None` for what stays F32.
    pub fn places(&self, weights: &[Weight]) -> Vec<Option<Place>> {
        let parts: Vec<Option<Part>> = weights.iter().map(|w| self.part(w)).collect();
        let values = parts.iter().filter(|part| **part == Some(Part::AttnV)).count() as u32;
        let mut seen = [0; Part::Other as usize + 1];
        let mut place = |weight: &Weight, part: Part| {
            let counter = &mut seen[part as usize];
            let nth = *counter;
            *counter += 1;
            match part {
                Part::AttnV => Place { part, layer: nth, layers: values, nth },
                _ => Place { part, layer: weight.layer.unwrap_or(0), layers: self.layers, nth },
            }
        };
        weights.iter().zip(parts).map(|(weight, part)| Some(place(weight, part?))).collect()
    }

    fn part(&self, weight: &Weight) -> Option<Part> {
        if !weight.is_quantizable() {
            return None;
        }
        Some(match weight.role {
            Role::TokenEmbd | Role::PerLayerTokenEmbd if self.tied => Part::Output,
            Role::TokenEmbd | Role::PerLayerTokenEmbd => Part::TokenEmbd,
            Role::Output => Part::Output,
            Role::AttnQ => Part::AttnQ,
            Role::AttnK => Part::AttnK,
            // Values need the most bits of the three.
            Role::AttnV | Role::AttnQkv => Part::AttnV,
            Role::AttnOutput => Part::AttnOutput,
            Role::FfnGate | Role::FfnGateExps | Role::FfnGateUpExps | Role::FfnGateShexp => {
                Part::FfnGate
            }
            Role::FfnUp | Role::FfnUpExps | Role::FfnUpShexp => Part::FfnUp,
            Role::FfnDown | Role::FfnDownExps | Role::FfnDownShexp => Part::FfnDown,
            _ => Part::Other,
        })
    }
}
