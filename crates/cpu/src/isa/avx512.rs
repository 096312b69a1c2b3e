//! The vocabulary on AVX-512 with VNNI: 16 rows a vector, unsigned-by-signed byte products summed straight into i32
//! by vpdpbusd. Signed codes are biased to unsigned, the bias is taken back with the sum of the activations.

use std::arch::x86_64::*;

use super::{Floats, Isa, two_entries};

/// Proof of AVX-512 F, BW, VL, DQ, VNNI, and of what AVX2 kernels need.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c,bmi2,popcnt"
)]
#[inline]
fn trampoline<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[inline(always)]
unsafe fn four_rows(base: *const u8, stride: usize) -> __m512i {
    let at = |row: usize| _mm_loadu_si128(base.add(4 * row * stride).cast());
    quarters([at(0), at(1), at(2), at(3)])
}

#[inline(always)]
unsafe fn dword(acts: *const i8, step: usize) -> __m512i {
    _mm512_set1_epi32(acts.cast::<i32>().add(step).read_unaligned())
}

/// Transposes 4x4 dwords within each quarter: rows i, i + 4, i + 8, i + 12 in, dword i of all rows out.
#[inline(always)]
unsafe fn transpose([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (ab_lo, ab_hi) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (cd_lo, cd_hi) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(ab_lo, cd_lo),
        _mm512_unpackhi_epi64(ab_lo, cd_lo),
        _mm512_unpacklo_epi64(ab_hi, cd_hi),
        _mm512_unpackhi_epi64(ab_hi, cd_hi),
    ]
}

/// Shuffle control that copies byte `byte` of each dword to all four.
#[inline(always)]
unsafe fn byte_of_each(byte: usize) -> __m512i {
    let low = _mm_setr_epi32(0, 0x0404_0404, 0x0808_0808, 0x0c0c_0c0c);
    _mm512_add_epi32(_mm512_broadcast_i32x4(low), _mm512_set1_epi32(byte as i32 * 0x0101_0101))
}

/// Four lanes of 16 bytes.
#[inline(always)]
unsafe fn quarters([a, b, c, d]: [__m128i; 4]) -> __m512i {
    let v = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(a), b);
    _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(v, c), d)
}

