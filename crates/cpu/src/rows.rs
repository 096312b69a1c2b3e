//! Operations on single rows of floats: norm, rotation, gate nonlinearities, addition. Each row is computed alone,
//! lanes over columns with a fixed order, so batches cannot change a result. `exp` is ours, to be the same function
//! in the vector body and in its tail.
#![allow(unsafe_op_in_unsafe_fn)]

use hob_model::{Activation, NormKind, RopePairs};

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

/// Groups of a row that are normed each by itself.
#[derive(Clone, Copy)]
pub struct Group {
    /// What is divided by.
    pub kind: NormKind,
    /// Length.
    pub width: usize,
    /// Added to the mean square.
    pub eps: f32,
}

/// Norm of every group of a row; `gain` and `bias`, unless empty, are repeated along it. Rows may be the same memory.
///
/// # Safety
/// `src` and `dst` have `len` floats, a multiple of the group's; `gain` and `bias` are empty or multiples of it.
pub unsafe fn norm(
    kind: IsaKind,
    dst: *mut f32,
    src: *const f32,
    len: usize,
    group: Group,
    gain: &[f32],
    bias: &[f32],
) {
    dispatch!(kind, |isa| {
        for at in (0..len).step_by(group.width) {
            let part = |list: &[f32]| match list.is_empty() {
                true => std::ptr::null(),
                false => list.as_ptr().add(at % list.len()),
            };
            norm_group(isa, dst.add(at), src.add(at), group, part(gain), part(bias));
        }
    })
}

#[inline(always)]
unsafe fn norm_group<I: Floats>(
    isa: I,
    dst: *mut f32,
    src: *const f32,
    group: Group,
    gain: *const f32,
    bias: *const f32,
) {
    let (n, whole) = (group.width, group.width / I::LANES * I::LANES);
    let mean = match group.kind {
        NormKind::Rms => 0.0,
        NormKind::Layer => sum(isa, src, n, |isa, x, sum| isa.fadd(x, sum), |x| x) / n as f32,
    };
    let means = isa.fsplat(mean);
    let square = |isa: I, x: I::F, sum: I::F| {
        let x = isa.fnma(means, isa.fsplat(1.0), x);
        isa.fma(x, x, sum)
    };
    let squares = match group.kind {
        NormKind::Rms => sum(isa, src, n, |isa, x, sum| isa.fma(x, x, sum), |x| x * x),
        NormKind::Layer => sum(isa, src, n, square, |x| (x - mean) * (x - mean)),
    };
    let scale = 1.0 / (squares / n as f32 + group.eps).sqrt();
    let scales = isa.fsplat(scale);
    for i in (0..whole).step_by(I::LANES) {
        let mut x = isa.fload(src.add(i));
        if group.kind == NormKind::Layer {
            x = isa.fnma(means, isa.fsplat(1.0), x);
        }
        x = isa.fmul(x, scales);
        if !gain.is_null() {
            x = isa.fmul(x, isa.fload(gain.add(i)));
        }
        if !bias.is_null() {
            x = isa.fadd(x, isa.fload(bias.add(i)));
        }
        isa.fstore(dst.add(i), x);
    }
    for i in whole..n {
        let mut x = (*src.add(i) - mean) * scale;
        if !gain.is_null() {
            x *= *gain.add(i);
        }
        if !bias.is_null() {
            x += *bias.add(i);
        }
        *dst.add(i) = x;
    }
}

/// A sum over `n` elements: vectors first, then the rest one by one.
#[inline(always)]
unsafe fn sum<I: Floats>(
    isa: I,
    x: *const f32,
    n: usize,
    add: impl Fn(I, I::F, I::F) -> I::F,
    one: impl Fn(f32) -> f32,
) -> f32 {
    let whole = n / I::LANES * I::LANES;
    let mut sums = isa.fsplat(0.0);
    for i in (0..whole).step_by(I::LANES) {
        sums = add(isa, isa.fload(x.add(i)), sums);
    }
    (whole..n).fold(isa.fsum(sums), |sum, i| sum + one(*x.add(i)))
}

/// `y += x * w`, element by element.
///
/// # Safety
/// All have `len` floats.
pub unsafe fn add_scaled(kind: IsaKind, y: *mut f32, x: *const f32, w: *const f32, len: usize) {
    dispatch!(kind, |isa| fused(isa, y, x, w, len))
}

