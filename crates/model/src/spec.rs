//! The description of a model: plain data, read alike by loader, planner, quantizer, interpreter and tests.
//! A new data flow is a new `Mixer` or `Ffn` variant with its own function in `forward`, never a flag on an old one.

use crate::{Rope, Weight, WeightId};

/// A whole decoder. Units: widths and counts in elements, `context` in tokens.
#[derive(Clone, Debug)]
pub struct Model {
    /// GGUF architecture name.
    pub arch: &'static str,
    /// `general.name`, or empty.
    pub name: String,
    /// Every tensor; ids in the tree index this list.
    pub weights: Vec<Weight>,
    /// Entries of the vocabulary.
    pub vocab: u32,
    /// Width of the residual stream (`embedding_length`).
    pub width: u32,
    /// Context the model was trained for.
    pub context: u32,
    /// Token embedding.
    pub embed: Embed,
    /// Layers in order.
    pub blocks: Vec<Block>,
    /// Final norm.
    pub norm: Norm,
    /// Unembedding.
    pub head: Head,
    /// Position encodings used by the blocks (they hold indices, as most layers share one).
    pub ropes: Vec<Rope>,
}

/// Token embedding: row `token` of `weight`, times `scale`.
#[derive(Clone, Debug)]
pub struct Embed {
    /// `[width, vocab]`.
    pub weight: WeightId,
    /// 1 for most, sqrt(width) for Gemma.
    pub scale: f32,
}

/// Unembedding. `linear.weight` equals the embedding's when tied.
#[derive(Clone, Debug)]
pub struct Head {
    /// `[width, vocab]`.
    pub linear: Linear,
    /// `cap * tanh(x / cap)` on the logits.
    pub softcap: Option<f32>,
}

/// One layer: `x += post(mixer(norm(x)))`, `x += post(ffn(norm(x)))`.
#[derive(Clone, Debug)]
pub struct Block {
    /// Norm before the mixer.
    pub attn_norm: Norm,
    /// Token mixing.
    pub mixer: Mixer,
    /// Norm of the mixer's output, before the residual.
    pub attn_post_norm: Option<Norm>,
    /// Norm before the feed-forward.
    pub ffn_norm: Norm,
    /// Channel mixing.
    pub ffn: Ffn,
    /// Norm of the feed-forward's output, before the residual.
    pub ffn_post_norm: Option<Norm>,
}

/// RMS norm over groups of `width` (a whole row, or one head).
#[derive(Clone, Debug)]
pub struct Norm {
    /// Gain, `[width]`.
    pub weight: WeightId,
    /// Group width.
    pub width: u32,
    /// Added to the mean square.
    pub eps: f32,
}

/// `y = W x + b`, W of `[input, output]`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// The matrix.
    pub weight: WeightId,
    /// Optional `[output]`.
    pub bias: Option<WeightId>,
    /// Row length.
    pub input: u32,
    /// Number of rows.
    pub output: u32,
}

/// How a layer mixes tokens.
#[derive(Clone, Debug)]
pub enum Mixer {
    /// Grouped-query attention.
    Gqa(Gqa),
    /// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434).
    Mla(Mla),
}

/// Grouped-query attention (arXiv 2305.13245), with optional per-head norms of q and k.
#[derive(Clone, Debug)]
pub struct Gqa {
    /// Query projection, output `heads * head_dim`.
    pub q: Linear,
    /// Key projection, output `kv_heads * head_dim`.
    pub k: Linear,
    /// Value projection, output `kv_heads * head_dim`.
    pub v: Linear,
    /// Output projection, input `heads * head_dim`.
    pub o: Linear,
    /// Norm of each query head.
    pub q_norm: Option<Norm>,
    /// Norm of each key head.
    pub k_norm: Option<Norm>,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads; divides `heads`.
    pub kv_heads: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// Factor on the scores before softmax.
    pub scale: f32,
    /// Index into [`Model::ropes`].
    pub rope: usize,
    /// Sliding window in tokens, when the layer does not see everything.
    pub window: Option<u32>,
}

