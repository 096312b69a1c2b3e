//! Plans and streams on small models: every row is what the encoder alone makes of it, whatever the threads; sources and
//! sinks that fail.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

use hob_gguf::{Gguf, Writer};
use hob_model::Recipe;
use hob_quant::{GgmlType, decode_row, encode_row};
use hob_testkit::{Family, Tiny};

use super::*;
use crate::imatrix::Entry;

fn options(name: &str) -> Options<'static> {
    Options::new(Recipe::find(name).unwrap())
}

fn writing(path: &Path, threads: usize) -> Writing {
    Writing { path: path.to_owned(), replace: false, threads }
}

fn go_on(_: Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn made(source: &Gguf, options: &Options<'_>, threads: usize) -> Result<Vec<u8>, QuantizeError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.gguf");
    let written = Plan::new(source, options)?.write(&writing(&path, threads), &mut go_on);
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    match written {
        Ok(files) => {
            assert_eq!((files, left), (vec![path.clone()], vec![path.clone()]));
            Ok(std::fs::read(path).unwrap())
        }
        Err(error) => {
            assert_eq!(left, Vec::<PathBuf>::new(), "{error}");
            Err(error)
        }
    }
}

fn decoded(gguf: &Gguf, name: &str) -> Vec<f32> {
    let info = gguf.tensor(name).unwrap();
    let mut weights = vec![0.0; info.elements() as usize];
    decode_row(info.ty, gguf.tensor_bytes(info), &mut weights).unwrap();
    weights
}

/// The source with other bytes in one tensor.
fn with_tensor(source: &Gguf, name: &str, weights: &[f32]) -> Gguf {
    let mut writer = Writer::new();
    writer.meta_mut().extend(source.meta());
    for t in source.tensors() {
        writer.add_tensor(&t.name, t.ty, &t.dims).unwrap();
    }
    let bytes = writer.to_bytes(|t| {
        let mut bytes = source.tensor_bytes(source.tensor(&t.name).unwrap()).to_vec();
        if t.name == name {
            encode_row(t.ty, weights, None, &mut bytes).unwrap();
        }
        bytes
    });
    Gguf::from_bytes(bytes.unwrap()).unwrap()
}

/// Importance for every matrix but the token embedding.
fn matrix(source: &Gguf) -> Imatrix {
    let matrices = source.tensors().iter().filter(|t| t.dims.len() > 1 && t.name.contains("blk"));
    let entry = |t: &hob_gguf::TensorInfo| Entry {
        sums: (0..t.row_len()).map(|i| (i % 7) as f32 + 0.5).collect(),
        counts: vec![2.0],
    };
    let entries: BTreeMap<_, _> = matrices.map(|t| (t.name.clone(), entry(t))).collect();
    Imatrix { entries, chunk_count: 3, chunk_size: 512, datasets: vec!["text.txt".into()] }
}

#[test]
fn rows_are_what_the_encoder_makes_of_them_in_llama_cpp_order() {
    for ty in [GgmlType::F32, GgmlType::F16, GgmlType::BF16, GgmlType::Q8_0] {
        let source = Tiny::new(Family::Llama).quantized(ty).gguf();
        let bytes = made(&source, &Options { pure: true, ..options("q4_1") }, 2).unwrap();
        let out = Gguf::from_bytes(bytes).unwrap();
        let names: Vec<&str> = out.tensors().iter().map(|t| t.name.as_str()).collect();
        assert_eq!(
            names[..4],
            ["output.weight", "output_norm.weight", "token_embd.weight", "blk.0.attn_k.weight"]
        );
        assert_eq!(names.len(), source.tensors().len());
        for t in out.tensors() {
            let from = source.tensor(&t.name).unwrap();
            let to = if from.dims.len() > 1 { GgmlType::Q4_1 } else { from.ty };
            assert_eq!((t.ty, &t.dims), (to, &from.dims), "{}", t.name);
            let mut expected = vec![0; t.bytes() as usize];
            encode_row(to, &decoded(&source, &t.name), None, &mut expected).unwrap();
            assert_eq!(out.tensor_bytes(t), expected, "{}", t.name);
        }
        assert_eq!(out.meta().u32("general.file_type").unwrap(), 3);
        assert_eq!(out.meta().u32("general.quantization_version").unwrap(), 2);
        let keys = |gguf: &Gguf| gguf.meta().iter().map(|(k, _)| k.to_owned()).collect::<Vec<_>>();
        assert_eq!(keys(&out)[..source.meta().len()], keys(&source));
    }
}

/// Enough pieces that threads overtake one another.
#[test]
fn the_number_of_threads_changes_nothing() {
    let tiny = Tiny { vocab: 20_000, width: 128, ..Tiny::new(Family::Qwen3) };
    let source = tiny.gguf();
    let one = made(&source, &options("Q8_0"), 1).unwrap();
    for threads in [2, 3, 7] {
        assert!(made(&source, &options("Q8_0"), threads).unwrap() == one, "{threads}");
    }
}

#[test]
fn the_size_is_known_before() {
    let source = Tiny::new(Family::Qwen2).gguf();
    for name in ["F16", "Q8_0", "BF16"] {
        let plan = Plan::new(&source, &options(name)).unwrap();
        let bytes = plan.total_bytes();
        assert_eq!(made(&source, &options(name), 2).unwrap().len() as u64, bytes, "{name}");
    }
}

#[test]
fn quantized_sources_are_refused_unless_allowed() {
    let source = Tiny::new(Family::Llama).quantized(GgmlType::Q4_0).gguf();
    let error = made(&source, &options("Q8_0"), 1).unwrap_err();
    assert!(matches!(&error, QuantizeError::Requantize { found: GgmlType::Q4_0, .. }), "{error}");
    let allowed = Options { allow_requantize: true, ..options("Q8_0") };
    made(&source, &allowed, 1).unwrap();
    // What keeps its type needs no leave.
    made(&source, &Options { pure: true, ..options("Q4_0") }, 1).unwrap();
}

#[test]
fn types_by_name_and_place() {
    let source = Tiny::new(Family::Llama).gguf();
    let ty = |options: &Options<'_>, name: &str| {
        let plan = Plan::new(&source, options).unwrap();
        plan.tensors().iter().find(|t| t.name == name).unwrap().to
    };
    let base = options("Q8_0");
    let overrides = vec!["ffn_down=Q5_1".parse().unwrap(), "token_embd=Q4_0".parse().unwrap()];
    let mixed = Options {
        overrides,
        embedding_type: Some(GgmlType::Q5_0),
        output_type: Some(GgmlType::BF16),
        ..base.clone()
    };
    assert_eq!(ty(&mixed, "blk.1.ffn_down.weight"), GgmlType::Q5_1);
    assert_eq!(ty(&mixed, "blk.1.ffn_up.weight"), GgmlType::Q8_0);
    assert_eq!(ty(&mixed, "token_embd.weight"), GgmlType::Q5_0);
    assert_eq!(ty(&mixed, "output.weight"), GgmlType::BF16);
    assert_eq!(ty(&mixed, "blk.1.ffn_norm.weight"), GgmlType::F32);
    let left = Options { leave_output: true, ..base };
    assert_eq!(ty(&left, "output.weight"), GgmlType::F32);
    // A token embedding that serves as output has the output's type, but for a type of its own.
    let tied = Tiny::new(Family::Qwen3).gguf();
    let embedding = |options: &Options<'_>| Plan::new(&tied, options).unwrap().types();
    let output = Options { output_type: Some(GgmlType::Q5_0), ..options("Q8_0") };
    assert_eq!(embedding(&output)[&GgmlType::Q5_0], 1);
    let both = Options { embedding_type: Some(GgmlType::Q4_1), ..output };
    assert_eq!(embedding(&both)[&GgmlType::Q4_1], 1);
}

