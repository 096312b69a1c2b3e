//! A model in several files: which tensors go into which, and the files' names, as llama.cpp's gguf-split has them.

use std::ops::Range;
use std::path::{Path, PathBuf};

use hob_gguf::MetaBuilder;
use hob_gguf::limits::MAX_SHARDS;

use super::QuantizeError;
use super::plan::Planned;

/// How a model is divided into files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Split {
    /// One file, whatever the source was.
    #[default]
    None,
    /// As the source is.
    Keep,
    /// At most so many bytes of tensors in each file, but at least one tensor.
    Bytes(u64),
    /// So many tensors in each file.
    Tensors(usize),
}

impl Split {
    /// The tensors of each file.
    pub(super) fn parts(
        self,
        tensors: &[Planned],
        alignment: u64,
    ) -> Result<Vec<Range<usize>>, QuantizeError> {
        let mut starts = Vec::new();
        let mut size = 0u64;
        for (i, t) in tensors.iter().enumerate() {
            let bytes = t.bytes().next_multiple_of(alignment);
            let before = i.checked_sub(1).and_then(|i| tensors.get(i));
            let begins = before.is_none_or(|before| match self {
                Split::None => false,
                Split::Keep => before.shard != t.shard,
                Split::Bytes(most) => size.saturating_add(bytes) > most,
                Split::Tensors(most) => i.is_multiple_of(most.max(1)),
            });
            if begins {
                starts.push(i);
                size = 0;
            }
            size = size.saturating_add(bytes);
        }
        if starts.len() as u64 > MAX_SHARDS {
            return Err(QuantizeError::Parts { parts: starts.len() });
        }
        let ends = starts.iter().skip(1).copied().chain([tensors.len()]);
        Ok(starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect())
    }

    /// The files' names.
    pub(super) fn paths(self, path: &Path, count: usize) -> Vec<PathBuf> {
        if self == Split::None {
            return vec![path.to_owned()];
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let stem = name.strip_suffix(".gguf").unwrap_or(&name);
        let part = |no| path.with_file_name(format!("{stem}-{no:05}-of-{count:05}.gguf"));
        (1..=count).map(part).collect()
    }
}

/// States a file's place in its set. Only the first file carries the model's own metadata.
pub(super) fn stamp(meta: &mut MetaBuilder, no: usize, count: usize, tensors: usize) {
    meta.insert("split.no", no as u16);
    meta.insert("split.count", count as u16);
    meta.insert("split.tensors.count", tensors as i32);
}
