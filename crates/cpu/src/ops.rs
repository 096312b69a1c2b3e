//! `CpuOps`: buffers, weights, cache and the operations of `hob_model::Ops`. Rows are divided among threads where
//! that pays; fused operations save barriers and repeated quantization, and compute the same bits as their parts.

use std::ops::Range;
use std::sync::Arc;

use hob_gguf::Gguf;
use hob_model::{
    Activation, Batch, Bound, Buf, CacheLayout, Dense, Gqa, Limits, Linear, Model, Norm, Ops,
    OpsError, PAGE, Rope, WeightId,
};
use hob_quant::decode_row;

use crate::attention::{Attention, Space, Task, rows_per_task};
use crate::isa::IsaKind;
use crate::kv::KvCache;
use crate::linear::{ActKind, Acts, ActsView, Dst, Matrix, Product, Src, Workspace};
use crate::pool::Pool;
use crate::{CpuError, rows, zeroed};

/// Row operations on fewer elements than this run on the calling thread: a barrier costs more.
const SERIAL: usize = 32 << 10;
/// Matrix rows per unit of work: multiples of the widest vector, few enough to balance.
const UNIT: Range<usize> = 32..256;

enum Held {
    Matrix(Matrix),
    Vector(Vec<f32>),
}

struct Buffer {
    data: Vec<f32>,
    width: usize,
    rows: usize,
}

/// A buffer as threads see it.
#[derive(Clone, Copy)]
struct View {
    data: *mut f32,
    width: usize,
    rows: usize,
}

// SAFETY: regions give each thread its own rows or columns.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl View {
    fn row(self, row: usize) -> *mut f32 {
        debug_assert!(row < self.rows);
        self.data.wrapping_add(row * self.width)
    }
    fn src(self) -> Src {
        Src::new(self.data, self.width)
    }
    fn dst(self) -> Dst {
        Dst::new(self.data, self.width)
    }
    /// # Safety
    /// No one writes the row meanwhile.
    unsafe fn slice<'a>(self, row: usize) -> &'a [f32] {
        // SAFETY: rows of a live buffer.
        unsafe { std::slice::from_raw_parts(self.row(row), self.width) }
    }
    /// # Safety
    /// No one else touches the row meanwhile.
    unsafe fn slice_mut<'a>(self, row: usize) -> &'a mut [f32] {
        // SAFETY: rows of a live buffer.
        unsafe { std::slice::from_raw_parts_mut(self.row(row), self.width) }
    }
}

/// Cos and sin of every row of the batch, for one rope.
struct Angles {
    rope: Rope,
    factors: Vec<f32>,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

/// One cell per worker, touched by that worker alone.
struct PerWorker<T>(Vec<std::cell::UnsafeCell<T>>);

// SAFETY: cell i is used by worker i only, and regions do not nest.
unsafe impl<T: Send> Sync for PerWorker<T> {}

impl<T: Default> PerWorker<T> {
    fn new(workers: usize) -> Self {
        PerWorker((0..workers).map(|_| Default::default()).collect())
    }
    /// # Safety
    /// Called by worker `worker`, which holds no other reference to its cell.
    #[allow(clippy::mut_from_ref)]
    unsafe fn get(&self, worker: usize) -> &mut T {
        // SAFETY: the caller's.
        unsafe { &mut *self.0[worker].get() }
    }
}

/// The processor as a device, with one model loaded.
pub struct CpuOps {
    isa: IsaKind,
    pool: Pool,
    /// Keeps the mapped weights alive.
    _gguf: Arc<Gguf>,
    held: Vec<Held>,
    buffers: Vec<Buffer>,
    batch: Batch,
    angles: Vec<Angles>,
    kv: KvCache,
    acts: Acts,
    workspaces: PerWorker<Workspace>,
    spaces: PerWorker<Space>,
    tasks: Vec<Task>,
    limits: Limits,
}

impl CpuOps {
    /// Binds the weights of `model` where they are mapped and allocates the cache; `threads` 0 means one per core.
    pub fn load(
        model: &Model,
        gguf: Arc<Gguf>,
        bound: &Bound,
        limits: &Limits,
        threads: usize,
    ) -> Result<Self, CpuError> {
        Self::with_isa(model, gguf, bound, limits, threads, IsaKind::best())
    }

