//! Qwen2, Qwen2.5 and Qwen3, dense and with experts: rotary pairs by halves. What differs between them the file has or
//! lacks: biases on q, k and v, norms of the heads of q and k, a gated shared expert.

use super::common::{Common, HeadNorms};
use super::experts::{Experts, ffn};
use crate::{Header, Mixer, Model, ModelError, RopePairs, Tensors};

pub(super) fn qwen2(h: &Header) -> Result<Model, ModelError> {
    describe(h, "qwen2", HeadNorms::IfThere, false)
}

pub(super) fn qwen2moe(h: &Header) -> Result<Model, ModelError> {
    describe(h, "qwen2moe", HeadNorms::IfThere, false)
}

pub(super) fn qwen3(h: &Header) -> Result<Model, ModelError> {
    describe(h, "qwen3", HeadNorms::Each, false)
}

pub(super) fn qwen3moe(h: &Header) -> Result<Model, ModelError> {
    describe(h, "qwen3moe", HeadNorms::Each, true)
}

fn describe(
    h: &Header,
    arch: &'static str,
    head_norms: HeadNorms,
    normalize: bool,
) -> Result<Model, ModelError> {
    let c = Common { head_norms, ..Common::read(h)? };
    let experts = Experts::read(h, &c, normalize)?;
    let mut t = Tensors::new();
    let rope = c.rope(h, &mut t, RopePairs::Halves)?;
    let blocks = (0..c.layers).map(|i| {
        let mixer = |t: &mut Tensors| Mixer::Gqa(c.gqa(h, t, i));
        c.block(&mut t, i, mixer, |t| ffn(&experts, h, &c, t, i))
    });
    let blocks = blocks.collect();
    Ok(c.model(h, arch, t, blocks, vec![rope]))
}
