//! A bounded walk over the header bytes: every step is checked against what is left, nothing is copied.
//! Knows numbers and lengths only; what they mean is the business of `value` and `directory`.

use crate::error::GgufError;
use crate::limits::MAX_HEADER_BYTES;

/// A position in the header of a file.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    /// The header: the file's beginning, cut at [`MAX_HEADER_BYTES`].
    bytes: &'a [u8],
    pos: usize,
    /// Size of the whole file, which decides whether a shortage is truncation or a limit.
    file_len: u64,
}

impl<'a> Cursor<'a> {
    /// A walk over the beginning of a file of `file_len` bytes.
    pub(crate) fn new(bytes: &'a [u8], file_len: u64) -> Self {
        let end = bytes.len().min(MAX_HEADER_BYTES as usize);
        Cursor { bytes: bytes.get(..end).unwrap_or(bytes), pos: 0, file_len }
    }

    pub(crate) fn pos(&self) -> u64 {
        self.pos as u64
    }

    /// What hasn't been walked over.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.pos..).unwrap_or_default()
    }

    fn left(&self) -> u64 {
        (self.bytes.len() - self.pos) as u64
    }

    /// Refuses a count whose entries, of `entry` bytes at least, can't be in the file.
    pub(crate) fn expect(
        &self,
        what: &'static str,
        count: u64,
        entry: u64,
    ) -> Result<(), GgufError> {
        let needed = count.saturating_mul(entry);
        if needed <= self.left() {
            return Ok(());
        }
        let offset = self.pos();
        let available = self.file_len.saturating_sub(offset);
        if needed <= available && self.file_len > self.bytes.len() as u64 {
            let (found, limit) = (offset.saturating_add(needed), MAX_HEADER_BYTES);
            return Err(GgufError::Limit { what: "the header's size in bytes", found, limit });
        }
        Err(GgufError::Truncated { what, offset, needed, available })
    }

    /// The next `n` bytes.
    pub(crate) fn take(&mut self, what: &'static str, n: u64) -> Result<&'a [u8], GgufError> {
        self.expect(what, n, 1)?;
        // `expect` has shown that n fits in what is left, hence in usize.
        let (start, end) = (self.pos, self.pos + n as usize);
        self.pos = end;
        Ok(self.bytes.get(start..end).unwrap_or_default())
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], GgufError> {
        Ok(self.take(what, N as u64)?.first_chunk().copied().unwrap_or([0; N]))
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A length and as many bytes.
    pub(crate) fn string(&mut self, what: &'static str) -> Result<&'a [u8], GgufError> {
        let len = self.u64(what)?;
        self.take(what, len)
    }

    /// A length of at most `limit` and as much UTF-8.
    pub(crate) fn name(&mut self, what: &'static str, limit: u64) -> Result<&'a str, GgufError> {
        let found = self.u64(what)?;
        let offset = self.pos();
        if found > limit {
            return Err(GgufError::Limit { what, found, limit });
        }
        std::str::from_utf8(self.take(what, found)?).map_err(|_| GgufError::Name { what, offset })
    }
}
