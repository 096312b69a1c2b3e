//! A device that looks at what another one multiplies. Only the small operations are handed on: the fused ones fall
//! apart through their default bodies, so that every product of a weight passes `linear` or `logits`.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hob_model::{
    Activation, Attend, Batch, Buf, Columns, Conv, DeltaNet, Index, Linear, Mamba2, Moe, Norm, Ops,
    OpsError, WeightId,
};

use super::sums::Sums;

/// A device, watched.
pub(super) struct Watched<O> {
    ops: O,
    sums: Arc<Mutex<Sums>>,
    /// The unembedding, if its input counts.
    output: Option<WeightId>,
    /// Rows of the step, and those that it wants back.
    batch: [usize; 2],
    /// Rows of the buffers.
    rows: HashMap<Buf, usize>,
    /// What was looked at last, while it stays: q, k and v read the same rows.
    seen: Option<Seen>,
    /// Experts of the last choice and their dispatched rows.
    slots: Vec<(usize, Range<usize>)>,
}

/// Rows of a buffer, and how many of their columns.
#[derive(PartialEq)]
struct Seen {
    buf: Buf,
    rows: Range<usize>,
    columns: u32,
}

/// Poison is none: a panic within `add` leaves numbers, no broken structure.
pub(super) fn lock(sums: &Mutex<Sums>) -> MutexGuard<'_, Sums> {
    sums.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<O: Ops> Watched<O> {
    pub(super) fn new(ops: O, sums: Arc<Mutex<Sums>>, output: Option<WeightId>) -> Self {
        Watched {
            ops,
            sums,
            output,
            batch: [0; 2],
            rows: HashMap::new(),
            seen: None,
            slots: Vec::new(),
        }
    }

    fn rows(&self, buf: Buf) -> usize {
        self.rows.get(&buf).copied().unwrap_or(0)
    }

    /// A buffer gets other contents, of as many rows.
    fn fill(&mut self, buf: Buf, rows: usize) {
        self.rows.insert(buf, rows);
        self.change(buf);
    }

    /// A buffer gets other contents.
    fn change(&mut self, buf: Buf) {
        self.seen.take_if(|seen| seen.buf == buf);
    }

    /// Looks at rows before they are multiplied.
    fn look(&mut self, src: Buf, rows: Range<usize>, linear: &Linear) {
        let mut sums = lock(&self.sums);
        let seen = Some(Seen { buf: src, rows: rows.clone(), columns: linear.input });
        if self.seen != seen {
            let x = match self.ops.read(src, rows.end) {
                Ok(x) => x,
                Err(e) => return sums.failed = Some(e),
            };
            let width = x.len().checked_div(rows.end).unwrap_or(0);
            sums.look(&x[rows.start * width..], rows.len(), linear.input as usize);
            self.seen = seen;
        }
        // Fused projections read the same rows: the first part of a matrix stands for all.
        if linear.first == 0 {
            sums.add(linear.weight, 0);
        }
    }

    /// Looks at the dispatched rows of every expert.
    fn look_at_experts(&mut self, src: Buf, linear: &Linear) {
        if linear.first > 0 {
            return;
        }
        let mut sums = lock(&self.sums);
        let x = match self.ops.read(src, self.rows(src)) {
            Ok(x) => x,
            Err(e) => return sums.failed = Some(e),
        };
        let columns = linear.input as usize;
        for (expert, slots) in &self.slots {
            let rows = &x[slots.start * columns..slots.end * columns];
            sums.look(rows, slots.len(), columns);
            sums.add(linear.weight, *expert);
        }
        self.seen = None;
    }

    /// Looks at each head's part of the rows.
    fn look_at_heads(&mut self, src: Buf, linear: &Linear, heads: usize) {
        let mut sums = lock(&self.sums);
        let rows = self.rows(src);
        let x = match self.ops.read(src, rows) {
            Ok(x) => x,
            Err(e) => return sums.failed = Some(e),
        };
        let columns = linear.input as usize;
        for head in 0..heads {
            let parts = x.chunks_exact(columns).skip(head).step_by(heads);
            let part: Vec<f32> = parts.flatten().copied().collect();
            sums.look(&part, rows, columns);
            sums.add(linear.weight, head);
        }
        self.seen = None;
    }
}