    /// Like [`CpuOps::load`], on a given instruction set of [`IsaKind::available`].
    pub fn with_isa(
        model: &Model,
        gguf: Arc<Gguf>,
        bound: &Bound,
        limits: &Limits,
        threads: usize,
        isa: IsaKind,
    ) -> Result<Self, CpuError> {
        let isa = if IsaKind::available().contains(&isa) { isa } else { IsaKind::best() };
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        let held = hold(model, &gguf, bound)?;
        let widest = hob_model::widest_input(model) as usize;
        let angles = model.ropes.iter().map(|rope| Angles::new(rope, &held, limits.rows)).collect();
        Ok(CpuOps {
            isa,
            pool: Pool::new(threads)?,
            held,
            buffers: Vec::new(),
            batch: Batch::new(),
            angles,
            kv: KvCache::new(&CacheLayout::of(model), limits.kv, limits.pages)?,
            acts: Acts::new(limits.rows, widest),
            workspaces: PerWorker::new(threads),
            spaces: PerWorker::new(threads),
            tasks: Vec::new(),
            limits: *limits,
            _gguf: gguf,
        })
    }

    /// The instruction set in use.
    pub fn isa(&self) -> IsaKind {
        self.isa
    }

    /// Worker threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    fn view(&mut self, buf: Buf) -> View {
        let b = &mut self.buffers[buf.0 as usize];
        View { data: b.data.as_mut_ptr(), width: b.width, rows: b.rows }
    }

    /// The view of a destination that takes on `rows` rows.
    fn fill(&mut self, buf: Buf, rows: usize) -> View {
        let b = &mut self.buffers[buf.0 as usize];
        assert!(rows * b.width <= b.data.len(), "{rows} rows do not fit a buffer");
        b.rows = rows;
        self.view(buf)
    }

    /// Quantizes the rows of `src` as `kind` wants them.
    fn quantize(&mut self, src: View, cols: usize, kind: ActKind) {
        if kind == ActKind::Float {
            return;
        }
        let (isa, acts) = (self.isa, self.acts.view());
        // SAFETY: each row is quantized by one thread.
        let one = |row| unsafe { acts.quantize(isa, kind, row, &src.slice(row)[..cols]) };
        per_row(&mut self.pool, src.rows, cols, &one);
    }

    /// Runs linears of one input; `after(rows)` follows on the thread that computed those outputs.
    fn products(
        &mut self,
        src: View,
        parts: &[(View, &Linear)],
        after: &(dyn Fn(Range<usize>) + Sync),
    ) {
        let unit =
            unit_rows(parts.iter().map(|(_, l)| l.output as usize).sum(), self.pool.threads());
        for kind in [ActKind::Super, ActKind::Block32, ActKind::Float] {
            let is_kind = |l: &Linear| matrix(&self.held, l.weight).acts() == kind;
            if !parts.iter().any(|(_, l)| is_kind(l)) {
                continue;
            }
            self.quantize(src, parts[0].1.input as usize, kind);
            let (isa, acts, held) = (self.isa, self.acts.view(), &self.held);
            let job = Job { isa, acts, held, src };
            let of_kind = || {
                parts
                    .iter()
                    .filter(|(_, l)| matrix(held, l.weight).acts() == kind)
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
                    let rows = index * unit..((index + 1) * unit).min(linear.output as usize);
                    // SAFETY: units are disjoint outputs; workspace of this worker.
                    unsafe { job.run(*dst, linear, &rows, workspaces.get(worker)) };
                    return after(rows);
                }
            });
        }
    }
}

/// What the units of a product share.
struct Job<'a> {
    isa: IsaKind,
    acts: ActsView,
    held: &'a [Held],
    src: View,
}

impl Job<'_> {
    /// Outputs `rows` of a linear for every row of `src`.
    ///
    /// # Safety
    /// No one else writes or reads these outputs meanwhile.
    unsafe fn run(&self, dst: View, linear: &Linear, rows: &Range<usize>, ws: &mut Workspace) {
        let (w, src) = (matrix(self.held, linear.weight), self.src);
        let product =
            Product { w, acts: self.acts, src: src.src(), count: src.rows, dst: dst.dst() };
        // SAFETY: the caller's.
        unsafe { product.run(self.isa, rows.clone(), ws) };
        if let Some(bias) = linear.bias {
            add_bias(dst, rows.clone(), &vector(self.held, bias)[rows.clone()]);
        }
    }
}

