//! `CpuOps` itself: weights where they are mapped, buffers, cache and states, all allocated at load. What it computes is
//! in `ops` and the files beside it.

use std::sync::Arc;

use hob_gguf::Gguf;
use hob_model::{
    Batch, Bound, Buf, CacheLayout, Limits, Linear, Model, PAGE, Rope, WeightId, staging_rows,
};
use hob_quant::decode_row;

use crate::attention::{Space, Task};
use crate::isa::IsaKind;
use crate::kv::KvCache;
use crate::linear::{Acts, Dst, Matrix, Src, Workspace};
use crate::pool::Pool;
use crate::route::Routes;
use crate::state::States;
use crate::{CpuError, zeroed};

/// Row operations on fewer elements than this run on the calling thread: a barrier costs more.
pub(crate) const SERIAL: usize = 32 << 10;

/// A weight as kernels want it.
pub(crate) enum Held {
    /// One matrix, or one for each expert or head.
    Stack(Vec<Matrix>),
    Vector(Vec<f32>),
}

pub(crate) struct Buffer {
    data: Vec<f32>,
    width: usize,
    rows: usize,
}

/// A buffer as threads see it.
#[derive(Clone, Copy)]
pub(crate) struct View {
    data: *mut f32,
    pub(crate) width: usize,
    pub(crate) rows: usize,
}

// SAFETY: regions give each thread its own rows or columns.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl View {
    pub(crate) fn row(self, row: usize) -> *mut f32 {
        debug_assert!(row < self.rows.max(1));
        self.data.wrapping_add(row * self.width)
    }
    pub(crate) fn src(self) -> Src {
        Src::new(self.data, self.width)
    }
    pub(crate) fn dst(self) -> Dst {
        Dst::new(self.data, self.width)
    }
    /// The `count` rows from `first` on.
    pub(crate) fn part(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.rows, "rows that are not there");
        View { data: self.row(first), rows: count, ..self }
    }
    /// # Safety
    /// No one writes the row meanwhile.
    pub(crate) unsafe fn slice<'a>(self, row: usize) -> &'a [f32] {
        // SAFETY: rows of a live buffer.
        unsafe { std::slice::from_raw_parts(self.row(row), self.width) }
    }
    /// # Safety
    /// No one else touches the row meanwhile.
    pub(crate) unsafe fn slice_mut<'a>(self, row: usize) -> &'a mut [f32] {
        // SAFETY: rows of a live buffer.
        unsafe { std::slice::from_raw_parts_mut(self.row(row), self.width) }
    }
}

/// Cos and sin of every row of the batch, for one rope.
pub(crate) struct Angles {
    pub(crate) rope: Rope,
    factors: Vec<f32>,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

/// One cell per worker, touched by that worker alone.
pub(crate) struct PerWorker<T>(Vec<std::cell::UnsafeCell<T>>);

// SAFETY: cell i is used by worker i only, and regions do not nest.
unsafe impl<T: Send> Sync for PerWorker<T> {}

impl<T: Default> PerWorker<T> {
    fn new(workers: usize) -> Self {
        PerWorker((0..workers).map(|_| Default::default()).collect())
    }
    /// # Safety
    /// Called by worker `worker`, which holds no other reference to its cell.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn get(&self, worker: usize) -> &mut T {
        // SAFETY: the caller's.
        unsafe { &mut *self.0[worker].get() }
    }
}

