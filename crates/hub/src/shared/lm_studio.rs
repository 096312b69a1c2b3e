//! LM Studio's models folder, `PUBLISHER/REPOSITORY/FILE.gguf`: repositories of Hugging Face as it fetched them, and what users put
//! there, often as links to files elsewhere. What is still being fetched has names that do not end in `.gguf`.

use std::path::{Path, PathBuf};

use super::repository::{Repository, Walk, linked_file};
use crate::local::Keeper;
use crate::name::ModelName;

/// The repositories below a models folder; those of this name, if one is given.
pub(super) fn repositories(
    root: &Path,
    wanted: Option<&ModelName>,
    walk: &mut Walk,
) -> Vec<Repository> {
    let mut found = Vec::new();
    let fits =
        |part: &str, wanted: Option<&str>| wanted.is_none_or(|w| w.eq_ignore_ascii_case(part));
    for (organisation, folder) in walk.entries(root) {
        let fit = fits(&organisation, wanted.map(|w| w.namespace.as_str()));
        if !fit || leads_back(root, &folder) {
            continue;
        }
        for (name, folder) in walk.entries(&folder) {
            if !fits(&name, wanted.map(|w| w.model.as_str())) || leads_back(root, &folder) {
                continue;
            }
            let files = walk.gguf_files(&folder, &mut |_, name, path| linked_file(name, path));
            let organisation = organisation.clone();
            let keeper = Keeper::LmStudio;
            found.push(Repository { keeper, organisation, name, snapshots: vec![files] });
        }
    }
    found
}

/// Whether a folder is a link to another one of those that are looked through anyway, or to one that they lie in.
fn leads_back(root: &Path, folder: &Path) -> bool {
    let inside =
        |(root, target): (PathBuf, PathBuf)| target.starts_with(&root) || root.starts_with(&target);
    folder.is_symlink()
        && root.canonicalize().ok().zip(folder.canonicalize().ok()).is_some_and(inside)
}
