//! Import: files of the user become a stored model, and what is none is refused without a trace.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::import::import;
use crate::local::{Facts, Keeper, Overlay};
use crate::name::ModelName;
use crate::store::{Linking, Stored};

struct Bench {
    root: TempDir,
    store: Store,
}

impl Bench {
    fn new() -> Bench {
        let root = TempDir::new().unwrap();
        let store = Store::at(root.path().join("store"));
        Bench { root, store }
    }

    fn write(&self, inside: &str, data: &[u8]) -> PathBuf {
        let path = self.root.path().join(inside);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, data).unwrap();
        path
    }

    fn import(&self, path: &Path, linking: Option<Linking>) -> Result<Stored, HubError> {
        self.import_told(path, linking).0
    }

    /// Beside the model, what was reported of reading it.
    fn import_told(
        &self,
        path: &Path,
        linking: Option<Linking>,
    ) -> (Result<Stored, HubError>, Vec<Progress>) {
        let name = ModelName::parse("mine:1b").unwrap();
        let describe = |files: &[PathBuf]| {
            assert!(files.iter().all(|file| file.is_file()));
            let architecture = "llama".to_owned();
            Some(Facts { architecture, parameters: Some(7), ..Facts::default() })
        };
        let mut told = Vec::new();
        let done = import(&self.store, path, &name, linking, &describe, &mut |p| told.push(p));
        (done, told)
    }

    fn model(&self, stored: &Stored) -> LocalModel {
        LocalModel::stored(&self.store, stored, Keeper::Hob)
    }
}

#[test]
fn a_file_is_copied_and_described() {
    let bench = Bench::new();
    let data = content(100_000);
    let path = bench.write("m-Q5_K_M.gguf", &data);
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).unwrap();
    let (stored, told) = bench.import_told(&path, None);
    let model = bench.model(&stored.unwrap());
    assert_eq!(fs::read(&model.path).unwrap(), data);
    assert_eq!((model.name.as_str(), model.digest), ("mine:1b", Some(sha256(&data))));
    let facts = model.facts.unwrap();
    assert_eq!((facts.architecture.as_str(), facts.parameters), ("llama", Some(7)));
    assert_eq!((facts.recipe.as_str(), facts.source.as_str()), ("Q5_K_M", "file m-Q5_K_M.gguf"));
    assert_eq!(told, [Progress::Verifying { done: 100_000, total: 100_000 }]);
    fs::remove_file(&path).unwrap();
    assert_eq!(fs::read(&model.path).unwrap(), data);
    assert!(names_in(&bench.store.root().join("tmp")).is_empty());
    assert!(bench.store.gc(true).unwrap().is_empty());
}

#[cfg(unix)]
#[test]
fn a_file_may_stay_where_it_is() {
    use std::os::unix::fs::MetadataExt;
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    for linking in [Linking::Hard, Linking::Symbolic] {
        let bench = Bench::new();
        let path = bench.write("m.gguf", b"data");
        let before = fs::metadata(&path).unwrap();
        let model = bench.model(&bench.import(&path, Some(linking)).unwrap());
        assert_eq!(inode(&model.path), inode(&path));
        assert_eq!(model.path.is_symlink(), linking == Linking::Symbolic);
        let after = fs::metadata(&path).unwrap();
        assert_eq!((before.mtime_nsec(), before.blocks()), (after.mtime_nsec(), after.blocks()));
        fs::remove_file(&path).unwrap();
        assert_eq!(model.path.exists(), linking == Linking::Hard);
    }
}

#[test]
fn any_part_stands_for_all() {
    let bench = Bench::new();
    let one = bench.write("m-Q8_0-00001-of-00002.gguf", b"one");
    let two = bench.write("m-Q8_0-00002-of-00002.gguf", b"two!");
    for path in [&one, &two] {
        let model = bench.model(&bench.import(path, None).unwrap());
        let parts: Vec<_> = model.parts.iter().map(|part| fs::read(part).unwrap()).collect();
        assert_eq!(parts, [&b"one"[..], b"two!"]);
    }
    fs::remove_file(&two).unwrap();
    let e = bench.import(&one, None).unwrap_err();
    assert!(e.to_string().contains("1 are missing"), "{e}");
}

#[test]
fn a_folder_holds_one_model_and_its_tower() {
    let bench = Bench::new();
    let folder = bench.root.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let refused = |why: &str| {
        let e = bench.import(&folder, None).unwrap_err();
        assert!(matches!(e, HubError::NotImportable { .. }) && e.to_string().contains(why), "{e}");
    };
    refused("no whole model");
    bench.write("folder/README.md", b"text");
    bench.write("folder/mmproj-F16.gguf", b"tower");
    refused("no whole model");
    bench.write("folder/m-Q4_0.gguf", b"weights");
    let stored = bench.import(&folder, None).unwrap();
    let overlay = Overlay::read(&bench.store, &stored).unwrap();
    assert_eq!(fs::read(overlay.projector.unwrap()).unwrap(), b"tower");
    assert_eq!(fs::read(bench.model(&stored).path).unwrap(), b"weights");
    bench.write("folder/m-Q8_0.gguf", b"more");
    refused("give one of m-Q8_0.gguf, m-Q4_0.gguf");
}

#[cfg(unix)]
#[test]
fn files_that_a_store_named_are_not_read_for_it() {
    let bench = Bench::new();
    let digest = sha256(b"data");
    let ollama = bench.write(&format!("ollama/blobs/sha256-{digest}"), b"data");
    bench.write(&format!("hub/models--o--r/blobs/{digest}"), b"data");
    let snapshot = bench.root.path().join("hub/models--o--r/snapshots/c");
    fs::create_dir_all(&snapshot).unwrap();
    let cached = snapshot.join("m-Q4_0.gguf");
    std::os::unix::fs::symlink(format!("../../blobs/{digest}"), &cached).unwrap();
    for path in [&ollama, &cached] {
        let (stored, told) = bench.import_told(path, Some(Linking::Hard));
        let model = bench.model(&stored.unwrap());
        assert_eq!((model.digest, told), (Some(digest.clone()), vec![]));
    }
    // Elsewhere such a name says nothing.
    let elsewhere = bench.write(&format!("blobs/{digest}"), b"other");
    let (stored, told) = bench.import_told(&elsewhere, None);
    assert_eq!(bench.model(&stored.unwrap()).digest, Some(sha256(b"other")));
    assert_eq!(told.len(), 1);
}

#[test]
fn a_file_that_changes_meanwhile_is_refused() {
    for linking in [None, Some(Linking::Hard)] {
        let bench = Bench::new();
        let path = bench.write("m.gguf", b"data");
        let name = ModelName::parse("mine:1b").unwrap();
        let describe = |files: &[PathBuf]| {
            fs::write(&files[0], b"other data").unwrap();
            None
        };
        let refused = import(&bench.store, &path, &name, linking, &describe, &mut |_| ());
        assert!(matches!(refused, Err(HubError::NotImportable { .. })), "{refused:?}");
        assert!(!bench.store.root().exists());
    }
}

#[test]
fn what_is_not_there_leaves_no_trace() {
    let bench = Bench::new();
    let missing = bench.root.path().join("missing.gguf");
    assert!(matches!(bench.import(&missing, None), Err(HubError::Io { action: "read", .. })));
    assert!(!bench.store.root().exists());
}
