//! Embeddings: a text's vector does not depend on company, is what the hidden states say, and nothing is ever cut.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::*;
use hob_engine::{Embed, Engine, EngineConfig, EngineError, Failure, Request};
use hob_gguf::Gguf;
use hob_model::{Batch, Limits, Output, Pooling};
use hob_testkit::{Family, Tiny};

const WIDTH: usize = 64;

/// What embeds: encoders, and decoders of every kind of cache.
const FAMILIES: [Family; 6] = [
    Family::Bert,
    Family::NomicBert,
    Family::Llama,
    Family::Gemma3,
    Family::Deepseek2,
    Family::Qwen35,
];

fn engine_for(gguf: &Gguf, rows: usize, sequences: usize) -> Engine {
    let limits = Limits { sequences, states: sequences, ..limits(rows, 24) };
    engine_with(gguf, limits, EngineConfig { sequences, ..config() }, move |batch| {
        assert!(batch.rows() <= rows);
    })
}

fn texts() -> Vec<Vec<u32>> {
    (0..7).map(|i| prompt(i, 1 + 15 * i as usize)).collect()
}

fn embed(engine: &Engine, texts: Vec<Vec<u32>>, pooling: Option<Pooling>) -> Vec<Vec<f32>> {
    engine.embed(Embed { texts, pooling, ..Embed::default() }).unwrap().wait().unwrap()
}

/// Hidden states of a text.
fn hidden(gguf: &Gguf, text: &[u32]) -> Vec<f32> {
    let mut runner = runner_of(gguf, limits(128, 24), |_| {});
    let mut batch = Batch::new();
    batch.push(text, 0, &[5, 3], Output::All).unwrap();
    runner.step(&batch).unwrap();
    runner.hidden().unwrap().to_vec()
}

#[test]
fn a_vector_is_what_the_hidden_states_say_whatever_the_company() {
    for family in FAMILIES {
        let gguf = Tiny::new(family).gguf();
        let all = engine_for(&gguf, 512, 8);
        let some = engine_for(&gguf, 100, 2);
        let pooled = |engine: &Engine, pooling| embed(engine, texts(), Some(pooling));
        for pooling in [Pooling::First, Pooling::Mean, Pooling::Last] {
            let together = pooled(&all, pooling);
            assert_eq!(together, pooled(&some, pooling), "{family:?}");
            for (text, vector) in texts().iter().zip(&together) {
                let alone = embed(&all, vec![text.clone()], Some(pooling));
                assert_eq!(alone[0], *vector, "{family:?}");
                let rows = hidden(&gguf, text);
                let expected: Vec<f32> = match pooling {
                    Pooling::First => rows[..WIDTH].to_vec(),
                    Pooling::Last => rows[rows.len() - WIDTH..].to_vec(),
                    Pooling::Mean => (0..WIDTH)
                        .map(|i| {
                            let column = rows.iter().skip(i).step_by(WIDTH);
                            let sum: f64 = column.map(|&x| f64::from(x)).sum();
                            (sum / text.len() as f64) as f32
                        })
                        .collect(),
                };
                assert_eq!(*vector, expected, "{family:?}, {pooling:?}");
            }
        }
        idle(&all);
        assert_eq!(all.status().cached_pages, 0, "{family:?}");
    }
}

#[test]
fn the_models_own_pooling_is_the_default() {
    for (family, own) in [(Family::Bert, Pooling::Mean), (Family::Llama, Pooling::Last)] {
        let engine = engine_for(&Tiny::new(family).gguf(), 128, 2);
        assert_eq!(embed(&engine, texts(), None), embed(&engine, texts(), Some(own)));
        let request = Embed { texts: texts(), normalize: true, ..Embed::default() };
        for vector in engine.embed(request).unwrap().wait().unwrap() {
            let length: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            assert!((length - 1.0).abs() < 1e-6, "{family:?}: {length}");
        }
        assert!(embed(&engine, Vec::new(), None).is_empty());
    }
}