#[inline(always)]
unsafe fn fused<I: Floats>(isa: I, y: *mut f32, x: *const f32, w: *const f32, len: usize) {
    let whole = len / I::LANES * I::LANES;
    for i in (0..whole).step_by(I::LANES) {
        let sum = isa.fma(isa.fload(x.add(i)), isa.fload(w.add(i)), isa.fload(y.add(i)));
        isa.fstore(y.add(i), sum);
    }
    for i in whole..len {
        *y.add(i) = (*x.add(i)).mul_add(*w.add(i), *y.add(i));
    }
}

/// `dst += src`.
///
/// # Safety
/// Both have `len` floats.
pub unsafe fn add(kind: IsaKind, dst: *mut f32, src: *const f32, len: usize) {
    dispatch!(kind, |isa| each(isa, dst, src, len, |a, b| isa.fadd(a, b), |a, b| a + b))
}

/// `gate = act(gate) * up`; gpt-oss's activation clamps both and adds one to `up`.
///
/// # Safety
/// Both have `len` floats.
pub unsafe fn act_mul(kind: IsaKind, gate: *mut f32, up: *const f32, len: usize, act: Activation) {
    dispatch!(kind, |isa| match act {
        Activation::Identity => {
            each(isa, gate, up, len, |g, u| isa.fmul(g, u), |g, u| g * u)
        }
        Activation::Sigmoid => {
            let one = |g, u| plain_sigmoid(g) * u;
            each(isa, gate, up, len, |g, u| isa.fmul(squash(isa, g), u), one)
        }
        Activation::Silu => {
            each(isa, gate, up, len, |g, u| isa.fmul(silu(isa, g), u), |g, u| silu(Plain, g) * u)
        }
        Activation::GeluTanh => {
            each(isa, gate, up, len, |g, u| isa.fmul(gelu(isa, g), u), |g, u| gelu(Plain, g) * u)
        }
        Activation::Gelu => {
            let exact = |g, u| exact_gelu(g) * u;
            for i in 0..len {
                *gate.add(i) = exact(*gate.add(i), *up.add(i));
            }
        }
        Activation::SwigluOai => {
            each(isa, gate, up, len, |g, u| swiglu(isa, g, u), |g, u| swiglu(Plain, g, u))
        }
    })
}

/// `x = act(x)`.
///
/// # Safety
/// `x` has `len` floats.
pub unsafe fn act(kind: IsaKind, x: *mut f32, len: usize, act: Activation) {
    match act {
        Activation::Identity => {}
        Activation::Gelu => (0..len).for_each(|i| *x.add(i) = exact_gelu(*x.add(i))),
        Activation::Silu => {
            dispatch!(kind, |isa| each(isa, x, x, len, |x, _| silu(isa, x), |x, _| silu(Plain, x)))
        }
        Activation::GeluTanh => {
            dispatch!(kind, |isa| each(isa, x, x, len, |x, _| gelu(isa, x), |x, _| gelu(Plain, x)))
        }
        Activation::Sigmoid | Activation::SwigluOai => {
            (0..len).for_each(|i| {
                let g = *x.add(i);
                *x.add(i) =
                    if act == Activation::Sigmoid { sigmoid(g) } else { swiglu(Plain, g, 0.0) };
            });
        }
    }
}

/// 1 / (1 + exp(-x)).
pub fn sigmoid(x: f32) -> f32 {
    // SAFETY: plain Rust.
    unsafe { plain_sigmoid(x) }
}

/// ln(1 + exp(x)).
pub fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
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
unsafe fn plain_sigmoid(x: f32) -> f32 {
    squash(Plain, x)
}

/// The sigmoid.
#[inline(always)]
unsafe fn squash<I: Floats>(isa: I, x: I::F) -> I::F {
    let down = exp(isa, isa.fnma(x, isa.fsplat(1.0), isa.fsplat(0.0)));
    isa.fdiv(isa.fsplat(1.0), isa.fadd(isa.fsplat(1.0), down))
}

