//! Products of weights with rows: single matrices, stacks of them by head or by expert, and the fused ones. Outputs are
//! divided among threads in units of whole vectors; which thread computes a unit never changes its bits.

use std::ops::Range;

use hob_model::{Dense, Linear};

use crate::device::{CpuOps, Held, View, per_row, stack, vector};
use crate::isa::IsaKind;
use crate::linear::{ActKind, ActsView, Dst, Matrix, Product, Src, Workspace};
use crate::rows;

/// Matrix rows per unit of work: multiples of the widest vector, few enough to balance.
const UNIT: Range<usize> = 32..256;

/// Matrix rows per unit when `total` are to be computed.
fn unit_rows(total: usize, threads: usize) -> usize {
    (total / (8 * threads)).clamp(UNIT.start, UNIT.end).next_multiple_of(16)
}

/// Rows of some linear's input and output.
#[derive(Clone, Copy)]
struct Rows {
    src: Src,
    dst: Dst,
    count: usize,
}

/// What the units of a product share.
#[derive(Clone, Copy)]
struct Job<'a> {
    isa: IsaKind,
    acts: ActsView,
    held: &'a [Held],
}

impl Job<'_> {
    /// Outputs `columns` of one matrix of a linear for some rows.
    ///
    /// # Safety
    /// No one else writes or reads these outputs meanwhile.
    unsafe fn run(
        &self,
        linear: &Linear,
        nth: usize,
        rows: Rows,
        columns: Range<usize>,
        ws: &mut Workspace,
    ) {
        let w = &stack(self.held, linear.weight)[nth];
        let first = linear.first as usize;
        let (src, count, dst) = (rows.src, rows.count, rows.dst.at_column(first));
        let product = Product { w, acts: self.acts, src, count, dst };
        let of_matrix = first + columns.start..first + columns.end;
        // SAFETY: the caller's.
        unsafe { product.run(self.isa, of_matrix.clone(), ws) };
        let Some(bias) = linear.bias else { return };
        let bias = &vector(self.held, bias)[nth * w.rows()..][of_matrix];
        for row in 0..count {
            for (i, b) in bias.iter().enumerate() {
                // SAFETY: these columns belong to the calling unit.
                unsafe { *rows.dst.at(row, columns.start + i) += b };
            }
        }
    }
}

impl CpuOps {
    fn matrix(&self, linear: &Linear) -> &Matrix {
        &stack(&self.held, linear.weight)[0]
    }

    /// Quantizes the rows of `src`, `cols` wide, as `kind` wants them, into rows of `acts`.
    fn quantize(&mut self, src: Src, count: usize, cols: usize, kind: ActKind, acts: ActsView) {
        if kind == ActKind::Float {
            return;
        }
        let isa = self.isa;
        per_row(&mut self.pool, count, cols, &|row| {
            // SAFETY: each row is quantized by one thread.
            unsafe {
                let x = std::slice::from_raw_parts(src.row(row), cols);
                acts.quantize(isa, kind, row, x);
            }
        });
    }

    /// Runs linears of one input; `after(columns)` follows on the thread that computed those outputs.
    pub(crate) fn products(
        &mut self,
        src: View,
        parts: &[(View, &Linear)],
        after: &(dyn Fn(Range<usize>) + Sync),
    ) {
        let total = parts.iter().map(|(_, l)| l.output as usize).sum();
        let unit = unit_rows(total, self.pool.threads());
        for kind in [ActKind::Super, ActKind::Block32, ActKind::Float] {
            if !parts.iter().any(|(_, l)| self.matrix(l).acts() == kind) {
                continue;
            }
            let acts = self.acts.view();
            self.quantize(src.src(), src.rows, src.width, kind, acts);
            let job = Job { isa: self.isa, acts, held: &self.held };
            let of_kind = || {
                parts
                    .iter()
                    .filter(|(_, l)| stack(job.held, l.weight)[0].acts() == kind)
                    .map(|(dst, l)| (dst, *l, (l.output as usize).div_ceil(unit)))
            };
            let total = of_kind().map(|(_, _, units)| units).sum();
            let workspaces = &self.workspaces;
            self.pool.run(total, &|worker, mut index| {
                for (dst, linear, units) in of_kind() {
                    if index >= units {
                        index -= units;
                        continue;
                    }
                    let columns = index * unit..((index + 1) * unit).min(linear.output as usize);
                    let rows = Rows { src: src.src(), dst: dst.dst(), count: src.rows };
                    // SAFETY: units are disjoint outputs; workspace of this worker.
                    unsafe { job.run(linear, 0, rows, columns.clone(), workspaces.get(worker)) };
                    return after(columns);
                }
            });
        }
    }

