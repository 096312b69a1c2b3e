//! Gemma 3 text models: norms before and after each half, five sliding-window layers to one full one, each kind with
//! its own rotary base, embeddings scaled by sqrt(width). The vision tower is left out.

use super::common::Common;
use crate::{
    Activation, Block, Ffn, Gqa, Header, Mixer, Model, ModelError, Rope, RopePairs, RopeScaling,
    Tensors,
};

/// Rotary base of the sliding-window layers (Gemma 3 report, arXiv 2503.19786).
const LOCAL_BASE: f64 = 10_000.0;
/// Every sixth layer sees everything.
const PATTERN: u32 = 6;
/// Layers of the 27B model, whose queries are scaled by width / heads instead of the head's width.
const LAYERS_27B: u32 = 62;

pub(super) fn describe(h: &Header) -> Result<Model, ModelError> {
    let c = Common::read(h)?;
    let mut t = Tensors::new();
    let window = h.size("attention.sliding_window")?;
    let full = c.rope(h, RopePairs::Halves)?;
    let local = Rope::new(RopePairs::Halves, full.dims, LOCAL_BASE, RopeScaling::None);
    let head = if c.layers == LAYERS_27B { c.width / c.heads } else { c.head_dim };
    let blocks = (0..c.layers)
        .map(|i| {
            let is_full = i % PATTERN == PATTERN - 1;
            let gqa = Gqa {
                q_norm: Some(t.norm(i, "attn_q_norm", c.head_dim, c.eps)),
                k_norm: Some(t.norm(i, "attn_k_norm", c.head_dim, c.eps)),
                scale: 1.0 / (head as f32).sqrt(),
                rope: usize::from(!is_full),
                window: (!is_full).then_some(window),
                ..c.gqa(h, &mut t, i)
            };
            Block {
                attn_norm: t.norm(i, "attn_norm", c.width, c.eps),
                mixer: Mixer::Gqa(gqa),
                attn_post_norm: Some(t.norm(i, "post_attention_norm", c.width, c.eps)),
                ffn_norm: t.norm(i, "ffn_norm", c.width, c.eps),
                ffn: Ffn::Dense(t.gated_ffn(i, c.width, c.ffn, Activation::GeluTanh)),
                ffn_post_norm: Some(t.norm(i, "post_ffw_norm", c.width, c.eps)),
            }
        })
        .collect();
    let mut model = c.model(h, "gemma3", t, blocks, vec![full, local]);
    model.embed.scale = (c.width as f32).sqrt();
    Ok(model)
}
