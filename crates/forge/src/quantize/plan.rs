//! What will be written, before anything is: each tensor's type, its part of the importance matrix, the files with their
//! exact sizes. All that can be refused without reading weights is refused here.

use std::collections::BTreeMap;
use std::ops::Range;

use hob_gguf::{Gguf, MetaBuilder, TensorInfo, Writer};
use hob_model::{Model, Override, RecipeOptions, Role, Weight};
use hob_quant::{GgmlType, QuantError, encode_row};

use super::{Importance, Options, QuantizeError, split};

/// The longest text that llama.cpp keeps in the metadata about an importance matrix.
const MAX_TEXT: usize = 127;

/// A tensor as it will be.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Name.
    pub name: String,
    /// Shape, the row length first, without trailing dimensions of 1.
    pub dims: Vec<u64>,
    /// Type in the source.
    pub from: GgmlType,
    /// Type to be written; where it is `from`, the bytes are copied.
    pub to: GgmlType,
    /// Whether the importance matrix has an entry for it that will be used.
    pub importance: bool,
    /// The source's file it lies in.
    pub shard: usize,
    /// Index in the source.
    pub(super) index: usize,
    bytes: u64,
}

impl Planned {
    /// Bytes to be written.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// A file to be written.
pub(super) struct Part {
    pub tensors: Range<usize>,
    pub writer: Writer,
    pub bytes: u64,
}

/// A whole quantization, checked.
pub struct Plan<'a> {
    pub(super) source: &'a Gguf,
    pub(super) importance: Option<Importance<'a>>,
    pub(super) tensors: Vec<Planned>,
    pub(super) parts: Vec<Part>,
    pub(super) split: super::Split,
    unweighted: Vec<String>,
    parameters: u64,
}

impl<'a> Plan<'a> {
    /// Decides about every tensor of `source`.
    ///
    /// # Errors
    /// When the source is no model that is known, is quantized already, or when a type asked for cannot be made.
    pub fn new(source: &'a Gguf, options: &Options<'a>) -> Result<Self, QuantizeError> {
        let model = hob_model::describe(source)?;
        let bound = hob_model::bind(&model, source)?;
        let types = options.recipe.tensor_types(&model, &recipe_options(&model, options));
        let (mut tensors, mut unweighted) = (Vec::new(), Vec::new());
        for ((weight, &index), ty) in model.weights.iter().zip(&bound.tensors).zip(types) {
            let Some(info) = source.tensors().get(index) else { continue };
            let kept =
                !weight.is_quantizable() || options.leave_output && weight.role == Role::Output;
            let to = if kept { info.ty } else { ty };
            let importance = importance_of(weight, info, to, options)?;
            if options.importance.is_some() && !importance && to != info.ty {
                unweighted.push(info.name.clone());
            }
            check_types(weight, info, to, importance, options)?;
            tensors.push(Planned::new(info, index, to, importance)?);
        }
        let skipped = source.tensors().iter().enumerate().filter(|(_, t)| model.skips(&t.name));
        for (index, info) in skipped {
            tensors.push(Planned::new(info, index, carried(info), false)?);
        }
        tensors.iter().try_for_each(check_encoder)?;
        // llama.cpp's order: what belongs to no layer, then the layers; by name in each.
        match options.split {
            split::Split::Keep => tensors.sort_by_key(|t| t.index),
            _ => tensors.sort_by(|a, b| (layer(&a.name), &a.name).cmp(&(layer(&b.name), &b.name))),
        }
        let parts = parts(source, options, &tensors)?;
        let (importance, split, parameters) =
            (options.importance, options.split, model.parameters());
        Ok(Plan { source, importance, tensors, parts, split, unweighted, parameters })
    }

    /// The tensors in the order of the files.
    pub fn tensors(&self) -> &[Planned] {
        &self.tensors
    }

    /// Size of each file, exactly.
    pub fn file_bytes(&self) -> impl Iterator<Item = u64> {
        self.parts.iter().map(|part| part.bytes)
    }

    /// Size of all files together.
    pub fn total_bytes(&self) -> u64 {
        self.file_bytes().sum()
    }

