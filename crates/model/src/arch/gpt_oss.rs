//! gpt-oss: biases everywhere, attention sinks, every other layer with a sliding window, experts with a clamped SwiGLU
//! whose weights are a softmax over the chosen ones (OpenAI's model card, arXiv 2508.10925).

use super::common::Common;
use super::experts::Experts;
use crate::{
    Activation, Ffn, Header, Mixer, Model, ModelError, Role, Rope, RopePairs, RopeScaling, Score,
    Sight, Tensors,
};

pub(super) fn describe(h: &Header) -> Result<Model, ModelError> {
    let c = Common { ffn_norm: "post_attention_norm", ..Common::read(h)? };
    let window = h.size("attention.sliding_window")?;
    let mut experts =
        Experts::read(h, &c, false)?.ok_or_else(|| h.bad("expert_count", 0, "at least 1"))?;
    experts.act = Activation::SwigluOai;
    experts.routing.score = Score::SoftmaxOfChosen;
    let mut t = Tensors::new();
    let mut scaling = h.rope_scaling()?;
    if let RopeScaling::Yarn { truncate, .. } = &mut scaling {
        // As OpenAI's code has it, and unlike llama.cpp's; files say nothing of it.
        *truncate = false;
    }
    let rope = Rope::new(RopePairs::Halves, c.head_dim, c.rope_base, scaling);
    let blocks = (0..c.layers).map(|i| {
        let mixer = |t: &mut Tensors| {
            let mut gqa = c.gqa(h, t, i);
            gqa.attend.sinks = Some(t.block(i, "attn_sinks.weight", &[c.heads], Role::AttnSinks));
            gqa.attend.sight = if i % 2 == 0 { Sight::Window(window) } else { Sight::Past };
            Mixer::Gqa(gqa)
        };
        c.block(&mut t, i, mixer, |t| Ffn::Moe(experts.layer(h, t, i)))
    });
    let blocks = blocks.collect();
    Ok(c.model(h, "gpt-oss", t, blocks, vec![rope]))
}
