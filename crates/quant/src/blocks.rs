//! The layout of every block as it lies in a file (source: ggml-common.h), viewed in place by
//! safe casts: plain bytes, no padding, alignment at most 2. In the notes `w[i]` is the i-th weight
//! of a block. Deliberately absent: arithmetic (`decode`) and the plain number types.
//!
//! Codes narrower than a byte are packed in *planes*: a chunk of C bytes holds 8/B runs of C codes
//! of B bits, the first run in the lowest bits. "planes of 16" below means C = 16; see
//! [`crate::decode::planes`]. Chunks follow each other. C = 1 is the usual order, lowest bits first.

use bytemuck::{Pod, PodCastError, Zeroable};
use half::f16;

use crate::{GgmlType, QuantError};

/// A quantized block. All bit patterns are valid.
pub trait Block: Pod {
    /// The type whose blocks these are.
    const TYPE: GgmlType;
    /// Weights in a block.
    const LEN: usize = Self::TYPE.block_len();
}

/// Views bytes as blocks, without copying.
///
/// # Errors
/// When the bytes are not whole blocks or start at an odd address (only types with 2-byte fields
/// mind; GGUF aligns tensors well beyond that).
pub fn blocks<B: Block>(bytes: &[u8]) -> Result<&[B], QuantError> {
    bytemuck::try_cast_slice(bytes).map_err(|error| match error {
        PodCastError::TargetAlignmentGreaterAndInputNotAligned => {
            QuantError::Misaligned { ty: B::TYPE }
        }
        _ => QuantError::PartialBytes { ty: B::TYPE, bytes: bytes.len() },
    })
}

