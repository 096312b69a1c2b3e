//! `hob convert` as a program: what it writes, says and refuses. That the bytes are right is tested where they are made.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::Home;
use serde_json::{Map, Value, json};

/// A tiny Qwen 2 with zeros for weights, from the files that the conversion's own tests use.
fn checkpoint(home: &Home) -> PathBuf {
    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("../forge/tests/data/convert/qwen2");
    let folder = home.file("config.json", b"").with_file_name("qwen2");
    fs::create_dir(&folder).unwrap();
    for entry in fs::read_dir(&stored).unwrap().flatten() {
        fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let (mut header, mut end) = (Map::new(), 0);
    for line in fs::read_to_string(stored.join("tensors.txt")).unwrap().lines() {
        let parts: Vec<&str> = line.splitn(6, ' ').collect();
        let shape: Vec<u64> = serde_json::from_str(parts[5]).unwrap();
        let size = if parts[2] == "F32" { 4 } else { 2 };
        let start = end;
        end += size * shape.iter().product::<u64>();
        let entry = json!({"dtype": parts[2], "shape": shape, "data_offsets": [start, end]});
        header.insert(parts[1].to_owned(), entry);
    }
    let header = Value::Object(header).to_string();
    let length = (header.len() as u64).to_le_bytes();
    let file = [&length, header.as_bytes(), &vec![0; end as usize]].concat();
    fs::write(folder.join("model.safetensors"), file).unwrap();
    folder
}

#[test]
fn a_folder_runs_and_is_converted_once() {
    let home = Home::new();
    let folder = checkpoint(&home);
    let run = |folder: &Path| {
        let args = ["--raw", "--temperature", "0", "--max-tokens", "2", "--json", "the"];
        home.hob(&[&["run", folder.to_str().unwrap()][..], &args].concat())
    };
    let first = run(&folder);
    assert_eq!(first.code, Some(0), "{}", first.err);
    assert!(first.err.contains("converting"), "{}", first.err);
    assert_eq!(first.json()["tokens"], 2);
    let second = run(&folder);
    assert_eq!(
        (second.code, second.err.contains("converting")),
        (Some(0), false),
        "{}",
        second.err
    );
    let small = folder.with_extension("q8_0.gguf");
    let args = ["quantize", folder.to_str().unwrap(), small.to_str().unwrap(), "Q8_0"];
    let made = home.hob(&args);
    assert_eq!((made.code, small.is_file()), (Some(0), true), "{}", made.err);
    // Another state of the folder is another model.
    fs::write(folder.join("README.md"), "changed").unwrap();
    assert!(run(&folder).err.contains("converting"));
}

#[test]
fn a_folder_becomes_a_model_that_hob_knows() {
    let home = Home::new();
    let folder = checkpoint(&home);
    let folder = folder.to_str().unwrap();
    let out = home.file("out", b"").with_extension("gguf");
    let file = out.to_str().unwrap();

    let planned = home.hob(&["convert", folder, "--dry-run", "--json"]).json();
    assert_eq!((&planned["architecture"], &planned["type"]), (&json!("qwen2"), &json!("BF16")));
    assert_eq!(planned["file"], Value::Null);
    assert!(!out.exists());

    let said = home.hob(&["convert", folder, "-o", file, "--type", "q8_0"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.starts_with(&format!("{file}: qwen2, ")), "{}", said.out);
    assert_eq!(home.hob(&["show", file, "--json"]).json()["license"], "apache-2.0");
    // Sizing binds every tensor to the description.
    let fit = home.hob(&["fit", file, "--json"]).json();
    assert_eq!((&fit["architecture"], &fit["header_exact"]), (&json!("qwen2"), &json!(true)));
    let tokens = home.hob(&["tokenize", file, "the the"]);
    assert_eq!(tokens.code, Some(0), "{}", tokens.err);

    let again = home.hob(&["convert", folder, "-o", file]);
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("exists already"), "{}", again.err);
    let forced = home.hob(&["convert", folder, "-o", file, "--force", "--json"]).json();
    assert_eq!(forced["file_bytes"], fs::metadata(&out).unwrap().len());
    assert_eq!(forced["file_bytes"], planned["file_bytes"]);
}

#[test]
fn what_cannot_be_converted_is_told() {
    let home = Home::new();
    let folder = checkpoint(&home);
    let at = folder.to_str().unwrap();
    let out = home.file("out", b"").with_extension("gguf");
    let told = |code: i32, args: &[&str]| {
        let said = home.hob(&[&["convert"], args].concat());
        assert_eq!(said.code, Some(code), "{args:?}: {}", said.err);
        assert!(!out.exists());
        said.err
    };
    let file = out.to_str().unwrap();
    assert!(told(2, &[at]).contains("--output"));
    assert!(told(2, &[at, "-o", file, "--type", "q4_k"]).contains("q8_0"));
    assert!(told(1, &["nowhere", "-o", file]).contains("config.json is missing"));
    fs::remove_file(folder.join("tokenizer.json")).unwrap();
    assert!(told(1, &[at, "-o", file]).contains("pre-tokenizer"));
    fs::write(folder.join("config.json"), r#"{"architectures": ["Rwkv6Model"]}"#).unwrap();
    let error = told(1, &[at, "-o", file]);
    assert!(error.contains("'Rwkv6Model'") && error.contains("GptOssForCausalLM"), "{error}");
}
