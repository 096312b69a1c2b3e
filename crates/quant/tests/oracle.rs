//! Bit-for-bit comparison with implementations that are not ours. The fixtures are written by
//! `oracle.py` from the `gguf` Python package and the decoders of ggml-quants.c; they reach every
//! entry of every grid, every MXFP4 exponent and every NVFP4 scale.

use std::path::PathBuf;

use hob_quant::{GgmlType, decode_row, encode_row};

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "fixtures", name].iter().collect()
}

/// The count at the start of a fixture, and the rest.
fn fixture(name: &str) -> (usize, Vec<u8>) {
    let mut data = std::fs::read(path(name)).expect(name);
    let rest = data.split_off(4);
    (data.iter().rev().fold(0, |count, byte| count << 8 | usize::from(*byte)), rest)
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// The first weight that differs, with its bits, or `None` when all are the same.
fn difference(found: &[f32], expected: &[f32]) -> Option<(usize, f32, f32)> {
    assert_eq!(found.len(), expected.len());
    let mut pairs = found.iter().zip(expected).enumerate();
    pairs.find(|(_, (a, b))| a.to_bits() != b.to_bits()).map(|(i, (a, b))| (i, *a, *b))
}

/// Types without an outside oracle here: their decode is Rust's own conversion.
const PLAIN: [GgmlType; 6] =
    [GgmlType::F32, GgmlType::F64, GgmlType::I8, GgmlType::I16, GgmlType::I32, GgmlType::I64];

#[test]
fn decodes_as_the_reference() {
    for &ty in GgmlType::ALL.iter().filter(|ty| !PLAIN.contains(ty)) {
        let (count, data) = fixture(&format!("decode-{ty}.bin"));
        let (bytes, expected) = data.split_at(count * ty.block_bytes());
        let mut found = vec![f32::NAN; count * ty.block_len()];
        decode_row(ty, bytes, &mut found).unwrap();
        assert_eq!(difference(&found, &floats(expected)), None, "{ty}");

        // The same from an address that no block may be viewed at.
        let mut shifted = vec![0; bytes.len() + 2];
        let odd = 1 - shifted.as_ptr().addr() % 2;
        shifted[odd..][..bytes.len()].copy_from_slice(bytes);
        found.fill(f32::NAN);
        decode_row(ty, &shifted[odd..][..bytes.len()], &mut found).unwrap();
        assert_eq!(difference(&found, &floats(expected)), None, "{ty} at an odd address");
    }
}

#[test]
fn encodes_as_the_reference() {
    for name in ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"] {
        let ty = GgmlType::from_name(name).unwrap();
        let (count, data) = fixture(&format!("encode-{ty}.bin"));
        let (weights, expected) = data.split_at(count * 4);
        let mut found = vec![0; ty.row_bytes(count as u64).unwrap() as usize];
        encode_row(ty, &floats(weights), None, &mut found).unwrap();
        let block = found.chunks(ty.block_bytes()).zip(expected.chunks(ty.block_bytes()));
        for (i, (found, expected)) in block.enumerate() {
            assert_eq!(found, expected, "{ty} block {i}");
        }
        assert_eq!(found.len(), expected.len());
    }
}

#[test]
fn ids_and_sizes_are_the_reference_ones() {
    let text = std::fs::read_to_string(path("sizes.txt")).unwrap();
    let mut expected: Vec<_> = text.lines().map(str::to_owned).collect();
    let mut found: Vec<_> = GgmlType::ALL
        .iter()
        .map(|ty| format!("{ty} {} {} {}", ty.id(), ty.block_len(), ty.block_bytes()))
        .collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}
