//! Files made to harm: every field at its boundary values, every truncation, every flipped bit, and one test
//! for each typed error. The fuzz targets in `fuzz/` go on from here; their finds come back to `corpus/`.

mod common;

use common::{Image, rewrite, sample, set, walk};
use hob_gguf::{Gguf, GgufError, SplitFault, TensorFault, limits};

/// Values at which sizes, signs and products change their nature.
const BOUNDARIES: [u64; 13] = [
    0,
    1,
    7,
    8,
    1 << 15,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX,
];

fn open(bytes: &[u8]) -> Result<Gguf, GgufError> {
    Gguf::from_bytes(bytes.to_vec())
}

fn error(bytes: &[u8]) -> GgufError {
    match open(bytes) {
        Ok(file) => panic!("opened: {file:?}"),
        Err(e) => e,
    }
}

macro_rules! assert_error {
    ($bytes:expr, $pattern:pat) => {
        let e = error($bytes);
        assert!(matches!(e, $pattern), "{e:?}");
        assert!(e.to_string().len() < 1000);
    };
}

/// Asserts that the bytes are refused because of a tensor.
macro_rules! assert_fault {
    ($bytes:expr, $pattern:pat) => {
        assert_error!($bytes, GgufError::Tensor { fault: $pattern, .. });
    };
}

#[test]
fn the_sample_is_valid() {
    let image = sample();
    for version in [2, 3] {
        let file = open(&image.with(image.field("version", 0), version)).unwrap();
        assert_eq!((file.meta().len(), file.tensors().len()), (7, 3));
        assert_eq!(file.tensor_bytes(file.tensor("b").unwrap()), [2; 136]);
        assert_eq!(file.meta().strings("tokens").unwrap().collect::<Vec<_>>(), ["ab", "字"]);
        walk(&file);
    }
}

#[test]
fn every_field_at_every_boundary() {
    let image = sample();
    assert_eq!(image.fields.len(), 48);
    let sizes = [
        "tensor count",
        "pair count",
        "key length",
        "string length",
        "array length",
        "name length",
    ];
    for &field in &image.fields {
        for value in BOUNDARIES {
            let result = open(&image.with(field, value));
            let absurd = value >= 1 << 15 && (field.width == 8 || value < 1 << 32);
            let is_size = sizes.contains(&field.name)
                || ["dimension", "offset", "rank"].contains(&field.name);
            assert!(!(absurd && is_size) || result.is_err(), "{field:?} = {value}");
            let _ = result.map(|file| walk(&file));
        }
    }
}

