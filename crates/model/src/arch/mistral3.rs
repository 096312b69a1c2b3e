//! Ministral 3 and Mistral Large 3's dense relatives: Llama's shape with YaRN, and queries that grow with their position
//! beyond the original context (Llama 4's temperature).

use super::common::Common;
use super::experts::{Experts, ffn};
use crate::{Header, Mixer, Model, ModelError, RopePairs, Temper, Tensors};

pub(super) fn describe(h: &Header) -> Result<Model, ModelError> {
    let c = Common::read(h)?;
    let experts = Experts::read(h, &c, true)?;
    let beta = h.f32_or("attention.temperature_scale", 0.0)?;
    let original = h.size_or("rope.scaling.original_context_length", c.context)?;
    let temper = (beta != 0.0).then_some(Temper { beta, original });
    let mut t = Tensors::new();
    let rope = c.rope(h, &mut t, RopePairs::Adjacent)?;
    let scale = Some(h.f32_or("attention.scale", 0.0)?).filter(|&s| s != 0.0);
    let blocks = (0..c.layers).map(|i| {
        let mixer = |t: &mut Tensors| {
            let mut gqa = c.gqa(h, t, i);
            gqa.attend.temper = temper;
            gqa.attend.scale = scale.unwrap_or(gqa.attend.scale);
            Mixer::Gqa(gqa)
        };
        c.block(&mut t, i, mixer, |t| ffn(&experts, h, &c, t, i))
    });
    let blocks = blocks.collect();
    Ok(c.model(h, "mistral3", t, blocks, vec![rope]))
}