fn matrix(held: &[Held], id: WeightId) -> &Matrix {
    match &held[id.index()] {
        Held::Matrix(m) => m,
        Held::Vector(_) => unreachable!("linears are held as matrices"),
    }
}

fn vector(held: &[Held], id: WeightId) -> &[f32] {
    match &held[id.index()] {
        Held::Vector(v) => v,
        Held::Matrix(_) => unreachable!("norms and biases are held as vectors"),
    }
}

fn add_bias(dst: View, columns: Range<usize>, bias: &[f32]) {
    for row in 0..dst.rows {
        // SAFETY: these columns belong to the calling unit.
        let out = unsafe {
            std::slice::from_raw_parts_mut(dst.row(row).add(columns.start), columns.len())
        };
        out.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
    }
}

/// Matrices stay mapped; vectors become f32.
fn hold(model: &Model, gguf: &Gguf, bound: &Bound) -> Result<Vec<Held>, CpuError> {
    let tensor = |index: usize| &gguf.tensors()[index];
    let held = model.weights.iter().zip(&bound.tensors).map(|(weight, &index)| {
        let bytes = gguf.tensor_bytes(tensor(index));
        let wrong = || CpuError::Tensor(weight.name.clone());
        match weight.shape[..] {
            [len] => {
                let mut floats = zeroed(len as usize)?;
                decode_row(tensor(index).ty, bytes, &mut floats).map_err(|_| wrong())?;
                Ok(Held::Vector(floats))
            }
            [cols, rows] => {
                // SAFETY: the file stays mapped as long as `CpuOps` lives.
                unsafe { Matrix::new(tensor(index).ty, rows as usize, cols as usize, bytes) }
                    .map(Held::Matrix)
                    .ok_or_else(wrong)
            }
            _ => Err(CpuError::Unsupported("stacked matrices")),
        }
    });
    held.collect()
}

/// Matrix rows per unit when `total` are to be computed.
fn unit_rows(total: usize, threads: usize) -> usize {
    (total / (8 * threads)).clamp(UNIT.start, UNIT.end).next_multiple_of(16)
}

/// Runs `f` for every row, on all threads when there is enough to do.
fn per_row(pool: &mut Pool, count: usize, width: usize, f: &(dyn Fn(usize) + Sync)) {
    if count * width < SERIAL {
        return (0..count).for_each(f);
    }
    pool.run(count, &|_, row| f(row));
}

impl Angles {
    fn new(rope: &Rope, held: &[Held], rows: usize) -> Self {
        let factors = rope.factors.map(|id| vector(held, id).to_vec()).unwrap_or_default();
        let len = rows * rope.inv_freq.len();
        Angles { rope: rope.clone(), factors, cos: vec![0.0; len], sin: vec![0.0; len] }
    }

    fn at(&self, row: usize) -> (&[f32], &[f32]) {
        let n = self.rope.inv_freq.len();
        (&self.cos[row * n..(row + 1) * n], &self.sin[row * n..(row + 1) * n])
    }
}

impl Ops for CpuOps {
    fn alloc(&mut self, rows: usize, width: usize) -> Buf {
        self.buffers.push(Buffer { data: vec![0.0; rows * width], width, rows: 0 });
        Buf(self.buffers.len() as u32 - 1)
    }

    fn begin(&mut self, batch: &Batch) {
        assert!(batch.rows() <= self.limits.rows, "more rows than the limits say");
        self.batch.clone_from(batch);
        for a in &mut self.angles {
            let n = a.rope.inv_freq.len();
            for (row, &position) in batch.positions().iter().enumerate() {
                let at = row * n..(row + 1) * n;
                a.rope.angles(position, &a.factors, &mut a.cos[at.clone()], &mut a.sin[at]);
            }
        }
    }

