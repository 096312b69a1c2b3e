//! Hidden states of converted encoders and embedding models are those of transformers, whose references embeddings.py
//! stored. Pooling is the engine's and tested there. Rerankers' classification heads are not described yet.

#![allow(clippy::unwrap_used, reason = "a test may fail so")]

mod common;

use std::fs;
use std::sync::Arc;

use common::devices::{Device, error, runner};
use common::{convert, folder, stored};
use hob_gguf::Gguf;
use hob_model::{Batch, Output};
use hob_quant::GgmlType;

/// What two correct programs may differ by, as a part of the states' norm.
const TOLERANCE: f64 = 1e-4;

/// What transformers computed: tokens, and a row for each.
fn reference(family: &str) -> (Vec<u32>, usize, Vec<f32>) {
    let bytes = fs::read(stored().join(family).join("hidden.bin")).unwrap();
    let mut words = bytes.as_chunks().0.iter().map(|&word| u32::from_le_bytes(word));
    let mut next = || words.next().unwrap() as usize;
    let (count, width, scores) = (next(), next(), next());
    let tokens = words.by_ref().take(count).collect();
    let states: Vec<f32> = words.map(f32::from_bits).collect();
    assert_eq!((scores, states.len()), (0, count * width), "{family}");
    (tokens, width, states)
}

fn check(family: &str) {
    let (tokens, width, expected) = reference(family);
    let (_temp, folder) = folder(family, |_| {});
    let gguf = Arc::new(Gguf::open(&convert(&folder, GgmlType::F32)).unwrap());
    for device in Device::ALL {
        let mut runner = runner(&gguf, device, tokens.len(), tokens.len());
        assert_eq!(runner.model().width as usize, width);
        let pages: Vec<u32> = (0..runner.limits().pages as u32).rev().collect();
        let mut batch = Batch::new();
        batch.push(&tokens, 0, &pages, Output::All).unwrap();
        runner.step(&batch).unwrap();
        let error = error(runner.hidden().unwrap(), &expected);
        println!("{family} on {device:?}: {error:.1e}");
        assert!(error <= TOLERANCE, "{family} on {device:?}: {error:.1e}");
    }
}

#[test]
fn bert() {
    check("bert");
}

#[test]
fn nomic_bert() {
    check("nomic-bert");
}

#[test]
fn qwen3_embedding() {
    check("qwen3-embedding");
}

#[test]
fn xlm_roberta() {
    check("xlm-roberta");
}
