//! Scalar decode of every type to f32, written for clarity first and for the auto-vectoriser
//! second: unpack the codes of a block into bytes, then scale. The order of the float operations is
//! ggml's, so results are equal bit for bit. Deliberately absent: SIMD (the backends' business).

mod grids;
mod kquants;
mod plain;
mod simple;

use crate::blocks::*;
use crate::{GgmlType, QuantError};

pub use kquants::{q3k_scales, scales_and_mins};

/// A block that can be turned into weights.
pub trait Decode: Block {
    /// `[f32; Self::LEN]`.
    type Weights: bytemuck::Pod;

    /// Writes the block's weights.
    fn decode(&self, out: &mut Self::Weights);
}

/// Decodes a row of `out.len()` weights stored as `ty`; `bytes` may start at any address.
///
/// Integers and F64 are rounded to the nearest f32.
///
/// # Errors
/// When `out` is no whole number of blocks, or `bytes` is not as long as that many weights take.
pub fn decode_row(ty: GgmlType, bytes: &[u8], out: &mut [f32]) -> Result<(), QuantError> {
    check_row(ty, bytes.len(), out.len())?;
    match ty {
        GgmlType::F32 => plain::decode(bytes, out, f32::from_le_bytes),
        GgmlType::F16 => plain::decode_f16(bytes, out),
        GgmlType::BF16 => plain::decode(bytes, out, plain::bf16),
        GgmlType::F64 => plain::decode(bytes, out, |b| f64::from_le_bytes(b) as f32),
        GgmlType::I8 => plain::decode(bytes, out, |b| f32::from(i8::from_le_bytes(b))),
        GgmlType::I16 => plain::decode(bytes, out, |b| f32::from(i16::from_le_bytes(b))),
        GgmlType::I32 => plain::decode(bytes, out, |b| i32::from_le_bytes(b) as f32),
        GgmlType::I64 => plain::decode(bytes, out, |b| i64::from_le_bytes(b) as f32),
        GgmlType::Q4_0 => row::<BlockQ4_0>(bytes, out),
        GgmlType::Q4_1 => row::<BlockQ4_1>(bytes, out),
        GgmlType::Q5_0 => row::<BlockQ5_0>(bytes, out),
        GgmlType::Q5_1 => row::<BlockQ5_1>(bytes, out),
        GgmlType::Q8_0 => row::<BlockQ8_0>(bytes, out),
        GgmlType::Q1_0 => row::<BlockQ1_0>(bytes, out),
        GgmlType::Q2_0 => row::<BlockQ2_0>(bytes, out),
        GgmlType::Q2_K => row::<BlockQ2K>(bytes, out),
        GgmlType::Q3_K => row::<BlockQ3K>(bytes, out),
        GgmlType::Q4_K => row::<BlockQ4K>(bytes, out),
        GgmlType::Q5_K => row::<BlockQ5K>(bytes, out),
        GgmlType::Q6_K => row::<BlockQ6K>(bytes, out),
        GgmlType::TQ1_0 => row::<BlockTq1_0>(bytes, out),
        GgmlType::TQ2_0 => row::<BlockTq2_0>(bytes, out),
        GgmlType::IQ1_S => row::<BlockIq1S>(bytes, out),
        GgmlType::IQ1_M => row::<BlockIq1M>(bytes, out),
        GgmlType::IQ2_XXS => row::<BlockIq2Xxs>(bytes, out),
        GgmlType::IQ2_XS => row::<BlockIq2Xs>(bytes, out),
        GgmlType::IQ2_S => row::<BlockIq2S>(bytes, out),
        GgmlType::IQ3_XXS => row::<BlockIq3Xxs>(bytes, out),
        GgmlType::IQ3_S => row::<BlockIq3S>(bytes, out),
        GgmlType::IQ4_NL => row::<BlockIq4Nl>(bytes, out),
        GgmlType::IQ4_XS => row::<BlockIq4Xs>(bytes, out),
        GgmlType::MXFP4 => row::<BlockMxfp4>(bytes, out),
        GgmlType::NVFP4 => row::<BlockNvfp4>(bytes, out),
    }
    Ok(())
}

/// Checks that `weights` weights of type `ty` take exactly `bytes` bytes.
pub(crate) fn check_row(ty: GgmlType, bytes: usize, weights: usize) -> Result<(), QuantError> {
    let expected = ty.row_bytes(weights as u64).ok_or(QuantError::PartialBlock { ty, weights })?;
    if expected == bytes as u64 {
        Ok(())
    } else {
        Err(QuantError::Length { ty, weights, expected, found: bytes })
    }
}

/// Decodes whole blocks; the lengths have been checked.
fn row<B: Decode>(bytes: &[u8], out: &mut [f32]) {
    let weights: &mut [B::Weights] = bytemuck::cast_slice_mut(out);
    for (weights, bytes) in weights.iter_mut().zip(bytes.chunks_exact(size_of::<B>())) {
        bytemuck::pod_read_unaligned::<B>(bytes).decode(weights);
    }
}

/// Unpacks `N` codes of `BITS` bits that lie in planes of `CHUNK` bytes: each chunk of `CHUNK`
/// bytes holds `8 / BITS` runs of `CHUNK` codes, the first run in the lowest bits. Codes beyond
/// the end of `bytes` are 0.
pub fn planes<const BITS: usize, const CHUNK: usize, const N: usize>(bytes: &[u8]) -> [u8; N] {
    const { assert!(BITS > 0 && 8 % BITS == 0 && CHUNK > 0 && N.is_multiple_of(CHUNK * 8 / BITS)) };
    let mask = u8::MAX >> (8 - BITS);
    let mut codes = [0; N];
    for (run, bytes) in codes.chunks_exact_mut(CHUNK * 8 / BITS).zip(bytes.chunks_exact(CHUNK)) {
        for (plane, codes) in run.chunks_exact_mut(CHUNK).enumerate() {
            for (code, byte) in codes.iter_mut().zip(bytes) {
                *code = byte >> (plane * BITS) & mask;
            }
        }
    }
    codes
}

/// Joins low and high bits of codes: `low + high << shift`.
fn join<const N: usize>(mut low: [u8; N], high: [u8; N], shift: u32) -> [u8; N] {
    for (low, high) in low.iter_mut().zip(high) {
        *low |= high << shift;
    }
    low
}