/// `g sigmoid(1.702 g) (u + 1)` with both clamped at 7.
#[inline(always)]
unsafe fn swiglu<I: Floats>(isa: I, g: I::F, u: I::F) -> I::F {
    let (most, least) = (isa.fsplat(7.0), isa.fsplat(-7.0));
    let (g, u) = (isa.fmin(g, most), isa.fmax(isa.fmin(u, most), least));
    let down = exp(isa, isa.fmul(g, isa.fsplat(-1.702)));
    isa.fmul(isa.fdiv(g, isa.fadd(isa.fsplat(1.0), down)), isa.fadd(u, isa.fsplat(1.0)))
}

/// GELU by the error function, whose complement is W. J. Cody's rational approximation by way of Numerical Recipes'
/// Chebyshev fit (relative error below 1.2e-7).
fn exact_gelu(x: f32) -> f32 {
    let z = f64::from(x.abs()) * std::f64::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * z);
    let fit = [
        0.170_872_77,
        -0.822_152_23,
        1.488_515_87,
        -1.135_203_98,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_68,
        -1.265_512_23,
    ];
    let complement = t * (-z * z + fit.iter().fold(0.0, |sum, c| sum * t + c)).exp();
    let share = if x >= 0.0 { 2.0 - complement } else { complement };
    (0.5 * f64::from(x) * share) as f32
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

/// Rotates every head of a row (`heads` of `head_dim`) in place from its element `first` on, by the angles of its
/// position.
pub fn rope(
    row: &mut [f32],
    head_dim: usize,
    first: usize,
    pairs: RopePairs,
    cos: &[f32],
    sin: &[f32],
) {
    let half = cos.len();
    for head in row.chunks_exact_mut(head_dim) {
        let head = &mut head[first..];
        match pairs {
            RopePairs::Adjacent => {
                for (pair, (c, s)) in head.chunks_exact_mut(2).zip(cos.iter().zip(sin)) {
                    let (a, b) = (pair[0], pair[1]);
                    pair[0] = a * c - b * s;
                    pair[1] = a * s + b * c;
                }
            }
            RopePairs::Halves => {
                let (front, rest) = head.split_at_mut(half);
                for ((x, y), (c, s)) in
                    front.iter_mut().zip(&mut rest[..half]).zip(cos.iter().zip(sin))
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

    const ACTIVATIONS: [Activation; 5] = [
        Activation::Identity,
        Activation::Sigmoid,
        Activation::Silu,
        Activation::GeluTanh,
        Activation::SwigluOai,
    ];

    #[test]
    fn vector_rows_equal_plain_ones() {
        let x: Vec<f32> = (0..150).map(|i| ((i * 37 % 101) as f32 - 50.0) / 7.0).collect();
        let gain: Vec<f32> = (0..50).map(|i| 1.0 + i as f32 / 50.0).collect();
        for kind in IsaKind::available() {
            for act in ACTIVATIONS {
                let (mut a, mut b) = (x.clone(), x.clone());
                // SAFETY: lengths agree.
                unsafe {
                    act_mul(kind, a.as_mut_ptr(), x.as_ptr(), x.len(), act);
                    act_mul(IsaKind::Scalar, b.as_mut_ptr(), x.as_ptr(), x.len(), act);
                }
                assert_eq!(a, b, "{kind:?} {act:?}");
            }
            for norm_kind in [NormKind::Rms, NormKind::Layer] {
                let group = Group { kind: norm_kind, width: 50, eps: 1e-6 };
                let bias = if norm_kind == NormKind::Layer { &x[..50] } else { &[] };
                let (mut a, mut b) = (x.clone(), x.clone());
                // SAFETY: lengths agree; in place.
                unsafe {
                    norm(kind, a.as_mut_ptr(), a.as_ptr(), 150, group, &gain, bias);
                    norm(IsaKind::Scalar, b.as_mut_ptr(), b.as_ptr(), 150, group, &gain, bias);
                }
                let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 2e-6 * b.abs().max(1.0);
                assert!(a.iter().zip(&b).all(near), "{kind:?} {norm_kind:?}");
            }
        }
    }

    #[test]
    fn the_exact_gelu_is_exact() {
        // x * normal distribution function, by scipy.
        for (x, y) in [(1.0, 0.841_344_7), (-2.0, -0.045_500_264), (0.5, 0.345_731_23)] {
            assert!((exact_gelu(x) - y).abs() < 2e-7, "{x}: {}", exact_gelu(x));
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
