//! Importance beside llama.cpp's: files that `llama-imatrix` wrote for a tiny random model, in both formats, and for
//! one with experts, of which one has no tokens. Made anew with, in an empty folder T:
//!
//!     HOB_TINY=T cargo test -p hob-forge --test imatrix -- --ignored write_model
//!     python3 crates/forge/tests/data/imatrix_moe.py T/moe.gguf
//!     cd T && for m in tiny moe; do for f in gguf dat; do
//!       llama-imatrix -m $m.gguf -f text.txt -c 64 -b 64 --process-output --output-format $f -o imatrix-$m.$f
//!     done; done
#![allow(clippy::unwrap_used, reason = "a test may fail so")]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hob_engine::{LoadOptions, Runner};
use hob_forge::eval::{Against, EvalError, EvalText, Evaluation, limits};
use hob_forge::imatrix::{Collector, Entry, EntryFault, Imatrix, ImatrixError, Scope};
use hob_gguf::Gguf;
use hob_quant::GgmlType;
use hob_testkit::{Family, RefOps, Tiny, max_error};
use hob_text::Tokenizer;
use proptest::prelude::*;

/// Four chunks of 64 bytes and a rest.
const TEXT: &str = "A hob is the warm shelf by a fireplace, and in northern English folklore the helpful \
    spirit that lives there. 炉边温暖的架子；在英格兰北部的民间传说里，是住在那里的好心精灵。\n\
    fn main() { println!(\"{}\", 6 * 7); } // and so on, until there are enough tokens for it all";
const CHUNKS: u32 = 4;
const CONTEXT: usize = 64;
const EVERYTHING: Scope = Scope { output: true, perplexity: true };

fn model() -> Vec<u8> {
    Tiny { ffn: 80, ..Tiny::new(Family::Llama) }.bytes()
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn fixture(name: &str) -> Imatrix {
    Imatrix::read(&data(name)).unwrap()
}

#[test]
#[ignore = "writes the model from which the fixtures are made"]
fn write_model() {
    let folder = PathBuf::from(std::env::var_os("HOB_TINY").expect("HOB_TINY names a folder"));
    std::fs::write(folder.join("tiny.gguf"), model()).unwrap();
    std::fs::write(folder.join("text.txt"), TEXT).unwrap();
}

fn text() -> EvalText {
    let gguf = Gguf::from_bytes(model()).unwrap();
    EvalText::new(TEXT, &Tokenizer::from_gguf(gguf.meta()).unwrap(), CONTEXT, None).unwrap()
}

fn collector(model: Vec<u8>, step_rows: usize, threads: usize, scope: Scope) -> Collector {
    let options = LoadOptions { threads, limits: limits(CONTEXT, step_rows) };
    Collector::load(Arc::new(Gguf::from_bytes(model).unwrap()), &options, scope).unwrap()
}

fn read_all(mut collector: Collector) -> (Imatrix, Option<f64>) {
    let text = text();
    for chunk in 0..text.chunks() {
        collector.chunk(&text, chunk, &mut |_| ControlFlow::Continue(())).unwrap();
    }
    (collector.imatrix("text.txt"), collector.perplexity().map(|p| p.value))
}

/// Norm of the difference over the norm of `expected`.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |x: f32| f64::from(x) * f64::from(x);
    let gap: f64 = found.iter().zip(expected).map(|(a, b)| square(a - b)).sum();
    (gap / expected.iter().map(|&x| square(x)).sum::<f64>()).sqrt()
}

/// Largest distance of any entry's sums; names and counts must be the same.
fn difference(found: &Imatrix, expected: &Imatrix) -> f64 {
    let named = |i: &Imatrix| -> Vec<(String, Vec<f32>)> {
        i.entries.iter().map(|(name, e)| (name.clone(), e.counts.clone())).collect()
    };
    assert_eq!(named(found), named(expected));
    assert_eq!((found.chunk_count, found.chunk_size), (expected.chunk_count, expected.chunk_size));
    assert_eq!(found.datasets, expected.datasets);
    let pairs = found.entries.values().zip(expected.entries.values());
    pairs.map(|(a, b)| distance(&a.sums, &b.sums)).fold(0.0, f64::max)
}