#[test]
fn answers_and_embeddings_do_not_disturb_each_other() {
    for family in [Family::Llama, Family::Gemma3, Family::Qwen35] {
        let gguf = Tiny::new(family).gguf();
        let asked = |i| request(prompt(i, 100), 30, drawn(i));
        let answers: Vec<_> =
            (0..4).map(|i| ask(&engine_for(&gguf, 96, 2), asked(i)).tokens).collect();
        let vectors = embed(&engine_for(&gguf, 96, 2), texts(), None);
        let engine = engine_for(&gguf, 96, 2);
        let streams: Vec<_> = (0..4).map(|i| engine.submit(asked(i)).unwrap()).collect();
        let request = || Embed { texts: texts(), ..Embed::default() };
        let embeddings: Vec<_> = (0..6).map(|_| engine.embed(request()).unwrap()).collect();
        drop(engine.embed(request()).unwrap());
        for embedding in embeddings {
            assert_eq!(embedding.wait().unwrap(), vectors, "{family:?}");
        }
        let together: Vec<_> = streams.into_iter().map(|s| collect(s).tokens).collect();
        assert_eq!(together, answers, "{family:?}");
        idle(&engine);
        assert_eq!(engine.status().waiting, 0);
    }
}

#[test]
fn nothing_is_cut() {
    let engine = engine_for(&Tiny::new(Family::Bert).gguf(), 64, 2);
    let refused = |texts| engine.embed(Embed { texts, ..Embed::default() }).err().unwrap();
    let long = refused(vec![vec![97], prompt(1, 65)]);
    assert!(matches!(long, EngineError::TextTooLong { text: 1, tokens: 65, most: 64 }));
    assert!(matches!(refused(vec![vec![97], vec![]]), EngineError::EmptyText { text: 1 }));
    assert!(matches!(refused(vec![vec![272]]), EngineError::Range { found: 272, .. }));
    // The context bounds it where it is shorter than a step.
    let engine = engine_for(&Tiny::new(Family::Bert).gguf(), 600, 2);
    let long = engine.embed(Embed { texts: vec![prompt(1, 513)], ..Embed::default() });
    assert!(matches!(long, Err(EngineError::TextTooLong { most: 512, .. })));
}

#[test]
fn an_encoder_gives_no_logits() {
    let gguf = Tiny::new(Family::Bert).gguf();
    let engine = engine_for(&gguf, 64, 2);
    let request = Request { prompt: vec![97], ..Request::default() };
    assert!(matches!(engine.submit(request), Err(EngineError::Encoder)));
    let mut runner = runner_of(&gguf, limits(64, 2), |_| {});
    let mut batch = Batch::new();
    batch.push(&[97, 98], 0, &[0], Output::All).unwrap();
    runner.step(&batch).unwrap();
    assert!(matches!(runner.logits(0..1), Err(EngineError::Encoder)));
    batch.clear();
    batch.push(&[99], 2, &[0], Output::Last).unwrap();
    assert!(matches!(runner.step(&batch), Err(EngineError::Part { start: 2 })));
}

#[test]
fn a_failing_device_fails_the_texts_of_its_step_only() {
    let gguf = Tiny::new(Family::Bert).gguf();
    let mut step = 0;
    let engine = engine_with(&gguf, limits(64, 24), config(), move |_| {
        step += 1;
        assert!(step != 2, "the device burns");
    });
    let request = |texts: usize| Embed { texts: vec![prompt(1, 60); texts], ..Embed::default() };
    let embeddings: Vec<_> = (0..3).map(|_| engine.embed(request(1)).unwrap()).collect();
    let ends: Vec<_> = embeddings.into_iter().map(|e| e.wait()).collect();
    assert!(ends[0].is_ok() && ends[2].is_ok());
    assert_eq!(ends[1], Err(Failure::Step("the device burns".to_owned())));
    assert_eq!(engine.embed(request(3)).unwrap().wait().unwrap().len(), 3);
    idle(&engine);
    assert_eq!(engine.status().available_pages, 24);
}
