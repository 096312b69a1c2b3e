//! Rows of weights become blocks: one entry, and a file per family of formats. Rows are independent and the result is
//! the same on every processor. Deliberately absent: threads, and the CPU's activation formats.

mod affine;
mod blocks32;
mod grid;
mod grids;
mod iq4;
mod kquants;
mod lanes;
mod levels;
mod objective;
mod signs;
mod simple;
#[cfg(test)]
mod tests;

use ::half::slice::HalfFloatSliceExt;
use ::half::{bf16, f16};
use kquants::row as tiles;
use lanes::Lanes;
use objective::{Row, Size};

use crate::blocks::*;
use crate::decode::check_row;
use crate::{GgmlType, QuantError};

/// How much larger than the weights the target of IQ2 is, where importance is known. Least squares makes what it rounds
/// coarsely smaller on average, and a network minds a smaller output more than the sum of squares tells. Of 1.5% less to 8%
/// more, 2% to 3% gave the least divergence (Qwen2.5-Coder-1.5B, recipe IQ2_S: mean KL 0.560 at 0.985, 0.535 at 1, 0.521 at
/// 1.02, 0.528 at 1.05, 0.568 at 1.08). Without importance nothing was measured: the plain error counts there.
const IQ2_GAIN: f32 = 1.025;

/// Encodes a row as `ty`.
///
/// `importance` has the mean square of the activation that each weight of the row meets, where it is known: errors
/// are then weighed by it.
///
/// Weights should be finite and within f16's range (±65504): scales beyond it become infinite, as in
/// ggml.
///
/// # Errors
/// When there is no encoder for `ty`, when `weights` is no whole number of blocks, or when `out`
/// is not as long as the row takes.
pub fn encode_row(
    ty: GgmlType,
    weights: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), QuantError> {
    check_row(ty, out.len(), weights.len())?;
    if let Some(found) = importance.map(<[f32]>::len).filter(|&found| found != weights.len()) {
        return Err(QuantError::Importance { expected: weights.len(), found });
    }
    let by = |size| Row::new(weights, importance, size);
    let span = |weights, factor| by(Size::Span { weights, factor });
    let known = importance.is_some();
    let larger = |row: Row| if known { row.times(IQ2_GAIN) } else { row };
    match ty {
        GgmlType::F32 => plain(weights, out, f32::to_le_bytes),
        GgmlType::F16 => halves(weights, out),
        GgmlType::BF16 => plain(weights, out, |w| bf16::from_f32(w).to_le_bytes()),
        GgmlType::Q4_0 if known => tiles::<BlockQ4_0, 32>(&span(0, 1.0), out),
        GgmlType::Q4_1 if known => tiles::<BlockQ4_1, 32>(&span(0, 1.0), out),
        GgmlType::Q5_0 if known => tiles::<BlockQ5_0, 32>(&span(0, 1.0), out),
        GgmlType::Q5_1 if known => tiles::<BlockQ5_1, 32>(&span(0, 1.0), out),
        GgmlType::Q4_0 => simple::row::<BlockQ4_0>(weights, out),
        GgmlType::Q4_1 => simple::row::<BlockQ4_1>(weights, out),
        GgmlType::Q5_0 => simple::row::<BlockQ5_0>(weights, out),
        GgmlType::Q5_1 => simple::row::<BlockQ5_1>(weights, out),
        GgmlType::Q8_0 => simple::row::<BlockQ8_0>(weights, out),
        GgmlType::Q2_K => tiles::<BlockQ2K, 16>(&span(256, 1.0), out),
        GgmlType::Q3_K => tiles::<BlockQ3K, 16>(&span(256, 2.0), out),
        GgmlType::Q4_K => tiles::<BlockQ4K, 32>(&span(256, 2.0), out),
        GgmlType::Q5_K => tiles::<BlockQ5K, 32>(&span(256, 2.0), out),
        GgmlType::Q6_K => tiles::<BlockQ6K, 16>(&by(Size::Ignored), out),
        GgmlType::IQ4_NL => tiles::<BlockIq4Nl, 32>(&span(32, 2.0), out),
        GgmlType::IQ4_XS => tiles::<BlockIq4Xs, 32>(&span(256, 2.0), out),
        GgmlType::MXFP4 => tiles::<BlockMxfp4, 32>(&by(Size::Ignored), out),
        GgmlType::IQ2_XXS => grids::row::<BlockIq2Xxs, 32>(larger(span(256, 1.0)), out),
        GgmlType::IQ2_XS => grids::row::<BlockIq2Xs, 16>(larger(span(256, 1.0)), out),
        GgmlType::IQ2_S => grids::row::<BlockIq2S, 16>(larger(span(256, 2.0)), out),
        GgmlType::IQ3_XXS => grids::row::<BlockIq3Xxs, 32>(span(256, 2.0), out),
        GgmlType::IQ3_S => grids::row::<BlockIq3S, 32>(span(256, 2.0), out),
        GgmlType::IQ1_S => grids::row::<BlockIq1S, 32>(span(256, 2.0), out),
        GgmlType::IQ1_M => grids::row::<BlockIq1M, 16>(span(256, 2.0), out),
        _ => return Err(QuantError::NoEncoder { ty }),
    }
    Ok(())
}

/// Encodes binary16, many at a time where the address allows it.
fn halves(weights: &[f32], out: &mut [u8]) {
    match bytemuck::try_cast_slice_mut::<u8, f16>(out) {
        Ok(halves) => halves.convert_from_f32_slice(weights),
        Err(_) => plain(weights, out, |w| f16::from_f32(w).to_le_bytes()),
    }
}

/// Encodes numbers of `N` bytes.
fn plain<const N: usize>(weights: &[f32], out: &mut [u8], bytes: fn(f32) -> [u8; N]) {
    for (out, weight) in out.as_chunks_mut().0.iter_mut().zip(weights) {
        *out = bytes(*weight);
    }
}

/// Each group's first lane in half precision, in all lanes of the group; finite, as the format's factors must be.
#[inline(always)]
fn half<const B: usize>(lanes: Lanes) -> Lanes {
    let mut out = lanes;
    for group in out.0.chunks_exact_mut(B) {
        let d = f16::from_f32(group[0].clamp(-65504.0, 65504.0)).to_f32();
        group.fill(if d.is_nan() { 0.0 } else { d });
    }
    out
}
