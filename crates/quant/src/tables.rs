//! The code books of the formats: which weights an index, a sign byte or a nibble stands for.
//! They are facts of the GGUF format (source: ggml-common.h), stored as packed level numbers and
//! expanded at compile time; the tests reach every entry. Deliberately absent: encoder look-ups.

mod iq1;
mod iq2;
mod iq3;

pub use iq1::{IQ1_DELTA, IQ1S_GRID};
pub use iq2::{IQ2S_GRID, IQ2XS_GRID, IQ2XXS_GRID};
pub use iq3::{IQ3S_GRID, IQ3XXS_GRID};

/// IQ4_NL and IQ4_XS: the weight (before scaling) of each 4-bit code.
pub const KVALUES_IQ4NL: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// MXFP4 and NVFP4: twice the E2M1 value of each 4-bit code, so that all are integers. The other
/// factor, one half, is in the scales. Source: OCP Microscaling Formats 1.0, table of FP4.
pub const KVALUES_FP4: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// IQ2_XXS, IQ2_XS, IQ3_XXS: the signs of 8 weights (bit j set: weight j is negative) for each
/// 7-bit code. The code holds weights 0 to 6; weight 7 makes the number of minus signs even.
pub const KSIGNS: [u8; 128] = {
    let mut signs = [0; 128];
    let mut code = 0;
    while code < 128 {
        let parity = (code as u8).count_ones() as u8 & 1;
        signs[code] = code as u8 | parity << 7;
        code += 1;
    }
    signs
};

/// Expands codes of eight 2-bit level numbers (weight 0 in the lowest bits) to one byte a weight
/// (weight 0 in the lowest byte).
const fn expand8<const N: usize>(codes: &[u16; N], levels: [u8; 3]) -> [u64; N] {
    let mut grid = [0; N];
    let mut i = 0;
    while i < N {
        let mut weight = 0;
        while weight < 8 {
            let level = levels[(codes[i] >> (2 * weight)) as usize & 3];
            grid[i] |= (level as u64) << (8 * weight);
            weight += 1;
        }
        i += 1;
    }
    grid
}

/// Expands codes of four 3-bit level numbers (one octal digit each, weight 0 the last) to one byte
/// a weight (weight 0 in the lowest byte).
const fn expand4<const N: usize>(codes: &[u16; N], levels: [u8; 8]) -> [u32; N] {
    let mut grid = [0; N];
    let mut i = 0;
    while i < N {
        let mut weight = 0;
        while weight < 4 {
            let level = levels[(codes[i] >> (3 * weight)) as usize & 7];
            grid[i] |= (level as u32) << (8 * weight);
            weight += 1;
        }
        i += 1;
    }
    grid
}
