//! Types with super-blocks of 256 and integer scales: one factor, or two where minima have their own.

use hob_quant::GgmlType;
use hob_quant::decode::{q3k_scales, scales_and_mins};
use hob_quant::tables::*;

use super::super::acts::ActsView;
use super::{bit, dot, half, nibble, sum};

/// 256 signed codes, a scale and a minimum per 16, the factors of both.
struct Super {
    codes: [i32; 256],
    scales: [i32; 16],
    d: f32,
    mins: Option<([i32; 16], f32)>,
}

/// A row of weights times activation row `n`.
///
/// # Safety
/// `acts` covers the row.
pub(super) unsafe fn row(ty: GgmlType, row: &[u8], acts: ActsView, n: usize) -> f32 {
    let mut total = 0f32;
    for (b, bytes) in row.chunks_exact(ty.block_bytes()).enumerate() {
        let block = read(ty, bytes);
        // SAFETY: the caller's.
        let (x, scale) =
            unsafe { (std::slice::from_raw_parts(acts.codes(n, 256 * b), 256), *acts.scale(n, b)) };
        let groups = block.codes.chunks_exact(16).zip(x.chunks_exact(16)).zip(block.scales);
        let codes: i32 = groups.map(|((codes, x), scale)| scale * dot(codes, x)).sum();
        total = (codes as f32).mul_add(block.d * scale, total);
        if let Some((mins, dmin)) = block.mins {
            let min: i32 = mins.iter().zip(x.chunks_exact(16)).map(|(m, x)| m * sum(x)).sum();
            total = (-(min as f32)).mul_add(dmin * scale, total);
        }
    }
    total
}

fn read(ty: GgmlType, b: &[u8]) -> Super {
    use GgmlType::*;
    match ty {
        Q2_K => q2_k(b),
        Q3_K => q3_k(b),
        Q4_K => q4_k(b),
        Q5_K => q5_k(b),
        Q6_K => q6_k(b),
        IQ4_XS => iq4_xs(b),
        TQ1_0 => ternary(half(&b[52..]), |i| tq1_0(b, i)),
        TQ2_0 => ternary(half(&b[64..]), |i| plane(b, i, 2)),
        IQ1_S => iq1_s(b),
        IQ1_M => iq1_m(b),
        IQ2_XXS => iq2_xxs(b),
        IQ2_XS => iq2_xs(b),
        IQ2_S => iq2_s(b),
        IQ3_XXS => iq3_xxs(b),
        _ => iq3_s(b),
    }
}

/// A block without minima.
fn centred(d: f32, scale: impl Fn(usize) -> i32, code: impl Fn(usize) -> i32) -> Super {
    let scales = std::array::from_fn(scale);
    Super { codes: std::array::from_fn(code), scales, d, mins: None }
}

/// Code `i` of `bits` bits: chunks of 32 bytes hold runs of 32, the first in the lowest bits.
fn plane(bytes: &[u8], i: usize, bits: usize) -> i32 {
    let runs = 8 / bits;
    let byte = bytes[i / (32 * runs) * 32 + i % 32];
    i32::from(byte >> (i / 32 % runs * bits)) & ((1 << bits) - 1)
}

fn word(bytes: &[u8], i: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]))
}

fn dword(bytes: &[u8], i: usize) -> usize {
    word(bytes, 2 * i) | word(bytes, 2 * i + 1) << 16
}

fn q2_k(b: &[u8]) -> Super {
    let mins = std::array::from_fn(|s| i32::from(b[s] >> 4));
    let mins = Some((mins, half(&b[82..])));
    Super { mins, ..centred(half(&b[80..]), |s| i32::from(b[s] & 15), |i| plane(&b[16..], i, 2)) }
}

fn q3_k(b: &[u8]) -> Super {
    let mut packed = [0; 12];
    packed.copy_from_slice(&b[96..108]);
    let scales = q3k_scales(&packed);
    let code = |i| plane(&b[32..], i, 2) + 4 * plane(b, i, 1) - 4;
    centred(half(&b[108..]), |s| scales[s].into(), code)
}

/// Q4_K and Q5_K.
fn two_factors(b: &[u8], code: impl Fn(usize) -> i32) -> Super {
    let mut packed = [0; 12];
    packed.copy_from_slice(&b[4..16]);
    let (scales, mins) = scales_and_mins(&packed);
    let mins = Some((std::array::from_fn(|s| i32::from(mins[s / 2])), half(&b[2..])));
    Super { mins, ..centred(half(b), |s| scales[s / 2].into(), code) }
}

fn q4_k(b: &[u8]) -> Super {
    two_factors(b, |i| plane(&b[16..], i, 4))
}

fn q5_k(b: &[u8]) -> Super {
    two_factors(b, |i| plane(&b[48..], i, 4) + 16 * plane(&b[16..48], i, 1))
}

fn q6_k(b: &[u8]) -> Super {
    let code = |i| {
        let (n, quarter, l) = (i / 128, i / 32 % 4, i % 32);
        let low = b[64 * n + quarter % 2 * 32 + l] >> (quarter / 2 * 4) & 15;
        i32::from(low) + 16 * plane(&b[128..], i, 2) - 32
    };
    centred(half(&b[208..]), |s| i32::from(b[192 + s] as i8), code)
}

