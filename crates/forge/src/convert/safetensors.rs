//! The header of a safetensors file and the reading of its tensors. The header is a stranger's: its length, each type,
//! shape, range and the order of ranges are checked against the file before anything of their size is allocated.
//! Tensors are read by position, not mapped: a conversion passes over each byte once, and a file that shrinks meanwhile
//! is an error and no crash. Deliberately absent: writing, and what a tensor's name means.
//!
//! Format: eight bytes of header length, a JSON object, and the data without holes (safetensors' own specification).

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, de};

use super::error::{ConvertError, Fault};

/// Bytes of the longest header: safetensors' own limit. Those in use have a few hundred thousand.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Tensors of one file. The largest models have some hundred thousand in all their files together.
const MAX_TENSORS: usize = 1 << 20;
/// Dimensions of a tensor; GGUF has room for four, and expert blocks have one more than they get.
const MAX_DIMS: usize = 8;

/// An element type that weights come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of binary32.
    BF16,
    /// Eight bits, four of them exponent, no infinities (`e4m3fn`).
    F8E4M3,
    /// Bytes: packed codes or scales.
    U8,
    /// Types that no weight has; their tensors can only be skipped.
    Other,
}

impl Dtype {
    /// The type of this name and the bits of an element.
    fn named(name: &str) -> Option<(Self, u64)> {
        Some(match name {
            "F32" => (Dtype::F32, 32),
            "F16" => (Dtype::F16, 16),
            "BF16" => (Dtype::BF16, 16),
            "F8_E4M3" => (Dtype::F8E4M3, 8),
            "U8" | "F8_E8M0" => (Dtype::U8, 8),
            "BOOL" | "I8" | "F8_E5M2" => (Dtype::Other, 8),
            "I16" | "U16" => (Dtype::Other, 16),
            "I32" | "U32" => (Dtype::Other, 32),
            "I64" | "U64" | "F64" | "C64" => (Dtype::Other, 64),
            "F4" => (Dtype::Other, 4),
            "F6_E2M3" | "F6_E3M2" => (Dtype::Other, 6),
            _ => return None,
        })
    }

    /// Bytes of an element; none for types that are not read.
    pub fn bytes(self) -> Option<u64> {
        match self {
            Dtype::F32 => Some(4),
            Dtype::F16 | Dtype::BF16 => Some(2),
            Dtype::F8E4M3 | Dtype::U8 => Some(1),
            Dtype::Other => None,
        }
    }
}

/// A tensor of a file.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name there.
    pub name: String,
    /// Type of its elements.
    pub dtype: Dtype,
    /// The type's name there.
    pub dtype_name: String,
    /// Dimensions, the row length last.
    pub shape: Vec<u64>,
    /// Place of its first byte in the file.
    start: u64,
    /// Bytes.
    pub bytes: u64,
}

/// An open file.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    file: File,
    /// Its tensors by name.
    pub tensors: Vec<Tensor>,
}

impl Shard {
    /// Reads and checks the header.
    ///
    /// # Errors
    /// If the system refuses or the file is not a whole safetensors file.
    pub fn open(path: &Path) -> Result<Self, ConvertError> {
        let mut file = File::open(path).map_err(ConvertError::io("open", path))?;
        let length = file.metadata().map_err(ConvertError::io("read", path))?.len();
        let tensors = match read_header(&mut file, length) {
            Ok(header) => header,
            Err(Trouble::Io(e)) => return Err(ConvertError::io("read", path)(e)),
            Err(Trouble::Fault(fault)) => {
                return Err(ConvertError::Safetensors { path: path.to_owned(), fault });
            }
        };
        Ok(Shard { path: path.to_owned(), file, tensors })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads bytes of a tensor from `offset` into all of `out`.
    ///
    /// # Errors
    /// If they are not all there, or the system refuses.
    pub fn read(&self, tensor: &Tensor, offset: u64, out: &mut [u8]) -> Result<(), ConvertError> {
        let end = offset.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > tensor.bytes) {
            let fault = Fault::Range { tensor: tensor.name.clone() };
            return Err(ConvertError::Safetensors { path: self.path.clone(), fault });
        }
        let mut file = &self.file;
        file.seek(SeekFrom::Start(tensor.start + offset))
            .and_then(|_| file.read_exact(out))
            .map_err(ConvertError::io("read", &self.path))
    }
}

