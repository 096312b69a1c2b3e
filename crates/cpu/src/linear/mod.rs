//! Matrix times activation rows, for every tensor type. Numerics are one contract for all instruction sets: integer
//! sums per block are exact, each block adds to its row's float sum once, in the order of the columns. So the vector
//! kernels equal the scalar ones bit for bit, and no result depends on what else is in the batch.

mod acts;
mod blocks;
mod codec;
mod float;
mod scalar;
mod supers;
#[cfg(test)]
mod tests;
mod tile;

use std::ops::Range;

use hob_quant::GgmlType;

pub use acts::{ActKind, Acts, ActsView};

use crate::isa::{Floats, Isa, IsaKind};
use blocks::BlockTile;
use codec::{BlockCodec, SuperCodec};
use supers::SuperTile;
use tile::Tile;

/// A weight matrix where it lies: `rows` rows of `cols` elements.
pub struct Matrix {
    ty: GgmlType,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    data: *const u8,
    /// The last rows, repeated to a whole panel, when `rows` is no multiple of the widest vector.
    tail: Option<(usize, Vec<u8>)>,
}

// SAFETY: read-only bytes of a mapped file that the backend keeps alive.
unsafe impl Send for Matrix {}
// SAFETY: as above.
unsafe impl Sync for Matrix {}

/// Rows of the widest vector; panels start at multiples of the vector in use, which divides it.
const WIDEST: usize = 16;

impl Matrix {
    /// A matrix over `data`; None when the sizes do not agree.
    ///
    /// # Safety
    /// `data` must stay valid as long as the matrix is used.
    pub unsafe fn new(ty: GgmlType, rows: usize, cols: usize, data: &[u8]) -> Option<Self> {
        let row_bytes = usize::try_from(ty.row_bytes(cols as u64)?).ok()?;
        if row_bytes.checked_mul(rows)? != data.len() || rows == 0 || cols == 0 {
            return None;
        }
        let whole = rows / WIDEST * WIDEST;
        let tail = (whole < rows).then(|| {
            let row = |r: usize| &data[r.min(rows - 1) * row_bytes..][..row_bytes];
            (whole, (whole..whole + WIDEST).flat_map(row).copied().collect())
        });
        Some(Matrix { ty, rows, cols, row_bytes, data: data.as_ptr(), tail })
    }

    /// Tensor type.
    pub fn ty(&self) -> GgmlType {
        self.ty
    }
    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// Inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }
    /// How its activations are wanted.
    pub fn acts(&self) -> ActKind {
        use GgmlType::*;
        match self.ty {
            F32 | F16 | BF16 | F64 | I8 | I16 | I32 | I64 => ActKind::Float,
            Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 | Q1_0 | Q2_0 | IQ4_NL | MXFP4 | NVFP4 => {
                ActKind::Block32
            }
            Q2_K | Q3_K | Q4_K | Q5_K | Q6_K | IQ4_XS | TQ1_0 | TQ2_0 => ActKind::Super,
            IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS | IQ3_S => ActKind::Super,
        }
    }
    /// Bytes of a row.
    ///
    /// # Safety
    /// `row < self.rows()` and the data is still valid.
    pub unsafe fn row(&self, row: usize) -> &[u8] {
        // SAFETY: the caller's.
        unsafe { std::slice::from_raw_parts(self.data.add(row * self.row_bytes), self.row_bytes) }
    }

    /// First byte and stride of `LANES` readable rows from `row`, a multiple of `LANES`.
    #[inline(always)]
    fn lanes<I: Isa>(&self, row: usize) -> (*const u8, usize) {
        match &self.tail {
            Some((start, bytes)) if row >= *start => {
                (bytes[(row - start) * self.row_bytes..].as_ptr(), self.row_bytes)
            }
            _ => (self.data.wrapping_add(row * self.row_bytes), self.row_bytes),
        }
    }
}

/// Float activation rows.
#[derive(Clone, Copy)]
pub struct Src {
    data: *const f32,
    stride: usize,
}

/// Output rows.
#[derive(Clone, Copy)]
pub struct Dst {
    data: *mut f32,
    stride: usize,
}

// SAFETY: dereferenced by kernels on rows and columns that the caller keeps disjoint.
unsafe impl Send for Src {}
// SAFETY: as above.
unsafe impl Sync for Src {}
// SAFETY: as above.
unsafe impl Send for Dst {}
// SAFETY: as above.
unsafe impl Sync for Dst {}

impl Src {
    /// Rows `stride` floats apart.
    pub fn new(data: *const f32, stride: usize) -> Self {
        Src { data, stride }
    }
    /// Row `n`.
    #[inline(always)]
    pub fn row(&self, n: usize) -> *const f32 {
        self.data.wrapping_add(n * self.stride)
    }
}

impl Dst {
    /// Rows `stride` floats apart.
    pub fn new(data: *mut f32, stride: usize) -> Self {
        Dst { data, stride }
    }
    /// The same rows, counting columns from `first`.
    pub fn at_column(self, first: usize) -> Self {
        Dst { data: self.data.wrapping_sub(first), stride: self.stride }
    }
    /// Element `col` of row `n`.
    #[inline(always)]
    pub fn at(&self, n: usize, col: usize) -> *mut f32 {
        self.data.wrapping_add(n * self.stride + col)
    }
}

/// Buffers of one thread.
#[derive(Default)]
pub struct Workspace {
    panel: Vec<u8>,
    floats: Vec<f32>,
}

