//! Weights of a description: name, shape, role; and the strict match between them and the tensors of a file.
//! A missing tensor and an unused one are both errors. No bytes are read here.

use std::collections::HashMap;

use hob_gguf::Gguf;

use crate::{Activation, Dense, Linear, ModelError, Norm};

/// Index of a weight in [`crate::Model::weights`]; backends keep their device handles in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightId(pub u32);

impl WeightId {
    /// The index as a `usize`.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a weight is for. Recipes choose tensor types by role and layer, never by matching names.
#[allow(missing_docs)] // the variants are GGUF's own tensor names
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    TokenEmbd,
    Output,
    AttnQ,
    AttnK,
    AttnV,
    AttnOutput,
    AttnQA,
    AttnQB,
    AttnKvA,
    AttnKB,
    AttnVB,
    FfnGate,
    FfnUp,
    FfnDown,
    FfnGateInp,
    FfnGateExps,
    FfnUpExps,
    FfnDownExps,
    FfnGateShexp,
    FfnUpShexp,
    FfnDownShexp,
    ExpProbsB,
    Norm,
    Bias,
    RopeFreqs,
}

/// One tensor of the description.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// GGUF tensor name.
    pub name: String,
    /// Shape in ggml order: `shape[0]` is the length of a row (the input width of a linear).
    pub shape: Vec<u64>,
    /// What it is for.
    pub role: Role,
    /// Layer it belongs to, if any.
    pub layer: Option<u32>,
}

impl Weight {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Whether recipes decide its type. What has one dimension, and norms, biases and routers stay as they are.
    pub fn is_quantizable(&self) -> bool {
        let small = matches!(
            self.role,
            Role::FfnGateInp | Role::ExpProbsB | Role::Norm | Role::Bias | Role::RopeFreqs
        );
        self.shape.len() >= 2 && !small
    }
}

/// Collects weights while an architecture writes its tree; gives out ids in order.
#[derive(Default)]
pub struct Tensors {
    list: Vec<Weight>,
}

impl Tensors {
    /// An empty collection.
    pub fn new() -> Self {
        Self::default()
    }

    /// The weights in id order.
    pub fn into_list(self) -> Vec<Weight> {
        self.list
    }

    /// A tensor outside the blocks.
    pub fn global(&mut self, name: &str, shape: &[u32], role: Role) -> WeightId {
        self.push(name.to_owned(), shape, role, None)
    }

    /// The tensor `blk.{layer}.{name}`.
    pub fn block(&mut self, layer: u32, name: &str, shape: &[u32], role: Role) -> WeightId {
        self.push(format!("blk.{layer}.{name}"), shape, role, Some(layer))
    }

    /// RMS norm weight `blk.{layer}.{name}.weight` over groups of `width`.
    pub fn norm(&mut self, layer: u32, name: &str, width: u32, eps: f32) -> Norm {
        Norm {
            weight: self.block(layer, &format!("{name}.weight"), &[width], Role::Norm),
            width,
            eps,
        }
    }

    /// `blk.{layer}.{name}.weight` of shape `[input, output]`, without bias.
    pub fn linear(&mut self, layer: u32, name: &str, shape: [u32; 2], role: Role) -> Linear {
        let weight = self.block(layer, &format!("{name}.weight"), &shape, role);
        Linear { weight, bias: None, input: shape[0], output: shape[1] }
    }

    /// Like [`Tensors::linear`], with `blk.{layer}.{name}.bias` beside it when `bias` is true.
    pub fn biased(
        &mut self,
        layer: u32,
        name: &str,
        shape: [u32; 2],
        role: Role,
        bias: bool,
    ) -> Linear {
        let mut linear = self.linear(layer, name, shape, role);
        linear.bias =
            bias.then(|| self.block(layer, &format!("{name}.bias"), &shape[1..], Role::Bias));
        linear
    }

    /// The gated feed-forward `ffn_gate`, `ffn_up`, `ffn_down` of a layer.
    pub fn gated_ffn(&mut self, layer: u32, width: u32, ffn: u32, act: Activation) -> Dense {
        Dense {
            gate: self.linear(layer, "ffn_gate", [width, ffn], Role::FfnGate),
            up: self.linear(layer, "ffn_up", [width, ffn], Role::FfnUp),
            down: self.linear(layer, "ffn_down", [ffn, width], Role::FfnDown),
            act,
        }
    }

    fn push(&mut self, name: String, shape: &[u32], role: Role, layer: Option<u32>) -> WeightId {
        let shape = shape.iter().map(|&n| u64::from(n)).collect();
        self.list.push(Weight { name, shape, role, layer });
        WeightId(self.list.len() as u32 - 1)
    }
}

/// Where each weight of a description lies in a file: `tensors[id]` indexes `Gguf::tensors()`.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Tensor index per weight id.
    pub tensors: Vec<usize>,
}

/// Matches a description with a file, strictly both ways. Trailing dimensions of 1 are ignored.
pub fn bind(arch: &str, weights: &[Weight], gguf: &Gguf) -> Result<Bound, ModelError> {
    let mut by_name: HashMap<&str, usize> =
        gguf.tensors().iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
    let mut tensors = Vec::with_capacity(weights.len());
    for weight in weights {
        let index = by_name
            .remove(weight.name.as_str())
            .ok_or_else(|| ModelError::MissingTensor(weight.name.clone()))?;
        let found = &gguf.tensors()[index].dims;
        if trimmed(found) != trimmed(&weight.shape) {
            return Err(ModelError::Shape {
                name: weight.name.clone(),
                found: found.to_vec(),
                expected: weight.shape.clone(),
            });
        }
        tensors.push(index);
    }
    match by_name.into_keys().min() {
        Some(stray) => Err(ModelError::UnusedTensor(stray.to_owned(), arch.to_owned())),
        None => Ok(Bound { tensors }),
    }
}

fn trimmed(shape: &[u64]) -> &[u64] {
    let ones = shape.iter().rev().take_while(|&&n| n == 1).count();
    &shape[..(shape.len() - ones).max(1)]
}