/// Why a header was not read.
#[derive(Debug)]
pub(super) enum Trouble {
    Io(io::Error),
    Fault(Fault),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Trouble::Fault(fault)
    }
}

/// Reads the tensors of a file of `length` bytes, by name.
pub(super) fn read_header(input: &mut impl Read, length: u64) -> Result<Vec<Tensor>, Trouble> {
    let mut prefix = [0; 8];
    if length < prefix.len() as u64 {
        return Err(Fault::Short { length }.into());
    }
    input.read_exact(&mut prefix).map_err(Trouble::Io)?;
    let header = u64::from_le_bytes(prefix);
    let after = length - prefix.len() as u64;
    if header > after || header > MAX_HEADER_BYTES {
        return Err(Fault::HeaderLength { found: header, length }.into());
    }
    let mut text = vec![0; header as usize];
    input.read_exact(&mut text).map_err(Trouble::Io)?;
    let Entries(entries) = serde_json::from_slice(&text).map_err(|e| Fault::Json(e.to_string()))?;
    Ok(place(entries, prefix.len() as u64 + header, after - header)?)
}

/// Checks the entries of a header whose data are `length` bytes from `start`.
fn place(entries: Vec<(String, Entry)>, start: u64, length: u64) -> Result<Vec<Tensor>, Fault> {
    let mut seen = HashMap::with_capacity(entries.len());
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        if seen.insert(name.clone(), ()).is_some() {
            return Err(Fault::Twice { tensor: name });
        }
        tensors.push(entry.check(name, start, length)?);
    }
    // The data have no holes, and no byte belongs to two tensors.
    tensors.sort_by_key(|t| (t.start, t.bytes));
    let mut end = start;
    for tensor in &tensors {
        if tensor.start != end {
            return Err(Fault::Range { tensor: tensor.name.clone() });
        }
        end = tensor.start + tensor.bytes;
    }
    if end != start + length {
        return Err(Fault::DataLength { found: length, expected: end - start });
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tensors)
}

/// A tensor's line of the header.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl Entry {
    fn check(self, name: String, start: u64, length: u64) -> Result<Tensor, Fault> {
        let [from, to] = self.data_offsets;
        let Some((dtype, bits)) = Dtype::named(&self.dtype) else {
            return Err(Fault::Dtype {
                tensor: name,
                found: self.dtype.chars().take(32).collect(),
            });
        };
        if from > to || to > length {
            return Err(Fault::Range { tensor: name });
        }
        let product = self.shape.iter().try_fold(bits, |n, d| n.checked_mul(*d));
        if self.shape.len() > MAX_DIMS || product.is_none_or(|n| n != (to - from).saturating_mul(8))
        {
            return Err(Fault::Shape { tensor: name, shape: self.shape, bytes: to - from });
        }
        let (shape, dtype_name) = (self.shape, self.dtype);
        Ok(Tensor { name, dtype, dtype_name, shape, start: start + from, bytes: to - from })
    }
}

