//! The beginning of one file: magic, version, counts, metadata, tensor directory, and where the data start.
//! Works on bytes and a file size, so that files, images in memory and headers about to be written are
//! judged by the same code. The layout is the GGUF specification's (ggml, docs/gguf.md).

use crate::cursor::Cursor;
use crate::error::GgufError;
use crate::limits::{DEFAULT_ALIGNMENT, MAX_ALIGNMENT, MIN_ALIGNMENT};
use crate::metadata::{Entries, convert};
use crate::tensor::{self, TensorInfo};
use crate::value::Value;

pub(crate) const MAGIC: [u8; 4] = *b"GGUF";
pub(crate) const ALIGNMENT_KEY: &str = "general.alignment";

/// What a file's header says, checked.
#[derive(Debug)]
pub(crate) struct Header {
    pub version: u32,
    pub entries: Entries,
    pub alignment: u32,
    pub tensors: Vec<TensorInfo>,
    /// Indices into `tensors`, sorted by name.
    pub by_name: Vec<u32>,
    /// Where the data section starts: the header's end, rounded up to the alignment.
    pub data_start: u64,
}

/// Reads the header at the beginning of `bytes`, which belong to a file of `file_len` bytes.
pub(crate) fn parse(bytes: &[u8], file_len: u64) -> Result<Header, GgufError> {
    let mut cur = Cursor::new(bytes, file_len);
    let version = preamble(&mut cur)?;
    let tensor_count = cur.u64("the tensor count")?;
    let pair_count = cur.u64("the metadata count")?;
    let entries = Entries::parse(&mut cur, bytes, pair_count)?;
    let alignment = alignment(entries.get(bytes, ALIGNMENT_KEY))?;
    let tensors = tensor::parse(&mut cur, tensor_count)?;
    let data_start = cur.pos().next_multiple_of(u64::from(alignment));
    tensor::check_places(&tensors, alignment, file_len.saturating_sub(data_start))?;
    let by_name = tensor::index(&tensors)?;
    Ok(Header { version, entries, alignment, tensors, by_name, data_start })
}

/// Checks the magic and returns the version.
fn preamble(cur: &mut Cursor<'_>) -> Result<u32, GgufError> {
    let found = cur.array("the magic")?;
    if found != MAGIC {
        return Err(GgufError::Magic { found });
    }
    match cur.u32("the version")? {
        found @ (2 | 3) => Ok(found),
        // Versions are small: only in the other byte order are the low bits clear.
        found if found & 0xffff == 0 && found != 0 => {
            Err(GgufError::BigEndian { version: found.swap_bytes() })
        }
        found => Err(GgufError::Version { found }),
    }
}

/// Checks the value of [`ALIGNMENT_KEY`].
pub(crate) fn alignment(value: Option<Value<'_>>) -> Result<u32, GgufError> {
    let Some(value) = value else { return Ok(DEFAULT_ALIGNMENT) };
    let (min, max) = (MIN_ALIGNMENT, MAX_ALIGNMENT);
    let found: u32 = convert(ALIGNMENT_KEY, value)?;
    if found.is_power_of_two() && (min..=max).contains(&found) {
        return Ok(found);
    }
    Err(GgufError::Alignment { found, min, max })
}
