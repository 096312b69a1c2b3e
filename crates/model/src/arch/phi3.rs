//! Phi-3, Phi-3.5 and Phi-4-mini: q, k and v in one tensor, gate and up projection in another, LongRoPE's two tables. Their
//! sliding window is not used, as in llama.cpp: published configurations set it as long as the context or longer.

use super::common::Common;
use crate::{Activation, Factors, Ffn, Header, Mixer, Model, ModelError, Role, RopePairs, Tensors};

pub(super) fn describe(h: &Header) -> Result<Model, ModelError> {
    let c = Common::read(h)?;
    let mut t = Tensors::new();
    let mut rope = c.rope(h, &mut t, RopePairs::Halves)?;
    if h.has("rope_factors_long.weight") {
        let mut table = |name: &str| t.global(name, &[rope.dims / 2], Role::RopeFreqs);
        let (long, short) = (table("rope_factors_long.weight"), table("rope_factors_short.weight"));
        let original = h.size_or("rope.scaling.original_context_length", c.context)?;
        rope.factors = Factors::ByContext { short, long, original };
        rope.magnitude = h.f32_or("rope.scaling.attn_factor", 1.0)?;
    }
    let blocks = (0..c.layers).map(|i| {
        let mixer = |t: &mut Tensors| Mixer::Gqa(c.gqa(h, t, i));
        c.block(&mut t, i, mixer, |t| {
            Ffn::Dense(t.fused_ffn(i, c.width, c.ffn[i as usize], Activation::Silu))
        })
    });
    let blocks = blocks.collect();
    Ok(c.model(h, "phi3", t, blocks, vec![rope]))
}
