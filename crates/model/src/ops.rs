//! What a device must do: coarse operations over the rows of a batch. Buffers are opaque handles allocated once;
//! only `read` returns numbers. A fused operation's default body, made of small ones, is its specification and
//! its test oracle. Deliberately absent: tensor algebra, shapes as values, and any notion of prefill or decode.

use std::ops::Range;

use crate::{
    Activation, Attend, Batch, Conv, DeltaNet, Dense, Gqa, Linear, Mamba2, Moe, Norm, WeightId,
};

/// A scratch buffer on the device; rows and width of what it holds are those that were last written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Buf(pub u32);

/// Some columns of every group of `group` columns: `len` of them from `first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    /// Length of a group.
    pub group: u32,
    /// First column within it.
    pub first: u32,
    /// Columns taken from it.
    pub len: u32,
}

/// Which row of a table is added to a row of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    /// That of its position.
    Position,
    /// The first.
    First,
}

/// A device failed.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// Reported by the device's driver.
    #[error("the device failed: {0}")]
    Device(String),
}

/// A device. `embed` fills one row per batch row, `gather` one per wanted row, `dispatch` one per chosen expert of a
/// row; every other operation gives its destination the rows of its source.
pub trait Ops {
    /// Allocates a buffer for `rows` rows of at most `width` elements. Called when a model is loaded, never in a step.
    fn alloc(&mut self, rows: usize, width: usize) -> Buf;

    /// Starts a step: takes tokens, positions, page tables and state slots. A sequence that starts at position 0 finds
    /// its recurrent state empty.
    fn begin(&mut self, batch: &Batch);

    /// Copies the recurrent state of one slot over that of another, between steps.
    fn copy_state(&mut self, from: u32, to: u32);

    /// `dst[r] = scale * table[token(r)]`.
    fn embed(&mut self, dst: Buf, table: WeightId, scale: f32);

    /// `dst[r] += table[index(r)]`.
    fn embed_add(&mut self, dst: Buf, table: WeightId, index: Index);

    /// Norm of every group of `norm.width` elements; `dst` may be `src`.
    fn norm(&mut self, dst: Buf, src: Buf, norm: &Norm);

    /// `dst = W src (+ bias)`.
    fn linear(&mut self, dst: Buf, src: Buf, linear: &Linear);

    /// The same for `heads` stacked matrices, each with its part of the row.
    fn head_linear(&mut self, dst: Buf, src: Buf, linear: &Linear, heads: u32);

    /// Rotates every group of `head_dim` elements from its element `first` on, by the position of the row.
    fn rope(&mut self, x: Buf, head_dim: u32, first: u32, rope: usize);

    /// Writes k and v of every row into the pages of its sequence, at its position.
    fn store_kv(&mut self, layer: usize, k: Buf, v: Buf);

    /// The same for layers that cache one latent vector, key and value at once.
    fn store_latent(&mut self, layer: usize, k: Buf);

    /// Attention of every row over the positions that it sees in the cache of `layer`; a row's own is in place.
    fn attend(&mut self, dst: Buf, q: Buf, layer: usize, attend: &Attend);

    /// `dst = columns of src`, group after group.
    fn take(&mut self, dst: Buf, src: Buf, columns: Columns);

    /// `columns of dst = src`; the inverse of `take`, for `dst` of `width` columns. Other columns stay as they are.
    fn put(&mut self, dst: Buf, width: u32, src: Buf, columns: Columns);

    /// The convolution of every row's sequence up to it, and its activation.
    fn conv(&mut self, dst: Buf, src: Buf, layer: usize, conv: &Conv);

    /// The gated delta rule along every sequence, from projections that have passed the convolution.
    fn delta_net(
        &mut self,
        dst: Buf,
        qkv: Buf,
        alpha: Buf,
        beta: Buf,
        layer: usize,
        net: &DeltaNet,
    );

    /// The selective state space along every sequence, likewise.
    fn mamba2(&mut self, dst: Buf, xbc: Buf, dt: Buf, layer: usize, mamba: &Mamba2);

