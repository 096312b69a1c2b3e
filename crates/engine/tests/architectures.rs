//! One test for every architecture: batch = single, chunked = whole, reused = fresh, and who is cancelled changes nothing
//! for the others, bit for bit, on the reference device. A new family is tested by being in the list.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use std::sync::Arc;

use common::*;
use hob_engine::{
    Done, Engine, EngineConfig, Event, Failure, LoadOptions, Logprobs, Request, Runner,
    SampleOptions, Stream,
};
use hob_gguf::Gguf;
use hob_model::{Batch, CacheKind, CacheLayout, Limits, NO_PAGE, describe};
use hob_testkit::{Family, Tiny};
use hob_text::Tokenizer;

/// Three sequences at once, and as many checkpoints.
const SEQUENCES: usize = 3;

fn engine_for(gguf: &Gguf, rows: usize, mixed_rows: usize) -> Engine {
    let limits = limits_for(rows);
    let config = EngineConfig { sequences: SEQUENCES, mixed_rows, ..config() };
    engine_with(gguf, limits, config, move |batch| assert!(batch.rows() <= rows))
}

fn limits_for(rows: usize) -> Limits {
    Limits { sequences: SEQUENCES, states: 2 * SEQUENCES, ..limits(rows, 24) }
}

/// Draws with the model's own probabilities told, so that equal answers mean equal logits.
fn asked(prompt: Vec<u32>, tokens: usize, seed: u64) -> Request {
    let sample = SampleOptions { top_logprobs: Some(3), ..drawn(seed) };
    request(prompt, tokens, sample)
}

#[derive(Debug, PartialEq)]
struct Told {
    tokens: Vec<u32>,
    logprobs: Vec<Logprobs>,
}

fn told(stream: Stream) -> (Told, Done) {
    let (mut tokens, mut all) = (Vec::new(), Vec::new());
    for event in stream {
        match event {
            Event::Started { .. } => {}
            Event::Token { id, logprobs, .. } => {
                tokens.push(id);
                all.push(logprobs.unwrap());
            }
            Event::Done(done) => return (Told { tokens, logprobs: all }, done),
            Event::Failed(failure) => panic!("{failure}"),
        }
    }
    panic!("no end")
}

fn ask_for(engine: &Engine, request: Request) -> (Told, Done) {
    told(engine.submit(request).unwrap())
}

/// Pages of all groups, when nothing runs.
fn all_pages(gguf: &Gguf, rows: usize) -> usize {
    let layout = CacheLayout::of(&describe(gguf).unwrap());
    layout.groups.iter().map(|group| group.pages(&limits_for(rows))).sum()
}

#[test]
fn chunks_and_company_change_nothing() {
    for family in Family::ALL {
        let gguf = Tiny::new(family).gguf();
        // The longest reaches into a second page.
        let requests = || (0..4).map(|i| asked(prompt(i, 3 + 47 * i as usize), 8, i));
        let alone: Vec<Told> =
            requests().map(|r| ask_for(&engine_for(&gguf, 256, 256), r).0).collect();
        assert!(alone.iter().all(|told| told.tokens.len() == 8));
        assert_ne!(alone[1].logprobs, alone[2].logprobs);
        for (rows, mixed_rows) in [(256, 256), (24, 7)] {
            let engine = engine_for(&gguf, rows, mixed_rows);
            let streams: Vec<Stream> = requests().map(|r| engine.submit(r).unwrap()).collect();
            let together: Vec<Told> = streams.into_iter().map(|s| told(s).0).collect();
            assert_eq!(together, alone, "{family:?}, {rows} rows");
            idle(&engine);
            assert_eq!(engine.status().available_pages, all_pages(&gguf, rows), "{family:?}");
        }
    }
}

#[test]
fn a_reused_prefix_changes_nothing() {
    for family in Family::ALL {
        let gguf = Tiny::new(family).gguf();
        let engine = engine_for(&gguf, 48, 48);
        let (first, done) = ask_for(&engine, asked(prompt(1, 150), 30, 1));
        assert_eq!(done.cached_tokens, 0);
        let next = [prompt(1, 150), first.tokens, prompt(2, 90)].concat();
        let (fresh, _) = ask_for(&engine_for(&gguf, 48, 48), asked(next.clone(), 12, 2));
        // What another conversation leaves behind does not disturb.
        ask_for(&engine, asked(prompt(3, 200), 5, 3));
        let (again, done) = ask_for(&engine, asked(next.clone(), 12, 2));
        assert_eq!((done.cached_tokens, &again), (128, &fresh), "{family:?}");
        // The very same prompt goes on from where that one ended.
        let (same, done) = ask_for(&engine, asked(next, 12, 2));
        assert_eq!((done.cached_tokens, &same), (256, &fresh), "{family:?}");
    }
}

#[test]
fn who_is_cancelled_changes_nothing_for_the_others() {
    for family in Family::ALL {
        let gguf = Tiny::new(family).gguf();
        let stays = || asked(prompt(1, 90), 25, 1);
        let (expected, _) = ask_for(&engine_for(&gguf, 24, 7), stays());
        let engine = engine_for(&gguf, 24, 7);
        for seen in [0, 1, 4] {
            let stream = engine.submit(stays()).unwrap();
            let mut goes = engine.submit(asked(prompt(2, 100), 40, 2)).unwrap();
            (0..=seen).for_each(|_| drop(goes.next()));
            goes.cancel();
            assert_eq!(told(stream).0, expected, "{family:?}, cancelled after {seen}");
            drop(goes);
            idle(&engine);
            assert_eq!(engine.status().available_pages, all_pages(&gguf, 24), "{family:?}");
        }
    }
}

