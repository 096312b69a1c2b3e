//! DeepSeek V2, V3 and R1: latent attention in absorbed form, a few dense layers, then routed experts with a shared
//! one. Described for planning; neither part has a data flow yet. Multi-token prediction layers are left out.

use super::common::Common;
use crate::{
    Activation, Block, Dense, Ffn, Header, Mixer, Mla, Model, ModelError, Moe, Role, Rope,
    RopePairs, RopeScaling, Routing, Tensors,
};

pub(super) fn describe(h: &Header) -> Result<Model, ModelError> {
    // In absorbed files the head counts are those of the latent (one key head, its width as key length),
    // so the numbers that matter have keys of their own.
    let d = Dims::read(h)?;
    let c = Common::latent(h)?;
    let mut t = Tensors::new();
    let scaling = h.rope_scaling()?;
    let rope = Rope::new(RopePairs::Adjacent, d.rope_dim, c.rope_base, scaling);
    let scale = score_scale(h, &d, scaling)?;
    let dense_layers = h.opt_u32("leading_dense_block_count")?.unwrap_or(0);
    let routing = routing(h)?;
    let mut blocks = Vec::with_capacity(c.layers as usize);
    for i in 0..c.layers {
        blocks.push(Block {
            attn_norm: t.norm(i, "attn_norm", c.width, c.eps),
            mixer: Mixer::Mla(mla(&c, &d, &mut t, i, scale)),
            attn_post_norm: None,
            ffn_norm: t.norm(i, "ffn_norm", c.width, c.eps),
            ffn: match i < dense_layers {
                true => Ffn::Dense(t.gated_ffn(i, c.width, c.ffn, Activation::Silu)),
                false => Ffn::Moe(moe(h, &c, &mut t, i, routing)?),
            },
            ffn_post_norm: None,
        });
    }
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

/// 1 / sqrt(key width), times the square of YaRN's sharpening (DeepSeek-V3's published modelling code).
fn score_scale(h: &Header, d: &Dims, scaling: RopeScaling) -> Result<f32, ModelError> {
    let plain = 1.0 / ((d.nope_dim + d.rope_dim) as f32).sqrt();
    let RopeScaling::Yarn { factor, .. } = scaling else { return Ok(plain) };
    let log_multiplier = h.f32_or("rope.scaling.yarn_log_multiplier", 0.0)?;
    let sharpen = 1.0 + log_multiplier * factor.max(1.0).ln();
    Ok(plain * sharpen * sharpen)
}

fn mla(c: &Common, d: &Dims, t: &mut Tensors, i: u32, scale: f32) -> Mla {
    let q_out = c.heads * (d.nope_dim + d.rope_dim);
    let (q_a, q_b) = match d.q_rank {
        Some(rank) => {
            let down = t.linear(i, "attn_q_a", [c.width, rank], Role::AttnQA);
            let norm = t.norm(i, "attn_q_a_norm", rank, c.eps);
            (Some((down, norm)), t.linear(i, "attn_q_b", [rank, q_out], Role::AttnQB))
        }
        None => (None, t.linear(i, "attn_q", [c.width, q_out], Role::AttnQ)),
    };
    Mla {
        q_a,
        q_b,
        kv_a: t.linear(i, "attn_kv_a_mqa", [c.width, d.kv_rank + d.rope_dim], Role::AttnKvA),
        kv_a_norm: t.norm(i, "attn_kv_a_norm", d.kv_rank, c.eps),
        k_b: t.block(i, "attn_k_b.weight", &[d.nope_dim, d.kv_rank, c.heads], Role::AttnKB),
        v_b: t.block(i, "attn_v_b.weight", &[d.kv_rank, d.value_dim, c.heads], Role::AttnVB),
        o: t.linear(i, "attn_output", [c.heads * d.value_dim, c.width], Role::AttnOutput),
        heads: c.heads,
        kv_rank: d.kv_rank,
        rope_dim: d.rope_dim,
        scale,
        rope: 0,
    }
}

fn routing(h: &Header) -> Result<Routing, ModelError> {
    let sigmoid = match h.opt_u32("expert_gating_func")?.unwrap_or(1) {
        1 => false,
        2 => true,
        other => return Err(h.bad("expert_gating_func", other, "1 (softmax) or 2 (sigmoid)")),
    };
    Ok(Routing {
        sigmoid,
        groups: (h.size_or("expert_group_count", 1)?, h.size_or("expert_group_used_count", 1)?),
        normalize: h.bool_or("expert_weights_norm", false)?,
        scale: h.f32_or("expert_weights_scale", 1.0)?,
    })
}

fn moe(
    h: &Header,
    c: &Common,
    t: &mut Tensors,
    i: u32,
    routing: Routing,
) -> Result<Moe, ModelError> {
    let (experts, used) = (h.size("expert_count")?, h.size("expert_used_count")?);
    let ffn = h.size("expert_feed_forward_length")?;
    let shared_count = h.opt_u32("expert_shared_count")?.unwrap_or(0);
    let shared = shared_count.checked_mul(ffn).ok_or_else(|| {
        h.bad("expert_shared_count", shared_count, "so many that their widths' sum fits 32 bits")
    })?;
    let bias = h.has(&format!("blk.{i}.exp_probs_b.bias"));
    if used > experts {
        return Err(h.bad("expert_used_count", used, "at most expert_count"));
    }
    Ok(Moe {
        router: t.linear(i, "ffn_gate_inp", [c.width, experts], Role::FfnGateInp),
        choice_bias: bias.then(|| t.block(i, "exp_probs_b.bias", &[experts], Role::ExpProbsB)),
        gate: t.block(i, "ffn_gate_exps.weight", &[c.width, ffn, experts], Role::FfnGateExps),
        up: t.block(i, "ffn_up_exps.weight", &[c.width, ffn, experts], Role::FfnUpExps),
        down: t.block(i, "ffn_down_exps.weight", &[ffn, c.width, experts], Role::FfnDownExps),
        shared: (shared > 0).then(|| Dense {
            gate: t.linear(i, "ffn_gate_shexp", [c.width, shared], Role::FfnGateShexp),
            up: t.linear(i, "ffn_up_shexp", [c.width, shared], Role::FfnUpShexp),
            down: t.linear(i, "ffn_down_shexp", [shared, c.width], Role::FfnDownShexp),
            act: Activation::Silu,
        }),
        experts,
        used,
        ffn,
        act: Activation::Silu,
        routing,
    })
}
