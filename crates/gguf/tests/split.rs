//! Split sets: opened from any of their files, refused with the reason when something doesn't fit; and paths
//! that are no regular files.
#![allow(clippy::unwrap_used)] // helpers of tests

use std::path::{Path, PathBuf};

use hob_gguf::{Gguf, GgufError, SplitFault, TensorFault, Writer};
use hob_quant::GgmlType;

fn shard(no: u16, count: u16, tensor: &str) -> Vec<u8> {
    Writer::new()
        .set("general.name", format!("shard {no}"))
        .set("split.no", no)
        .set("split.count", count)
        .set("split.tensors.count", 3i32)
        .tensor(tensor, GgmlType::F32, &[u64::from(no) + 1, 2])
        .and_then(|w| w.to_bytes(|t| vec![no as u8; t.bytes() as usize]))
        .unwrap()
}

fn path(dir: &Path, no: u16) -> PathBuf {
    dir.join(format!("m-0000{no}-of-00003.gguf"))
}

fn set_in(dir: &Path) {
    for no in 0..3 {
        std::fs::write(path(dir, no + 1), shard(no, 3, &format!("t{no}"))).unwrap();
    }
}

#[test]
fn any_file_opens_the_set() {
    let dir = tempfile::tempdir().unwrap();
    set_in(dir.path());
    for no in 1..=3 {
        let model = Gguf::open(&path(dir.path(), no)).unwrap();
        assert_eq!(model.meta().str("general.name"), Ok("shard 0"));
        assert_eq!(model.paths(), [1, 2, 3].map(|no| path(dir.path(), no)));
        let bytes: u64 = model.paths().iter().map(|p| p.metadata().unwrap().len()).sum();
        assert_eq!(model.file_bytes(), bytes);
        for no in 0..3u8 {
            let t = model.tensor(&format!("t{no}")).unwrap();
            assert_eq!(t.shard, usize::from(no));
            assert_eq!(model.tensor_bytes(t), vec![no; 8 * (usize::from(no) + 1)]);
        }
        model.prefault();
    }
}

#[test]
fn names_may_be_others_when_listed() {
    let dir = tempfile::tempdir().unwrap();
    set_in(dir.path());
    let digests: Vec<PathBuf> = (1..=3).map(|no| dir.path().join(format!("sha256-{no}"))).collect();
    for (no, to) in (1..).zip(&digests) {
        std::fs::rename(path(dir.path(), no), to).unwrap();
    }
    assert_eq!(Gguf::open_shards(&digests).unwrap().tensors().len(), 3);
    let root = |r: Result<Gguf, GgufError>| format!("{:?}", r.unwrap_err().root());
    assert!(root(Gguf::open(&digests[0])).contains("Name { count: 3 }"));
    assert!(root(Gguf::open_shards(&digests[..2])).contains("found: 3, expected: 2"));
    assert!(root(Gguf::open_shards(&digests[..1])).contains("found: 3, expected: 1"));
    assert!(root(Gguf::open_shards(&[])).contains("Empty"));
}

#[test]
fn faults_of_sets() {
    let fault = |change: fn(&Path)| {
        let dir = tempfile::tempdir().unwrap();
        set_in(dir.path());
        change(dir.path());
        Gguf::open(&path(dir.path(), 1)).unwrap_err()
    };
    let missing = fault(|dir| std::fs::remove_file(path(dir, 2)).unwrap());
    assert!(missing.to_string().contains("m-00002-of-00003.gguf (file 2 of 3) is missing"));
    assert!(matches!(missing, GgufError::Split(SplitFault::Missing { no: 2, count: 3, .. })));

    let swapped = fault(|dir| {
        std::fs::copy(path(dir, 3), path(dir, 2)).unwrap();
    });
    assert!(swapped.to_string().contains("m-00002-of-00003.gguf: split file: split.no is 2"));

    let other = fault(|dir| std::fs::write(path(dir, 2), shard(1, 2, "x")).unwrap());
    assert!(matches!(
        other.root(),
        GgufError::Split(SplitFault::Number { found: 2, expected: 3, .. })
    ));

    let twice = fault(|dir| std::fs::write(path(dir, 2), shard(1, 3, "t0")).unwrap());
    assert!(matches!(twice.root(), GgufError::Tensor { fault: TensorFault::Duplicate, .. }));

    let fewer = fault(|dir| {
        let w = Writer::new().set("split.no", 1u16).set("split.count", 3u16);
        std::fs::write(path(dir, 2), w.to_bytes(|_| vec![]).unwrap()).unwrap();
    });
    assert!(matches!(
        fewer.root(),
        GgufError::Split(SplitFault::Tensors { found: 2, expected: 3 })
    ));

    let broken = fault(|dir| std::fs::write(path(dir, 3), b"GGUF\x03\0\0\0").unwrap());
    assert!(broken.to_string().contains("m-00003-of-00003.gguf: the tensor count at byte 8"));
}

#[test]
fn only_regular_files() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Gguf::open(dir.path()), Err(GgufError::NotAFile(_))));
    assert!(matches!(Gguf::open(&dir.path().join("none")), Err(GgufError::Io { .. })));
    #[cfg(unix)]
    assert!(matches!(Gguf::open(Path::new("/dev/zero")), Err(GgufError::NotAFile(_))));
    let empty = dir.path().join("empty.gguf");
    std::fs::write(&empty, b"").unwrap();
    assert!(matches!(Gguf::open(&empty).unwrap_err().root(), GgufError::Truncated { .. }));
}
