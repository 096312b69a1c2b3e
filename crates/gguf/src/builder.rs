//! Metadata before there is a file: pairs encoded as the file will hold them, so that [`MetaBuilder::build`]
//! gives the same [`Metadata`] that reading the written file would.

use std::sync::Arc;

use crate::cursor::Cursor;
use crate::error::GgufError;
use crate::file::map_bytes;
use crate::metadata::{Entries, Metadata};
use crate::value::{Array, Value, ValueType};

/// A value that can be put into metadata: numbers, `bool`, strings, slices and `Vec`s of them (nested ones
/// too), and a [`Value`] read from elsewhere.
pub trait MetaValue {
    /// Its type in the file.
    fn value_type(&self) -> ValueType;
    /// Appends it as it lies in the file, without its type.
    fn encode(&self, out: &mut Vec<u8>);
}

/// A value that can be an element of an array: one whose type is known without looking at it.
pub trait MetaElement: MetaValue {
    /// The type in the file.
    const TYPE: ValueType;
}

macro_rules! meta_values {
    ($($ty:ty => $value_type:ident, |$x:ident, $out:ident| $encode:expr;)*) => {$(
        impl MetaValue for $ty {
            fn value_type(&self) -> ValueType {
                Self::TYPE
            }
            fn encode(&self, $out: &mut Vec<u8>) {
                let $x = self;
                $encode
            }
        }
        impl MetaElement for $ty {
            const TYPE: ValueType = ValueType::$value_type;
        }
    )*};
}

meta_values! {
    u8 => U8, |x, out| out.push(*x);
    i8 => I8, |x, out| out.extend(x.to_le_bytes());
    u16 => U16, |x, out| out.extend(x.to_le_bytes());
    i16 => I16, |x, out| out.extend(x.to_le_bytes());
    u32 => U32, |x, out| out.extend(x.to_le_bytes());
    i32 => I32, |x, out| out.extend(x.to_le_bytes());
    u64 => U64, |x, out| out.extend(x.to_le_bytes());
    i64 => I64, |x, out| out.extend(x.to_le_bytes());
    f32 => F32, |x, out| out.extend(x.to_le_bytes());
    f64 => F64, |x, out| out.extend(x.to_le_bytes());
    bool => Bool, |x, out| out.push(u8::from(*x));
    &str => Str, |x, out| encode_bytes(x.as_bytes(), out);
    String => Str, |x, out| encode_bytes(x.as_bytes(), out);
}

/// Appends a length and as many bytes: a string, or a key or name.
pub(crate) fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

impl<T: MetaElement> MetaValue for &[T] {
    fn value_type(&self) -> ValueType {
        Self::TYPE
    }
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(T::TYPE.id().to_le_bytes());
        out.extend((self.len() as u64).to_le_bytes());
        self.iter().for_each(|x| x.encode(out));
    }
}

impl<T: MetaElement> MetaElement for &[T] {
    const TYPE: ValueType = ValueType::Array;
}

impl<T: MetaElement> MetaValue for Vec<T> {
    fn value_type(&self) -> ValueType {
        Self::TYPE
    }
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_slice().encode(out);
    }
}

impl<T: MetaElement> MetaElement for Vec<T> {
    const TYPE: ValueType = ValueType::Array;
}

impl MetaValue for Array<'_> {
    fn value_type(&self) -> ValueType {
        ValueType::Array
    }
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.element_type().id().to_le_bytes());
        out.extend((self.len() as u64).to_le_bytes());
        out.extend(self.raw());
    }
}

impl MetaValue for Value<'_> {
    fn value_type(&self) -> ValueType {
        Value::value_type(self)
    }
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Value::U8(x) => x.encode(out),
            Value::I8(x) => x.encode(out),
            Value::U16(x) => x.encode(out),
            Value::I16(x) => x.encode(out),
            Value::U32(x) => x.encode(out),
            Value::I32(x) => x.encode(out),
            Value::F32(x) => x.encode(out),
            Value::Bool(x) => x.encode(out),
            Value::Str(x) => x.encode(out),
            Value::Bytes(x) => encode_bytes(x, out),
            Value::Array(x) => x.encode(out),
            Value::U64(x) => x.encode(out),
            Value::I64(x) => x.encode(out),
            Value::F64(x) => x.encode(out),
        }
    }
}

/// Metadata under construction, in order. Setting a key again replaces its value in place.
#[derive(Debug, Clone, Default)]
pub struct MetaBuilder {
    pairs: Vec<(String, Vec<u8>)>,
}

impl MetaBuilder {
    /// No pairs yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key, by value for chains.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl MetaValue) -> Self {
        self.insert(key, value);
        self
    }

    /// Sets a key.
    pub fn insert(&mut self, key: &str, value: impl MetaValue) {
        let mut bytes = value.value_type().id().to_le_bytes().to_vec();
        value.encode(&mut bytes);
        match self.pairs.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => *old = bytes,
            None => self.pairs.push((key.to_owned(), bytes)),
        }
    }

    /// Removes a key, if it is there.
    pub fn remove(&mut self, key: &str) {
        self.pairs.retain(|(k, _)| k != key);
    }

    /// Sets all pairs of another file's metadata.
    pub fn extend(&mut self, meta: &Metadata) {
        meta.iter().for_each(|(key, value)| self.insert(key, value));
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Appends all pairs as they lie in the file.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for (key, value) in &self.pairs {
            encode_bytes(key.as_bytes(), out);
            out.extend(value);
        }
    }

    /// The metadata as a file with these pairs would give them.
    ///
    /// # Errors
    /// As [`crate::Gguf::open`], for what a file can't hold: keys too long, arrays nested too deep.
    pub fn build(&self) -> Result<Metadata, GgufError> {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        let map = map_bytes(&bytes)?;
        let mut cur = Cursor::new(&map, map.len() as u64);
        let entries = Entries::parse(&mut cur, &map, self.len() as u64)?;
        Ok(Metadata::new(Arc::new(map), entries))
    }
}