impl<O: Ops> Ops for Watched<O> {
    fn alloc(&mut self, rows: usize, width: usize) -> Buf {
        self.ops.alloc(rows, width)
    }

    fn begin(&mut self, batch: &Batch) {
        self.seen = None;
        self.batch = [batch.rows(), batch.outputs().len()];
        self.ops.begin(batch);
    }

    fn embed(&mut self, dst: Buf, table: WeightId, scale: f32) {
        self.fill(dst, self.batch[0]);
        self.ops.embed(dst, table, scale);
    }

    fn embed_add(&mut self, dst: Buf, table: WeightId, index: Index) {
        self.change(dst);
        self.ops.embed_add(dst, table, index);
    }

    fn norm(&mut self, dst: Buf, src: Buf, norm: &Norm) {
        self.fill(dst, self.rows(src));
        self.ops.norm(dst, src, norm);
    }

    fn linear(&mut self, dst: Buf, src: Buf, linear: &Linear) {
        let rows = self.rows(src);
        self.look(src, 0..rows, linear);
        self.fill(dst, rows);
        self.ops.linear(dst, src, linear);
    }

    fn head_linear(&mut self, dst: Buf, src: Buf, linear: &Linear, heads: u32) {
        self.look_at_heads(src, linear, heads as usize);
        self.fill(dst, self.rows(src));
        self.ops.head_linear(dst, src, linear, heads);
    }

    fn copy_state(&mut self, from: u32, to: u32) {
        self.ops.copy_state(from, to);
    }

    fn rope(&mut self, x: Buf, head_dim: u32, first: u32, rope: usize) {
        self.change(x);
        self.ops.rope(x, head_dim, first, rope);
    }

    fn store_kv(&mut self, layer: usize, k: Buf, v: Buf) {
        self.ops.store_kv(layer, k, v);
    }

    fn store_latent(&mut self, layer: usize, k: Buf) {
        self.ops.store_latent(layer, k);
    }

    fn attend(&mut self, dst: Buf, q: Buf, layer: usize, attend: &Attend) {
        self.fill(dst, self.rows(q));
        self.ops.attend(dst, q, layer, attend);
    }

    fn take(&mut self, dst: Buf, src: Buf, columns: Columns) {
        self.fill(dst, self.rows(src));
        self.ops.take(dst, src, columns);
    }

    fn put(&mut self, dst: Buf, width: u32, src: Buf, columns: Columns) {
        self.fill(dst, self.rows(src));
        self.ops.put(dst, width, src, columns);
    }

    fn conv(&mut self, dst: Buf, src: Buf, layer: usize, conv: &Conv) {
        self.fill(dst, self.rows(src));
        self.ops.conv(dst, src, layer, conv);
    }

    fn delta_net(
        &mut self,
        dst: Buf,
        qkv: Buf,
        alpha: Buf,
        beta: Buf,
        layer: usize,
        net: &DeltaNet,
    ) {
        self.fill(dst, self.rows(qkv));
        self.ops.delta_net(dst, qkv, alpha, beta, layer, net);
    }

    fn mamba2(&mut self, dst: Buf, xbc: Buf, dt: Buf, layer: usize, mamba: &Mamba2) {
        self.fill(dst, self.rows(xbc));
        self.ops.mamba2(dst, xbc, dt, layer, mamba);
    }

    fn act(&mut self, x: Buf, act: Activation) {
        self.change(x);
        self.ops.act(x, act);
    }

    fn act_mul(&mut self, gate: Buf, up: Buf, act: Activation) {
        self.change(gate);
        self.ops.act_mul(gate, up, act);
    }

    fn add(&mut self, dst: Buf, src: Buf) {
        self.change(dst);
        self.ops.add(dst, src);
    }

    fn scale(&mut self, x: Buf, factor: f32) {
        self.change(x);
        self.ops.scale(x, factor);
    }

