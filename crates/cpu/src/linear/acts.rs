//! Activations as weights want them: signed bytes with one scale per 256 (super-block types) or per 32 (the rest),
//! with the sums that take code offsets and minima back. One rounding rule on every instruction set:
//! nearest, ties to even, scales as the GGML formats Q8_K and Q8_0 define them.
#![allow(unsafe_op_in_unsafe_fn)]

use half::f16;

use crate::isa::{Floats, Isa, IsaKind};

/// How a weight type wants its activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActKind {
    /// One scale per 256.
    Super,
    /// One half-precision scale per 32.
    Block32,
    /// As they are.
    Float,
}

/// Quantized rows, allocated once for the widest input.
pub struct Acts {
    width: usize,
    codes: Vec<i8>,
    scales: Vec<f32>,
    sums16: Vec<i16>,
    sums32: Vec<i16>,
}

/// A raw view that threads share; rows are written and read disjointly.
#[derive(Clone, Copy)]
pub struct ActsView {
    /// From a row to the next, in elements.
    stride: usize,
    /// Elements allocated.
    len: usize,
    codes: *mut i8,
    scales: *mut f32,
    sums16: *mut i16,
    sums32: *mut i16,
}

// SAFETY: the pointers are only dereferenced by kernels, on rows that the caller keeps disjoint.
unsafe impl Send for ActsView {}
// SAFETY: as above.
unsafe impl Sync for ActsView {}

impl Acts {
    /// Room for `rows` rows of up to `width` elements.
    pub fn new(rows: usize, width: usize) -> Self {
        let (width, n) = (width.next_multiple_of(256), rows * width.next_multiple_of(256));
        Acts {
            width,
            codes: vec![0; n],
            scales: vec![0.0; n / 32],
            sums16: vec![0; n / 16],
            sums32: vec![0; n / 32],
        }
    }

    /// Bytes allocated.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        let sums = size_of_val(&self.sums16[..]) + size_of_val(&self.sums32[..]);
        size_of_val(&self.codes[..]) + size_of_val(&self.scales[..]) + sums
    }

    /// The shared view.
    pub fn view(&mut self) -> ActsView {
        ActsView {
            stride: self.width,
            len: self.codes.len(),
            codes: self.codes.as_mut_ptr(),
            scales: self.scales.as_mut_ptr(),
            sums16: self.sums16.as_mut_ptr(),
            sums32: self.sums32.as_mut_ptr(),
        }
    }
}

/// # Safety
/// Rows and columns must lie within what [`Acts::new`] was given.
impl ActsView {
    /// The same memory as `rows` rows of `width` elements.
    pub fn reshaped(self, rows: usize, width: usize) -> Self {
        let stride = width.next_multiple_of(256);
        assert!(rows * stride <= self.len, "more activations than were planned for");
        ActsView { stride, ..self }
    }
    /// Rows `first`, `first + step` and so on.
    pub fn every(self, first: usize, step: usize) -> Self {
        let at = first * self.stride;
        ActsView {
            stride: step * self.stride,
            len: self.len.saturating_sub(at),
            codes: self.codes.wrapping_add(at),
            scales: self.scales.wrapping_add(at / 32),
            sums16: self.sums16.wrapping_add(at / 16),
            sums32: self.sums32.wrapping_add(at / 32),
        }
    }
    /// Signed bytes from column `k` of a row.
    #[inline(always)]
    pub unsafe fn codes(&self, row: usize, k: usize) -> *mut i8 {
        self.codes.add(row * self.stride + k)
    }
    /// Scale of block `block` of a row; `len` elements per block.
    #[inline(always)]
    pub unsafe fn scale(&self, row: usize, block: usize) -> *mut f32 {
        self.scales.add(row * (self.stride / 32) + block)
    }
    /// Sums of 16 elements from group `group` of a row.
    #[inline(always)]
    pub unsafe fn sums16(&self, row: usize, group: usize) -> *mut i16 {
        self.sums16.add(row * (self.stride / 16) + group)
    }
    /// Sums of 32 elements from group `group` of a row.
    #[inline(always)]
    pub unsafe fn sums32(&self, row: usize, group: usize) -> *mut i16 {
        self.sums32.add(row * (self.stride / 32) + group)
    }
    /// Quantizes one row as `kind` says; `Float` needs nothing.
    pub unsafe fn quantize(&self, isa: IsaKind, kind: ActKind, row: usize, x: &[f32]) {
        match isa {
            #[cfg(target_arch = "x86_64")]
            IsaKind::Avx2 => self.vector(crate::isa::Avx2::detect(), kind, row, x),
            #[cfg(target_arch = "x86_64")]
            IsaKind::Avx512 => self.vector(crate::isa::Avx512::detect(), kind, row, x),
            _ => self.scalar(kind, row, x),
        }
    }

