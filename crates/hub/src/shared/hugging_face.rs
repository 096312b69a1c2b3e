//! The cache that Hugging Face's libraries share: `models--ORGANISATION--NAME/{blobs/ETAG, snapshots/COMMIT/PATH, refs/REVISION}`, where
//! a path of a snapshot is a link to a blob, whose name is the SHA-256 of what the hub keeps outside of Git. Links that lead out of the
//! cache are refused. Checkpoints in safetensors are not listed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::places::small_text;
use super::repository::{LocalFile, Repository, Walk, digest_by_name};
use crate::local::Keeper;
use crate::name::ModelName;

/// What the folder of a model's repository begins with.
pub(super) const MODELS: &str = "models--";
/// Longest content of a reference that is read: a commit has 40 digits.
const MAX_REFERENCE: u64 = 256;

/// The repositories of a cache; the one of this name, if one is given.
pub(super) fn repositories(
    root: &Path,
    wanted: Option<&ModelName>,
    walk: &mut Walk,
) -> Vec<Repository> {
    let mut found = Vec::new();
    for (folder_name, folder) in walk.entries(root) {
        let Some((organisation, name)) = folder_name.strip_prefix(MODELS).and_then(parts) else {
            continue;
        };
        let fits = |w: &ModelName| {
            w.namespace.eq_ignore_ascii_case(organisation) && w.model.eq_ignore_ascii_case(name)
        };
        if !wanted.is_none_or(fits) {
            continue;
        }
        let snapshots = snapshots(root, &folder, walk);
        let (organisation, name) = (organisation.to_owned(), name.to_owned());
        found.push(Repository { keeper: Keeper::HuggingFace, organisation, name, snapshots });
    }
    found
}

/// Organisation and name; the hub's oldest repositories have no organisation, and so no name here.
fn parts(repository: &str) -> Option<(&str, &str)> {
    let (organisation, name) = repository.split_once("--")?;
    (!organisation.is_empty() && !name.is_empty()).then_some((organisation, name))
}

/// The files of each snapshot: first that of the main branch, then the others, the newest first. Each file that a library fetches is put
/// into the snapshot of its time, so that an older one may have what the newest has not.
fn snapshots(root: &Path, folder: &Path, walk: &mut Walk) -> Vec<Vec<LocalFile>> {
    let main = small_text(&folder.join("refs/main"), MAX_REFERENCE);
    let main = main.as_deref().map(str::trim);
    let modified = |path: &Path| {
        fs::metadata(path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    };
    let mut all = walk.entries(&folder.join("snapshots"));
    all.sort_by_cached_key(|(commit, path)| {
        (main != Some(commit.as_str()), std::cmp::Reverse(modified(path)))
    });
    let inside = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let mut accept = |walk: &mut Walk, name, path: &Path| file(&inside, name, path, walk);
    all.into_iter().map(|(_, snapshot)| walk.gguf_files(&snapshot, &mut accept)).collect()
}

/// A file of a snapshot; nothing for links that are broken, or to what is still being fetched.
fn file(inside: &Path, name: String, path: &Path, walk: &mut Walk) -> Option<LocalFile> {
    let target: PathBuf = path.canonicalize().ok()?;
    if !target.starts_with(inside) {
        walk.note(path, "it refers to a file outside of the cache, and is left alone");
        return None;
    }
    if target.extension().is_some_and(|e| e == "incomplete") {
        return None;
    }
    let meta = fs::metadata(&target).ok().filter(|meta| meta.is_file())?;
    Some(LocalFile::new(name, path.to_owned(), &meta, digest_by_name(path)))
}
