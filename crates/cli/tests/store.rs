//! The verbs of the store on small random models: made, taken in, renamed, verified, removed; and what other programs keep.

// Helpers of tests may panic.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::{Home, text};
use serde_json::json;

#[cfg(unix)]
fn inode(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap())
}

fn names(home: &Home) -> Vec<String> {
    let listed = home.hob(&["list", "--json"]).json();
    let name = |m: &serde_json::Value| m["name"].as_str().unwrap().to_owned();
    listed["models"].as_array().unwrap().iter().map(name).collect()
}

#[test]
#[cfg(unix)]
fn a_file_is_taken_in_without_a_copy() {
    let home = Home::new();
    let tiny = home.tiny();
    let taken = home.hob(&["import", text(&tiny), "--name", "small:one", "--json"]).json();
    assert_eq!(taken["name"], "small:one");
    let blob =
        home.path().join("blobs").join(format!("sha256-{}", taken["digest"].as_str().unwrap()));
    assert_eq!(inode(&blob), inode(&tiny));
    let answer = |model: &str| {
        home.hob(&["run", model, "Hi", "--temperature", "0", "--max-tokens", "8"]).ok()
    };
    assert_eq!(answer("small:one"), answer(text(&tiny)));
    home.hob(&["import", text(&tiny), "--copy", "--name", "small:two"]).ok();
    // The newest first.
    assert_eq!(names(&home), ["small:two", "small:one"]);
    home.hob(&["import", "no-such-file"]).fails(1, &["no-such-file"]);
    home.hob(&["import", text(&tiny), "--name", "../x"]).fails(1, &["'../x' is not a model name"]);
}

#[test]
fn a_modelfile_makes_a_model() {
    let home = Home::new();
    home.tiny();
    let file = home.file(
        "Modelfile",
        b"FROM tiny.gguf\nTEMPLATE \"\"\"[{{ .System }}] {{ .Prompt }} =\"\"\"\nSYSTEM Be brief.\n\
          PARAMETER temperature 0\nPARAMETER num_predict 6\nPARAMETER stop X\nPARAMETER stop Y\nMESSAGE user a\nMESSAGE assistant b\n",
    );
    home.hob(&["create", "mine", "-f", text(&file)]).ok();
    let shown = home.hob(&["show", "mine", "--json"]).json();
    assert_eq!(shown["template"], "[{{ .System }}] {{ .Prompt }} =");
    assert_eq!(shown["system"], "Be brief.");
    // The same prompt by hand gives the same answer.
    let by_template = home.hob(&["run", "mine", "Hi"]).ok();
    let prompt = "[Be brief.] a =b[] Hi =";
    let tiny = home.path().parent().unwrap().join("tiny.gguf");
    let flags = ["--raw", "--temperature", "0", "--max-tokens", "6", "--stop", "X", "--stop", "Y"];
    let by_hand = home.hob(&[&["run", text(&tiny), prompt][..], &flags].concat()).ok();
    assert_eq!(by_template, by_hand);

    // What `show --modelfile` prints makes the same model again.
    let again = home.hob(&["show", "mine", "--modelfile"]).ok();
    let again = home.file("Again", again.as_bytes());
    home.hob(&["create", "again", "-f", text(&again)]).ok();
    let both = ["mine", "again"].map(|m| home.hob(&["show", m, "--json"]).json());
    assert_eq!(both[0]["template"], both[1]["template"]);
    assert_eq!(both[0]["parameters"], both[1]["parameters"]);

    // Over a stored model, layer by layer.
    let over = home.file("Over", b"FROM mine\nSYSTEM Be long.\nPARAMETER num_predict 3\n");
    home.hob(&["create", "over:v2", "-f", text(&over), "--json"]).ok();
    let shown = home.hob(&["show", "over:v2", "--json"]).json();
    assert_eq!((&shown["system"], &shown["template"]), (&json!("Be long."), &both[0]["template"]));
    assert!(shown["parameters"].as_str().unwrap().contains("num_predict                    3"));
    let weights = |model: &str| {
        home.hob(&["show", model, "--modelfile"]).ok().lines().next().unwrap().to_owned()
    };
    assert_eq!(weights("over:v2"), weights("mine"));
}

