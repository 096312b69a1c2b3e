//! SmolLM3: Llama's shape, where every fourth layer has no positions (NoPE, arXiv 2501.18795).

use super::common::Common;
use crate::{Header, Mixer, Model, ModelError, RopePairs, Tensors};

/// Of so many layers the last has no positions.
const PATTERN: u32 = 4;

pub(super) fn describe(h: &Header) -> Result<Model, ModelError> {
    let c = Common::read(h)?;
    let mut t = Tensors::new();
    let rope = c.rope(h, &mut t, RopePairs::Adjacent)?;
    let blocks = (0..c.layers).map(|i| {
        let mixer = |t: &mut Tensors| {
            let mut gqa = c.gqa(h, t, i);
            gqa.rope = ((i + 1) % PATTERN != 0).then_some(0);
            Mixer::Gqa(gqa)
        };
        c.block(&mut t, i, mixer, |t| c.dense(t, i))
    });
    let blocks = blocks.collect();
    Ok(c.model(h, "smollm3", t, blocks, vec![rope]))
}
