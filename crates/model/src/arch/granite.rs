//! Granite 3 and 4: dense or with experts and a shared one, and four factors of their own (embedding, residual, attention,
//! logits). The hybrid ones have Mamba-2 layers between a few attention layers: those without key heads.

use super::common::Common;
use super::experts::{Experts, ffn};
use crate::{
    Activation, Conv, Header, Mamba2, Mixer, Model, ModelError, Norm, Role, RopePairs, Tensors,
};

pub(super) fn hybrid(h: &Header) -> Result<Model, ModelError> {
    describe(h, "granitehybrid", Some(Shape::read(h)?))
}

pub(super) fn granite(h: &Header) -> Result<Model, ModelError> {
    describe(h, "granite", None)
}

pub(super) fn granitemoe(h: &Header) -> Result<Model, ModelError> {
    describe(h, "granitemoe", None)
}

fn describe(h: &Header, arch: &'static str, shape: Option<Shape>) -> Result<Model, ModelError> {
    let c = Common::read(h)?;
    let experts = Experts::read(h, &c, true)?;
    if shape.is_none() && c.kv_heads.contains(&0) {
        return Err(h.bad("attention.head_count_kv", 0, "at least 1 in every layer"));
    }
    let factor = |key: &str| -> Result<Option<f32>, ModelError> {
        Ok(Some(h.f32_or(key, 0.0)?).filter(|&f| f != 0.0))
    };
    let (residual, attention) = (factor("residual_scale")?, factor("attention.scale")?);
    let rotated = h.bool_or("rope.scaling.finetuned", true)?;
    let mut t = Tensors::new();
    let rope = c.rope(h, &mut t, RopePairs::Adjacent)?;
    let mut blocks = Vec::with_capacity(c.layers as usize);
    for i in 0..c.layers {
        let mamba = shape.as_ref().filter(|_| c.kv_heads[i as usize] == 0);
        let mixer = |t: &mut Tensors| match mamba {
            Some(shape) => Mixer::Mamba2(shape.layer(h, &c, t, i)),
            None => {
                let mut gqa = c.gqa(h, t, i);
                gqa.rope = rotated.then_some(0);
                gqa.attend.scale = attention.unwrap_or(gqa.attend.scale);
                Mixer::Gqa(gqa)
            }
        };
        let mut block = c.block(&mut t, i, mixer, |t| ffn(&experts, h, &c, t, i));
        block.residual_scale = residual.unwrap_or(1.0);
        blocks.push(block);
    }
    let mut model = c.model(h, arch, t, blocks, vec![rope]);
    model.embed.scale = factor("embedding_scale")?.unwrap_or(1.0);
    Ok(model.with_logits(factor("logit_scale")?.map_or(1.0, |scale| 1.0 / scale), None))
}

/// Widths of the Mamba layers.
struct Shape {
    inner: u32,
    heads: u32,
    groups: u32,
    state: u32,
    kernel: u32,
}

impl Shape {
    fn read(h: &Header) -> Result<Self, ModelError> {
        let (inner, heads) = (h.size("ssm.inner_size")?, h.size("ssm.time_step_rank")?);
        let (groups, state) = (h.size("ssm.group_count")?, h.size("ssm.state_size")?);
        let kernel = h.size("ssm.conv_kernel")?;
        let whole = inner.is_multiple_of(heads) && heads.is_multiple_of(groups);
        if !whole || inner > 1 << 20 || groups > 1 << 10 || state > 1 << 10 {
            let expected = "whole heads, in whole groups, of bounded widths";
            return Err(h.bad("ssm.inner_size", inner, expected));
        }
        if !(2..=64).contains(&kernel) {
            return Err(h.bad("ssm.conv_kernel", kernel, "2 to 64"));
        }
        Ok(Shape { inner, heads, groups, state, kernel })
    }

    fn layer(&self, h: &Header, c: &Common, t: &mut Tensors, i: u32) -> Mamba2 {
        let channels = self.inner + 2 * self.groups * self.state;
        let all = t.linear(i, "ssm_in", [c.width, self.inner + channels + self.heads], Role::SsmIn);
        let [z, xbc, dt] = all.split([self.inner, channels, self.heads]);
        let weight = t.block(i, "ssm_conv1d.weight", &[self.kernel, channels], Role::SsmConv1d);
        let biased = h.has(&format!("blk.{i}.ssm_conv1d.bias"));
        let bias = biased.then(|| t.block(i, "ssm_conv1d.bias", &[channels], Role::Bias));
        let shape = [self.inner / self.groups, self.groups];
        let gain = t.block(i, "ssm_norm.weight", &shape, Role::Norm);
        let norm = Norm::rms(gain, self.inner / self.groups, c.eps);
        Mamba2 {
            z,
            xbc,
            dt,
            conv: Conv { weight, bias, kernel: self.kernel, channels, act: Activation::Silu },
            dt_bias: t.block(i, "ssm_dt.bias", &[self.heads], Role::Bias),
            a: t.block(i, "ssm_a", &[1, self.heads], Role::SsmA),
            d: t.block(i, "ssm_d", &[1, self.heads], Role::SsmD),
            norm: Some(norm),
            out: t.linear(i, "ssm_out", [self.inner, c.width], Role::SsmOut),
            heads: self.heads,
            head_dim: self.inner / self.heads,
            groups: self.groups,
            state: self.state,
        }
    }
}
