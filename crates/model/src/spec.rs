//! The description of a model: plain data, read alike by loader, planner, quantizer, interpreter and tests.
//! A new data flow is a new `Mixer` or `Ffn` variant with its own function in `forward`, never a flag on an old one.

use crate::{Activation, Ffn, Rope, Weight, WeightId};

/// A whole model. Units: widths and counts in elements, `context` in tokens.
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
    /// Final norm; encoders end in their last layer's.
    pub norm: Option<Norm>,
    /// What becomes of the hidden states.
    pub head: Head,
    /// Position encodings used by the blocks (they hold indices, as most layers share one).
    pub ropes: Vec<Rope>,
    /// Layers of the file after the last block, which predict further tokens (MTP) and are left out.
    pub predictors: u32,
}

/// Token embedding: row `token` of `weight`, times `scale`; then what encoders add, and their norm.
#[derive(Clone, Debug)]
pub struct Embed {
    /// `[width, vocab]`.
    pub weight: WeightId,
    /// 1 for most, sqrt(width) for Gemma.
    pub scale: f32,
    /// `[width, context]`: added by position (BERT).
    pub positions: Option<WeightId>,
    /// `[width, types]`: row 0 is added, as every text is a first sentence (BERT).
    pub types: Option<WeightId>,
    /// Norm of the sum.
    pub norm: Option<Norm>,
    /// A second embedding that every layer reads its part of (Gemma 4).
    pub per_layer: Option<PerLayer>,
}

/// Embeddings for each layer: `(norm(W x) + scale * table[token]) / sqrt 2`, `layers * width` wide.
#[derive(Clone, Debug)]
pub struct PerLayer {
    /// `[layers * width, vocab]`.
    pub table: WeightId,
    /// From the scaled token embedding.
    pub project: Linear,
    /// Over each layer's part.
    pub norm: Norm,
    /// Elements of one layer's part.
    pub width: u32,
}

/// What a model is asked for.
#[derive(Clone, Debug)]
pub enum Head {
    /// Logits over the vocabulary.
    Logits(Unembed),
    /// One vector per text.
    Pool(Pooling),
}

/// Unembedding: `softcap(scale * W x)`. `linear.weight` equals the embedding's when tied.
#[derive(Clone, Debug)]
pub struct Unembed {
    /// `[width, vocab]`.
    pub linear: Linear,
    /// Factor on the logits.
    pub scale: f32,
    /// `cap * tanh(x / cap)` on the logits.
    pub softcap: Option<f32>,
}

/// How the hidden states of a text become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The mean over all tokens.
    Mean,
    /// The first token's.
    First,
    /// The last token's.
    Last,
}

/// One layer: `x = out(x + scale * post(mixer(norm(x))))`, then likewise with the feed-forward; where a norm is absent,
/// nothing happens.
#[derive(Clone, Debug)]
pub struct Block {
    /// Norm before the mixer.
    pub attn_norm: Option<Norm>,
    /// Token mixing.
    pub mixer: Mixer,
    /// Norm of the mixer's output, before the residual.
    pub attn_post_norm: Option<Norm>,
    /// Norm of the stream after the mixer (BERT).
    pub attn_out_norm: Option<Norm>,
    /// Norm before the feed-forward.
    pub ffn_norm: Option<Norm>,
    /// Channel mixing.
    pub ffn: Ffn,
    /// Norm of the feed-forward's output, before the residual.
    pub ffn_post_norm: Option<Norm>,
    /// Norm of the stream after the feed-forward (BERT).
    pub ffn_out_norm: Option<Norm>,
    /// Factor on what each half adds to the stream (Granite).
    pub residual_scale: f32,
    /// What the layer adds from its own embedding (Gemma 4).
    pub per_layer: Option<LayerInput>,
    /// `[1]`: the stream is multiplied by it at the end (Gemma 4).
    pub out_scale: Option<WeightId>,
}

/// `x += norm(W_up (gelu(W_gate x) * part))`, part being the layer's own of [`PerLayer`].
#[derive(Clone, Debug)]
pub struct LayerInput {
    /// From the stream to the part's width.
    pub gate: Linear,
    /// Back.
    pub up: Linear,
    /// Before the residual.
    pub norm: Norm,
}