/// All lines of a header but that of the file's own metadata, in their order and with repetitions.
struct Entries(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if entries.len() >= MAX_TENSORS {
                return Err(de::Error::custom("too many tensors"));
            }
            entries.push((name, map.next_value()?));
        }
        Ok(Entries(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; data]].concat()
    }

    fn read(file: &[u8]) -> Result<Vec<Tensor>, Fault> {
        match read_header(&mut &file[..], file.len() as u64) {
            Ok(tensors) => Ok(tensors),
            Err(Trouble::Fault(fault)) => Err(fault),
            Err(Trouble::Io(e)) => panic!("{e}"),
        }
    }

    const GOOD: &str = r#"{"__metadata__":{"format":"pt"},
        "b":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]},
        "a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
        "c":{"dtype":"I64","shape":[],"data_offsets":[20,28]}}"#;

    #[test]
    fn tensors_come_by_name_with_their_places() {
        let tensors = read(&file(GOOD, 28)).unwrap();
        let start = 8 + GOOD.len() as u64;
        let told: Vec<_> =
            tensors.iter().map(|t| (t.name.as_str(), t.dtype, t.start - start, t.bytes)).collect();
        let expected =
            [("a", Dtype::F32, 0, 8), ("b", Dtype::BF16, 8, 12), ("c", Dtype::Other, 20, 8)];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let whole = file(GOOD, 28);
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn any_byte_of_the_header_may_be_anything() {
        let whole = file(GOOD, 28);
        for at in 0..8 + GOOD.len() {
            for byte in [0, b'9', b'"', b'}', 0xff] {
                let mut file = whole.clone();
                file[at] = byte;
                // Refused, or a header whose tensors lie in the file.
                for t in read(&file).unwrap_or_default() {
                    assert!(t.start + t.bytes <= file.len() as u64, "{at} {byte}");
                }
            }
        }
    }

    #[test]
    fn ranges_overlap_nowhere_and_leave_no_hole() {
        let two = |first: &str, second: &str, data| {
            let entry = |at: &str| format!(r#"{{"dtype":"U8","shape":[4],"data_offsets":{at}}}"#);
            read(&file(&format!(r#"{{"a":{},"b":{}}}"#, entry(first), entry(second)), data))
        };
        assert!(two("[0,4]", "[4,8]", 8).is_ok());
        assert!(matches!(two("[0,4]", "[2,6]", 6), Err(Fault::Range { tensor }) if tensor == "b"));
        assert!(matches!(two("[0,4]", "[0,4]", 4), Err(Fault::Range { .. })));
        assert!(matches!(two("[0,4]", "[5,9]", 9), Err(Fault::Range { .. })));
        assert!(matches!(two("[0,4]", "[4,8]", 7), Err(Fault::Range { .. })));
        assert!(matches!(
            two("[0,4]", "[4,8]", 9),
            Err(Fault::DataLength { found: 9, expected: 8 })
        ));
        assert!(matches!(two("[4,0]", "[4,8]", 8), Err(Fault::Range { .. })));
        let huge = "[0,18446744073709551615]";
        assert!(matches!(two(huge, "[4,8]", 8), Err(Fault::Range { .. })));
    }

    #[test]
    fn shapes_and_types_are_checked_before_anything_is_allocated() {
        let one = |dtype: &str, shape: &str| {
            let entry =
                format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,8]}}}}"#);
            read(&file(&entry, 8))
        };
        assert!(one("F32", "[2]").is_ok());
        assert!(one("F4", "[16]").is_ok());
        for shape in ["[3]", "[]", "[0]", "[4611686018427387904,4,2]", "[1,1,1,1,1,1,1,1,2]"] {
            assert!(matches!(one("F32", shape), Err(Fault::Shape { .. })), "{shape}");
        }
        assert!(matches!(one("F32", "[-2]"), Err(Fault::Json(_))));
        assert!(matches!(one("Q4", "[2]"), Err(Fault::Dtype { .. })));
    }

    #[test]
    fn lengths_beyond_the_file_and_other_json_are_refused() {
        for length in [u64::MAX, 1 << 40, MAX_HEADER_BYTES + 1, 100] {
            let file = [&length.to_le_bytes()[..], b"{}"].concat();
            assert!(
                matches!(read(&file), Err(Fault::HeaderLength { found, .. }) if found == length)
            );
        }
        for header in ["[]", "1", "{", "{\"a\":1}", "{\"a\":{}}", &"[".repeat(10_000)] {
            assert!(matches!(read(&file(header, 0)), Err(Fault::Json(_))), "{header:.20}");
        }
        assert!(read(&file("{}", 0)).is_ok());
        let twice = r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#;
        assert!(matches!(read(&file(twice, 0)), Err(Fault::Twice { .. })));
    }
}
