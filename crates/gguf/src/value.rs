//! Metadata values, read in place: a [`Value`] borrows from the file's map, an [`Array`] is walked lazily.
//! Everything was checked once by [`skip_value`] when the file was opened; the walks here stay within their
//! bytes and never panic all the same. No owned values: those are bytes too, see `builder`.

use std::fmt;

use crate::cursor::Cursor;
use crate::error::GgufError;
use crate::limits::MAX_ARRAY_DEPTH;

/// The thirteen types of metadata values, with the ids of the GGUF specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // the names say it
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    Str = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    /// The type of this id, if there is one.
    pub fn from_id(id: u32) -> Option<Self> {
        use ValueType::*;
        const BY_ID: [ValueType; 13] =
            [U8, I8, U16, I16, U32, I32, F32, Bool, Str, Array, U64, I64, F64];
        BY_ID.get(id as usize).copied()
    }

    /// The id in the file.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// Bytes of one value in the file; `None` for strings and arrays, whose size varies.
    pub fn size(self) -> Option<usize> {
        use ValueType::*;
        match self {
            U8 | I8 | Bool => Some(1),
            U16 | I16 => Some(2),
            U32 | I32 | F32 => Some(4),
            U64 | I64 | F64 => Some(8),
            Str | Array => None,
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ValueType::*;
        f.write_str(match self {
            U8 => "u8",
            I8 => "i8",
            U16 => "u16",
            I16 => "i16",
            U32 => "u32",
            I32 => "i32",
            F32 => "f32",
            Bool => "bool",
            Str => "string",
            Array => "array",
            U64 => "u64",
            I64 => "i64",
            F64 => "f64",
        })
    }
}

/// A metadata value. Strings and arrays borrow from the file.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)] // the names say it
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Str(&'a str),
    /// A string that isn't UTF-8, against the specification.
    Bytes(&'a [u8]),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'a> Value<'a> {
    /// The type in the file.
    pub fn value_type(&self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::F32(_) => ValueType::F32,
            Value::Bool(_) => ValueType::Bool,
            Value::Str(_) | Value::Bytes(_) => ValueType::Str,
            Value::Array(_) => ValueType::Array,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F64(_) => ValueType::F64,
        }
    }

    /// The value as an integer, if it is of an integer type.
    pub fn as_int(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(x) => x.into(),
            Value::I8(x) => x.into(),
            Value::U16(x) => x.into(),
            Value::I16(x) => x.into(),
            Value::U32(x) => x.into(),
            Value::I32(x) => x.into(),
            Value::U64(x) => x.into(),
            Value::I64(x) => x.into(),
            _ => return None,
        })
    }

    /// The value as a float, if it is of a float or integer type (rounded where an `f64` can't hold it).
    pub fn as_float(&self) -> Option<f64> {
        match *self {
            Value::F32(x) => Some(x.into()),
            Value::F64(x) => Some(x),
            _ => self.as_int().map(|x| x as f64),
        }
    }

    /// Decodes the scalar of a fixed-size type from exactly its bytes.
    fn scalar(ty: ValueType, bytes: &[u8]) -> Option<Value<'a>> {
        Some(match ty {
            ValueType::U8 => Value::U8(u8::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::I8 => Value::I8(i8::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::U32 => Value::U32(u32::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::I32 => Value::I32(i32::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::Bool => Value::Bool(*bytes.first()? != 0),
            ValueType::U64 => Value::U64(u64::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::I64 => Value::I64(i64::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::Str | ValueType::Array => return None,
        })
    }

    fn string(bytes: &'a [u8]) -> Value<'a> {
        std::str::from_utf8(bytes).map_or(Value::Bytes(bytes), Value::Str)
    }

    /// Reads the value that begins at the cursor.
    fn read(ty: ValueType, cur: &mut Cursor<'a>) -> Option<Value<'a>> {
        match (ty, ty.size()) {
            (_, Some(size)) => Value::scalar(ty, cur.take("value", size as u64).ok()?),
            (ValueType::Str, _) => cur.string("string").ok().map(Value::string),
            _ => Array::read(cur).map(Value::Array),
        }
    }

    /// Reads a value from exactly the bytes that [`skip_value`] walked over, without a second walk.
    pub(crate) fn decode(ty: ValueType, bytes: &'a [u8]) -> Option<Value<'a>> {
        let mut cur = Cursor::new(bytes, bytes.len() as u64);
        if ty == ValueType::Array {
            return Array::head(&mut cur)
                .map(|(ty, len)| Value::Array(Array { ty, len, bytes: cur.rest() }));
        }
        Value::read(ty, &mut cur)
    }
}

impl fmt::Display for Value<'_> {
    /// Numbers and strings as they are, arrays as their type and length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::F32(x) => write!(f, "{x}"),
            Value::F64(x) => write!(f, "{x}"),
            Value::Bool(x) => write!(f, "{x}"),
            Value::Str(x) => f.write_str(x),
            Value::Bytes(x) => write!(f, "{}", x.escape_ascii()),
            Value::Array(x) => write!(f, "array of {} {}", x.len(), x.element_type()),
            int => write!(f, "{}", int.as_int().unwrap_or_default()),
        }
    }
}

/// An array in the metadata, borrowed from the file.
#[derive(Clone, Copy, PartialEq)]
pub struct Array<'a> {
    ty: ValueType,
    len: u64,
    /// The elements as they lie in the file.
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// Number of elements. Each has at least one byte in the file, so it fits in memory's measure.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Type of the elements.
    pub fn element_type(&self) -> ValueType {
        self.ty
    }

    /// The elements' bytes as they lie in the file (little-endian; strings with their lengths).
    pub fn raw(&self) -> &'a [u8] {
        self.bytes
    }

    /// The elements, one after another.
    pub fn iter(&self) -> ArrayIter<'a> {
        let cursor = Cursor::new(self.bytes, self.bytes.len() as u64);
        ArrayIter { ty: self.ty, left: self.len, cursor }
    }

    /// The elements as bytes, if they are strings: as in the file, UTF-8 or not.
    pub fn byte_strings(&self) -> Option<ByteStrings<'a>> {
        (self.ty == ValueType::Str).then(|| ByteStrings(self.iter()))
    }

    /// Reads element type and length.
    fn head(cur: &mut Cursor<'a>) -> Option<(ValueType, u64)> {
        Some((value_type(cur).ok()?, cur.u64("array").ok()?))
    }

    /// Reads an array inside an array: its end is found by walking over it.
    fn read(cur: &mut Cursor<'a>) -> Option<Self> {
        let (ty, len) = Array::head(cur)?;
        let rest = cur.rest();
        let start = cur.pos();
        skip_elements(cur, ty, len, 1).ok()?;
        let bytes = rest.get(..(cur.pos() - start) as usize)?;
        Some(Array { ty, len, bytes })
    }
}

