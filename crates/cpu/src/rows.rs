//! Operations on single rows of floats: norm, rotation, gate nonlinearities, addition. Each row is computed alone,
//! lanes over columns with a fixed order, so batches cannot change a result. `exp` is ours, to be the same function
//! in the vector body and in its tail.
#![allow(unsafe_op_in_unsafe_fn)]

use hob_model::{Activation, RopePairs};

use crate::isa::{Floats, IsaKind, Plain};

/// Runs `$body` with the vector token bound to `$isa`, or `$scalar`.
macro_rules! dispatch {
    ($kind:expr, |$isa:ident| $body:expr) => {
        match $kind {
            #[cfg(target_arch = "x86_64")]
            crate::isa::IsaKind::Avx2 if let Some($isa) = crate::isa::Avx2::detect() => $isa.with(
                #[inline(always)]
                || $body,
            ),
            #[cfg(target_arch = "x86_64")]
            crate::isa::IsaKind::Avx512 if let Some($isa) = crate::isa::Avx512::detect() => $isa
                .with(
                    #[inline(always)]
                    || $body,
                ),
            _ => {
                let $isa = crate::isa::Plain;
                $body
            }
        }
    };
}
pub(crate) use dispatch;

/// `dst = src / sqrt(mean(src^2) + eps) * gain`, over groups of `gain.len()`; rows may be the same memory.
///
/// # Safety
/// `src` and `dst` have `len` floats, a multiple of `gain.len()`.
pub unsafe fn rms_norm(
    kind: IsaKind,
    dst: *mut f32,
    src: *const f32,
    len: usize,
    gain: &[f32],
    eps: f32,
) {
    dispatch!(kind, |isa| {
        for at in (0..len).step_by(gain.len()) {
            norm_group(isa, dst.add(at), src.add(at), gain, eps);
        }
    })
}

#[inline(always)]
unsafe fn norm_group<I: Floats>(isa: I, dst: *mut f32, src: *const f32, gain: &[f32], eps: f32) {
    let (n, whole) = (gain.len(), gain.len() / I::LANES * I::LANES);
    let mut squares = isa.fsplat(0.0);
    for i in (0..whole).step_by(I::LANES) {
        let x = isa.fload(src.add(i));
        squares = isa.fma(x, x, squares);
    }
    let mut sum = isa.fsum(squares);
    for i in whole..n {
        sum += *src.add(i) * *src.add(i);
    }
    let scale = 1.0 / (sum / n as f32 + eps).sqrt();
    let scales = isa.fsplat(scale);
    for i in (0..whole).step_by(I::LANES) {
        let x = isa.fmul(isa.fload(src.add(i)), scales);
        isa.fstore(dst.add(i), isa.fmul(x, isa.fload(gain.as_ptr().add(i))));
    }
    for i in whole..n {
        *dst.add(i) = *src.add(i) * scale * gain[i];
    }
}

/// `dst += src`.
///
/// # Safety
/// Both have `len` floats.
pub unsafe fn add(kind: IsaKind, dst: *mut f32, src: *const f32, len: usize) {
    dispatch!(kind, |isa| each(isa, dst, src, len, |a, b| isa.fadd(a, b), |a, b| a + b))
}

/// `gate = act(gate) * up`.
///
/// # Safety
/// Both have `len` floats.
pub unsafe fn act_mul(kind: IsaKind, gate: *mut f32, up: *const f32, len: usize, act: Activation) {
    dispatch!(kind, |isa| match act {
        Activation::Silu => {
            each(isa, gate, up, len, |g, u| isa.fmul(silu(isa, g), u), |g, u| silu(Plain, g) * u)
        }
        Activation::GeluTanh => {
            each(isa, gate, up, len, |g, u| isa.fmul(gelu(isa, g), u), |g, u| gelu(Plain, g) * u)
        }
    })
}

#[inline(always)]
unsafe fn each<I: Floats>(
    isa: I,
    a: *mut f32,
    b: *const f32,
    len: usize,
    f: impl Fn(I::F, I::F) -> I::F,
    one: impl Fn(f32, f32) -> f32,
) {
    let whole = len / I::LANES * I::LANES;
    for i in (0..whole).step_by(I::LANES) {
        isa.fstore(a.add(i), f(isa.fload(a.add(i)), isa.fload(b.add(i))));
    }
    for i in whole..len {
        *a.add(i) = one(*a.add(i), *b.add(i));
    }
}

#[inline(always)]
unsafe fn silu<I: Floats>(isa: I, x: I::F) -> I::F {
    let down = exp(isa, isa.fnma(x, isa.fsplat(1.0), isa.fsplat(0.0)));
    isa.fdiv(x, isa.fadd(isa.fsplat(1.0), down))
}

