//! The vocabulary on AVX2, FMA and F16C: 8 rows a vector. Products of unsigned codes and signed activations stay in
//! i16 as long as they provably fit, so one widening serves up to 8 multiply-adds.

use std::arch::x86_64::*;

use super::{Floats, Isa, two_entries};

/// Proof of AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

#[target_feature(enable = "avx2,fma,f16c,bmi2,popcnt")]
#[inline]
fn trampoline<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[inline(always)]
unsafe fn two_rows(low: *const u8, high: *const u8) -> __m256i {
    let low = _mm256_castsi128_si256(_mm_loadu_si128(low.cast()));
    _mm256_inserti128_si256::<1>(low, _mm_loadu_si128(high.cast()))
}

#[inline(always)]
unsafe fn dword(acts: *const i8, step: usize) -> __m256i {
    _mm256_set1_epi32(acts.cast::<i32>().add(step).read_unaligned())
}

/// Products of signed bytes, summed in pairs: |w| * (a with the sign of w) fits in i16 even for w = -128, as |a| <= 127.
#[inline(always)]
unsafe fn signed(w: __m256i, a: __m256i) -> __m256i {
    _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(a, w))
}

/// Transposes 4x4 dwords within each half: rows i and i + 4 in, dword i of all rows out.
#[inline(always)]
unsafe fn transpose([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    let (ab_lo, ab_hi) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let (cd_lo, cd_hi) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    [
        _mm256_unpacklo_epi64(ab_lo, cd_lo),
        _mm256_unpackhi_epi64(ab_lo, cd_lo),
        _mm256_unpacklo_epi64(ab_hi, cd_hi),
        _mm256_unpackhi_epi64(ab_hi, cd_hi),
    ]
}

/// Shuffle control that copies byte `byte` of each dword to all four.
#[inline(always)]
unsafe fn byte_of_each(byte: usize) -> __m256i {
    let low = _mm_setr_epi32(0, 0x0404_0404, 0x0808_0808, 0x0c0c_0c0c);
    _mm256_add_epi32(_mm256_broadcastsi128_si256(low), _mm256_set1_epi32(byte as i32 * 0x0101_0101))
}

// SAFETY: see the trait; each method is a handful of AVX2, FMA or F16C intrinsics.
unsafe impl Floats for Avx2 {
    const LANES: usize = 8;
    type F = __m256;
    fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("bmi2");
        has.then_some(Avx2(()))
    }
    #[inline(always)]
    fn with<R>(self, f: impl FnOnce() -> R) -> R {
        // SAFETY: `self` proves the features.
        unsafe { trampoline(f) }
    }
    #[inline(always)]
    unsafe fn fsplat(self, x: f32) -> __m256 {
        _mm256_set1_ps(x)
    }
    #[inline(always)]
    unsafe fn fload(self, p: *const f32) -> __m256 {
        _mm256_loadu_ps(p)
    }
    #[inline(always)]
    unsafe fn fstore(self, p: *mut f32, x: __m256) {
        _mm256_storeu_ps(p, x)
    }
    #[inline(always)]
    unsafe fn fadd(self, a: __m256, b: __m256) -> __m256 {
        _mm256_add_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fmul(self, a: __m256, b: __m256) -> __m256 {
        _mm256_mul_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fmax(self, a: __m256, b: __m256) -> __m256 {
        _mm256_max_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fmin(self, a: __m256, b: __m256) -> __m256 {
        _mm256_min_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fdiv(self, a: __m256, b: __m256) -> __m256 {
        _mm256_div_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        _mm256_fmadd_ps(a, b, c)
    }
    #[inline(always)]
    unsafe fn fnma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        _mm256_fnmadd_ps(a, b, c)
    }
    #[inline(always)]
    unsafe fn fround(self, a: __m256) -> __m256 {
        _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
    }
    #[inline(always)]
    unsafe fn exp2_int(self, n: __m256) -> __m256 {
        let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
    }
    #[inline(always)]
    unsafe fn fsum(self, a: __m256) -> f32 {
        let x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
        _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
    }
    #[inline(always)]
    unsafe fn fmax_lane(self, a: __m256) -> f32 {
        let x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
        _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> __m256 {
        _mm256_cvtph_ps(_mm_loadu_si128(p.cast()))
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> __m256 {
        _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())))
    }
}

// SAFETY: as above.
unsafe impl Isa for Avx2 {
    const TILE: usize = 4;
    const BIAS: u8 = 0;
    type V = __m256i;
    #[inline(always)]
    unsafe fn load_rows(self, base: *const u8, stride: usize) -> [__m256i; 4] {
        let at = |row: usize| base.add(row * stride);
        let (a, b) = (two_rows(at(0), at(4)), two_rows(at(1), at(5)));
        let (c, d) = (two_rows(at(2), at(6)), two_rows(at(3), at(7)));
        transpose([a, b, c, d])
    }
    #[inline(always)]
    unsafe fn prefetch(self, p: *const u8) {
        _mm_prefetch::<_MM_HINT_T0>(p.cast())
    }
    #[inline(always)]
    unsafe fn load(self, p: *const u8) -> __m256i {
        _mm256_loadu_si256(p.cast())
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u8, v: __m256i) {
        _mm256_storeu_si256(p.cast(), v)
    }
    #[inline(always)]
    unsafe fn splat(self, x: u32) -> __m256i {
        _mm256_set1_epi32(x as i32)
    }
    #[inline(always)]
    unsafe fn and(self, a: __m256i, b: __m256i) -> __m256i {
        _mm256_and_si256(a, b)
    }
    #[inline(always)]
    unsafe fn or(self, a: __m256i, b: __m256i) -> __m256i {
        _mm256_or_si256(a, b)
    }
    #[inline(always)]
    unsafe fn xor(self, a: __m256i, b: __m256i) -> __m256i {
        _mm256_xor_si256(a, b)
    }
    #[inline(always)]
    unsafe fn look_up16(self, table: *const u8, codes: __m256i) -> __m256i {
        _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(table.cast())), codes)
    }
    #[inline(always)]
    unsafe fn look_up4(self, table: *const u32, index: __m256i) -> __m256i {
        _mm256_i32gather_epi32::<4>(table.cast(), index)
    }
    #[inline(always)]
    unsafe fn look_up8(self, table: *const u64, index: [__m256i; 2]) -> [__m256i; 4] {
        let mut at = [[0u32; 8]; 2];
        self.store(at[0].as_mut_ptr().cast(), index[0]);
        self.store(at[1].as_mut_ptr().cast(), index[1]);
        let mut rows = [_mm256_setzero_si256(); 4];
        for (lane, row) in rows.iter_mut().enumerate() {
            let low = _mm256_castsi128_si256(two_entries(table, at[0][lane], at[1][lane]));
            let high = two_entries(table, at[0][lane + 4], at[1][lane + 4]);
            *row = _mm256_inserti128_si256::<1>(low, high);
        }
        transpose(rows)
    }
    #[inline(always)]
    unsafe fn choose<const N: usize>(self, bits: __m256i, set: __m256i, clear: __m256i) -> __m256i {
        let byte = _mm256_shuffle_epi8(bits, byte_of_each(N / 2));
        let bit = _mm256_set1_epi32(if N.is_multiple_of(2) {
            0x0804_0201
        } else {
            0x8040_2010_u32 as i32
        });
        let is_set = _mm256_cmpeq_epi8(_mm256_and_si256(byte, bit), bit);
        _mm256_blendv_epi8(clear, set, is_set)
    }
    #[inline(always)]
    unsafe fn shl<const N: i32>(self, a: __m256i) -> __m256i {
        _mm256_slli_epi32::<N>(a)
    }
    #[inline(always)]
    unsafe fn shr<const N: i32>(self, a: __m256i) -> __m256i {
        _mm256_srli_epi32::<N>(a)
    }
    #[inline(always)]
    unsafe fn sar<const N: i32>(self, a: __m256i) -> __m256i {
        _mm256_srai_epi32::<N>(a)
    }
    #[inline(always)]
    unsafe fn add_i32(self, a: __m256i, b: __m256i) -> __m256i {
        _mm256_add_epi32(a, b)
    }
    #[inline(always)]
    unsafe fn sub_i32(self, a: __m256i, b: __m256i) -> __m256i {
        _mm256_sub_epi32(a, b)
    }
    #[inline(always)]
    unsafe fn madd_i16(self, a: __m256i, b: __m256i) -> __m256i {
        _mm256_madd_epi16(a, b)
    }
    #[inline(always)]
    unsafe fn scale(self, a: __m256i) -> __m256i {
        // The same i16 for both halves of a dword of i16 sums.
        let low = _mm256_and_si256(a, _mm256_set1_epi32(0xffff));
        _mm256_or_si256(low, _mm256_slli_epi32::<16>(a))
    }
    #[inline(always)]
    unsafe fn sub_dot<const N: usize>(
        self,
        sums: &mut [__m256i; N],
        codes: *const u8,
        acts: [*const i8; N],
        scale: __m256i,
        steps: usize,
        depth: usize,
    ) {
        if depth == 0 {
            for step in 0..steps {
                let w = self.load(codes.add(32 * step));
                for n in 0..N {
                    let product = _mm256_madd_epi16(signed(w, dword(acts[n], step)), scale);
                    sums[n] = _mm256_add_epi32(sums[n], product);
                }
            }
            return;
        }
        for group in 0..steps / depth {
            let first = group * depth;
            let codes_at = |step: usize| self.load(codes.add(32 * step));
            let w = codes_at(first);
            let mut narrow = [w; N];
            for n in 0..N {
                narrow[n] = _mm256_maddubs_epi16(w, dword(acts[n], first));
            }
            for step in first + 1..first + depth {
                let w = codes_at(step);
                for n in 0..N {
                    let product = _mm256_maddubs_epi16(w, dword(acts[n], step));
                    narrow[n] = _mm256_add_epi16(narrow[n], product);
                }
            }
            for n in 0..N {
                sums[n] = _mm256_add_epi32(sums[n], _mm256_madd_epi16(narrow[n], scale));
            }
        }
    }
    #[inline(always)]
    unsafe fn quad_dot(
        self,
        sum: __m256i,
        codes: [__m256i; 4],
        acts: *const i8,
        scale: __m256i,
        depth: usize,
    ) -> __m256i {
        let mut products = codes;
        for (t, product) in products.iter_mut().enumerate() {
            *product = match depth {
                0 => signed(*product, dword(acts, t)),
                _ => _mm256_maddubs_epi16(*product, dword(acts, t)),
            };
        }
        let [a, b, c, d] = products;
        if depth < 2 {
            let low = _mm256_add_epi32(_mm256_madd_epi16(a, scale), _mm256_madd_epi16(b, scale));
            let high = _mm256_add_epi32(_mm256_madd_epi16(c, scale), _mm256_madd_epi16(d, scale));
            return _mm256_add_epi32(sum, _mm256_add_epi32(low, high));
        }
        let (low, high) = (_mm256_add_epi16(a, b), _mm256_add_epi16(c, d));
        if depth >= 4 {
            let narrow = _mm256_add_epi16(low, high);
            return _mm256_add_epi32(sum, _mm256_madd_epi16(narrow, scale));
        }
        let low = _mm256_madd_epi16(low, scale);
        _mm256_add_epi32(sum, _mm256_add_epi32(low, _mm256_madd_epi16(high, scale)))
    }
    #[inline(always)]
    unsafe fn half_low(self, v: __m256i) -> __m256 {
        let low = _mm256_and_si256(v, _mm256_set1_epi32(0xffff));
        let packed = _mm256_packus_epi32(low, low);
        let packed = _mm256_permute4x64_epi64::<0b1000>(packed);
        _mm256_cvtph_ps(_mm256_castsi256_si128(packed))
    }
    #[inline(always)]
    unsafe fn half_high(self, v: __m256i) -> __m256 {
        self.half_low(_mm256_srli_epi32::<16>(v))
    }
    #[inline(always)]
    unsafe fn half_rows(self, base: *const u8, stride: usize) -> __m256 {
        let at = |row: usize| base.add(row * stride).cast::<i16>().read_unaligned();
        let halves = _mm_set_epi16(at(7), at(6), at(5), at(4), at(3), at(2), at(1), at(0));
        _mm256_cvtph_ps(halves)
    }
    #[inline(always)]
    unsafe fn byte_rows(self, base: *const u8, stride: usize) -> __m256i {
        let at = |row: usize| i32::from(*base.add(row * stride));
        _mm256_setr_epi32(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7))
    }
    #[inline(always)]
    unsafe fn to_f32(self, v: __m256i) -> __m256 {
        _mm256_cvtepi32_ps(v)
    }
    #[inline(always)]
    unsafe fn fabs(self, a: __m256) -> __m256 {
        _mm256_andnot_ps(_mm256_set1_ps(-0.0), a)
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> __m256 {
        let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, x: __m256) {
        let wide = _mm256_cvtps_epi32(x);
        let halves =
            _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256::<1>(wide));
        _mm_storel_epi64(p.cast(), _mm_packs_epi16(halves, halves))
    }
}
