//! Writing a GGUF file (version 3) as a stream: header first, then each tensor in its order, padded. The
//! sink needs no seek and no tensor needs to be whole in memory. The header is judged by the reader's own
//! code before a byte of it is written. Deliberately absent: writing split sets.

use std::io::Write;

use hob_quant::GgmlType;

use crate::builder::{MetaBuilder, MetaValue, encode_bytes};
use crate::error::{GgufError, TensorFault, WriteError};
use crate::file::{Gguf, map_filled};
use crate::header::{self, ALIGNMENT_KEY, Header, MAGIC};
use crate::tensor::TensorInfo;

const VERSION: u32 = 3;

/// A file to be written: its metadata and the description of its tensors.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    meta: MetaBuilder,
    tensors: Vec<TensorInfo>,
}

impl Writer {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With these metadata.
    pub fn with_meta(meta: MetaBuilder) -> Self {
        Writer { meta, tensors: Vec::new() }
    }

    /// Sets a metadata key, by value for chains. `general.alignment` has its effect.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl MetaValue) -> Self {
        self.meta.insert(key, value);
        self
    }

    /// The metadata.
    pub fn meta_mut(&mut self) -> &mut MetaBuilder {
        &mut self.meta
    }

    /// Declares the next tensor; `dims` in ggml's order, the row length first.
    ///
    /// # Errors
    /// If type and dimensions don't fit together or the size overflows.
    pub fn add_tensor(&mut self, name: &str, ty: GgmlType, dims: &[u64]) -> Result<(), WriteError> {
        self.tensors.push(TensorInfo::new(name, ty, dims)?);
        Ok(())
    }

    /// As [`Writer::add_tensor`], by value for chains.
    ///
    /// # Errors
    /// As [`Writer::add_tensor`].
    pub fn tensor(mut self, name: &str, ty: GgmlType, dims: &[u64]) -> Result<Self, WriteError> {
        self.add_tensor(name, ty, dims)?;
        Ok(self)
    }

    /// Size of the file in bytes.
    ///
    /// # Errors
    /// As [`Writer::write_header`], but for those of the sink.
    pub fn file_bytes(&self) -> Result<u64, WriteError> {
        self.layout().map(|layout| layout.file_bytes)
    }

    /// Writes the header; the tensors follow through the value returned.
    ///
    /// # Errors
    /// [`WriteError::Invalid`] if the header is one that the reader would refuse (duplicate names, limits),
    /// or those of the sink.
    pub fn write_header<W: Write>(self, mut out: W) -> Result<TensorWriter<W>, WriteError> {
        let Layout { bytes, header, .. } = self.layout()?;
        out.write_all(&bytes)?;
        let padding = header.data_start - bytes.len() as u64;
        let mut writer = TensorWriter {
            out,
            alignment: u64::from(header.alignment),
            tensors: header.tensors.into_iter(),
            current: None,
        };
        writer.pad(padding)?;
        Ok(writer)
    }

    /// Writes a whole small file into memory; `data` gives each tensor's bytes.
    ///
    /// # Errors
    /// As [`Writer::write_header`] and [`TensorWriter::tensor`].
    pub fn to_bytes(
        self,
        mut data: impl FnMut(&TensorInfo) -> Vec<u8>,
    ) -> Result<Vec<u8>, WriteError> {
        let mut writer = self.write_header(Vec::new())?;
        while let Some(info) = writer.due().cloned() {
            writer.tensor(&info.name, &data(&info))?;
        }
        writer.finish()
    }

    /// Makes the model in memory, where it is read at once; `fill` writes each tensor's data in its place, which is zero before.
    ///
    /// # Errors
    /// As [`Writer::write_header`], and when there is no memory.
    pub fn into_memory(
        self,
        mut fill: impl FnMut(&TensorInfo, &mut [u8]),
    ) -> Result<Gguf, WriteError> {
        let Layout { bytes, header, file_bytes } = self.layout()?;
        let map = map_filled(file_bytes as usize, |map| {
            map[..bytes.len()].copy_from_slice(&bytes);
            for tensor in &header.tensors {
                let start = (header.data_start + tensor.offset) as usize;
                fill(tensor, &mut map[start..start + tensor.bytes() as usize]);
            }
        })?;
        Ok(Gguf::from_map(map)?)
    }

    /// Encodes the header with offsets given out in order, and reads it back.
    fn layout(&self) -> Result<Layout, WriteError> {
        let alignment = header::alignment(self.meta.build()?.get(ALIGNMENT_KEY))?;
        let alignment = u64::from(alignment);
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.meta.len() as u64).to_le_bytes());
        self.meta.encode(&mut bytes);
        let mut offset = 0;
        for t in &self.tensors {
            encode_tensor(t, offset, &mut bytes);
            let end =
                offset.checked_add(t.bytes()).and_then(|n| n.checked_next_multiple_of(alignment));
            offset = end
                .ok_or_else(|| GgufError::tensor(&t.name, TensorFault::Overflow(t.dims.clone())))?;
        }
        let data_start = (bytes.len() as u64).next_multiple_of(alignment);
        let file_bytes = data_start.saturating_add(offset);
        let header = header::parse(&bytes, file_bytes)?;
        Ok(Layout { bytes, header, file_bytes })
    }
}