/// GELU in its tanh form: `x * sigmoid(2 u)`, `u = sqrt(2/pi) (x + 0.044715 x^3)` (arXiv 1606.08415).
#[inline(always)]
unsafe fn gelu<I: Floats>(isa: I, x: I::F) -> I::F {
    let cube = isa.fmul(isa.fmul(x, x), isa.fmul(x, isa.fsplat(0.044_715)));
    let u = isa.fmul(isa.fadd(x, cube), isa.fsplat(-1.595_769));
    isa.fdiv(x, isa.fadd(isa.fsplat(1.0), exp(isa, u)))
}

/// e^x within 2 units in the last place for x in -87 ..= 88; clamped outside (masked scores are set to zero by the caller). Cody-Waite reduction and a polynomial of degree 6 on -ln2/2 ..= ln2/2.
#[inline(always)]
pub(crate) unsafe fn exp<I: Floats>(isa: I, x: I::F) -> I::F {
    let x = isa.fmin(isa.fmax(x, isa.fsplat(-87.0)), isa.fsplat(88.0));
    let n = isa.fround(isa.fmul(x, isa.fsplat(std::f32::consts::LOG2_E)));
    let r = isa.fnma(n, isa.fsplat(0.693_359_4), x);
    let r = isa.fnma(n, isa.fsplat(-2.121_944_4e-4), r);
    let mut p = isa.fsplat(1.0 / 720.0);
    for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = isa.fma(p, r, isa.fsplat(c));
    }
    isa.fmul(p, isa.exp2_int(n))
}

/// Rotates every head of a row (`heads` of `head_dim`) in place, by the angles of its position.
pub fn rope(row: &mut [f32], head_dim: usize, pairs: RopePairs, cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    for head in row.chunks_exact_mut(head_dim) {
        match pairs {
            RopePairs::Adjacent => {
                for (pair, (c, s)) in head.chunks_exact_mut(2).zip(cos.iter().zip(sin)) {
                    let (a, b) = (pair[0], pair[1]);
                    pair[0] = a * c - b * s;
                    pair[1] = a * s + b * c;
                }
            }
            RopePairs::Halves => {
                let (first, rest) = head.split_at_mut(half);
                for ((x, y), (c, s)) in
                    first.iter_mut().zip(&mut rest[..half]).zip(cos.iter().zip(sin))
                {
                    let (a, b) = (*x, *y);
                    *x = a * c - b * s;
                    *y = a * s + b * c;
                }
            }
        }
    }
}

/// `x = cap * tanh(x / cap)`.
pub fn softcap(x: &mut [f32], cap: f32) {
    for x in x {
        *x = cap * (*x / cap).tanh();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate() {
        let mut worst = 0f64;
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            // SAFETY: plain Rust.
            let y = unsafe { exp(Plain, x) };
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(y) - exact).abs() / exact);
        }
        assert!(worst < 2.5e-7, "relative error {worst}");
    }

    #[test]
    fn vector_rows_equal_plain_ones() {
        let x: Vec<f32> = (0..150).map(|i| ((i * 37 % 101) as f32 - 50.0) / 7.0).collect();
        let gain: Vec<f32> = (0..50).map(|i| 1.0 + i as f32 / 50.0).collect();
        for kind in IsaKind::available() {
            for act in [Activation::Silu, Activation::GeluTanh] {
                let (mut a, mut b) = (x.clone(), x.clone());
                // SAFETY: lengths agree.
                unsafe {
                    act_mul(kind, a.as_mut_ptr(), x.as_ptr(), x.len(), act);
                    act_mul(IsaKind::Scalar, b.as_mut_ptr(), x.as_ptr(), x.len(), act);
                }
                assert_eq!(a, b, "{kind:?} {act:?}");
            }
            let (mut a, mut b) = (x.clone(), x.clone());
            // SAFETY: lengths agree; in place.
            unsafe {
                rms_norm(kind, a.as_mut_ptr(), a.as_ptr(), 150, &gain, 1e-6);
                rms_norm(IsaKind::Scalar, b.as_mut_ptr(), b.as_ptr(), 150, &gain, 1e-6);
            }
            assert!(
                a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs().max(1.0)),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn silu_and_gelu_are_what_they_say() {
        for i in -80..80 {
            let x = i as f32 / 8.0;
            // SAFETY: plain Rust.
            let (s, g) = unsafe { (silu(Plain, x), gelu(Plain, x)) };
            let d = f64::from(x);
            let silu = d / (1.0 + (-d).exp());
            let u = (2.0 / std::f64::consts::PI).sqrt() * (d + 0.044715 * d.powi(3));
            let gelu = 0.5 * d * (1.0 + u.tanh());
            assert!(
                (f64::from(s) - silu).abs() < 2e-6 && (f64::from(g) - gelu).abs() < 2e-6,
                "{x}"
            );
        }
    }
}
