//! `hob embed` as a program: an encoder's vectors for texts given and piped, and what is refused.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use common::Home;
use hob_testkit::{Family, Tiny};
use serde_json::Value;

fn vectors(json: &Value) -> Vec<Vec<f64>> {
    serde_json::from_value(json["embeddings"].clone()).unwrap()
}

#[test]
fn texts_become_vectors_of_length_one() {
    let home = Home::new();
    let file = home.file("bert.gguf", &Tiny::new(Family::Bert).bytes());
    let file = file.to_str().unwrap();
    let said = home.hob(&["embed", file, "one text", "another", "--json"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let json = said.json();
    let found = vectors(&json);
    assert_eq!((found.len(), found[0].len()), (2, 64));
    for vector in &found {
        let length: f64 = vector.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }
    assert_ne!(found[0], found[1]);
    // What runs beside a text does not matter.
    let alone = home.hob(&["embed", file, "another", "--json"]).json();
    assert_eq!(vectors(&alone)[0], found[1]);
    let short = home.hob(&["embed", file, "another", "--dimensions", "8", "--json"]).json();
    assert_eq!(vectors(&short)[0].len(), 8);
}

#[test]
fn what_cannot_be_embedded_is_told() {
    let home = Home::new();
    let file = home.file("bert.gguf", &Tiny::new(Family::Bert).bytes());
    let file = file.to_str().unwrap();
    assert_eq!(home.hob(&["embed", file, " "]).code, Some(2));
    let long = home.hob(&["embed", file, &"word ".repeat(2000)]);
    assert_eq!(long.code, Some(1));
    assert!(long.err.contains("10000"), "{}", long.err);
    // An encoder writes no text.
    let run = home.hob(&["run", file, "--raw", "hello"]);
    assert_eq!(run.code, Some(1), "{}", run.out);
}
