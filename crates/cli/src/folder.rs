//! A Hugging Face folder as a MODEL: it is converted once, into the store's `converted` folder, and found there as long
//! as its files stay as they are. Deliberately absent: running from safetensors in place; kernels want GGUF's layout.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail};
use hob_forge::convert::{Conversion, Options};
use hob_hub::{Hub, LocalModel, sha256};

use crate::{convert, out};

/// Whether a reference names such a folder.
pub fn is_checkpoint(reference: &str) -> bool {
    Path::new(reference).join("config.json").is_file()
}

/// The converted file of a folder; converts it where there is none.
///
/// # Errors
/// When the folder cannot be read or converted, or there is no room.
pub fn converted(hub: &Hub, reference: &str) -> Result<LocalModel> {
    let folder = fs::canonicalize(reference).with_context(|| format!("cannot open {reference}"))?;
    let place = hub.root().join("converted");
    let path = place.join(format!("{}.gguf", state(&folder)?));
    if !path.is_file() {
        fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
        let conversion = Conversion::plan(&folder, &Options::default())?;
        let bytes = conversion.file_bytes()?;
        out::say(&format!("converting {reference} ({}), once", out::file_size(bytes)));
        convert::write(&conversion, path.clone(), false, bytes)?;
    }
    Ok(LocalModel::file(reference, &path)?)
}

/// What a folder's converted file is known by: its path, and name, length and time of change of its files.
fn state(folder: &Path) -> Result<String> {
    let unreadable = || format!("cannot read {}", folder.display());
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).with_context(unreadable)? {
        files.push(entry.with_context(unreadable)?.path());
    }
    if files.len() > MOST_FILES {
        bail!("{} has {} files; a model has at most {MOST_FILES}", folder.display(), files.len());
    }
    files.sort();
    let mut text = format!("1 {}", folder.display());
    for file in files {
        let meta = fs::metadata(&file).with_context(unreadable)?;
        let changed = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        let nanos = changed.map_or(0, |d| d.as_nanos());
        text += &format!("\n{} {} {nanos}", file.display(), meta.len());
    }
    Ok(sha256(text.as_bytes()))
}

/// Files of the largest checkpoints: some hundreds.
const MOST_FILES: usize = 10_000;
