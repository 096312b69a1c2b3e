//! `hob_model::Ops` for the processor, operation by operation. Rows are divided among threads where that pays; fused
//! operations save barriers and repeated quantization, and compute the same bits as their parts.

use std::ops::Range;

use hob_model::{
    Activation, Attend, Batch, Buf, Columns, Conv, DeltaNet, Dense, Gqa, Index, Linear, Mamba2,
    Moe, Norm, Ops, OpsError, WeightId,
};
use hob_quant::decode_row;

use crate::attention::{Attention, rows_per_task};
use crate::device::{CpuOps, SERIAL, View, per_row, stack, vector};
use crate::rows;

impl CpuOps {
    /// Decodes a row of a table for every row of the batch: `f` gets the batch's row, and fills it by decoding.
    fn look_up(
        &self,
        out: View,
        table: WeightId,
        index: impl Fn(&Batch, usize) -> usize,
        mut f: impl FnMut(&mut [f32], &dyn Fn(&mut [f32])),
    ) {
        let table = &stack(&self.held, table)[0];
        for row in 0..self.batch.rows() {
            let at = index(&self.batch, row);
            assert!(at < table.rows(), "row {at} is outside a table of {}", table.rows());
            // SAFETY: a row of the table; one thread.
            let (bytes, y) = unsafe { (table.row(at), out.slice_mut(row)) };
            f(y, &|x| {
                let _ = decode_row(table.ty(), bytes, x); // sizes were checked at load
            });
        }
    }

    /// Runs `f` on every row of a view.
    fn each_row(&mut self, x: View, f: &(dyn Fn(usize) + Sync)) {
        per_row(&mut self.pool, x.rows, x.width, f);
    }

    fn cached(&mut self, layer: usize, k: View, v: Option<View>) {
        let (batch, kv) = (&self.batch, self.kv.view());
        let (dim, group) = (kv.head_dim(layer), kv.group(layer));
        for span in batch.spans() {
            let pages = batch.pages(span, group);
            per_row(&mut self.pool, span.rows.len(), k.width, &|i| {
                let row = span.rows.start + i;
                let (page, slot) = CpuOps::place(pages, span.start as usize + i);
                for head in 0..kv.kv_heads(layer) {
                    let (at, page) = (head * dim..(head + 1) * dim, kv.head(layer, page, head));
                    // SAFETY: each position by one thread; sequences own their unfinished pages.
                    unsafe {
                        match v {
                            Some(v) => {
                                kv.store_key(page, slot, &k.slice(row)[at.clone()]);
                                kv.store_value(page, slot, &v.slice(row)[at]);
                            }
                            None => kv.store_value(page, slot, &k.slice(row)[at]),
                        }
                    }
                }
            });
        }
    }
}

impl Ops for CpuOps {
    fn alloc(&mut self, rows: usize, width: usize) -> Buf {
        self.add_buffer(rows, width)
    }

    fn begin(&mut self, batch: &Batch) {
        assert!(batch.rows() <= self.limits.rows, "more rows than the limits say");
        self.batch.clone_from(batch);
        self.angles.iter_mut().for_each(|a| a.turn(batch.positions()));
        for span in batch.spans().iter().filter(|span| span.start == 0) {
            self.states.clear(span.state as usize);
        }
    }

    fn copy_state(&mut self, from: u32, to: u32) {
        self.states.copy(from as usize, to as usize);
    }

    fn embed(&mut self, dst: Buf, table: WeightId, scale: f32) {
        let (rows, width) = (self.batch.rows(), stack(&self.held, table)[0].cols());
        let out = self.fill(dst, rows, width);
        let token = |b: &Batch, row: usize| b.tokens()[row] as usize;
        self.look_up(out, table, token, |y, decode| {
            decode(y);
            if scale != 1.0 {
                y.iter_mut().for_each(|y| *y *= scale);
            }
        });
    }

