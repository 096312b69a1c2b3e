//! The only interpreter: walks a `Model` and calls `Ops`. It names no architecture, no device, no phase.
//! Each mixer and feed-forward variant has its own function; how a half of a block ends is said once, in `join`.

use std::ops::Range;

use crate::{
    Activation, Batch, Block, Both, Buf, Columns, DeltaGates, DeltaNet, Dense, Embed, Ffn, Gqa,
    Head, Index, LayerInput, Linear, Mamba2, Mixer, Mla, Model, Moe, Norm, Ops, OpsError, Plain,
    Scratch, Shared, ShortConv,
};

/// Runs one step: afterwards the hidden state of every wanted row is in place for [`head`] and [`hidden`].
pub fn forward(model: &Model, scratch: &Scratch, batch: &Batch, ops: &mut impl Ops) {
    let s = scratch;
    ops.begin(batch);
    embed(&model.embed, s, ops);
    for (layer, block) in model.blocks.iter().enumerate() {
        mix(block, layer, s, ops);
        feed(block, s, ops);
        if let (Some(input), Some(all)) = (&block.per_layer, &model.embed.per_layer) {
            let first = layer as u32 * all.width;
            let part = Columns { group: all.project.output, first, len: all.width };
            layer_input(input, part, s, ops);
        }
        if let Some(scale) = block.out_scale {
            ops.gain(s.x, scale);
        }
    }
    ops.gather(s.hidden, s.x);
    if let Some(norm) = &model.norm {
        ops.norm(s.hidden, s.hidden, norm);
    }
}

/// Logits of a range of the wanted rows of the last step, `vocab` per row; at most `Limits::logits` rows. An encoder has
/// none.
pub fn head<'a, O: Ops>(
    model: &Model,
    scratch: &Scratch,
    rows: Range<usize>,
    ops: &'a mut O,
) -> Result<&'a [f32], OpsError> {
    let Head::Logits(head) = &model.head else { return Ok(&[]) };
    let count = rows.len();
    ops.logits(scratch.logits, scratch.hidden, rows.start, count, &head.linear);
    if head.scale != 1.0 {
        ops.scale(scratch.logits, head.scale);
    }
    if let Some(cap) = head.softcap {
        ops.softcap(scratch.logits, cap);
    }
    ops.read(scratch.logits, count)
}

/// The hidden states of the first `rows` wanted rows of the last step, after the final norm.
pub fn hidden<'a, O: Ops>(
    scratch: &Scratch,
    rows: usize,
    ops: &'a mut O,
) -> Result<&'a [f32], OpsError> {
    ops.read(scratch.hidden, rows)
}

fn embed(embed: &Embed, s: &Scratch, ops: &mut impl Ops) {
    ops.embed(s.x, embed.weight, embed.scale);
    if let Some(types) = embed.types {
        ops.embed_add(s.x, types, Index::First);
    }
    if let Some(positions) = embed.positions {
        ops.embed_add(s.x, positions, Index::Position);
    }
    if let Some(norm) = &embed.norm {
        ops.norm(s.x, s.x, norm);
    }
    if let Some(all) = &embed.per_layer {
        ops.embed(s.per_layer, all.table, (all.width as f32).sqrt());
        ops.linear(s.wide, s.x, &all.project);
        ops.norm(s.wide, s.wide, &all.norm);
        ops.add(s.per_layer, s.wide);
        ops.scale(s.per_layer, std::f32::consts::FRAC_1_SQRT_2);
    }
}

fn mix(block: &Block, layer: usize, s: &Scratch, ops: &mut impl Ops) {
    let input = normed(&block.attn_norm, s, ops);
    let (mixed, linear) = match &block.mixer {
        Mixer::Gqa(gqa) => (attention(gqa, layer, input, s, ops), &gqa.o),
        Mixer::Gated(gqa) => (gated_attention(gqa, layer, input, s, ops), &gqa.o),
        Mixer::Mla(mla) => (latent_attention(mla, layer, input, s, ops), &mla.o),
        Mixer::DeltaNet(net) => (delta_net(net, layer, input, s, ops), &net.out),
        Mixer::Mamba2(mamba) => (mamba2(mamba, layer, input, s, ops), &mamba.out),
        Mixer::ShortConv(conv) => (short_conv(conv, layer, input, s, ops), &conv.out),
    };
    project(mixed, linear, &block.attn_post_norm, block.residual_scale, s, ops);
    out(&block.attn_out_norm, s, ops);
}

