//! Repositories of a hub that lie on this disk, whoever fetched them: files in GGUF, grouped into models as those of an offer are. A model
//! is called as it would be pulled, `hf.co/ORGANISATION/REPOSITORY:RECIPE`.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::digest::Digest;
use crate::error::{HubError, SourceError};
use crate::local::{Facts, Keeper, LocalModel};
use crate::name::{DEFAULT_TAG, HUGGING_FACE, ModelName};
use crate::source::{Listed, Variant, recipe_named, select_of, variants_of};
use crate::store::{Damaged, is_absent};

/// Most entries looked at below one folder of another program.
pub(super) const MAX_ENTRIES: usize = 200_000;
/// Folders within each other in a repository.
const MAX_DEPTH: usize = 4;

/// A file of a repository.
#[derive(Clone, Debug)]
pub(crate) struct LocalFile {
    /// Path within the repository, with `/` between its parts.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    pub bytes: u64,
    pub digest: Option<Digest>,
    pub modified: SystemTime,
}

impl LocalFile {
    pub fn new(name: String, path: PathBuf, meta: &Metadata, digest: Option<Digest>) -> LocalFile {
        let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        LocalFile { name, path, bytes: meta.len(), digest, modified }
    }
}

impl Listed for LocalFile {
    fn path(&self) -> &str {
        &self.name
    }

    fn bytes(&self) -> Option<u64> {
        Some(self.bytes)
    }
}

/// A repository, in one or more states.
#[derive(Clone, Debug)]
pub(super) struct Repository {
    pub keeper: Keeper,
    pub organisation: String,
    pub name: String,
    /// Files in GGUF of each state, the preferred state first. A model's files are all of one.
    pub snapshots: Vec<Vec<LocalFile>>,
}

/// A model, and the vision tower beside it.
pub(super) type Found = (LocalModel, Option<PathBuf>);

impl Repository {
    /// Every whole model, once; what cannot be named is told of.
    pub fn models(&self, notes: &mut Vec<Damaged>) -> Vec<Found> {
        let mut models: Vec<Found> = Vec::new();
        for files in &self.snapshots {
            let variants = variants_of(files);
            for variant in &variants {
                match self.model(variant, &variants) {
                    Some(found) if models.iter().any(|(m, _)| m.name == found.0.name) => {}
                    Some(found) => models.push(found),
                    None => notes.extend(variant.files.first().map(|file| nameless(file))),
                }
            }
        }
        models
    }

    /// The model that a name means: by recipe or file name; without either, or as `latest`, the one that came last.
    pub fn find(&self, name: &ModelName) -> Result<Option<Found>, HubError> {
        let tag = name.given_tag().filter(|tag| !tag.eq_ignore_ascii_case(DEFAULT_TAG));
        let Some(tag) = tag else {
            let models = self.models(&mut Vec::new());
            return Ok(models.into_iter().max_by_key(|(model, _)| model.modified));
        };
        let mut reason = None;
        for files in &self.snapshots {
            match select_of(files, tag) {
                Ok(variant) => return Ok(self.model(&variant, &variants_of(files))),
                Err(SourceError::NoVariant { .. } | SourceError::NoGguf) => {}
                Err(e) => reason = reason.or(Some(e.to_string())),
            }
        }
        let keeper = self.keeper.name();
        match reason {
            None => Ok(None),
            Some(reason) => Err(HubError::Unusable { name: name.to_string(), keeper, reason }),
        }
    }

    /// A variant as a model, called by its recipe if no other of them has the same, else by its file. `None` when that is no name.
    fn model(&self, variant: &Variant<LocalFile>, all: &[Variant<LocalFile>]) -> Option<Found> {
        let first = variant.files.first()?;
        let alike = all.iter().filter(|v| v.recipe == variant.recipe).count();
        let tag = match alike {
            0 | 1 => &variant.recipe,
            _ => first.name.rsplit('/').next()?,
        };
        let name = ModelName::from_parts(HUGGING_FACE, &self.organisation, &self.name, tag)?;
        let repository = name.repository();
        let model = LocalModel {
            name: name.to_string(),
            path: first.path.clone(),
            parts: variant.files.iter().map(|file| file.path.clone()).collect(),
            digest: first.digest.map(|digest| digest.to_string()),
            id: None,
            bytes: variant.files.iter().map(|file| file.bytes).sum(),
            modified: first.modified,
            facts: Some(Facts {
                recipe: recipe_named(&first.name).unwrap_or_default(),
                source: format!("Hugging Face {repository}"),
                ..Facts::default()
            }),
            keeper: self.keeper,
        };
        Some((model, variant.projector.map(|file| file.path.clone())))
    }
}

