//! The same bytes from every width of vectors, and from a row alone or among others.

use crate::simd::WIDEST;
use crate::{GgmlType, encode_row};

const COLUMNS: usize = 1792; // an odd number of super-blocks

fn weights() -> (Vec<f32>, Vec<f32>) {
    let mut state = 5u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let weights = (0..COLUMNS).map(|_| next().powi(3)).collect();
    (weights, (0..COLUMNS).map(|_| next().powi(4)).collect())
}

#[test]
fn every_width_gives_the_same_bytes() {
    let (weights, importance) = weights();
    for &ty in GgmlType::ALL {
        let mut bytes = vec![0; ty.row_bytes(COLUMNS as u64).unwrap() as usize];
        for importance in [None, Some(importance.as_slice())] {
            WIDEST.set(2);
            if encode_row(ty, &weights, importance, &mut bytes).is_err() {
                continue;
            }
            let widest = bytes.clone();
            for width in [0, 1] {
                WIDEST.set(width);
                bytes.fill(0);
                encode_row(ty, &weights, importance, &mut bytes).unwrap();
                assert!(bytes == widest, "{ty} differs at width {width}");
            }
        }
    }
}

#[test]
fn a_super_block_does_not_see_its_neighbours() {
    let (weights, _) = weights();
    for ty in [GgmlType::Q4_K, GgmlType::Q3_K, GgmlType::IQ4_XS, GgmlType::IQ2_XXS, GgmlType::IQ1_M]
    {
        let mut row = vec![0; ty.row_bytes(COLUMNS as u64).unwrap() as usize];
        encode_row(ty, &weights, None, &mut row).unwrap();
        let mut alone = vec![0; ty.block_bytes()];
        for (weights, expected) in weights.chunks(256).zip(row.chunks(ty.block_bytes())) {
            encode_row(ty, weights, None, &mut alone).unwrap();
            assert_eq!(alone, expected, "{ty}");
        }
    }
}
