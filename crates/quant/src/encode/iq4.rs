//! The code book of IQ4_NL and IQ4_XS as levels, and the encoder of IQ4_NL.

use half::f16;

use super::half;
use super::kquants::Encode;
use super::lanes::{LANES, Lanes, Tile};
use super::levels::{self, Levels};
use crate::blocks::BlockIq4Nl;
use crate::tables::KVALUES_IQ4NL;

/// The sixteen levels of the code book.
pub(super) struct Iq4;

/// For each level plus 127 its code.
const CODES: [u8; 256] = {
    let mut codes = [0; 256];
    let mut i = 0;
    while i < 16 {
        codes[(KVALUES_IQ4NL[i] as i32 + 127) as usize] = i as u8;
        i += 1;
    }
    codes
};

impl Iq4 {
    /// The code of a level.
    #[inline(always)]
    pub fn code(level: f32) -> u8 {
        CODES[usize::from((level + 127.0) as u8)]
    }
}

impl Levels for Iq4 {
    const ENDS: [f32; 2] = [KVALUES_IQ4NL[0] as f32, KVALUES_IQ4NL[15] as f32];
    const TRIES: i32 = 7;
    const STEP: f32 = 1.5;

    /// Climbs from the lowest level over each border that lies below: no look-up, so it stays in vectors.
    #[inline(always)]
    fn nearest(u: Lanes) -> Lanes {
        u.map(
            #[inline(always)]
            |u| {
                let mut level = f32::from(KVALUES_IQ4NL[0]);
                for pair in KVALUES_IQ4NL.windows(2) {
                    let (low, high) = (f32::from(pair[0]), f32::from(pair[1]));
                    level += if u > 0.5 * (low + high) { high - low } else { 0.0 };
                }
                level
            },
        )
    }
}

impl Encode<32> for BlockIq4Nl {
    #[inline(always)]
    fn encode(tile: &Tile<32>, out: &mut [Self]) {
        let d = half::<1>(levels::scale::<Iq4, 32>(tile));
        let mut values = [0.0; 32 * LANES];
        levels::levels::<Iq4, 32>(tile, d, &mut values);
        for (lane, (out, values)) in out.iter_mut().zip(values.chunks_exact(32)).enumerate() {
            *out = BlockIq4Nl {
                d: f16::from_f32(d.0[lane]),
                qs: std::array::from_fn(|j| Iq4::code(values[j]) | Iq4::code(values[j + 16]) << 4),
            };
        }
    }
}
