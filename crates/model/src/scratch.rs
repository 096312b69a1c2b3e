//! The intermediate values of a step: one named buffer for each, sized from the model and the limits and allocated once.
//! What a layer needs is said beside its mixer or feed-forward, so that the planner's bytes are the device's.

use crate::{Buf, DeltaGates, Dense, Ffn, Head, Limits, Mixer, Model, Moe, Ops};

/// Handles of all buffers. What each holds depends on the layer; the names say what it holds in attention and in a
/// gated feed-forward.
#[derive(Clone, Debug)]
pub struct Scratch {
    /// The residual stream.
    pub x: Buf,
    /// The stream after a norm.
    pub normed: Buf,
    /// What a half of a block adds.
    pub branch: Buf,
    /// A second such branch.
    pub other: Buf,
    /// A projection that is taken apart, or half-way up.
    pub wide: Buf,
    /// Queries.
    pub q: Buf,
    /// Keys.
    pub k: Buf,
    /// Values.
    pub v: Buf,
    /// What the mixer gives.
    pub mixed: Buf,
    /// Gates.
    pub gate: Buf,
    /// What gates multiply.
    pub up: Buf,
    /// Router outputs.
    pub scores: Buf,
    /// Rows dispatched to experts, and what these give.
    pub slots: Buf,
    /// Gates of experts.
    pub expert_gate: Buf,
    /// What they multiply.
    pub expert_up: Buf,
    /// Embeddings of all layers.
    pub per_layer: Buf,
    /// Rows that the batch wants.
    pub hidden: Buf,
    /// Their logits.
    pub logits: Buf,
}

/// Widths of the buffers.
#[derive(Clone, Copy, Debug, Default)]
struct Widths {
    other: u32,
    wide: u32,
    q: u32,
    k: u32,
    v: u32,
    mixed: u32,
    gate: u32,
    up: u32,
    scores: u32,
    slots: u32,
    expert: u32,
    per_layer: u32,
}

impl Widths {
    fn max(self, o: Self) -> Self {
        Widths {
            other: self.other.max(o.other),
            wide: self.wide.max(o.wide),
            q: self.q.max(o.q),
            k: self.k.max(o.k),
            v: self.v.max(o.v),
            mixed: self.mixed.max(o.mixed),
            gate: self.gate.max(o.gate),
            up: self.up.max(o.up),
            scores: self.scores.max(o.scores),
            slots: self.slots.max(o.slots),
            expert: self.expert.max(o.expert),
            per_layer: self.per_layer.max(o.per_layer),
        }
    }
}

fn of_mixer(mixer: &Mixer, width: u32) -> Widths {
    let none = Widths::default();
    match mixer {
        Mixer::Gqa(g) | Mixer::Gated(g) => {
            let a = &g.attend;
            let (q, mixed) = (a.heads * a.key_dim, a.heads * a.value_dim);
            let gated = matches!(mixer, Mixer::Gated(_));
            let (k, v) = (a.kv_heads * a.key_dim, a.kv_heads * a.value_dim);
            let (wide, gate) = if gated { (g.q.output, mixed) } else { (0, 0) };
            Widths { q, k, v, mixed, wide, gate, ..none }
        }
        Mixer::Mla(m) => {
            let a = &m.attend;
            let absorbed = a.heads * a.key_dim;
            let rank = m.q_a.as_ref().map_or(0, |(down, _)| down.output);
            let up = m.o.input.max(a.heads * m.k_b.input).max(a.heads * m.rope_dim);
            let v = a.value_dim.max(rank);
            Widths { wide: m.q_b.output, q: absorbed, k: a.key_dim, v, mixed: absorbed, up, ..none }
        }
        Mixer::DeltaNet(d) => {
            let ba = match &d.gates {
                DeltaGates::Apart { .. } => 0,
                DeltaGates::Mixed(both) => both.output,
            };
            let (q, heads, z) = (d.qkv.output, d.v_heads, d.z.output);
            Widths { wide: q.max(ba), q, k: heads, v: heads, mixed: z, gate: z, ..none }
        }
        Mixer::Mamba2(m) => {
            let (wide, q) = (m.xbc.output, m.xbc.output);
            Widths { wide, q, k: m.heads, mixed: m.z.output, gate: m.z.output, ..none }
        }
        Mixer::ShortConv(_) => Widths { q: width, k: width, v: width, mixed: width, ..none },
    }
}

