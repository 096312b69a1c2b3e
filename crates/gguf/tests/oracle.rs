//! Agreement with the Python package `gguf`: reads the files that `oracle.py write` made, and writes the file
//! that `oracle.py read` checks (to `HOB_GGUF_OUT`, when set).
#![allow(clippy::unwrap_used)] // helpers of tests

use std::path::{Path, PathBuf};

use hob_gguf::{Gguf, GgufError, MetaBuilder, Metadata, TensorInfo, Value, Writer};
use hob_quant::GgmlType;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The bytes of a tensor, as `pattern` in oracle.py computes them.
fn pattern(t: &TensorInfo) -> Vec<u8> {
    let seed = u64::from(t.ty.id()) * 97;
    (0..t.bytes()).map(|i| ((i * 2_654_435_761 + seed) >> 16) as u8).collect()
}

fn tokens() -> Vec<String> {
    ["<s>", "Ġthe", "字", "", &"a".repeat(300)].map(str::to_owned).to_vec()
}

fn check_meta(meta: &Metadata) {
    let expected = [
        ("test.u8", Value::U8(200)),
        ("test.i8", Value::I8(-100)),
        ("test.u16", Value::U16(60_000)),
        ("test.i16", Value::I16(-30_000)),
        ("test.u32", Value::U32(4_000_000_000)),
        ("test.i32", Value::I32(-2_000_000_000)),
        ("test.f32", Value::F32(0.15625)),
        ("test.u64", Value::U64((1 << 63) + 1)),
        ("test.i64", Value::I64(-(1 << 62))),
        ("test.f64", Value::F64(1e-300)),
        ("test.bool", Value::Bool(true)),
        ("test.string", Value::Str("naïve 字")),
        ("general.architecture", Value::Str("llama")),
    ];
    for (key, value) in expected {
        assert_eq!(meta.get(key), Some(value), "{key}");
    }
    let strings: Vec<&str> = meta.strings("test.tokens").unwrap().collect();
    assert_eq!(strings, tokens());
    assert_eq!(meta.values::<f32>("test.floats").unwrap().collect::<Vec<_>>(), [0.5, -2.25]);
    assert_eq!(meta.values::<i32>("test.ints").unwrap().collect::<Vec<_>>(), [1, -2, 3]);
    assert_eq!(meta.values::<u32>("test.u16s").unwrap().collect::<Vec<_>>(), [1, 65535]);
    let bools: Vec<bool> = meta.values("test.bools").unwrap().collect();
    assert_eq!(bools, [true, false, true]);
}

fn check_tensors(file: &Gguf) {
    for t in file.tensors() {
        assert_eq!(t.name, t.ty.name());
        assert_eq!(t.dims, [2 * t.ty.block_len() as u64, 3], "{}", t.name);
        assert_eq!(file.tensor_bytes(t), pattern(t), "{}", t.name);
        let start = file.tensor_place(t).unwrap().start;
        assert_eq!(start % u64::from(file.alignment()), 0);
    }
}

#[test]
fn reads_every_type_that_python_writes() {
    let file = Gguf::open(&data("all-types.gguf")).unwrap();
    check_meta(file.meta());
    assert_eq!((file.version(), file.meta().len(), file.tensors().len()), (3, 18, 32));
    check_tensors(&file);
}

#[test]
fn reads_an_alignment_that_python_writes() {
    let file = Gguf::open(&data("aligned-256.gguf")).unwrap();
    assert_eq!((file.alignment(), file.tensors().len()), (256, 3));
    check_meta(file.meta());
    check_tensors(&file);
}

#[test]
fn reads_a_split_set_that_python_writes() {
    for no in 1..=3 {
        let file = Gguf::open(&data(&format!("split-0000{no}-of-00003.gguf"))).unwrap();
        check_meta(file.meta());
        assert_eq!((file.tensors().len(), file.paths().len()), (5, 3));
        check_tensors(&file);
    }
}

#[test]
fn refuses_big_endian() {
    let e = Gguf::open(&data("big-endian.gguf")).unwrap_err();
    assert!(matches!(e.root(), GgufError::BigEndian { version: 3 }), "{e}");
}

/// The file for `oracle.py read`: read back here in any case.
#[test]
fn writes_what_python_reads() {
    let meta = MetaBuilder::new()
        .set("general.architecture", "llama")
        .set("general.alignment", 64u32)
        .set("test.u8", 200u8)
        .set("test.i8", -100i8)
        .set("test.u16", 60_000u16)
        .set("test.i16", -30_000i16)
        .set("test.u32", 4_000_000_000u32)
        .set("test.i32", -2_000_000_000i32)
        .set("test.f32", 0.15625f32)
        .set("test.u64", (1u64 << 63) + 1)
        .set("test.i64", -(1i64 << 62))
        .set("test.f64", 1e-300f64)
        .set("test.bool", true)
        .set("test.string", "naïve 字")
        .set("test.tokens", tokens())
        .set("test.floats", vec![0.5f32, -2.25])
        .set("test.ints", vec![1i32, -2, 3])
        .set("test.bools", vec![true, false, true])
        .set("test.u16s", vec![1u16, 65535]);
    let mut writer = Writer::with_meta(meta);
    // Python's package doesn't know Q2_0.
    for &ty in GgmlType::ALL.iter().filter(|ty| ty.name() != "Q2_0") {
        writer.add_tensor(ty.name(), ty, &[2 * ty.block_len() as u64, 3]).unwrap();
    }
    let image = writer.to_bytes(pattern).unwrap();
    if let Some(path) = std::env::var_os("HOB_GGUF_OUT") {
        std::fs::write(path, &image).unwrap();
    }
    let file = Gguf::from_bytes(image).unwrap();
    check_meta(file.meta());
    check_tensors(&file);
}