struct Layout {
    bytes: Vec<u8>,
    header: Header,
    file_bytes: u64,
}

fn encode_tensor(t: &TensorInfo, offset: u64, out: &mut Vec<u8>) {
    encode_bytes(t.name.as_bytes(), out);
    out.extend((t.dims.len() as u32).to_le_bytes());
    t.dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
    out.extend(t.ty.id().to_le_bytes());
    out.extend(offset.to_le_bytes());
}

/// A file whose header is written: takes the tensors' data in the declared order.
#[derive(Debug)]
pub struct TensorWriter<W> {
    out: W,
    alignment: u64,
    tensors: std::vec::IntoIter<TensorInfo>,
    /// The tensor whose data are being written, and how many bytes of them came.
    current: Option<(TensorInfo, u64)>,
}

impl<W: Write> TensorWriter<W> {
    /// The tensor that is to be begun next, `None` after the last.
    pub fn due(&self) -> Option<&TensorInfo> {
        self.tensors.as_slice().first()
    }

    /// Writes the data of the next tensor, all at once.
    ///
    /// # Errors
    /// [`WriteError::Order`] if another tensor is due, [`WriteError::Size`] if the bytes are too many or too
    /// few, or those of the sink.
    pub fn tensor(&mut self, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
        self.begin(name)?;
        self.chunk(bytes)?;
        self.end()
    }

    /// Begins the next tensor, after checking that the one before is complete; [`TensorWriter::chunk`]s
    /// follow.
    ///
    /// # Errors
    /// [`WriteError::Order`], [`WriteError::Size`] of the tensor before, or those of the sink.
    pub fn begin(&mut self, name: &str) -> Result<(), WriteError> {
        self.end()?;
        match self.due() {
            Some(due) if due.name == name => {
                self.current = self.tensors.next().map(|t| (t, 0));
                Ok(())
            }
            due => {
                let expected = due.map(|t| t.name.clone());
                Err(WriteError::Order { found: name.to_owned(), expected })
            }
        }
    }

    /// Writes the next bytes of the tensor begun.
    ///
    /// # Errors
    /// [`WriteError::Size`] if they are too many (none of them is written then), or those of the sink.
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let (t, written) = self.current.as_mut().ok_or(WriteError::NotBegun)?;
        let found = written.saturating_add(bytes.len() as u64);
        if found > t.bytes() {
            return Err(size_error(t, found));
        }
        self.out.write_all(bytes)?;
        *written = found;
        Ok(())
    }

    /// Checks that the tensor begun is complete and pads it.
    fn end(&mut self) -> Result<(), WriteError> {
        let Some((t, written)) = &self.current else { return Ok(()) };
        if *written != t.bytes() {
            return Err(size_error(t, *written));
        }
        let padding = written.next_multiple_of(self.alignment) - written;
        self.current = None;
        self.pad(padding)
    }

    fn pad(&mut self, padding: u64) -> Result<(), WriteError> {
        std::io::copy(&mut std::io::Read::take(std::io::repeat(0), padding), &mut self.out)?;
        Ok(())
    }

    /// Ends the file and returns the sink, flushed.
    ///
    /// # Errors
    /// [`WriteError::Unfinished`] or [`WriteError::Size`] if data are missing, or those of the sink.
    pub fn finish(mut self) -> Result<W, WriteError> {
        self.end()?;
        if let Some(due) = self.due() {
            let (missing, next) = (self.tensors.len(), due.name.clone());
            return Err(WriteError::Unfinished { missing, next });
        }
        self.out.flush()?;
        Ok(self.out)
    }
}

fn size_error(t: &TensorInfo, found: u64) -> WriteError {
    WriteError::Size { name: t.name.clone(), expected: t.bytes(), found }
}
