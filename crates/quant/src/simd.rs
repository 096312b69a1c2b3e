//! One body of plain Rust, compiled for the widest vectors of the processor at hand. Results stay bit-equal everywhere:
//! sums go lane by lane in a fixed order and nothing is fused. Deliberately absent: intrinsics.

#![allow(unsafe_code)]

#[cfg(test)]
thread_local! {
    /// How wide tests go: 0 is the baseline.
    pub(crate) static WIDEST: std::cell::Cell<u8> = const { std::cell::Cell::new(2) };
}

#[cfg(all(test, target_arch = "x86_64"))]
fn allowed(width: u8) -> bool {
    WIDEST.get() >= width
}

#[cfg(all(not(test), target_arch = "x86_64"))]
#[inline(always)]
const fn allowed(_: u8) -> bool {
    true
}

/// Runs `task` compiled for AVX-512, AVX2 or the baseline, the widest that this processor has.
///
/// The closure and all that it calls must be `#[inline(always)]`, or they stay as compiled for the baseline.
#[inline(always)]
pub(crate) fn widest<R>(task: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        if allowed(2)
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
        {
            // SAFETY: the processor has the features.
            return unsafe { avx512(task) };
        }
        if allowed(1) && is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the feature.
            return unsafe { avx2(task) };
        }
    }
    task()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
fn avx512<R>(task: impl FnOnce() -> R) -> R {
    task()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2<R>(task: impl FnOnce() -> R) -> R {
    task()
}
