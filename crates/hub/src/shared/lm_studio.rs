//! LM Studio's models folder, `PUBLISHER/REPOSITORY/FILE.gguf`: repositories of Hugging Face as it fetched them, and what users put
//! there, often as links to files elsewhere. What is still being fetched has names that do not end in `.gguf`.

use std::path::Path;

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
        if !fits(&organisation, wanted.map(|w| w.namespace.as_str())) {
            continue;
        }
        for (name, folder) in walk.entries(&folder) {
            if !fits(&name, wanted.map(|w| w.model.as_str())) {
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
