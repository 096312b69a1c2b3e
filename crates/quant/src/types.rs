//! The tensor types a GGUF file may carry: id, name, block length and block bytes, in one table.
//! Source: `enum ggml_type` of ggml.h and the block structs of ggml-common.h. Deliberately absent:
//! Q8_1 and Q8_K (activation formats that never reach a file) and ids whose support ggml removed.

/// Writes the enum, `ALL` and the look-ups from one list, so that they cannot disagree.
macro_rules! ggml_types {
    ($($name:ident = $id:literal, $len:literal weights in $bytes:literal, $doc:literal;)*) => {
        /// Type of a tensor's elements as stored in a GGUF file. The discriminant is the file's id.
        #[allow(non_camel_case_types)]
        #[repr(u32)]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
        pub enum GgmlType {
            $(#[doc = $doc] $name = $id,)*
        }

        impl GgmlType {
            /// Every type, by rising id.
            pub const ALL: &[GgmlType] = &[$(GgmlType::$name,)*];

            /// The type with this id, or `None` for ids that no file of today carries.
            pub fn from_id(id: u32) -> Option<Self> {
                match id {
                    $($id => Some(GgmlType::$name),)*
                    _ => None,
                }
            }

            /// ggml's name, for example `"Q4_K"`.
            pub fn name(self) -> &'static str {
                match self {
                    $(GgmlType::$name => stringify!($name),)*
                }
            }

            /// Weights in a block; 1 for types that are not quantized.
            pub const fn block_len(self) -> usize {
                match self {
                    $(GgmlType::$name => $len,)*
                }
            }

            /// Bytes of a block.
            pub const fn block_bytes(self) -> usize {
                match self {
                    $(GgmlType::$name => $bytes,)*
                }
            }
        }
    };
}

ggml_types! {
    F32 = 0, 1 weights in 4, "IEEE 754 binary32.";
    F16 = 1, 1 weights in 2, "IEEE 754 binary16.";
    Q4_0 = 2, 32 weights in 18, "4-bit, symmetric.";
    Q4_1 = 3, 32 weights in 20, "4-bit with a minimum.";
    Q5_0 = 6, 32 weights in 22, "5-bit, symmetric.";
    Q5_1 = 7, 32 weights in 24, "5-bit with a minimum.";
    Q8_0 = 8, 32 weights in 34, "8-bit, symmetric.";
    Q2_K = 10, 256 weights in 84, "2-bit super-block, 16 groups with scale and minimum.";
    Q3_K = 11, 256 weights in 110, "3-bit super-block, 16 groups with scale.";
    Q4_K = 12, 256 weights in 144, "4-bit super-block, 8 groups with scale and minimum.";
    Q5_K = 13, 256 weights in 176, "5-bit super-block, 8 groups with scale and minimum.";
    Q6_K = 14, 256 weights in 210, "6-bit super-block, 16 groups with scale.";
    IQ2_XXS = 16, 256 weights in 66, "2.06 bits, grid of 256 points with signs.";
    IQ2_XS = 17, 256 weights in 74, "2.31 bits, grid of 512 points with signs.";
    IQ3_XXS = 18, 256 weights in 98, "3.06 bits, grid of 256 points with signs.";
    IQ1_S = 19, 256 weights in 50, "1.56 bits, ternary grid of 2048 points.";
    IQ4_NL = 20, 32 weights in 18, "4-bit, non-linear levels.";
    IQ3_S = 21, 256 weights in 110, "3.44 bits, grid of 512 points with signs.";
    IQ2_S = 22, 256 weights in 82, "2.56 bits, grid of 1024 points with signs.";
    IQ4_XS = 23, 256 weights in 136, "4-bit super-block, non-linear levels.";
    I8 = 24, 1 weights in 1, "Signed 8-bit integer.";
    I16 = 25, 1 weights in 2, "Signed 16-bit integer.";
    I32 = 26, 1 weights in 4, "Signed 32-bit integer.";
    I64 = 27, 1 weights in 8, "Signed 64-bit integer.";
    F64 = 28, 1 weights in 8, "IEEE 754 binary64.";
    IQ1_M = 29, 256 weights in 56, "1.75 bits, ternary grid of 2048 points.";
    BF16 = 30, 1 weights in 2, "The upper half of a binary32.";
    TQ1_0 = 34, 256 weights in 54, "Ternary, five weights a byte.";
    TQ2_0 = 35, 256 weights in 66, "Ternary, four weights a byte.";
    MXFP4 = 39, 32 weights in 17, "OCP microscaling E2M1 with an E8M0 scale.";
    NVFP4 = 40, 64 weights in 36, "E2M1 with a UE4M3 scale for each 16 weights.";
    Q1_0 = 41, 128 weights in 18, "1-bit: a sign and a scale.";
    Q2_0 = 42, 64 weights in 18, "2-bit: levels -1, 0, 1, 2 and a scale.";
}

impl GgmlType {
    /// The id in the file.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// The type with this name; upper and lower case are the same.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|ty| ty.name().eq_ignore_ascii_case(name))
    }

    /// Bytes of a row of `n` weights; `None` when `n` is not a multiple of the block length or the
    /// result does not fit in 64 bits.
    pub fn row_bytes(self, n: u64) -> Option<u64> {
        let len = self.block_len() as u64;
        if !n.is_multiple_of(len) {
            return None;
        }
        (n / len).checked_mul(self.block_bytes() as u64)
    }
}

impl std::fmt::Display for GgmlType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
