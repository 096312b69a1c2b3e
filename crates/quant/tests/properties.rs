//! What must hold for every type and any bytes: no panic, sizes that agree, errors that say why,
//! and encoders whose error is bounded by their step.

use hob_quant::blocks::*;
use hob_quant::decode::planes;
use hob_quant::{Block, Decode, GgmlType, QuantError, blocks, decode_row, encode_row, tables};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

fn any_type() -> impl Strategy<Value = GgmlType> {
    select(GgmlType::ALL)
}

proptest! {
    /// Any bytes and any number of weights: decoded when they fit, else an error.
    #[test]
    fn decode_takes_any_bytes(ty in any_type(), bytes in vec(any::<u8>(), 0..1200), n in 0usize..700) {
        let fits = ty.row_bytes(n as u64) == Some(bytes.len() as u64);
        prop_assert_eq!(decode_row(ty, &bytes, &mut vec![0.0; n]).is_ok(), fits);
    }

    /// Whole blocks of any bytes decode, and each block for itself gives the same weights.
    #[test]
    fn blocks_decode_alone_as_in_a_row(ty in any_type(), seed in vec(any::<u8>(), 3 * 292)) {
        let bytes = &seed[..3 * ty.block_bytes()];
        let mut row = vec![0.0; 3 * ty.block_len()];
        decode_row(ty, bytes, &mut row).unwrap();
        for (bytes, row) in bytes.chunks(ty.block_bytes()).zip(row.chunks(ty.block_len())) {
            let mut alone = vec![0.0; ty.block_len()];
            decode_row(ty, bytes, &mut alone).unwrap();
            for (a, b) in alone.iter().zip(row) {
                prop_assert!(a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan());
            }
        }
    }

    /// Row sizes are exact, additive, and never overflow into a number.
    #[test]
    fn row_bytes_is_exact(ty in any_type(), n in any::<u64>()) {
        let (len, bytes) = (ty.block_len() as u128, ty.block_bytes() as u128);
        let exact = u128::from(n) / len * bytes;
        let expected = u64::try_from(exact).ok().filter(|_| u128::from(n) % len == 0);
        prop_assert_eq!(ty.row_bytes(n), expected);
        let whole = n - n % len as u64;
        prop_assert_eq!(ty.row_bytes(whole), u64::try_from(exact).ok());
    }

    /// Any weights, even NaN and infinite ones, encode without a panic.
    #[test]
    fn encode_takes_any_weights(ty in any_type(), bits in vec(any::<u32>(), 256)) {
        let weights: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        let mut bytes = vec![0; ty.row_bytes(256).unwrap() as usize];
        let known = matches!(encode_row(ty, &weights, None, &mut bytes), Ok(()) | Err(QuantError::NoEncoder { .. }));
        prop_assert!(known);
    }

    /// Encode, then decode: off by half a step, plus what rounding the scale to f16 costs.
    #[test]
    fn encoders_keep_their_bound(weights in vec(-100f32..100.0, 32)) {
        let amax = weights.iter().fold(0f32, |m, w| m.max(w.abs()));
        let min = weights.iter().fold(f32::MAX, |m, w| m.min(*w));
        let max = weights.iter().fold(f32::MIN, |m, w| m.max(*w));
        // One step at the far end of the symmetric formats: +8 and +16 have no code.
        let bounds = [
            (GgmlType::F32, 0.0),
            (GgmlType::F16, 0.0),
            (GgmlType::BF16, amax / 256.0),
            (GgmlType::Q8_0, amax / 127.0 / 2.0),
            (GgmlType::Q4_0, amax / 8.0),
            (GgmlType::Q5_0, amax / 16.0),
            (GgmlType::Q4_1, (max - min) / 15.0 / 2.0),
            (GgmlType::Q5_1, (max - min) / 31.0 / 2.0),
        ];
        for (ty, step) in bounds {
            let half_precision = if ty == GgmlType::F32 { 0.0 } else { 3.0 * amax / 2048.0 + 1e-7 };
            let mut bytes = vec![0; ty.row_bytes(32).unwrap() as usize];
            encode_row(ty, &weights, None, &mut bytes).unwrap();
            let mut decoded = vec![0.0; 32];
            decode_row(ty, &bytes, &mut decoded).unwrap();
            for (a, b) in weights.iter().zip(&decoded) {
                prop_assert!((a - b).abs() <= step + half_precision, "{ty}: {a} became {b}");
            }
        }
    }

    /// Whatever is encoded decodes to numbers, no further from the weights than the format's coarsest way would take them.
    #[test]
    fn searches_stay_near(
        shape in vec(-1f32..1.0, 512),
        power in -30i32..5,
        spike in proptest::option::of((0usize..512, 1f32..1000.0)),
        zeros in 0usize..512,
        importance in proptest::option::of(vec(prop_oneof![Just(0f32), 0f32..1.0, 1e-30f32..1e30], 512)),
    ) {
        let scale = 10f32.powi(power);
        let mut weights: Vec<f32> = shape.iter().map(|x| x * scale).collect();
        weights[..zeros].fill(0.0);
        if let Some((at, times)) = spike {
            weights[at] = (scale * times).min(60_000.0);
        }
        for &ty in GgmlType::ALL {
            let mut bytes = vec![0; ty.row_bytes(512).unwrap() as usize];
            let done = encode_row(ty, &weights, importance.as_deref(), &mut bytes);
            if matches!(done, Err(QuantError::NoEncoder { .. })) {
                continue;
            }
            done.unwrap();
            let mut decoded = vec![f32::NAN; 512];
            decode_row(ty, &bytes, &mut decoded).unwrap();
            prop_assert!(decoded.iter().all(|x| x.is_finite()), "{ty}");
            if importance.is_none() {
                // All zeros would be as far off as the weights are large; IQ1 has no zero.
                let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>();
                let error = norm(&mut weights.iter().zip(&decoded).map(|(a, b)| a - b));
                let size = norm(&mut weights.iter().copied());
                prop_assert!(error <= 1.001 * size + 1e-9, "{ty}: {error} of {size}");
            }
        }
    }

    /// What is no number does not stop an encoder.
    #[test]
    fn hostile_weights_do_no_harm(
        weights in vec(prop_oneof![
            Just(f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY), Just(f32::MAX), Just(-0.0), any::<f32>(),
        ], 256),
        importance in proptest::option::of(vec(prop_oneof![Just(f32::NAN), any::<f32>()], 256)),
    ) {
        for &ty in GgmlType::ALL {
            let mut bytes = vec![0; ty.row_bytes(256).unwrap() as usize];
            let _ = encode_row(ty, &weights, importance.as_deref(), &mut bytes);
        }
    }

    /// Decoded weights are fixed points: encoding them again changes no weight by more than the
    /// rounding of the scale.
    #[test]
    fn q8_0_survives_a_second_round(weights in vec(-100f32..100.0, 32)) {
        let (mut bytes, mut once, mut twice) = (vec![0; 34], vec![0.0; 32], vec![0.0; 32]);
        encode_row(GgmlType::Q8_0, &weights, None, &mut bytes).unwrap();
        decode_row(GgmlType::Q8_0, &bytes, &mut once).unwrap();
        encode_row(GgmlType::Q8_0, &once, None, &mut bytes).unwrap();
        decode_row(GgmlType::Q8_0, &bytes, &mut twice).unwrap();
        prop_assert_eq!(once, twice);
    }

    /// Views are the blocks that the bytes hold, wherever they may start.
    #[test]
    fn views_agree_with_rows(bytes in vec(any::<u8>(), 4 * 144), skip in 0usize..3) {
        match blocks::<BlockQ4K>(&bytes[skip..][..3 * 144]) {
            Ok(view) => {
                let (mut row, mut one) = (vec![0.0; 3 * 256], [0.0; 256]);
                decode_row(GgmlType::Q4_K, &bytes[skip..][..3 * 144], &mut row).unwrap();
                for (block, row) in view.iter().zip(row.chunks(256)) {
                    block.decode(&mut one);
                    prop_assert!(one.iter().zip(row).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan()));
                }
                prop_assert_eq!(view.len(), 3);
            }
            Err(error) => {
                prop_assert_eq!(error, QuantError::Misaligned { ty: GgmlType::Q4_K });
                prop_assert_eq!(bytes[skip..].as_ptr().addr() % 2, 1);
            }
        }
    }
}

