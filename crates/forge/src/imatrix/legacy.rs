//! The `.dat` format, little-endian: i32 entries; per entry i32 length, name, i32 calls, i32 values, f32 values; then,
//! in newer files, i32 chunks, and i32 length and name of the text. A value is the mean square times the calls, an
//! expert without tokens has mean 1 already. Read only: what hob writes is GGUF.

use std::collections::btree_map;

use hob_gguf::limits::{MAX_NAME_BYTES, MAX_TENSORS};

use super::{Entry, EntryFault, Imatrix, ImatrixError};

/// Longest name of a text.
const MAX_DATASET_BYTES: u64 = 1 << 16;

pub(super) fn read(bytes: &[u8]) -> Result<Imatrix, ImatrixError> {
    let mut cur = Cursor { bytes, at: 0 };
    let mut imatrix = Imatrix::default();
    for _ in 0..cur.number("the number of entries", 1, MAX_TENSORS)? {
        let (name, entry) = cur.entry()?;
        let fault = entry.check().err();
        match imatrix.entries.entry(name) {
            btree_map::Entry::Vacant(vacant) if fault.is_none() => drop(vacant.insert(entry)),
            at => {
                let (tensor, fault) = (at.key().clone(), fault.unwrap_or(EntryFault::Duplicate));
                return Err(ImatrixError::Entry { tensor, fault });
            }
        }
    }
    if cur.left() > 0 {
        imatrix.chunk_count = cur.number("the number of chunks", 0, u64::MAX)?;
    }
    if cur.left() > 0 {
        let len = cur.number("the length of the text's name", 0, MAX_DATASET_BYTES)?;
        let name = cur.take("the text's name", len as usize)?;
        if !name.is_empty() {
            imatrix.datasets.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    match cur.left() {
        0 => Ok(imatrix),
        extra => Err(ImatrixError::Trailing { at: cur.at, extra }),
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, what: &'static str, needed: usize) -> Result<&'a [u8], ImatrixError> {
        let (at, available) = (self.at, self.left());
        let short = ImatrixError::Truncated { what, at, needed, available };
        let taken = self.bytes.get(at..).and_then(|rest| rest.get(..needed)).ok_or(short)?;
        self.at += needed;
        Ok(taken)
    }

    /// An i32 from `least` to `most`.
    fn number(&mut self, what: &'static str, least: u32, most: u64) -> Result<u32, ImatrixError> {
        let found = i32::from_le_bytes(self.take(what, 4)?.try_into().unwrap_or_default());
        match u32::try_from(found) {
            Ok(n) if n >= least && u64::from(n) <= most => Ok(n),
            _ => {
                let expected = match most {
                    u64::MAX => format!("at least {least}"),
                    most => format!("{least} to {most}"),
                };
                Err(ImatrixError::Range { what, found: found.into(), expected })
            }
        }
    }

    fn entry(&mut self) -> Result<(String, Entry), ImatrixError> {
        let len = self.number("the length of a name", 1, MAX_NAME_BYTES)?;
        let at = self.at;
        let name = std::str::from_utf8(self.take("a name", len as usize)?);
        let name = name.map_err(|_| ImatrixError::Name { at })?.to_owned();
        let calls = self.number("the number of calls", 0, u64::MAX)?;
        let count = self.number("the number of values", 1, u64::MAX)?;
        // Without calls the values are the means themselves.
        let counts = vec![calls.max(1) as f32];
        let sums = floats(self.take("values", 4 * count as usize)?);
        Ok((name, Entry { sums, counts }))
    }
}

/// Little-endian f32s; what is left over at the end is ignored.
pub(super) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect()
}
