//! What the writer writes, the reader reads: every value type, every tensor type, any order of chunks; and
//! the writer's own refusals.

use hob_gguf::*;
use hob_quant::GgmlType;
use proptest::prelude::*;

fn sample_meta() -> MetaBuilder {
    MetaBuilder::new()
        .set("general.architecture", "llama")
        .set("u8", 200u8)
        .set("i8", -7i8)
        .set("u16", 60000u16)
        .set("i16", -30000i16)
        .set("u32", 4_000_000_000u32)
        .set("i32", -5i32)
        .set("u64", u64::MAX)
        .set("i64", i64::MIN)
        .set("f32", 1.5f32)
        .set("f64", 1e300f64)
        .set("yes", true)
        .set("tokens", vec!["a", "", "Ġtöken", "字"])
        .set("scores", vec![0.5f32, -1.0])
        .set("types", vec![1i32, 3])
        .set("bools", vec![true, false])
        .set("empty", Vec::<u32>::new())
        .set("nested", vec![vec![vec!["x"], vec![]], vec![]])
        .set("not utf8", Value::Bytes(&[0xff, 0xfe]))
}

#[test]
fn every_value_type() {
    let from_builder = sample_meta().build().unwrap();
    let file = Gguf::from_bytes(Writer::with_meta(sample_meta()).to_bytes(|_| vec![]).unwrap());
    let file = file.unwrap();
    assert_eq!(file.version(), 3);
    for meta in [&from_builder, file.meta()] {
        assert_eq!(meta.len(), 19);
        assert_eq!(meta.str("general.architecture"), Ok("llama"));
        assert_eq!(meta.get("u8"), Some(Value::U8(200)));
        assert_eq!(meta.get("i8"), Some(Value::I8(-7)));
        assert_eq!(meta.get("u16"), Some(Value::U16(60000)));
        assert_eq!(meta.get("i16"), Some(Value::I16(-30000)));
        assert_eq!(meta.u32("u32"), Ok(4_000_000_000));
        assert_eq!(meta.i32("i32"), Ok(-5));
        assert_eq!(meta.u64("u64"), Ok(u64::MAX));
        assert_eq!(meta.i64("i64"), Ok(i64::MIN));
        assert_eq!(meta.f32("f32"), Ok(1.5));
        assert_eq!(meta.f64("f64"), Ok(1e300));
        assert_eq!(meta.bool("yes"), Ok(true));
        let tokens: Vec<&str> = meta.strings("tokens").unwrap().collect();
        assert_eq!(tokens, ["a", "", "Ġtöken", "字"]);
        assert_eq!(meta.values::<f32>("scores").unwrap().collect::<Vec<_>>(), [0.5, -1.0]);
        assert_eq!(meta.values::<i32>("types").unwrap().collect::<Vec<_>>(), [1, 3]);
        assert_eq!(meta.values::<u32>("types").unwrap().sum::<u32>(), 4);
        assert_eq!(meta.values::<bool>("bools").unwrap().collect::<Vec<_>>(), [true, false]);
        assert!(meta.array("empty").unwrap().is_empty());
        assert_eq!(meta.get("not utf8"), Some(Value::Bytes(&[0xff, 0xfe])));
        assert_eq!(meta.iter().map(|(k, _)| k).nth(18), Some("not utf8"));
    }
    assert_eq!(format!("{from_builder:?}"), format!("{:?}", file.meta()));
}

#[test]
fn nothing_at_all() {
    assert!(MetaBuilder::new().build().unwrap().is_empty());
    let image = Writer::new().to_bytes(|_| vec![]).unwrap();
    assert!(Gguf::from_bytes(image).unwrap().tensors().is_empty());
}

#[test]
fn a_model_is_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Gguf>();
    shared::<Metadata>();
}

#[test]
fn nested_arrays() {
    let meta = sample_meta().build().unwrap();
    let outer: Vec<Value> = meta.array("nested").unwrap().iter().collect();
    let [Value::Array(a), Value::Array(b)] = outer[..] else { panic!("{outer:?}") };
    assert!(b.is_empty());
    let inner: Vec<Value> = a.iter().collect();
    let [Value::Array(x), Value::Array(none)] = inner[..] else { panic!("{inner:?}") };
    assert!(none.is_empty());
    assert_eq!(x.iter().collect::<Vec<_>>(), [Value::Str("x")]);
}

