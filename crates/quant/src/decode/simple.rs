//! Decode of the formats with one scale for a short block: Q4_0 to Q8_0, the 1- and 2-bit ones,
//! IQ4_NL and the two FP4 formats.

use super::{Decode, join, planes};
use crate::blocks::*;
use crate::float::{e8m0_half, ue4m3_half};
use crate::tables::{KVALUES_FP4, KVALUES_IQ4NL};

/// Writes `(code - zero) * d`.
fn symmetric(out: &mut [f32], codes: &[u8], zero: i16, d: f32) {
    for (out, &code) in out.iter_mut().zip(codes) {
        *out = f32::from(i16::from(code) - zero) * d;
    }
}

/// Writes `code * d + m`.
fn affine(out: &mut [f32], codes: &[u8], d: f32, m: f32) {
    for (out, &code) in out.iter_mut().zip(codes) {
        *out = f32::from(code) * d + m;
    }
}

/// Writes `values[code] * d` for 4-bit codes.
pub(super) fn lookup(out: &mut [f32], codes: &[u8], values: &[i8; 16], d: f32) {
    for (out, &code) in out.iter_mut().zip(codes) {
        *out = f32::from(values[usize::from(code & 15)]) * d;
    }
}

impl Decode for BlockQ4_0 {
    type Weights = [f32; 32];

    fn decode(&self, out: &mut [f32; 32]) {
        symmetric(out, &planes::<4, 16, 32>(&self.qs), 8, self.d.to_f32());
    }
}

impl Decode for BlockQ4_1 {
    type Weights = [f32; 32];

    fn decode(&self, out: &mut [f32; 32]) {
        affine(out, &planes::<4, 16, 32>(&self.qs), self.d.to_f32(), self.m.to_f32());
    }
}

/// The 5-bit codes of Q5_0 and Q5_1.
fn five_bits(qs: &[u8; 16], qh: &[u8; 4]) -> [u8; 32] {
    join(planes::<4, 16, 32>(qs), planes::<1, 1, 32>(qh), 4)
}

impl Decode for BlockQ5_0 {
    type Weights = [f32; 32];

    fn decode(&self, out: &mut [f32; 32]) {
        symmetric(out, &five_bits(&self.qs, &self.qh), 16, self.d.to_f32());
    }
}

impl Decode for BlockQ5_1 {
    type Weights = [f32; 32];

    fn decode(&self, out: &mut [f32; 32]) {
        affine(out, &five_bits(&self.qs, &self.qh), self.d.to_f32(), self.m.to_f32());
    }
}

impl Decode for BlockQ8_0 {
    type Weights = [f32; 32];

    fn decode(&self, out: &mut [f32; 32]) {
        let d = self.d.to_f32();
        for (out, q) in out.iter_mut().zip(self.qs) {
            *out = f32::from(q) * d;
        }
    }
}

impl Decode for BlockQ1_0 {
    type Weights = [f32; 128];

    fn decode(&self, out: &mut [f32; 128]) {
        let d = self.d.to_f32();
        for (out, bit) in out.iter_mut().zip(planes::<1, 1, 128>(&self.qs)) {
            *out = if bit == 1 { d } else { -d };
        }
    }
}

impl Decode for BlockQ2_0 {
    type Weights = [f32; 64];

    fn decode(&self, out: &mut [f32; 64]) {
        symmetric(out, &planes::<2, 1, 64>(&self.qs), 1, self.d.to_f32());
    }
}

impl Decode for BlockTq2_0 {
    type Weights = [f32; 256];

    fn decode(&self, out: &mut [f32; 256]) {
        symmetric(out, &planes::<2, 32, 256>(&self.qs), 1, self.d.to_f32());
    }
}

impl Decode for BlockTq1_0 {
    type Weights = [f32; 256];

    fn decode(&self, out: &mut [f32; 256]) {
        let (mut codes, mut at) = ([0; 256], 0);
        let (wide, narrow) = self.qs.split_at(32);
        for (bytes, digits) in [(wide, 5), (narrow, 5), (&self.qh[..], 4)] {
            for power in [1u8, 3, 9, 27, 81].iter().take(digits) {
                for (code, byte) in codes[at..].iter_mut().zip(bytes) {
                    *code = ((u16::from(byte.wrapping_mul(*power)) * 3) >> 8) as u8;
                }
                at += bytes.len();
            }
        }
        symmetric(out, &codes, 1, self.d.to_f32());
    }
}

impl Decode for BlockIq4Nl {
    type Weights = [f32; 32];

    fn decode(&self, out: &mut [f32; 32]) {
        lookup(out, &planes::<4, 16, 32>(&self.qs), &KVALUES_IQ4NL, self.d.to_f32());
    }
}

impl Decode for BlockMxfp4 {
    type Weights = [f32; 32];

    fn decode(&self, out: &mut [f32; 32]) {
        lookup(out, &planes::<4, 16, 32>(&self.qs), &KVALUES_FP4, e8m0_half(self.e));
    }
}

impl Decode for BlockNvfp4 {
    type Weights = [f32; 64];

    fn decode(&self, out: &mut [f32; 64]) {
        let codes = planes::<4, 8, 64>(&self.qs);
        let groups = out.as_chunks_mut::<16>().0.iter_mut().zip(codes.as_chunks::<16>().0);
        for ((out, codes), &d) in groups.zip(&self.d) {
            lookup(out, codes, &KVALUES_FP4, ue4m3_half(d));
        }
    }
}
