//! Llama 1 to 3, Mistral 7B, SmolLM2 and the many models that kept their shape. Files hold q and k rows permuted for
//! adjacent rotary pairs; Llama 3.1's frequency factors come as a tensor. Mixtral's experts are not described yet.

use super::common::Common;
use crate::{Header, Model, ModelError, Role, RopePairs, Tensors};

pub(super) fn describe(h: &Header) -> Result<Model, ModelError> {
    let c = Common::read(h)?;
    if let Some(experts @ 1..) = h.opt_u32("expert_count")? {
        return Err(h.bad("expert_count", experts, "0: experts are not known for llama yet"));
    }
    let mut t = Tensors::new();
    let mut rope = c.rope(h, RopePairs::Adjacent)?;
    if h.has("rope_freqs.weight") {
        rope.factors = Some(t.global("rope_freqs.weight", &[rope.dims / 2], Role::RopeFreqs));
    }
    let blocks = (0..c.layers).map(|i| c.block(&mut t, i, |t| c.gqa(h, t, i))).collect();
    Ok(c.model(h, "llama", t, blocks, vec![rope]))
}
