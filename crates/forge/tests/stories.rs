//! Greedy answers of a real model in F32 are llama.cpp's, token for token. The golden file has one line per prompt:
//! the prompt, its tokens, and the 64 that follow; `cargo xtask judge stories --write` makes it anew.
#![allow(clippy::unwrap_used, reason = "a test may fail so")]

use std::path::PathBuf;
use std::sync::Arc;

use hob_engine::{LoadOptions, Runner};
use hob_gguf::Gguf;
use hob_model::{Batch, Limits, Output, PAGE};
use hob_text::{EncodeOptions, Tokenizer};

const GOLDEN: &str = include_str!("data/stories15m.txt");
const ANSWER: usize = 64;
const CONTEXT: usize = 256;

struct Case {
    text: &'static str,
    prompt: Vec<u32>,
    answer: Vec<u32>,
}

fn cases() -> Vec<Case> {
    let ids = |s: &str| s.split(' ').map(|id| id.parse().unwrap()).collect::<Vec<u32>>();
    let case = |line: &'static str| {
        let fields: Vec<&str> = line.split('\t').collect();
        Case { text: fields[0], prompt: ids(fields[1]), answer: ids(fields[2]) }
    };
    let cases: Vec<Case> = GOLDEN.lines().map(case).collect();
    assert!(cases.len() == 20 && cases.iter().all(|c| c.answer.len() == ANSWER));
    cases
}

fn model() -> Arc<Gguf> {
    let root = std::env::var_os("HOB_ASSETS").map(PathBuf::from).unwrap_or_else(|| {
        std::env::home_dir().expect("a home directory, or HOB_ASSETS").join(".cache/hob-assets")
    });
    let path = root.join("stories15m.gguf");
    let open = Gguf::open(&path).unwrap_or_else(|e| panic!("{e}: run `cargo xtask assets` first"));
    Arc::new(open)
}

fn top(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map(|(token, _)| token as u32).unwrap()
}

/// Adds one sequence's tokens, whose pages are `CONTEXT / PAGE` from its own place on.
fn push(batch: &mut Batch, sequence: usize, tokens: &[u32], start: usize) {
    let each = (CONTEXT / PAGE) as u32;
    let pages: Vec<u32> = (sequence as u32 * each..(sequence as u32 + 1) * each).collect();
    batch.push(tokens, start as u32, &pages, Output::Last).unwrap();
}

#[test]
fn prompts_become_the_same_tokens() {
    let tokenizer = Tokenizer::from_gguf(model().meta()).unwrap();
    for case in cases() {
        let options = EncodeOptions { add_special: true, parse_special: false };
        assert_eq!(tokenizer.encode(case.text, options), case.prompt, "{}", case.text);
    }
}

#[test]
fn answers_are_the_same_tokens() {
    let cases = cases();
    let rows = cases.iter().map(|c| c.prompt.len()).sum();
    let pages = cases.len() * CONTEXT / PAGE;
    let limits = Limits { logits: cases.len(), ..Limits::new(rows, pages) };
    let mut runner = Runner::load(model(), &LoadOptions { threads: 0, limits }).unwrap();
    let vocab = runner.model().vocab as usize;
    let mut answers: Vec<Vec<u32>> = vec![Vec::new(); cases.len()];
    let mut batch = Batch::new();
    for (i, case) in cases.iter().enumerate() {
        push(&mut batch, i, &case.prompt, 0);
    }
    for _ in 0..ANSWER {
        runner.step(&batch).unwrap();
        let logits = runner.logits(0..cases.len()).unwrap();
        for (answer, row) in answers.iter_mut().zip(logits.chunks(vocab)) {
            answer.push(top(row));
        }
        batch.clear();
        for (i, (case, answer)) in cases.iter().zip(&answers).enumerate() {
            push(&mut batch, i, &answer[answer.len() - 1..], case.prompt.len() + answer.len() - 1);
        }
    }
    for (case, answer) in cases.iter().zip(&answers) {
        assert_eq!(*answer, case.answer, "after {:?}", case.text);
    }
}
