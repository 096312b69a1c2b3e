//! Decode of the formats whose indices name points of a grid: IQ1, IQ2 and IQ3.

use half::f16;

use super::{Decode, planes};
use crate::blocks::*;
use crate::tables::*;

/// Writes `d * magnitude`, negated where the bit of `signs` is set.
fn signed<const N: usize>(out: &mut [f32; N], magnitudes: [u8; N], signs: u8, d: f32) {
    for (j, (out, magnitude)) in out.iter_mut().zip(magnitudes).enumerate() {
        let sign = if signs >> j & 1 == 1 { -1.0 } else { 1.0 };
        *out = d * f32::from(magnitude) * sign;
    }
}

/// Writes `d * (point + delta)`.
fn ternary(out: &mut [f32; 8], point: u64, delta: f32, d: f32) {
    for (out, byte) in out.iter_mut().zip(point.to_le_bytes()) {
        *out = d * (f32::from(byte as i8) + delta);
    }
}

/// The shift of an IQ1 point.
fn delta(subtract: bool) -> f32 {
    if subtract { -IQ1_DELTA } else { IQ1_DELTA }
}

/// The k-th 7-bit sign code of a word, looked up.
fn word_signs(word: u32, k: usize) -> u8 {
    KSIGNS[(word >> (7 * k) & 127) as usize]
}

/// Two signed runs of 4 of the 3-bit formats.
fn signed_pair(out: &mut [f32; 8], points: [u32; 2], signs: u8, d: f32) {
    let point = u64::from(points[0]) | u64::from(points[1]) << 32;
    signed(out, point.to_le_bytes(), signs, d);
}

impl Decode for BlockIq2Xxs {
    type Weights = [f32; 256];

    fn decode(&self, out: &mut [f32; 256]) {
        let groups = out.as_chunks_mut::<32>().0.iter_mut().zip(self.qs.as_chunks::<8>().0);
        for (out, &[a, b, c, d, word @ ..]) in groups {
            let word = u32::from_le_bytes(word);
            let scale = self.d.to_f32() * (0.5 + (word >> 28) as f32) * 0.25;
            for (k, (out, index)) in out.as_chunks_mut().0.iter_mut().zip([a, b, c, d]).enumerate()
            {
                let point = IQ2XXS_GRID[usize::from(index)];
                signed(out, point.to_le_bytes(), word_signs(word, k), scale);
            }
        }
    }
}

/// The scales of IQ2_XS and IQ2_S, one for each 16 weights.
fn iq2_scales(d: f16, packed: &[u8; 8]) -> [f32; 16] {
    let d = d.to_f32();
    planes::<4, 1, 16>(packed).map(|s| d * (0.5 + f32::from(s)) * 0.25)
}

impl Decode for BlockIq2Xs {
    type Weights = [f32; 256];

    fn decode(&self, out: &mut [f32; 256]) {
        let scales = iq2_scales(self.d, &self.scales);
        let groups = out.as_chunks_mut::<8>().0.iter_mut().zip(self.qs);
        for (g, (out, q)) in groups.enumerate() {
            let point = IQ2XS_GRID[usize::from(q & 511)];
            signed(out, point.to_le_bytes(), KSIGNS[usize::from(q >> 9)], scales[g / 2]);
        }
    }
}

impl Decode for BlockIq2S {
    type Weights = [f32; 256];

    fn decode(&self, out: &mut [f32; 256]) {
        let scales = iq2_scales(self.d, &self.scales);
        let high = planes::<2, 1, 32>(&self.qh);
        for (g, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let point = IQ2S_GRID[index(self.qs[g], high[g] & 3)];
            signed(out, point.to_le_bytes(), self.signs[g], scales[g / 2]);
        }
    }
}

/// A grid index from its low byte and the bits above.
fn index(low: u8, high: u8) -> usize {
    usize::from(low) | usize::from(high) << 8
}

impl Decode for BlockIq3Xxs {
    type Weights = [f32; 256];

    fn decode(&self, out: &mut [f32; 256]) {
        let words =
            self.scales_and_signs.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word));
        let groups = out.as_chunks_mut::<32>().0.iter_mut().zip(self.qs.as_chunks::<8>().0);
        for ((out, indices), word) in groups.zip(words) {
            let scale = self.d.to_f32() * (0.5 + (word >> 28) as f32) * 0.5;
            let pairs = out.as_chunks_mut().0.iter_mut().zip(indices.as_chunks::<2>().0);
            for (k, (out, pair)) in pairs.enumerate() {
                let points = pair.map(|index| IQ3XXS_GRID[usize::from(index)]);
                signed_pair(out, points, word_signs(word, k), scale);
            }
        }
    }
}

impl Decode for BlockIq3S {
    type Weights = [f32; 256];

    fn decode(&self, out: &mut [f32; 256]) {
        let d = self.d.to_f32();
        let scales = planes::<4, 1, 8>(&self.scales).map(|s| d * f32::from(1 + 2 * s));
        let high = planes::<1, 1, 64>(&self.qh);
        for (g, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let points = [2 * g, 2 * g + 1].map(|i| IQ3S_GRID[index(self.qs[i], high[i] & 1)]);
            signed_pair(out, points, self.signs[g], scales[g / 4]);
        }
    }
}

impl Decode for BlockIq1S {
    type Weights = [f32; 256];

    fn decode(&self, out: &mut [f32; 256]) {
        let d = self.d.to_f32();
        let groups = out.as_chunks_mut::<32>().0.iter_mut().zip(self.qs.as_chunks::<4>().0);
        for ((out, low), word) in groups.zip(self.qh) {
            let scale = d * f32::from(2 * (word >> 12 & 7) + 1);
            let delta = delta(word >> 15 == 1);
            for (k, (out, &low)) in out.as_chunks_mut().0.iter_mut().zip(low).enumerate() {
                let high = (word >> (3 * k) & 7) as u8;
                ternary(out, IQ1S_GRID[index(low, high)], delta, scale);
            }
        }
    }
}

/// The scales of IQ1_M, one for each 16 weights.
fn iq1m_scales(packed: &[u8; 8]) -> [f32; 16] {
    let words = [0, 2, 4, 6].map(|i| u16::from_le_bytes([packed[i], packed[i + 1]]));
    let bits = words.iter().rev().fold(0, |bits, word| bits << 4 | word >> 12);
    let d = f16::from_bits(bits).to_f32();
    std::array::from_fn(|g| d * f32::from(2 * (words[g / 4] >> (3 * (g % 4)) & 7) + 1))
}

impl Decode for BlockIq1M {
    type Weights = [f32; 256];

    fn decode(&self, out: &mut [f32; 256]) {
        let scales = iq1m_scales(&self.scales);
        let high = planes::<4, 1, 32>(&self.qh);
        for (g, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let point = IQ1S_GRID[index(self.qs[g], high[g] & 7)];
            ternary(out, point, delta(high[g] >> 3 == 1), scales[g / 2]);
        }
    }
}
