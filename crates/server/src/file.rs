//! A model's file, open: its tensors' directory, what the store says of it and what lies beside the weights. Finding and fetching it is the
//! caller's business.

use std::sync::Arc;

use hob_gguf::{Gguf, Metadata};
use hob_hub::{Hub, LocalModel, Overlay, Progress};
use hob_model::Model;
use hob_plan::memory::Weights;

use crate::error::LoadError;

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
    /// Opens what the hub has found, checked if something wrote to it.
    ///
    /// # Errors
    /// When it is damaged or no model.
    pub fn read(
        hub: &Hub,
        local: LocalModel,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<ModelFile, LoadError> {
        hub.check(&local, progress)?;
        ModelFile::peek(hub, local)
    }

    /// Opens what the hub has found as it is: for looking at its description, not for running it.
    ///
    /// # Errors
    /// When it is no model.
    pub fn peek(hub: &Hub, local: LocalModel) -> Result<ModelFile, LoadError> {
        let gguf = open_gguf(&local)?;
        let overlay = hub.overlay(&local)?;
        Ok(ModelFile { local, gguf: Arc::new(gguf), overlay })
    }

    /// The description, without which nothing can run.
    ///
    /// # Errors
    /// When hob does not know the architecture or the file does not hold what it says.
    pub fn describe(&self) -> Result<Model, LoadError> {
        hob_model::describe(&self.gguf)
            .map_err(|source| LoadError::Model { name: self.local.name.clone(), source })
    }

    /// Its weights as the planner sees them, of the model that it holds.
    ///
    /// # Errors
    /// When a tensor is missing, or is none of the model's.
    pub fn weights(&self, model: &Model) -> Result<Weights, LoadError> {
        let bound = hob_model::bind(model, &self.gguf)
            .map_err(|source| LoadError::Model { name: self.local.name.clone(), source })?;
        let tensors = self.gguf.tensors();
        let types = bound.tensors.iter().filter_map(|&index| Some(tensors.get(index)?.ty));
        Ok(Weights::of(model, &types.collect::<Vec<_>>()))
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
    let tensors = gguf.tensors();
    let bytes_of = |name: &str| -> u64 {
        tensors.iter().filter(|t| t.ty.name() == name).map(|t| t.bytes()).sum()
    };
    let main = tensors.iter().map(|t| t.ty.name()).max_by_key(|name| bytes_of(name));
    main.unwrap_or("unknown")
}

/// A file given by its path may be the first of a split set; a stored one's files are listed.
fn open_gguf(local: &LocalModel) -> Result<Gguf, LoadError> {
    let opened = match local.parts.as_slice() {
        [path] => Gguf::open(path),
        parts => Gguf::open_shards(parts),
    };
    opened.map_err(|source| LoadError::File { path: local.path.clone(), source })
}
