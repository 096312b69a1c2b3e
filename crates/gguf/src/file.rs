//! Opening: maps one file or all files of a split set, and joins them into one model. Tensor data are never
//! read here, only bounded. Deliberately absent: reading without a map, and repairing broken files.

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Mmap, MmapMut};

use crate::error::{GgufError, SplitFault};
use crate::header::{self, Header};
use crate::limits::MAX_TENSORS;
use crate::metadata::{Metadata, convert};
use crate::split;
use crate::tensor::{self, TensorInfo};

/// An open GGUF model: one file, or all files of a split set. Read-only, `Send` and `Sync`.
///
/// The files are mapped, not read: they must not be truncated or overwritten in place while this value
/// lives. A shrunk file makes the next access to the lost pages a `SIGBUS` that ends the process; replace
/// files by renaming a new one over them.
pub struct Gguf {
    shards: Vec<Shard>,
    paths: Vec<PathBuf>,
    version: u32,
    alignment: u32,
    meta: Metadata,
    tensors: Vec<TensorInfo>,
    /// Indices into `tensors`, sorted by name.
    by_name: Vec<u32>,
}

struct Shard {
    map: Arc<Mmap>,
    data_start: u64,
    /// Whether the map is of a file, from which dropped pages come back.
    #[cfg_attr(not(unix), allow(dead_code))]
    of_file: bool,
}

/// Stands for the path of an image in memory.
const MEMORY: &str = "(memory)";

/// One mapped file with its header.
struct OneFile {
    map: Arc<Mmap>,
    header: Header,
    of_file: bool,
}

impl OneFile {
    fn parse(map: Mmap, of_file: bool) -> Result<Self, GgufError> {
        let header = header::parse(&map, map.len() as u64)?;
        Ok(OneFile { map: Arc::new(map), header, of_file })
    }

    fn open(path: &Path) -> Result<Self, GgufError> {
        let map = map_file(path)?;
        Self::parse(map, true).map_err(|e| in_file(path, e))
    }

    fn number(&self, key: &str) -> Result<Option<u64>, GgufError> {
        let value = self.header.entries.get(&self.map, key);
        Ok(value.map(|v| convert(key, v)).transpose()?)
    }

    /// How many files the metadata announce.
    fn split_count(&self) -> Result<u64, GgufError> {
        Ok(self.number(split::COUNT)?.unwrap_or(1).max(1))
    }

    /// Checks that this file is the one at place `no` (from 0) of `count`.
    fn check_split(&self, no: u64, count: u64) -> Result<(), GgufError> {
        let number = self.number(split::NO)?.unwrap_or(0);
        let of = [(split::NO, number, no), (split::COUNT, self.split_count()?, count)];
        for (key, found, expected) in of {
            if found != expected {
                return Err(GgufError::Split(SplitFault::Number { key, found, expected }));
            }
        }
        Ok(())
    }
}

fn in_file(path: &Path, source: GgufError) -> GgufError {
    GgufError::File { path: path.to_owned(), source: Box::new(source) }
}

fn map_file(path: &Path) -> Result<Mmap, GgufError> {
    let io = |source| GgufError::Io { path: path.to_owned(), source };
    // Asked before opening, because opening a pipe waits for a writer.
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(GgufError::NotAFile(path.to_owned()));
    }
    let file = File::open(path).map_err(io)?;
    // SAFETY: the map is read-only and its length is the file's at this moment. Rust also wants that nobody
    // changes the file while it is mapped; no operating system grants that, so it is the documented
    // condition of `Gguf`. Nothing here relies on a second read giving the same bytes: all walks over the
    // map stay bounds-checked. A file cut short by others ends the process with SIGBUS.
    unsafe { Mmap::map(&file) }.map_err(io)
}