    /// Tensors that are encoded without importance although a matrix is given: it has no entry for them.
    pub fn unweighted(&self) -> &[String] {
        &self.unweighted
    }

    /// Number of tensors of each type.
    pub fn types(&self) -> BTreeMap<GgmlType, usize> {
        let mut counts = BTreeMap::new();
        self.tensors.iter().for_each(|t| *counts.entry(t.to).or_default() += 1);
        counts
    }

    /// Weights to be written, constants included.
    pub fn weights(&self) -> u64 {
        self.tensors.iter().map(|t| t.dims.iter().product::<u64>()).sum()
    }

    /// Bits of tensor data for each parameter of the model, as `hob fit` counts them.
    pub fn bits_per_weight(&self) -> f64 {
        let alignment = u64::from(self.source.alignment());
        let data: u64 = self.tensors.iter().map(|t| t.bytes.next_multiple_of(alignment)).sum();
        8.0 * data as f64 / self.parameters.max(1) as f64
    }
}

impl Planned {
    fn new(
        info: &TensorInfo,
        index: usize,
        to: GgmlType,
        importance: bool,
    ) -> Result<Self, QuantizeError> {
        let ones = info.dims.iter().rev().take_while(|&&n| n == 1).count();
        let kept = (info.dims.len() - ones).max(1);
        let dims = info.dims.iter().take(kept).copied().collect();
        let fault = |source| QuantizeError::Row { tensor: info.name.clone(), source };
        let partial = QuantError::PartialBlock { ty: to, weights: info.row_len() as usize };
        let row = to.row_bytes(info.row_len()).ok_or_else(|| fault(partial.clone()))?;
        let bytes = row.checked_mul(info.rows()).ok_or_else(|| fault(partial))?;
        let (name, shard) = (info.name.clone(), info.shard);
        Ok(Planned { name, dims, from: info.ty, to, importance, shard, index, bytes })
    }
}

/// The type of a tensor that the description leaves out (layers that predict further tokens): whoever uses them finds
/// matrices in eight bits, whatever the recipe, and the rest as it was.
fn carried(info: &TensorInfo) -> GgmlType {
    let matrix = info.rows() > 1 && info.row_len().is_multiple_of(32) && info.ty.block_len() == 1;
    if matrix { GgmlType::Q8_0 } else { info.ty }
}

/// The recipe's options, with the types of embedding and output as overrides: they are stronger than all others, but
/// for the output's type where the token embedding serves as output.
fn recipe_options(model: &Model, options: &Options<'_>) -> RecipeOptions {
    let tied = model.output() == Some(model.embed.weight);
    let exactly = |name: &str, ty: Option<GgmlType>| -> Option<Override> {
        format!("^{name}\\.weight$={}", ty?).parse().ok()
    };
    let first =
        [exactly("token_embd", options.embedding_type), exactly("output", options.output_type)];
    let last = exactly("token_embd", options.output_type.filter(|_| tied && !options.pure));
    let overrides =
        first.into_iter().flatten().chain(options.overrides.iter().cloned()).chain(last);
    RecipeOptions {
        importance: options.importance.is_some(),
        pure: options.pure,
        overrides: overrides.collect(),
    }
}

/// Whether the importance matrix weighs this tensor. An entry of a wrong length is an error, but for the token
/// embedding's, which is looked up and not multiplied.
fn importance_of(
    weight: &Weight,
    info: &TensorInfo,
    to: GgmlType,
    options: &Options<'_>,
) -> Result<bool, QuantizeError> {
    let entry = options.importance.and_then(|i| i.matrix.entries.get(&info.name));
    let Some(entry) = entry.filter(|_| to != info.ty) else { return Ok(false) };
    let experts = info.dims.get(2).copied().unwrap_or(1);
    let (found, expected) = (entry.sums.len(), info.row_len().saturating_mul(experts));
    if found as u64 == expected {
        return Ok(true);
    }
    match weight.role {
        Role::TokenEmbd => Ok(false),
        _ => Err(QuantizeError::ImportanceLength { tensor: info.name.clone(), found, expected }),
    }
}

