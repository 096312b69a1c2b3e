//! Instruction sets as tokens: holding one proves that this processor has it. A kernel body is written once, generic
//! over `Floats` or `Isa`; only the vocabulary below is written per instruction set. NEON has its place here and is absent so far.
#![allow(unsafe_op_in_unsafe_fn, clippy::missing_safety_doc)] // one contract for all: see `Floats`

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod plain;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use plain::Plain;

/// Floats of the kernels: what operations on single rows and attention are written in.
///
/// # Safety
/// Every method is called only inside a function compiled for this instruction set (the `with` trampoline), and
/// pointers cover the bytes that the method's text names.
pub unsafe trait Floats: Copy + Send + Sync + 'static {
    /// Lanes of a vector; in products, weight rows of a panel.
    const LANES: usize;
    /// `LANES` floats.
    type F: Copy;
    /// The token, if this processor has the instructions.
    fn detect() -> Option<Self>;
    /// Runs `f` compiled for this instruction set.
    fn with<R>(self, f: impl FnOnce() -> R) -> R;
    unsafe fn fsplat(self, x: f32) -> Self::F;
    unsafe fn fload(self, p: *const f32) -> Self::F;
    unsafe fn fstore(self, p: *mut f32, x: Self::F);
    unsafe fn fadd(self, a: Self::F, b: Self::F) -> Self::F;
    unsafe fn fmul(self, a: Self::F, b: Self::F) -> Self::F;
    unsafe fn fmax(self, a: Self::F, b: Self::F) -> Self::F;
    unsafe fn fmin(self, a: Self::F, b: Self::F) -> Self::F;
    unsafe fn fdiv(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    unsafe fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `c - a * b`, rounded once.
    unsafe fn fnma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// Nearest integer, ties to even.
    unsafe fn fround(self, a: Self::F) -> Self::F;
    /// `2^n` for integral n in -126 ..= 127.
    unsafe fn exp2_int(self, n: Self::F) -> Self::F;
    /// Sum of the lanes, as a balanced tree.
    unsafe fn fsum(self, a: Self::F) -> f32;
    /// Largest lane.
    unsafe fn fmax_lane(self, a: Self::F) -> f32;
    /// `LANES` consecutive f16.
    unsafe fn load_f16(self, p: *const u16) -> Self::F;
    /// `LANES` consecutive signed bytes, as floats.
    unsafe fn load_i8(self, p: *const i8) -> Self::F;
}

