//! Every crash of every operation of the store. A `Recorder` does the operation on a real folder and writes down each step with the
//! content it moved; `Crash` then replays every prefix of the steps onto a picture of the folder before it, and drops or tears what
//! was not synced in several ways. In each of these folders every model must be wholly there or wholly absent, and going on must work.
//!
//! The picture of a disk is harsher than any file system: entries of folders that were not synced may survive singly, in any order.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use tempfile::TempDir;

use super::content;
use crate::create::{self, Creation};
use crate::digest::{Digest, Hasher};
use crate::fs::{Disk, Fs};
use crate::local::{Keeper, LocalModel, Overlay};
use crate::manifest::{Config, Kind, Layer, Manifest};
use crate::name::ModelName;
use crate::store::Store;

/// One step, with paths relative to the store's root.
#[derive(Clone, Debug)]
enum Step {
    CreateDir(PathBuf),
    Write(PathBuf, Vec<u8>),
    Sync(PathBuf),
    SyncDir(PathBuf),
    Rename(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Remove(PathBuf),
    RemoveDir(PathBuf),
}

/// Does the steps, and remembers them.
#[derive(Debug)]
struct Recorder {
    root: PathBuf,
    steps: Mutex<Vec<Step>>,
}

impl Recorder {
    fn note(&self, done: io::Result<()>, step: impl FnOnce() -> Step) -> io::Result<()> {
        done.map(|()| self.steps.lock().unwrap().push(step()))
    }

    fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).unwrap().to_owned()
    }
}

