//! `hob convert`: a Hugging Face folder becomes a GGUF file. What is left out on purpose is said.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::{Result, bail};
use hob_forge::convert::{Conversion, ConvertError, Options, Progress};
use hob_forge::quantize::{QuantizeError, Writing};
use hob_quant::GgmlType;
use serde_json::{Map, Value, json};

use crate::{interrupt, out, progress};

/// Convert a Hugging Face folder (safetensors) to a GGUF file
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  hob convert ./Qwen3-0.6B -o qwen3-0.6b.gguf\n  \
    hob convert ./Llama-3.2-1B -o llama.gguf --type f32\n  \
    hob convert ./gpt-oss-20b -o gpt-oss.gguf --dry-run\n\n\
    The folder holds config.json, *.safetensors and the tokenizer's files. The file has the names, shapes,\n\
    order and metadata that llama.cpp's convert_hf_to_gguf.py gives it.")]
pub struct Args {
    /// Folder with config.json, *.safetensors and a tokenizer
    folder: PathBuf,
    /// File to write
    #[arg(short, long, value_name = "FILE", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    /// Type of the matrices; auto: that of the checkpoint, f16 for one of f32
    #[arg(long = "type", alias = "outtype", value_name = "TYPE", default_value = "auto")]
    ty: Type,
    /// Name of the pre-tokenizer, where the tokenizer does not tell it (as in tokenizer.ggml.pre)
    #[arg(long, value_name = "NAME")]
    pre: Option<String>,
    /// Name of the model, instead of what its card, config and folder say
    #[arg(long)]
    name: Option<String>,
    /// Replace the file if it exists
    #[arg(short, long)]
    force: bool,
    /// Plan and check everything, but write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Type {
    F32,
    F16,
    Bf16,
    #[value(name = "q8_0")]
    Q8_0,
    Auto,
}

impl Type {
    fn of_matrices(self) -> Option<GgmlType> {
        match self {
            Type::F32 => Some(GgmlType::F32),
            Type::F16 => Some(GgmlType::F16),
            Type::Bf16 => Some(GgmlType::BF16),
            Type::Q8_0 => Some(GgmlType::Q8_0),
            Type::Auto => None,
        }
    }
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let ty = args.ty.of_matrices();
    let options = Options { ty, pre: args.pre.clone(), name: args.name.clone() };
    let conversion = Conversion::plan(&args.folder, &options)?;
    let bytes = conversion.file_bytes()?;
    for (count, what) in [
        (conversion.skipped.other_parts, "image or sound towers"),
        (conversion.skipped.prediction, "multi-token prediction"),
    ] {
        if count > 0 {
            out::say(&format!("left out: {count} tensors of {what}"));
        }
    }
    let file = match &args.output {
        _ if args.dry_run => None,
        Some(path) => Some(write(&conversion, path.clone(), args.force, bytes)?),
        None => bail!("no file to write was given"),
    };
    let mut types = BTreeMap::new();
    for tensor in &conversion.tensors {
        *types.entry(tensor.ty).or_insert(0u64) += 1;
    }
    if args.json {
        return out::print_json(&json_of(&conversion, bytes, &types, file));
    }
    let counts: Vec<String> = types.iter().map(|(ty, n)| format!("{n} {ty}")).collect();
    let what = match &file {
        Some(file) => file.display().to_string(),
        None => "nothing written; it would be".to_owned(),
    };
    let (arch, size, counts) = (conversion.arch, out::file_size(bytes), counts.join(", "));
    out::print(&format!("{what}: {arch}, {size}, {counts} tensors\n"))
}

/// Writes the file of a conversion, with a progress bar.
pub fn write(conversion: &Conversion, path: PathBuf, replace: bool, bytes: u64) -> Result<PathBuf> {
    let bar = progress::byte_bar(bytes).with_message("converting");
    let answering = interrupt::Answering::begin();
    let writing = Writing { path, replace, threads: 1 };
    let mut watch = |written: Progress<'_>| {
        bar.set_position(written.bytes);
        match answering.stop_asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    let written = conversion.write(&writing, &mut watch);
    bar.finish_and_clear();
    match written {
        Err(ConvertError::Target(QuantizeError::Stopped)) => Err(out::Interrupted.into()),
        other => Ok(other?),
    }
}

fn json_of(
    conversion: &Conversion,
    bytes: u64,
    types: &BTreeMap<GgmlType, u64>,
    file: Option<PathBuf>,
) -> Value {
    let types: Map<String, Value> =
        types.iter().map(|(ty, n)| (ty.name().to_owned(), (*n).into())).collect();
    json!({
        "schema": 1,
        "file": file,
        "architecture": conversion.arch,
        "type": conversion.ty.name(),
        "file_bytes": bytes,
        "tensor_types": types,
        "left_out": {
            "other_parts": conversion.skipped.other_parts,
            "prediction": conversion.skipped.prediction,
        },
    })
}