// SAFETY: see the trait; each method is a handful of AVX-512 intrinsics of the detected subsets.
unsafe impl Floats for Avx512 {
    const LANES: usize = 16;
    type F = __m512;
    fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vnni")
            && super::Avx2::detect().is_some();
        has.then_some(Avx512(()))
    }
    #[inline(always)]
    fn with<R>(self, f: impl FnOnce() -> R) -> R {
        // SAFETY: `self` proves the features.
        unsafe { trampoline(f) }
    }
    #[inline(always)]
    unsafe fn fsplat(self, x: f32) -> __m512 {
        _mm512_set1_ps(x)
    }
    #[inline(always)]
    unsafe fn fload(self, p: *const f32) -> __m512 {
        _mm512_loadu_ps(p)
    }
    #[inline(always)]
    unsafe fn fstore(self, p: *mut f32, x: __m512) {
        _mm512_storeu_ps(p, x)
    }
    #[inline(always)]
    unsafe fn fadd(self, a: __m512, b: __m512) -> __m512 {
        _mm512_add_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fmul(self, a: __m512, b: __m512) -> __m512 {
        _mm512_mul_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fmax(self, a: __m512, b: __m512) -> __m512 {
        _mm512_max_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fmin(self, a: __m512, b: __m512) -> __m512 {
        _mm512_min_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fdiv(self, a: __m512, b: __m512) -> __m512 {
        _mm512_div_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        _mm512_fmadd_ps(a, b, c)
    }
    #[inline(always)]
    unsafe fn fnma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        _mm512_fnmadd_ps(a, b, c)
    }
    #[inline(always)]
    unsafe fn fround(self, a: __m512) -> __m512 {
        _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
    }
    #[inline(always)]
    unsafe fn exp2_int(self, n: __m512) -> __m512 {
        let biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
        _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
    }
    #[inline(always)]
    unsafe fn fsum(self, a: __m512) -> f32 {
        let x = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
        let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
        let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
        _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
    }
    #[inline(always)]
    unsafe fn fmax_lane(self, a: __m512) -> f32 {
        _mm512_reduce_max_ps(a)
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> __m512 {
        _mm512_cvtph_ps(_mm256_loadu_si256(p.cast()))
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> __m512 {
        _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast())))
    }
}

// SAFETY: as above.
unsafe impl Isa for Avx512 {
    const TILE: usize = 8;
    const BIAS: u8 = 128;
    type V = __m512i;
    #[inline(always)]
    unsafe fn load_rows(self, base: *const u8, stride: usize) -> [__m512i; 4] {
        // 128-bit lane i of the loads holds rows 4i .. 4i+3, so the 4x4 transpose leaves rows in order.
        let lane = |row: usize| four_rows(base.add(row * stride), stride);
        transpose([lane(0), lane(1), lane(2), lane(3)])
    }
    #[inline(always)]
    unsafe fn prefetch(self, p: *const u8) {
        _mm_prefetch::<_MM_HINT_T0>(p.cast())
    }
    #[inline(always)]
    unsafe fn load(self, p: *const u8) -> __m512i {
        _mm512_loadu_si512(p.cast())
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u8, v: __m512i) {
        _mm512_storeu_si512(p.cast(), v)
    }
    #[inline(always)]
    unsafe fn splat(self, x: u32) -> __m512i {
        _mm512_set1_epi32(x as i32)
    }
    #[inline(always)]
    unsafe fn and(self, a: __m512i, b: __m512i) -> __m512i {
        _mm512_and_si512(a, b)
    }
    #[inline(always)]
    unsafe fn or(self, a: __m512i, b: __m512i) -> __m512i {
        _mm512_or_si512(a, b)
    }
    #[inline(always)]
    unsafe fn xor(self, a: __m512i, b: __m512i) -> __m512i {
        _mm512_xor_si512(a, b)
    }
    #[inline(always)]
    unsafe fn look_up16(self, table: *const u8, codes: __m512i) -> __m512i {
        _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(table.cast())), codes)
    }
    #[inline(always)]
    unsafe fn look_up4(self, table: *const u32, index: __m512i) -> __m512i {
        _mm512_i32gather_epi32::<4>(index, table.cast())
    }
    #[inline(always)]
    unsafe fn look_up8(self, table: *const u64, index: [__m512i; 2]) -> [__m512i; 4] {
        let mut at = [[0u32; 16]; 2];
        self.store(at[0].as_mut_ptr().cast(), index[0]);
        self.store(at[1].as_mut_ptr().cast(), index[1]);
        let mut rows = [_mm512_setzero_si512(); 4];
        for (lane, row) in rows.iter_mut().enumerate() {
            *row = quarters([
                two_entries(table, at[0][lane], at[1][lane]),
                two_entries(table, at[0][lane + 4], at[1][lane + 4]),
                two_entries(table, at[0][lane + 8], at[1][lane + 8]),
                two_entries(table, at[0][lane + 12], at[1][lane + 12]),
            ]);
        }
        transpose(rows)
    }
    #[inline(always)]
    unsafe fn choose<const N: usize>(self, bits: __m512i, set: __m512i, clear: __m512i) -> __m512i {
        let byte = _mm512_shuffle_epi8(bits, byte_of_each(N / 2));
        let bit = _mm512_set1_epi32(if N.is_multiple_of(2) {
            0x0804_0201
        } else {
            0x8040_2010_u32 as i32
        });
        _mm512_mask_blend_epi8(_mm512_test_epi8_mask(byte, bit), clear, set)
    }
    #[inline(always)]
    unsafe fn shl<const N: i32>(self, a: __m512i) -> __m512i {
        _mm512_sll_epi32(a, _mm_cvtsi32_si128(N))
    }
    #[inline(always)]
    unsafe fn shr<const N: i32>(self, a: __m512i) -> __m512i {
        _mm512_srl_epi32(a, _mm_cvtsi32_si128(N))
    }
    #[inline(always)]
    unsafe fn sar<const N: i32>(self, a: __m512i) -> __m512i {
        _mm512_sra_epi32(a, _mm_cvtsi32_si128(N))
    }
    #[inline(always)]
    unsafe fn add_i32(self, a: __m512i, b: __m512i) -> __m512i {
        _mm512_add_epi32(a, b)
    }
    #[inline(always)]
    unsafe fn sub_i32(self, a: __m512i, b: __m512i) -> __m512i {
        _mm512_sub_epi32(a, b)
    }
    #[inline(always)]
    unsafe fn madd_i16(self, a: __m512i, b: __m512i) -> __m512i {
        _mm512_madd_epi16(a, b)
    }
    #[inline(always)]
    unsafe fn scale(self, a: __m512i) -> __m512i {
        a
    }
    #[inline(always)]
    unsafe fn sub_dot<const N: usize>(
        self,
        sums: &mut [__m512i; N],
        codes: *const u8,
        acts: [*const i8; N],
        scale: __m512i,
        steps: usize,
        _depth: usize,
    ) {
        let mut dots = [_mm512_setzero_si512(); N];
        for step in 0..steps {
            let w = self.load(codes.add(64 * step));
            for n in 0..N {
                dots[n] = _mm512_dpbusd_epi32(dots[n], w, dword(acts[n], step));
            }
        }
        for n in 0..N {
            sums[n] = _mm512_add_epi32(sums[n], _mm512_mullo_epi32(dots[n], scale));
        }
    }
    #[inline(always)]
    unsafe fn quad_dot(
        self,
        sum: __m512i,
        codes: [__m512i; 4],
        acts: *const i8,
        scale: __m512i,
        _depth: usize,
    ) -> __m512i {
        let mut dot = _mm512_setzero_si512();
        for t in 0..4 {
            dot = _mm512_dpbusd_epi32(dot, codes[t], dword(acts, t));
        }
        _mm512_add_epi32(sum, _mm512_mullo_epi32(dot, scale))
    }
    #[inline(always)]
    unsafe fn half_low(self, v: __m512i) -> __m512 {
        _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v))
    }
    #[inline(always)]
    unsafe fn half_high(self, v: __m512i) -> __m512 {
        self.half_low(_mm512_srli_epi32::<16>(v))
    }
    #[inline(always)]
    unsafe fn half_rows(self, base: *const u8, stride: usize) -> __m512 {
        let mut halves = [0u16; 16];
        for (row, half) in halves.iter_mut().enumerate() {
            *half = base.add(row * stride).cast::<u16>().read_unaligned();
        }
        _mm512_cvtph_ps(_mm256_loadu_si256(halves.as_ptr().cast()))
    }
    #[inline(always)]
    unsafe fn byte_rows(self, base: *const u8, stride: usize) -> __m512i {
        let mut bytes = [0u8; 16];
        for (row, byte) in bytes.iter_mut().enumerate() {
            *byte = *base.add(row * stride);
        }
        _mm512_cvtepu8_epi32(_mm_loadu_si128(bytes.as_ptr().cast()))
    }
    #[inline(always)]
    unsafe fn to_f32(self, v: __m512i) -> __m512 {
        _mm512_cvtepi32_ps(v)
    }
    #[inline(always)]
    unsafe fn fabs(self, a: __m512) -> __m512 {
        _mm512_abs_ps(a)
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> __m512 {
        let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, x: __m512) {
        _mm_storeu_si128(p.cast(), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x)))
    }
}
