//! `hob imatrix` as a user types it, on small random models. That its figures are llama.cpp's is forge's to test.

mod common;

use std::path::PathBuf;

use common::{Home, said, slow, text};
use hob_forge::imatrix::Imatrix;
use serde_json::json;

const LINE: &str = "The quick brown fox jumps over the lazy dog, again and again.\n";

/// A text of 62 bytes, and so tokens, per line.
fn lines(home: &Home, count: usize) -> PathBuf {
    home.file("text.txt", LINE.repeat(count).as_bytes())
}

#[test]
fn a_file_is_collected_and_merged() {
    let home = Home::new();
    let (model, lines) = (home.tiny(), lines(&home, 20));
    let [one, two] = ["one.gguf", "two.gguf"].map(|name| home.path().with_file_name(name));
    let args = ["imatrix", text(&model), text(&lines), "-o", text(&one), "-c", "64", "--json"];
    let value = home.hob(&args).json();
    assert_eq!((&value["chunks"], &value["chunk_size"]), (&json!(19), &json!(64)));
    assert_eq!((&value["entries"], &value["schema"]), (&json!(14), &json!(1)));
    assert_eq!(value["datasets"], json!([text(&lines)]));
    assert!(value["perplexity"].as_f64().is_some_and(|p| p > 1.0), "{value}");
    let read = Imatrix::read(&one).unwrap();
    assert_eq!(read.entries["blk.1.ffn_up.weight"].counts, [19.0 * 64.0]);

    // Over the older file, with the output matrix.
    let args = ["imatrix", text(&model), "-", "-o", text(&two), "-c", "32", "--chunks", "3"];
    let more = ["--process-output", "--no-perplexity", "-t", "1", "--ubatch", "7"];
    let shown = home.hob_with(&[&args[..], &more].concat(), LINE.repeat(9).as_bytes()).ok();
    assert!(shown.contains("3 chunks of 32 tokens") && shown.contains("(15 tensors)"), "{shown}");
    assert!(!shown.contains("perplexity"), "{shown}");

    let merge = ["imatrix", "--json", "--merge", text(&one), text(&two), "-o", text(&one)];
    let value = home.hob(&merge).json();
    assert_eq!((&value["chunks"], &value["entries"]), (&json!(20), &json!(15)));
    assert_eq!(value["datasets"], json!([text(&lines), "-"]));
    let merged = Imatrix::read(&one).unwrap();
    assert_eq!(merged.entries["blk.1.ffn_up.weight"].counts, [19.0 * 64.0 + 96.0]);
    assert_eq!(merged.entries["output.weight"].counts, [96.0]);
}

#[test]
fn nothing_but_such_a_file_is_replaced() {
    let home = Home::new();
    let (model, lines) = (home.tiny(), lines(&home, 3));
    let before = std::fs::read(&model).unwrap();
    home.hob(&["imatrix", text(&model), text(&lines), "-o", text(&model)])
        .fails(1, &["tiny.gguf", "would be replaced", "general.type"]);
    home.hob(&["imatrix", "--merge", text(&lines), "-o", text(&lines)]).fails(1, &["text.txt"]);
    assert_eq!(std::fs::read(&model).unwrap(), before);
    home.hob(&["imatrix", text(&model), text(&lines), "-o", "no/such/place.gguf"])
        .fails(1, &["no such folder: no/such"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let home = Home::new();
    let (model, lines) = (home.tiny(), lines(&home, 3));
    let out = home.path().with_file_name("out.gguf");
    let hob = |args: &[&str]| home.hob(&[&["imatrix", "-o", text(&out)], args].concat());
    hob(&[]).fails(2, &["MODEL", "TEXT"]);
    hob(&[text(&model)]).fails(2, &["TEXT"]);
    hob(&["--merge"]).fails(2, &["--merge"]);
    hob(&[text(&model), text(&lines), "--merge", "a.gguf"]).fails(2, &["--merge"]);
    for flag in ["--context", "--chunks", "--save-every", "--threads", "--ubatch"] {
        hob(&[text(&model), text(&lines), flag, "0"]).fails(2, &[flag]);
    }
    hob(&[text(&model), text(&lines)]).fails(1, &["186 tokens", "one chunk of 512"]);
    hob(&[text(&model), "no-such.txt"]).fails(1, &["no-such.txt"]);
    hob(&["--merge", "no-such.gguf"]).fails(1, &["no-such.gguf"]);
    hob(&["--merge", text(&model)]).fails(1, &["tiny.gguf", "imatrix"]);
    hob(&["--merge", text(&lines)]).fails(1, &["text.txt", "number of entries"]);
    assert!(!out.exists());
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_what_was_saved_last() {
    let home = Home::new();
    let (model, lines) = (slow(&home), lines(&home, 4000));
    let out = home.path().with_file_name("out.gguf");
    let args = ["imatrix", text(&model), text(&lines), "-o", text(&out), "--save-every", "1"];
    let mut child = home.command(&args).spawn().unwrap();
    while !out.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it saved");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let killed =
        std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.unwrap().success());
    let said = said(child.wait_with_output().unwrap());
    assert_eq!((said.code, said.out.as_str()), (Some(130), ""));
    let chunks = Imatrix::read(&out).unwrap().chunk_count;
    assert!(
        said.err.contains(&format!("out.gguf holds the first {chunks} chunks")),
        "{}",
        said.err
    );
    assert!((1..484).contains(&chunks), "{chunks}");
    let others = std::fs::read_dir(out.parent().unwrap()).unwrap();
    assert!(others.flatten().all(|f| !f.file_name().to_string_lossy().ends_with(".part")));
}
