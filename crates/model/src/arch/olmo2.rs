//! OLMo 2 and 3: no norms before, only after each half, and q and k normed over all their heads at once. OLMo 3 has
//! windows in three of four layers, which stretch no positions.

use super::common::{Common, HeadNorms};
use crate::{
    Block, Header, Mixer, Model, ModelError, Rope, RopePairs, RopeScaling, Sight, Tensors,
};

/// Of so many layers the last sees everything.
const PATTERN: u32 = 4;

pub(super) fn describe(h: &Header) -> Result<Model, ModelError> {
    let c = Common { head_norms: HeadNorms::AtOnce, ..Common::read(h)? };
    let window = h.opt_u32("attention.sliding_window")?.filter(|&w| w > 0);
    let mut t = Tensors::new();
    let full = c.rope(h, &mut t, RopePairs::Halves)?;
    let base = h.f32_or("rope.freq_base_swa", c.rope_base as f32)?;
    let local = Rope::new(RopePairs::Halves, full.dims, base.into(), RopeScaling::None);
    let blocks = (0..c.layers).map(|i| {
        let mut gqa = c.gqa(h, &mut t, i);
        if let Some(window) = window.filter(|_| (i + 1) % PATTERN != 0) {
            gqa.attend.sight = Sight::Window(window);
            gqa.rope = Some(1);
        }
        Block {
            attn_post_norm: Some(t.norm(i, "post_attention_norm", c.width, c.eps)),
            ffn_post_norm: Some(t.norm(i, "post_ffw_norm", c.width, c.eps)),
            ..Block::bare(Mixer::Gqa(gqa), c.dense(&mut t, i))
        }
    });
    let blocks = blocks.collect();
    Ok(c.model(h, "olmo2", t, blocks, vec![full, local]))
}