/// A product of a matrix with activation rows.
#[derive(Clone, Copy)]
pub struct Product<'a> {
    /// The weights.
    pub w: &'a Matrix,
    /// Quantized activations, for kinds other than `Float`.
    pub acts: ActsView,
    /// Float activations, for kind `Float`.
    pub src: Src,
    /// Activation rows.
    pub count: usize,
    /// `count` rows of `w.rows()` results.
    pub dst: Dst,
}

impl Product<'_> {
    /// Computes the results of weight rows `rows`; its start is a multiple of 16.
    ///
    /// # Safety
    /// Views cover the rows, and no one else writes or reads these results meanwhile.
    pub unsafe fn run(&self, isa: IsaKind, rows: Range<usize>, ws: &mut Workspace) {
        // SAFETY: the caller's.
        unsafe {
            match isa {
                #[cfg(target_arch = "x86_64")]
                IsaKind::Avx2 => self.vector(crate::isa::Avx2::detect(), rows, ws),
                #[cfg(target_arch = "x86_64")]
                IsaKind::Avx512 => self.vector(crate::isa::Avx512::detect(), rows, ws),
                _ => scalar::run(self.w, rows, self.acts, self.src, self.count, self.dst),
            }
        }
    }

    unsafe fn vector<I: Isa>(&self, isa: Option<I>, rows: Range<usize>, ws: &mut Workspace) {
        // SAFETY: the caller's; a token is there whenever its kind was chosen.
        unsafe {
            let Some(isa) = isa else {
                return scalar::run(self.w, rows, self.acts, self.src, self.count, self.dst);
            };
            match self.w.ty {
                GgmlType::Q2_K => self.supers::<I, codec::Q2K>(isa, rows, ws),
                GgmlType::Q3_K => self.supers::<I, codec::Q3K>(isa, rows, ws),
                GgmlType::Q4_K => self.supers::<I, codec::Q4K>(isa, rows, ws),
                GgmlType::Q5_K => self.supers::<I, codec::Q5K>(isa, rows, ws),
                GgmlType::Q6_K => self.supers::<I, codec::Q6K>(isa, rows, ws),
                GgmlType::IQ4_XS => self.supers::<I, codec::Iq4Xs>(isa, rows, ws),
                GgmlType::TQ1_0 => self.supers::<I, codec::Tq1_0>(isa, rows, ws),
                GgmlType::TQ2_0 => self.supers::<I, codec::Tq2_0>(isa, rows, ws),
                GgmlType::IQ1_S => self.supers::<I, codec::Iq1S>(isa, rows, ws),
                GgmlType::IQ1_M => self.supers::<I, codec::Iq1M>(isa, rows, ws),
                GgmlType::IQ2_XXS => self.supers::<I, codec::Iq2Xxs>(isa, rows, ws),
                GgmlType::IQ2_XS => self.supers::<I, codec::Iq2Xs>(isa, rows, ws),
                GgmlType::IQ2_S => self.supers::<I, codec::Iq2S>(isa, rows, ws),
                GgmlType::IQ3_XXS => self.supers::<I, codec::Iq3Xxs>(isa, rows, ws),
                GgmlType::IQ3_S => self.supers::<I, codec::Iq3S>(isa, rows, ws),
                GgmlType::Q4_0 => self.blocks::<I, codec::Q4_0>(isa, rows, ws),
                GgmlType::Q4_1 => self.blocks::<I, codec::Q4_1>(isa, rows, ws),
                GgmlType::Q5_0 => self.blocks::<I, codec::Q5_0>(isa, rows, ws),
                GgmlType::Q5_1 => self.blocks::<I, codec::Q5_1>(isa, rows, ws),
                GgmlType::Q8_0 => self.blocks::<I, codec::Q8_0>(isa, rows, ws),
                GgmlType::Q1_0 => self.blocks::<I, codec::Q1_0>(isa, rows, ws),
                GgmlType::Q2_0 => self.blocks::<I, codec::Q2_0>(isa, rows, ws),
                GgmlType::IQ4_NL => self.blocks::<I, codec::Iq4Nl>(isa, rows, ws),
                GgmlType::MXFP4 => self.blocks::<I, codec::Mxfp4>(isa, rows, ws),
                GgmlType::NVFP4 => self.blocks::<I, codec::Nvfp4>(isa, rows, ws),
                _ => isa.with(
                    #[inline(always)]
                    || {
                        float::run(
                            isa,
                            self.w,
                            rows,
                            self.src,
                            self.count,
                            self.dst,
                            &mut ws.floats,
                        )
                    },
                ),
            }
        }
    }

    unsafe fn supers<I: Isa, C: SuperCodec>(&self, isa: I, rows: Range<usize>, ws: &mut Workspace) {
        // SAFETY: the caller's.
        unsafe { self.tiles(isa, SuperTile::<I, C>::new(isa), rows, ws) }
    }

    unsafe fn blocks<I: Isa, C: BlockCodec>(&self, isa: I, rows: Range<usize>, ws: &mut Workspace) {
        // SAFETY: the caller's.
        unsafe { self.tiles(isa, BlockTile::<I, C>::new(isa), rows, ws) }
    }

    unsafe fn tiles<I: Isa>(
        &self,
        isa: I,
        tile: impl Tile,
        rows: Range<usize>,
        ws: &mut Workspace,
    ) {
        let Product { w, acts, count, dst, .. } = *self;
        isa.with(
            #[inline(always)]
            || {
                // SAFETY: the caller's.
                unsafe { tile::run::<I, _>(tile, w, rows, acts, count, dst, &mut ws.panel) }
            },
        );
    }
}
