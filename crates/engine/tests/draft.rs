//! A second model drafts: what it says is checked, and whatever becomes of it, the answer is the first model's.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::*;
use hob_engine::{
    Draft, DraftError, Engine, EngineConfig, EngineError, Request, SampleOptions, Speculate,
};
use hob_gguf::Gguf;
use hob_model::{Batch, Limits};
use hob_quant::GgmlType;
use hob_testkit::{Family, Tiny};
use hob_text::Tokenizer;

/// An engine with a draft model; both of them call their probe at every step.
fn drafting(
    target: &Gguf,
    draft: (&Gguf, Limits),
    probe: impl FnMut(&Batch) + Send + 'static,
    drafts: impl FnMut(&Batch) + Send + 'static,
) -> Result<Engine, EngineError> {
    let tokenizer = Arc::new(Tokenizer::from_gguf(target.meta()).unwrap());
    let own = Arc::new(Tokenizer::from_gguf(draft.0.meta()).unwrap());
    let runner = runner_of(target, roomy(), probe);
    let draft = Draft { runner: runner_of(draft.0, draft.1, drafts), tokenizer: Some(own) };
    Engine::start_with_draft(runner, tokenizer, config(), draft)
}

fn roomy() -> Limits {
    Limits { sequences: 8, ..limits(32, 64) }
}

fn asked(seed: u64, tokens: usize, temperature: f32, speculate: Speculate) -> Request {
    let sample = SampleOptions { temperature, ..drawn(seed) };
    let prompt = prompt(seed, 10 + 40 * seed as usize);
    let max_tokens = Some(tokens);
    Request { prompt, sample, max_tokens, speculate, ignore_eos: true, ..Request::default() }
}

/// Answers of several sequences at once, at temperatures from 0.
fn answers(engine: &Engine, speculate: Speculate) -> Vec<(Vec<u32>, String)> {
    let asked = (0..4).map(|seed| asked(seed, 40, 0.3 * seed as f32, speculate));
    let streams: Vec<_> = asked.map(|request| engine.submit(request).unwrap()).collect();
    let answers = streams.into_iter().map(collect).map(|answer| (answer.tokens, answer.text));
    answers.collect()
}