    fn embed(&mut self, dst: Buf, table: WeightId, scale: f32) {
        let rows = self.batch.rows();
        let out = self.fill(dst, rows);
        let (table, tokens) = (matrix(&self.held, table), self.batch.tokens());
        for (row, &token) in tokens.iter().enumerate() {
            assert!((token as usize) < table.rows(), "token {token} is outside the vocabulary");
            // SAFETY: one thread; the token is a row of the table.
            let (bytes, x) = unsafe { (table.row(token as usize), out.slice_mut(row)) };
            let _ = decode_row(table.ty(), bytes, x); // sizes were checked at load
            if scale != 1.0 {
                x.iter_mut().for_each(|x| *x *= scale);
            }
        }
    }

    fn rms_norm(&mut self, dst: Buf, src: Buf, norm: &Norm) {
        let src = self.view(src);
        let (dst, isa) = (self.fill(dst, src.rows), self.isa);
        let gain = vector(&self.held, norm.weight);
        per_row(&mut self.pool, src.rows, src.width, &|row| {
            // SAFETY: each row by one thread; in place is allowed.
            unsafe { rows::rms_norm(isa, dst.row(row), src.row(row), src.width, gain, norm.eps) }
        });
    }

    fn linear(&mut self, dst: Buf, src: Buf, linear: &Linear) {
        let src = self.view(src);
        let dst = self.fill(dst, src.rows);
        self.products(src, &[(dst, linear)], &|_| {});
    }

    fn rope(&mut self, x: Buf, head_dim: u32, rope: usize) {
        let (x, angles) = (self.view(x), &self.angles[rope]);
        per_row(&mut self.pool, x.rows, x.width, &|row| {
            let (cos, sin) = angles.at(row);
            // SAFETY: each row by one thread.
            rows::rope(unsafe { x.slice_mut(row) }, head_dim as usize, angles.rope.pairs, cos, sin);
        });
    }

    fn store_kv(&mut self, layer: usize, k: Buf, v: Buf) {
        let (k, v) = (self.view(k), self.view(v));
        let (batch, kv) = (&self.batch, self.kv.view());
        let dim = kv.head_dim(layer);
        for span in batch.spans() {
            let pages = batch.pages(span);
            per_row(&mut self.pool, span.rows.len(), k.width, &|i| {
                let (row, position) = (span.rows.start + i, span.start as usize + i);
                let (page, slot) = (pages[position / PAGE], position % PAGE);
                for head in 0..kv.kv_heads(layer) {
                    let at = head * dim..(head + 1) * dim;
                    // SAFETY: each position by one thread; sequences own their unfinished pages.
                    unsafe {
                        kv.store(
                            layer,
                            page,
                            head,
                            slot,
                            &k.slice(row)[at.clone()],
                            &v.slice(row)[at],
                        );
                    }
                }
            });
        }
    }

