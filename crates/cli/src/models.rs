//! From a MODEL argument to an open file: found in the store, pulled when the verb says so, or given by its path.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use hob_gguf::{Gguf, Metadata};
use hob_hub::{Hub, HubError, LocalModel, Overlay};
use hob_model::Model;
use hob_quant::GgmlType;

use crate::progress::PullBar;
use crate::{folder, pull};

/// Names of llama.cpp's file types by the number in `general.file_type` (`enum llama_ftype` of its llama.h).
const FILE_TYPES: &[(u32, &str)] = &[
    (0, "F32"),
    (1, "F16"),
    (2, "Q4_0"),
    (3, "Q4_1"),
    (7, "Q8_0"),
    (8, "Q5_0"),
    (9, "Q5_1"),
    (10, "Q2_K"),
    (11, "Q3_K_S"),
    (12, "Q3_K_M"),
    (13, "Q3_K_L"),
    (14, "Q4_K_S"),
    (15, "Q4_K_M"),
    (16, "Q5_K_S"),
    (17, "Q5_K_M"),
    (18, "Q6_K"),
    (19, "IQ2_XXS"),
    (20, "IQ2_XS"),
    (21, "Q2_K_S"),
    (22, "IQ3_XS"),
    (23, "IQ3_XXS"),
    (24, "IQ1_S"),
    (25, "IQ4_NL"),
    (26, "IQ3_S"),
    (27, "IQ3_M"),
    (28, "IQ2_S"),
    (29, "IQ2_M"),
    (30, "IQ4_XS"),
    (31, "IQ1_M"),
    (32, "BF16"),
    (36, "TQ1_0"),
    (37, "TQ2_0"),
    (38, "MXFP4_MOE"),
    (39, "NVFP4"),
    (40, "Q1_0"),
    (41, "Q2_0"),
];

/// A model file, open.
pub struct ModelFile {
    /// Where it lies and what the store says of it.
    pub local: LocalModel,
    /// The file.
    pub gguf: Arc<Gguf>,
    /// What its store keeps beside the weights.
    pub overlay: Overlay,
}

impl ModelFile {
    /// A model that is here.
    ///
    /// # Errors
    /// Also when the catalogue has it but it was not pulled: only `run` and `pull` fetch.
    pub fn open(hub: &Hub, reference: &str) -> Result<ModelFile> {
        match Self::find(hub, reference)? {
            Some(local) => ModelFile::read(hub, local),
            None => bail!(
                "'{reference}' is not on this machine yet; fetch it with `hob pull {reference}`"
            ),
        }
    }

    /// A model that is here or can be fetched.
    pub fn open_or_pull(hub: &Hub, reference: &str) -> Result<ModelFile> {
        match Self::find(hub, reference) {
            Ok(Some(local)) => ModelFile::read(hub, local),
            Ok(None) => ModelFile::read(hub, pull::pull(hub, reference, &pull::Order::default())?),
            // A registry may know what the catalogue does not.
            Err(e) if matches!(e.downcast_ref(), Some(HubError::UnknownModel { .. })) => {
                ModelFile::read(hub, pull::pull(hub, reference, &pull::Order::default())?)
            }
            Err(e) => Err(e),
        }
    }

    /// What is here: a file, a stored model, or a Hugging Face folder, which is converted first.
    fn find(hub: &Hub, reference: &str) -> Result<Option<LocalModel>> {
        match folder::is_checkpoint(reference) {
            true => folder::converted(hub, reference).map(Some),
            false => Ok(hub.find(reference)?),
        }
    }

    fn read(hub: &Hub, local: LocalModel) -> Result<ModelFile> {
        let mut bar = PullBar::new();
        let checked = hub.check(&local, &mut |event| bar.show(event));
        bar.clear();
        checked?;
        let gguf = open_gguf(&local)?;
        let overlay = hub.overlay(&local)?;
        Ok(ModelFile { local, gguf: Arc::new(gguf), overlay })
    }

    /// The description, without which nothing can run.
    pub fn describe(&self) -> Result<Model> {
        hob_model::describe(&self.gguf).with_context(|| format!("cannot use {}", self.local.name))
    }

    /// The file's metadata.
    pub fn meta(&self) -> &Metadata {
        self.gguf.meta()
    }

    /// Quantization in llama.cpp's spelling.
    pub fn recipe(&self) -> &'static str {
        recipe(&self.gguf)
    }

    /// Bytes of all tensors.
    pub fn weight_bytes(&self) -> u64 {
        self.gguf.tensors().iter().map(|t| t.bytes()).sum()
    }
}

/// Quantization in llama.cpp's spelling: what the file says of itself, else the type that holds most of its bytes.
pub fn recipe(gguf: &Gguf) -> &'static str {
    let said = gguf.meta().opt_u32("general.file_type").ok().flatten();
    let known = |id| FILE_TYPES.iter().find(|(i, _)| *i == id).map(|(_, name)| *name);
    said.and_then(known).unwrap_or_else(|| main_type(gguf))
}

fn main_type(gguf: &Gguf) -> &'static str {
    let bytes_of = |ty: GgmlType| -> u64 {
        gguf.tensors().iter().filter(|t| t.ty == ty).map(|t| t.bytes()).sum()
    };
    let main = GgmlType::ALL.iter().copied().max_by_key(|&ty| bytes_of(ty));
    main.filter(|&ty| bytes_of(ty) > 0).map_or("unknown", GgmlType::name)
}

/// A file given by its path may be the first of a split set; a stored one's files are listed.
fn open_gguf(local: &LocalModel) -> Result<Gguf> {
    let opened = match local.parts.as_slice() {
        [path] => Gguf::open(path),
        parts => Gguf::open_shards(parts),
    };
    opened.with_context(|| format!("cannot open {}", local.path.display()))
}
