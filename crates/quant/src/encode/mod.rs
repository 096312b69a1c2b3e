//! Rows of weights become blocks: one entry, and a file per family of formats. Rows are independent and the result is
//! the same on every processor. Deliberately absent: threads, and the CPU's activation formats.

mod simple;

use half::{bf16, f16};

use crate::decode::check_row;
use crate::{GgmlType, QuantError};

/// Encodes a row as `ty`: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1 or Q8_0.
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
    match ty {
        GgmlType::F32 => plain(weights, out, f32::to_le_bytes),
        GgmlType::F16 => plain(weights, out, |w| f16::from_f32(w).to_le_bytes()),
        GgmlType::BF16 => plain(weights, out, |w| bf16::from_f32(w).to_le_bytes()),
        GgmlType::Q4_0 => simple::row(weights, out, simple::q4_0),
        GgmlType::Q4_1 => simple::row(weights, out, simple::q4_1),
        GgmlType::Q5_0 => simple::row(weights, out, simple::q5_0),
        GgmlType::Q5_1 => simple::row(weights, out, simple::q5_1),
        GgmlType::Q8_0 => simple::row(weights, out, simple::q8_0),
        _ => return Err(QuantError::NoEncoder { ty }),
    }
    Ok(())
}

/// Encodes numbers of `N` bytes.
fn plain<const N: usize>(weights: &[f32], out: &mut [u8], bytes: fn(f32) -> [u8; N]) {
    for (out, weight) in out.as_chunks_mut().0.iter_mut().zip(weights) {
        *out = bytes(*weight);
    }
}
