//! Decode of plain numbers, one at a time. They lie in the file as they are, little-endian.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// Decodes numbers of `N` bytes.
pub(super) fn decode<const N: usize>(bytes: &[u8], out: &mut [f32], number: fn([u8; N]) -> f32) {
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
        *out = number(*bytes);
    }
}

/// Decodes binary16, many at a time where the address allows it.
pub(super) fn decode_f16(bytes: &[u8], out: &mut [f32]) {
    match bytemuck::try_cast_slice::<u8, f16>(bytes) {
        Ok(halves) => halves.convert_to_f32_slice(out),
        Err(_) => decode(bytes, out, |b| f16::from_le_bytes(b).to_f32()),
    }
}

/// A bfloat16 is the upper half of an f32.
pub(super) fn bf16(bytes: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
}
