//! A Hugging Face folder (safetensors, config, tokenizer) as one GGUF file, tensor for tensor and key for key as the
//! ecosystem's `convert_hf_to_gguf.py` writes it. First everything is planned and checked ([`Conversion::plan`]): names,
//! shapes, metadata, tokenizer. Then rows stream from the sources into a file that appears whole or not at all.
//! Deliberately absent: recipes (`quantize` makes them from the file), and image or sound towers.

mod card;
mod checkpoint;
mod error;
mod families;
mod folder;
mod general;
mod job;
mod plan;
mod pooling;
mod rows;
mod safetensors;
mod slabs;
mod value_heads;
mod vocab;

use std::ops::ControlFlow;
use std::path::Path;

use hob_gguf::{MetaBuilder, Writer};
use hob_model::hf::{self, Keys, bad};
use hob_quant::GgmlType;

pub use error::{ConvertError, Fault};
pub use plan::{Planned, Skipped};

use folder::Folder;
use plan::Planner;
use safetensors::Dtype;
use vocab::Vocab;

/// How checkpoints may be quantized that are read.
const QUANTIZED: &[&str] = &["fp8", "mxfp4", "compressed-tensors"];

/// What shall be made of a folder.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Type of the matrices: F32, F16, BF16 or Q8_0; none for that of the checkpoint, F16 for one of F32.
    pub ty: Option<GgmlType>,
    /// Name of the pre-tokenizer, where the tokenizer does not tell it.
    pub pre: Option<String>,
    /// Name of the model, instead of what card, config and folder say.
    pub name: Option<String>,
}

/// How far the writing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The tensor that is being written.
    pub tensor: &'a str,
    /// Tensors written.
    pub tensors: usize,
    /// Bytes written.
    pub bytes: u64,
}

/// What hears of the progress, and may break it off.
pub type Watch<'a> = dyn FnMut(Progress<'_>) -> ControlFlow<()> + 'a;

/// A conversion, planned and checked.
#[derive(Debug)]
pub struct Conversion {
    folder: Folder,
    /// The architecture's name in GGUF.
    pub arch: &'static str,
    /// The type of the matrices.
    pub ty: GgmlType,
    /// The tensors, in their order.
    pub tensors: Vec<Planned>,
    /// The metadata.
    pub meta: MetaBuilder,
    /// What is left out on purpose.
    pub skipped: Skipped,
}

impl Conversion {
    /// Plans what a folder becomes. No weight is read.
    ///
    /// # Errors
    /// When a file is missing or damaged, when the architecture or the tokenizer is not known, or when tensors are
    /// unknown, missing or of a wrong shape.
    pub fn plan(path: &Path, options: &Options) -> Result<Self, ConvertError> {
        let Some(config) = Folder::config(path)? else {
            return Err(ConvertError::NoFile(path.join("config.json")));
        };
        let model = hf::find(&config)?;
        let folder = Folder::open(path)?;
        let ty = options.ty.unwrap_or_else(|| guess(&folder));
        let meta = MetaBuilder::new().set("general.architecture", model.arch);
        let mut keys = Keys::new(model.arch, model.defaults, &config, meta)?;
        let family = families::of(model, &keys)?;
        let method = checkpoint::quant_method(&keys);
        if let Some(method) = method.filter(|method| !QUANTIZED.contains(method)) {
            return Err(bad("quant_method", method, &QUANTIZED.join(", ")).into());
        }
        checkpoint::look(&mut keys, family, &folder)?;
        let rows = keys.count("vocab_size")?;
        let vocab = Vocab::read(&folder, family, rows, options.pre.as_deref())?;
        let computed = (model.computed)(&mut keys)?;
        let planner = Planner::new(family, &folder, &keys, ty, Some(vocab.tokens))?;
        let (tensors, skipped) = planner.run(computed)?;
        general::state(&folder, &tensors, options.name.as_deref(), &mut keys.meta)?;
        let packed = checkpoint::quant_method(&keys) == Some("mxfp4") && ty != GgmlType::Q8_0;
        keys.file_type = Some(job::file_type(if packed { GgmlType::MXFP4 } else { ty }));
        (model.keys)(&mut keys)?;
        let mut meta = keys.meta;
        meta.insert("general.quantization_version", 2u32);
        meta.extend(&vocab.meta.build()?);
        let arch = model.arch;
        Ok(Conversion { folder, arch, ty, tensors, meta, skipped })
    }

    /// Bytes of the file.
    ///
    /// # Errors
    /// If the tensors make no header.
    pub fn file_bytes(&self) -> Result<u64, ConvertError> {
        Ok(self.header()?.file_bytes()?)
    }

    fn header(&self) -> Result<Writer, ConvertError> {
        let mut writer = Writer::with_meta(self.meta.clone());
        for t in &self.tensors {
            writer.add_tensor(&t.name, t.ty, &t.dims)?;
        }
        Ok(writer)
    }
}

/// The type of the first matrix that is of half precision, else F16.
fn guess(folder: &Folder) -> GgmlType {
    let matrices = folder.tensors().filter(|(_, tensor)| tensor.shape.len() > 1);
    let halves = matrices.filter_map(|(_, tensor)| match tensor.dtype {
        Dtype::BF16 => Some(GgmlType::BF16),
        Dtype::F16 => Some(GgmlType::F16),
        _ => None,
    });
    halves.take(1).next().unwrap_or(GgmlType::F16)
}
