//! A small valid GGUF image written field by field, independently of the crate's writer, with the place of
//! every length, count, type and offset; and a walk over all that a reader offers. Shared with `fuzz/`.
#![allow(dead_code)] // each user takes a part

use hob_gguf::{Array, Gguf, Value, Writer};

/// A number in an image that says how to read the rest.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    pub at: usize,
    /// Bytes: 4 or 8.
    pub width: usize,
}

/// An image under construction.
#[derive(Debug, Clone, Default)]
pub struct Image {
    pub bytes: Vec<u8>,
    pub fields: Vec<Field>,
}

impl Image {
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes);
        self
    }

    pub fn u32(&mut self, name: &'static str, x: u32) -> &mut Self {
        self.fields.push(Field { name, at: self.bytes.len(), width: 4 });
        self.raw(&x.to_le_bytes())
    }

    pub fn u64(&mut self, name: &'static str, x: u64) -> &mut Self {
        self.fields.push(Field { name, at: self.bytes.len(), width: 8 });
        self.raw(&x.to_le_bytes())
    }

    pub fn string(&mut self, name: &'static str, s: &[u8]) -> &mut Self {
        self.u64(name, s.len() as u64).raw(s)
    }

    /// Magic, version and counts.
    pub fn preamble(&mut self, version: u32, tensors: u64, pairs: u64) -> &mut Self {
        self.raw(b"GGUF").u32("version", version);
        self.u64("tensor count", tensors).u64("pair count", pairs)
    }

    /// Key and value type.
    pub fn key(&mut self, key: &str, ty: u32) -> &mut Self {
        self.string("key length", key.as_bytes()).u32("value type", ty)
    }

    /// Element type and length of an array.
    pub fn array(&mut self, ty: u32, len: u64) -> &mut Self {
        self.u32("element type", ty).u64("array length", len)
    }

    pub fn tensor(&mut self, name: &str, dims: &[u64], ty: u32, offset: u64) -> &mut Self {
        self.string("name length", name.as_bytes()).u32("rank", dims.len() as u32);
        for d in dims {
            self.u64("dimension", *d);
        }
        self.u32("tensor type", ty).u64("offset", offset)
    }

    pub fn pad(&mut self, alignment: usize) -> &mut Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(alignment), 0);
        self
    }

    /// The image with one field changed.
    pub fn with(&self, field: Field, value: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        set(&mut bytes, field, value);
        bytes
    }

    /// The `n`th field of this name.
    pub fn field(&self, name: &str, n: usize) -> Field {
        self.fields
            .iter()
            .copied()
            .filter(|f| f.name == name)
            .nth(n)
            .expect("a field of the sample")
    }
}

/// Overwrites a field (with the low bytes of `value` where it is narrow).
pub fn set(bytes: &mut [u8], field: Field, value: u64) {
    let place = &mut bytes[field.at..field.at + field.width];
    place.copy_from_slice(&value.to_le_bytes()[..field.width]);
}

/// A valid file with every kind of field: 7 pairs, 3 tensors (F32 of 4 x 5, Q8_0 of 64 x 2, F16 of 3).
pub fn sample() -> Image {
    let mut f = Image::default();
    f.preamble(3, 3, 7);
    f.key("general.architecture", 8).string("string length", b"llama");
    f.key("general.alignment", 4).u32("alignment", 32);
    f.key("flag", 7).raw(&[1]);
    f.key("tokens", 9).array(8, 2);
    f.string("string length", b"ab").string("string length", "字".as_bytes());
    f.key("scores", 9).array(6, 2).raw(&[0; 8]);
    f.key("nested", 9).array(9, 2).array(1, 3).raw(&[1, 2, 3]).array(8, 0);
    f.key("split.count", 2).raw(&[1, 0]);
    f.tensor("a", &[4, 5], 0, 0).tensor("b", &[64, 2], 8, 96).tensor("c", &[3], 1, 256);
    f.pad(32).raw(&[1; 80]).pad(32).raw(&[2; 136]).pad(32).raw(&[3; 6]);
    f
}

/// Touches everything: all metadata to the last element, all tensors' first and last bytes. Returns a sum so
/// that nothing is optimised away.
pub fn walk(file: &Gguf) -> u64 {
    let mut sum = u64::from(file.version()) + u64::from(file.alignment());
    for (key, value) in file.meta().iter() {
        assert_eq!(file.meta().get(key).map(|v| v.value_type()), Some(value.value_type()));
        sum = sum.wrapping_add(key.len() as u64).wrapping_add(walk_value(value));
        // Errors are as good as values here.
        let _ = (file.meta().opt_u32(key), file.meta().opt_str(key), file.meta().opt_f32(key));
        if let Ok(strings) = file.meta().strings(key) {
            sum = sum.wrapping_add(strings.map(|s| s.len() as u64).sum());
        }
    }
    for t in file.tensors() {
        assert_eq!(file.tensor(&t.name), Some(t));
        let data = file.tensor_bytes(t);
        assert_eq!(data.len() as u64, t.bytes());
        assert!(t.bytes() > 0 && t.elements() > 0 && t.bytes() <= file.file_bytes());
        sum = sum.wrapping_add(u64::from(data[0])).wrapping_add(u64::from(data[data.len() - 1]));
    }
    sum
}

/// Writes an open file anew and opens the copy, which must hold the same.
pub fn rewrite(file: &Gguf) -> Gguf {
    let mut writer = Writer::new();
    writer.meta_mut().extend(file.meta());
    for t in file.tensors() {
        writer.add_tensor(&t.name, t.ty, &t.dims).expect("a tensor that was read");
    }
    let data = |t: &hob_gguf::TensorInfo| {
        file.tensor_bytes(file.tensor(&t.name).expect("the same name")).to_vec()
    };
    let image = writer.to_bytes(data).expect("a header that was read");
    let copy = Gguf::from_bytes(image).expect("what was written");
    assert!(copy.meta().iter().map(|(k, _)| k).eq(file.meta().iter().map(|(k, _)| k)));
    for (a, b) in file.tensors().iter().zip(copy.tensors()) {
        assert_eq!((&a.name, a.ty, &a.dims), (&b.name, b.ty, &b.dims));
        assert!(file.tensor_bytes(a) == copy.tensor_bytes(b));
    }
    copy
}

fn walk_value(value: Value<'_>) -> u64 {
    match value {
        Value::Str(s) => s.len() as u64,
        Value::Bytes(b) => b.len() as u64,
        Value::Array(array) => walk_array(array),
        number => number.as_float().map_or(1, f64::to_bits),
    }
}

fn walk_array(array: Array<'_>) -> u64 {
    let sum = array.iter().fold(0, |sum: u64, v| sum.wrapping_add(walk_value(v)));
    assert_eq!(array.iter().count(), array.len());
    sum
}
