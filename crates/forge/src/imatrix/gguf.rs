//! The GGUF format: `general.type` is "imatrix", and each matrix has two F32 tensors, `NAME.in_sum2` of the row length
//! times the experts and `NAME.counts` of one number per expert. Other tensors are ignored, as llama.cpp ignores them.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use hob_gguf::{Gguf, TensorInfo, Writer};
use hob_quant::GgmlType;

use super::legacy::floats;
use super::{Entry, EntryFault, Imatrix, ImatrixError};

const TYPE: &str = "imatrix";
const DATASETS: &str = "imatrix.datasets";
const CHUNK_COUNT: &str = "imatrix.chunk_count";
const CHUNK_SIZE: &str = "imatrix.chunk_size";
const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

pub(super) fn read(gguf: &Gguf) -> Result<Imatrix, ImatrixError> {
    let meta = gguf.meta();
    let found = meta.opt_str("general.type")?.unwrap_or_default();
    if found != TYPE {
        return Err(ImatrixError::Type { found: found.to_owned() });
    }
    let datasets = meta.opt_strings(DATASETS)?;
    let mut imatrix = Imatrix {
        chunk_count: meta.u32(CHUNK_COUNT)?,
        chunk_size: meta.u32(CHUNK_SIZE)?,
        datasets: datasets.into_iter().flatten().map(str::to_owned).collect(),
        entries: Default::default(),
    };
    for info in gguf.tensors() {
        let name = info.name.strip_suffix(SUMS);
        if let Some(tensor) = name.or_else(|| info.name.strip_suffix(COUNTS)) {
            let fault = |fault| ImatrixError::Entry { tensor: tensor.to_owned(), fault };
            let entry = imatrix.entries.entry(tensor.to_owned()).or_default();
            let (numbers, what) = match name {
                Some(_) => (&mut entry.sums, SUMS),
                None => (&mut entry.counts, COUNTS),
            };
            *numbers = tensor_floats(gguf, info).ok_or_else(|| fault(EntryFault::NotF32(what)))?;
        }
    }
    for (tensor, entry) in &imatrix.entries {
        let fault = |fault| ImatrixError::Entry { tensor: tensor.clone(), fault };
        for (numbers, what) in [(&entry.sums, SUMS), (&entry.counts, COUNTS)] {
            if numbers.is_empty() {
                return Err(fault(EntryFault::Half(what)));
            }
        }
        entry.check().map_err(fault)?;
    }
    Ok(imatrix)
}

fn tensor_floats(gguf: &Gguf, info: &TensorInfo) -> Option<Vec<f32>> {
    (info.ty == GgmlType::F32).then(|| floats(gguf.tensor_bytes(info)))
}

pub(super) fn write(imatrix: &Imatrix, path: &Path) -> Result<(), ImatrixError> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = Part(PathBuf::from(part));
    let io = |source| ImatrixError::Io { path: part.0.clone(), source };
    let file = File::create(&part.0).map_err(io)?;
    let file = write_to(imatrix, BufWriter::new(file))?.into_inner();
    file.map_err(|e| io(e.into_error()))?.sync_all().map_err(io)?;
    let renamed = std::fs::rename(&part.0, path);
    renamed.map_err(|source| ImatrixError::Io { path: path.to_owned(), source })
}

fn write_to<W: Write>(imatrix: &Imatrix, out: W) -> Result<W, ImatrixError> {
    let mut writer = Writer::new()
        .set("general.type", TYPE)
        .set(DATASETS, imatrix.datasets.clone())
        .set(CHUNK_COUNT, imatrix.chunk_count)
        .set(CHUNK_SIZE, imatrix.chunk_size);
    for (name, Entry { sums, counts }) in &imatrix.entries {
        let (columns, experts) = ((sums.len() / counts.len().max(1)) as u64, counts.len() as u64);
        let rank = if experts > 1 { 2 } else { 1 }; // no dimension of 1 at the end
        for (suffix, dims) in [(SUMS, [columns, experts]), (COUNTS, [1, experts])] {
            writer.add_tensor(&format!("{name}{suffix}"), GgmlType::F32, &dims[..rank])?;
        }
    }
    let mut out = writer.write_header(out)?;
    for (name, entry) in &imatrix.entries {
        out.tensor(&format!("{name}{SUMS}"), &bytes(&entry.sums))?;
        out.tensor(&format!("{name}{COUNTS}"), &bytes(&entry.counts))?;
    }
    Ok(out.finish()?)
}

fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// The unfinished file; it vanishes when it does not get its name.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0); // gone already when all went well
    }
}
