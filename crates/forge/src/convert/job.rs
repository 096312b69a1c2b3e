//! The writing: rows are read, turned into floats, encoded and written, some megabytes at a time, into a file that gets
//! its name when it is whole. Deliberately absent: what is written (the plan), and more than one thread.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use half::f16;
use hob_gguf::{TensorWriter, WriteError};
use hob_quant::{GgmlType, encode_row};

use super::error::ConvertError;
use super::plan::{Change, Planned, Source};
use super::rows::{Order, Scales, Slab};
use super::safetensors::Dtype;
use super::{Conversion, Progress, Watch};
use crate::quantize::{QuantizeError, Writing, target::Target};

/// Numbers of a piece: 4 MiB of floats.
const PIECE: u64 = 1 << 20;
const BUFFER: usize = 1 << 20;

impl Conversion {
    /// Writes the file; returns its name.
    ///
    /// # Errors
    /// When the place is taken or too small, when a source cannot be read, when the system refuses, or when `watch`
    /// breaks off. No file is left then, and none that was there is changed.
    pub fn write(&self, writing: &Writing, watch: &mut Watch<'_>) -> Result<PathBuf, ConvertError> {
        let path = writing.path.clone();
        let sources = self.folder.files();
        let target = Target::claim(writing, vec![path.clone()], &sources, self.file_bytes()?)?;
        let file = target.open(0)?;
        let out = BufWriter::with_capacity(BUFFER, file);
        let file = self.stream(out, watch).map_err(|error| match error {
            ConvertError::Write(WriteError::Io(source)) => {
                ConvertError::Io { action: "write", path: path.clone(), source }
            }
            other => other,
        })?;
        let file: File =
            file.into_inner().map_err(|e| ConvertError::io("write", &path)(e.into_error()))?;
        file.sync_all().map_err(ConvertError::io("sync", &path))?;
        target.publish()?;
        Ok(path)
    }

    fn stream<W: Write>(&self, out: W, watch: &mut Watch<'_>) -> Result<W, ConvertError> {
        let mut writer = self.header()?.write_header(out)?;
        let mut bytes = 0;
        for (tensors, tensor) in self.tensors.iter().enumerate() {
            writer.begin(&tensor.name)?;
            let mut pieces = Pieces { conversion: self, tensor, tensors, bytes: &mut bytes };
            match &tensor.source {
                Source::Floats(numbers) => {
                    pieces.encode(numbers, &mut writer, watch)?;
                }
                Source::Slabs { slabs, change } => {
                    for slab in slabs {
                        pieces.slab(slab, *change, &mut writer, watch)?;
                    }
                }
            }
        }
        Ok(writer.finish()?)
    }
}

/// A tensor on its way.
struct Pieces<'c, 'b> {
    conversion: &'c Conversion,
    tensor: &'c Planned,
    /// Tensors written before.
    tensors: usize,
    /// Bytes written.
    bytes: &'b mut u64,
}

impl Pieces<'_, '_> {
    fn slab<W: Write>(
        &mut self,
        slab: &Slab,
        change: Change,
        writer: &mut TensorWriter<W>,
        watch: &mut Watch<'_>,
    ) -> Result<(), ConvertError> {
        let (rows, cols) = slab.shape();
        let step = match slab.order {
            Order::Turned | Order::TurnedAlternate { .. } => rows,
            _ => (PIECE / cols.max(1)).max(1),
        };
        let folder = &self.conversion.folder;
        for from in (0..rows).step_by(step.max(1) as usize) {
            let to = rows.min(from + step);
            if let Scales::Mx { .. } = slab.scales {
                let mut bytes = Vec::new();
                slab.mxfp4(folder, from, to, &mut bytes)?;
                self.put(&bytes, writer, watch)?;
                continue;
            }
            let mut floats = Vec::new();
            slab.floats(folder, from, to, &mut floats)?;
            if change != Change::Nothing {
                // The ecosystem's converter computes in the source's precision where that is F16.
                let half = folder.get(slab.place).is_some_and(|(_, t)| t.dtype == Dtype::F16);
                let round = |x: f32| if half { f16::from_f32(x).to_f32() } else { x };
                floats.iter_mut().for_each(|x| *x = round(changed(*x, change)));
            }
            self.encode(&floats, writer, watch)?;
        }
        Ok(())
    }

    fn encode<W: Write>(
        &mut self,
        floats: &[f32],
        writer: &mut TensorWriter<W>,
        watch: &mut Watch<'_>,
    ) -> Result<(), ConvertError> {
        let ty = self.tensor.ty;
        let size = |n: usize| n / ty.block_len() * ty.block_bytes();
        let mut bytes = vec![0; size(floats.len())];
        // Whole rows are whole blocks, so that any number of them is one row to the encoder.
        encode_row(ty, floats, None, &mut bytes)
            .map_err(|source| ConvertError::Row { tensor: self.tensor.name.clone(), source })?;
        self.put(&bytes, writer, watch)
    }

    fn put<W: Write>(
        &mut self,
        bytes: &[u8],
        writer: &mut TensorWriter<W>,
        watch: &mut Watch<'_>,
    ) -> Result<(), ConvertError> {
        writer.chunk(bytes)?;
        *self.bytes += bytes.len() as u64;
        let progress =
            Progress { tensor: &self.tensor.name, tensors: self.tensors, bytes: *self.bytes };
        match watch(progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(QuantizeError::Stopped.into()),
        }
    }
}

/// The exponential is the correctly rounded one. That of PyTorch, which the ecosystem's converter uses, is another float
/// for one number in a hundred, and for 45 of all 65,280 that BF16 has.
fn changed(x: f32, change: Change) -> f32 {
    match change {
        Change::Nothing => x,
        Change::PlusOne => x + 1.0,
        Change::Decay => -(f64::from(x).exp() as f32),
    }
}

/// The number that `general.file_type` has for a type of matrices.
pub(super) fn file_type(ty: GgmlType) -> u32 {
    match ty {
        GgmlType::F32 => 0,
        GgmlType::Q8_0 => 7,
        GgmlType::BF16 => 32,
        GgmlType::MXFP4 => 38,
        _ => 1,
    }
}
