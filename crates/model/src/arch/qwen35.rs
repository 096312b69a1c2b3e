//! Qwen3-Next, Qwen3.5 and Qwen3.6, dense and with experts: three layers of gated delta net to one of gated attention.
//! Positions of text are the same in all sections of their rotary encoding, so it is the plain one over the first
//! elements of a head. Layers that predict further tokens, and the vision tower, are left out.

use super::common::{Common, HeadNorms};
use super::experts::{Experts, ffn};
use crate::{
    Activation, Conv, DeltaGates, DeltaNet, Header, Mixer, Model, ModelError, Role, RopePairs,
    Tensors,
};

pub(super) fn qwen35(h: &Header) -> Result<Model, ModelError> {
    describe(h, "qwen35")
}

pub(super) fn qwen35moe(h: &Header) -> Result<Model, ModelError> {
    describe(h, "qwen35moe")
}

pub(super) fn qwen3next(h: &Header) -> Result<Model, ModelError> {
    describe(h, "qwen3next")
}

fn describe(h: &Header, arch: &'static str) -> Result<Model, ModelError> {
    let (ffn_norm, head_norms) = ("post_attention_norm", HeadNorms::Each);
    let c = Common { ffn_norm, head_norms, ..Common::read(h)? };
    let experts = Experts::read(h, &c, true)?;
    let net = Shape::read(h, &c)?;
    let interval = h.size_or("full_attention_interval", 4)?;
    let recurrent = h.flags("attention.recurrent_layers", c.layers)?;
    let mut t = Tensors::new();
    let rope = c.rope(h, &mut t, RopePairs::Halves)?;
    let mut blocks = Vec::with_capacity(c.layers as usize);
    for i in 0..c.layers {
        let linear = recurrent.as_ref().map_or((i + 1) % interval != 0, |r| r[i as usize]);
        let mixer = |t: &mut Tensors| match linear {
            true => Mixer::DeltaNet(net.layer(h, &c, t, i)),
            false => Mixer::Gated(c.gqa_as(h, t, i, c.attend(i), 2)),
        };
        blocks.push(c.block(&mut t, i, mixer, |t| ffn(&experts, h, &c, t, i)));
    }
    Ok(c.model(h, arch, t, blocks, vec![rope]))
}

/// Widths of the delta nets.
struct Shape {
    k_heads: u32,
    v_heads: u32,
    key_dim: u32,
    value_dim: u32,
    kernel: u32,
}

impl Shape {
    fn read(h: &Header, c: &Common) -> Result<Self, ModelError> {
        let (inner, key_dim) = (h.size("ssm.inner_size")?, h.size("ssm.state_size")?);
        let (v_heads, k_heads) = (h.size("ssm.time_step_rank")?, h.size("ssm.group_count")?);
        if !v_heads.is_multiple_of(k_heads) || v_heads > 1 << 12 {
            let expected = "a multiple of ssm.group_count, at most 4096";
            return Err(h.bad("ssm.time_step_rank", v_heads, expected));
        }
        if !inner.is_multiple_of(v_heads) || key_dim > 1 << 10 || inner / v_heads > 1 << 10 {
            let expected = "heads of at most 1024 elements";
            return Err(h.bad("ssm.inner_size", inner, expected));
        }
        let kernel = h.size("ssm.conv_kernel")?;
        if !(2..=64).contains(&kernel) || c.width > 1 << 20 {
            return Err(h.bad("ssm.conv_kernel", kernel, "2 to 64"));
        }
        Ok(Shape { k_heads, v_heads, key_dim, value_dim: inner / v_heads, kernel })
    }

    fn layer(&self, h: &Header, c: &Common, t: &mut Tensors, i: u32) -> DeltaNet {
        let (keys, values) = (self.k_heads * self.key_dim, self.v_heads * self.value_dim);
        let channels = 2 * keys + values;
        let gates = match h.has(&format!("blk.{i}.ssm_ba.weight")) {
            true => {
                DeltaGates::Mixed(t.linear(i, "ssm_ba", [c.width, 2 * self.v_heads], Role::SsmBeta))
            }
            false => DeltaGates::Apart {
                alpha: t.linear(i, "ssm_alpha", [c.width, self.v_heads], Role::SsmAlpha),
                beta: t.linear(i, "ssm_beta", [c.width, self.v_heads], Role::SsmBeta),
            },
        };
        let weight = t.block(i, "ssm_conv1d.weight", &[self.kernel, channels], Role::SsmConv1d);
        let conv =
            Conv { weight, bias: None, kernel: self.kernel, channels, act: Activation::Silu };
        DeltaNet {
            qkv: t.linear(i, "attn_qkv", [c.width, channels], Role::AttnQkv),
            conv,
            z: t.linear(i, "attn_gate", [c.width, values], Role::AttnGate),
            gates,
            dt: t.block(i, "ssm_dt.bias", &[self.v_heads], Role::Bias),
            a: t.block(i, "ssm_a", &[self.v_heads], Role::SsmA),
            norm: t.norm(i, "ssm_norm", self.value_dim, c.eps),
            out: t.linear(i, "ssm_out", [values, c.width], Role::SsmOut),
            k_heads: self.k_heads,
            v_heads: self.v_heads,
            key_dim: self.key_dim,
            value_dim: self.value_dim,
        }
    }
}
