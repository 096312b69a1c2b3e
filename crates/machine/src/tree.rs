//! Reads the small files in which Linux tells things, below a root that tests replace. Whatever is no regular file is passed over (a pipe
//! would block), every read is bounded, and what is not text counts as absent: nothing here can fail, only not know.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::text::printable;

/// No file read here is larger in practice than a few kB, but for those that `long` reads.
const MAX_FILE: u64 = 64 << 10;
/// Entries of a directory that are looked at.
const MAX_ENTRIES: usize = 4096;

/// A file system's root.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    root: PathBuf,
    /// How a file is read: tests put in one that never ends.
    read: fn(&Path, u64) -> Option<String>,
}

impl Tree {
    pub fn at(root: &Path) -> Tree {
        Tree { root: root.to_owned(), read }
    }

    #[cfg(test)]
    pub fn reading(root: &Path, read: fn(&Path, u64) -> Option<String>) -> Tree {
        Tree { root: root.to_owned(), read }
    }

    /// Where a path of this tree lies. `path` is relative.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// A file of at most 64 KiB; what is behind that is cut off.
    pub fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        self.long(path, MAX_FILE)
    }

    /// The first `most` bytes of a file.
    pub fn long(&self, path: impl AsRef<Path>, most: u64) -> Option<String> {
        (self.read)(&self.path(path), most)
    }

    /// A file that holds one line, fit to be printed.
    pub fn line(&self, path: impl AsRef<Path>) -> Option<String> {
        printable(&self.text(path)?)
    }

    /// A file that holds one decimal number.
    pub fn number<T: FromStr>(&self, path: impl AsRef<Path>) -> Option<T> {
        self.text(path)?.trim().parse().ok()
    }

    /// A file that holds one number in hexadecimal, such as `0x10de`.
    pub fn hex(&self, path: impl AsRef<Path>) -> Option<u32> {
        let text = self.text(path)?;
        u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
    }

    /// The names in a directory, in order.
    pub fn names(&self, directory: impl AsRef<Path>) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(directory)) else { return Vec::new() };
        let names =
            entries.take(MAX_ENTRIES).filter_map(|e| e.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }

    /// The last part of what a symbolic link points to.
    pub fn link(&self, path: impl AsRef<Path>) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        printable(target.file_name()?.to_str()?)
    }
}

fn read(path: &Path, most: u64) -> Option<String> {
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(most).read_to_end(&mut bytes).ok()?;
    // The end may have cut a character in two.
    if bytes.len() as u64 == most {
        while bytes.last().is_some_and(|b| !b.is_ascii()) {
            bytes.pop();
        }
    }
    String::from_utf8(bytes).ok()
}

/// The value behind a key, in a text of lines `key<separator>value`.
pub(crate) fn value<'a>(text: &'a str, key: &str, separator: char) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(separator)?;
        (name.trim() == key).then(|| value.trim())
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use tempfile::TempDir;

    /// A tree of these files.
    pub fn tree(files: &[(&str, &[u8])]) -> (TempDir, Tree) {
        let dir = TempDir::new().unwrap();
        for (path, content) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let tree = Tree::at(dir.path());
        (dir, tree)
    }

    #[test]
    fn reads_lines_and_numbers() {
        let (_dir, tree) = tree(&[
            ("a", b" NVIDIA \x1b[31mGB10\0"),
            ("n", b"42\n"),
            ("h", b"0x10de\n"),
            ("bad", b"\xff\xfe"),
            ("minus", b"-1"),
            ("empty", b" \n"),
        ]);
        assert_eq!(tree.line("a").as_deref(), Some("NVIDIA [31mGB10"));
        assert_eq!(tree.number::<u64>("n"), Some(42));
        assert_eq!(tree.hex("h"), Some(0x10de));
        assert_eq!(tree.text("bad"), None);
        assert_eq!(tree.number::<u64>("minus"), None);
        assert_eq!(tree.number::<u64>("h"), None);
        assert_eq!(tree.hex("n"), None);
        assert_eq!(tree.line("empty"), None);
        assert_eq!(tree.names(""), ["a", "bad", "empty", "h", "minus", "n"]);
    }

    #[test]
    fn what_is_no_regular_file_is_passed_over() {
        let (dir, tree) = tree(&[("directory/x", b"1")]);
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("endless")).unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for name in ["directory", "endless", "pipe", "missing"] {
            assert_eq!(tree.text(name), None, "{name}");
        }
        assert!(tree.exists("pipe"));
    }

    #[test]
    fn long_files_are_cut_between_characters() {
        let (_dir, tree) = tree(&[("long", "abä".repeat(40_000).as_bytes())]);
        let text = tree.text("long").unwrap();
        assert!(text.len() <= 64 << 10 && text.len() > (64 << 10) - 4);
        assert_eq!(tree.long("long", 3).as_deref(), Some("ab"));
    }
}