#[test]
fn names_and_ids_lead_back() {
    for &ty in GgmlType::ALL {
        assert_eq!(GgmlType::from_id(ty.id()), Some(ty));
        assert_eq!(GgmlType::from_name(ty.name()), Some(ty));
        assert_eq!(GgmlType::from_name(&ty.name().to_lowercase()), Some(ty));
    }
    // Removed by ggml (4, 5, 31-33, 36-38), never in files (9, 15), unknown.
    for id in [4, 5, 9, 15, 31, 32, 33, 36, 37, 38, 43, u32::MAX] {
        assert_eq!(GgmlType::from_id(id), None);
    }
    assert_eq!(GgmlType::from_name("Q4_K_M"), None);
}

#[test]
fn plain_numbers_decode() {
    let check = |ty, bytes: &[u8], expected: &[f32]| {
        let mut found = vec![f32::NAN; expected.len()];
        decode_row(ty, bytes, &mut found).unwrap();
        assert_eq!(found, expected, "{ty}");
    };
    check(GgmlType::I8, &[0, 127, 128, 255], &[0.0, 127.0, -128.0, -1.0]);
    check(GgmlType::I16, &[0xff, 0x7f, 0, 0x80], &[32767.0, -32768.0]);
    check(GgmlType::I32, &(-7i32).to_le_bytes(), &[-7.0]);
    check(GgmlType::I64, &i64::MIN.to_le_bytes(), &[-9.223_372e18]);
    check(GgmlType::F64, &0.1f64.to_le_bytes(), &[0.1]);
    check(GgmlType::F32, &f32::MIN_POSITIVE.to_le_bytes(), &[f32::MIN_POSITIVE]);
}