#[test]
fn every_pair_of_fields_at_the_boundaries() {
    let image = sample();
    for (i, &a) in image.fields.iter().enumerate() {
        for &b in &image.fields[i + 1..] {
            for x in BOUNDARIES {
                let mut bytes = image.with(a, x);
                for y in BOUNDARIES {
                    set(&mut bytes, b, y);
                    let _ = open(&bytes).map(|file| walk(&file));
                }
            }
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    let bytes = sample().bytes;
    for len in 0..bytes.len() {
        let e = error(&bytes[..len]);
        let truncated = matches!(
            e,
            GgufError::Truncated { .. }
                | GgufError::Tensor { fault: TensorFault::OutOfFile { .. }, .. }
        );
        assert!(truncated, "{len}: {e:?}");
    }
}

#[test]
fn every_flipped_bit_and_every_byte_at_its_extremes() {
    let bytes = sample().bytes;
    for at in 0..bytes.len() {
        let flipped = (0..8).map(|bit| bytes[at] ^ (1 << bit));
        for byte in flipped.chain([0, 0x7f, 0x80, 0xff]) {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            let _ = open(&bytes).map(|file| walk(&file));
        }
    }
}

#[test]
fn preambles() {
    let image = sample();
    assert_error!(b"", GgufError::Truncated { .. });
    assert_error!(b"GGU", GgufError::Truncated { available: 3, .. });
    assert_error!(b"GGML\x03\0\0\0", GgufError::Magic { .. });
    let version = image.field("version", 0);
    for found in [0, 1, 4, 0x10003] {
        assert_error!(&image.with(version, found), GgufError::Version { .. });
    }
    for swapped in [2u32, 3] {
        let bytes = image.with(version, swapped.swap_bytes().into());
        assert_error!(&bytes, GgufError::BigEndian { version: 2 | 3 });
    }
}

/// A file of one pair whose key is `k`.
fn one_pair(ty: u32, value: impl FnOnce(&mut Image) -> &mut Image) -> Vec<u8> {
    let mut f = Image::default();
    f.preamble(3, 0, 1).key("k", ty);
    value(&mut f);
    f.bytes
}

#[test]
fn metadata_faults() {
    assert_error!(&one_pair(13, |f| f), GgufError::ValueType { id: 13, .. });
    assert_error!(&one_pair(9, |f| f.array(13, 0)), GgufError::ValueType { id: 13, .. });
    assert_error!(&one_pair(7, |f| f.raw(&[2])), GgufError::Bool { found: 2, .. });
    let bools = one_pair(9, |f| f.array(7, 3).raw(&[0, 1, 0xff]));
    assert_error!(&bools, GgufError::Bool { found: 0xff, .. });
    let twice = {
        let mut f = Image::default();
        f.preamble(3, 0, 3).key("k", 0).raw(&[1]).key("j", 0).raw(&[1]).key("k", 0).raw(&[1]);
        f.bytes
    };
    assert_error!(&twice, GgufError::DuplicateKey { .. });
    let mut f = Image::default();
    f.preamble(3, 0, 1).string("key", b"\xff").u32("type", 0).raw(&[1]);
    assert_error!(&f.bytes, GgufError::Name { .. });
    let mut f = Image::default();
    f.preamble(3, 0, 1).string("key", &vec![b'k'; 1 << 16]).u32("type", 0).raw(&[1]);
    assert_error!(&f.bytes, GgufError::Limit { limit: limits::MAX_KEY_BYTES, .. });
    let mut f = Image::default();
    f.preamble(3, 0, limits::MAX_METADATA + 1).raw(&vec![0; 1 << 20]);
    assert_error!(&f.bytes, GgufError::Limit { limit: limits::MAX_METADATA, .. });
}

#[test]
fn nesting_is_limited() {
    let nested = |depth: u32| {
        one_pair(9, |f| {
            for _ in 1..depth {
                f.array(9, 1);
            }
            f.array(0, 1).raw(&[1])
        })
    };
    let depth = limits::MAX_ARRAY_DEPTH;
    walk(&open(&nested(depth)).unwrap());
    assert_error!(&nested(depth + 1), GgufError::Limit { found: 9, limit: 8, .. });
    assert_error!(&nested(100_000), GgufError::Limit { .. });
}

#[test]
fn alignments() {
    let file = |ty: u32, value: &[u8]| {
        let mut f = Image::default();
        f.preamble(3, 0, 1).key("general.alignment", ty).raw(value);
        f.bytes
    };
    for refused in [0u32, 1, 4, 12, 31, 33, (2 << 20) + 1, 4 << 20, 1 << 30, 1 << 31, u32::MAX] {
        assert_error!(&file(4, &refused.to_le_bytes()), GgufError::Alignment { .. });
    }
    for taken in [8u32, 16, 32, 64, 4096, 2 << 20] {
        assert_eq!(open(&file(4, &taken.to_le_bytes())).unwrap().alignment(), taken);
    }
    assert_eq!(open(&file(10, &64u64.to_le_bytes())).unwrap().alignment(), 64);
    assert_error!(&file(10, &(1u64 << 32 | 32).to_le_bytes()), GgufError::Meta(_));
    assert_error!(&file(6, &32f32.to_le_bytes()), GgufError::Meta(_));
}

#[test]
fn tensor_faults() {
    /// A file of these tensors and 256 bytes of data.
    fn file(tensors: &[(&str, &[u64], u32, u64)]) -> Vec<u8> {
        let mut f = Image::default();
        f.preamble(3, tensors.len() as u64, 0);
        for (name, dims, ty, offset) in tensors {
            f.tensor(name, dims, *ty, *offset);
        }
        f.pad(32).raw(&[0; 256]);
        f.bytes
    }
    let one = |dims: &[u64], ty, offset| file(&[("t", dims, ty, offset)]);
    walk(&open(&one(&[64], 0, 0)).unwrap());
    walk(&open(&one(&[1, 1, 1, 64], 0, 0)).unwrap());
    assert_eq!(open(&one(&[], 0, 0)).unwrap().tensors()[0].dims, [1]);
    assert_fault!(&one(&[1; 5], 0, 0), TensorFault::Rank(5));
    assert_fault!(&one(&[1], 4, 0), TensorFault::Type(4));
    assert_fault!(&one(&[1], u32::MAX, 0), TensorFault::Type(u32::MAX));
    assert_fault!(&one(&[0], 0, 0), TensorFault::ZeroDim(_));
    assert_fault!(&one(&[1 << 63, 4, 0], 0, 0), TensorFault::ZeroDim(_));
    assert_fault!(&one(&[33], 8, 0), TensorFault::Block { row: 33, block: 32, .. });
    assert_fault!(&one(&[128], 12, 0), TensorFault::Block { row: 128, block: 256, .. });
    for dims in [&[1 << 32, 1 << 32][..], &[1 << 61, 2], &[1 << 16; 4], &[u64::MAX, u64::MAX]] {
        assert_fault!(&one(dims, 0, 0), TensorFault::Overflow(_));
    }
    assert_fault!(&one(&[1 << 62], 0, 0), TensorFault::Overflow(_));
    // 2^64 elements of less than a byte each: the count overflows although the bytes would not.
    assert_fault!(&one(&[1 << 60, 16], 19, 0), TensorFault::Overflow(_));
    assert_fault!(&one(&[65], 0, 0), TensorFault::OutOfFile { bytes: 260, available: 256, .. });
    assert_fault!(&one(&[57], 0, 32), TensorFault::OutOfFile { .. });
    assert_fault!(&one(&[1], 0, 256), TensorFault::OutOfFile { .. });
    assert_fault!(&one(&[16], 0, u64::MAX - 31), TensorFault::OutOfFile { .. });
    assert_fault!(&one(&[1], 0, 4), TensorFault::Misaligned { .. });
    let (a, b) = (("a", &[16][..], 0, 64), ("b", &[8][..], 0, 0));
    walk(&open(&file(&[a, b, ("c", &[8], 0, 32)])).unwrap());
    assert_fault!(&file(&[a, b, ("c", &[9], 0, 32)]), TensorFault::Overlap(_));
    assert_fault!(&file(&[a, b, ("c", &[8], 0, 0)]), TensorFault::Overlap(_));
    assert_fault!(&file(&[a, b, ("c", &[1], 0, 96)]), TensorFault::Overlap(_));
    assert_fault!(&file(&[a, b, ("c", &[64], 0, 0)]), TensorFault::Overlap(_));
    assert_fault!(&file(&[a, b, ("a", &[1], 0, 32)]), TensorFault::Duplicate);
    let long = "n".repeat(256);
    assert_error!(&file(&[(&long, &[1], 0, 0)]), GgufError::Limit { limit: 255, .. });
    let mut f = Image::default();
    f.preamble(3, limits::MAX_TENSORS + 1, 0).raw(&vec![0; 4 << 20]);
    assert_error!(&f.bytes, GgufError::Limit { limit: limits::MAX_TENSORS, .. });
}

#[test]
fn an_image_of_a_split_file_is_refused() {
    let image = one_pair(2, |f| f.raw(&[1, 0]));
    open(&image).unwrap();
    let mut f = Image::default();
    f.preamble(3, 0, 1).key("split.count", 2).raw(&[3, 0]);
    assert_error!(&f.bytes, GgufError::Split(SplitFault::Name { count: 3 }));
}

/// Inputs that fuzzing found interesting, and the seeds it starts from.
#[test]
fn corpus() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let _ = open(&bytes).map(|file| (walk(&file), walk(&rewrite(&file))));
        count += 1;
    }
    assert!(count >= 4, "{count} files");
}