#[test]
fn a_model_that_drafts_for_itself_is_always_right() {
    for family in [Family::Qwen2, Family::Gemma3] {
        let gguf = Tiny::new(family).gguf();
        let (steps, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (count, also) = (steps.clone(), seen.clone());
        let engine = drafting(
            &gguf,
            (&gguf, roomy()),
            move |_| _ = count.fetch_add(1, Ordering::Relaxed),
            move |_| _ = also.fetch_add(1, Ordering::Relaxed),
        )
        .unwrap();
        let plain = ask(&engine, asked(4, 100, 0.0, Speculate::Off));
        assert_eq!(seen.load(Ordering::Relaxed), 0, "nobody asked for drafts");
        steps.store(0, Ordering::Relaxed);
        let answer = ask(&engine, asked(4, 100, 0.0, Speculate::On));
        assert_eq!(answer.tokens, plain.tokens);
        let done = answer.done();
        assert!(done.accepted == done.drafted && done.drafted > 80, "{done:?}");
        assert!(steps.load(Ordering::Relaxed) < 25, "{steps:?}");
    }
}

#[test]
fn whatever_drafts_the_answer_is_the_models_own() {
    for (family, other) in [
        (Family::Qwen2, Tiny { seed: 7, layers: 1, ..Tiny::new(Family::Qwen2) }),
        (Family::Gemma3, Tiny { seed: 7, ..Tiny::new(Family::Gemma3) }),
        (Family::Deepseek2, Tiny { seed: 7, ..Tiny::new(Family::GptOss) }),
        (Family::Llama, Tiny { vocab: 280, ..Tiny::new(Family::Llama) }),
        // Nearly the same model.
        (Family::Qwen3, Tiny::new(Family::Qwen3).quantized(GgmlType::Q8_0)),
    ] {
        let gguf = Tiny::new(family).gguf();
        let plain = answers(&engine_with(&gguf, roomy(), config(), |_| {}), Speculate::Off);
        let draft = other.gguf();
        for limits in [roomy(), Limits { logits: 1, ..limits(3, 64) }, limits(32, 4)] {
            let engine = drafting(&gguf, (&draft, limits), |_| {}, |_| {}).unwrap();
            for how in [Speculate::On, Speculate::Auto, Speculate::Off] {
                assert_eq!(answers(&engine, how), plain, "{family:?}, {how:?}");
            }
            idle(&engine);
            // Again, with what both have cached.
            assert_eq!(answers(&engine, Speculate::On), plain);
            let status = engine.status();
            assert!(status.drafted > status.accepted, "{status:?}");
            assert!(status.accepted > 0 || other.matrices == GgmlType::F32, "{status:?}");
        }
    }
}

#[test]
fn a_draft_model_that_fails_costs_no_answer() {
    let gguf = gguf();
    let plain = answers(&engine_with(&gguf, roomy(), config(), |_| {}), Speculate::Off);
    for last in 0..20 {
        let mut left = last;
        let fails = move |_: &Batch| {
            assert!(left > 0, "the draft model fails on purpose");
            left -= 1;
        };
        let engine = drafting(&gguf, (&gguf, roomy()), |_| {}, fails).unwrap();
        assert_eq!(answers(&engine, Speculate::On), plain);
        assert_eq!(answers(&engine, Speculate::On), plain);
        assert!(engine.status().alive);
    }
}

#[test]
fn cancelled_sequences_leave_the_draft_model_too() {
    let gguf = gguf();
    // Pages for two sequences of 512 on the draft model.
    let engine = drafting(&gguf, (&gguf, limits(32, 16)), |_| {}, |_| {}).unwrap();
    for seed in 0..12 {
        let mut stream = engine.submit(asked(seed % 3, 400, 0.0, Speculate::On)).unwrap();
        (0..5).for_each(|_| drop(stream.next()));
    }
    idle(&engine);
    let before = engine.status().accepted;
    let answer = ask(&engine, asked(4, 60, 0.0, Speculate::On));
    assert_eq!(answer.done().accepted, engine.status().accepted - before);
    // All of what it says is right, which only the draft model can be here.
    assert!(answer.done().accepted > 40 && answer.done().accepted == answer.done().drafted);
}

#[test]
fn another_vocabulary_or_kind_is_refused() {
    let gguf = gguf();
    let refusal = |draft: &Gguf| match drafting(&gguf, (draft, roomy()), |_| {}, |_| {}) {
        Err(EngineError::Draft(error)) => error,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("accepted"),
    };
    let larger = Tiny { vocab: 900, ..Tiny::new(Family::Qwen2) }.gguf();
    assert_eq!(refusal(&larger), DraftError::Size { target: 272, draft: 900 });
    let mut bytes = Tiny::new(Family::Qwen2).bytes();
    let at = bytes.windows(5).position(|bytes| bytes == b"<eot>").unwrap();
    bytes[at + 1] = b'E';
    assert_eq!(refusal(&Gguf::from_bytes(bytes).unwrap()), DraftError::Token { token: 258 });
    let recurrent = refusal(&Tiny::new(Family::Qwen35).gguf());
    assert!(recurrent.to_string().contains("recurrent"));
    assert!(matches!(refusal(&Tiny::new(Family::Bert).gguf()), DraftError::Unfit(_)));
}

#[test]
fn limits_are_checked_as_without() {
    let gguf = gguf();
    let tokenizer = Arc::new(Tokenizer::from_gguf(gguf.meta()).unwrap());
    let runner = || runner_of(&gguf, limits(8, 8), |_| {});
    let draft = Draft { runner: runner(), tokenizer: None };
    let config = EngineConfig { context: 1000, ..config() };
    let error = Engine::start_with_draft(runner(), tokenizer, config, draft).err().unwrap();
    assert!(matches!(error, EngineError::Range { what: "context", .. }));
}