/// Declares a block struct, ties it to its type and checks size and alignment.
macro_rules! block {
    ($(#[$doc:meta])* $name:ident, $ty:ident { $($(#[$note:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
        pub struct $name {
            $($(#[$note])* pub $field: $kind,)*
        }

        impl Block for $name {
            const TYPE: GgmlType = GgmlType::$ty;
        }

        const _: () = assert!(size_of::<$name>() == GgmlType::$ty.block_bytes());
        const _: () = assert!(align_of::<$name>() <= 2);
    };
}

block! {
    /// `w = d * (q - 8)`.
    BlockQ4_0, Q4_0 {
        /// Scale.
        d: f16,
        /// 4-bit q, planes of 16: byte j holds w\[j\] low and w\[j + 16\] high.
        qs: [u8; 16],
    }
}

block! {
    /// `w = d * q + m`.
    BlockQ4_1, Q4_1 {
        /// Scale.
        d: f16,
        /// Minimum.
        m: f16,
        /// 4-bit q, planes of 16.
        qs: [u8; 16],
    }
}

block! {
    /// `w = d * (q - 16)`.
    BlockQ5_0, Q5_0 {
        /// Scale.
        d: f16,
        /// Bit 4 of q, one bit a weight in order.
        qh: [u8; 4],
        /// Bits 0-3 of q, planes of 16.
        qs: [u8; 16],
    }
}

block! {
    /// `w = d * q + m`.
    BlockQ5_1, Q5_1 {
        /// Scale.
        d: f16,
        /// Minimum.
        m: f16,
        /// Bit 4 of q, one bit a weight in order.
        qh: [u8; 4],
        /// Bits 0-3 of q, planes of 16.
        qs: [u8; 16],
    }
}

block! {
    /// `w = d * q`.
    BlockQ8_0, Q8_0 {
        /// Scale.
        d: f16,
        /// q, in order.
        qs: [i8; 32],
    }
}

block! {
    /// `w = d` where the bit is set, else `-d`.
    BlockQ1_0, Q1_0 {
        /// Scale.
        d: f16,
        /// One bit a weight in order.
        qs: [u8; 16],
    }
}

block! {
    /// `w = d * (q - 1)`.
    BlockQ2_0, Q2_0 {
        /// Scale.
        d: f16,
        /// 2-bit q in order, lowest bits first.
        qs: [u8; 16],
    }
}

block! {
    /// `w = d * q * s - dmin * m`, with 4-bit s and m for each 16 weights.
    BlockQ2K, Q2_K {
        /// s (bits 0-3) and m (bits 4-7) of each group of 16 weights.
        scales: [u8; 16],
        /// 2-bit q, planes of 32.
        qs: [u8; 64],
        /// Scale of the scales.
        d: f16,
        /// Scale of the minima.
        dmin: f16,
    }
}

block! {
    /// `w = d * (s - 32) * (q - 4)`, with a 6-bit s for each 16 weights.
    BlockQ3K, Q3_K {
        /// Bit 2 of q, planes of 32: bit k of byte j belongs to w\[32k + j\].
        hmask: [u8; 32],
        /// Bits 0-1 of q, planes of 32.
        qs: [u8; 64],
        /// The 16 s: bits 0-3 in bytes 0-7 (planes of 8), bits 4-5 in bytes 8-11 (planes of 4).
        scales: [u8; 12],
        /// Scale of the scales.
        d: f16,
    }
}

block! {
    /// `w = d * s * q - dmin * m`, with 6-bit s and m for each 32 weights.
    BlockQ4K, Q4_K {
        /// Scale of the scales.
        d: f16,
        /// Scale of the minima.
        dmin: f16,
        /// The 8 s and m, see [`crate::decode::scales_and_mins`].
        scales: [u8; 12],
        /// 4-bit q, planes of 32.
        qs: [u8; 128],
    }
}

block! {
    /// `w = d * s * q - dmin * m`, with 6-bit s and m for each 32 weights.
    BlockQ5K, Q5_K {
        /// Scale of the scales.
        d: f16,
        /// Scale of the minima.
        dmin: f16,
        /// The 8 s and m, see [`crate::decode::scales_and_mins`].
        scales: [u8; 12],
        /// Bit 4 of q, planes of 32.
        qh: [u8; 32],
        /// Bits 0-3 of q, planes of 32.
        qs: [u8; 128],
    }
}

block! {
    /// `w = d * s * (q - 32)`, with an 8-bit s for each 16 weights.
    BlockQ6K, Q6_K {
        /// Bits 0-3 of q, planes of 64.
        ql: [u8; 128],
        /// Bits 4-5 of q, planes of 32.
        qh: [u8; 64],
        /// s of each group of 16 weights.
        scales: [i8; 16],
        /// Scale of the scales.
        d: f16,
    }
}

block! {
    /// `w = d * (t - 1)`, where t is a base-3 digit. A byte holds five digits as the fraction
    /// byte/256: digit n is the integer part of `3 * frac(3^n * byte / 256)`.
    BlockTq1_0, TQ1_0 {
        /// Bytes 0-31: digit n of byte j is w\[32n + j\]; bytes 32-47: w\[160 + 16n + (j - 32)\].
        qs: [u8; 48],
        /// Four digits a byte: digit n of byte j is w\[240 + 4n + j\].
        qh: [u8; 4],
        /// Scale.
        d: f16,
    }
}

block! {
    /// `w = d * (q - 1)`.
    BlockTq2_0, TQ2_0 {
        /// 2-bit q, planes of 32.
        qs: [u8; 64],
        /// Scale.
        d: f16,
    }
}

block! {
    /// `w = sign * d * (s + 1/2) / 4 * grid`, with a 4-bit s for each 32 weights.
    BlockIq2Xxs, IQ2_XXS {
        /// Scale.
        d: f16,
        /// For each 32 weights 8 bytes: 4 indices into `IQ2XXS_GRID`, then a little-endian u32 with
        /// four 7-bit codes into `KSIGNS` (lowest first) and s in bits 28-31.
        qs: [u8; 64],
    }
}

block! {
    /// `w = sign * d * (s + 1/2) / 4 * grid`, with a 4-bit s for each 16 weights.
    BlockIq2Xs, IQ2_XS {
        /// Scale.
        d: f16,
        /// For each 8 weights: index into `IQ2XS_GRID` (bits 0-8), code into `KSIGNS` (9-15).
        qs: [u16; 32],
        /// s of 16 weights in each nibble, low first.
        scales: [u8; 8],
    }
}

block! {
    /// `w = sign * d * (s + 1/2) / 4 * grid`, with a 4-bit s for each 16 weights.
    BlockIq2S, IQ2_S {
        /// Scale.
        d: f16,
        /// Bits 0-7 of the index into `IQ2S_GRID` of each 8 weights.
        qs: [u8; 32],
        /// Signs of each 8 weights; a set bit is a minus.
        signs: [u8; 32],
        /// Bits 8-9 of the index, two bits for each 8 weights, lowest first.
        qh: [u8; 8],
        /// s of 16 weights in each nibble, low first.
        scales: [u8; 8],
    }
}

block! {
    /// `w = sign * d * (s + 1/2) / 2 * grid`, with a 4-bit s for each 32 weights.
    BlockIq3Xxs, IQ3_XXS {
        /// Scale.
        d: f16,
        /// Index into `IQ3XXS_GRID` of each 4 weights.
        qs: [u8; 64],
        /// For each 32 weights a little-endian u32: four 7-bit codes into `KSIGNS` (lowest first)
        /// and s in bits 28-31.
        scales_and_signs: [u8; 32],
    }
}

block! {
    /// `w = sign * d * (2 s + 1) * grid`, with a 4-bit s for each 32 weights.
    BlockIq3S, IQ3_S {
        /// Scale.
        d: f16,
        /// Bits 0-7 of the index into `IQ3S_GRID` of each 4 weights.
        qs: [u8; 64],
        /// Bit 8 of the index, one bit for each 4 weights in order.
        qh: [u8; 8],
        /// Signs of each 8 weights; a set bit is a minus.
        signs: [u8; 32],
        /// s of 32 weights in each nibble, low first.
        scales: [u8; 4],
    }
}

block! {
    /// `w = d * (2 s + 1) * (grid ± 1/8)`, with a 3-bit s for each 32 weights.
    BlockIq1S, IQ1_S {
        /// Scale.
        d: f16,
        /// Bits 0-7 of the index into `IQ1S_GRID` of each 8 weights.
        qs: [u8; 32],
        /// For each 32 weights: bits 8-10 of the four indices (bits 0-11, lowest first), s (bits
        /// 12-14) and whether 1/8 is subtracted (bit 15).
        qh: [u16; 8],
    }
}

block! {
    /// `w = d * (2 s + 1) * (grid ± 1/8)`, with a 3-bit s for each 16 weights.
    BlockIq1M, IQ1_M {
        /// Bits 0-7 of the index into `IQ1S_GRID` of each 8 weights.
        qs: [u8; 32],
        /// A nibble for each 8 weights, low first: bits 8-10 of the index, and whether 1/8 is
        /// subtracted (bit 3).
        qh: [u8; 16],
        /// Four little-endian u16, each with four s (bits 0-11, lowest first) and a nibble of the
        /// f16 scale d (bits 12-15; the first u16 has d's lowest nibble).
        scales: [u8; 8],
    }
}

block! {
    /// `w = d * KVALUES_IQ4NL[q]`.
    BlockIq4Nl, IQ4_NL {
        /// Scale.
        d: f16,
        /// 4-bit q, planes of 16.
        qs: [u8; 16],
    }
}

block! {
    /// `w = d * (s - 32) * KVALUES_IQ4NL[q]`, with a 6-bit s for each 32 weights.
    BlockIq4Xs, IQ4_XS {
        /// Scale.
        d: f16,
        /// Bits 4-5 of the eight s, two bits each, lowest first.
        scales_h: u16,
        /// Bits 0-3 of the eight s, a nibble each, low first.
        scales_l: [u8; 4],
        /// 4-bit q, planes of 16.
        qs: [u8; 128],
    }
}

block! {
    /// `w = 2^(e - 127) * E2M1[q]`.
    BlockMxfp4, MXFP4 {
        /// E8M0 scale, see [`crate::float::e8m0_half`].
        e: u8,
        /// 4-bit E2M1 codes, planes of 16.
        qs: [u8; 16],
    }
}

block! {
    /// `w = d * E2M1[q]`, with a scale for each 16 weights.
    BlockNvfp4, NVFP4 {
        /// UE4M3 scales, see [`crate::float::ue4m3_half`].
        d: [u8; 4],
        /// 4-bit E2M1 codes, planes of 8.
        qs: [u8; 32],
    }
}