fn iq4_xs(b: &[u8]) -> Super {
    let scale = |s: usize| {
        let high = word(b, 1) >> (s / 2 * 2) & 3;
        (nibble(&b[4..], s / 2) | high << 4) as i32 - 32
    };
    let code = |i: usize| {
        let byte = b[8 + i / 32 * 16 + i % 16];
        i32::from(KVALUES_IQ4NL[usize::from(byte >> (i / 16 % 2 * 4) & 15)])
    };
    centred(half(b), scale, code)
}

fn ternary(d: f32, digit: impl Fn(usize) -> i32) -> Super {
    centred(d, |_| 1, |i| digit(i) - 1)
}

fn tq1_0(b: &[u8], i: usize) -> i32 {
    let (byte, digit) = match i {
        0..160 => (b[i % 32], i / 32),
        160..240 => (b[32 + i % 16], (i - 160) / 16),
        _ => (b[48 + i % 4], (i - 240) / 4),
    };
    let rest = usize::from(byte) * 3usize.pow(digit as u32) % 256;
    (3 * rest / 256) as i32
}

/// Weight `i % 8` of a point of eight signed bytes.
fn of_eight(point: u64, i: usize) -> i32 {
    i32::from(point.to_le_bytes()[i % 8] as i8)
}

/// Weight `i % 4` of a point of four bytes.
fn of_four(point: u32, i: usize) -> i32 {
    i32::from(point.to_le_bytes()[i % 4])
}

fn signed(magnitude: i32, minus: usize) -> i32 {
    if minus == 0 { magnitude } else { -magnitude }
}

/// Sign of weight `i` by its code of seven bits.
fn even_sign(code: usize, i: usize) -> usize {
    bit(&[KSIGNS[code & 127]], i % 8)
}

fn iq1_s(b: &[u8]) -> Super {
    let word = |i: usize| word(&b[34..], i / 32);
    let code = |i: usize| {
        let g = i / 8;
        let point = IQ1S_GRID[usize::from(b[2 + g]) | (word(i) >> (g % 4 * 3) & 7) << 8];
        8 * of_eight(point, i) + signed(1, word(i) >> 15)
    };
    centred(half(b) / 8.0, |s| 2 * (word(16 * s) >> 12 & 7) as i32 + 1, code)
}

fn iq1_m(b: &[u8]) -> Super {
    let words: [usize; 4] = std::array::from_fn(|i| word(&b[48..], i));
    let bits = (0..4).fold(0, |bits, i| bits | words[i] >> 12 << (4 * i)) as u16;
    let code = |i: usize| {
        let high = nibble(&b[32..], i / 8);
        let point = IQ1S_GRID[usize::from(b[i / 8]) | (high & 7) << 8];
        8 * of_eight(point, i) + signed(1, high >> 3)
    };
    let scale = |s: usize| 2 * (words[s / 4] >> (s % 4 * 3) & 7) as i32 + 1;
    centred(half(&bits.to_le_bytes()) / 8.0, scale, code)
}

fn iq2_xxs(b: &[u8]) -> Super {
    let word = |i: usize| dword(&b[2..], i / 32 * 2 + 1);
    let code = |i: usize| {
        let point = IQ2XXS_GRID[usize::from(b[2 + i / 32 * 8 + i / 8 % 4])];
        signed(of_eight(point, i), even_sign(word(i) >> (i / 8 % 4 * 7), i))
    };
    centred(half(b) / 8.0, |s| 2 * (word(16 * s) >> 28) as i32 + 1, code)
}

fn iq2_xs(b: &[u8]) -> Super {
    let code = |i: usize| {
        let word = word(&b[2..], i / 8);
        signed(of_eight(IQ2XS_GRID[word & 511], i), even_sign(word >> 9, i))
    };
    centred(half(b) / 8.0, |s| 2 * nibble(&b[66..], s) as i32 + 1, code)
}

fn iq2_s(b: &[u8]) -> Super {
    let code = |i: usize| {
        let high = usize::from(b[66 + i / 32] >> (i / 8 % 4 * 2) & 3);
        let point = IQ2S_GRID[usize::from(b[2 + i / 8]) | high << 8];
        signed(of_eight(point, i), bit(&b[34..], i))
    };
    centred(half(b) / 8.0, |s| 2 * nibble(&b[74..], s) as i32 + 1, code)
}

fn iq3_xxs(b: &[u8]) -> Super {
    let word = |i: usize| dword(&b[66..], i / 32);
    let code = |i: usize| {
        let magnitude = of_four(IQ3XXS_GRID[usize::from(b[2 + i / 4])], i);
        signed(magnitude, even_sign(word(i) >> (i / 8 % 4 * 7), i))
    };
    centred(half(b) / 4.0, |s| 2 * (word(16 * s) >> 28) as i32 + 1, code)
}

fn iq3_s(b: &[u8]) -> Super {
    let code = |i: usize| {
        let point = IQ3S_GRID[usize::from(b[2 + i / 4]) | bit(&b[66..], i / 4) << 8];
        signed(of_four(point, i), bit(&b[74..], i))
    };
    centred(half(b), |s| 2 * nibble(&b[106..], s / 2) as i32 + 1, code)
}