#[test]
fn what_is_wrong_with_a_modelfile_is_said_and_nothing_is_stored() {
    let home = Home::new();
    home.tiny();
    for (content, parts) in [
        ("SYSTEM x", &["no FROM line"][..]),
        ("FROM tiny.gguf\nPARAMETER heat 1", &["unknown parameter 'heat'"]),
        ("FROM tiny.gguf\nTEMPLATE {{ .Prompt", &["TEMPLATE"]),
        ("FROM ./missing.gguf", &["missing.gguf"]),
        ("FROM tiny.gguf\nADAPTER missing.bin", &["ADAPTER", "missing.bin"]),
        ("nonsense", &["(line 1)", "command must be one of"]),
    ] {
        let file = home.file("Modelfile", content.as_bytes());
        home.hob(&["create", "mine", "-f", text(&file)]).fails(1, parts);
        assert!(names(&home).is_empty());
    }
    home.hob(&["create", "mine", "-f", "nowhere"]).fails(1, &["nowhere"]);
    let fine = home.file("Modelfile", b"FROM tiny.gguf");
    home.hob(&["create", "a b", "-f", text(&fine)]).fails(1, &["'a b' is not a model name"]);
}

#[test]
fn models_are_renamed_verified_and_removed() {
    let home = Home::new();
    let tiny = home.tiny();
    home.hob(&["import", text(&tiny), "--copy", "--name", "one"]).ok();
    home.hob(&["cp", "one", "two:b"]).ok();
    home.hob(&["cp", "none", "three"]).fails(1, &["'none' is not stored here"]);
    assert_eq!(names(&home), ["two:b", "one:latest"]);
    assert_eq!(home.hob(&["verify"]).ok(), "all files are sound\n");

    // A flipped bit: found by a look at the time of change when the model is used, or by reading everything.
    let blob = fs::read_dir(home.path().join("blobs")).unwrap().map(|e| e.unwrap().path());
    let blob = blob.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&blob, bytes).unwrap();
    home.hob(&["run", "one", "Hi"]).fails(1, &["one:latest", "damaged"]);
    let found = home.hob(&["verify", "--json"]);
    assert_eq!(found.code, Some(1));
    home.hob(&["list"]).ok();

    home.hob(&["rm", "one"]).ok();
    home.hob(&["rm", "two:b"]).ok();
    assert!(names(&home).is_empty());
    home.hob(&["gc", "--all"]).ok();
    assert_eq!(fs::read_dir(home.path().join("blobs")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(home.path().join("partial")).unwrap().count(), 0);
}

#[test]
#[cfg(unix)]
fn what_ollama_keeps_runs_in_place() {
    let theirs = Home::new();
    let tiny = theirs.tiny();
    let file = theirs.file("Modelfile", b"FROM tiny.gguf\nSYSTEM Sing.\n");
    theirs.hob(&["import", text(&tiny), "--copy", "--name", "base"]).ok();
    theirs.hob(&["create", "singer:v1", "-f", text(&file)]).ok();
    // hob's store has Ollama's layout: without hob's own folders it is one of Ollama's.
    for folder in ["partial", "parts", "locks", "tmp", "version"] {
        let path = theirs.path().join(folder);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap()
        } else {
            fs::remove_file(path).unwrap()
        }
    }
    let home = Home::new();
    let hob = |args: &[&str]| {
        let output = home.command(args).env("OLLAMA_MODELS", theirs.path()).output().unwrap();
        common::said(output)
    };
    let listed = hob(&["list", "--json"]).json();
    let keepers: Vec<_> =
        listed["models"].as_array().unwrap().iter().map(|m| &m["keeper"]).collect();
    assert_eq!(keepers, ["Ollama", "Ollama"]);
    assert!(hob(&["list"]).ok().contains("KEPT BY"));
    let shown = hob(&["show", "singer:v1", "--json"]).json();
    assert_eq!(shown["system"], "Sing.");
    hob(&["run", "base", "Hi", "--max-tokens", "2"]).ok();
    assert!(!home.path().exists(), "something was stored");
}

#[test]
fn the_catalogue_is_searched_without_a_network() {
    let home = Home::new();
    let found = home.hob(&["search", "--offline", "qwen3", "14b", "--json"]).json();
    assert_eq!(found["catalogue"][0]["name"], "qwen3:14b");
    assert_eq!(found["catalogue"][0]["parameters"], 14_768_307_200_u64);
    let said = home.hob(&["search", "nothing-like-this"]);
    assert_eq!((said.code, said.out.as_str()), (Some(0), "nothing found\n"));
    assert!(said.err.contains("Hugging Face could not be asked"), "{}", said.err);
}
