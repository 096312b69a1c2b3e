//! GLM-4 (0414), dense: norms before and after each half, gate and up projection in one tensor, the first half of each
//! head rotated by adjacent pairs. And GLM-4.5, with experts: no norms after, sigmoid routing, pairs by halves.

use super::common::Common;
use super::experts::{Experts, ffn};
use super::gemma::sandwich;
use crate::{Activation, Ffn, Header, Mixer, Model, ModelError, RopePairs, Tensors};

pub(super) fn glm4(h: &Header) -> Result<Model, ModelError> {
    let c = Common::read(h)?;
    let mut t = Tensors::new();
    let rope = c.rope(h, &mut t, RopePairs::Adjacent)?;
    let blocks = (0..c.layers).map(|i| {
        let gqa = c.gqa(h, &mut t, i);
        let ffn = t.fused_ffn(i, c.width, c.ffn[i as usize], Activation::Silu);
        sandwich(&c, &mut t, i, Mixer::Gqa(gqa), Ffn::Dense(ffn))
    });
    let blocks = blocks.collect();
    Ok(c.model(h, "glm4", t, blocks, vec![rope]))
}

pub(super) fn glm4moe(h: &Header) -> Result<Model, ModelError> {
    let c = Common { ffn_norm: "post_attention_norm", ..Common::read(h)? };
    let experts = Experts::read(h, &c, true)?;
    let mut t = Tensors::new();
    let rope = c.rope(h, &mut t, RopePairs::Halves)?;
    let blocks = (0..c.layers).map(|i| {
        let mixer = |t: &mut Tensors| Mixer::Gqa(c.gqa(h, t, i));
        c.block(&mut t, i, mixer, |t| ffn(&experts, h, &c, t, i))
    });
    let blocks = blocks.collect();
    Ok(c.model(h, "glm4moe", t, blocks, vec![rope]))
}