#[test]
fn typed_getters_say_key_found_expected() {
    let meta = sample_meta().build().unwrap();
    let text = |e: MetaError| e.to_string();
    assert_eq!(
        text(meta.u32("none").unwrap_err()),
        "metadata key \"none\" is missing (expected u32)"
    );
    assert_eq!(
        text(meta.u32("i32").unwrap_err()),
        "metadata key \"i32\" is the i32 -5, expected u32"
    );
    assert_eq!(
        text(meta.bool("tokens").unwrap_err()),
        "metadata key \"tokens\" is an array of string, expected bool"
    );
    assert_eq!(
        text(meta.strings("types").map(drop).unwrap_err()),
        "metadata key \"types\" is an array of i32, expected array of strings"
    );
    let not_utf8 = MetaError::NotUtf8 { key: "not utf8".into(), index: 0 };
    assert_eq!(meta.str("not utf8"), Err(not_utf8));
    assert_eq!(meta.opt_u32("none"), Ok(None));
    assert!(meta.opt_u32("yes").is_err());
    assert!(meta.opt_strings("none").unwrap().is_none());
    // Integers convert where they fit, floats take integers.
    assert_eq!(meta.u64("u8"), Ok(200));
    assert_eq!(meta.f32("i8"), Ok(-7.0));
    assert!(meta.i64("u64").is_err());
    assert!(meta.str("u8").is_err());
}

#[test]
fn strings_that_are_not_utf8_are_readable_as_bytes() {
    // One string of one byte, written as the file holds it.
    let mut image = Writer::new().set("t", vec!["a", "b"]).to_bytes(|_| vec![]).unwrap();
    let at = image.iter().rposition(|&b| b == b'b').unwrap();
    image[at] = 0xff;
    let file = Gguf::from_bytes(image).unwrap();
    let array = file.meta().array("t").unwrap();
    assert_eq!(array.byte_strings().unwrap().collect::<Vec<_>>(), [&b"a"[..], b"\xff"]);
    assert_eq!(
        file.meta().strings("t").map(drop).unwrap_err(),
        MetaError::NotUtf8 { key: "t".into(), index: 1 }
    );
}

#[test]
fn every_tensor_type() {
    let mut writer = Writer::new();
    for ty in GgmlType::ALL {
        writer.add_tensor(ty.name(), *ty, &[ty.block_len() as u64 * 2, 3]).unwrap();
    }
    let size = writer.file_bytes().unwrap();
    let image = writer.to_bytes(|t| vec![t.ty.id() as u8; t.bytes() as usize]).unwrap();
    assert_eq!(image.len() as u64, size);
    let file = Gguf::from_bytes(image).unwrap();
    assert_eq!(file.tensors().len(), GgmlType::ALL.len());
    for ty in GgmlType::ALL {
        let t = file.tensor(ty.name()).unwrap();
        assert_eq!((t.ty, t.rows(), t.elements()), (*ty, 3, ty.block_len() as u64 * 6));
        assert_eq!(file.tensor_bytes(t), vec![ty.id() as u8; 6 * ty.block_bytes()]);
        assert_eq!(file.tensor_bytes(t).as_ptr() as usize % 32, 0);
    }
    assert!(file.tensor("none").is_none());
}

#[test]
fn alignment_has_its_effect() {
    for alignment in [8u32, 64, 4096, 2 << 20] {
        let image = Writer::new()
            .set("general.alignment", alignment)
            .tensor("a", GgmlType::F32, &[1])
            .and_then(|w| w.tensor("b", GgmlType::F32, &[3]))
            .and_then(|w| w.to_bytes(|t| vec![7; t.bytes() as usize]))
            .unwrap();
        let file = Gguf::from_bytes(image).unwrap();
        let b = file.tensor("b").unwrap();
        assert_eq!((file.alignment(), b.offset), (alignment, u64::from(alignment)));
        assert_eq!(file.tensor_bytes(b), [7; 12]);
        assert_eq!(file.tensor_place(b).unwrap().start % u64::from(alignment), 0);
    }
    let refused = Writer::new().set("general.alignment", 12u32).to_bytes(|_| vec![]);
    assert!(matches!(refused, Err(WriteError::Invalid(GgufError::Alignment { found: 12, .. }))));
}

