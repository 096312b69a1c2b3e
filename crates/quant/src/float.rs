//! The 8-bit scale formats of MXFP4 and NVFP4, and the magnitude of a row. Both conversions return half of the scale, because
//! `tables::KVALUES_FP4` holds doubled weights. Deliberately absent: f16 and bf16, which are the
//! `half` crate's, and signs and NaN, which scales do not have.

use crate::simd::widest;

/// Half of an E8M0 scale: 2^(e - 128), exact down to the subnormals. 255, which the OCP
/// specification calls NaN, is read as a plain exponent, as ggml does.
pub const fn e8m0_half(e: u8) -> f32 {
    match e {
        0 => f32::from_bits(0x0020_0000),
        1 => f32::from_bits(0x0040_0000),
        _ => f32::from_bits((e as u32 - 1) << 23),
    }
}

/// Half of an unsigned E4M3 scale (exponent bias 7, three mantissa bits). The top bit is ignored,
/// except that of the two all-ones patterns only 0x7f is read as zero: so does ggml.
pub const fn ue4m3_half(x: u8) -> f32 {
    if x == 0x7f {
        return 0.0;
    }
    let exponent = (x >> 3 & 15) as u32;
    let mantissa = (x & 7) as u32;
    if exponent == 0 {
        mantissa as f32 / 1024.0
    } else {
        f32::from_bits((exponent + 127 - 7 - 1) << 23 | mantissa << 20)
    }
}

/// The largest magnitude among the weights; infinite where one is infinite or NaN.
pub fn magnitude(weights: &[f32]) -> f32 {
    const INFINITY: u32 = f32::INFINITY.to_bits();
    let top = widest(
        #[inline(always)]
        || weights.iter().fold(0, |top: u32, w| top.max(w.to_bits() & 0x7fff_ffff)),
    );
    // Bits of magnitudes are in the order of the magnitudes, and NaN comes last.
    f32::from_bits(top.min(INFINITY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magnitudes() {
        assert_eq!(magnitude(&[]), 0.0);
        let mut weights = vec![0.5; 100];
        weights[77] = -3.0;
        assert_eq!(magnitude(&weights), 3.0);
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            weights[99] = bad;
            assert_eq!(magnitude(&weights), f32::INFINITY);
        }
    }
}