    /// `x = act(x)`.
    fn act(&mut self, x: Buf, act: Activation);

    /// `gate = act(gate) * up`.
    fn act_mul(&mut self, gate: Buf, up: Buf, act: Activation);

    /// `dst += src`.
    fn add(&mut self, dst: Buf, src: Buf);

    /// `x *= factor`.
    fn scale(&mut self, x: Buf, factor: f32);

    /// `x *= w`, `w` repeated along the row.
    fn gain(&mut self, x: Buf, w: WeightId);

    /// `x[r] *= sigmoid(gate[r])`, one gate per row.
    fn gate_rows(&mut self, x: Buf, gate: Buf);

    /// Chooses experts and their weights for every row, from the router's outputs; they hold until the next `route`.
    fn route(&mut self, scores: Buf, moe: &Moe);

    /// The experts of the last choice that have rows, in order, and which dispatched rows are theirs.
    fn routed(&self) -> Vec<(usize, Range<usize>)>;

    /// Copies every row once for each of its experts; the rows of an expert come together.
    fn dispatch(&mut self, dst: Buf, src: Buf);

    /// `dst = W_e src (+ bias_e)` for dispatched rows, e being each row's expert.
    fn expert_linear(&mut self, dst: Buf, src: Buf, linear: &Linear);

    /// `dst[r]` = the sum of what its experts gave, by their weights.
    fn combine(&mut self, dst: Buf, src: Buf);

    /// Copies the rows that the batch wants back.
    fn gather(&mut self, dst: Buf, src: Buf);

    /// `dst[i] = W src[first + i]` for `count` gathered rows.
    fn logits(&mut self, dst: Buf, src: Buf, first: usize, count: usize, head: &Linear);

    /// `x = cap * tanh(x / cap)`.
    fn softcap(&mut self, x: Buf, cap: f32);

    /// The first `rows` rows of a buffer. Waits for the device.
    fn read(&mut self, x: Buf, rows: usize) -> Result<&[f32], OpsError>;

    /// q, k and v of one layer: linears of one input.
    fn qkv(&mut self, q: Buf, k: Buf, v: Buf, src: Buf, gqa: &Gqa) {
        self.linear(q, src, &gqa.q);
        let Some(kv) = &gqa.kv else { return };
        self.linear(k, src, &kv.k);
        match &kv.v {
            Some(linear) => self.linear(v, src, linear),
            None => {
                let all = kv.k.output;
                self.take(v, k, Columns { group: all, first: 0, len: all });
            }
        }
    }

    /// Norms and rotates q and k, then stores k and v.
    fn rope_store(&mut self, q: Buf, k: Buf, v: Buf, layer: usize, gqa: &Gqa) {
        let dim = gqa.attend.key_dim;
        if let Some(norm) = &gqa.q_norm {
            self.norm(q, q, norm);
        }
        if let Some(rope) = gqa.rope {
            self.rope(q, dim, 0, rope);
        }
        let Some(kv) = &gqa.kv else { return };
        if let Some(norm) = &kv.k_norm {
            self.norm(k, k, norm);
        }
        if let Some(norm) = &kv.v_norm {
            self.norm(v, v, norm);
        }
        if let Some(rope) = gqa.rope {
            self.rope(k, dim, 0, rope);
        }
        self.store_kv(layer, k, v);
    }

    /// `gate = act(W_gate src) * (W_up src)`.
    fn gate_up(&mut self, gate: Buf, up: Buf, src: Buf, ffn: &Dense) {
        self.linear(gate, src, &ffn.gate);
        self.linear(up, src, &ffn.up);
        self.act_mul(gate, up, ffn.act);
    }

    /// `dst += W src (+ bias)`, through `tmp`.
    fn linear_add(&mut self, dst: Buf, tmp: Buf, src: Buf, linear: &Linear) {
        self.linear(tmp, src, linear);
        self.add(dst, tmp);
    }
}
