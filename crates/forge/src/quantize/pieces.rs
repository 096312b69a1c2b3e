//! The work in pieces of whole rows: threads claim them in the order of the files, encode them, and hand them over in that
//! order, whoever is faster. A piece's bytes depend on nothing but its rows, so the number of threads changes nothing.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hob_gguf::TensorInfo;
use hob_quant::{GgmlType, decode_row, encode_row, float};

use super::QuantizeError;
use super::plan::{Plan, Planned};

/// Weights of a piece, or one row where rows are longer. Two pieces per thread and four more are in memory at a time,
/// each of at most 1 MiB (or one row as F32), and [`GROUP`] decoded weights per thread; beyond that only the header and
/// the current tensor's importance.
pub const PIECE: u64 = 1 << 18;
/// Weights that are decoded before they are encoded: they stay in the core's cache.
const GROUP: u64 = 1 << 14;
/// Bytes of the source that the system is told of before they are read.
const AHEAD: u64 = 16 << 20;
/// Bytes of the source that stay mapped behind the piece that was encoded last.
const BEHIND: u64 = 4 << 20;
/// Below this no scale of any type overflows: all are f16 or wider, and none is larger than the largest weight.
const SAFE: f32 = 30_000.0;
/// How often the writer looks up while it waits.
const PATIENCE: Duration = Duration::from_millis(50);

/// Rows of one tensor.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    /// Index in the plan.
    pub tensor: usize,
    /// Rows over all dimensions but the first.
    pub rows: Range<u64>,
}

/// What the writer finds when it asks for the next piece.
pub(super) enum Next {
    /// Encoded.
    Piece(Rows, Vec<u8>),
    /// Not yet.
    Waiting,
    /// There are no more.
    End,
}

/// The pieces between the threads that encode and the one that writes.
pub(super) struct Line<'a> {
    plan: &'a Plan<'a>,
    window: usize,
    state: Mutex<State>,
    /// A piece was taken, so there is room for another.
    room: Condvar,
    /// The piece that is due has come.
    ready: Condvar,
    stop: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Where the next piece begins.
    tensor: usize,
    row: u64,
    /// Importance of that tensor.
    importance: Option<Arc<[f32]>>,
    /// Claimed and not yet taken, in order.
    pending: VecDeque<Slot>,
    /// Number of the first of them.
    first: u64,
    /// Buffers to be used again.
    spare: Vec<Vec<u8>>,
}

struct Slot {
    rows: Rows,
    done: Option<Result<Vec<u8>, QuantizeError>>,
}

/// A piece that a thread works on.
struct Claim {
    no: u64,
    rows: Rows,
    importance: Option<Arc<[f32]>>,
    buffer: Vec<u8>,
}

impl<'a> Line<'a> {
    pub fn new(plan: &'a Plan<'a>, threads: usize) -> Self {
        Line {
            plan,
            window: 2 * threads + 4,
            state: Mutex::default(),
            room: Condvar::new(),
            ready: Condvar::new(),
            stop: AtomicBool::new(false),
        }
    }

    /// Encodes pieces until there are no more. Run by every thread.
    pub fn work(&self) {
        let _alarm = Alarm(self);
        let mut decoded = Vec::new();
        while let Some(claim) = self.claim() {
            let Claim { no, rows, importance, buffer } = claim;
            let done = self.encode(&rows, importance.as_deref(), buffer, &mut decoded);
            let mut state = self.lock();
            let due = no == state.first;
            let at = (no - state.first) as usize;
            if let Some(slot) = state.pending.get_mut(at) {
                slot.done = Some(done);
            }
            if due {
                self.ready.notify_one();
            }
        }
    }

