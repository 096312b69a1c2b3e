//! The floats with one lane, in plain Rust: what the row operations and attention run on when there is no vector
//! unit that fits, and the oracle of both. Integers are absent: matrix products have an oracle of their own.

use super::Floats;

/// One lane. Always there.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

// SAFETY: plain Rust; pointers as the trait says.
unsafe impl Floats for Plain {
    const LANES: usize = 1;
    type F = f32;
    fn detect() -> Option<Self> {
        Some(Plain)
    }
    fn with<R>(self, f: impl FnOnce() -> R) -> R {
        f()
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
    unsafe fn load_i8(self, p: *const i8) -> f32 {
        f32::from(*p)
    }
}