/// Whether `to` can be made of this tensor.
fn check_types(
    weight: &Weight,
    info: &TensorInfo,
    to: GgmlType,
    importance: bool,
    options: &Options<'_>,
) -> Result<(), QuantizeError> {
    let (tensor, from) = (|| info.name.clone(), info.ty);
    if to == from {
        return Ok(());
    }
    let coarse = from.block_len() > 1 && from != GgmlType::Q8_0;
    if coarse && !options.allow_requantize {
        return Err(QuantizeError::Requantize { tensor: tensor(), found: from });
    }
    let outer = matches!(weight.role, Role::TokenEmbd | Role::Output);
    let needs = !outer && options.recipe.needs_importance_for(to);
    if needs && !importance && !options.without_importance {
        let given = options.importance.is_some();
        return Err(QuantizeError::NeedsImportance { tensor: tensor(), ty: to, given });
    }
    Ok(())
}

/// Whether there is an encoder for the tensor's type.
fn check_encoder(t: &Planned) -> Result<(), QuantizeError> {
    if t.to == t.from {
        return Ok(());
    }
    let tensor = || t.name.clone();
    let mut block = vec![0; t.to.block_bytes()];
    match encode_row(t.to, &vec![0.0; t.to.block_len()], None, &mut block) {
        Ok(()) => Ok(()),
        Err(QuantError::NoEncoder { ty }) => Err(QuantizeError::NoEncoder { tensor: tensor(), ty }),
        Err(source) => Err(QuantizeError::Row { tensor: tensor(), source }),
    }
}

/// The number in `blk.N.`.
fn layer(name: &str) -> Option<u32> {
    name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}

/// The files, with headers and sizes.
fn parts(
    source: &Gguf,
    options: &Options<'_>,
    tensors: &[Planned],
) -> Result<Vec<Part>, QuantizeError> {
    let ranges = options.split.parts(tensors, u64::from(source.alignment()))?;
    let count = ranges.len();
    let named = !matches!(options.split, split::Split::None | split::Split::Keep);
    let mut parts = Vec::with_capacity(count);
    for (no, range) in ranges.into_iter().enumerate() {
        let mut meta = MetaBuilder::new();
        if no == 0 {
            meta = metadata(source, options);
        } else if let Some(alignment) = source.meta().get("general.alignment") {
            meta.insert("general.alignment", alignment);
        }
        if named || count > 1 {
            split::stamp(&mut meta, no, count, tensors.len());
        }
        let mut writer = Writer::with_meta(meta);
        for t in tensors.get(range.clone()).unwrap_or_default() {
            writer.add_tensor(&t.name, t.to, &t.dims)?;
        }
        let bytes = writer.file_bytes()?;
        parts.push(Part { tensors: range, writer, bytes });
    }
    Ok(parts)
}

/// The source's metadata in their order, then what the recipe and the importance matrix state of themselves.
fn metadata(source: &Gguf, options: &Options<'_>) -> MetaBuilder {
    let mut meta = MetaBuilder::new();
    meta.extend(source.meta());
    options.recipe.stamp(&mut meta);
    let Some(Importance { matrix, file }) = options.importance else { return meta };
    let mut state = |key: &str, value: Value<'_>| {
        let key = format!("quantize.imatrix.{key}");
        meta.remove(&key);
        match value {
            Value::Text(text) => meta.insert(&key, shortened(text)),
            Value::Count(n) => meta.insert(&key, n),
        }
    };
    state("file", Value::Text(file));
    if let Some(dataset) = matrix.datasets.first() {
        state("dataset", Value::Text(dataset));
    }
    state("entries_count", Value::Count(matrix.entries.len() as u32));
    if matrix.chunk_count > 0 {
        state("chunks_count", Value::Count(matrix.chunk_count));
    }
    meta
}

/// What the metadata say about an importance matrix.
enum Value<'a> {
    Text(&'a str),
    Count(u32),
}

/// The text's beginning, cut between characters.
fn shortened(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or(text)
}
