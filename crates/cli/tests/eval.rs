//! `hob eval` as a user types it, and where its results are told again.

mod common;

use common::{Home, text};

#[test]
fn results_are_remembered_by_the_files_hash() {
    let home = Home::new();
    let tiny = home.tiny();
    let prose = home.file("prose.txt", "All that is gold does not glitter. ".repeat(20).as_bytes());
    assert!(!home.hob(&["show", text(&tiny)]).ok().contains("Measured"));
    let eval = |more: &[&str]| {
        let args = [&["eval", text(&tiny), text(&prose), "-c", "128", "--json"], more].concat();
        home.hob(&args).json()
    };
    let alone = eval(&[]);
    assert!(alone["perplexity"].as_f64().is_some() && alone["kl"].is_null());
    let beside = eval(&["--against", text(&tiny)]);
    assert!(beside["kl"]["mean"].as_f64().is_some_and(|kl| kl.abs() < 1e-6), "{beside}");
    eval(&[]);

    let shown = home.hob(&["show", text(&tiny), "--json"]).json();
    let measured = shown["measured"].as_array().expect("a list");
    assert_eq!(measured.len(), 2, "the same question has one answer: {shown}");
    assert_eq!(measured[0]["against"], text(&tiny));
    assert_eq!(measured[1]["perplexity"], alone["perplexity"]);
    assert_eq!(measured[1]["text"], "prose.txt");
    let shown = home.hob(&["show", text(&tiny)]).ok();
    assert!(shown.contains("Measured") && shown.contains("KL divergence"), "{shown}");

    // A copy is the same file; another file is not.
    let copy = home.file("copy.gguf", &std::fs::read(&tiny).expect("the model"));
    home.hob(&["eval", text(&copy), text(&prose), "-c", "64"]).ok();
    let shown = home.hob(&["show", text(&copy), "--json"]).json();
    assert_eq!(shown["measured"].as_array().map(Vec::len), Some(3));
}

#[test]
fn what_cannot_be_evaluated_is_named() {
    let home = Home::new();
    let tiny = home.tiny();
    let short = home.file("short.txt", b"too short");
    home.hob(&["eval", text(&tiny), text(&short)]).fails(1, &["tokens"]);
    home.hob(&["eval", text(&tiny), "nowhere.txt"]).fails(1, &["nowhere.txt"]);
    home.hob(&["eval", text(&tiny)]).fails(2, &["TEXT"]);
    assert!(!home.path().join("measured").exists(), "nothing was measured");
}