    fn attend(&mut self, dst: Buf, q: Buf, layer: usize, gqa: &Gqa) {
        let q = self.view(q);
        let (dst, isa) = (self.fill(dst, q.rows), self.isa);
        let group = (gqa.heads / gqa.kv_heads) as usize;
        let batch = &self.batch;
        self.tasks.clear();
        for span in batch.spans() {
            let step = rows_per_task(group);
            for at in (0..span.rows.len()).step_by(step) {
                let (rows, start) = (step.min(span.rows.len() - at), span.start as usize + at);
                let pages = (span.pages.start, span.pages.end);
                let row = span.rows.start + at;
                self.tasks.extend((0..gqa.kv_heads as usize).map(|head| Task {
                    row,
                    rows,
                    start,
                    pages,
                    head,
                }));
            }
        }
        let (pages, kv) = (batch.all_pages(), self.kv.view());
        let window = gqa.window.map_or(usize::MAX, |window| window as usize);
        let (q, dst, scale) = (q.src(), dst.dst(), gqa.scale);
        let attention = Attention { layer, q, dst, pages, kv, group, scale, window };
        let (tasks, spaces) = (&self.tasks, &self.spaces);
        let seen = |t: &Task| (t.start + t.rows).min(window.saturating_add(t.rows));
        let work: usize =
            tasks.iter().map(|t| t.rows * seen(t) * group * gqa.head_dim as usize).sum();
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

    fn act_mul(&mut self, gate: Buf, up: Buf, act: Activation) {
        let (gate, up, isa) = (self.view(gate), self.view(up), self.isa);
        per_row(&mut self.pool, gate.rows, gate.width, &|row| {
            // SAFETY: each row by one thread.
            unsafe { rows::act_mul(isa, gate.row(row), up.row(row), gate.width, act) }
        });
    }

    fn add(&mut self, dst: Buf, src: Buf) {
        let (dst, src, isa) = (self.view(dst), self.view(src), self.isa);
        per_row(&mut self.pool, dst.rows, dst.width, &|row| {
            // SAFETY: each row by one thread.
            unsafe { rows::add(isa, dst.row(row), src.row(row), dst.width) }
        });
    }

    fn gather(&mut self, dst: Buf, src: Buf) {
        let count = self.batch.outputs().len();
        let (dst, src) = (self.fill(dst, count), self.view(src));
        for (i, &row) in self.batch.outputs().iter().enumerate() {
            // SAFETY: one thread.
            unsafe { dst.slice_mut(i).copy_from_slice(src.slice(row as usize)) };
        }
    }

    fn logits(&mut self, dst: Buf, src: Buf, first: usize, count: usize, head: &Linear) {
        let hidden = self.view(src);
        assert!(first + count <= hidden.rows, "logits of rows that were not asked for");
        let dst = self.fill(dst, count);
        let src =
            View { data: hidden.row(0).wrapping_add(first * hidden.width), rows: count, ..hidden };
        self.products(src, &[(dst, head)], &|_| {});
    }

    fn softcap(&mut self, x: Buf, count: usize, cap: f32) {
        let x = self.view(x);
        per_row(&mut self.pool, count, x.width, &|row| {
            // SAFETY: each row by one thread.
            rows::softcap(unsafe { x.slice_mut(row) }, cap)
        });
    }

    fn read(&mut self, x: Buf, rows: usize) -> Result<&[f32], OpsError> {
        let b = &self.buffers[x.0 as usize];
        Ok(&b.data[..rows * b.width])
    }

    fn qkv(&mut self, q: Buf, k: Buf, v: Buf, src: Buf, gqa: &Gqa) {
        let src = self.view(src);
        let [q, k, v] = [q, k, v].map(|b| self.fill(b, src.rows));
        self.products(src, &[(q, &gqa.q), (k, &gqa.k), (v, &gqa.v)], &|_| {});
    }

    fn gate_up(&mut self, gate: Buf, up: Buf, src: Buf, ffn: &Dense) {
        let kind = matrix(&self.held, ffn.gate.weight).acts();
        if kind != matrix(&self.held, ffn.up.weight).acts() {
            self.linear(gate, src, &ffn.gate);
            self.linear(up, src, &ffn.up);
            return self.act_mul(gate, up, ffn.act);
        }
        let src = self.view(src);
        let [gate, up] = [gate, up].map(|b| self.fill(b, src.rows));
        self.quantize(src, ffn.gate.input as usize, kind);
        let (isa, workspaces) = (self.isa, &self.workspaces);
        let job = Job { isa, acts: self.acts.view(), held: &self.held, src };
        let total = ffn.gate.output as usize;
        let unit = unit_rows(total, self.pool.threads());
        self.pool.run(total.div_ceil(unit), &|worker, index| {
            let columns = index * unit..((index + 1) * unit).min(total);
            for (dst, linear) in [(gate, &ffn.gate), (up, &ffn.up)] {
                // SAFETY: units are disjoint outputs; workspace of this worker.
                unsafe { job.run(dst, linear, &columns, workspaces.get(worker)) };
            }
            for row in 0..src.rows {
                let at = |v: View| v.row(row).wrapping_add(columns.start);
                // SAFETY: these columns belong to this unit.
                unsafe { rows::act_mul(isa, at(gate), at(up), columns.len(), ffn.act) };
            }
        });
    }

    fn linear_add(&mut self, dst: Buf, tmp: Buf, src: Buf, linear: &Linear) {
        let (src, dst, isa) = (self.view(src), self.view(dst), self.isa);
        let tmp = self.fill(tmp, src.rows);
        self.products(src, &[(tmp, linear)], &|columns| {
            for row in 0..src.rows {
                let at = |v: View| v.row(row).wrapping_add(columns.start);
                // SAFETY: these columns belong to this unit.
                unsafe { rows::add(isa, at(dst), at(tmp), columns.len()) };
            }
        });
    }
}
