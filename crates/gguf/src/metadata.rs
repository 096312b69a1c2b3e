//! The metadata of a model: ordered pairs of key and value, kept as ranges into the file's map, found by a
//! sorted index, asked through typed getters whose errors name key, found and expected. Knows no key.

use std::fmt;
use std::sync::Arc;

use memmap2::Mmap;

use crate::cursor::Cursor;
use crate::error::{GgufError, MetaError};
use crate::limits::{MAX_KEY_BYTES, MAX_METADATA};
use crate::value::{Array, Value, ValueType, skip_value, value_type};

/// Bytes of the smallest pair: key length, type, one byte.
const MIN_PAIR: u64 = 8 + 4 + 1;

/// A range of the header, which is smaller than 4 GiB.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    len: u32,
}

impl Span {
    fn of(self, bytes: &[u8]) -> &[u8] {
        let start = self.start as usize;
        bytes.get(start..start + self.len as usize).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: Span,
    ty: ValueType,
    value: Span,
}

/// Where the pairs of a header lie, without the header's bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entries {
    in_order: Vec<Entry>,
    /// Indices into `in_order`, sorted by key.
    by_key: Vec<u32>,
}

impl Entries {
    /// Walks over `count` pairs and checks all of them. The cursor must walk over `bytes` from the start.
    pub(crate) fn parse(cur: &mut Cursor<'_>, bytes: &[u8], count: u64) -> Result<Self, GgufError> {
        if count > MAX_METADATA {
            let what = "the number of metadata pairs";
            return Err(GgufError::Limit { what, found: count, limit: MAX_METADATA });
        }
        cur.expect("the metadata", count, MIN_PAIR)?;
        let mut in_order = Vec::with_capacity(count as usize);
        for _ in 0..count {
            in_order.push(Entry::parse(cur)?);
        }
        let mut by_key: Vec<u32> = (0..count as u32).collect();
        let key = |i: &u32| in_order.get(*i as usize).map(|e: &Entry| e.key.of(bytes));
        by_key.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
        for (a, b) in by_key.iter().zip(by_key.iter().skip(1)) {
            if key(a) == key(b) {
                let key = String::from_utf8_lossy(key(a).unwrap_or_default()).into_owned();
                return Err(GgufError::DuplicateKey { key });
            }
        }
        Ok(Entries { in_order, by_key })
    }

    fn find(&self, bytes: &[u8], key: &str) -> Option<&Entry> {
        let entry = |i: &u32| self.in_order.get(*i as usize);
        let at = self
            .by_key
            .binary_search_by(|i| entry(i).map(|e| e.key.of(bytes)).cmp(&Some(key.as_bytes())))
            .ok()?;
        self.by_key.get(at).and_then(entry)
    }

    /// The value of a key, in the header that was parsed.
    pub(crate) fn get<'a>(&self, bytes: &'a [u8], key: &str) -> Option<Value<'a>> {
        self.find(bytes, key).and_then(|e| e.value(bytes))
    }
}

impl Entry {
    fn parse(cur: &mut Cursor<'_>) -> Result<Self, GgufError> {
        let key_len = cur.name("a metadata key", MAX_KEY_BYTES)?.len() as u64;
        let key_start = cur.pos() - key_len;
        let ty = value_type(cur)?;
        let start = cur.pos();
        skip_value(cur, ty)?;
        // The cursor stops at MAX_HEADER_BYTES, far below 4 GiB.
        let span = |start: u64, end: u64| Span { start: start as u32, len: (end - start) as u32 };
        let (key, value) = (span(key_start, key_start + key_len), span(start, cur.pos()));
        Ok(Entry { key, ty, value })
    }

    fn key<'a>(&self, bytes: &'a [u8]) -> &'a str {
        // Checked when parsed; differs only if another process changed the mapped file.
        std::str::from_utf8(self.key.of(bytes)).unwrap_or_default()
    }

    fn value<'a>(&self, bytes: &'a [u8]) -> Option<Value<'a>> {
        Value::decode(self.ty, self.value.of(bytes))
    }
}

/// Metadata of a model, in the file's order. Cheap to clone; borrows nothing, holds the map.
#[derive(Clone)]
pub struct Metadata {
    map: Arc<Mmap>,
    entries: Arc<Entries>,
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Types that a typed getter can return. Integers are taken from any integer type that holds the number,
/// floats from floats and integers, the rest only from their own type.
pub trait FromValue<'a>: Sized {
    /// The type's name in errors.
    const EXPECTED: &'static str;
    /// Converts, or returns `None` if the value is of another type or doesn't fit.
    fn from_value(value: Value<'a>) -> Option<Self>;
}

macro_rules! from_value {
    ($($ty:ty, $expected:literal, $value:ident => $convert:expr;)*) => {$(
        impl<'a> FromValue<'a> for $ty {
            const EXPECTED: &'static str = $expected;
            fn from_value($value: Value<'a>) -> Option<Self> {
                $convert
            }
        }
    )*};
}

from_value! {
    u32, "u32", v => v.as_int()?.try_into().ok();
    i32, "i32", v => v.as_int()?.try_into().ok();
    u64, "u64", v => v.as_int()?.try_into().ok();
    i64, "i64", v => v.as_int()?.try_into().ok();
    usize, "usize", v => v.as_int()?.try_into().ok();
    f32, "f32", v => v.as_float().map(|x| x as f32);
    f64, "f64", v => v.as_float();
    bool, "bool", v => match v { Value::Bool(x) => Some(x), _ => None };
    &'a str, "string", v => match v { Value::Str(x) => Some(x), _ => None };
    Array<'a>, "array", v => match v { Value::Array(x) => Some(x), _ => None };
}

/// One pair of getters for each type.
macro_rules! getters {
    ($($name:ident, $opt:ident: $ty:ty;)*) => {$(
        #[doc = concat!("The value of `key` as `", stringify!($ty), "`; an error if absent or of another type.")]
        pub fn $name(&self, key: &str) -> Result<$ty, MetaError> {
            self.required(key)
        }
        #[doc = concat!("As [`Metadata::", stringify!($name), "`], but `None` if absent.")]
        pub fn $opt(&self, key: &str) -> Result<Option<$ty>, MetaError> {
            self.optional(key)
        }
    )*};
}

impl Metadata {
    pub(crate) fn new(map: Arc<Mmap>, entries: Entries) -> Self {
        Metadata { map, entries: Arc::new(entries) }
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.entries.in_order.len()
    }