#[test]
fn errors_say_what_is_wrong() {
    let error = decode_row(GgmlType::Q4_K, &[0; 144], &mut [0.0; 255]).unwrap_err();
    assert_eq!(error.to_string(), "255 weights do not fill blocks of Q4_K (256 weights each)");
    let error = decode_row(GgmlType::Q8_0, &[0; 33], &mut [0.0; 32]).unwrap_err();
    assert_eq!(error.to_string(), "32 weights of Q8_0 take 34 bytes, found 33");
    let error = encode_row(GgmlType::TQ1_0, &[0.0; 256], None, &mut [0; 54]).unwrap_err();
    assert_eq!(error.to_string(), "no encoder for TQ1_0");
    let error = blocks::<BlockMxfp4>(&[0; 18]).unwrap_err();
    assert_eq!(error.to_string(), "18 bytes are no whole number of MXFP4 blocks (17 bytes each)");
}

#[test]
fn planes_are_runs_of_codes() {
    assert_eq!(planes::<4, 2, 4>(&[0x31, 0x42]), [1, 2, 3, 4]);
    assert_eq!(planes::<2, 1, 4>(&[0b11_10_01_00]), [0, 1, 2, 3]);
    assert_eq!(planes::<1, 2, 16>(&[0x01, 0x80])[..3], [1, 0, 0]);
    assert_eq!(planes::<4, 1, 4>(&[0x21]), [1, 2, 0, 0]);
}

#[test]
fn tables_hold_what_the_formats_allow() {
    assert!(tables::KSIGNS.iter().all(|signs| signs.count_ones() % 2 == 0));
    assert_eq!(tables::IQ2XXS_GRID[1].to_le_bytes(), [43, 8, 8, 8, 8, 8, 8, 8]);
    assert_eq!(tables::IQ1S_GRID[0].to_le_bytes(), [255; 8]);
    assert_eq!(BlockQ4K::LEN, 256);
}