/// Norm over groups of `width` elements (a whole row, or one head).
#[derive(Clone, Debug)]
pub struct Norm {
    /// What is divided by.
    pub kind: NormKind,
    /// Gain, repeated along the row; `[width]`, or a multiple of it when groups differ.
    pub weight: Option<WeightId>,
    /// Added at the end.
    pub bias: Option<WeightId>,
    /// Group width.
    pub width: u32,
    /// Added to the mean square.
    pub eps: f32,
}

/// The two norms in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// `x / sqrt(mean(x^2) + eps)` (arXiv 1910.07467).
    Rms,
    /// `(x - mean) / sqrt(variance + eps)` (arXiv 1607.06450).
    Layer,
}

/// `y = W x + b`, W being the rows `first .. first + output` of a matrix with rows of `input`; for stacked experts or
/// heads, of each matrix of the stack, and `b` has a row for each.
#[derive(Clone, Debug)]
pub struct Linear {
    /// The matrix.
    pub weight: WeightId,
    /// As many elements as the matrix has rows.
    pub bias: Option<WeightId>,
    /// First row: fused projections are linears of one matrix.
    pub first: u32,
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
    /// The same, where the query projection gives each head a query and a gate, `sigmoid` of which multiplies the
    /// head's output (arXiv 2505.06708).
    Gated(Gqa),
    /// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434).
    Mla(Mla),
    /// Gated delta rule (arXiv 2412.06464).
    DeltaNet(DeltaNet),
    /// Selective state space with scalar decays (Mamba-2, arXiv 2405.21060).
    Mamba2(Mamba2),
    /// Gated short convolution (LFM2, arXiv 2511.23404).
    ShortConv(ShortConv),
}

/// Grouped-query attention (arXiv 2305.13245), with optional norms of q, k and v.
#[derive(Clone, Debug)]
pub struct Gqa {
    /// Query projection, output `heads * key_dim`.
    pub q: Linear,
    /// Keys and values; without them the layer reads those of layer `cache`.
    pub kv: Option<KeyValue>,
    /// Output projection, input `heads * value_dim`.
    pub o: Linear,
    /// Norm of the queries, each head or all of them at once.
    pub q_norm: Option<Norm>,
    /// Heads, mask, scores.
    pub attend: Attend,
    /// Index into [`Model::ropes`]; none in layers without positions.
    pub rope: Option<usize>,
    /// Layer whose cache holds the keys and values: its own, or an earlier one.
    pub cache: usize,
}

/// What a layer puts into its cache.
#[derive(Clone, Debug)]
pub struct KeyValue {
    /// Key projection, output `kv_heads * key_dim`.
    pub k: Linear,
    /// Value projection; without it the keys before norm and rotation are the values.
    pub v: Option<Linear>,
    /// Norm of the keys.
    pub k_norm: Option<Norm>,
    /// Norm of the values.
    pub v_norm: Option<Norm>,
}

/// The middle of attention: `softmax(mask(softcap(scale * q k))) v`.
#[derive(Clone, Debug)]
pub struct Attend {
    /// Query heads.
    pub heads: u32,
    /// Key and value heads; divides `heads`.
    pub kv_heads: u32,
    /// Width of a query or key.
    pub key_dim: u32,
    /// Width of a value.
    pub value_dim: u32,
    /// Factor on the scores.
    pub scale: f32,
    /// Which positions a row sees.
    pub sight: Sight,
    /// `cap * tanh(x / cap)` on the scores.
    pub softcap: Option<f32>,
    /// `[heads]`: a score that takes its share of the softmax and has no value (gpt-oss).
    pub sinks: Option<WeightId>,
    /// Queries grow with their position (Llama 4, Mistral 3).
    pub temper: Option<Temper>,
}

/// Positions that a row attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sight {
    /// Up to its own.
    Past,
    /// The last so many, its own included.
    Window(u32),
    /// All of its sequence: encoders, whose sequences come whole.
    All,
}

/// Queries at position p are multiplied by `1 + beta * ln(1 + floor(p / original))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temper {
    /// Strength.
    pub beta: f32,
    /// Context before extension.
    pub original: u32,
}

