//! The oracle's own oracle: llama.cpp (llama-server, Debian's build, F32 cache, no flash attention) on the same files.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use hob_model::{Batch, Limits, Output, Scratch, bind, describe, forward, head};
use hob_testkit::{Family, RefOps, Rng, Tiny};

/// Log-probabilities after a hundred letters that cross a page; the two pages lie apart and out of order.
fn logprobs(family: Family) -> Vec<f64> {
    let gguf = Tiny::new(family).gguf();
    let model = describe(&gguf).unwrap();
    let bound = bind(&model, &gguf).unwrap();
    let limits = Limits::new(100, 4);
    let mut ops = RefOps::load(&model, &gguf, &bound, &limits);
    let scratch = Scratch::new(&model, &limits, &mut ops);
    let mut rng = Rng::new(3);
    let tokens: Vec<u32> = (0..100).map(|_| 97 + rng.below(26) as u32).collect();
    let mut batch = Batch::new();
    batch.push(&tokens, 0, &[2, 0], Output::Last).unwrap();
    forward(&model, &scratch, &batch, &mut ops);
    let logits = head(&model, &scratch, 0..1, &mut ops).unwrap();
    let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
    logits.iter().map(|&x| f64::from(x) - sum.ln()).collect()
}

#[test]
fn three_architectures_agree_to_five_digits() {
    // Of every 37th token.
    let expected = [
        (
            Family::Llama,
            [-6.50176, -4.62557, -6.85943, -7.33811, -6.29495, -5.88385, -5.92763, -7.43258],
        ),
        (
            Family::Qwen2,
            [-6.9303, -6.6092, -7.59579, -6.89562, -5.3564, -4.55403, -6.89837, -7.05325],
        ),
        (
            Family::Qwen3,
            [-7.2884, -6.18422, -7.16561, -9.36604, -4.72269, -5.58686, -9.10769, -5.85348],
        ),
    ];
    for (family, expected) in expected {
        let found = logprobs(family);
        for (found, expected) in found.iter().step_by(37).zip(expected) {
            assert!((found - expected).abs() < 2e-5, "{family:?}: {found}, expected {expected}");
        }
    }
}