impl fmt::Debug for Gguf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gguf")
            .field("paths", &self.paths)
            .field("version", &self.version)
            .field("metadata", &self.meta.len())
            .field("tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}

impl Gguf {
    /// Opens a model. Any file of a split set (`NAME-00001-of-00003.gguf`) opens the whole set.
    ///
    /// # Errors
    /// Whatever is wrong with a file, with the file's path; [`SplitFault::Missing`] names a missing one.
    pub fn open(path: &Path) -> Result<Gguf, GgufError> {
        let file = OneFile::open(path)?;
        let count = file.split_count().map_err(|e| in_file(path, e))?;
        if count == 1 {
            return Ok(Gguf::new(path, file));
        }
        drop(file);
        let paths = split::paths(path, count).map_err(|e| in_file(path, e))?;
        Gguf::open_shards(&paths)
    }

    /// Opens the files of one split set, given in order; for stores that keep them under other names.
    ///
    /// # Errors
    /// As [`Gguf::open`]; [`SplitFault::Number`] if a file isn't at its place or the set is incomplete.
    pub fn open_shards(paths: &[PathBuf]) -> Result<Gguf, GgufError> {
        let count = paths.len() as u64;
        let (first, rest) = paths.split_first().ok_or(GgufError::Split(SplitFault::Empty))?;
        let file = open_shard(first, 0, count)?;
        let announced = file.number(split::TENSORS).map_err(|e| in_file(first, e))?;
        let mut model = Gguf::new(first, file);
        for (no, path) in (1..).zip(rest) {
            model.append(path, open_shard(path, no, count)?)?;
        }
        model.by_name = tensor::index(&model.tensors)?;
        let found = model.tensors.len() as u64;
        match announced {
            Some(expected) if expected != found => {
                Err(GgufError::Split(SplitFault::Tensors { found, expected }))
            }
            _ => Ok(model),
        }
    }

    /// Opens the image of one file (not split) in memory. The bytes are moved to page-aligned memory, so
    /// tensors are aligned as in a mapped file.
    ///
    /// # Errors
    /// As [`Gguf::open`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Gguf, GgufError> {
        let map = map_bytes(&bytes)?;
        drop(bytes);
        Gguf::from_map(map)
    }

    /// The same of memory that holds the image already.
    pub(crate) fn from_map(map: Mmap) -> Result<Gguf, GgufError> {
        let file = OneFile::parse(map, false)?;
        match file.split_count()? {
            1 => Ok(Gguf::new(Path::new(MEMORY), file)),
            count => Err(GgufError::Split(SplitFault::Name { count })),
        }
    }

    /// The model of one file, or of a set's first file, whose metadata are the model's.
    fn new(path: &Path, OneFile { map, header, of_file }: OneFile) -> Gguf {
        Gguf {
            shards: vec![Shard { map: map.clone(), data_start: header.data_start, of_file }],
            paths: vec![path.to_owned()],
            version: header.version,
            alignment: header.alignment,
            meta: Metadata::new(map, header.entries),
            by_name: header.by_name,
            tensors: header.tensors,
        }
    }

    /// Adds the tensors of a set's next file; its own metadata are dropped.
    fn append(&mut self, path: &Path, file: OneFile) -> Result<(), GgufError> {
        let OneFile { map, header, of_file } = file;
        let found = (self.tensors.len() + header.tensors.len()) as u64;
        if found > MAX_TENSORS {
            let what = "the number of tensors";
            return Err(GgufError::Limit { what, found, limit: MAX_TENSORS });
        }
        let shard = self.shards.len();
        self.tensors.extend(header.tensors.into_iter().map(|t| TensorInfo { shard, ..t }));
        self.shards.push(Shard { map, data_start: header.data_start, of_file });
        self.paths.push(path.to_owned());
        Ok(())
    }

    /// Version of the format: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Alignment of the tensor data in bytes (of the first file).
    pub fn alignment(&self) -> u32 {
        self.alignment
    }

    /// The metadata (of the first file).
    pub fn meta(&self) -> &Metadata {
        &self.meta
    }

    /// All tensors, in the order of the files and their directories.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let get = |i: &u32| self.tensors.get(*i as usize);
        let found =
            self.by_name.binary_search_by(|i| get(i).map(|t| t.name.as_str()).cmp(&Some(name)));
        found.ok().and_then(|at| self.by_name.get(at)).and_then(get)
    }

    /// The data of a tensor of this model, where they lie in the map. Empty for a tensor of another model
    /// that would lie outside of this one's files.
    pub fn tensor_bytes(&self, t: &TensorInfo) -> &[u8] {
        let place = || {
            let Range { start, end } = self.tensor_place(t)?;
            let map = &self.shards.get(t.shard)?.map;
            map.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
        };
        place().unwrap_or_default()
    }

    /// Where a tensor's data lie in its file (`paths()[t.shard]`), in bytes from the file's start.
    pub fn tensor_place(&self, t: &TensorInfo) -> Option<Range<u64>> {
        let start = self.shards.get(t.shard)?.data_start.checked_add(t.offset)?;
        Some(start..start.checked_add(t.bytes())?)
    }

    /// Size of all files together, in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.shards.iter().map(|s| s.map.len() as u64).sum()
    }

    /// The files, in order. For an image in memory one path that doesn't exist.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Tells the operating system that all of the files will be needed, and returns at once. A hint:
    /// refusals are ignored.
    pub fn advise_willneed(&self) {
        #[cfg(unix)]
        for shard in &self.shards {
            let _ = shard.map.advise(memmap2::Advice::WillNeed);
        }
    }

    /// Tells the operating system that a part of a tensor's data will be needed soon, and returns at once. A hint.
    #[cfg_attr(not(unix), allow(unused_variables))]
    pub fn prefetch(&self, t: &TensorInfo, part: Range<u64>) {
        #[cfg(unix)]
        if let Some((map, place)) = self.map_range(t, part) {
            let _ = map.advise_range(memmap2::Advice::WillNeed, place.start, place.len());
        }
    }

    /// Gives back the memory that maps a part of a tensor's data; the next access reads the file again (from the
    /// system's cache, mostly). A hint.
    #[cfg_attr(not(unix), allow(unused_variables))]
    pub fn release(&self, t: &TensorInfo, part: Range<u64>) {
        #[cfg(unix)]
        if let Some((map, place)) = self.map_range(t, part) {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: the map is of a file and never written, so a page that is dropped comes back with the file's
            // bytes at the next access: references into it stay valid and see no change. The range lies in the map.
            let _ = unsafe { map.unchecked_advise_range(advice, place.start, place.len()) };
        }
    }

    /// Where a part of a tensor's data lies in the map of its file.
    #[cfg(unix)]
    fn map_range(&self, t: &TensorInfo, part: Range<u64>) -> Option<(&Mmap, Range<usize>)> {
        let whole = self.tensor_place(t)?;
        let map = &self.shards.get(t.shard).filter(|shard| shard.of_file)?.map;
        let end = whole.start.checked_add(part.end)?.min(whole.end).min(map.len() as u64);
        let start = whole.start.checked_add(part.start)?.min(end);
        Some((map, usize::try_from(start).ok()?..usize::try_from(end).ok()?))
    }

    /// Brings all of the files into memory before it returns, as far as memory allows, so that no later
    /// access waits for the disk. Best effort: where the system has no such call, as
    /// [`Gguf::advise_willneed`].
    pub fn prefault(&self) {
        self.advise_willneed();
        #[cfg(target_os = "linux")]
        for shard in &self.shards {
            let _ = shard.map.advise(memmap2::Advice::PopulateRead);
        }
    }
}

/// Opens file `no` (from 0) of a set of `count`.
fn open_shard(path: &Path, no: u64, count: u64) -> Result<OneFile, GgufError> {
    if !path.exists() {
        let (path, no) = (path.to_owned(), no + 1);
        return Err(GgufError::Split(SplitFault::Missing { path, no, count }));
    }
    let file = OneFile::open(path)?;
    file.check_split(no, count).map_err(|e| in_file(path, e))?;
    Ok(file)
}

/// Copies bytes into memory of their own pages.
pub(crate) fn map_bytes(bytes: &[u8]) -> Result<Mmap, GgufError> {
    map_filled(bytes.len(), |map| map.copy_from_slice(bytes))
}

/// Memory of its own pages, filled once.
pub(crate) fn map_filled(len: usize, fill: impl FnOnce(&mut [u8])) -> Result<Mmap, GgufError> {
    let io = |source| GgufError::Io { path: PathBuf::from(MEMORY), source };
    let mut map = MmapMut::map_anon(len).map_err(io)?;
    // Pages as small as those of a file's map, so that what is measured on it holds for files.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::NoHugePage);
    fill(&mut map);
    map.make_read_only().map_err(io)
}