impl Fs for Recorder {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let there = path.is_dir();
        let done = Disk.create_dir(path);
        if there { done } else { self.note(done, || Step::CreateDir(self.relative(path))) }
    }

    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let done = Disk.write(path, content);
        self.note(done, || Step::Write(self.relative(path), content.to_vec()))
    }

    fn set_modified(&self, path: &Path, time: SystemTime) -> io::Result<()> {
        Disk.set_modified(path, time)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.note(Disk.sync(path), || Step::Sync(self.relative(path)))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.note(Disk.sync_dir(path), || Step::SyncDir(self.relative(path)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let done = Disk.rename(from, to);
        self.note(done, || Step::Rename(self.relative(from), self.relative(to)))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let done = Disk.hard_link(from, to);
        // The file linked lies outside the store and is on the disk.
        self.note(done, || Step::Link(from.to_owned(), self.relative(to)))
    }

    fn symlink(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let there = path.symlink_metadata().is_ok();
        let done = Disk.remove(path);
        if there { self.note(done, || Step::Remove(self.relative(path))) } else { done }
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let there = path.is_dir();
        let done = Disk.remove_dir(path);
        if there { self.note(done, || Step::RemoveDir(self.relative(path))) } else { done }
    }
}

/// A file's identity, whatever its names.
type Inode = usize;

#[derive(Clone, Debug)]
struct Content {
    /// What a reader sees.
    now: Vec<u8>,
    /// Whether that is on the disk.
    synced: bool,
}

/// A change of a folder's entries that is not on the disk yet.
#[derive(Clone, Debug)]
enum Entry {
    Dir(PathBuf),
    Set(PathBuf, Inode),
    /// From, to, what.
    Moved(PathBuf, PathBuf, Inode),
    Unset(PathBuf),
    UnsetDir(PathBuf),
}

impl Entry {
    /// The folders whose sync puts it on the disk.
    fn folders(&self) -> Vec<&Path> {
        match self {
            Entry::Dir(p) | Entry::Set(p, _) | Entry::Unset(p) | Entry::UnsetDir(p) => {
                vec![p.parent().unwrap_or(Path::new(""))]
            }
            Entry::Moved(from, to, _) => {
                [from, to].map(|p| p.parent().unwrap_or(Path::new(""))).to_vec()
            }
        }
    }
}

/// What becomes of a file that was not synced.
type Tear = fn(&[u8]) -> Vec<u8>;

/// What a disk holds: names on it for sure, and changes on their way there.
#[derive(Clone, Debug, Default)]
struct Picture {
    dirs: Vec<PathBuf>,
    names: BTreeMap<PathBuf, Inode>,
    contents: Vec<Content>,
    pending: Vec<Entry>,
}

impl Picture {
    /// A folder as it lies on the disk, everything synced.
    fn of(root: &Path) -> Picture {
        let mut picture = Picture::default();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(root.join(&folder)).unwrap() {
                let entry = entry.unwrap();
                let path = folder.join(entry.file_name());
                if entry.file_type().unwrap().is_dir() {
                    picture.dirs.push(path.clone());
                    folders.push(path);
                } else {
                    let now = fs::read(entry.path()).unwrap();
                    picture.names.insert(path, picture.contents.len());
                    picture.contents.push(Content { now, synced: true });
                }
            }
        }
        picture.dirs.sort();
        picture
    }

    /// The names that a running system sees.
    fn seen(&self) -> BTreeMap<PathBuf, Inode> {
        let mut seen = self.clone();
        for entry in std::mem::take(&mut seen.pending) {
            seen.settle(&entry);
        }
        seen.names
    }

    /// Puts one change of entries on the disk.
    fn settle(&mut self, entry: &Entry) {
        match entry {
            Entry::Dir(path) => self.dirs.push(path.clone()),
            Entry::Set(path, inode) => {
                self.names.insert(path.clone(), *inode);
            }
            Entry::Moved(from, to, inode) => {
                self.names.remove(from);
                self.names.insert(to.clone(), *inode);
            }
            Entry::Unset(path) => {
                self.names.remove(path);
            }
            Entry::UnsetDir(path) => self.dirs.retain(|d| d != path),
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::CreateDir(path) => self.pending.push(Entry::Dir(path.clone())),
            Step::Write(path, now) => {
                self.pending.push(Entry::Set(path.clone(), self.contents.len()));
                self.contents.push(Content { now: now.clone(), synced: false });
            }
            Step::Link(from, to) => {
                self.pending.push(Entry::Set(to.clone(), self.contents.len()));
                self.contents.push(Content { now: fs::read(from).unwrap(), synced: true });
            }
            Step::Sync(path) => {
                let inode = self.seen()[path];
                self.contents[inode].synced = true;
            }
            Step::Rename(from, to) => {
                let inode = self.seen()[from];
                self.pending.push(Entry::Moved(from.clone(), to.clone(), inode));
            }
            Step::Remove(path) => self.pending.push(Entry::Unset(path.clone())),
            Step::RemoveDir(path) => self.pending.push(Entry::UnsetDir(path.clone())),
            Step::SyncDir(folder) => {
                let pending = std::mem::take(&mut self.pending);
                let (due, later): (Vec<_>, Vec<_>) =
                    pending.into_iter().partition(|e| e.folders().contains(&folder.as_path()));
                due.iter().for_each(|entry| self.settle(entry));
                self.pending = later;
            }
        }
    }

    /// The disks that a crash now may leave: which pending changes of entries survive, and what unsynced files hold.
    fn crashes(&self) -> Vec<Picture> {
        let n = self.pending.len();
        let mut kept: Vec<Vec<bool>> = vec![vec![true; n], vec![false; n]];
        for i in 0..n {
            kept.push((0..n).map(|j| j == i).collect());
            kept.push((0..n).map(|j| j != i).collect());
            kept.push((0..n).map(|j| j <= i).collect());
        }
        let torn: [Tear; 4] = [
            <[u8]>::to_vec,
            |_| Vec::new(),
            |data| data[..data.len() / 2].to_vec(),
            |data| vec![0; data.len()],
        ];
        let mut all = BTreeMap::new();
        for kept in &kept {
            for tear in torn {
                let mut after = self.clone();
                let pending = std::mem::take(&mut after.pending);
                let survivors = pending.iter().zip(kept).filter(|(_, kept)| **kept);
                survivors.for_each(|(entry, _)| after.settle(entry));
                for content in after.contents.iter_mut().filter(|c| !c.synced) {
                    content.now = tear(&content.now);
                }
                all.insert(after.disk(), after);
            }
        }
        all.into_values().collect()
    }

    /// All that can be seen of it.
    fn disk(&self) -> (Vec<PathBuf>, BTreeMap<PathBuf, Vec<u8>>) {
        let content = |inode: &Inode| self.contents[*inode].now.clone();
        let names = self.names.iter().map(|(path, inode)| (path.clone(), content(inode)));
        (self.dirs.clone(), names.collect())
    }

    /// Makes a real folder of it. A file whose folder did not survive is lost.
    fn lay_out(&self, root: &Path) {
        let mut dirs = self.dirs.clone();
        dirs.sort();
        for dir in dirs {
            if root.join(&dir).parent().is_some_and(Path::is_dir) {
                fs::create_dir_all(root.join(dir)).unwrap();
            }
        }
        for (path, inode) in &self.names {
            if root.join(path).parent().is_some_and(Path::is_dir) {
                fs::write(root.join(path), &self.contents[*inode].now).unwrap();
            }
        }
    }
}

