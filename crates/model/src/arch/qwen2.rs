//! Qwen2 and Qwen2.5: biases on q, k and v, rotary pairs by halves.

use super::common::Common;
use crate::{Header, Model, ModelError, RopePairs, Tensors};

pub(super) fn describe(h: &Header) -> Result<Model, ModelError> {
    let c = Common::read(h)?;
    let mut t = Tensors::new();
    let rope = c.rope(h, RopePairs::Halves)?;
    let blocks = (0..c.layers).map(|i| c.block(&mut t, i, |t| c.gqa(h, t, i))).collect();
    Ok(c.model(h, "qwen2", t, blocks, vec![rope]))
}