fn feed(block: &Block, s: &Scratch, ops: &mut impl Ops) {
    let (post, scale) = (&block.ffn_post_norm, block.residual_scale);
    let input = normed(&block.ffn_norm, s, ops);
    match &block.ffn {
        Ffn::Dense(dense) => {
            ops.gate_up(s.gate, s.up, input, dense);
            project(s.gate, &dense.down, post, scale, s, ops);
        }
        Ffn::Plain(plain) => {
            widen(plain, input, s, ops);
            project(s.gate, &plain.down, post, scale, s, ops);
        }
        Ffn::Moe(moe) => {
            experts(s.branch, input, input, moe, s, ops);
            join(post, scale, s, ops);
        }
        Ffn::Both(both) => {
            dense_and_experts(both, input, s, ops);
            join(post, scale, s, ops);
        }
    }
    out(&block.ffn_out_norm, s, ops);
}

/// The stream, or its norm.
fn normed(norm: &Option<Norm>, s: &Scratch, ops: &mut impl Ops) -> Buf {
    let Some(norm) = norm else { return s.x };
    ops.norm(s.normed, s.x, norm);
    s.normed
}

/// `x += scale * post(W src)`.
fn project(
    src: Buf,
    linear: &Linear,
    post: &Option<Norm>,
    scale: f32,
    s: &Scratch,
    ops: &mut impl Ops,
) {
    if post.is_none() && scale == 1.0 {
        return ops.linear_add(s.x, s.branch, src, linear);
    }
    ops.linear(s.branch, src, linear);
    join(post, scale, s, ops);
}

/// `x += scale * post(branch)`: how each half of a block ends.
fn join(post: &Option<Norm>, scale: f32, s: &Scratch, ops: &mut impl Ops) {
    if let Some(norm) = post {
        ops.norm(s.branch, s.branch, norm);
    }
    if scale != 1.0 {
        ops.scale(s.branch, scale);
    }
    ops.add(s.x, s.branch);
}

fn out(norm: &Option<Norm>, s: &Scratch, ops: &mut impl Ops) {
    if let Some(norm) = norm {
        ops.norm(s.x, s.x, norm);
    }
}

fn attention(gqa: &Gqa, layer: usize, input: Buf, s: &Scratch, ops: &mut impl Ops) -> Buf {
    ops.qkv(s.q, s.k, s.v, input, gqa);
    ops.rope_store(s.q, s.k, s.v, layer, gqa);
    ops.attend(s.mixed, s.q, gqa.cache, &gqa.attend);
    s.mixed
}

fn gated_attention(gqa: &Gqa, layer: usize, input: Buf, s: &Scratch, ops: &mut impl Ops) -> Buf {
    let len = gqa.attend.key_dim;
    ops.qkv(s.wide, s.k, s.v, input, gqa);
    ops.take(s.q, s.wide, Columns { group: 2 * len, first: 0, len });
    ops.take(s.gate, s.wide, Columns { group: 2 * len, first: len, len });
    ops.rope_store(s.q, s.k, s.v, layer, gqa);
    ops.attend(s.mixed, s.q, gqa.cache, &gqa.attend);
    ops.act_mul(s.gate, s.mixed, Activation::Sigmoid);
    s.gate
}

fn latent_attention(mla: &Mla, layer: usize, input: Buf, s: &Scratch, ops: &mut impl Ops) -> Buf {
    let (heads, rank) = (mla.attend.heads, mla.attend.value_dim);
    let (nope, rope, key) = (mla.k_b.input, mla.rope_dim, mla.attend.key_dim);
    let latent = Columns { group: key, first: 0, len: rank };
    match &mla.q_a {
        Some((down, norm)) => {
            ops.linear(s.v, input, down);
            ops.norm(s.v, s.v, norm);
            ops.linear(s.wide, s.v, &mla.q_b);
        }
        None => ops.linear(s.wide, input, &mla.q_b),
    }
    ops.linear(s.k, input, &mla.kv_a);
    ops.take(s.v, s.k, latent);
    ops.norm(s.v, s.v, &mla.kv_a_norm);
    ops.put(s.k, key, s.v, latent);
    ops.rope(s.k, key, rank, mla.rope);
    ops.store_latent(layer, s.k);
    ops.take(s.up, s.wide, Columns { group: nope + rope, first: 0, len: nope });
    ops.head_linear(s.mixed, s.up, &mla.k_b, heads);
    ops.put(s.q, heads * key, s.mixed, latent);
    ops.take(s.up, s.wide, Columns { group: nope + rope, first: nope, len: rope });
    ops.put(s.q, heads * key, s.up, Columns { group: key, first: rank, len: rope });
    ops.rope(s.q, key, rank, mla.rope);
    ops.attend(s.mixed, s.q, layer, &mla.attend);
    ops.head_linear(s.up, s.mixed, &mla.v_b, heads);
    s.up
}

