//! The importance of a model's weights: per column of each matrix, the sum of the squares of what was multiplied by
//! it while the model read a text. A quantizer spends its precision where the mean of these squares is large. Files
//! are llama.cpp's, so that they can be exchanged with its tools. Absent: writing the old format.

mod collect;
mod error;
mod gguf;
mod legacy;
mod sums;
mod watch;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use hob_gguf::{Gguf, GgufError};

pub use collect::{Collector, Scope};
pub use error::{EntryFault, ImatrixError};

/// The largest file in the old format that is read: that one is taken into memory whole. 4 GiB is thrice what 256
/// experts in 60 layers of the largest models need.
const MAX_LEGACY_BYTES: u64 = 4 << 30;

/// Sums of squares for the matrices of one model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imatrix {
    /// By tensor name.
    pub entries: BTreeMap<String, Entry>,
    /// Chunks of text that were read.
    pub chunk_count: u32,
    /// Tokens of a chunk; 0 in files of the old format, which count chunks where the others count tokens.
    pub chunk_size: u32,
    /// The texts, as they were named.
    pub datasets: Vec<String>,
}

/// What was multiplied by one matrix, or by each of a stack of expert matrices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// Sum of squares per column: row length values, once per expert.
    pub sums: Vec<f32>,
    /// Rows (tokens) that were summed, one per expert. A single one may stand for all.
    pub counts: Vec<f32>,
}

impl Imatrix {
    /// Reads a file: GGUF, or the older format of `.dat` files.
    ///
    /// # Errors
    /// When the file cannot be read or is not sound: no number is used unchecked, and nothing is allocated that the
    /// file's size does not cover.
    pub fn read(path: &Path) -> Result<Self, ImatrixError> {
        let io = |source| ImatrixError::Io { path: path.to_owned(), source };
        let in_file = |e| ImatrixError::File { path: path.to_owned(), source: Box::new(e) };
        let kind = std::fs::metadata(path).map_err(io)?;
        if !kind.is_file() {
            return Err(GgufError::NotAFile(path.to_owned()).into());
        }
        let mut magic = [0; 4];
        let read = File::open(path).map_err(io)?.read_exact(&mut magic);
        if read.is_ok() && magic == *b"GGUF" {
            return gguf::read(&Gguf::open(path)?).map_err(in_file);
        }
        if kind.len() > MAX_LEGACY_BYTES {
            let (what, found) = ("the file's size", i64::try_from(kind.len()).unwrap_or(i64::MAX));
            let expected = format!("at most {MAX_LEGACY_BYTES}");
            return Err(in_file(ImatrixError::Range { what, found, expected }));
        }
        legacy::read(&std::fs::read(path).map_err(io)?).map_err(in_file)
    }

    /// As [`Imatrix::read`], from a file's bytes.
    ///
    /// # Errors
    /// As [`Imatrix::read`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ImatrixError> {
        match bytes.starts_with(b"GGUF") {
            true => gguf::read(&Gguf::from_bytes(bytes)?),
            false => legacy::read(&bytes),
        }
    }

    /// Writes a GGUF file: beside its place first, then under its name, so that there is a whole file or none.
    ///
    /// # Errors
    /// When the file cannot be written, or the entries make no sound file.
    pub fn write(&self, path: &Path) -> Result<(), ImatrixError> {
        self.check()?;
        gguf::write(self, path)
    }

    /// The mean square per column of a tensor's rows, expert after expert: what a quantizer weighs errors with. An
    /// expert that no token reached has 1 everywhere, as llama.cpp's quantizer has it. `None` without an entry.
    pub fn importance(&self, tensor: &str) -> Option<Vec<f32>> {
        let entry = self.entries.get(tensor)?;
        let columns = (entry.sums.len() / entry.counts.len().max(1)).max(1);
        let means = entry.sums.chunks(columns).zip(&entry.counts).flat_map(|(sums, &count)| {
            sums.iter().map(move |sum| if count > 0.0 { sum / count } else { 1.0 })
        });
        Some(means.collect())
    }

    /// Adds another one's sums and counts, as if both texts had been read in one go. Entries of the old format count
    /// chunks; they are taken as chunks of `chunk_size` tokens.
    ///
    /// # Errors
    /// When a tensor's entries are of different shapes; `self` is then as it was.
    pub fn merge(&mut self, other: &Imatrix, chunk_size: u32) -> Result<(), ImatrixError> {
        let size = [self.chunk_size, other.chunk_size].into_iter().find(|&size| size > 0);
        let size = size.unwrap_or(chunk_size.max(1));
        let mut merged = self.in_tokens(size);
        for (tensor, entry) in other.in_tokens(size).entries {
            let fault = |fault| ImatrixError::Entry { tensor: tensor.clone(), fault };
            match merged.entries.get_mut(&tensor) {
                Some(mine) => mine.add(&entry).map_err(fault)?,
                None => drop(merged.entries.insert(tensor, entry)),
            }
        }
        merged.datasets.extend_from_slice(&other.datasets);
        let most = merged.entries.values().flat_map(|e| &e.counts).copied().fold(0.0, f32::max);
        merged.chunk_count = (most / size as f32) as u32;
        merged.check()?;
        *self = merged;
        Ok(())
    }

    /// With counts of tokens, when those of chunks of `size` tokens were all there was.
    fn in_tokens(&self, size: u32) -> Imatrix {
        let mut all = self.clone();
        if self.chunk_size == 0 {
            all.chunk_size = size;
            let numbers =
                all.entries.values_mut().flat_map(|e| e.sums.iter_mut().chain(&mut e.counts));
            numbers.for_each(|x| *x *= size as f32);
        }
        all
    }

    fn check(&self) -> Result<(), ImatrixError> {
        let fault = |tensor: &String, fault| ImatrixError::Entry { tensor: tensor.clone(), fault };
        self.entries.iter().try_for_each(|(name, e)| e.check().map_err(|f| fault(name, f)))
    }
}

impl Entry {
    /// Whether shape and numbers can be.
    fn check(&self) -> Result<(), EntryFault> {
        let (sums, counts) = (self.sums.len(), self.counts.len());
        if sums == 0 || counts == 0 || !sums.is_multiple_of(counts) {
            return Err(EntryFault::Shape { sums, counts });
        }
        let wrong = |x: &f32| !(x.is_finite() && *x >= 0.0);
        for (what, numbers) in [("sum", &self.sums), ("count", &self.counts)] {
            if let Some(at) = numbers.iter().position(wrong) {
                return Err(EntryFault::Value { what, at, found: numbers[at] });
            }
        }
        Ok(())
    }

    /// Adds another one's sums and counts; a single count stands for all.
    fn add(&mut self, other: &Entry) -> Result<(), EntryFault> {
        let differs = |what, found, expected| Err(EntryFault::Differs { what, found, expected });
        if self.sums.len() != other.sums.len() {
            return differs("sums", other.sums.len(), self.sums.len());
        }
        match (self.counts.as_slice(), other.counts.len()) {
            (mine, theirs) if mine.len() == theirs || theirs == 1 => {}
            (&[one], theirs) => self.counts = vec![one; theirs],
            (mine, theirs) => return differs("counts", theirs, mine.len()),
        }
        self.sums.iter_mut().zip(&other.sums).for_each(|(a, b)| *a += b);
        self.counts.iter_mut().zip(other.counts.iter().cycle()).for_each(|(a, b)| *a += b);
        Ok(())
    }
}