    fn gain(&mut self, x: Buf, w: WeightId) {
        self.change(x);
        self.ops.gain(x, w);
    }

    fn gate_rows(&mut self, x: Buf, gate: Buf) {
        self.change(x);
        self.ops.gate_rows(x, gate);
    }

    fn route(&mut self, scores: Buf, moe: &Moe) {
        self.ops.route(scores, moe);
        self.slots = self.ops.routed();
    }

    fn dispatch(&mut self, dst: Buf, src: Buf) {
        self.fill(dst, self.slots.last().map_or(0, |(_, slots)| slots.end));
        self.ops.dispatch(dst, src);
    }

    fn expert_linear(&mut self, dst: Buf, src: Buf, linear: &Linear) {
        self.look_at_experts(src, linear);
        self.fill(dst, self.rows(src));
        self.ops.expert_linear(dst, src, linear);
    }

    fn combine(&mut self, dst: Buf, src: Buf) {
        self.fill(dst, self.batch[0]);
        self.ops.combine(dst, src);
    }

    fn routed(&self) -> Vec<(usize, Range<usize>)> {
        self.ops.routed()
    }

    fn gather(&mut self, dst: Buf, src: Buf) {
        self.fill(dst, self.batch[1]);
        self.ops.gather(dst, src);
    }

    fn logits(&mut self, dst: Buf, src: Buf, first: usize, count: usize, head: &Linear) {
        if self.output == Some(head.weight) {
            self.look(src, first..first + count, head);
        }
        self.change(dst);
        self.ops.logits(dst, src, first, count, head);
    }

    fn softcap(&mut self, x: Buf, cap: f32) {
        self.change(x);
        self.ops.softcap(x, cap);
    }

    fn read(&mut self, x: Buf, rows: usize) -> Result<&[f32], OpsError> {
        self.ops.read(x, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hob_model::{Limits, Mixer, Output, bind, describe};
    use hob_testkit::{Family, RefOps, Tiny};

    #[test]
    fn rows_are_looked_at_again_once_they_change() {
        let gguf = Tiny::new(Family::Llama).gguf();
        let model = describe(&gguf).unwrap();
        let bound = bind(&model, &gguf).unwrap();
        let limits = Limits::new(3, 1);
        let sums = Arc::new(Mutex::new(Sums::new(&model, 1)));
        let device = RefOps::load(&model, &gguf, &bound, &limits);
        let mut ops = Watched::new(device, sums.clone(), None);
        let [x, y] = [64, 64].map(|width| ops.alloc(3, width));
        let mut batch = Batch::new();
        batch.push(&[7, 8, 9], 0, &[0], Output::Last).unwrap();
        let Mixer::Gqa(gqa) = &model.blocks[0].mixer else { panic!("attention") };
        let mut sum_after = |change: &dyn Fn(&mut Watched<RefOps>)| {
            change(&mut ops);
            ops.linear(y, x, &gqa.q);
            ops.linear(y, x, &gqa.q);
            let entry = lock(&sums).entry(gqa.q.weight).unwrap();
            let mut sums = lock(&sums);
            *sums = Sums::new(&model, 1);
            (entry.counts[0], entry.sums.iter().sum::<f32>())
        };
        let (rows, first) = sum_after(&|ops| {
            ops.begin(&batch);
            ops.embed(x, model.embed.weight, 1.0);
        });
        assert!(rows == 6.0 && first > 0.0);
        let (_, doubled) = sum_after(&|ops| ops.add(x, x));
        assert!((doubled / first - 4.0).abs() < 1e-4, "{first} {doubled}");
        let (_, scaled) = sum_after(&|ops| ops.embed(x, model.embed.weight, 3.0));
        assert!((scaled / first - 9.0).abs() < 1e-4, "{first} {scaled}");
        let (_, mixed) = sum_after(&|ops| ops.act_mul(x, x, Activation::Silu));
        assert!(mixed != scaled);
        let (rows, last) = sum_after(&|ops| ops.gather(x, x));
        assert!(rows == 2.0 && last < mixed);
    }
}