fn name(text: &str) -> ModelName {
    ModelName::parse(text).unwrap()
}

/// Weights of a model: its name is its seed.
fn weights(of: &str) -> Vec<u8> {
    content(2_000 + of.len() * 100)
}

/// Stores a model as `pull` and `create` do: weights from a partial file, small layers from memory, then the manifest.
fn store_model(store: &Store, model: &str, system: &str) {
    let data = weights(model);
    let large = Layer::new(Kind::Model, Hasher::of(&data), data.len() as u64);
    let config = Config { model_type: model.to_owned(), ..Config::default() };
    let text = Layer::new(Kind::System, Hasher::of(system.as_bytes()), system.len() as u64);
    let manifest = Manifest::new(config.layer(), vec![large.clone(), text]);
    let locks = store.lock_model(&manifest).unwrap();
    store.add_as(&locks, &large, &data).unwrap();
    store.add(&locks, Kind::System, system.as_bytes()).unwrap();
    store.add_as(&locks, &manifest.config, &config.to_bytes()).unwrap();
    store.commit(&locks, &name(model), &manifest.to_bytes()).unwrap();
}

/// Names and identities of the models in a store. None may be damaged, and every blob of each must be what its name says.
fn models(root: &Path) -> Vec<(String, Digest)> {
    let store = Store::at(root.to_owned());
    store.refresh().unwrap();
    let (models, damaged) = store.list().unwrap();
    assert_eq!(damaged, []);
    for model in &models {
        for layer in model.manifest.blobs() {
            let bytes = fs::read(store.blob(&layer.digest)).unwrap();
            assert_eq!(Hasher::of(&bytes), layer.digest, "a blob of {}", model.name);
        }
    }
    models.into_iter().map(|m| (m.name.to_string(), m.id)).collect()
}

/// Runs an operation on a prepared store and checks every crash in it. Returns how many disks were looked at.
fn every_crash(prepare: impl Fn(&Store), operation: impl Fn(&Store)) -> usize {
    let root = TempDir::new().unwrap();
    prepare(&Store::at(root.path().to_owned()));
    let start = Picture::of(root.path());
    let before = models(root.path());
    let steps = Mutex::default();
    let recorder = Arc::new(Recorder { root: root.path().to_owned(), steps });
    operation(&Store::on(root.path().to_owned(), recorder.clone()));
    let after = models(root.path());
    let steps = recorder.steps.lock().unwrap().clone();
    assert!(!steps.is_empty());

    let mut looked_at = 0;
    every_disk(start, &steps, |disk, done| {
        let found = models(disk);
        let sound = |model: &&(String, Digest)| before.contains(model) || after.contains(model);
        assert_eq!(found.iter().find(|m| !sound(m)), None, "after {done} of {steps:?}");
        for model in before.iter().filter(|m| after.contains(m)) {
            assert!(found.contains(model), "{model:?} was lost after {done} of {steps:?}");
        }
        if done == steps.len() {
            // It has returned: nothing of it may be lost any more.
            assert_eq!(found, after, "after all of {steps:?}");
        }
        go_on(disk, &operation, &after);
        looked_at += 1;
    });
    looked_at
}

/// Lays out every disk that a crash may leave after each number of steps done.
fn every_disk(start: Picture, steps: &[Step], mut look: impl FnMut(&Path, usize)) {
    let mut picture = start;
    for done in 0..=steps.len() {
        if done > 0 {
            picture.take(&steps[done - 1]);
        }
        for crash in picture.crashes() {
            let disk = TempDir::new().unwrap();
            crash.lay_out(disk.path());
            look(disk.path(), done);
        }
    }
}

/// After a crash the operation can be done again, and a clean-up takes nothing that is used.
fn go_on(disk: &Path, operation: &impl Fn(&Store), after: &[(String, Digest)]) {
    let store = Store::at(disk.to_owned());
    operation(&store);
    store.gc(true).unwrap();
    assert_eq!(models(disk), after);
    let used: usize = {
        let (models, _) = store.list().unwrap();
        let mut digests: Vec<Digest> =
            models.iter().flat_map(|m| m.manifest.blobs().map(|l| l.digest)).collect();
        digests.sort();
        digests.dedup();
        digests.len()
    };
    assert_eq!(fs::read_dir(disk.join("blobs")).unwrap().count(), used, "garbage is left");
}

fn two_models(store: &Store) {
    store_model(store, "old", "You are old.");
    store_model(store, "older", "You are old.");
}

#[test]
fn storing_a_first_model_is_all_or_nothing() {
    let n = every_crash(|_| (), |store| store_model(store, "new", "You are new."));
    assert!(n > 200, "{n}");
}