fn nameless(file: &LocalFile) -> Damaged {
    let reason = "its name is none that a model can have; give its path instead".to_owned();
    Damaged { name: file.path.display().to_string(), reason }
}

/// Walks through folders with a bounded number of entries.
#[derive(Debug)]
pub(super) struct Walk {
    left: usize,
    /// What could not be looked at.
    pub notes: Vec<Damaged>,
}

impl Walk {
    pub fn new() -> Walk {
        Walk { left: MAX_ENTRIES, notes: Vec::new() }
    }

    /// Names and paths in a folder, by name, without hidden ones; none when it cannot be read, which is noted.
    pub fn entries(&mut self, folder: &Path) -> Vec<(String, PathBuf)> {
        let (mut found, mut failed) = (Vec::new(), None);
        match fs::read_dir(folder) {
            Err(e) if is_absent(&e) => {}
            Err(e) => failed = Some(e),
            Ok(listing) => {
                for entry in listing {
                    if self.left == 0 {
                        failed = Some(io::Error::other("too many files to look through"));
                        break;
                    }
                    self.left -= 1;
                    // Names that are not UTF-8 are none that a hub has.
                    let Ok(entry) = entry else { continue };
                    let Ok(name) = entry.file_name().into_string() else { continue };
                    if !name.starts_with('.') {
                        found.push((name, entry.path()));
                    }
                }
            }
        }
        if let Some(e) = failed {
            self.note(folder, &format!("it cannot be read: {e}"));
        }
        found.sort();
        found
    }

    /// Those files in GGUF below a folder that `accept` takes, which is given the path within the folder and the path. Links to folders are
    /// not followed.
    pub fn gguf_files(
        &mut self,
        folder: &Path,
        accept: &mut dyn FnMut(&mut Walk, String, &Path) -> Option<LocalFile>,
    ) -> Vec<LocalFile> {
        let mut files = Vec::new();
        let mut folders = vec![(String::new(), folder.to_owned(), 0)];
        while let Some((prefix, folder, depth)) = folders.pop() {
            for (name, path) in self.entries(&folder) {
                let inner = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
                if inner && depth + 1 < MAX_DEPTH {
                    folders.push((format!("{prefix}{name}/"), path, depth + 1));
                } else if !inner && name.to_ascii_lowercase().ends_with(".gguf") {
                    files.extend(accept(self, format!("{prefix}{name}"), &path));
                }
            }
        }
        files
    }

    pub fn note(&mut self, path: &Path, reason: &str) {
        let name = path.display().to_string();
        self.notes.push(Damaged { name, reason: reason.to_owned() });
    }
}

/// The files in GGUF that lie in a folder itself; those that cannot be looked at are passed over.
pub(crate) fn gguf_files_in(folder: &Path) -> Vec<LocalFile> {
    let entries = Walk::new().entries(folder).into_iter();
    let gguf = entries.filter(|(name, _)| name.to_ascii_lowercase().ends_with(".gguf"));
    gguf.filter_map(|(name, path)| linked_file(name, &path)).collect()
}

/// A file, or what a link to one refers to.
pub(super) fn linked_file(name: String, path: &Path) -> Option<LocalFile> {
    let meta = fs::metadata(path).ok().filter(|meta| meta.is_file())?;
    Some(LocalFile::new(name, path.to_owned(), &meta, digest_by_name(path)))
}

/// The digest that a file's name tells, in stores that name files so: of the file, or of the one that it is a link to.
pub(crate) fn digest_by_name(path: &Path) -> Option<Digest> {
    let blob = match fs::read_link(path) {
        Ok(target) => path.parent()?.join(target),
        Err(_) => path.to_owned(),
    };
    let folder = blob.parent()?;
    if folder.file_name()? != "blobs" {
        return None;
    }
    let name = blob.file_name()?.to_str()?;
    match name.strip_prefix("sha256-") {
        Some(hex) => hex.parse().ok(),
        None => {
            let repository = folder.parent()?.canonicalize().ok()?;
            let cached = repository.file_name()?.to_str()?.starts_with("models--");
            cached.then(|| name.parse().ok()).flatten()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_ends() {
        let root = tempfile::tempdir().unwrap();
        for n in 0..20 {
            fs::write(root.path().join(format!("m{n}-Q4_0.gguf")), b"x").unwrap();
        }
        let mut walk = Walk { left: 12, notes: Vec::new() };
        let accept = &mut |_: &mut Walk, name, path: &Path| linked_file(name, path);
        assert_eq!(walk.gguf_files(root.path(), accept).len(), 12);
        assert_eq!(walk.notes.len(), 1);
        assert!(walk.notes[0].reason.contains("too many"), "{:?}", walk.notes);
        assert!(walk.entries(root.path()).is_empty());
    }
}
