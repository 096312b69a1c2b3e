//! Names of split files: `NAME-00001-of-00003.gguf`, numbered from 1, as llama.cpp's gguf-split writes them.

use std::path::{Path, PathBuf};

use crate::error::{GgufError, SplitFault};
use crate::limits::MAX_SHARDS;

/// Metadata key: number of the file in its set, from 0.
pub(crate) const NO: &str = "split.no";
/// Metadata key: number of files in the set.
pub(crate) const COUNT: &str = "split.count";
/// Metadata key: number of tensors in all files of the set.
pub(crate) const TENSORS: &str = "split.tensors.count";

/// Paths of all files of the set of `count` files that `path` is one of.
pub(crate) fn paths(path: &Path, count: u64) -> Result<Vec<PathBuf>, GgufError> {
    if count > MAX_SHARDS {
        let what = "the number of split files";
        return Err(GgufError::Limit { what, found: count, limit: MAX_SHARDS });
    }
    let stem = path.file_name().and_then(|n| n.to_str()).and_then(|n| stem(n, count));
    let stem = stem.ok_or(GgufError::Split(SplitFault::Name { count }))?;
    Ok((1..=count).map(|no| path.with_file_name(name(stem, no, count))).collect())
}

/// The name of file `no` (from 1) of a set.
fn name(stem: &str, no: u64, count: u64) -> String {
    format!("{stem}-{no:05}-of-{count:05}.gguf")
}

/// `NAME` of a name in a set of `count` files.
fn stem(file_name: &str, count: u64) -> Option<&str> {
    let (stem, _) = file_name.strip_suffix(".gguf")?.rsplit_once("-of-")?.0.rsplit_once('-')?;
    let fits = |no| file_name == name(stem, no, count);
    let no: u64 = file_name.get(stem.len() + 1..)?.split('-').next()?.parse().ok()?;
    ((1..=count).contains(&no) && fits(no)).then_some(stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems() {
        assert_eq!(stem("a-00001-of-00003.gguf", 3), Some("a"));
        assert_eq!(stem("a-of-b-1-00003-of-00003.gguf", 3), Some("a-of-b-1"));
        assert_eq!(stem("-00003-of-00003.gguf", 3), Some(""));
        for wrong in [
            "a.gguf",
            "a-00001-of-00002.gguf",
            "a-00004-of-00003.gguf",
            "a-00000-of-00003.gguf",
            "a-1-of-3.gguf",
            "a-00001-of-00003.bin",
            "00001-of-00003.gguf",
            "a-+0001-of-00003.gguf",
        ] {
            assert_eq!(stem(wrong, 3), None, "{wrong}");
        }
    }

    #[test]
    fn all_paths_from_any() {
        let all = paths(Path::new("/m/x-00002-of-00002.gguf"), 2).unwrap();
        let expected = ["/m/x-00001-of-00002.gguf", "/m/x-00002-of-00002.gguf"];
        assert_eq!(all, expected.map(PathBuf::from));
    }
}
