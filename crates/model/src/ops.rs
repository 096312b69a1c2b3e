//! What a device must do: coarse operations over the rows of a batch. Buffers are opaque handles allocated once;
//! only `read` returns numbers. A fused operation's default body, made of small ones, is its specification and
//! its test oracle. Deliberately absent: tensor algebra, shapes as values, and any notion of prefill or decode.

use crate::{Activation, Batch, Dense, Gqa, Linear, Norm, WeightId};

/// A scratch buffer of `rows x width` f32 on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Buf(pub u32);

/// A device failed.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// Reported by the device's driver.
    #[error("the device failed: {0}")]
    Device(String),
}

/// A device. Buffers carry their number of rows: `embed` fills one row per batch row, `gather` one per wanted row,
/// and every other operation gives its destination the rows of its source.
pub trait Ops {
    /// Allocates a buffer. Called when a model is loaded, never in a step.
    fn alloc(&mut self, rows: usize, width: usize) -> Buf;

    /// Starts a step: takes tokens, positions and page tables.
    fn begin(&mut self, batch: &Batch);

    /// `dst[r] = scale * table[token(r)]`.
    fn embed(&mut self, dst: Buf, table: WeightId, scale: f32);

    /// RMS norm of every group of `norm.width` elements; `dst` may be `src`.
    fn rms_norm(&mut self, dst: Buf, src: Buf, norm: &Norm);

    /// `dst = W src (+ bias)`.
    fn linear(&mut self, dst: Buf, src: Buf, linear: &Linear);

    /// Rotates the heads of `x` (`heads * head_dim` wide) by the position of each row.
    fn rope(&mut self, x: Buf, head_dim: u32, rope: usize);

    /// Writes k and v of every row into the pages of its sequence, at its position.
    fn store_kv(&mut self, layer: usize, k: Buf, v: Buf);

    /// Causal attention of every row over the last `gqa.window` positions, its own included, in the pages of its sequence.
    fn attend(&mut self, dst: Buf, q: Buf, layer: usize, gqa: &Gqa);

    /// `gate = act(gate) * up`.
    fn act_mul(&mut self, gate: Buf, up: Buf, act: Activation);

    /// `dst += src`.
    fn add(&mut self, dst: Buf, src: Buf);

    /// Copies the rows that the batch wants back.
    fn gather(&mut self, dst: Buf, src: Buf);

    /// `dst[i] = W src[first + i]` for `count` gathered rows.
    fn logits(&mut self, dst: Buf, src: Buf, first: usize, count: usize, head: &Linear);

    /// `x = cap * tanh(x / cap)` on `count` rows.
    fn softcap(&mut self, x: Buf, count: usize, cap: f32);

    /// The first `rows` rows of a buffer. Waits for the device.
    fn read(&mut self, x: Buf, rows: usize) -> Result<&[f32], OpsError>;

    /// q, k and v of one layer: three linears of one input.
    fn qkv(&mut self, q: Buf, k: Buf, v: Buf, src: Buf, gqa: &Gqa) {
        self.linear(q, src, &gqa.q);
        self.linear(k, src, &gqa.k);
        self.linear(v, src, &gqa.v);
    }

    /// Norms and rotates q and k, then stores k and v.
    fn rope_store(&mut self, q: Buf, k: Buf, v: Buf, layer: usize, gqa: &Gqa) {
        if let Some(norm) = &gqa.q_norm {
            self.rms_norm(q, q, norm);
        }
        if let Some(norm) = &gqa.k_norm {
            self.rms_norm(k, k, norm);
        }
        self.rope(q, gqa.head_dim, gqa.rope);
        self.rope(k, gqa.head_dim, gqa.rope);
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
