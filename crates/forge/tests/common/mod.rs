//! Tiny checkpoints as folders: the small files are stored (see convert.py), the numbers of the tensors are made here from
//! their names. And their conversion. Deliberately absent: what is expected of it.

#![allow(dead_code, reason = "each test file uses its own part")]

pub mod devices;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use hob_forge::convert::{Conversion, Options};
use hob_forge::quantize::Writing;
use hob_quant::GgmlType;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// A tensor of a checkpoint: its file, name and type, the middle and size (a power of two) of its numbers, its shape.
#[derive(Clone)]
pub struct Line {
    pub file: String,
    pub name: String,
    pub dtype: String,
    pub middle: f64,
    size: i32,
    pub shape: Vec<u64>,
}

pub fn stored() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/convert")
}

/// The bytes that convert.py gives a tensor of this name.
fn numbers(line: &Line) -> Vec<u8> {
    let step = |seed: u32, byte: u8| (seed ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let mut seed = line.name.bytes().fold(0x811c_9dc5u32, step);
    let count: u64 = line.shape.iter().product();
    let states = (0..count).map(|_| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed
    });
    let (middle, size) = (line.middle, line.size);
    let value = |s: u32| (middle + f64::from(s as i32) * 2f64.powi(size - 31)) as f32;
    match line.dtype.as_str() {
        "F32" => states.flat_map(|s| value(s).to_le_bytes()).collect(),
        "F16" => states.flat_map(|s| f16::from_f32(value(s)).to_le_bytes()).collect(),
        "BF16" => {
            let cut = |x: f32| bf16::from_bits((x.to_bits() >> 16) as u16);
            states.flat_map(|s| cut(value(s)).to_le_bytes()).collect()
        }
        "F8_E4M3" => states.map(|s| (s >> 24) as u8 & 0xbf).collect(),
        "U8" => states.map(|s| middle as u8 + s.unbounded_shr((32 - size) as u32) as u8).collect(),
        other => panic!("{other}"),
    }
}

pub fn lines(family: &str) -> Vec<Line> {
    let text = fs::read_to_string(stored().join(family).join("tensors.txt")).unwrap();
    let line = |line: &str| {
        let mut parts = line.splitn(6, ' ').map(str::to_owned);
        let mut next = || parts.next().unwrap();
        let (file, name, dtype) = (next(), next(), next());
        let (middle, size) = (next().parse().unwrap(), next().parse().unwrap());
        Line { file, name, dtype, middle, size, shape: serde_json::from_str(&next()).unwrap() }
    };
    text.lines().map(line).collect()
}

/// A safetensors file of these tensors.
fn safetensors(lines: &[&Line]) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for line in lines {
        let start = data.len();
        data.extend(numbers(line));
        let offsets = [start, data.len()];
        let entry = json!({"dtype": line.dtype, "shape": line.shape, "data_offsets": offsets});
        header.insert(line.name.clone(), entry);
    }
    file(&Value::Object(header).to_string(), &data)
}

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// Copies files and the folders beside them.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match from.is_dir() {
            true => {
                fs::create_dir(&to).unwrap();
                copy(&from, &to);
            }
            false => drop(fs::copy(from, to).unwrap()),
        }
    }
}

/// A family's folder, with its tensors changed by `change`.
pub fn folder(family: &str, change: impl Fn(&mut Vec<Line>)) -> (TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    // The folder's name becomes the model's.
    let folder = temp.path().join(family);
    fs::create_dir(&folder).unwrap();
    copy(&stored().join(family), &folder);
    let mut lines = lines(family);
    change(&mut lines);
    let mut files: Vec<&String> = lines.iter().map(|line| &line.file).collect();
    files.dedup();
    for name in files {
        let of_file: Vec<&Line> = lines.iter().filter(|line| line.file == *name).collect();
        fs::write(folder.join(name), safetensors(&of_file)).unwrap();
    }
    (temp, folder)
}

pub fn options(ty: GgmlType) -> Options {
    Options { ty: Some(ty), ..Options::default() }
}

pub fn convert(folder: &Path, ty: GgmlType) -> PathBuf {
    let path = folder.join(format!("out-{ty}.gguf"));
    let writing = Writing { path: path.clone(), replace: false, threads: 1 };
    let conversion = Conversion::plan(folder, &options(ty)).unwrap();
    conversion.write(&writing, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), conversion.file_bytes().unwrap());
    path
}