/// Latent attention in absorbed form: one key of `kv_rank + rope_dim` per token, whose first `kv_rank` elements are the
/// value as well.
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
    /// Stack over heads, from `nope_dim` to `kv_rank`: folded into the query.
    pub k_b: Linear,
    /// Stack over heads, from `kv_rank` to the value's width: applied after attention.
    pub v_b: Linear,
    /// Output projection.
    pub o: Linear,
    /// One key head; `value_dim` is the width of the latent.
    pub attend: Attend,
    /// Width of the rotated part of a head.
    pub rope_dim: u32,
    /// Index into [`Model::ropes`].
    pub rope: usize,
}

/// Causal convolution along the sequence, each channel by itself; the last `kernel - 1` inputs are its state.
#[derive(Clone, Debug)]
pub struct Conv {
    /// `[kernel, channels]`.
    pub weight: WeightId,
    /// `[channels]`.
    pub bias: Option<WeightId>,
    /// Taps.
    pub kernel: u32,
    /// Channels.
    pub channels: u32,
    /// Applied to the result.
    pub act: Activation,
}

/// Linear attention with a matrix per head as state: `S = exp(g) S; S += k (beta (v - S^T k))^T; y = S^T q / sqrt(dim)`,
/// q and k of length 1, `g = a * softplus(alpha + dt)`, beta through a sigmoid.
#[derive(Clone, Debug)]
pub struct DeltaNet {
    /// Queries, keys and values: `2 * k_heads * dim + v_heads * value_dim`.
    pub qkv: Linear,
    /// Over them.
    pub conv: Conv,
    /// Gate of the output, `v_heads * value_dim`.
    pub z: Linear,
    /// Decay and step of each head.
    pub gates: DeltaGates,
    /// `[v_heads]`, added to alpha.
    pub dt: WeightId,
    /// `[v_heads]`, negative.
    pub a: WeightId,
    /// Norm of each head's output, before its gate.
    pub norm: Norm,
    /// Output projection.
    pub out: Linear,
    /// Heads of queries and keys.
    pub k_heads: u32,
    /// Heads of values; a multiple.
    pub v_heads: u32,
    /// Width of a key.
    pub key_dim: u32,
    /// Width of a value.
    pub value_dim: u32,
}

/// Where alpha and beta of a delta net come from; with it, which key head a value head reads.
#[derive(Clone, Debug)]
pub enum DeltaGates {
    /// Two projections; value head h reads key head `h % k_heads`.
    Apart {
        /// Output `v_heads`.
        alpha: Linear,
        /// Output `v_heads`.
        beta: Linear,
    },
    /// One projection, for each key head the betas of its value heads and then their alphas; value head h reads key
    /// head `h / (v_heads / k_heads)`.
    Mixed(Linear),
}

/// `h = exp(dt a) h + dt x B^T; y = h C + d x`, `dt` through a softplus; then `norm(y * silu(z))`.
#[derive(Clone, Debug)]
pub struct Mamba2 {
    /// Gate, `heads * head_dim`.
    pub z: Linear,
    /// `x`, `B` and `C`: `heads * head_dim + 2 * groups * state`.
    pub xbc: Linear,
    /// `heads`.
    pub dt: Linear,
    /// Over `x`, `B` and `C`.
    pub conv: Conv,
    /// `[heads]`, added to dt.
    pub dt_bias: WeightId,
    /// `[heads]`, negative.
    pub a: WeightId,
    /// `[heads]`.
    pub d: WeightId,
    /// Over each group.
    pub norm: Option<Norm>,
    /// Output projection.
    pub out: Linear,
    /// Heads.
    pub heads: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// Groups of heads that share `B` and `C`.
    pub groups: u32,
    /// Width of `B` and `C`.
    pub state: u32,
}

/// `W_out (c * conv(b * x))`.
#[derive(Clone, Debug)]
pub struct ShortConv {
    /// `b`, `c` and `x`, each as wide as the stream.
    pub bcx: [Linear; 3],
    /// Over `b * x`.
    pub conv: Conv,
    /// Output projection.
    pub out: Linear,
}