/// Integers beside the floats: what products of quantized weights are written in. `V` is one dword per weight row, `F`
/// one float per weight row: lanes are rows, so no kernel needs a horizontal sum and a row's result cannot depend on
/// its neighbours.
///
/// # Safety
/// As [`Floats`].
pub unsafe trait Isa: Floats {
    /// Activation rows that a multiply kernel keeps in registers.
    const TILE: usize;
    /// What signed codes carry on top when they are multiplied, to be taken back with the sum of the activations.
    const BIAS: u8;
    /// `LANES` dwords.
    type V: Copy;
    /// Reads 16 bytes at `base + lane * stride` for every lane; vector t holds bytes `4t .. 4t+4` of each.
    unsafe fn load_rows(self, base: *const u8, stride: usize) -> [Self::V; 4];
    /// Asks for the cache line of `p`, which need not be valid.
    unsafe fn prefetch(self, p: *const u8);
    unsafe fn load(self, p: *const u8) -> Self::V;
    unsafe fn store(self, p: *mut u8, v: Self::V);
    unsafe fn splat(self, x: u32) -> Self::V;
    unsafe fn and(self, a: Self::V, b: Self::V) -> Self::V;
    unsafe fn or(self, a: Self::V, b: Self::V) -> Self::V;
    unsafe fn xor(self, a: Self::V, b: Self::V) -> Self::V;
    unsafe fn shl<const N: i32>(self, a: Self::V) -> Self::V;
    unsafe fn shr<const N: i32>(self, a: Self::V) -> Self::V;
    unsafe fn sar<const N: i32>(self, a: Self::V) -> Self::V;
    unsafe fn add_i32(self, a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub_i32(self, a: Self::V, b: Self::V) -> Self::V;
    /// The byte of `table` (16 bytes) that each byte of `codes`, at most 15, names.
    unsafe fn look_up16(self, table: *const u8, codes: Self::V) -> Self::V;
    /// `table[index]` for every lane.
    unsafe fn look_up4(self, table: *const u32, index: Self::V) -> Self::V;
    /// Eight bytes `table[index]` for every lane and each of two indices, as [`Isa::load_rows`] would read them.
    unsafe fn look_up8(self, table: *const u64, index: [Self::V; 2]) -> [Self::V; 4];
    /// Byte i of each dword: of `set` where bit `4 * N + i` of the dword of `bits` is set, else of `clear`.
    unsafe fn choose<const N: usize>(self, bits: Self::V, set: Self::V, clear: Self::V) -> Self::V;
    /// Pairs of i16: `a0*b0 + a1*b1` per dword.
    unsafe fn madd_i16(self, a: Self::V, b: Self::V) -> Self::V;
    /// A signed scale per row, in the form that [`Isa::sub_dot`] multiplies with.
    unsafe fn scale(self, a: Self::V) -> Self::V;
    /// `sums += scale * (codes . acts)` over `steps` dwords: `codes` is `steps` vectors of unsigned bytes up to 15
    /// (`depth` 8), 31 (4), 63 (2) or 127 (1), or of signed bytes plus [`Isa::BIAS`] (0); `acts[n]` has `4 * steps`
    /// signed bytes from -127. `depth` divides `steps`.
    unsafe fn sub_dot<const N: usize>(
        self,
        sums: &mut [Self::V; N],
        codes: *const u8,
        acts: [*const i8; N],
        scale: Self::V,
        steps: usize,
        depth: usize,
    );
    /// `sum + scale * (codes . acts)` for four dwords of codes in registers; limits as [`Isa::sub_dot`].
    unsafe fn quad_dot(
        self,
        sum: Self::V,
        codes: [Self::V; 4],
        acts: *const i8,
        scale: Self::V,
        depth: usize,
    ) -> Self::V;
    /// The f16 in the low half of each dword.
    unsafe fn half_low(self, v: Self::V) -> Self::F;
    /// The f16 in the high half of each dword.
    unsafe fn half_high(self, v: Self::V) -> Self::F;
    /// The f16 at `base + lane * stride`.
    unsafe fn half_rows(self, base: *const u8, stride: usize) -> Self::F;
    /// The byte at `base + lane * stride`.
    unsafe fn byte_rows(self, base: *const u8, stride: usize) -> Self::V;
    unsafe fn to_f32(self, v: Self::V) -> Self::F;
    unsafe fn fabs(self, a: Self::F) -> Self::F;
    /// `LANES` consecutive bf16.
    unsafe fn load_bf16(self, p: *const u16) -> Self::F;
    /// Writes `LANES` integral floats in -128 ..= 127 as bytes.
    unsafe fn store_i8(self, p: *mut i8, x: Self::F);
}

/// Entries of a table at two indices. (Loads one by one: gathers of eight bytes, or of two halves, are no faster.)
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn two_entries(table: *const u64, a: u32, b: u32) -> std::arch::x86_64::__m128i {
    let [a, b] = [*table.add(a as usize), *table.add(b as usize)];
    std::arch::x86_64::_mm_set_epi64x(b as i64, a as i64)
}

/// The instruction set a backend uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsaKind {
    /// Plain Rust: the oracle of all others, and the fallback.
    Scalar,
    /// x86-64-v3: AVX2, FMA, F16C.
    Avx2,
    /// AVX-512 F, BW, VL, DQ and VNNI.
    Avx512,
}

impl IsaKind {
    /// Everything that this processor can run, best last.
    pub fn available() -> Vec<IsaKind> {
        let mut kinds = vec![IsaKind::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            if Avx2::detect().is_some() {
                kinds.push(IsaKind::Avx2);
            }
            if Avx512::detect().is_some() {
                kinds.push(IsaKind::Avx512);
            }
        }
        kinds
    }

    /// The best of [`IsaKind::available`].
    pub fn best() -> IsaKind {
        Self::available().last().copied().unwrap_or(IsaKind::Scalar)
    }

    /// Name for people and for `--json`.
    pub fn name(self) -> &'static str {
        match self {
            IsaKind::Scalar => "scalar",
            IsaKind::Avx2 => "avx2",
            IsaKind::Avx512 => "avx512-vnni",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prints what the other tests iterate over: `cargo xtask avx512` looks for this line.
    #[test]
    fn kinds_of_this_host() {
        let kinds = IsaKind::available();
        eprintln!("kinds: {}", kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(" "));
        assert_eq!(kinds[0], IsaKind::Scalar);
        assert_eq!(kinds.last(), Some(&IsaKind::best()));
    }
}
