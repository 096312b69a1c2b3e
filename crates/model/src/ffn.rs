//! The description's other half: how a layer mixes channels. Dense, plain, or by experts; see [`crate::Block`].
//! Deliberately absent: which architecture has which.

use crate::{Linear, Norm, WeightId};

/// How a layer mixes channels.
#[derive(Clone, Debug)]
pub enum Ffn {
    /// `down(act(gate x) * up x)`.
    Dense(Dense),
    /// `down(act(up x))`.
    Plain(Plain),
    /// Routed experts, with an optional shared one.
    Moe(Moe),
    /// A dense feed-forward and experts, both of the stream, each with norms of its own (Gemma 4).
    Both(Box<Both>),
}

impl Ffn {
    /// Its experts.
    pub fn moe(&self) -> Option<&Moe> {
        match self {
            Ffn::Dense(_) | Ffn::Plain(_) => None,
            Ffn::Moe(moe) => Some(moe),
            Ffn::Both(both) => Some(&both.moe),
        }
    }
}

/// Gated feed-forward (arXiv 2002.05202).
#[derive(Clone, Debug)]
pub struct Dense {
    /// Gate projection.
    pub gate: Linear,
    /// Up projection.
    pub up: Linear,
    /// Down projection.
    pub down: Linear,
    /// Applied to the gate.
    pub act: Activation,
}

/// Feed-forward without a gate.
#[derive(Clone, Debug)]
pub struct Plain {
    /// Up projection.
    pub up: Linear,
    /// Down projection.
    pub down: Linear,
    /// Between them.
    pub act: Activation,
}

/// `norm(dense(x)) + norm(moe(norm(x)))`; the router reads the stream through a norm of its own.
#[derive(Clone, Debug)]
pub struct Both {
    /// Of the block's `ffn_norm`.
    pub dense: Dense,
    /// Of what it gives.
    pub dense_post_norm: Norm,
    /// Before the experts.
    pub moe_norm: Norm,
    /// Before the router.
    pub router_norm: Norm,
    /// The experts.
    pub moe: Moe,
    /// Of what they give.
    pub moe_post_norm: Norm,
}

/// A nonlinearity of one element, or of a gate `g` beside an element `u`: `f(g) * u` unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// x.
    Identity,
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// x * sigmoid(x).
    Silu,
    /// GELU, tanh form.
    GeluTanh,
    /// GELU, by the error function.
    Gelu,
    /// gpt-oss: `g sigmoid(1.702 g) (u + 1)`, g at most 7, u between -7 and 7.
    SwigluOai,
}

/// Mixture of experts; expert matrices are stacked in the third dimension.
#[derive(Clone, Debug)]
pub struct Moe {
    /// Router, output `experts`.
    pub router: Linear,
    /// How scores become weights.
    pub routing: Routing,
    /// `[experts]`: bias for the choice only (DeepSeek-V3).
    pub choice_bias: Option<WeightId>,
    /// `[experts]`: factor on what an expert gives (Gemma 4).
    pub expert_scale: Option<WeightId>,
    /// Stack over experts.
    pub gate: Linear,
    /// Stack over experts.
    pub up: Linear,
    /// Stack over experts.
    pub down: Linear,
    /// Nonlinearity of an expert.
    pub act: Activation,
    /// Number of experts.
    pub experts: u32,
    /// Experts per token.
    pub used: u32,
    /// An expert that every token meets.
    pub shared: Option<Shared>,
}

/// The shared expert.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The feed-forward.
    pub dense: Dense,
    /// Output 1: through a sigmoid, a factor on what it gives.
    pub gate: Option<Linear>,
}

/// Expert choice and weighting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Routing {
    /// What turns router outputs into scores.
    pub score: Score,
    /// Factor on the router's outputs.
    pub temper: f32,
    /// Groups of experts.
    pub groups: u32,
    /// Groups that a token may use: those with the highest sums of their best scores.
    pub used_groups: u32,
    /// Whether a group counts by the sum of its two best choices (DeepSeek-V3) or by its best (V2).
    pub pair: bool,
    /// Whether chosen weights are scaled to sum 1.
    pub normalize: bool,
    /// Factor on the weights.
    pub scale: f32,
}

/// From router outputs to scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Score {
    /// Softmax over all experts.
    Softmax,
    /// Sigmoid of each.
    Sigmoid,
    /// Softmax over the chosen ones only (gpt-oss).
    SoftmaxOfChosen,
}