fn of_dense(dense: &Dense) -> Widths {
    Widths { gate: dense.gate.output, up: dense.up.output, ..Widths::default() }
}

fn of_moe(moe: &Moe, width: u32) -> Widths {
    let shared = moe.shared.as_ref();
    let dense = shared.map_or(Widths::default(), |s| Widths { other: width, ..of_dense(&s.dense) });
    Widths { scores: moe.experts, slots: width, expert: moe.gate.output, ..dense }
}

fn of_ffn(ffn: &Ffn, width: u32) -> Widths {
    match ffn {
        Ffn::Dense(dense) => of_dense(dense),
        Ffn::Plain(plain) => Widths { gate: plain.up.output, ..Widths::default() },
        Ffn::Moe(moe) => of_moe(moe, width),
        Ffn::Both(both) => {
            let moe = Widths { other: width, ..of_moe(&both.moe, width) };
            moe.max(of_dense(&both.dense))
        }
    }
}

/// Sizes of all buffers.
pub(crate) struct Plan {
    widths: Widths,
    width: u32,
    vocab: u32,
    rows: usize,
    logits: usize,
    /// Experts of a row: as many rows are staged before a product.
    pub(crate) fan_out: usize,
}

impl Plan {
    pub(crate) fn of(model: &Model, limits: &Limits) -> Self {
        let (mut widths, mut fan_out) = (Widths::default(), 1);
        for block in &model.blocks {
            widths = widths.max(of_mixer(&block.mixer, model.width));
            widths = widths.max(of_ffn(&block.ffn, model.width));
            if let Some(input) = &block.per_layer {
                let own = input.gate.output;
                widths = widths.max(Widths { gate: own, up: own, ..Widths::default() });
            }
            fan_out = fan_out.max(block.ffn.moe().map_or(1, |moe| moe.used as usize));
        }
        let all = model.embed.per_layer.as_ref().map_or(0, |p| p.project.output);
        widths = widths.max(Widths { per_layer: all, wide: all, ..Widths::default() });
        let vocab = if matches!(model.head, Head::Logits(_)) { model.vocab } else { 0 };
        let (rows, logits) = (limits.rows, limits.logits);
        Plan { widths, width: model.width, vocab, rows, logits, fan_out }
    }

    /// Rows and width of every buffer, in the order of [`Scratch`].
    fn sizes(&self) -> [(usize, usize); 18] {
        let (w, rows, slots) = (&self.widths, self.rows, self.rows * self.fan_out);
        [
            (rows, self.width),
            (rows, self.width),
            (rows, self.width),
            (rows, w.other),
            (rows, w.wide),
            (rows, w.q),
            (rows, w.k),
            (rows, w.v),
            (rows, w.mixed),
            (rows, w.gate),
            (rows, w.up),
            (rows, w.scores),
            (slots, w.slots),
            (slots, w.expert),
            (slots, w.expert),
            (rows, w.per_layer),
            (rows, self.width),
            (self.logits, self.vocab),
        ]
        .map(|(rows, width)| (rows, width as usize))
    }

    /// Elements of all buffers.
    pub(crate) fn elements(&self) -> u64 {
        self.sizes().iter().map(|&(rows, width)| rows as u64 * width as u64).sum()
    }
}

impl Scratch {
    /// Allocates the buffers on a device.
    pub fn new(model: &Model, limits: &Limits, ops: &mut impl Ops) -> Self {
        let sizes = Plan::of(model, limits).sizes();
        let [
            x,
            normed,
            branch,
            other,
            wide,
            q,
            k,
            v,
            mixed,
            gate,
            up,
            scores,
            slots,
            expert_gate,
            expert_up,
            per_layer,
            hidden,
            logits,
        ] = sizes.map(|(rows, width)| ops.alloc(rows, width));
        Scratch {
            x,
            normed,
            branch,
            other,
            wide,
            q,
            k,
            v,
            mixed,
            gate,
            up,
            scores,
            slots,
            expert_gate,
            expert_up,
            per_layer,
            hidden,
            logits,
        }
    }
}
