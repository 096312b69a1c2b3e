//! LFM2: gated short convolutions between attention layers with normed q and k; layers without key heads are the
//! convolutions. With experts (lfm2moe) after the first dense layers.

use super::common::{Common, HeadNorms};
use super::experts::{Experts, ffn};
use crate::{
    Activation, Conv, Header, Mixer, Model, ModelError, Role, RopePairs, ShortConv, Sight, Tensors,
};

pub(super) fn lfm2(h: &Header) -> Result<Model, ModelError> {
    describe(h, "lfm2")
}

pub(super) fn lfm2moe(h: &Header) -> Result<Model, ModelError> {
    describe(h, "lfm2moe")
}

fn describe(h: &Header, arch: &'static str) -> Result<Model, ModelError> {
    let c = Common { head_norms: HeadNorms::Each, ..Common::read(h)? };
    let experts = Experts::read(h, &c, true)?;
    let window = h.opt_u32("attention.sliding_window")?.filter(|&w| w > 0);
    let kernel = h.size("shortconv.l_cache")?;
    if !(2..=64).contains(&kernel) {
        return Err(h.bad("shortconv.l_cache", kernel, "2 to 64"));
    }
    let mut t = Tensors::new();
    let rope = c.rope(h, &mut t, RopePairs::Halves)?;
    let blocks = (0..c.layers).map(|i| {
        let mixer = |t: &mut Tensors| match c.kv_heads[i as usize] {
            0 => Mixer::ShortConv(convolution(&c, t, i, kernel)),
            _ => {
                let mut gqa = c.gqa(h, t, i);
                gqa.attend.sight = window.map_or(Sight::Past, Sight::Window);
                Mixer::Gqa(gqa)
            }
        };
        c.block(&mut t, i, mixer, |t| ffn(&experts, h, &c, t, i))
    });
    let blocks = blocks.collect();
    Ok(c.model_with(h, arch, t, blocks, vec![rope], "token_embd_norm.weight"))
}

fn convolution(c: &Common, t: &mut Tensors, i: u32, kernel: u32) -> ShortConv {
    let w = c.width;
    let weight = t.block(i, "shortconv.conv.weight", &[kernel, w], Role::ShortconvConv);
    let all = t.linear(i, "shortconv.in_proj", [w, 3 * w], Role::ShortconvInProj);
    ShortConv {
        bcx: all.split([w, w, w]),
        conv: Conv { weight, bias: None, kernel, channels: w, act: Activation::Identity },
        out: t.linear(i, "shortconv.out_proj", [w, w], Role::ShortconvOutProj),
    }
}