    fn embed_add(&mut self, dst: Buf, table: WeightId, index: Index) {
        let out = self.view(dst);
        let index = |b: &Batch, row: usize| match index {
            Index::Position => b.positions()[row] as usize,
            Index::First => 0,
        };
        // Encoders only, once per text.
        let mut x = vec![0.0; out.width];
        self.look_up(out, table, index, |y, decode| {
            decode(&mut x);
            y.iter_mut().zip(&x).for_each(|(y, x)| *y += x);
        });
    }

    fn norm(&mut self, dst: Buf, src: Buf, norm: &Norm) {
        let src = self.view(src);
        let (dst, isa) = (self.fill(dst, src.rows, src.width), self.isa);
        let [gain, bias] =
            [norm.weight, norm.bias].map(|id| id.map_or(&[][..], |id| vector(&self.held, id)));
        let group = rows::Group { kind: norm.kind, width: norm.width as usize, eps: norm.eps };
        per_row(&mut self.pool, src.rows, src.width, &|row| {
            // SAFETY: each row by one thread; in place is allowed.
            unsafe { rows::norm(isa, dst.row(row), src.row(row), src.width, group, gain, bias) }
        });
    }

    fn linear(&mut self, dst: Buf, src: Buf, linear: &Linear) {
        let src = self.view(src);
        let dst = self.fill(dst, src.rows, linear.output as usize);
        self.products(src, &[(dst, linear)], &|_| {});
    }

    fn head_linear(&mut self, dst: Buf, src: Buf, linear: &Linear, heads: u32) {
        let src = self.view(src);
        let dst = self.fill(dst, src.rows, (heads * linear.output) as usize);
        self.by_head(dst, src, linear, heads as usize);
    }

    fn rope(&mut self, x: Buf, head_dim: u32, first: u32, rope: usize) {
        let (x, angles) = (self.view(x), &self.angles[rope]);
        per_row(&mut self.pool, x.rows, x.width, &|row| {
            let (cos, sin) = angles.at(row);
            // SAFETY: each row by one thread.
            let x = unsafe { x.slice_mut(row) };
            rows::rope(x, head_dim as usize, first as usize, angles.rope.pairs, cos, sin);
        });
    }

    fn store_kv(&mut self, layer: usize, k: Buf, v: Buf) {
        let (k, v) = (self.view(k), self.view(v));
        self.cached(layer, k, Some(v));
    }

    fn store_latent(&mut self, layer: usize, k: Buf) {
        let k = self.view(k);
        self.cached(layer, k, None);
    }

    fn attend(&mut self, dst: Buf, q: Buf, layer: usize, a: &Attend) {
        let q = self.view(q);
        let dst = self.fill(dst, q.rows, (a.heads * a.value_dim) as usize);
        let (isa, group) = (self.isa, (a.heads / a.kv_heads) as usize);
        let table = self.kv.view().group(layer);
        self.plan_attention(a.kv_heads as usize, rows_per_task(group), table);
        let attention = Attention {
            layer,
            q: q.src(),
            dst: dst.dst(),
            pages: self.batch.all_pages(),
            kv: self.kv.view(),
            group,
            value_dim: a.value_dim as usize,
            scale: a.scale,
            sight: a.sight,
            softcap: a.softcap,
            sinks: a.sinks.map(|id| vector(&self.held, id)),
            temper: a.temper,
        };
        let (tasks, spaces) = (&self.tasks, &self.spaces);
        let work: usize = tasks.iter().map(|t| attention.work(*t)).sum();
        let one = |worker: usize, index: usize| {
            // The last tasks see the most keys: they go first.
            // SAFETY: tasks write disjoint heads and rows; space of this worker.
            unsafe { attention.run(isa, tasks[tasks.len() - 1 - index], spaces.get(worker)) }
        };
        if work < SERIAL {
            return (0..tasks.len()).for_each(|index| one(0, index));
        }
        self.pool.run(tasks.len(), &one);
    }

    fn take(&mut self, dst: Buf, src: Buf, columns: Columns) {
        let src = self.view(src);
        let [group, first, len] = [columns.group, columns.first, columns.len].map(|n| n as usize);
        let dst = self.fill(dst, src.rows, src.width / group * len);
        self.each_row(dst, &|row| {
            // SAFETY: each row by one thread.
            let (from, to) = unsafe { (src.slice(row), dst.slice_mut(row)) };
            for (to, from) in to.chunks_exact_mut(len).zip(from.chunks_exact(group)) {
                to.copy_from_slice(&from[first..first + len]);
            }
        });
    }