#[test]
fn numbers_that_are_none_are_named_with_their_place() {
    let source = Tiny::new(Family::Llama).gguf();
    for (name, index, value) in [
        ("blk.1.attn_q.weight", 130, f32::NAN),
        ("blk.0.ffn_norm.weight", 3, f32::INFINITY),
        ("token_embd.weight", 64 * 271 + 63, f32::NEG_INFINITY),
    ] {
        let mut weights = decoded(&source, name);
        weights[index] = value;
        let error = made(&with_tensor(&source, name, &weights), &options("Q8_0"), 3).unwrap_err();
        let QuantizeError::NotFinite { tensor, row, column, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!((tensor.as_str(), *row, *column), (name, index as u64 / 64, index % 64));
    }
    let name = "blk.1.attn_q.weight";
    let mut weights = decoded(&source, name);
    weights[70] = 1e6;
    let large = with_tensor(&source, name, &weights);
    let error = made(&large, &options("F16"), 1).unwrap_err();
    assert!(error.to_string().contains("1e6 in row 1, column 6: too large for F16"), "{error}");
    made(&large, &options("BF16"), 1).unwrap();
    made(&large, &options("Q8_0"), 1).unwrap();
}

#[test]
fn importance_is_checked_and_stated() {
    let source = Tiny::new(Family::Llama).gguf();
    let mut matrix = matrix(&source);
    fn with(matrix: &Imatrix) -> Options<'_> {
        let importance = Some(Importance { matrix, file: "imatrix.gguf" });
        Options { importance, ..options("Q8_0") }
    }
    let plan = Plan::new(&source, &with(&matrix)).unwrap();
    assert_eq!(plan.unweighted(), ["token_embd.weight", "output.weight"]);
    let out = Gguf::from_bytes(made(&source, &with(&matrix), 2).unwrap()).unwrap();
    let text = |key: &str| out.meta().str(&format!("quantize.imatrix.{key}")).unwrap().to_owned();
    let count = |key: &str| out.meta().u32(&format!("quantize.imatrix.{key}")).unwrap();
    assert_eq!((text("file"), text("dataset")), ("imatrix.gguf".into(), "text.txt".into()));
    assert_eq!((count("entries_count"), count("chunks_count")), (14, 3));

    let name = "blk.1.ffn_up.weight";
    let good = matrix.entries[name].clone();
    matrix.entries.get_mut(name).unwrap().sums[5] = f32::NAN;
    let error = made(&source, &with(&matrix), 1).unwrap_err();
    assert!(error.to_string().contains("column 5 of tensor 'blk.1.ffn_up.weight'"), "{error}");
    matrix.entries.insert(name.into(), Entry { sums: good.sums[1..].to_vec(), ..good });
    let error = made(&source, &with(&matrix), 1).unwrap_err();
    assert!(error.to_string().contains("63 numbers for tensor 'blk.1.ffn_up.weight', expected 64"));
}