    unsafe fn vector<I: Isa>(&self, isa: Option<I>, kind: ActKind, row: usize, x: &[f32]) {
        let Some(isa) = isa else { return self.scalar(kind, row, x) };
        isa.with(
            #[inline(always)]
            || match kind {
                ActKind::Super => self.quantize_super(isa, row, x),
                ActKind::Block32 => self.quantize_block32(isa, row, x),
                ActKind::Float => {}
            },
        );
    }

    /// The oracle of the two below.
    unsafe fn scalar(&self, kind: ActKind, row: usize, x: &[f32]) {
        let len = match kind {
            ActKind::Super => 256,
            ActKind::Block32 => 32,
            ActKind::Float => return,
        };
        for (block, x) in x.chunks_exact(len).enumerate() {
            let amax = x.iter().fold(0f32, |most, x| most.max(x.abs()));
            let inverse = if amax > 0.0 { 127.0 / amax } else { 0.0 };
            *self.scale(row, block) = match kind {
                ActKind::Super if amax > 0.0 => 1.0 / inverse,
                ActKind::Super => 0.0,
                _ => f16::from_f32(amax / 127.0).to_f32(),
            };
            for (i, x) in x.iter().enumerate() {
                *self.codes(row, len * block + i) = (x * inverse).round_ties_even() as i8;
            }
            for at in (len * block..len * (block + 1)).step_by(16) {
                *self.sums16(row, at / 16) = sum(self.codes(row, at), 16);
            }
            for at in (len * block..len * (block + 1)).step_by(32) {
                *self.sums32(row, at / 32) = sum(self.codes(row, at), 32);
            }
        }
    }

    /// Quantizes one row of `x`, a multiple of 256 long, with one scale per 256.
    #[inline(always)]
    unsafe fn quantize_super<I: Isa>(&self, isa: I, row: usize, x: &[f32]) {
        for (block, x) in x.chunks_exact(256).enumerate() {
            let amax = amax(isa, x);
            let inverse = if amax > 0.0 { 127.0 / amax } else { 0.0 };
            *self.scale(row, block) = if amax > 0.0 { 1.0 / inverse } else { 0.0 };
            let codes = self.codes(row, 256 * block);
            round(isa, x, inverse, codes);
            for group in 0..16 {
                *self.sums16(row, 16 * block + group) = sum(codes.add(16 * group), 16);
            }
            for group in 0..8 {
                let (at, sums) = (8 * block + group, self.sums16(row, 16 * block + 2 * group));
                *self.sums32(row, at) = *sums + *sums.add(1);
            }
        }
    }

    /// Quantizes one row of `x`, a multiple of 32 long, with one half-precision scale per 32.
    #[inline(always)]
    unsafe fn quantize_block32<I: Isa>(&self, isa: I, row: usize, x: &[f32]) {
        for (block, x) in x.chunks_exact(32).enumerate() {
            let amax = amax(isa, x);
            let inverse = if amax > 0.0 { 127.0 / amax } else { 0.0 };
            *self.scale(row, block) = f16::from_f32(amax / 127.0).to_f32();
            let codes = self.codes(row, 32 * block);
            round(isa, x, inverse, codes);
            for half in 0..2 {
                *self.sums16(row, 2 * block + half) = sum(codes.add(16 * half), 16);
            }
            let sums = self.sums16(row, 2 * block);
            *self.sums32(row, block) = *sums + *sums.add(1);
        }
    }
}

#[inline(always)]
unsafe fn amax<I: Isa>(isa: I, x: &[f32]) -> f32 {
    let mut most = isa.fsplat(0.0);
    for i in (0..x.len()).step_by(I::LANES) {
        most = isa.fmax(isa.fabs(isa.fload(x.as_ptr().add(i))), most);
    }
    isa.fmax_lane(most)
}

#[inline(always)]
unsafe fn round<I: Isa>(isa: I, x: &[f32], inverse: f32, codes: *mut i8) {
    let inverse = isa.fsplat(inverse);
    for i in (0..x.len()).step_by(I::LANES) {
        let scaled = isa.fmul(isa.fload(x.as_ptr().add(i)), inverse);
        isa.store_i8(codes.add(i), isa.fround(scaled));
    }
}

#[inline(always)]
unsafe fn sum(codes: *const i8, len: usize) -> i16 {
    std::slice::from_raw_parts(codes, len).iter().map(|&c| i16::from(c)).sum()
}