    fn put(&mut self, dst: Buf, width: u32, src: Buf, columns: Columns) {
        let src = self.view(src);
        let [group, first, len] = [columns.group, columns.first, columns.len].map(|n| n as usize);
        let dst = self.fill(dst, src.rows, width as usize);
        self.each_row(src, &|row| {
            // SAFETY: each row by one thread.
            let (from, to) = unsafe { (src.slice(row), dst.slice_mut(row)) };
            for (to, from) in to.chunks_exact_mut(group).zip(from.chunks_exact(len)) {
                to[first..first + len].copy_from_slice(from);
            }
        });
    }

    fn conv(&mut self, dst: Buf, src: Buf, layer: usize, conv: &Conv) {
        let src = self.view(src);
        let dst = self.fill(dst, src.rows, conv.channels as usize);
        self.convolve(dst, src, layer, conv);
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
        let [qkv, alpha, beta] = [qkv, alpha, beta].map(|b| self.view(b));
        let dst = self.fill(dst, qkv.rows, (net.v_heads * net.value_dim) as usize);
        self.delta_rule(dst, qkv, alpha, beta, layer, net);
    }

    fn mamba2(&mut self, dst: Buf, xbc: Buf, dt: Buf, layer: usize, mamba: &Mamba2) {
        let [xbc, dt] = [xbc, dt].map(|b| self.view(b));
        let dst = self.fill(dst, xbc.rows, (mamba.heads * mamba.head_dim) as usize);
        self.scan(dst, xbc, dt, layer, mamba);
    }

    fn act(&mut self, x: Buf, act: Activation) {
        let (x, isa) = (self.view(x), self.isa);
        self.each_row(x, &|row| {
            // SAFETY: each row by one thread.
            unsafe { rows::act(isa, x.row(row), x.width, act) }
        });
    }

    fn act_mul(&mut self, gate: Buf, up: Buf, act: Activation) {
        let (gate, up, isa) = (self.view(gate), self.view(up), self.isa);
        self.each_row(gate, &|row| {
            // SAFETY: each row by one thread.
            unsafe { rows::act_mul(isa, gate.row(row), up.row(row), gate.width, act) }
        });
    }

    fn add(&mut self, dst: Buf, src: Buf) {
        let (dst, src, isa) = (self.view(dst), self.view(src), self.isa);
        self.each_row(dst, &|row| {
            // SAFETY: each row by one thread.
            unsafe { rows::add(isa, dst.row(row), src.row(row), dst.width) }
        });
    }

    fn scale(&mut self, x: Buf, factor: f32) {
        let x = self.view(x);
        self.each_row(x, &|row| {
            // SAFETY: each row by one thread.
            unsafe { x.slice_mut(row) }.iter_mut().for_each(|x| *x *= factor);
        });
    }

    fn gain(&mut self, x: Buf, w: WeightId) {
        let x = self.view(x);
        let w = vector(&self.held, w);
        per_row(&mut self.pool, x.rows, x.width, &|row| {
            // SAFETY: each row by one thread.
            let x = unsafe { x.slice_mut(row) };
            x.iter_mut().zip(w.iter().cycle()).for_each(|(x, w)| *x *= w);
        });
    }

    fn gate_rows(&mut self, x: Buf, gate: Buf) {
        let (x, gate) = (self.view(x), self.view(gate));
        self.each_row(x, &|row| {
            // SAFETY: each row by one thread.
            let (x, gate) = unsafe { (x.slice_mut(row), gate.slice(row)[0]) };
            let share = rows::sigmoid(gate);
            x.iter_mut().for_each(|x| *x *= share);
        });
    }

    fn route(&mut self, scores: Buf, moe: &Moe) {
        let scores = self.view(scores);
        self.choose_experts(scores, moe);
    }

    fn routed(&self) -> Vec<(usize, Range<usize>)> {
        self.routes.used.clone()
    }