/// The processor as a device, with one model loaded.
pub struct CpuOps {
    pub(crate) isa: IsaKind,
    pub(crate) pool: Pool,
    /// Keeps the mapped weights alive.
    _gguf: Arc<Gguf>,
    pub(crate) held: Vec<Held>,
    pub(crate) buffers: Vec<Buffer>,
    pub(crate) batch: Batch,
    pub(crate) angles: Vec<Angles>,
    pub(crate) kv: KvCache,
    pub(crate) states: States,
    pub(crate) routes: Routes,
    pub(crate) acts: Acts,
    pub(crate) workspaces: PerWorker<Workspace>,
    pub(crate) spaces: PerWorker<Space>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) limits: Limits,
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
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        Self::on(model, gguf, bound, limits, Pool::new(threads)?, IsaKind::best())
    }

    /// Like [`CpuOps::load`], on threads that may be shared and a given instruction set of [`IsaKind::available`].
    pub fn on(
        model: &Model,
        gguf: Arc<Gguf>,
        bound: &Bound,
        limits: &Limits,
        pool: Pool,
        isa: IsaKind,
    ) -> Result<Self, CpuError> {
        let isa = if IsaKind::available().contains(&isa) { isa } else { IsaKind::best() };
        let threads = pool.threads();
        check_parts(model)?;
        let held = hold(model, &gguf, bound)?;
        let layout = CacheLayout::of(model);
        let widest = hob_model::widest_input(model) as usize;
        let angles = model.ropes.iter().map(|rope| Angles::new(rope, &held, limits)).collect();
        Ok(CpuOps {
            isa,
            pool,
            states: States::new(model, &layout, &held, limits)?,
            held,
            buffers: Vec::new(),
            batch: Batch::new(),
            angles,
            kv: KvCache::new(&layout, limits)?,
            routes: Routes::default(),
            acts: Acts::new(staging_rows(model, limits), widest),
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

    pub(crate) fn add_buffer(&mut self, rows: usize, width: usize) -> Buf {
        self.buffers.push(Buffer { data: vec![0.0; rows * width], width, rows: 0 });
        Buf(self.buffers.len() as u32 - 1)
    }

    pub(crate) fn view(&mut self, buf: Buf) -> View {
        let b = &mut self.buffers[buf.0 as usize];
        View { data: b.data.as_mut_ptr(), width: b.width, rows: b.rows }
    }

    /// The view of a destination that takes on `rows` rows of `width`.
    pub(crate) fn fill(&mut self, buf: Buf, rows: usize, width: usize) -> View {
        let b = &mut self.buffers[buf.0 as usize];
        assert!(rows * width <= b.data.len(), "{rows} rows of {width} do not fit a buffer");
        (b.rows, b.width) = (rows, width);
        self.view(buf)
    }

    pub(crate) fn held_rows(&self, buf: Buf, rows: usize) -> &[f32] {
        let b = &self.buffers[buf.0 as usize];
        &b.data[..rows * b.width]
    }
}

/// The matrices of a weight: one, or one for each expert or head.
pub(crate) fn stack(held: &[Held], id: WeightId) -> &[Matrix] {
    match &held[id.index()] {
        Held::Stack(matrices) => matrices,
        Held::Vector(_) => unreachable!("linears are held as matrices"),
    }
}

pub(crate) fn vector(held: &[Held], id: WeightId) -> &[f32] {
    match &held[id.index()] {
        Held::Vector(v) => v,
        Held::Stack(_) => unreachable!("norms and biases are held as vectors"),
    }
}

/// Kernels start at multiples of the widest vector and write whole ones, but for a matrix's last rows.
fn check_parts(model: &Model) -> Result<(), CpuError> {
    let ragged = |l: &Linear| {
        let rows = model.weight(l.weight).shape.get(1).copied().unwrap_or(1);
        let end = l.first + l.output;
        !l.first.is_multiple_of(16) || (!end.is_multiple_of(16) && u64::from(end) != rows)
    };
    match model.linears().into_iter().any(ragged) {
        true => Err(CpuError::Unsupported("fused projections whose parts are not whole 16 rows")),
        false => Ok(()),
    }
}

/// Matrices stay mapped; everything else becomes f32.
fn hold(model: &Model, gguf: &Gguf, bound: &Bound) -> Result<Vec<Held>, CpuError> {
    let tensor = |index: usize| &gguf.tensors()[index];
    let held = model.weights.iter().zip(&bound.tensors).map(|(weight, &index)| {
        let bytes = gguf.tensor_bytes(tensor(index));
        let wrong = || CpuError::Tensor(weight.name.clone());
        if !weight.is_matrix() {
            let mut floats = zeroed(weight.elements() as usize)?;
            decode_row(tensor(index).ty, bytes, &mut floats).map_err(|_| wrong())?;
            return Ok(Held::Vector(floats));
        }
        let dim = |i: usize| weight.shape.get(i).map_or(1, |&n| n as usize);
        let (cols, rows, count) = (dim(0), dim(1), dim(2).max(1));
        let each = bytes.len() / count;
        let matrix = |bytes: &[u8]| {
            // SAFETY: the file stays mapped as long as `CpuOps` lives.
            unsafe { Matrix::new(tensor(index).ty, rows, cols, bytes) }.ok_or_else(wrong)
        };
        let matrices: Result<Vec<_>, _> =
            (0..count).map(|n| matrix(&bytes[n * each..(n + 1) * each])).collect();
        Ok(Held::Stack(matrices?))
    });
    held.collect()
}

/// Runs `f` for every row, on all threads when there is enough to do.
pub(crate) fn per_row(pool: &mut Pool, count: usize, width: usize, f: &(dyn Fn(usize) + Sync)) {
    if count * width < SERIAL {
        return (0..count).for_each(f);
    }
    pool.run(count, &|_, row| f(row));
}

impl Angles {
    fn new(rope: &Rope, held: &[Held], limits: &Limits) -> Self {
        let factors = rope.factors.choose(limits.context);
        let factors = factors.map(|id| vector(held, id).to_vec()).unwrap_or_default();
        let len = limits.rows * rope.inv_freq.len();
        Angles { rope: rope.clone(), factors, cos: vec![0.0; len], sin: vec![0.0; len] }
    }

    /// Computes the angles of a batch's rows.
    pub(crate) fn turn(&mut self, positions: &[u32]) {
        let n = self.rope.inv_freq.len();
        for (row, &position) in positions.iter().enumerate() {
            let at = row * n..(row + 1) * n;
            let (cos, sin) = (&mut self.cos[at.clone()], &mut self.sin[at]);
            self.rope.angles(position, &self.factors, cos, sin);
        }
    }

    pub(crate) fn at(&self, row: usize) -> (&[f32], &[f32]) {
        let n = self.rope.inv_freq.len();
        (&self.cos[row * n..(row + 1) * n], &self.sin[row * n..(row + 1) * n])
    }
}

impl CpuOps {
    /// Splits the attention of a layer into tasks: some rows of a span for one key head.
    pub(crate) fn plan_attention(&mut self, kv_heads: usize, step: usize, table: usize) {
        let batch = &self.batch;
        self.tasks.clear();
        for span in batch.spans() {
            let pages = Batch::table(span, table);
            let end = span.start as usize + span.rows.len();
            for at in (0..span.rows.len()).step_by(step) {
                let (rows, start) = (step.min(span.rows.len() - at), span.start as usize + at);
                let (row, pages) = (span.rows.start + at, (pages.start, pages.end));
                let task = |head| Task { row, rows, start, pages, head, end };
                self.tasks.extend((0..kv_heads).map(task));
            }
        }
    }

    /// Page and slot of a position of a span.
    pub(crate) fn place(pages: &[u32], position: usize) -> (u32, usize) {
        (pages[position / PAGE], position % PAGE)
    }
}
