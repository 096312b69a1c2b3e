//! The only interpreter: walks a `Model` and calls `Ops`. It names no architecture, no device, no phase.
//! Each mixer and feed-forward variant has its own function; scratch is one named struct, allocated once.

use std::ops::Range;

use crate::{
    Batch, Block, Buf, Dense, Ffn, Gqa, Limits, Linear, Mixer, Model, ModelError, Norm, Ops,
    OpsError,
};

/// All intermediate values of a step, sized from the model and the limits.
#[derive(Clone, Debug)]
pub struct Scratch {
    x: Buf,
    normed: Buf,
    q: Buf,
    k: Buf,
    v: Buf,
    mixed: Buf,
    gate: Buf,
    up: Buf,
    branch: Buf,
    hidden: Buf,
    logits: Buf,
}

/// Widths of the buffers above, in their order, with the kind of rows that each holds.
pub(crate) struct Widths {
    pub(crate) q: u32,
    pub(crate) kv: u32,
    pub(crate) ffn: u32,
}

pub(crate) fn widths(model: &Model) -> Widths {
    let mut widths = Widths { q: 0, kv: 0, ffn: 0 };
    for block in &model.blocks {
        if let Mixer::Gqa(gqa) = &block.mixer {
            widths.q = widths.q.max(gqa.heads * gqa.head_dim);
            widths.kv = widths.kv.max(gqa.kv_heads * gqa.head_dim);
        }
        if let Ffn::Dense(ffn) = &block.ffn {
            widths.ffn = widths.ffn.max(ffn.gate.output);
        }
    }
    widths
}

impl Scratch {
    /// Allocates the buffers on a device; fails when the model has a part without a data flow.
    pub fn new(model: &Model, limits: &Limits, ops: &mut impl Ops) -> Result<Self, ModelError> {
        runnable(model)?;
        let (rows, width, w) = (limits.rows, model.width as usize, widths(model));
        let mut body = |width: usize| ops.alloc(rows, width);
        Ok(Scratch {
            x: body(width),
            normed: body(width),
            q: body(w.q as usize),
            k: body(w.kv as usize),
            v: body(w.kv as usize),
            mixed: body(w.q as usize),
            gate: body(w.ffn as usize),
            up: body(w.ffn as usize),
            branch: body(width),
            hidden: body(width),
            logits: ops.alloc(limits.logits, model.vocab as usize),
        })
    }
}

fn runnable(model: &Model) -> Result<(), ModelError> {
    let missing = model.blocks.iter().find_map(|block| match (&block.mixer, &block.ffn) {
        (Mixer::Mla(_), _) => Some("latent attention"),
        (_, Ffn::Moe(_)) => Some("mixture of experts"),
        _ => None,
    });
    match missing {
        Some(missing) => Err(ModelError::NotRunnable { arch: model.arch.to_owned(), missing }),
        None => Ok(()),
    }
}

/// Runs one step: afterwards the normed hidden state of every wanted row is in place for [`head`].
pub fn forward(model: &Model, scratch: &Scratch, batch: &Batch, ops: &mut impl Ops) {
    let s = scratch;
    ops.begin(batch);
    ops.embed(s.x, model.embed.weight, model.embed.scale);
    for (layer, block) in model.blocks.iter().enumerate() {
        ops.rms_norm(s.normed, s.x, &block.attn_norm);
        match &block.mixer {
            Mixer::Gqa(gqa) => attention(gqa, layer, block, s, ops),
            Mixer::Mla(_) => unreachable!("Scratch::new refuses latent attention"),
        }
        ops.rms_norm(s.normed, s.x, &block.ffn_norm);
        match &block.ffn {
            Ffn::Dense(ffn) => dense(ffn, block, s, ops),
            Ffn::Moe(_) => unreachable!("Scratch::new refuses experts"),
        }
    }
    ops.gather(s.hidden, s.x);
    ops.rms_norm(s.hidden, s.hidden, &model.norm);
}

/// Logits of a range of the wanted rows of the last step, `vocab` per row; at most `Limits::logits` rows.
pub fn head<'a, O: Ops>(
    model: &Model,
    scratch: &Scratch,
    rows: Range<usize>,
    ops: &'a mut O,
) -> Result<&'a [f32], OpsError> {
    let count = rows.len();
    ops.logits(scratch.logits, scratch.hidden, rows.start, count, &model.head.linear);
    if let Some(cap) = model.head.softcap {
        ops.softcap(scratch.logits, count, cap);
    }
    ops.read(scratch.logits, count)
}

fn attention(gqa: &Gqa, layer: usize, block: &Block, s: &Scratch, ops: &mut impl Ops) {
    ops.qkv(s.q, s.k, s.v, s.normed, gqa);
    ops.rope_store(s.q, s.k, s.v, layer, gqa);
    ops.attend(s.mixed, s.q, layer, gqa);
    residual(s.mixed, &gqa.o, &block.attn_post_norm, s, ops);
}

fn dense(ffn: &Dense, block: &Block, s: &Scratch, ops: &mut impl Ops) {
    ops.gate_up(s.gate, s.up, s.normed, ffn);
    residual(s.gate, &ffn.down, &block.ffn_post_norm, s, ops);
}

/// `x += post(W src)`: how each half of a block ends.
fn residual(src: Buf, linear: &Linear, post: &Option<Norm>, s: &Scratch, ops: &mut impl Ops) {
    let Some(norm) = post else { return ops.linear_add(s.x, s.branch, src, linear) };
    ops.linear(s.branch, src, linear);
    ops.rms_norm(s.branch, s.branch, norm);
    ops.add(s.x, s.branch);
}