#[test]
fn what_is_collected_is_what_llama_cpp_collects() {
    for (step_rows, threads) in [(512, 1), (64, 2), (7, 1), (1, 1)] {
        let (found, perplexity) = read_all(collector(model(), step_rows, threads, EVERYTHING));
        let difference = difference(&found, &fixture("imatrix-tiny.gguf"));
        assert!(difference < 1e-4, "{difference}");
        let perplexity = perplexity.unwrap();
        assert!((perplexity - 665.1394).abs() < 0.01, "{perplexity}");
    }
}

#[test]
fn a_watched_device_computes_the_same_bits() {
    for (family, ty) in [
        (Family::Llama, GgmlType::F32),
        (Family::Qwen2, GgmlType::Q4_K),
        (Family::Qwen3, GgmlType::Q8_0),
    ] {
        let model = Tiny::new(family).quantized(ty).bytes();
        let options = LoadOptions { threads: 2, limits: limits(CONTEXT, 512) };
        let gguf = Arc::new(Gguf::from_bytes(model.clone()).unwrap());
        let mut runner = Runner::load(gguf, &options).unwrap();
        let (against, text) = (Against::Nothing, &text());
        let evaluation = Evaluation { runner: &mut runner, text, against, save: None, threads: 2 };
        let report = evaluation.run(&mut |_| ControlFlow::Continue(())).unwrap();
        let (_, perplexity) = read_all(collector(model, 512, 2, EVERYTHING));
        assert_eq!(perplexity, Some(report.perplexity.value), "{family:?}");
    }
}

#[test]
fn every_family_and_type_collects_what_the_reference_device_does() {
    for (family, ty, tolerance) in [
        (Family::Llama, GgmlType::F32, 1e-3),
        (Family::Qwen2, GgmlType::Q4_K, 0.03),
        (Family::Qwen3, GgmlType::Q8_0, 0.02),
    ] {
        let model = Tiny::new(family).quantized(ty).bytes();
        let gguf = Gguf::from_bytes(model.clone()).unwrap();
        let described = hob_model::describe(&gguf).unwrap();
        let bound = hob_model::bind(&described, &gguf).unwrap();
        let limits = limits(CONTEXT, 512);
        let ops = RefOps::load(&described, &gguf, &bound, &limits);
        let reference = Collector::with_ops(described, limits, ops, 3, EVERYTHING).unwrap();
        let (expected, _) = read_all(reference);
        let (found, _) = read_all(collector(model, 512, 2, EVERYTHING));
        // The embedding is the unembedding of all but the first.
        assert_eq!(found.entries.len(), 14 + usize::from(family == Family::Llama));
        let difference = difference(&found, &expected);
        assert!(difference < tolerance, "{family:?}: {difference}");
    }
}

#[test]
fn the_output_is_left_out_unless_asked_for() {
    let mut all = fixture("imatrix-tiny.gguf");
    all.entries.remove("output.weight");
    for perplexity in [false, true] {
        let scope = Scope { output: false, perplexity };
        let (found, value) = read_all(collector(model(), 512, 1, scope));
        assert!(difference(&found, &all) < 1e-4);
        assert_eq!(value.is_some(), perplexity);
    }
    let silent = Scope { output: true, perplexity: false };
    let (found, _) = read_all(collector(model(), 512, 1, silent));
    assert!(difference(&found, &fixture("imatrix-tiny.gguf")) < 1e-4);
}