    /// Whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.entries.in_order.is_empty()
    }

    /// Whether there is such a key.
    pub fn contains(&self, key: &str) -> bool {
        self.entries.find(&self.map, key).is_some()
    }

    /// The value of `key`, of whatever type.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        self.entries.get(&self.map, key)
    }

    /// All pairs in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        let bytes: &[u8] = &self.map;
        self.entries.in_order.iter().filter_map(move |e| Some((e.key(bytes), e.value(bytes)?)))
    }

    /// The value of `key` as `T`, `None` if absent.
    ///
    /// # Errors
    /// [`MetaError::WrongType`] if it is of another type or doesn't fit, [`MetaError::NotUtf8`].
    pub fn optional<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, MetaError> {
        self.get(key).map(|value| convert(key, value)).transpose()
    }

    /// The value of `key` as `T`.
    ///
    /// # Errors
    /// As [`Metadata::optional`], and [`MetaError::Missing`].
    pub fn required<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, MetaError> {
        let missing = || MetaError::Missing { key: key.to_owned(), expected: T::EXPECTED };
        self.optional(key)?.ok_or_else(missing)
    }

    getters! {
        str, opt_str: &str;
        u32, opt_u32: u32;
        i32, opt_i32: i32;
        u64, opt_u64: u64;
        i64, opt_i64: i64;
        usize, opt_usize: usize;
        f32, opt_f32: f32;
        f64, opt_f64: f64;
        bool, opt_bool: bool;
        array, opt_array: Array<'_>;
    }

    /// The strings of an array, all of them checked to be UTF-8 before the first is returned.
    /// For strings that needn't be UTF-8 see [`Array::byte_strings`].
    pub fn strings<'a>(
        &'a self,
        key: &str,
    ) -> Result<impl ExactSizeIterator<Item = &'a str> + Clone + use<'a>, MetaError> {
        let array = self.array(key)?;
        let wrong = || MetaError::wrong(key, describe(Value::Array(array)), "array of strings");
        let strings = array.byte_strings().ok_or_else(wrong)?;
        if let Some(index) = strings.clone().position(|s| std::str::from_utf8(s).is_err()) {
            return Err(MetaError::NotUtf8 { key: key.to_owned(), index: index as u64 });
        }
        // The second check can't fail unless another process changed the mapped file.
        Ok(strings.map(|s| std::str::from_utf8(s).unwrap_or_default()))
    }

    /// As [`Metadata::strings`], but `None` if absent.
    pub fn opt_strings<'a>(
        &'a self,
        key: &str,
    ) -> Result<Option<impl ExactSizeIterator<Item = &'a str> + Clone + use<'a>>, MetaError> {
        self.contains(key).then(|| self.strings(key)).transpose()
    }

    /// The elements of an array as `T` (`i32`, `u32`, `f32` ...), all of them checked before the first is
    /// returned. The rules of conversion are those of [`FromValue`].
    pub fn values<'a, T: FromValue<'a> + 'a>(
        &'a self,
        key: &str,
    ) -> Result<impl Iterator<Item = T> + Clone + use<'a, T>, MetaError> {
        let array = self.array(key)?;
        for value in array {
            convert::<T>(key, value)?;
        }
        Ok(array.iter().filter_map(T::from_value))
    }

    /// As [`Metadata::values`], but `None` if absent.
    pub fn opt_values<'a, T: FromValue<'a> + 'a>(
        &'a self,
        key: &str,
    ) -> Result<Option<impl Iterator<Item = T> + Clone + use<'a, T>>, MetaError> {
        self.contains(key).then(|| self.values(key)).transpose()
    }
}

/// Converts the value of `key`, or says why not.
pub(crate) fn convert<'a, T: FromValue<'a>>(key: &str, value: Value<'a>) -> Result<T, MetaError> {
    T::from_value(value).ok_or_else(|| match value {
        Value::Bytes(_) if T::EXPECTED == "string" => {
            MetaError::NotUtf8 { key: key.to_owned(), index: 0 }
        }
        _ => MetaError::wrong(key, describe(value), T::EXPECTED),
    })
}

/// A value for an error message: a number with its type, else the type.
fn describe(value: Value<'_>) -> String {
    match value {
        Value::Str(_) | Value::Bytes(_) => "a string".to_owned(),
        Value::Array(array) => format!("an array of {}", array.element_type()),
        number => format!("the {} {number}", number.value_type()),
    }
}
