//! The vocabulary with one lane, in plain Rust: what the row operations and attention run on when there is no vector
//! unit that fits, and the oracle of both. Matrix products have an oracle of their own.

use super::{Isa, SignedActs};

/// One lane. Always there.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

fn halves(x: u32) -> [i32; 2] {
    [i32::from(x as i16), x as i32 >> 16]
}

// SAFETY: plain Rust; pointers as the trait says.
unsafe impl Isa for Plain {
    const LANES: usize = 1;
    const TILE: usize = 4;
    const SIGNED_BYTES: usize = 32;
    const WIDE: bool = false;
    type V = u32;
    type F = f32;

    fn detect() -> Option<Self> {
        Some(Plain)
    }
    fn with<R>(self, f: impl FnOnce() -> R) -> R {
        f()
    }
    unsafe fn load_rows(self, base: *const u8, _stride: usize) -> [u32; 4] {
        std::array::from_fn(|t| base.cast::<u32>().add(t).read_unaligned())
    }
    unsafe fn prefetch(self, _p: *const u8) {}
    unsafe fn load(self, p: *const u8) -> u32 {
        p.cast::<u32>().read_unaligned()
    }
    unsafe fn store(self, p: *mut u8, v: u32) {
        p.cast::<u32>().write_unaligned(v)
    }
    unsafe fn splat(self, x: u32) -> u32 {
        x
    }
    unsafe fn and(self, a: u32, b: u32) -> u32 {
        a & b
    }
    unsafe fn or(self, a: u32, b: u32) -> u32 {
        a | b
    }
    unsafe fn shl<const N: i32>(self, a: u32) -> u32 {
        a << N
    }
    unsafe fn shr<const N: i32>(self, a: u32) -> u32 {
        a >> N
    }
    unsafe fn sar<const N: i32>(self, a: u32) -> u32 {
        (a as i32 >> N) as u32
    }
    unsafe fn add_i32(self, a: u32, b: u32) -> u32 {
        a.wrapping_add(b)
    }
    unsafe fn sub_i32(self, a: u32, b: u32) -> u32 {
        a.wrapping_sub(b)
    }
    unsafe fn madd_i16(self, a: u32, b: u32) -> u32 {
        let ([a0, a1], [b0, b1]) = (halves(a), halves(b));
        (a0 * b0).wrapping_add(a1 * b1) as u32
    }
    unsafe fn scale(self, a: u32) -> u32 {
        a
    }
    unsafe fn sub_dot<const N: usize>(
        self,
        sums: &mut [u32; N],
        codes: *const u8,
        acts: [*const i8; N],
        scale: u32,
        steps: usize,
        _depth: usize,
    ) {
        for n in 0..N {
            let dot: i32 =
                (0..4 * steps).map(|i| i32::from(*codes.add(i)) * i32::from(*acts[n].add(i))).sum();
            sums[n] = sums[n].wrapping_add((dot * scale as i32) as u32);
        }
    }
    unsafe fn signed_dot<const N: usize>(
        self,
        codes: *const u8,
        acts: [SignedActs; N],
    ) -> [u32; N] {
        acts.map(|a| {
            let dot = |i| i32::from(*codes.cast::<i8>().add(i)) * i32::from(*a.codes.add(i));
            (0..32).map(dot).sum::<i32>() as u32
        })
    }
    unsafe fn quad_dot(
        self,
        sum: u32,
        codes: [u32; 4],
        acts: *const i8,
        scale: u32,
        _depth: usize,
    ) -> u32 {
        let bytes = codes.as_ptr().cast::<u8>();
        let dot: i32 = (0..16).map(|i| i32::from(*bytes.add(i)) * i32::from(*acts.add(i))).sum();
        sum.wrapping_add((dot * scale as i32) as u32)
    }
    unsafe fn signed_quad(self, sum: u32, codes: [u32; 4], acts: *const i8) -> u32 {
        let bytes = codes.as_ptr().cast::<i8>();
        let dot: i32 = (0..16).map(|i| i32::from(*bytes.add(i)) * i32::from(*acts.add(i))).sum();
        sum.wrapping_add(dot as u32)
    }
    unsafe fn store_signed(self, block: *mut u8, half: usize, v: [u32; 4]) {
        for (t, v) in v.into_iter().enumerate() {
            self.store(block.add(16 * half + 4 * t), v);
        }
    }
    unsafe fn half_low(self, v: u32) -> f32 {
        half::f16::from_bits(v as u16).to_f32()
    }
    unsafe fn half_high(self, v: u32) -> f32 {
        self.half_low(v >> 16)
    }
    unsafe fn half_rows(self, base: *const u8, _stride: usize) -> f32 {
        self.load_f16(base.cast())
    }
    unsafe fn to_f32(self, v: u32) -> f32 {
        v as i32 as f32
    }
    unsafe fn fsplat(self, x: f32) -> f32 {
        x
    }
    unsafe fn fload(self, p: *const f32) -> f32 {
        p.read_unaligned()
    }
    unsafe fn fstore(self, p: *mut f32, x: f32) {
        p.write_unaligned(x)
    }
    unsafe fn fadd(self, a: f32, b: f32) -> f32 {
        a + b
    }
    unsafe fn fmul(self, a: f32, b: f32) -> f32 {
        a * b
    }
    unsafe fn fmax(self, a: f32, b: f32) -> f32 {
        if a > b { a } else { b }
    }
    unsafe fn fmin(self, a: f32, b: f32) -> f32 {
        if a < b { a } else { b }
    }
    unsafe fn fdiv(self, a: f32, b: f32) -> f32 {
        a / b
    }
    unsafe fn fma(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
    unsafe fn fnma(self, a: f32, b: f32, c: f32) -> f32 {
        (-a).mul_add(b, c)
    }
    unsafe fn fround(self, a: f32) -> f32 {
        a.round_ties_even()
    }
    unsafe fn fabs(self, a: f32) -> f32 {
        a.abs()
    }
    unsafe fn exp2_int(self, n: f32) -> f32 {
        f32::from_bits(((n as i32 + 127) as u32) << 23)
    }
    unsafe fn fsum(self, a: f32) -> f32 {
        a
    }
    unsafe fn fmax_lane(self, a: f32) -> f32 {
        a
    }
    unsafe fn load_f16(self, p: *const u16) -> f32 {
        half::f16::from_bits(p.read_unaligned()).to_f32()
    }
    unsafe fn load_bf16(self, p: *const u16) -> f32 {
        half::bf16::from_bits(p.read_unaligned()).to_f32()
    }
    unsafe fn load_i8(self, p: *const i8) -> f32 {
        f32::from(*p)
    }
    unsafe fn store_i8(self, p: *mut i8, x: f32) {
        *p = x as i8
    }
}