    /// The next piece in order; returns now and then although none has come.
    pub fn next(&self) -> Result<Next, QuantizeError> {
        let mut state = self.lock();
        if state.pending.front().is_none_or(|slot| slot.done.is_none()) {
            if state.pending.is_empty() && state.tensor >= self.plan.tensors.len() {
                return Ok(Next::End);
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(QuantizeError::Worker);
            }
            let waited = self.ready.wait_timeout(state, PATIENCE);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        match state.pending.pop_front() {
            Some(Slot { rows, done: Some(done) }) => {
                state.first += 1;
                self.room.notify_one();
                Ok(Next::Piece(rows, done?))
            }
            Some(slot) => {
                state.pending.push_front(slot);
                Ok(Next::Waiting)
            }
            None => Ok(Next::Waiting),
        }
    }

    /// Gives a buffer back.
    pub fn recycle(&self, buffer: Vec<u8>) {
        self.lock().spare.push(buffer);
    }

    /// Ends the work early.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        // Under the lock, so that no thread is between looking and waiting.
        let _state = self.lock();
        self.room.notify_all();
        self.ready.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room and takes the next rows.
    fn claim(&self) -> Option<Claim> {
        let mut state = self.lock();
        loop {
            let tensor = self.plan.tensors.get(state.tensor)?;
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            if state.pending.len() < self.window {
                return self.claim_of(tensor, &mut state);
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn claim_of(&self, tensor: &Planned, state: &mut State) -> Option<Claim> {
        let info = self.plan.source.tensors().get(tensor.index)?;
        if state.row == 0 {
            let importance = self.plan.importance.filter(|_| tensor.importance);
            state.importance =
                importance.and_then(|i| i.matrix.importance(&tensor.name)).map(Arc::from);
            let next = self.plan.tensors.get(state.tensor + 1);
            if let Some(next) = next.and_then(|t| self.plan.source.tensors().get(t.index)) {
                self.plan.source.prefetch(next, 0..AHEAD);
            }
        }
        let rows_of_piece = (PIECE / info.row_len()).max(1);
        let end = (state.row + rows_of_piece).min(info.rows());
        let rows = Rows { tensor: state.tensor, rows: state.row..end };
        (state.tensor, state.row) =
            if end == info.rows() { (state.tensor + 1, 0) } else { (state.tensor, end) };
        let no = state.first + state.pending.len() as u64;
        state.pending.push_back(Slot { rows: rows.clone(), done: None });
        let buffer = state.spare.pop().unwrap_or_default();
        Some(Claim { no, rows, importance: state.importance.clone(), buffer })
    }

    /// The bytes of a piece.
    fn encode(
        &self,
        piece: &Rows,
        importance: Option<&[f32]>,
        mut out: Vec<u8>,
        decoded: &mut Vec<f32>,
    ) -> Result<Vec<u8>, QuantizeError> {
        let source = self.plan.source;
        let tensor = self.plan.tensors.get(piece.tensor).ok_or(QuantizeError::Worker)?;
        let info = source.tensors().get(tensor.index).ok_or(QuantizeError::Worker)?;
        let row = info.row_len() as usize;
        let (from, to) = (row_bytes(tensor.from, row), row_bytes(tensor.to, row));
        let place = piece.rows.start * from as u64..piece.rows.end * from as u64;
        source.prefetch(info, place.start + AHEAD..place.end + AHEAD);
        let bytes = source.tensor_bytes(info).get(place.start as usize..place.end as usize);
        let bytes = bytes.ok_or(QuantizeError::Worker)?;
        out.resize((piece.rows.end - piece.rows.start) as usize * to, 0);
        let group = (GROUP as usize / row).max(1);
        let mut first = piece.rows.start;
        for (bytes, out) in bytes.chunks(group * from).zip(out.chunks_mut(group * to)) {
            if self.stop.load(Ordering::Relaxed) {
                return Err(QuantizeError::Stopped);
            }
            let group = Group { tensor, info, first };
            group.encode(bytes, importance, out, decoded)?;
            first += (bytes.len() / from) as u64;
        }
        // Some way behind, because a page fault maps what lies around it too; the rest is the writer's.
        let behind = |at: u64| at.saturating_sub(BEHIND);
        source.release(info, behind(place.start)..behind(place.end));
        Ok(out)
    }
}

/// Bytes of a row; the plan has checked that it is a number of blocks.
fn row_bytes(ty: GgmlType, row: usize) -> usize {
    ty.row_bytes(row as u64).map_or(1, |bytes| bytes.max(1) as usize)
}

/// A few rows.
struct Group<'a> {
    tensor: &'a Planned,
    info: &'a TensorInfo,
    first: u64,
}

impl Group<'_> {
    fn encode(
        &self,
        bytes: &[u8],
        importance: Option<&[f32]>,
        out: &mut [u8],
        decoded: &mut Vec<f32>,
    ) -> Result<(), QuantizeError> {
        let Planned { from, to, .. } = *self.tensor;
        let fault = |source| QuantizeError::Row { tensor: self.tensor.name.clone(), source };
        let row = self.info.row_len() as usize;
        let weights: &[f32] = match bytemuck::try_cast_slice(bytes) {
            Ok(weights) if from == GgmlType::F32 => weights,
            _ => {
                decoded.resize(bytes.len() / row_bytes(from, row) * row, 0.0);
                decode_row(from, bytes, decoded).map_err(fault)?;
                decoded
            }
        };
        let magnitude = float::magnitude(weights);
        if !magnitude.is_finite() {
            return Err(self.not_finite(weights));
        }
        if from == to {
            out.copy_from_slice(bytes);
            return Ok(());
        }
        let rows = weights.chunks_exact(row).zip(out.chunks_exact_mut(row_bytes(to, row)));
        for (no, (weights, out)) in (self.first..).zip(rows) {
            let importance = importance.and_then(|all| self.importance_of(all, no));
            encode_row(to, weights, importance, out).map_err(fault)?;
        }
        match magnitude > SAFE {
            true => self.check_written(weights, magnitude, out),
            false => Ok(()),
        }
    }

    /// The importance of one row: that of its expert.
    fn importance_of<'i>(&self, all: &'i [f32], row: u64) -> Option<&'i [f32]> {
        let len = self.info.row_len() as usize;
        let expert = row / self.info.dims.get(1).copied().unwrap_or(1).max(1);
        all.chunks_exact(len).nth(expert as usize)
    }

