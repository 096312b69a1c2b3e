//! DeepSeek V2, V3 and R1: latent attention in absorbed form, a few dense layers, then routed experts with a shared
//! one. Files from before the absorbed form (one tensor `attn_kv_b`) are refused; layers that predict further tokens
//! are left out.

use super::common::Common;
use super::experts::{Experts, ffn};
use crate::{
    Attend, Header, Mixer, Mla, Model, ModelError, Role, Rope, RopePairs, RopeScaling, Sight,
    Temper, Tensors,
};

pub(super) fn describe(h: &Header) -> Result<Model, ModelError> {
    // In absorbed files the head counts are those of the latent (one key head, its width as key length),
    // so the numbers that matter have keys of their own.
    let d = Dims::read(h)?;
    let c = Common::latent(h)?;
    if h.has("blk.0.attn_kv_b.weight") && !h.has("blk.0.attn_k_b.weight") {
        let expected = "attn_k_b and attn_v_b: convert the model again with a current converter";
        return Err(h.bad("attention.kv_lora_rank", "given with attn_kv_b", expected));
    }
    let experts = Experts::read(h, &c, false)?;
    let mut t = Tensors::new();
    let scaling = h.rope_scaling()?;
    let mut rope = Rope::new(RopePairs::Adjacent, d.rope_dim, c.rope_base, scaling);
    // YaRN's sharpening is in the scale of the scores.
    rope.magnitude = h.f32_or("rope.scaling.attn_factor", 1.0)?;
    let attend = d.attend(h, &c, scaling)?;
    let blocks = (0..c.layers).map(|i| {
        let mixer = |t: &mut Tensors| Mixer::Mla(mla(&c, &d, t, i, attend.clone()));
        c.block(&mut t, i, mixer, |t| ffn(&experts, h, &c, t, i))
    });
    let blocks = blocks.collect();
    Ok(c.model(h, "deepseek2", t, blocks, vec![rope]))
}

/// Widest head and latent vector.
const MOST_WIDTH: u32 = 1 << 14;

struct Dims {
    q_rank: Option<u32>,
    kv_rank: u32,
    rope_dim: u32,
    nope_dim: u32,
    value_dim: u32,
}

impl Dims {
    fn read(h: &Header) -> Result<Self, ModelError> {
        let rope_dim = h.size("rope.dimension_count")?;
        let key = h.size_or("attention.key_length_mla", h.size("attention.key_length")?)?;
        let value_dim =
            h.size_or("attention.value_length_mla", h.size("attention.value_length")?)?;
        if key <= rope_dim || rope_dim % 2 != 0 {
            return Err(h.bad(
                "rope.dimension_count",
                rope_dim,
                "an even number below the key length",
            ));
        }
        let kv_rank = h.size("attention.kv_lora_rank")?;
        // Sums of two of them times the number of heads stay below 2^32.
        for (name, found) in [
            ("attention.key_length", key),
            ("attention.value_length", value_dim),
            ("attention.kv_lora_rank", kv_rank),
        ] {
            if found > MOST_WIDTH {
                return Err(h.bad(name, found, "at most 16384"));
            }
        }
        Ok(Dims {
            q_rank: h.opt_u32("attention.q_lora_rank")?.filter(|&rank| rank > 0),
            kv_rank,
            rope_dim,
            nope_dim: key - rope_dim,
            value_dim,
        })
    }
}

impl Dims {
    fn attend(&self, h: &Header, c: &Common, scaling: RopeScaling) -> Result<Attend, ModelError> {
        let beta = h.f32_or("attention.temperature_scale", 0.0)?;
        let original = h.size_or("attention.temperature_length", c.context)?;
        Ok(Attend {
            heads: c.heads,
            kv_heads: 1,
            key_dim: self.kv_rank + self.rope_dim,
            value_dim: self.kv_rank,
            scale: score_scale(h, self, scaling)?,
            sight: Sight::Past,
            softcap: None,
            sinks: None,
            temper: (beta != 0.0).then_some(Temper { beta, original }),
        })
    }
}

/// 1 / sqrt(key width), times the square of YaRN's sharpening (DeepSeek-V3's published modelling code).
fn score_scale(h: &Header, d: &Dims, scaling: RopeScaling) -> Result<f32, ModelError> {
    let plain = 1.0 / ((d.nope_dim + d.rope_dim) as f32).sqrt();
    let RopeScaling::Yarn { factor, .. } = scaling else { return Ok(plain) };
    let log_multiplier = h.f32_or("rope.scaling.yarn_log_multiplier", 0.0)?;
    let sharpen = 1.0 + log_multiplier * factor.max(1.0).ln();
    Ok(plain * sharpen * sharpen)
}

fn mla(c: &Common, d: &Dims, t: &mut Tensors, i: u32, attend: Attend) -> Mla {
    let q_out = c.heads * (d.nope_dim + d.rope_dim);
    let (q_a, q_b) = match d.q_rank {
        Some(rank) => {
            let down = t.linear(i, "attn_q_a", [c.width, rank], Role::AttnQA);
            let norm = t.norm(i, "attn_q_a_norm", rank, c.eps);
            (Some((down, norm)), t.linear(i, "attn_q_b", [rank, q_out], Role::AttnQB))
        }
        None => (None, t.linear(i, "attn_q", [c.width, q_out], Role::AttnQ)),
    };
    let (k_b, v_b) = ([d.nope_dim, d.kv_rank, c.heads], [d.kv_rank, d.value_dim, c.heads]);
    Mla {
        q_a,
        q_b,
        kv_a: t.linear(i, "attn_kv_a_mqa", [c.width, d.kv_rank + d.rope_dim], Role::AttnKvA),
        kv_a_norm: t.norm(i, "attn_kv_a_norm", d.kv_rank, c.eps),
        k_b: t.stack(i, "attn_k_b", k_b, Role::AttnKB, false),
        v_b: t.stack(i, "attn_v_b", v_b, Role::AttnVB, false),
        o: t.linear(i, "attn_output", [c.heads * d.value_dim, c.width], Role::AttnOutput),
        attend,
        rope_dim: d.rope_dim,
        rope: 0,
    }
}