fn delta_net(net: &DeltaNet, layer: usize, input: Buf, s: &Scratch, ops: &mut impl Ops) -> Buf {
    ops.linear(s.wide, input, &net.qkv);
    ops.conv(s.q, s.wide, layer, &net.conv);
    match &net.gates {
        DeltaGates::Apart { alpha, beta } => {
            ops.linear(s.k, input, alpha);
            ops.linear(s.v, input, beta);
        }
        DeltaGates::Mixed(both) => {
            let len = net.v_heads / net.k_heads;
            ops.linear(s.wide, input, both);
            ops.take(s.v, s.wide, Columns { group: 2 * len, first: 0, len });
            ops.take(s.k, s.wide, Columns { group: 2 * len, first: len, len });
        }
    }
    ops.delta_net(s.mixed, s.q, s.k, s.v, layer, net);
    ops.norm(s.mixed, s.mixed, &net.norm);
    ops.linear(s.gate, input, &net.z);
    ops.act_mul(s.gate, s.mixed, Activation::Silu);
    s.gate
}

fn mamba2(mamba: &Mamba2, layer: usize, input: Buf, s: &Scratch, ops: &mut impl Ops) -> Buf {
    ops.linear(s.wide, input, &mamba.xbc);
    ops.conv(s.q, s.wide, layer, &mamba.conv);
    ops.linear(s.k, input, &mamba.dt);
    ops.mamba2(s.mixed, s.q, s.k, layer, mamba);
    ops.linear(s.gate, input, &mamba.z);
    ops.act_mul(s.gate, s.mixed, Activation::Silu);
    if let Some(norm) = &mamba.norm {
        ops.norm(s.gate, s.gate, norm);
    }
    s.gate
}

fn short_conv(conv: &ShortConv, layer: usize, input: Buf, s: &Scratch, ops: &mut impl Ops) -> Buf {
    for (buf, linear) in [s.q, s.k, s.v].into_iter().zip(&conv.bcx) {
        ops.linear(buf, input, linear);
    }
    ops.act_mul(s.q, s.v, Activation::Identity);
    ops.conv(s.mixed, s.q, layer, &conv.conv);
    ops.act_mul(s.k, s.mixed, Activation::Identity);
    s.k
}

fn widen(plain: &Plain, input: Buf, s: &Scratch, ops: &mut impl Ops) {
    ops.linear(s.gate, input, &plain.up);
    ops.act(s.gate, plain.act);
}

/// `dst` = what the experts give for `input`, chosen by `judged`.
fn experts(dst: Buf, input: Buf, judged: Buf, moe: &Moe, s: &Scratch, ops: &mut impl Ops) {
    ops.linear(s.scores, judged, &moe.router);
    ops.route(s.scores, moe);
    ops.dispatch(s.slots, input);
    ops.expert_linear(s.expert_gate, s.slots, &moe.gate);
    ops.expert_linear(s.expert_up, s.slots, &moe.up);
    ops.act_mul(s.expert_gate, s.expert_up, moe.act);
    ops.expert_linear(s.slots, s.expert_gate, &moe.down);
    ops.combine(dst, s.slots);
    if let Some(Shared { dense, gate }) = &moe.shared {
        gated(s.other, dense, input, s, ops);
        if let Some(gate) = gate {
            ops.linear(s.scores, input, gate);
            ops.gate_rows(s.other, s.scores);
        }
        ops.add(dst, s.other);
    }
}

fn dense_and_experts(both: &Both, input: Buf, s: &Scratch, ops: &mut impl Ops) {
    gated(s.other, &both.dense, input, s, ops);
    ops.norm(s.other, s.other, &both.dense_post_norm);
    ops.norm(s.branch, s.x, &both.router_norm);
    ops.norm(s.normed, s.x, &both.moe_norm);
    experts(s.branch, s.normed, s.branch, &both.moe, s, ops);
    ops.norm(s.branch, s.branch, &both.moe_post_norm);
    ops.add(s.branch, s.other);
}

fn gated(dst: Buf, dense: &Dense, input: Buf, s: &Scratch, ops: &mut impl Ops) {
    ops.gate_up(s.gate, s.up, input, dense);
    ops.linear(dst, s.gate, &dense.down);
}

fn layer_input(input: &LayerInput, part: Columns, s: &Scratch, ops: &mut impl Ops) {
    ops.linear(s.gate, s.x, &input.gate);
    ops.take(s.up, s.per_layer, part);
    ops.act_mul(s.gate, s.up, Activation::GeluTanh);
    ops.linear(s.branch, s.gate, &input.up);
    ops.norm(s.branch, s.branch, &input.norm);
    ops.add(s.x, s.branch);
}
