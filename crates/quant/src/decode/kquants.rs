//! Decode of the super-blocks of 256 weights with quantized scales: Q2_K to Q6_K and IQ4_XS.

use super::simple::lookup;
use super::{Decode, join, planes};
use crate::blocks::*;
use crate::tables::KVALUES_IQ4NL;

/// The 6-bit scales s and minima m of Q4_K and Q5_K. Bytes 0-3 have s\[0..4\] in their low six
/// bits, bytes 4-7 m\[0..4\]; bytes 8-11 have the low nibbles of s\[4..8\] (low) and of m\[4..8\]
/// (high), whose upper two bits are the top bits of bytes 0-3 and 4-7.
pub fn scales_and_mins(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for j in 0..4 {
        let (s, m, low) = (packed[j], packed[j + 4], packed[j + 8]);
        scales[j] = s & 63;
        mins[j] = m & 63;
        scales[j + 4] = low & 15 | s >> 6 << 4;
        mins[j + 4] = low >> 4 | m >> 6 << 4;
    }
    (scales, mins)
}

/// The sixteen scales of Q3_K, centred: -32 to 31.
pub fn q3k_scales(packed: &[u8; 12]) -> [i8; 16] {
    let (low, high) = packed.split_at(8);
    join(planes::<4, 8, 16>(low), planes::<2, 4, 16>(high), 4).map(|s| s as i8 - 32)
}

/// Writes `d * code - m` with a (d, m) for each group of `G` weights.
fn affine<const G: usize>(
    out: &mut [f32; 256],
    codes: &[u8; 256],
    scales: impl Iterator<Item = (f32, f32)>,
) {
    let groups = out.as_chunks_mut::<G>().0.iter_mut().zip(codes.as_chunks::<G>().0);
    for ((out, codes), (d, m)) in groups.zip(scales) {
        for (out, &code) in out.iter_mut().zip(codes) {
            *out = d * f32::from(code) - m;
        }
    }
}

/// Writes `d * (code - zero)` with a d for each 16 weights.
fn symmetric(
    out: &mut [f32; 256],
    codes: &[u8; 256],
    zero: i16,
    scales: impl Iterator<Item = f32>,
) {
    let groups = out.as_chunks_mut::<16>().0.iter_mut().zip(codes.as_chunks::<16>().0);
    for ((out, codes), d) in groups.zip(scales) {
        for (out, &code) in out.iter_mut().zip(codes) {
            *out = d * f32::from(i16::from(code) - zero);
        }
    }
}

impl Decode for BlockQ2K {
    type Weights = [f32; 256];

    fn decode(&self, out: &mut [f32; 256]) {
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        let scales = self.scales.iter().map(|s| (d * f32::from(s & 15), dmin * f32::from(s >> 4)));
        affine::<16>(out, &planes::<2, 32, 256>(&self.qs), scales);
    }
}

impl Decode for BlockQ3K {
    type Weights = [f32; 256];

    fn decode(&self, out: &mut [f32; 256]) {
        let d = self.d.to_f32();
        let codes = join(planes::<2, 32, 256>(&self.qs), planes::<1, 32, 256>(&self.hmask), 2);
        let scales = q3k_scales(&self.scales);
        symmetric(out, &codes, 4, scales.iter().map(|&s| d * f32::from(s)));
    }
}

/// The (d, m) of the eight groups of Q4_K and Q5_K.
fn group_scales(d: f32, dmin: f32, packed: &[u8; 12]) -> impl Iterator<Item = (f32, f32)> {
    let (scales, mins) = scales_and_mins(packed);
    scales.into_iter().zip(mins).map(move |(s, m)| (d * f32::from(s), dmin * f32::from(m)))
}

impl Decode for BlockQ4K {
    type Weights = [f32; 256];

    fn decode(&self, out: &mut [f32; 256]) {
        let scales = group_scales(self.d.to_f32(), self.dmin.to_f32(), &self.scales);
        affine::<32>(out, &planes::<4, 32, 256>(&self.qs), scales);
    }
}

impl Decode for BlockQ5K {
    type Weights = [f32; 256];

    fn decode(&self, out: &mut [f32; 256]) {
        let scales = group_scales(self.d.to_f32(), self.dmin.to_f32(), &self.scales);
        let codes = join(planes::<4, 32, 256>(&self.qs), planes::<1, 32, 256>(&self.qh), 4);
        affine::<32>(out, &codes, scales);
    }
}

impl Decode for BlockQ6K {
    type Weights = [f32; 256];

    fn decode(&self, out: &mut [f32; 256]) {
        let d = self.d.to_f32();
        let codes = join(planes::<4, 64, 256>(&self.ql), planes::<2, 32, 256>(&self.qh), 4);
        symmetric(out, &codes, 32, self.scales.iter().map(|&s| d * f32::from(s)));
    }
}

impl Decode for BlockIq4Xs {
    type Weights = [f32; 256];

    fn decode(&self, out: &mut [f32; 256]) {
        let d = self.d.to_f32();
        let high = planes::<2, 1, 8>(&self.scales_h.to_le_bytes());
        let scales = join(planes::<4, 1, 8>(&self.scales_l), high, 4);
        let codes = planes::<4, 16, 256>(&self.qs);
        let groups = out.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<32>().0);
        for ((out, codes), s) in groups.zip(scales) {
            lookup(out, codes, &KVALUES_IQ4NL, d * f32::from(i16::from(s) - 32));
        }
    }
}