/// Latent attention: the cache holds one `kv_rank + rope_dim` vector per token.
#[derive(Clone, Debug)]
pub struct Mla {
    /// Query down projection and its norm; absent in the small models, where `q_b` reads the stream.
    pub q_a: Option<(Linear, Norm)>,
    /// Query up projection, output `heads * (nope_dim + rope_dim)`.
    pub q_b: Linear,
    /// Stream to latent and shared rope key, output `kv_rank + rope_dim`.
    pub kv_a: Linear,
    /// Norm of the latent.
    pub kv_a_norm: Norm,
    /// Per head `[nope_dim, kv_rank]`, folded into the query (absorbed form).
    pub k_b: WeightId,
    /// Per head `[kv_rank, value_dim]`, applied after attention.
    pub v_b: WeightId,
    /// Output projection, input `heads * value_dim`.
    pub o: Linear,
    /// Query heads.
    pub heads: u32,
    /// Width of the latent.
    pub kv_rank: u32,
    /// Rotated part of a head.
    pub rope_dim: u32,
    /// Factor on the scores.
    pub scale: f32,
    /// Index into [`Model::ropes`].
    pub rope: usize,
}

/// How a layer mixes channels.
#[derive(Clone, Debug)]
pub enum Ffn {
    /// `down(act(gate x) * up x)`.
    Dense(Dense),
    /// Routed experts, with an optional shared one.
    Moe(Moe),
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

/// Elementwise nonlinearity of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x * sigmoid(x).
    Silu,
    /// GELU, tanh form.
    GeluTanh,
}

/// Mixture of experts; expert matrices are stacked in the third dimension.
#[derive(Clone, Debug)]
pub struct Moe {
    /// Router, output `experts`.
    pub router: Linear,
    /// Bias for the choice only (DeepSeek-V3).
    pub choice_bias: Option<WeightId>,
    /// `[width, ffn, experts]`.
    pub gate: WeightId,
    /// `[width, ffn, experts]`.
    pub up: WeightId,
    /// `[ffn, width, experts]`.
    pub down: WeightId,
    /// Always-on expert.
    pub shared: Option<Dense>,
    /// Number of experts.
    pub experts: u32,
    /// Experts per token.
    pub used: u32,
    /// Width inside an expert.
    pub ffn: u32,
    /// Nonlinearity.
    pub act: Activation,
    /// How scores become weights.
    pub routing: Routing,
}

/// Expert choice and weighting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Routing {
    /// Sigmoid scores instead of softmax.
    pub sigmoid: bool,
    /// Groups of experts and how many of them may be used; (1, 1) for none.
    pub groups: (u32, u32),
    /// Whether chosen weights are scaled to sum 1.
    pub normalize: bool,
    /// Factor on the weights.
    pub scale: f32,
}

impl Model {
    /// Parameters: elements of all tensors, rope factor tables apart (they are constants, not trained).
    pub fn parameters(&self) -> u64 {
        let trained = self.weights.iter().filter(|w| w.role != crate::Role::RopeFreqs);
        trained.map(Weight::elements).sum()
    }

    /// Parameters that one token meets: all but the experts that are not chosen for it.
    pub fn active_parameters(&self) -> u64 {
        let idle = |block: &Block| match &block.ffn {
            Ffn::Dense(_) => 0,
            Ffn::Moe(moe) => {
                let all = [moe.gate, moe.up, moe.down].map(|id| self.weight(id).elements());
                let each = all.iter().sum::<u64>() / u64::from(moe.experts.max(1));
                each * u64::from(moe.experts.saturating_sub(moe.used))
            }
        };
        self.parameters() - self.blocks.iter().map(idle).sum::<u64>()
    }

    /// The weight behind an id.
    pub fn weight(&self, id: WeightId) -> &Weight {
        &self.weights[id.index()]
    }
}
