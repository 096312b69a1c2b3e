//! Llama 1 to 3, Mistral 7B, Mixtral, SmolLM2 and the many models that kept their shape. Files hold q and k rows permuted
//! for adjacent rotary pairs; Llama 3.1's frequency factors come as a tensor.

use super::common::Common;
use super::experts::{Experts, ffn};
use crate::{Header, Mixer, Model, ModelError, RopePairs, Tensors};

pub(super) fn describe(h: &Header) -> Result<Model, ModelError> {
    let c = Common::read(h)?;
    let experts = Experts::read(h, &c, true)?;
    let mut t = Tensors::new();
    let rope = c.rope(h, &mut t, RopePairs::Adjacent)?;
    let blocks = (0..c.layers).map(|i| {
        let mixer = |t: &mut Tensors| Mixer::Gqa(c.gqa(h, t, i));
        c.block(&mut t, i, mixer, |t| ffn(&experts, h, &c, t, i))
    });
    let blocks = blocks.collect();
    Ok(c.model(h, "llama", t, blocks, vec![rope]))
}
