//! Gemma 2 and 3, text: norms before and after each half, sliding-window layers between full ones, embeddings scaled by
//! sqrt(width). Gemma 2 caps scores and logits; Gemma 3 norms q and k and gives the windows a rotary base of their own.
//! Vision towers are left out.

use super::common::{Common, HeadNorms};
use crate::{
    Activation, Block, Ffn, Gqa, Header, Mixer, Model, ModelError, Rope, RopePairs, RopeScaling,
    Sight, Tensors,
};

/// Rotary base of Gemma 3's sliding-window layers (arXiv 2503.19786).
const LOCAL_BASE: f32 = 10_000.0;
/// Depths of the 27B models, whose queries are scaled by width / heads instead of the head's width.
const LAYERS_27B: [u32; 2] = [46, 62];

/// What the generations differ in.
struct Generation {
    arch: &'static str,
    /// Of so many layers the last sees everything.
    pattern: u32,
    /// Window where the header says nothing.
    window: Option<u32>,
    head_norms: HeadNorms,
    /// Rotary base of the sliding-window layers where it is their own and the header says nothing.
    local_base: Option<f32>,
}

pub(super) fn gemma2(h: &Header) -> Result<Model, ModelError> {
    let head_norms = HeadNorms::IfThere;
    let g =
        Generation { arch: "gemma2", pattern: 2, window: Some(4096), head_norms, local_base: None };
    describe(h, &g)
}

pub(super) fn gemma3(h: &Header) -> Result<Model, ModelError> {
    let (head_norms, local_base) = (HeadNorms::Each, Some(LOCAL_BASE));
    describe(h, &Generation { arch: "gemma3", pattern: 6, window: None, head_norms, local_base })
}

fn describe(h: &Header, g: &Generation) -> Result<Model, ModelError> {
    let c = Common { head_norms: g.head_norms, ..Common::read(h)? };
    let mut t = Tensors::new();
    let window = match g.window {
        Some(window) => h.size_or("attention.sliding_window", window)?,
        None => h.size("attention.sliding_window")?,
    };
    let softcap = cap(h, "attn_logit_softcapping")?;
    let full = c.rope(h, &mut t, RopePairs::Halves)?;
    let local = match g.local_base {
        Some(base) => {
            let base = h.f32_or("rope.freq_base_swa", base)?;
            Rope::new(RopePairs::Halves, full.dims, base.into(), RopeScaling::None)
        }
        None => full.clone(),
    };
    let head = if LAYERS_27B.contains(&c.layers) { c.width / c.heads } else { c.head_dim };
    let blocks = (0..c.layers).map(|i| {
        let full = i % g.pattern == g.pattern - 1;
        let mut gqa = Gqa { rope: Some(usize::from(!full)), ..c.gqa(h, &mut t, i) };
        gqa.attend.scale = 1.0 / (head as f32).sqrt();
        gqa.attend.softcap = softcap;
        gqa.attend.sight = if full { Sight::Past } else { Sight::Window(window) };
        let ffn = t.gated_ffn(i, c.width, c.ffn[i as usize], Activation::GeluTanh);
        sandwich(&c, &mut t, i, Mixer::Gqa(gqa), Ffn::Dense(ffn))
    });
    let blocks = blocks.collect();
    let mut model = c.model(h, g.arch, t, blocks, vec![full, local]);
    model.embed.scale = (c.width as f32).sqrt();
    Ok(model.with_logits(1.0, cap(h, "final_logit_softcapping")?))
}

/// A cap of the header; 0 means none.
pub(super) fn cap(h: &Header, key: &str) -> Result<Option<f32>, ModelError> {
    Ok(Some(h.f32_or(key, 0.0)?).filter(|&cap| cap > 0.0))
}

/// A block with a norm before and after each half.
pub(super) fn sandwich(c: &Common, t: &mut Tensors, i: u32, mixer: Mixer, ffn: Ffn) -> Block {
    let post = t.norm(i, "post_attention_norm", c.width, c.eps);
    let ffn_post = t.norm(i, "post_ffw_norm", c.width, c.eps);
    let block = c.block(t, i, |_| mixer, |_| ffn);
    Block { attn_post_norm: Some(post), ffn_post_norm: Some(ffn_post), ..block }
}