#[test]
fn coarse_types_want_importance() {
    let source = Tiny::new(Family::Llama).quantized(GgmlType::F16);
    let source = Tiny { width: 256, ffn: 256, ..source }.gguf();
    let error = Plan::new(&source, &options("IQ2_XXS")).err().unwrap();
    let QuantizeError::NeedsImportance { given: false, .. } = error else { panic!("{error}") };
    let mut matrix = matrix(&source);
    matrix.entries.remove("blk.1.ffn_up.weight");
    let importance = Some(Importance { matrix: &matrix, file: "" });
    let error = Plan::new(&source, &Options { importance, ..options("IQ2_XXS") }).err().unwrap();
    assert!(matches!(error, QuantizeError::NeedsImportance { given: true, .. }), "{error}");
}

/// A sink that takes so many bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.checked_sub(bytes.len()) {
            Some(left) => {
                self.0 = left;
                Ok(bytes.len())
            }
            None => Err(io::ErrorKind::StorageFull.into()),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_ends_it_wherever_it_strikes() {
    let source = Tiny { vocab: 5000, ..Tiny::new(Family::Llama) }.gguf();
    let plan = Plan::new(&source, &options("F32")).unwrap();
    let all = plan.total_bytes() as usize;
    for room in [0, 1000, all / 2, all - 1, all] {
        let fault = plan.stream(2, |_| Ok(Full(room)), |_| Ok(()), &mut go_on).err();
        let error = fault.map(|f| plan.explain(f, Path::new("x.gguf")).to_string());
        let expected = format!("not enough space for x.gguf: it takes {all} bytes");
        assert_eq!(error, (room < all).then_some(expected), "{room}");
    }
}

