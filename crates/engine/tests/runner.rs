//! The same tokens give the same bits, however a step is cut or filled; and what does not fit is refused.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use std::sync::Arc;

use common::{limits, prompt, runner_of};
use hob_engine::{EngineError, LoadOptions, Runner};
use hob_gguf::Gguf;
use hob_model::{Batch, Limits, Output, PAGE, Place};
use hob_testkit::{Family, RefOps, Tiny, kl_divergence, max_error};

/// Logits of every position, prefilled in chunks of `chunk`, beside `others` other sequences.
fn logits(runner: &mut Runner, tokens: &[u32], chunk: usize, others: usize) -> Vec<f32> {
    let pages_each = tokens.len().div_ceil(PAGE) as u32;
    // Pages in an order of no system.
    let pages = |sequence: u32| -> Vec<u32> {
        (0..pages_each).map(|i| sequence * pages_each + pages_each - 1 - i).collect()
    };
    let mut out = Vec::new();
    for start in (0..tokens.len()).step_by(chunk) {
        let end = (start + chunk).min(tokens.len());
        let mut batch = Batch::new();
        for other in 0..others as u32 {
            let noise = prompt(u64::from(other), tokens.len());
            let pages = pages(other + 1);
            let place = Place { tables: &[&pages], state: other + 1 };
            batch.push_at(&noise[start..end], start as u32, &place, Output::Last).unwrap();
        }
        batch.push(&tokens[start..end], start as u32, &pages(0), Output::All).unwrap();
        runner.step(&batch).unwrap();
        let last = others + end - start;
        for first in (others..last).step_by(4) {
            out.extend_from_slice(runner.logits(first..(first + 4).min(last)).unwrap());
        }
    }
    out
}

#[test]
fn chunks_and_company_do_not_change_a_bit() {
    for family in Family::ALL {
        let gguf = Tiny::new(family).gguf();
        let tokens = prompt(99, 150);
        let mut runner = runner_of(&gguf, limits(1200, 24), |_| {});
        let whole = logits(&mut runner, &tokens, 150, 0);
        assert_eq!(whole.len(), 150 * 272);
        for (chunk, others) in [(1, 0), (7, 0), (128, 0), (7, 7)] {
            assert!(
                whole == logits(&mut runner, &tokens, chunk, others),
                "{family:?}, {chunk}, {others}"
            );
        }
        // Not by way of a constant.
        assert!(whole != logits(&mut runner, &prompt(98, 150), 150, 0));
    }
}

#[test]
fn the_processor_agrees_with_the_reference() {
    for family in Family::ALL {
        let gguf = Arc::new(Tiny::new(family).gguf());
        let limits = Limits { logits: 4, ..Limits::new(64, 24) };
        let mut cpu = Runner::load(gguf.clone(), &LoadOptions { threads: 2, limits }).unwrap();
        let mut reference = runner_of(&gguf, limits, |_| {});
        let tokens = prompt(7, 90);
        let (found, expected) =
            (logits(&mut cpu, &tokens, 40, 0), logits(&mut reference, &tokens, 40, 0));
        for (found, expected) in found.chunks(272).zip(expected.chunks(272)) {
            let (error, kl) = (max_error(found, expected), kl_divergence(expected, found));
            assert!(error < 0.02 && kl < 1e-3, "{family:?}: error {error}, KL {kl}");
        }
    }
}

#[test]
fn what_exceeds_the_limits_is_refused() {
    let mut runner = runner_of(&common::gguf(), limits(8, 2), |_| {});
    let run = |runner: &mut Runner, tokens: &[u32], pages: &[u32]| {
        let mut batch = Batch::new();
        batch.push(tokens, 0, pages, Output::All).unwrap();
        runner.step(&batch)
    };
    assert!(matches!(run(&mut runner, &[1; 9], &[0]), Err(EngineError::Range { found: 9, .. })));
    assert!(matches!(run(&mut runner, &[272], &[0]), Err(EngineError::Range { found: 273, .. })));
    assert!(matches!(run(&mut runner, &[1], &[2]), Err(EngineError::Range { found: 3, .. })));
    assert!(runner.logits(0..1).is_err(), "nothing was computed");
    run(&mut runner, &[1; 8], &[1]).unwrap();
    assert!(runner.logits(0..5).is_err(), "more than the buffer holds");
    assert!(runner.logits(7..9).is_err(), "more than was computed");
    assert_eq!(runner.logits(4..8).unwrap().len(), 4 * 272);
    assert!(runner.logits(8..8).unwrap().is_empty());
}

#[test]
fn a_file_without_a_model_is_an_error() {
    let gguf = Gguf::from_bytes(hob_gguf::Writer::new().to_bytes(|_| vec![]).unwrap()).unwrap();
    let options = LoadOptions { threads: 1, limits: limits(8, 2) };
    assert!(matches!(Runner::load(Arc::new(gguf), &options), Err(EngineError::Model(_))));
    let tiny = Tiny::new(Family::Llama).gguf();
    let model = hob_model::describe(&tiny).unwrap();
    let bound = hob_model::bind(&model, &tiny).unwrap();
    let none = Limits { pages: 0, ..limits(8, 1) };
    let ops = RefOps::load(&model, &tiny, &bound, &none);
    assert!(matches!(
        Runner::with_ops(model, none, ops),
        Err(EngineError::Range { what: "pages", .. })
    ));
}
