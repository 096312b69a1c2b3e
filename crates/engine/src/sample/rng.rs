//! The generator of draws: xoshiro256++ (Blackman and Vigna 2019) seeded by SplitMix64. Ours, so that a seed
//! gives the same answer with every future version of any library.

/// xoshiro256++.
#[derive(Clone, Debug)]
pub(super) struct Rng([u64; 4]);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        let mut state = seed;
        Rng(std::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let x = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            x ^ (x >> 31)
        }))
    }

    fn bits(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in `0.0 .. 1.0`, 53 bits.
    pub(super) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First outputs of rand_xoshiro's `Xoshiro256PlusPlus` test: state 1, 2, 3, 4.
    #[test]
    fn matches_the_published_generator() {
        let mut rng = Rng([1, 2, 3, 4]);
        let found: Vec<u64> = (0..4).map(|_| rng.bits()).collect();
        assert_eq!(found, [41943041, 58720359, 3588806011781223, 3591011842654386]);
    }
}
