//! A service's file: its last line is a digest of those before it, by which a file that somebody changed is known.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// What is where a service's file should be.
#[derive(Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing.
    Nothing,
    /// A file as hob wrote it.
    Ours,
    /// Another file.
    Changed,
}

/// Begin and end of a comment of the file's language.
pub type Comment = (&'static str, &'static str);

/// The text with its mark.
pub fn marked(text: &str, comment: Comment) -> String {
    format!("{text}{}\n", mark(text, comment))
}

fn mark(text: &str, (open, close): Comment) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let digest: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{open}written by `hob service install`, digest {digest}{close}")
}

/// What is there.
///
/// # Errors
/// When it cannot be read.
pub fn held(path: &Path, comment: Comment) -> Result<Held> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Held::Nothing),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    };
    let Ok(text) = String::from_utf8(bytes) else { return Ok(Held::Changed) };
    let body = text.strip_suffix('\n').and_then(|text| text.rfind('\n')).map_or(0, |at| at + 1);
    let (body, last) = text.split_at(body);
    match last.trim_end() == mark(body, comment) {
        true => Ok(Held::Ours),
        false => Ok(Held::Changed),
    }
}

/// Moves a file to a name beside it that is free; gives the name.
///
/// # Errors
/// When it cannot be moved.
pub fn keep(path: &Path) -> Result<PathBuf> {
    let name = |n: usize| {
        let end = if n == 0 { ".old".to_owned() } else { format!(".old{n}") };
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let free = (0..1000).map(name).find(|path| !path.exists());
    let free = free.context("there are too many old files")?;
    std::fs::rename(path, &free).with_context(|| format!("cannot move {}", path.display()))?;
    Ok(free)
}

/// Writes the file as a whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let what = || format!("cannot write {}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(what)?;
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let mut file = std::fs::File::create(&unfinished).with_context(what)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(what)?;
    std::fs::rename(&unfinished, path).with_context(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("a/hob.service");
        let comment = ("# ", "");
        assert_eq!(held(&path, comment).unwrap(), Held::Nothing);
        let text = marked("[Unit]\nDescription=x\n", comment);
        write(&path, &text).unwrap();
        assert_eq!(held(&path, comment).unwrap(), Held::Ours);
        for changed in [
            text.replace("=x", "=y"),
            format!("{text}# mine\n"),
            text.lines().take(2).collect(),
            String::new(),
            "\n".to_owned(),
        ] {
            write(&path, &changed).unwrap();
            assert_eq!(held(&path, comment).unwrap(), Held::Changed, "{changed}");
        }
        let kept = (keep(&path).unwrap(), Held::Nothing);
        assert_eq!(kept, (folder.path().join("a/hob.service.old"), held(&path, comment).unwrap()));
        write(&path, "x").unwrap();
        assert_eq!(keep(&path).unwrap(), folder.path().join("a/hob.service.old1"));
    }
}