impl fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}; {}]", self.ty, self.len)
    }
}

impl<'a> IntoIterator for Array<'a> {
    type Item = Value<'a>;
    type IntoIter = ArrayIter<'a>;
    fn into_iter(self) -> ArrayIter<'a> {
        self.iter()
    }
}

/// Walks over the elements of an [`Array`].
#[derive(Clone)]
pub struct ArrayIter<'a> {
    ty: ValueType,
    left: u64,
    cursor: Cursor<'a>,
}

impl<'a> Iterator for ArrayIter<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.left = self.left.checked_sub(1)?;
        Value::read(self.ty, &mut self.cursor)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for ArrayIter<'_> {}

/// Walks over the strings of an [`Array`] as bytes.
#[derive(Clone)]
pub struct ByteStrings<'a>(ArrayIter<'a>);

impl<'a> Iterator for ByteStrings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.0.left = self.0.left.checked_sub(1)?;
        self.0.cursor.string("string").ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for ByteStrings<'_> {}

/// Walks over a value and checks it: lengths against what is left, types, booleans, depth.
/// Time is bounded by the bytes walked over.
pub(crate) fn skip_value(cur: &mut Cursor<'_>, ty: ValueType) -> Result<(), GgufError> {
    skip_at_depth(cur, ty, 0)
}

fn skip_at_depth(cur: &mut Cursor<'_>, ty: ValueType, depth: u32) -> Result<(), GgufError> {
    match ty {
        ValueType::Str => cur.string("a metadata string").map(drop),
        ValueType::Array => {
            if depth == MAX_ARRAY_DEPTH {
                let (found, limit) = (u64::from(depth) + 1, u64::from(MAX_ARRAY_DEPTH));
                return Err(GgufError::Limit { what: "the depth of nested arrays", found, limit });
            }
            let element = value_type(cur)?;
            let len = cur.u64("the length of an array")?;
            skip_elements(cur, element, len, depth + 1)
        }
        _ => skip_elements(cur, ty, 1, depth),
    }
}

/// Walks over `len` values of one type.
fn skip_elements(
    cur: &mut Cursor<'_>,
    ty: ValueType,
    len: u64,
    depth: u32,
) -> Result<(), GgufError> {
    const WHAT: &str = "a metadata value";
    if let Some(size) = ty.size() {
        let offset = cur.pos();
        let bytes = cur.take(WHAT, len.saturating_mul(size as u64))?;
        return if ty == ValueType::Bool { check_bools(bytes, offset) } else { Ok(()) };
    }
    // A string is a length at least, an array a type and a length.
    cur.expect(WHAT, len, if ty == ValueType::Str { 8 } else { 12 })?;
    (0..len).try_for_each(|_| skip_at_depth(cur, ty, depth))
}

fn check_bools(bytes: &[u8], offset: u64) -> Result<(), GgufError> {
    match bytes.iter().position(|&b| b > 1) {
        Some(at) => Err(GgufError::Bool {
            found: bytes.get(at).copied().unwrap_or_default(),
            offset: offset + at as u64,
        }),
        None => Ok(()),
    }
}

/// Reads the type id of a value.
pub(crate) fn value_type(cur: &mut Cursor<'_>) -> Result<ValueType, GgufError> {
    let offset = cur.pos();
    let id = cur.u32("the type of a metadata value")?;
    ValueType::from_id(id).ok_or(GgufError::ValueType { id, offset })
}