#[test]
fn a_chunk_can_be_stopped_and_must_fit_the_model() {
    let mut collector = collector(model(), 16, 1, EVERYTHING);
    let text = text();
    collector.chunk(&text, 0, &mut |_| ControlFlow::Continue(())).unwrap();
    let whole = collector.imatrix("t");
    let mut told = Vec::new();
    let result = collector.chunk(&text, 1, &mut |done| {
        told.push(done);
        if done > 16 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(result, Err(EvalError::Stopped)));
    assert_eq!(told.last(), Some(&32));
    assert_eq!(whole.chunk_count, 1);
    assert_eq!(collector.imatrix("t").entries["blk.0.attn_q.weight"].counts, [96.0]);
    let long = EvalText::of_tokens(vec![1; 4096], 2048, None, None).unwrap();
    let result = collector.chunk(&long, 0, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(result, Err(EvalError::Context { asked: 2048, trained: 1024 })));
}

#[test]
fn numbers_that_are_none_are_refused() {
    let mut bytes = model();
    let gguf = Gguf::from_bytes(bytes.clone()).unwrap();
    let place = gguf.tensor_place(gguf.tensor("blk.1.attn_v.weight").unwrap()).unwrap();
    bytes[place.start as usize..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let scope = Scope { output: false, perplexity: false };
    let result =
        collector(bytes, 64, 1, scope).chunk(&text(), 0, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(result, Err(EvalError::NotFinite("sums of squares"))), "{result:?}");
}

/// What was written by `write`, as bytes and read again.
fn rewritten(imatrix: &Imatrix) -> (Vec<u8>, Imatrix) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    imatrix.write(&path).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    (std::fs::read(&path).unwrap(), Imatrix::read(&path).unwrap())
}

#[test]
fn llama_cpps_files_are_read() {
    let tiny = fixture("imatrix-tiny.gguf");
    assert_eq!((tiny.chunk_count, tiny.chunk_size, tiny.entries.len()), (CHUNKS, 64, 15));
    assert_eq!(tiny.datasets, ["text.txt"]);
    let down = &tiny.entries["blk.1.ffn_down.weight"];
    assert_eq!((down.sums.len(), down.counts.as_slice()), (80, [256.0].as_slice()));
    assert!(tiny.entries.contains_key("output.weight"));
    let old = fixture("imatrix-tiny.dat");
    assert_eq!((old.chunk_count, old.chunk_size, old.entries.len()), (CHUNKS, 0, 15));
    assert_eq!(old.datasets, tiny.datasets);
    assert_eq!(old.entries["blk.1.ffn_down.weight"].counts, [4.0]);
}

#[test]
fn both_formats_say_the_same_also_of_an_expert_without_tokens() {
    for (model, entries) in [("tiny", 15), ("moe", 9)] {
        let [new, old] = ["gguf", "dat"].map(|f| fixture(&format!("imatrix-{model}.{f}")));
        assert_eq!((new.entries.len(), new.entries.len()), (entries, old.entries.len()));
        for tensor in new.entries.keys() {
            let [new, old] = [&new, &old].map(|i| i.importance(tensor).unwrap());
            assert!(max_error(&new, &old) < 1e-6, "{tensor}");
        }
    }
    let moe = fixture("imatrix-moe.gguf");
    let down = &moe.entries["blk.0.ffn_down_exps.weight"];
    assert_eq!((down.sums.len(), down.counts.len()), (4 * 48, 4));
    assert_eq!(down.counts.iter().sum::<f32>(), 256.0);
    let idle = down.counts.iter().position(|&n| n == 0.0).unwrap();
    let importance = moe.importance("blk.0.ffn_down_exps.weight").unwrap();
    for (expert, means) in importance.chunks(48).enumerate() {
        assert_eq!(means.iter().all(|&x| x == 1.0), expert == idle, "expert {expert}");
    }
    assert_eq!(moe.importance("blk.0.ffn_up.weight"), None);
}

#[test]
fn what_is_written_is_llama_cpps_file() {
    for name in ["imatrix-tiny.gguf", "imatrix-moe.gguf"] {
        let theirs = fixture(name);
        let (bytes, again) = rewritten(&theirs);
        assert_eq!(theirs, again);
        assert_eq!(bytes, std::fs::read(data(name)).unwrap());
    }
}

#[test]
fn merging_adds_sums_and_counts() {
    let (a, mut b) = (fixture("imatrix-moe.gguf"), fixture("imatrix-tiny.gguf"));
    b.entries.remove("output.weight");
    b.entries.retain(|name, _| name.starts_with("blk.1"));
    let mut both = a.clone();
    both.merge(&a, 512).unwrap();
    both.merge(&b, 512).unwrap();
    let down = "blk.0.ffn_down_exps.weight";
    let twice = |numbers: &[f32]| numbers.iter().map(|x| 2.0 * x).collect::<Vec<_>>();
    assert_eq!(both.entries[down].counts, twice(&a.entries[down].counts));
    assert_eq!(both.entries[down].sums, twice(&a.entries[down].sums));
    assert_eq!(both.importance(down), a.importance(down));
    assert_eq!(both.entries["blk.1.attn_q.weight"], b.entries["blk.1.attn_q.weight"]);
    assert_eq!((both.chunk_count, both.chunk_size), (8, 64));
    assert_eq!(both.datasets.len(), 3);
}

#[test]
fn files_of_the_old_format_merge_by_tokens() {
    let (new, old) = (fixture("imatrix-tiny.gguf"), fixture("imatrix-tiny.dat"));
    for (mut first, second) in [(new.clone(), &old), (old.clone(), &new), (old.clone(), &old)] {
        first.merge(second, 64).unwrap();
        assert_eq!((first.chunk_count, first.chunk_size), (8, 64));
        for (tensor, entry) in &first.entries {
            assert_eq!(entry.counts, [512.0], "{tensor}");
            let twice: Vec<f32> = new.entries[tensor].sums.iter().map(|x| 2.0 * x).collect();
            assert!(max_error(&entry.sums, &twice) < 1e-6, "{tensor}");
        }
    }
}

#[test]
fn entries_of_other_shapes_do_not_merge() {
    let entry = |sums: usize, counts: usize| Imatrix {
        entries: [("w".to_owned(), Entry { sums: vec![1.0; sums], counts: vec![2.0; counts] })]
            .into(),
        chunk_size: 2,
        ..Imatrix::default()
    };
    let mut a = entry(12, 1);
    a.merge(&entry(12, 3), 1).unwrap();
    assert_eq!(a.entries["w"].counts, [4.0; 3]);
    a.merge(&entry(12, 1), 1).unwrap();
    assert_eq!(a.entries["w"].counts, [6.0; 3]);
    let before = a.clone();
    for (other, what) in [(entry(12, 4), "counts"), (entry(24, 3), "sums")] {
        match a.merge(&other, 1) {
            Err(ImatrixError::Entry { fault: EntryFault::Differs { what: found, .. }, .. }) => {
                assert_eq!(found, what);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(a, before);
}

/// The fixture in the old format, with the bytes from `at` replaced.
fn patched(at: usize, bytes: &[u8]) -> Result<Imatrix, ImatrixError> {
    let mut file = std::fs::read(data("imatrix-moe.dat")).unwrap();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    Imatrix::from_bytes(file)
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    let name = "blk.0.attn_k.weight".len();
    let (calls, values, first) = (8 + name, 12 + name, 16 + name);
    assert!(patched(0, &9i32.to_le_bytes()).is_ok());
    for (at, number) in [
        (0, 0),
        (0, -1),
        (0, i32::MAX),
        (4, 0),
        (4, -5),
        (4, i32::MAX),
        (calls, -1),
        (values, 0),
        (values, -1),
    ] {
        let result = patched(at, &i32::to_le_bytes(number));
        assert!(matches!(result, Err(ImatrixError::Range { .. })), "{number} at {at}: {result:?}");
    }
    let result = patched(values, &i32::MAX.to_le_bytes());
    assert!(matches!(result, Err(ImatrixError::Truncated { .. })), "{result:?}");
    assert!(matches!(patched(8, &[0xff]), Err(ImatrixError::Name { at: 8 })));
    for sum in [f32::NAN, f32::INFINITY, -1.0] {
        let result = patched(first, &sum.to_le_bytes());
        let Err(ImatrixError::Entry { tensor, fault: EntryFault::Value { what, at, .. } }) = result
        else {
            panic!("{result:?}");
        };
        assert_eq!((tensor.as_str(), what, at), ("blk.0.attn_k.weight", "sum", 0));
    }
    // A mean without calls stands as it is.
    let none = patched(calls, &[0; 4]).unwrap();
    assert_eq!(
        none.importance("blk.0.attn_k.weight").unwrap(),
        none.entries["blk.0.attn_k.weight"].sums
    );
}

#[test]
fn an_entry_twice_or_bytes_after_the_end_are_refused() {
    let mut file = std::fs::read(data("imatrix-moe.dat")).unwrap();
    file.push(0);
    let result = Imatrix::from_bytes(file);
    assert!(matches!(result, Err(ImatrixError::Trailing { extra: 1, .. })), "{result:?}");
    let entry = [&1i32.to_le_bytes()[..], b"w", &[1, 0, 0, 0], &[1, 0, 0, 0], &[0; 4]].concat();
    let file = [&2i32.to_le_bytes()[..], &entry, &entry].concat();
    let result = Imatrix::from_bytes(file);
    let expected = matches!(&result, Err(ImatrixError::Entry { fault: EntryFault::Duplicate, .. }));
    assert!(expected, "{result:?}");
}

#[test]
fn gguf_files_of_something_else_are_refused() {
    assert!(matches!(Imatrix::from_bytes(model()), Err(ImatrixError::Type { .. })));
    let file = |tensors: &[(&str, GgmlType, &[u64])], size: bool| {
        let mut writer = hob_gguf::Writer::new().set("general.type", "imatrix");
        writer.meta_mut().insert("imatrix.chunk_count", 1u32);
        if size {
            writer.meta_mut().insert("imatrix.chunk_size", 1u32);
        }
        for (name, ty, dims) in tensors {
            writer.add_tensor(name, *ty, dims).unwrap();
        }
        Imatrix::from_bytes(writer.to_bytes(|info| vec![0; info.bytes() as usize]).unwrap())
    };
    let (sums, counts) =
        (("w.in_sum2", GgmlType::F32, &[4, 3][..]), ("w.counts", GgmlType::F32, &[1, 3][..]));
    // Newer tools write more about each tensor.
    let more = ("w.in_sum", GgmlType::F32, &[4, 3][..]);
    let read = file(&[sums, more, counts], true).unwrap();
    assert_eq!((read.entries.len(), read.importance("w").unwrap()), (1, vec![1.0; 12]));
    assert!(matches!(file(&[sums, counts], false), Err(ImatrixError::Meta(_))));
    let fault = |tensors: &[_]| match file(tensors, true) {
        Err(ImatrixError::Entry { fault, .. }) => fault,
        other => panic!("{other:?}"),
    };
    assert_eq!(fault(&[sums]), EntryFault::Half(".counts"));
    assert_eq!(fault(&[counts]), EntryFault::Half(".in_sum2"));
    assert_eq!(fault(&[(sums.0, GgmlType::F16, sums.2), counts]), EntryFault::NotF32(".in_sum2"));
    let five = ("w.counts", GgmlType::F32, &[1, 5][..]);
    assert_eq!(fault(&[sums, five]), EntryFault::Shape { sums: 12, counts: 5 });
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for name in ["imatrix-moe.dat", "imatrix-moe.gguf"] {
        let whole = std::fs::read(data(name)).unwrap();
        let gguf = name.ends_with("gguf");
        // Older files end after the entries, or after the number of chunks. The last tensor's padding is no data.
        let name = "text.txt".len();
        let fine = if gguf { vec![] } else { vec![whole.len() - name - 8, whole.len() - name - 4] };
        let padding = if gguf { 32 } else { 0 };
        for len in 0..whole.len() - padding {
            let result = Imatrix::from_bytes(whole[..len].to_vec());
            assert_eq!(result.is_ok(), fine.contains(&len), "{len}: {result:?}");
        }
    }
}

#[test]
fn nothing_unsound_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    for (sums, counts) in
        [(vec![f32::NAN], vec![1.0]), (vec![1.0], vec![]), (vec![1.0], vec![-1.0])]
    {
        let entries = [("w".to_owned(), Entry { sums, counts })].into();
        let imatrix = Imatrix { entries, ..Imatrix::default() };
        assert!(matches!(imatrix.write(&path), Err(ImatrixError::Entry { .. })));
    }
    let missing = folder.path().join("no/such/folder.gguf");
    assert!(matches!(Imatrix::default().write(&missing), Err(ImatrixError::Io { .. })));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert!(matches!(Imatrix::read(folder.path()), Err(ImatrixError::Gguf(_))));
}

/// Any sound entry: up to four experts of up to nine columns.
fn entry() -> impl Strategy<Value = Entry> {
    let number = || prop_oneof![Just(0.0f32), 0.0f32..1e30];
    (1usize..=4, 1usize..=9).prop_flat_map(move |(experts, columns)| {
        let sums = prop::collection::vec(number(), experts * columns);
        let counts = prop::collection::vec((0u32..1 << 24).prop_map(|n| n as f32), experts);
        (sums, counts).prop_map(|(sums, counts)| Entry { sums, counts })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(
        entries in prop::collection::btree_map("[a-z0-9.]{1,40}", entry(), 1..5),
        chunk_count: u32,
        chunk_size: u32,
        datasets in prop::collection::vec(".{0,20}", 0..3),
    ) {
        let imatrix = Imatrix { entries, chunk_count, chunk_size, datasets };
        prop_assert_eq!(&rewritten(&imatrix).1, &imatrix);
    }

    #[test]
    fn any_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Imatrix::from_bytes(bytes.clone());
        bytes.splice(0..0, *b"GGUF\x03\0\0\0");
        let _ = Imatrix::from_bytes(bytes);
    }

    #[test]
    fn a_changed_byte_leaves_a_sound_file_or_none(at in 0usize..2883, byte: u8) {
        if let Ok(imatrix) = patched(at, &[byte]) {
            rewritten(&imatrix);
        }
    }
}