#[test]
fn the_caller_may_stop_it_at_any_moment() {
    let source = Tiny::new(Family::Llama).gguf();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.gguf");
    let plan = Plan::new(&source, &options("Q8_0")).unwrap();
    for stop_at in 0..20 {
        let mut calls = 0;
        let stopped = plan.write(&writing(&path, 2), &mut |_| {
            calls += 1;
            if calls > stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(matches!(stopped, Err(QuantizeError::Stopped)));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }
}

#[test]
fn a_place_that_is_taken_is_left_alone() {
    let source = Tiny::new(Family::Llama).gguf();
    let plan = Plan::new(&source, &options("Q8_0")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.gguf");
    let write =
        |replace| plan.write(&Writing { replace, ..writing(&path, 1) }, &mut go_on).map(drop);
    std::fs::write(&path, "mine").unwrap();
    assert!(matches!(write(false), Err(QuantizeError::Exists(p)) if p == path));
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    // Another run holds the lock.
    let lock = folder.path().join(".out.gguf.hob-partial");
    let held = std::fs::File::create(&lock).unwrap();
    held.lock().unwrap();
    assert!(matches!(write(true), Err(QuantizeError::Busy { .. })));
    // It died, and left parts of a split set as well.
    drop(held);
    std::fs::write(&lock, "half").unwrap();
    std::fs::write(folder.path().join(".out.gguf.hob-partial-00002"), "half").unwrap();
    write(true).unwrap();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    Gguf::open(&path).unwrap();
    let missing = folder.path().join("nowhere/out.gguf");
    let error = plan.write(&writing(&missing, 1), &mut go_on).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
    let error = plan.write(&writing(folder.path(), 1), &mut go_on).unwrap_err();
    assert!(matches!(error, QuantizeError::NotAFile(_)), "{error}");
}

#[cfg(unix)]
#[test]
fn the_source_is_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let bytes = Tiny::new(Family::Llama).bytes();
    std::fs::write(path("in.gguf"), &bytes).unwrap();
    std::fs::hard_link(path("in.gguf"), path("hard.gguf")).unwrap();
    std::os::unix::fs::symlink(path("in.gguf"), path("soft.gguf")).unwrap();
    std::fs::create_dir(path("sub")).unwrap();
    let source = Gguf::open(&path("in.gguf")).unwrap();
    let plan = Plan::new(&source, &options("Q8_0")).unwrap();
    for name in ["in.gguf", "hard.gguf", "soft.gguf", "sub/../in.gguf"] {
        let writing = Writing { replace: true, ..writing(&path(name), 1) };
        let error = plan.write(&writing, &mut go_on).unwrap_err();
        assert!(matches!(error, QuantizeError::SameFile(_)), "{name}: {error}");
    }
    assert_eq!(std::fs::read(path("in.gguf")).unwrap(), bytes);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 4);
}

#[test]
fn split_sets_hold_the_same_tensors() {
    let source = Tiny::new(Family::Llama).gguf();
    let whole = Gguf::from_bytes(made(&source, &options("Q8_0"), 2).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (name, split, parts) in [
        ("a", Split::Tensors(8), 3),
        ("b", Split::Bytes(40_000), 3),
        ("c", Split::Bytes(1), 21),
        ("d", Split::Bytes(1 << 30), 1),
    ] {
        let plan = Plan::new(&source, &Options { split, ..options("Q8_0") }).unwrap();
        let path = folder.path().join(format!("{name}.gguf"));
        let files = plan.write(&writing(&path, 2), &mut go_on).unwrap();
        assert_eq!(files.len(), parts, "{name}");
        assert_eq!(
            files[0].file_name().unwrap().to_str().unwrap(),
            format!("{name}-00001-of-{parts:05}.gguf")
        );
        let sizes: Vec<u64> = files.iter().map(|f| f.metadata().unwrap().len()).collect();
        assert_eq!(sizes, plan.file_bytes().collect::<Vec<_>>());
        let joined = Gguf::open(&files[0]).unwrap();
        assert_eq!(joined.paths().len(), parts);
        assert_eq!(joined.meta().u32("split.tensors.count").unwrap(), 21);
        for (a, b) in joined.tensors().iter().zip(whole.tensors()) {
            assert_eq!((&a.name, joined.tensor_bytes(a)), (&b.name, whole.tensor_bytes(b)));
        }
        // The set is a source in its turn, kept as it is or joined.
        let keep = Plan::new(&joined, &Options { split: Split::Keep, ..options("F16") }).unwrap();
        assert_eq!(keep.file_bytes().count(), parts);
        let one = made(&joined, &options("Q8_0"), 1).unwrap();
        assert!(Gguf::from_bytes(one).unwrap().meta().get("split.count").is_none());
    }
    let hidden = std::fs::read_dir(&folder)
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(hidden.count(), 0);
}

/// What is left when a run dies while it gives the files of a set their names.
#[test]
fn a_set_without_its_first_file_is_made_again() {
    let source = Tiny::new(Family::Llama).gguf();
    let plan =
        Plan::new(&source, &Options { split: Split::Tensors(8), ..options("Q8_0") }).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let files = plan.write(&writing(&path, 1), &mut go_on).unwrap();
    assert!(matches!(plan.write(&writing(&path, 1), &mut go_on), Err(QuantizeError::Exists(_))));
    std::fs::rename(&files[0], folder.path().join(".m.gguf.hob-partial")).unwrap();
    std::fs::rename(&files[2], folder.path().join(".m.gguf.hob-partial-00003")).unwrap();
    assert!(Gguf::open(&files[1]).is_err());
    plan.write(&writing(&path, 1), &mut go_on).unwrap();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3);
    Gguf::open(&files[0]).unwrap();
}