/// Families with windows, and those with recurrent layers.
fn those(kind: impl Fn(&CacheLayout) -> bool) -> Vec<(Family, Gguf)> {
    let all = Family::ALL.map(|family| (family, Tiny::new(family).gguf()));
    all.into_iter().filter(|(_, gguf)| kind(&CacheLayout::of(&describe(gguf).unwrap()))).collect()
}

fn windowed(layout: &CacheLayout) -> bool {
    layout.groups.iter().any(|group| matches!(group.kind, CacheKind::Window(_)))
}

fn recurrent(layout: &CacheLayout) -> bool {
    !layout.states.is_empty()
}

#[test]
fn windows_give_back_what_they_passed() {
    let all = those(windowed);
    assert!(all.len() >= 3);
    for (family, gguf) in all {
        let layout = CacheLayout::of(&describe(&gguf).unwrap());
        let limits = limits_for(32);
        let kinds: Vec<CacheKind> = layout.groups.iter().map(|group| group.kind).collect();
        let config = EngineConfig { sequences: SEQUENCES, ..config() };
        let engine = engine_with(&gguf, limits, config, move |batch: &Batch| {
            for span in batch.spans() {
                for (group, kind) in kinds.iter().enumerate() {
                    let pages = batch.pages(span, group).iter();
                    let held = pages.filter(|&&page| page != NO_PAGE).count();
                    match kind {
                        // 40 positions before a page boundary, 32 rows.
                        CacheKind::Window(_) => assert!(held <= 3),
                        _ => assert_eq!(held, span.pages.len()),
                    }
                }
            }
        });
        let requests = (0..3).map(|i| asked(prompt(i, 300), 150, i));
        let streams: Vec<Stream> = requests.map(|r| engine.submit(r).unwrap()).collect();
        streams.into_iter().for_each(|s| assert_eq!(told(s).0.tokens.len(), 150, "{family:?}"));
    }
}

#[test]
fn states_are_kept_within_their_slots_and_survive_a_panic() {
    let all = those(recurrent);
    assert!(all.len() >= 4);
    for (family, gguf) in all {
        let mut step = 0;
        let config = EngineConfig { sequences: 2, ..config() };
        let limits = Limits { states: 3, ..limits_for(32) };
        let engine = engine_with(&gguf, limits, config, move |_| {
            step += 1;
            assert!(step != 40, "the device burns");
        });
        let alone = |i| ask_for(&engine_for(&gguf, 32, 32), asked(prompt(i, 70), 10, i)).0;
        let expected: Vec<Told> = (0..4).map(alone).collect();
        let mut failed = 0;
        for round in 0..3 {
            let requests = (0..4).map(|i| asked(prompt(i, 70), 10, i));
            let streams: Vec<Stream> = requests.map(|r| engine.submit(r).unwrap()).collect();
            for (i, stream) in streams.into_iter().enumerate() {
                let answer = collect(stream);
                match &answer.end {
                    Ok(_) => assert_eq!(answer.tokens, expected[i].tokens, "{family:?}, {round}"),
                    Err(failure) => {
                        assert_eq!(*failure, Failure::Step("the device burns".to_owned()));
                        failed += 1;
                    }
                }
            }
        }
        assert!((1..=2).contains(&failed), "{family:?}: {failed}");
        idle(&engine);
        assert_eq!(engine.status().checkpoints, 1, "{family:?}");
        assert_eq!(engine.status().available_pages, all_pages(&gguf, 32), "{family:?}");
    }
}

#[test]
fn without_slots_for_checkpoints_nothing_is_reused_and_nothing_wrong() {
    for (family, gguf) in those(recurrent) {
        let expected = ask_for(&engine_for(&gguf, 48, 48), asked(prompt(1, 150), 10, 1)).0;
        let limits = Limits { states: SEQUENCES, ..limits_for(48) };
        let config = EngineConfig { sequences: SEQUENCES, ..config() };
        let engine = engine_with(&gguf, limits, config, |_| {});
        for _ in 0..2 {
            let (again, done) = ask_for(&engine, asked(prompt(1, 150), 10, 1));
            assert_eq!((done.cached_tokens, &again), (0, &expected), "{family:?}");
        }
    }
}

/// The same engine on the processor.
fn processor_for(gguf: &Arc<Gguf>, rows: usize, mixed_rows: usize) -> Engine {
    let options = LoadOptions { threads: 2, limits: limits_for(rows) };
    let runner = Runner::load(gguf.clone(), &options).unwrap();
    let tokenizer = Arc::new(Tokenizer::from_gguf(gguf.meta()).unwrap());
    let config = EngineConfig { sequences: SEQUENCES, mixed_rows, ..config() };
    Engine::start(runner, tokenizer, config).unwrap()
}

#[test]
fn the_processor_keeps_to_tables_and_slots_too() {
    let kinds = those(|layout| windowed(layout) || recurrent(layout));
    for (family, gguf) in kinds {
        let gguf = Arc::new(gguf);
        let requests = || (0..4).map(|i| asked(prompt(i, 60 + 50 * i as usize), 10, i));
        let alone: Vec<Told> =
            requests().map(|r| ask_for(&processor_for(&gguf, 256, 256), r).0).collect();
        let engine = processor_for(&gguf, 24, 7);
        // The second time from the cache.
        for _ in 0..2 {
            let streams: Vec<Stream> = requests().map(|r| engine.submit(r).unwrap()).collect();
            let together: Vec<Told> = streams.into_iter().map(|s| told(s).0).collect();
            assert_eq!(together, alone, "{family:?}");
        }
        assert!(ask_for(&engine, asked(prompt(3, 210), 10, 3)).1.cached_tokens > 0, "{family:?}");
    }
}