#[test]
fn the_writer_refuses() {
    let two = || {
        let w = Writer::new().tensor("a", GgmlType::F32, &[2]).unwrap();
        w.tensor("b", GgmlType::Q8_0, &[32, 2]).unwrap()
    };
    let begun = || two().write_header(Vec::new()).unwrap();
    assert!(matches!(begun().tensor("b", &[0; 68]), Err(WriteError::Order { .. })));
    assert!(matches!(begun().tensor("a", &[0; 7]), Err(WriteError::Size { .. })));
    assert!(matches!(begun().tensor("a", &[0; 9]), Err(WriteError::Size { .. })));
    assert!(matches!(begun().chunk(&[0]), Err(WriteError::NotBegun)));
    let mut w = begun();
    w.tensor("a", &[0; 8]).unwrap();
    assert!(matches!(w.finish(), Err(WriteError::Unfinished { missing: 1, .. })));
    let mut w = begun();
    w.begin("a").unwrap();
    w.chunk(&[0; 4]).unwrap();
    assert!(matches!(w.begin("b"), Err(WriteError::Size { found: 4, expected: 8, .. })));
    let twice = two().tensor("a", GgmlType::F32, &[1]).unwrap().write_header(Vec::new());
    assert!(matches!(
        twice,
        Err(WriteError::Invalid(GgufError::Tensor { fault: TensorFault::Duplicate, .. }))
    ));
    assert!(Writer::new().tensor("a", GgmlType::Q8_0, &[33]).is_err());
    assert!(Writer::new().tensor("a", GgmlType::F32, &[0]).is_err());
    assert!(Writer::new().tensor("a", GgmlType::F32, &[1 << 32, 1 << 32]).is_err());
    let long = Writer::new().set(&"k".repeat(1 << 16), 1u8).to_bytes(|_| vec![]);
    assert!(matches!(long, Err(WriteError::Invalid(GgufError::Limit { .. }))));
}

fn meta_strategy() -> impl Strategy<Value = MetaBuilder> {
    let numbers = prop::collection::vec(any::<i64>(), 0..20);
    let strings = prop::collection::vec(".{0,12}", 0..20);
    let floats = prop::collection::vec(any::<f32>(), 0..8);
    (numbers, strings, floats, "[a-z.]{1,30}", any::<u64>(), any::<bool>()).prop_map(
        |(numbers, strings, floats, name, number, flag)| {
            MetaBuilder::new()
                .set("numbers", numbers.clone())
                .set("nested", vec![numbers, vec![]])
                .set("strings", strings)
                .set("floats", floats)
                .set("name", name)
                .set("number", number)
                .set("flag", flag)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Copying a file's metadata and tensors through the writer, in chunks of any size, gives the same file.
    #[test]
    fn copies_are_identical(
        meta in meta_strategy(),
        shapes in prop::collection::vec((0usize..GgmlType::ALL.len(), 1u64..4, 1u64..4), 0..6),
        chunk in 1usize..100,
        seed in any::<u8>(),
    ) {
        let mut writer = Writer::with_meta(meta.clone());
        for (i, (ty, row, rows)) in shapes.iter().enumerate() {
            let ty = GgmlType::ALL[*ty];
            writer.add_tensor(&format!("t{i}"), ty, &[row * ty.block_len() as u64, *rows]).unwrap();
        }
        let data = |t: &TensorInfo| (0..t.bytes()).map(|i| i as u8 ^ seed).collect::<Vec<u8>>();
        let image = writer.to_bytes(data).unwrap();
        let file = Gguf::from_bytes(image.clone()).unwrap();
        prop_assert_eq!(file.file_bytes(), image.len() as u64);

        let mut copy = Writer::new();
        copy.meta_mut().extend(file.meta());
        for t in file.tensors() {
            copy.add_tensor(&t.name, t.ty, &t.dims).unwrap();
        }
        let mut out = copy.write_header(Vec::new()).unwrap();
        for t in file.tensors() {
            prop_assert_eq!(file.tensor_bytes(t), data(t));
            out.begin(&t.name).unwrap();
            file.tensor_bytes(t).chunks(chunk).for_each(|c| out.chunk(c).unwrap());
        }
        prop_assert_eq!(out.finish().unwrap(), image);
    }
}
