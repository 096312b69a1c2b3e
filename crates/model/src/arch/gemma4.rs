//! Gemma 4, text: two head widths (full and sliding-window layers), values normed like keys or taken from them, last
//! layers that read the cache of earlier ones, an embedding for every layer, and in one model experts beside the dense
//! feed-forward. Vision and audio towers are left out; so is bidirectional attention within images.

use super::common::Common;
use super::experts::Experts;
use super::gemma::{cap, sandwich};
use crate::{
    Activation, Attend, Both, Ffn, Gqa, Header, KeyValue, LayerInput, Linear, Mixer, Model,
    ModelError, Norm, NormKind, PerLayer, Role, Rope, RopePairs, Sight, Tensors,
};

pub(super) fn describe(h: &Header) -> Result<Model, ModelError> {
    let c = Common::read(h)?;
    let own = Own::read(h, &c)?;
    let mut experts = Experts::read(h, &c, true)?;
    if let Some(experts) = &mut experts {
        experts.act = Activation::GeluTanh;
        // The router's input is normed to length 1, not sqrt(width).
        experts.routing.temper = 1.0 / (c.width as f32).sqrt();
    }
    let mut t = Tensors::new();
    let full = c.rope(h, &mut t, RopePairs::Halves)?;
    let local = Rope::new(
        RopePairs::Halves,
        h.size_or("rope.dimension_count_swa", own.window_dim)?.min(own.window_dim),
        h.f32_or("rope.freq_base_swa", 10_000.0)?.into(),
        h.rope_scaling()?,
    );
    let mut blocks = Vec::with_capacity(c.layers as usize);
    for i in 0..c.layers {
        let gqa = own.attention(h, &c, &mut t, i);
        let dense = t.gated_ffn(i, c.width, c.ffn[i as usize], Activation::GeluTanh);
        let ffn = match experts.as_ref().filter(|_| h.has(&format!("blk.{i}.ffn_gate_inp.weight")))
        {
            None => Ffn::Dense(dense),
            Some(experts) => {
                let mut moe = experts.layer(h, &mut t, i);
                moe.expert_scale = h
                    .has(&format!("blk.{i}.ffn_down_exps.scale"))
                    .then(|| t.block(i, "ffn_down_exps.scale", &[moe.experts], Role::Scale));
                let scale = t.block(i, "ffn_gate_inp.scale", &[c.width], Role::Scale);
                Ffn::Both(Box::new(Both {
                    dense,
                    dense_post_norm: t.norm(i, "post_ffw_norm_1", c.width, c.eps),
                    moe_norm: t.norm(i, "pre_ffw_norm_2", c.width, c.eps),
                    router_norm: Norm { weight: Some(scale), ..bare(c.width, c.eps) },
                    moe,
                    moe_post_norm: t.norm(i, "post_ffw_norm_2", c.width, c.eps),
                }))
            }
        };
        let mut block = sandwich(&c, &mut t, i, Mixer::Gqa(gqa), ffn);
        block.per_layer = (own.per_layer > 0).then(|| LayerInput {
            gate: t.linear(i, "inp_gate", [c.width, own.per_layer], Role::PerLayerInpGate),
            up: t.linear(i, "proj", [own.per_layer, c.width], Role::PerLayerProj),
            norm: t.norm(i, "post_norm", c.width, c.eps),
        });
        let scaled = h.has(&format!("blk.{i}.layer_output_scale.weight"));
        block.out_scale =
            scaled.then(|| t.block(i, "layer_output_scale.weight", &[1], Role::Scale));
        blocks.push(block);
    }
    let per_layer = (own.per_layer > 0).then(|| own.embedding(&c, &mut t));
    let mut model = c.model(h, "gemma4", t, blocks, vec![full, local]);
    model.embed.scale = (c.width as f32).sqrt();
    model.embed.per_layer = per_layer;
    Ok(model.with_logits(1.0, cap(h, "final_logit_softcapping")?))
}

/// A norm without a gain.
fn bare(width: u32, eps: f32) -> Norm {
    Norm { kind: NormKind::Rms, weight: None, bias: None, width, eps }
}