    fn place(&self, index: usize) -> (u64, usize) {
        let row = self.info.row_len() as usize;
        (self.first + (index / row) as u64, index % row)
    }

    fn not_finite(&self, weights: &[f32]) -> QuantizeError {
        let found = weights.iter().copied().enumerate().find(|(_, w)| !w.is_finite());
        let (index, value) = found.unwrap_or((0, f32::NAN));
        let (row, column) = self.place(index);
        QuantizeError::NotFinite { tensor: self.tensor.name.clone(), row, column, value }
    }

    /// Checks that no scale became infinite.
    fn check_written(
        &self,
        weights: &[f32],
        magnitude: f32,
        out: &[u8],
    ) -> Result<(), QuantizeError> {
        let (tensor, ty) = (self.tensor.name.clone(), self.tensor.to);
        let mut back = vec![0.0; weights.len()];
        if let Err(source) = decode_row(ty, out, &mut back) {
            return Err(QuantizeError::Row { tensor, source });
        }
        if float::magnitude(&back).is_finite() {
            return Ok(());
        }
        let index = weights.iter().position(|w| w.abs() == magnitude).unwrap_or(0);
        let (row, column) = self.place(index);
        let value = weights.get(index).copied().unwrap_or(magnitude);
        Err(QuantizeError::TooLarge { tensor, row, column, value, ty })
    }
}

/// Stops the line when its thread panics, so that nobody waits for its piece.
struct Alarm<'l, 'a>(&'l Line<'a>);

impl Drop for Alarm<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}