    /// Gate and up projection with what follows them in one pass, where both want the same activations.
    pub(crate) fn gated(&mut self, gate: View, up: View, src: View, ffn: &Dense) {
        let kind = self.matrix(&ffn.gate).acts();
        let acts = self.acts.view();
        self.quantize(src.src(), src.rows, src.width, kind, acts);
        let (isa, workspaces) = (self.isa, &self.workspaces);
        let job = Job { isa, acts, held: &self.held };
        let total = ffn.gate.output as usize;
        let unit = unit_rows(total, self.pool.threads());
        self.pool.run(total.div_ceil(unit), &|worker, index| {
            let columns = index * unit..((index + 1) * unit).min(total);
            for (dst, linear) in [(gate, &ffn.gate), (up, &ffn.up)] {
                let rows = Rows { src: src.src(), dst: dst.dst(), count: src.rows };
                // SAFETY: units are disjoint outputs; workspace of this worker.
                unsafe { job.run(linear, 0, rows, columns.clone(), workspaces.get(worker)) };
            }
            for row in 0..src.rows {
                let at = |v: View| v.row(row).wrapping_add(columns.start);
                // SAFETY: these columns belong to this unit.
                unsafe { rows::act_mul(isa, at(gate), at(up), columns.len(), ffn.act) };
            }
        });
    }

    /// Whether [`CpuOps::gated`] applies.
    pub(crate) fn gates_alike(&self, ffn: &Dense) -> bool {
        self.matrix(&ffn.gate).acts() == self.matrix(&ffn.up).acts()
    }

    /// One matrix for each head's part of the rows.
    pub(crate) fn by_head(&mut self, dst: View, src: View, linear: &Linear, heads: usize) {
        let (input, output) = (linear.input as usize, linear.output as usize);
        let kind = self.matrix(linear).acts();
        let parts = src.rows * heads;
        let acts = match kind {
            ActKind::Float => self.acts.view(),
            _ => self.acts.view().reshaped(parts, input),
        };
        self.quantize(Src::new(src.row(0), input), parts, input, kind, acts);
        let (isa, held, workspaces) = (self.isa, &self.held, &self.workspaces);
        let unit = unit_rows(output * heads, self.pool.threads());
        let units = output.div_ceil(unit);
        self.pool.run(heads * units, &|worker, index| {
            let (head, index) = (index / units, index % units);
            let columns = index * unit..((index + 1) * unit).min(output);
            let job = Job { isa, acts: acts.every(head, heads), held };
            let rows = Rows {
                src: Src::new(src.row(0).wrapping_add(head * input), src.width),
                dst: Dst::new(dst.row(0).wrapping_add(head * output), dst.width),
                count: src.rows,
            };
            // SAFETY: units are disjoint outputs; workspace of this worker.
            unsafe { job.run(linear, head, rows, columns, workspaces.get(worker)) };
        });
    }

    /// One matrix for each expert's dispatched rows: every expert in use is read once.
    pub(crate) fn by_expert(&mut self, dst: View, src: View, linear: &Linear) {
        let output = linear.output as usize;
        let kind = self.matrix(linear).acts();
        let acts = self.acts.view();
        self.quantize(src.src(), src.rows, src.width, kind, acts);
        let (isa, held, workspaces) = (self.isa, &self.held, &self.workspaces);
        let used = &self.routes.used;
        let unit = unit_rows(output * used.len(), self.pool.threads());
        let units = output.div_ceil(unit);
        self.pool.run(used.len() * units, &|worker, index| {
            let (expert, slots) = &used[index / units];
            let index = index % units;
            let columns = index * unit..((index + 1) * unit).min(output);
            let job = Job { isa, acts: acts.every(slots.start, 1), held };
            let rows = Rows {
                src: Src::new(src.row(slots.start), src.width),
                dst: Dst::new(dst.row(slots.start), dst.width),
                count: slots.len(),
            };
            // SAFETY: units are disjoint outputs; workspace of this worker.
            unsafe { job.run(linear, *expert, rows, columns, workspaces.get(worker)) };
        });
    }
}
