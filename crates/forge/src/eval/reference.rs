//! Stored log-probabilities, in the format of llama.cpp's `--kl-divergence-base`, little-endian throughout:
//! `_logits_`, then u32 context, i32 vocabulary, i32 chunks, the tokens of all chunks as i32, and per scored position
//! a scale and a least log-probability (f32), one u16 code per entry of the vocabulary and, if that is odd, padding.
//! A file must have exactly the size that its header says before anything is allocated by it.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::rows::row_bytes;
use super::{EvalError, EvalText};

const MAGIC: &[u8; 8] = b"_logits_";
/// Magic and three numbers.
const HEADER: u64 = 20;

/// A reference file, read from front to back.
#[derive(Debug)]
pub struct Reference {
    path: PathBuf,
    file: BufReader<File>,
    context: usize,
    vocab: usize,
    chunks: usize,
    tokens: Vec<u32>,
    row: Vec<u8>,
}

impl Reference {
    /// Whether a file begins as a reference does.
    pub fn is_one(path: &Path) -> bool {
        let mut magic = [0; 8];
        File::open(path).and_then(|mut f| f.read_exact(&mut magic)).is_ok() && magic == *MAGIC
    }

    /// Opens a file and reads its tokens.
    ///
    /// # Errors
    /// When it is no reference, or its numbers, its tokens and its size do not go together.
    pub fn open(path: &Path) -> Result<Self, EvalError> {
        let io = |source| EvalError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let mut file = BufReader::new(file);
        let header = Header::read(&mut file, path, size)?;
        let mut bytes = vec![0; 4 * header.context * header.chunks];
        file.read_exact(&mut bytes).map_err(io)?;
        let tokens: Vec<u32> = bytes.as_chunks().0.iter().map(|&t| u32::from_le_bytes(t)).collect();
        if let Some(&token) = tokens.iter().find(|&&t| t as usize >= header.vocab) {
            let expected = format!("less than the vocabulary of {}", header.vocab);
            return Err(wrong(path, "a token", token.into(), expected));
        }
        let Header { context, vocab, chunks } = header;
        Ok(Reference {
            path: path.to_owned(),
            file,
            context,
            vocab,
            chunks,
            tokens,
            row: Vec::new(),
        })
    }

    /// Tokens of a chunk.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Entries of the vocabulary.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// Number of chunks.
    pub fn chunks(&self) -> usize {
        self.chunks
    }

    /// The tokens, chunk after chunk.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The next rows.
    pub(super) fn rows(&mut self, count: usize) -> Result<&[u8], EvalError> {
        self.row.resize(count * row_bytes(self.vocab), 0);
        let read = self.file.read_exact(&mut self.row);
        read.map_err(|source| EvalError::Io { path: self.path.clone(), source })?;
        Ok(&self.row)
    }
}

struct Header {
    context: usize,
    vocab: usize,
    chunks: usize,
}

impl Header {
    fn read(file: &mut impl Read, path: &Path, size: u64) -> Result<Self, EvalError> {
        let mut bytes = [0; HEADER as usize];
        let read = file.read_exact(&mut bytes);
        if read.is_err() || bytes[..8] != *MAGIC {
            return Err(EvalError::NoReference(path.to_owned()));
        }
        let number = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let fields =
            [("the context", 8, 4), ("the vocabulary", 12, 1), ("the number of chunks", 16, 1)];
        for (what, at, least) in fields {
            if !(least..=i32::MAX as u32).contains(&number(at)) {
                return Err(wrong(
                    path,
                    what,
                    number(at).into(),
                    format!("at least {least}, below 2^31"),
                ));
            }
        }
        let [context, vocab, chunks] = [8, 12, 16].map(|at| number(at) as usize);
        let expected = file_bytes(context, vocab, chunks);
        match expected == u128::from(size) {
            true => Ok(Header { context, vocab, chunks }),
            false => Err(EvalError::Size { path: path.to_owned(), found: size, expected }),
        }
    }
}

/// Bytes of a file; numbers below 2^31 cannot overflow.
fn file_bytes(context: usize, vocab: usize, chunks: usize) -> u128 {
    let chunk = 4 * context as u128 + scored(context) as u128 * row_bytes(vocab) as u128;
    u128::from(HEADER) + chunks as u128 * chunk
}

/// Predictions of a chunk that count: those of its second half, the last token's excepted.
fn scored(context: usize) -> usize {
    context - 1 - context / 2
}

fn wrong(path: &Path, what: &'static str, found: u64, expected: String) -> EvalError {
    EvalError::Header { path: path.to_owned(), what, found, expected }
}

/// Writes a reference beside its place; it gets its name when it is whole, and vanishes when it is not.
#[derive(Debug)]
pub struct ReferenceWriter {
    path: PathBuf,
    part: PathBuf,
    file: BufWriter<File>,
    /// Bytes still to come.
    due: u128,
}

impl ReferenceWriter {
    /// Begins a file for a text and a model with `vocab` entries.
    ///
    /// # Errors
    /// When the file cannot be made, or the numbers do not fit the format.
    pub fn create(path: &Path, text: &EvalText, vocab: usize) -> Result<Self, EvalError> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file =
            File::create(&part).map_err(|source| EvalError::Io { path: part.clone(), source })?;
        let due = file_bytes(text.context(), vocab, text.chunks());
        let file = BufWriter::with_capacity(1 << 20, file);
        let mut writer = ReferenceWriter { path: path.to_owned(), part, file, due };
        writer.write(MAGIC)?;
        for (what, n) in
            [("context", text.context()), ("vocabulary", vocab), ("chunks", text.chunks())]
        {
            let n = i32::try_from(n)
                .map_err(|_| wrong(path, what, n as u64, "below 2^31".to_owned()))?;
            writer.write(&n.to_le_bytes())?;
        }
        let tokens: Vec<u8> = text.tokens().iter().flat_map(|t| t.to_le_bytes()).collect();
        writer.write(&tokens)?;
        Ok(writer)
    }

    /// Adds coded rows.
    pub(super) fn rows(&mut self, rows: &[u8]) -> Result<(), EvalError> {
        self.write(rows)
    }

    /// Gives the file its name.
    pub(super) fn finish(mut self) -> Result<(), EvalError> {
        debug_assert_eq!(self.due, 0, "a reference that is not whole");
        let done = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        let done = done.and_then(|()| std::fs::rename(&self.part, &self.path));
        done.map_err(|source| EvalError::Io { path: self.path.clone(), source })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), EvalError> {
        self.due -= bytes.len() as u128;
        let written = self.file.write_all(bytes);
        written.map_err(|source| EvalError::Io { path: self.part.clone(), source })
    }
}

impl Drop for ReferenceWriter {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.part); // gone already when the file is whole
    }
}