    fn dispatch(&mut self, dst: Buf, src: Buf) {
        let src = self.view(src);
        let dst = self.fill(dst, self.routes.rows.len(), src.width);
        let rows = &self.routes.rows;
        per_row(&mut self.pool, dst.rows, dst.width, &|slot| {
            // SAFETY: each row by one thread.
            unsafe { dst.slice_mut(slot).copy_from_slice(src.slice(rows[slot] as usize)) }
        });
    }

    fn expert_linear(&mut self, dst: Buf, src: Buf, linear: &Linear) {
        let src = self.view(src);
        let dst = self.fill(dst, src.rows, linear.output as usize);
        self.by_expert(dst, src, linear);
    }

    fn combine(&mut self, dst: Buf, src: Buf) {
        let src = self.view(src);
        let dst = self.fill(dst, self.batch.rows(), src.width);
        let routes = &self.routes;
        per_row(&mut self.pool, dst.rows, dst.width * routes.used_per_row(), &|row| {
            // SAFETY: each row by one thread.
            unsafe { routes.combine(row, dst.slice_mut(row), |slot| src.slice(slot)) }
        });
    }

    fn gather(&mut self, dst: Buf, src: Buf) {
        let (count, src) = (self.batch.outputs().len(), self.view(src));
        let dst = self.fill(dst, count, src.width);
        for (i, &row) in self.batch.outputs().iter().enumerate() {
            // SAFETY: one thread.
            unsafe { dst.slice_mut(i).copy_from_slice(src.slice(row as usize)) };
        }
    }

    fn logits(&mut self, dst: Buf, src: Buf, first: usize, count: usize, head: &Linear) {
        let src = self.view(src).part(first, count);
        let dst = self.fill(dst, count, head.output as usize);
        self.products(src, &[(dst, head)], &|_| {});
    }

    fn softcap(&mut self, x: Buf, cap: f32) {
        let x = self.view(x);
        self.each_row(x, &|row| {
            // SAFETY: each row by one thread.
            rows::softcap(unsafe { x.slice_mut(row) }, cap)
        });
    }

    fn read(&mut self, x: Buf, rows: usize) -> Result<&[f32], OpsError> {
        Ok(self.held_rows(x, rows))
    }

    fn qkv(&mut self, q: Buf, k: Buf, v: Buf, src: Buf, gqa: &Gqa) {
        let src = self.view(src);
        let q = self.fill(q, src.rows, gqa.q.output as usize);
        let Some(kv) = &gqa.kv else { return self.products(src, &[(q, &gqa.q)], &|_| {}) };
        let keys = self.fill(k, src.rows, kv.k.output as usize);
        let Some(values) = &kv.v else {
            self.products(src, &[(q, &gqa.q), (keys, &kv.k)], &|_| {});
            let all = kv.k.output;
            return self.take(v, k, Columns { group: all, first: 0, len: all });
        };
        let v = self.fill(v, src.rows, values.output as usize);
        self.products(src, &[(q, &gqa.q), (keys, &kv.k), (v, values)], &|_| {});
    }

    fn gate_up(&mut self, gate: Buf, up: Buf, src: Buf, ffn: &Dense) {
        if !self.gates_alike(ffn) {
            self.linear(gate, src, &ffn.gate);
            self.linear(up, src, &ffn.up);
            return self.act_mul(gate, up, ffn.act);
        }
        let src = self.view(src);
        let [gate, up] = [gate, up].map(|b| self.fill(b, src.rows, ffn.gate.output as usize));
        self.gated(gate, up, src, ffn);
    }

    fn linear_add(&mut self, dst: Buf, tmp: Buf, src: Buf, linear: &Linear) {
        let (src, dst, isa) = (self.view(src), self.view(dst), self.isa);
        let tmp = self.fill(tmp, src.rows, linear.output as usize);
        self.products(src, &[(tmp, linear)], &|columns| {
            for row in 0..src.rows {
                let at = |v: View| v.row(row).wrapping_add(columns.start);
                // SAFETY: these columns belong to this unit.
                unsafe { rows::add(isa, at(dst), at(tmp), columns.len()) };
            }
        });
    }
}