/// The numbers that only this family has.
struct Own {
    window: u32,
    windowed: Vec<bool>,
    window_dim: u32,
    per_layer: u32,
    /// Layers with a cache of their own; the later ones read that of the last of these of their kind.
    cached: u32,
}

impl Own {
    fn read(h: &Header, c: &Common) -> Result<Self, ModelError> {
        let windowed = h.flags("attention.sliding_window_pattern", c.layers)?;
        let windowed = windowed.ok_or_else(|| {
            h.bad("attention.sliding_window_pattern", "absent", "a flag for each layer")
        })?;
        let window_dim = h.size_or("attention.key_length_swa", c.head_dim)?;
        if window_dim > 1024 || window_dim % 2 != 0 {
            return Err(h.bad("attention.key_length_swa", window_dim, "even, at most 1024"));
        }
        let shared = h.opt_u32("attention.shared_kv_layers")?.unwrap_or(0);
        let cached = c.layers.saturating_sub(shared);
        for kind in [true, false] {
            let lacks = |range: &[bool]| !range.contains(&kind);
            let (own, others) = windowed.split_at(cached as usize);
            if lacks(own) && !lacks(others) {
                let expected = "so few that each kind of layer has one with a cache";
                return Err(h.bad("attention.shared_kv_layers", shared, expected));
            }
        }
        let per_layer = h.opt_u32("embedding_length_per_layer_input")?.unwrap_or(0);
        if per_layer > 1 << 14 {
            return Err(h.bad("embedding_length_per_layer_input", per_layer, "at most 16384"));
        }
        let window = h.size("attention.sliding_window")?;
        Ok(Own { window, windowed, window_dim, per_layer, cached })
    }

    fn attention(&self, h: &Header, c: &Common, t: &mut Tensors, i: u32) -> Gqa {
        let windowed = self.windowed[i as usize];
        let dim = if windowed { self.window_dim } else { c.head_dim };
        let sight = if windowed { Sight::Window(self.window) } else { Sight::Past };
        let attend = Attend { key_dim: dim, value_dim: dim, scale: 1.0, sight, ..c.attend(i) };
        let has_values = h.has(&format!("blk.{i}.attn_v.weight"));
        let (q, kv) = (attend.heads * dim, attend.kv_heads * dim);
        let kv = (i < self.cached).then(|| KeyValue {
            k: t.linear(i, "attn_k", [c.width, kv], Role::AttnK),
            v: has_values.then(|| t.linear(i, "attn_v", [c.width, kv], Role::AttnV)),
            k_norm: Some(t.norm(i, "attn_k_norm", dim, c.eps)),
            v_norm: Some(bare(dim, c.eps)),
        });
        let own = || (0..self.cached).rev().find(|&j| self.windowed[j as usize] == windowed);
        let cache = if i < self.cached { i } else { own().unwrap_or(i) };
        Gqa {
            q: t.linear(i, "attn_q", [c.width, q], Role::AttnQ),
            kv,
            o: t.linear(i, "attn_output", [q, c.width], Role::AttnOutput),
            q_norm: Some(t.norm(i, "attn_q_norm", dim, c.eps)),
            attend,
            rope: Some(usize::from(windowed)),
            cache: cache as usize,
        }
    }

    fn embedding(&self, c: &Common, t: &mut Tensors) -> PerLayer {
        let all = self.per_layer * c.layers;
        let weight =
            t.global("per_layer_model_proj.weight", &[c.width, all], Role::PerLayerModelProj);
        let gain = t.global("per_layer_proj_norm.weight", &[self.per_layer], Role::Norm);
        // The projection is divided by sqrt(width) first, which only this norm's epsilon feels.
        let eps = c.eps * c.width as f32;
        PerLayer {
            table: t.global(
                "per_layer_token_embd.weight",
                &[all, c.vocab],
                Role::PerLayerTokenEmbd,
            ),
            project: Linear { weight, bias: None, first: 0, input: c.width, output: all },
            norm: Norm { weight: Some(gain), ..bare(self.per_layer, eps) },
            width: self.per_layer,
        }
    }
}
