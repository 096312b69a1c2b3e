//! Bytes of a file from its description alone: header, tensor directory and aligned tensor data, by the same arithmetic that the
//! writer lays the file out with. No tensor exists yet when this is asked.

use hob_gguf::limits::DEFAULT_ALIGNMENT;
use hob_gguf::{GgufError, MetaBuilder, WriteError, Writer};
use hob_quant::GgmlType;

use super::Recipe;
use crate::Model;

/// Bytes per entry of the vocabulary that a tokenizer takes in a file, where only the vocabulary's length is known:
/// tokens, types and merges of byte-level BPE. Measured: Qwen2's takes 39.0, GPT-2's 35.1, DeepSeek's 38.8. Farthest
/// off are Llama 3's 61.0 (2.8 MB more than estimated) and SentencePiece's 22.6 without merges (0.5 MB less at 32,000).
pub const TOKENIZER_BYTES_PER_ENTRY: u64 = 39;

/// Version of the block formats, as quantized files state it.
const QUANTIZATION_VERSION: u32 = 2;

/// The part of a model's file that no recipe changes: metadata and tensor directory, padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSize {
    header: u64,
    alignment: u64,
}

/// Why a size has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SizeError {
    /// The header is one that no file can hold.
    #[error(transparent)]
    Header(#[from] WriteError),
    /// Likewise.
    #[error(transparent)]
    Metadata(#[from] GgufError),
    /// The data are larger than 2^64 bytes.
    #[error("the tensors of this description have more bytes than 64 bits can count")]
    Overflow,
}

impl Recipe {
    /// Turns a source's metadata into those of the quantized file: states the recipe, at the end, and forgets that the
    /// source was split.
    pub fn stamp(&self, meta: &mut MetaBuilder) {
        const VERSION: &str = "general.quantization_version";
        const FILE_TYPE: &str = "general.file_type";
        for key in [VERSION, FILE_TYPE, "split.no", "split.count", "split.tensors.count"] {
            meta.remove(key);
        }
        meta.insert(VERSION, QUANTIZATION_VERSION);
        meta.insert(FILE_TYPE, self.file_type);
    }
}

impl FileSize {
    /// The header of a file with these metadata and the tensors of `model`. `more` bytes of metadata are added that
    /// are known by size only (a tokenizer that is not at hand).
    ///
    /// # Errors
    /// As [`Writer::file_bytes`].
    pub fn of(model: &Model, meta: &MetaBuilder, more: u64) -> Result<Self, SizeError> {
        let alignment = meta.build()?.opt_u32("general.alignment").ok().flatten();
        let alignment = u64::from(alignment.unwrap_or(DEFAULT_ALIGNMENT));
        // Types do not change the directory's length; F32 fits every shape.
        let types = vec![GgmlType::F32; model.weights.len()];
        let data = data_bytes(model, &types, alignment).ok_or(SizeError::Overflow)?;
        let mut writer = Writer::with_meta(meta.clone());
        for weight in &model.weights {
            writer.add_tensor(&weight.name, GgmlType::F32, &weight.shape)?;
        }
        let header = writer.file_bytes()? - data;
        let header = (header + more).next_multiple_of(alignment);
        Ok(FileSize { header, alignment })
    }

    /// Bytes before the first tensor.
    pub fn header(&self) -> u64 {
        self.header
    }

    /// Bytes of the file whose weights have these types, indexed by [`crate::WeightId`]; `None` beyond 64 bits.
    pub fn file_bytes(&self, model: &Model, types: &[GgmlType]) -> Option<u64> {
        data_bytes(model, types, self.alignment)?.checked_add(self.header)
    }
}

/// Bytes of all tensors, each padded as in a file.
fn data_bytes(model: &Model, types: &[GgmlType], alignment: u64) -> Option<u64> {
    let mut total = 0u64;
    for (weight, ty) in model.weights.iter().zip(types) {
        let row = ty.row_bytes(*weight.shape.first()?)?;
        let rows = weight.shape.iter().skip(1).try_fold(1u64, |n, &d| n.checked_mul(d))?;
        let bytes = row.checked_mul(rows)?.checked_next_multiple_of(alignment)?;
        total = total.checked_add(bytes)?;
    }
    Some(total)
}
