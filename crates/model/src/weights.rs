//! Weights of a description: name, shape, role; and the strict match between them and the tensors of a file.
//! A missing tensor and an unused one are both errors. No bytes are read here.

use std::collections::HashMap;

use hob_gguf::Gguf;

use crate::{Activation, Dense, Linear, Model, ModelError, Norm, NormKind};

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
    TokenTypes,
    PositionEmbd,
    PerLayerTokenEmbd,
    PerLayerModelProj,
    PerLayerInpGate,
    PerLayerProj,
    Output,
    AttnQ,
    AttnK,
    AttnV,
    AttnQkv,
    AttnGate,
    AttnOutput,
    AttnSinks,
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
    FfnGateUpExps,
    FfnDownExps,
    FfnGateInpShexp,
    FfnGateShexp,
    FfnUpShexp,
    FfnDownShexp,
    ExpProbsB,
    SsmIn,
    SsmConv1d,
    SsmA,
    SsmD,
    SsmAlpha,
    SsmBeta,
    SsmOut,
    ShortconvConv,
    ShortconvInProj,
    ShortconvOutProj,
    Norm,
    Bias,
    Scale,
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

    /// Whether recipes decide its type. What has one dimension, and what is small and sensitive, stays as it is: norms,
    /// biases, routers, convolutions, decays.
    pub fn is_quantizable(&self) -> bool {
        use Role::*;
        let kept = matches!(
            self.role,
            FfnGateInp
                | FfnGateInpShexp
                | ExpProbsB
                | PositionEmbd
                | PerLayerModelProj
                | TokenTypes
                | SsmConv1d
                | SsmA
                | SsmD
                | ShortconvConv
                | AttnSinks
                | Norm
                | Bias
                | Scale
                | RopeFreqs
        );
        self.shape.len() >= 2 && !kept
    }

    /// Whether it is multiplied with rows, one matrix or a stack of them.
    pub fn is_matrix(&self) -> bool {
        use Role::*;
        let list = matches!(
            self.role,
            SsmConv1d | SsmA | SsmD | ShortconvConv | AttnSinks | Norm | Bias | Scale | RopeFreqs
        );
        self.shape.len() >= 2 && !list
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
        let weight = self.block(layer, &format!("{name}.weight"), &[width], Role::Norm);
        Norm { kind: NormKind::Rms, weight: Some(weight), bias: None, width, eps }
    }

    /// Layer norm `blk.{layer}.{name}` with its bias, over rows of `width`.
    pub fn layer_norm(&mut self, layer: u32, name: &str, width: u32, eps: f32) -> Norm {
        let bias = self.block(layer, &format!("{name}.bias"), &[width], Role::Bias);
        let rms = self.norm(layer, name, width, eps);
        Norm { kind: NormKind::Layer, bias: Some(bias), ..rms }
    }

    /// `blk.{layer}.{name}.weight` of shape `[input, output]`, without bias.
    pub fn linear(&mut self, layer: u32, name: &str, shape: [u32; 2], role: Role) -> Linear {
        let weight = self.block(layer, &format!("{name}.weight"), &shape, role);
        Linear { weight, bias: None, first: 0, input: shape[0], output: shape[1] }
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

    /// `count` matrices of `[input, output]` in one tensor, with a row of biases for each when `bias` is true.
    pub fn stack(
        &mut self,
        layer: u32,
        name: &str,
        [input, output, count]: [u32; 3],
        role: Role,
        bias: bool,
    ) -> Linear {
        let shape = [input, output, count];
        let weight = self.block(layer, &format!("{name}.weight"), &shape, role);
        let bias =
            bias.then(|| self.block(layer, &format!("{name}.bias"), &shape[1..], Role::Bias));
        Linear { weight, bias, first: 0, input, output }
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

    /// The same with gate and up projection in one tensor, `ffn_up`.
    pub fn fused_ffn(&mut self, layer: u32, width: u32, ffn: u32, act: Activation) -> Dense {
        let both = self.linear(layer, "ffn_up", [width, 2 * ffn], Role::FfnUp);
        let [gate, up] = both.split([ffn, ffn]);
        Dense { gate, up, down: self.linear(layer, "ffn_down", [ffn, width], Role::FfnDown), act }
    }

    fn push(&mut self, name: String, shape: &[u32], role: Role, layer: Option<u32>) -> WeightId {
        let shape = shape.iter().map(|&n| u64::from(n)).collect();
        self.list.push(Weight { name, shape, role, layer });
        WeightId(self.list.len() as u32 - 1)
    }
}

impl Linear {
    /// Linears of consecutive rows: what a fused projection consists of.
    pub fn split<const N: usize>(&self, outputs: [u32; N]) -> [Linear; N] {
        let mut first = self.first;
        outputs.map(|output| {
            let part = Linear { first, output, ..self.clone() };
            first += output;
            part
        })
    }
}

/// Where each weight of a description lies in a file: `tensors[id]` indexes `Gguf::tensors()`.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Tensor index per weight id.
    pub tensors: Vec<usize>,
}

/// Matches a description with a file, strictly both ways but for what the description leaves out on purpose
/// ([`Model::skips`]). Trailing dimensions of 1 are ignored, and those of vectors altogether.
pub fn bind(model: &Model, gguf: &Gguf) -> Result<Bound, ModelError> {
    let (arch, weights) = (model.arch, &model.weights);
    let known = gguf.tensors().iter().enumerate().filter(|(_, t)| !model.skips(&t.name));
    let mut by_name: HashMap<&str, usize> = known.map(|(i, t)| (t.name.as_str(), i)).collect();
    let mut tensors = Vec::with_capacity(weights.len());
    for weight in weights {
        let index = by_name
            .remove(weight.name.as_str())
            .ok_or_else(|| ModelError::MissingTensor(weight.name.clone()))?;
        let found = &gguf.tensors()[index].dims;
        if !same_shape(found, weight) {
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

fn same_shape(found: &[u64], weight: &Weight) -> bool {
    trimmed(found) == trimmed(&weight.shape)
        || (!weight.is_matrix() && found.iter().product::<u64>() == weight.elements())
}

fn trimmed(shape: &[u64]) -> &[u64] {
    let ones = shape.iter().rev().take_while(|&&n| n == 1).count();
    &shape[..(shape.len() - ones).max(1)]
}
