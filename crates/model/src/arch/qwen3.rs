//! Qwen3, dense: no biases, every head of q and k normed before rotation.

use super::common::Common;
use crate::{Gqa, Header, Model, ModelError, RopePairs, Tensors};

pub(super) fn describe(h: &Header) -> Result<Model, ModelError> {
    let c = Common::read(h)?;
    let mut t = Tensors::new();
    let rope = c.rope(h, RopePairs::Halves)?;
    let normed = |t: &mut Tensors, i: u32| Gqa {
        q_norm: Some(t.norm(i, "attn_q_norm", c.head_dim, c.eps)),
        k_norm: Some(t.norm(i, "attn_k_norm", c.head_dim, c.eps)),
        ..c.gqa(h, t, i)
    };
    let blocks = (0..c.layers).map(|i| c.block(&mut t, i, |t| normed(t, i))).collect();
    Ok(c.model(h, "qwen3", t, blocks, vec![rope]))
}
