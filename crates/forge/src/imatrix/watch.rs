//! A device that looks at what another one multiplies. Only the small operations are handed on: the fused ones fall
//! apart through their default bodies, so that every product of a weight passes `linear` or `logits`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hob_model::{Activation, Batch, Buf, Gqa, Linear, Norm, Ops, OpsError, WeightId};

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
}

/// Poison is none: a panic within `add` leaves numbers, no broken structure.
pub(super) fn lock(sums: &Mutex<Sums>) -> MutexGuard<'_, Sums> {
    sums.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<O: Ops> Watched<O> {
    pub(super) fn new(ops: O, sums: Arc<Mutex<Sums>>, output: Option<WeightId>) -> Self {
        Watched { ops, sums, output, batch: [0; 2], rows: HashMap::new() }
    }

    fn rows(&self, buf: Buf) -> usize {
        self.rows.get(&buf).copied().unwrap_or(0)
    }

    /// Looks at rows `first .. first + count` before they are multiplied.
    fn look(&mut self, src: Buf, first: usize, count: usize, linear: &Linear) {
        let rows = first + count;
        let mut sums = lock(&self.sums);
        match self.ops.read(src, rows) {
            Ok(x) => {
                let width = x.len().checked_div(rows).unwrap_or(0);
                sums.add(linear, &x[first * width..], count);
            }
            Err(e) => sums.failed = Some(e),
        }
    }
}

impl<O: Ops> Ops for Watched<O> {
    fn alloc(&mut self, rows: usize, width: usize) -> Buf {
        self.ops.alloc(rows, width)
    }

    fn begin(&mut self, batch: &Batch) {
        self.batch = [batch.rows(), batch.outputs().len()];
        self.ops.begin(batch);
    }

    fn embed(&mut self, dst: Buf, table: WeightId, scale: f32) {
        self.rows.insert(dst, self.batch[0]);
        self.ops.embed(dst, table, scale);
    }

    fn rms_norm(&mut self, dst: Buf, src: Buf, norm: &Norm) {
        self.rows.insert(dst, self.rows(src));
        self.ops.rms_norm(dst, src, norm);
    }

    fn linear(&mut self, dst: Buf, src: Buf, linear: &Linear) {
        let rows = self.rows(src);
        self.look(src, 0, rows, linear);
        self.rows.insert(dst, rows);
        self.ops.linear(dst, src, linear);
    }

    fn rope(&mut self, x: Buf, head_dim: u32, rope: usize) {
        self.ops.rope(x, head_dim, rope);
    }

    fn store_kv(&mut self, layer: usize, k: Buf, v: Buf) {
        self.ops.store_kv(layer, k, v);
    }

    fn attend(&mut self, dst: Buf, q: Buf, layer: usize, gqa: &Gqa) {
        self.rows.insert(dst, self.rows(q));
        self.ops.attend(dst, q, layer, gqa);
    }

    fn act_mul(&mut self, gate: Buf, up: Buf, act: Activation) {
        self.ops.act_mul(gate, up, act);
    }

    fn add(&mut self, dst: Buf, src: Buf) {
        self.ops.add(dst, src);
    }

    fn gather(&mut self, dst: Buf, src: Buf) {
        self.rows.insert(dst, self.batch[1]);
        self.ops.gather(dst, src);
    }

    fn logits(&mut self, dst: Buf, src: Buf, first: usize, count: usize, head: &Linear) {
        if self.output == Some(head.weight) {
            self.look(src, first, count, head);
        }
        self.ops.logits(dst, src, first, count, head);
    }

    fn softcap(&mut self, x: Buf, count: usize, cap: f32) {
        self.ops.softcap(x, count, cap);
    }

    fn read(&mut self, x: Buf, rows: usize) -> Result<&[f32], OpsError> {
        self.ops.read(x, rows)
    }
}