#[test]
fn storing_beside_others_harms_none() {
    every_crash(two_models, |store| store_model(store, "me/new:v1", "You are old."));
}

#[test]
fn replacing_leaves_the_old_or_the_new() {
    every_crash(two_models, |store| store_model(store, "old", "You are renewed."));
}

#[test]
fn removing_is_all_or_nothing() {
    every_crash(two_models, |store| {
        store.remove(&name("old")).unwrap();
    });
}

#[test]
fn copying_is_all_or_nothing() {
    every_crash(two_models, |store| {
        store.copy(&name("old"), &name("copy:x")).unwrap();
    });
}

#[test]
fn creating_over_a_stored_model_is_all_or_nothing() {
    every_crash(two_models, |store| create_over(store, "old", "made:x"));
    // Under the base's own name: the old model or the new one, never something between.
    every_crash(two_models, |store| create_over(store, "old", "old"));
}

/// Lays a system prompt and parameters over a stored model.
fn create_over(store: &Store, base: &str, made: &str) {
    let stored = store.get(&name(base)).unwrap().unwrap();
    let overlay = Overlay {
        system: Some("Be brief.".to_owned()),
        parameters: serde_json::from_str(r#"{"temperature": 0.5}"#).unwrap(),
        ..Overlay::default()
    };
    let base = LocalModel::stored(store, &stored, Keeper::Hob);
    let creation = Creation { base, overlay, requires: None };
    let under = Overlay::read(store, &stored).unwrap();
    let from = (Some(stored), under);
    create::create(store, &name(made), &creation, from, &|_| None, &mut |_| ()).unwrap();
}

#[test]
fn creating_from_a_file_is_all_or_nothing() {
    let outside = TempDir::new().unwrap();
    let path = outside.path().join("file.gguf");
    fs::write(&path, weights("file")).unwrap();
    every_crash(two_models, |store| {
        let base = LocalModel::file("file.gguf", &path).unwrap();
        let overlay = Overlay { system: Some("Be long.".to_owned()), ..Overlay::default() };
        let creation = Creation { base, overlay, requires: None };
        let from = (None, Overlay::default());
        create::create(store, &name("made"), &creation, from, &|_| None, &mut |_| ()).unwrap();
    });
}

#[test]
fn collecting_takes_nothing_that_is_used() {
    let with_garbage = |store: &Store| {
        two_models(store);
        let data = b"nobody's".to_vec();
        let layer = Layer::new(Kind::Model, Hasher::of(&data), data.len() as u64);
        let locks = store.lock(&[layer.digest], || ()).unwrap();
        store.add_as(&locks, &layer, &data).unwrap();
        fs::write(store.partial(&Hasher::of(b"lost")), "part of it").unwrap();
    };
    every_crash(with_garbage, |store| {
        store.gc(true).unwrap();
    });
}

#[test]
fn an_old_store_is_brought_up_to_date_or_stays_old() {
    let old = |store: &Store| {
        let data = weights("old");
        let digest = Hasher::of(&data);
        for folder in ["blobs", "manifests/smollm2", "manifests/other"] {
            fs::create_dir_all(store.root().join(folder)).unwrap();
        }
        fs::write(store.blob(&digest), &data).unwrap();
        let manifest = format!(
            r#"{{"schema": 1, "digest": "sha256:{digest}", "bytes": {}, "recipe": "Q4_1", "architecture": "llama",
            "parameters": 7, "licence": "MIT", "source": "here"}}"#,
            data.len()
        );
        for path in ["smollm2/135m.json", "other/latest.json"] {
            fs::write(store.root().join("manifests").join(path), &manifest).unwrap();
        }
    };
    every_old_crash(old);
}

/// As `every_crash`, for the migration, which looking at a store does by itself.
fn every_old_crash(old: impl Fn(&Store)) {
    let root = TempDir::new().unwrap();
    old(&Store::at(root.path().to_owned()));
    let picture = Picture::of(root.path());
    let recorder = Arc::new(Recorder { root: root.path().to_owned(), steps: Mutex::default() });
    Store::on(root.path().to_owned(), recorder.clone()).refresh().unwrap();
    let after = models(root.path());
    assert_eq!(
        after.iter().map(|m| m.0.as_str()).collect::<Vec<_>>(),
        ["other:latest", "smollm2:135m"]
    );
    let steps = recorder.steps.lock().unwrap().clone();
    every_disk(picture, &steps, |disk, done| {
        assert_eq!(models(disk), after, "after {done} of {steps:?}");
    });
}
