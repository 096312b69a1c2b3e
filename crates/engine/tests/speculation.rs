//! Drafted tokens change how many come in a step, and nothing else.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::*;
use hob_engine::{
    Engine, EngineConfig, Event, Finish, MAX_DRAFT, Mirostat, Request, SampleOptions, Speculate,
};
use hob_gguf::Gguf;
use hob_model::{Batch, Limits, Output};
use hob_testkit::{Family, Tiny};

/// Tokens that the tiny models write here: few, so that something always stood before.
const LETTERS: [u32; 3] = [97, 98, 99];

/// A prompt of them, with repetitions.
fn letters(seed: u64, n: usize) -> Vec<u32> {
    prompt(seed, n).into_iter().map(|token| LETTERS[token as usize % 3]).collect()
}

fn asked(seed: u64, tokens: usize, sample: SampleOptions, speculate: Speculate) -> Request {
    let mut request = request(letters(seed, 20 + 31 * seed as usize), tokens, sample);
    let others = (97..97 + 26).filter(|id| !LETTERS.contains(id));
    request.sample.logit_bias.extend(others.map(|id| (id, f32::NEG_INFINITY)));
    Request { speculate, ..request }
}

fn warm(seed: u64) -> SampleOptions {
    SampleOptions { temperature: 0.8, seed: Some(seed), ..SampleOptions::default() }
}

/// Ways to choose tokens.
fn samples() -> Vec<SampleOptions> {
    vec![
        SampleOptions::greedy(),
        SampleOptions { top_logprobs: Some(2), ..greedy() },
        SampleOptions { top_logprobs: Some(3), ..warm(1) },
        SampleOptions { top_k: 2, repeat_penalty: 1.2, ..warm(2) },
        SampleOptions { top_p: 0.8, min_p: 0.1, ..warm(3) },
        SampleOptions { mirostat: Mirostat::V2 { tau: 1.0, eta: 0.1 }, ..warm(4) },
    ]
}

/// Everything that a request heard, but for times and what drafts came to.
fn heard(engine: &Engine, request: Request) -> (Vec<Event>, usize, usize) {
    let mut events: Vec<Event> = engine.submit(request).unwrap().collect();
    let (mut drafted, mut accepted) = (0, 0);
    for event in &mut events {
        if let Event::Done(done) = event {
            (drafted, accepted) = (done.drafted, done.accepted);
            (done.drafted, done.accepted) = (0, 0);
            done.timings = Default::default();
        }
    }
    (events, drafted, accepted)
}

#[test]
fn the_events_are_the_same_in_every_family() {
    for family in [
        Family::Qwen2,
        Family::Gemma2,
        Family::Gemma3,
        Family::GptOss,
        Family::Deepseek2,
        Family::Mixtral,
    ] {
        let gguf = Tiny::new(family).gguf();
        // Fewer rows of logits than a draft has, as many, and more.
        let engines = [4, 1 + MAX_DRAFT, 64].map(|logits| {
            let limits = Limits { logits, sequences: 8, ..limits(32, 64) };
            engine_with(&gguf, limits, config(), |_| {})
        });
        let (mut drafted, mut accepted) = (0, 0);
        for (seed, sample) in samples().into_iter().enumerate() {
            let asked = |speculate| asked(seed as u64, 60, sample.clone(), speculate);
            let (plain, none, _) = heard(&engines[0], asked(Speculate::Off));
            assert_eq!((none, plain.len()), (0, 62));
            for (engine, how) in engines.iter().zip([Speculate::On, Speculate::On, Speculate::Auto])
            {
                // Asked the first time by one engine, so found in the cache by the others' or not: only that differs.
                let (events, some, right) = heard(engine, asked(how));
                assert_eq!(events[1..61], plain[1..61], "{family:?}, {sample:?}");
                drafted += some;
                accepted += right;
            }
        }
        assert!(accepted > 100 && drafted > accepted, "{family:?}: {accepted} of {drafted}");
        for engine in engines {
            idle(&engine);
            let free = engine.status().available_pages;
            assert_eq!(free, fresh_pages(&gguf), "{family:?}");
        }
    }
}

fn fresh_pages(gguf: &Gguf) -> usize {
    let limits = Limits { sequences: 8, ..limits(32, 64) };
    engine_with(gguf, limits, config(), |_| {}).status().available_pages
}

#[test]
fn company_changes_nothing() {
    let asked = |seed, how| asked(seed, 50, if seed == 0 { greedy() } else { warm(seed) }, how);
    let alone: Vec<_> = (0..8).map(|seed| ask(&engine(), asked(seed, Speculate::Off))).collect();
    // With few rows beside prompts, none may be left for drafts.
    let (mut drafted, mut accepted) = (0, 0);
    for mixed_rows in [3, 16, 32] {
        let engine =
            engine_of(&gguf(), 32, 64, EngineConfig { mixed_rows, ..config() }, move |b| {
                let decoding = b.spans().iter().any(|s| s.start > 0 && s.output != Output::None);
                assert!(b.rows() <= if decoding { mixed_rows.max(32) } else { 32 });
            });
        let how = |seed| [Speculate::On, Speculate::Off, Speculate::Auto][seed as usize % 3];
        let streams: Vec<_> =
            (0..8).map(|seed| engine.submit(asked(seed, how(seed))).unwrap()).collect();
        for (stream, alone) in streams.into_iter().zip(&alone) {
            let answer = collect(stream);
            assert_eq!((&answer.tokens, &answer.text), (&alone.tokens, &alone.text));
        }
        idle(&engine);
        let status = engine.status();
        drafted += status.drafted;
        accepted += status.accepted;
        assert_eq!(status.available_pages, 64);
    }
    assert!(accepted > 0 && drafted > accepted, "{accepted} of {drafted}");
}

#[test]
fn several_tokens_come_in_one_step() {
    let steps = Arc::new(AtomicUsize::new(0));
    let seen = steps.clone();
    let engine = engine_of(&gguf(), 32, 64, config(), move |batch: &Batch| {
        seen.fetch_add(1, Ordering::Relaxed);
        assert!(batch.rows() <= 1 + MAX_DRAFT || batch.spans()[0].start < 20);
    });
    // A model that says one thing for ever.
    let forced = SampleOptions { logit_bias: vec![(97, 1000.0)], ..SampleOptions::greedy() };
    let asked = |speculate| Request {
        prompt: letters(1, 10),
        max_tokens: Some(200),
        sample: forced.clone(),
        speculate,
        ..Request::default()
    };
    let run = |speculate| {
        steps.store(0, Ordering::Relaxed);
        let answer = ask(&engine, asked(speculate));
        assert_eq!(answer.tokens, [97; 200]);
        let done = answer.done();
        (steps.load(Ordering::Relaxed), done.drafted, done.accepted)
    };
    assert_eq!(run(Speculate::Off), (200, 0, 0));
    let (steps, drafted, accepted) = run(Speculate::On);
    // The first tokens have no run before them yet.
    assert!(steps < 200 / MAX_DRAFT + 8, "{steps} steps");
    assert_eq!(accepted, 200 - steps);
    assert!(drafted >= accepted);
    let (_, drafted, _) = run(Speculate::Auto);
    assert!(drafted > 0);
}

#[test]
fn ends_are_where_they_are_without_drafts() {
    let engine = engine();
    let plain = |max| asked(2, max, warm(7), Speculate::Off);
    let whole = ask(&engine, plain(60));
    let mut drafted = 0;
    let mut same = |request: Request| {
        let plain = ask(&engine, Request { speculate: Speculate::Off, ..request.clone() });
        let answer = ask(&engine, Request { speculate: Speculate::On, ..request });
        drafted += answer.done().drafted;
        assert_eq!((&answer.tokens, &answer.text), (&plain.tokens, &plain.text));
        assert_eq!(answer.done().finish, plain.done().finish);
        assert_eq!(answer.done().text, plain.done().text);
        assert_eq!(answer.done().generated_tokens, plain.done().generated_tokens);
        answer.done().finish
    };
    for max in 0..40 {
        assert_eq!(same(plain(max)), Finish::Length);
    }
    for cut in 1..55 {
        let stop = vec![whole.text[cut..cut + 5].to_owned()];
        assert_eq!(same(Request { stop, ..plain(60) }), Finish::StopString(0));
    }
    // An end token that comes sooner or later.
    let mut ended = 0;
    for seed in 0..20 {
        let mut request = asked(2, 60, warm(seed), Speculate::On);
        request.sample.logit_bias.retain(|&(id, _)| id != Tiny::EOS);
        request.sample.logit_bias.push((Tiny::EOS, 1.0));
        ended += usize::from(same(request) == Finish::Stop);
    }
    assert!(ended > 3, "{ended}");
    // The end of the context.
    let full = Request { max_tokens: None, prompt: letters(3, 480), ..plain(1) };
    assert_eq!(same(full), Finish::Length);
    assert!(drafted > 100);
}

#[test]
fn a_rolled_back_answer_is_reused_like_any_other() {
    for family in [Family::Qwen2, Family::Gemma3] {
        let gguf = Tiny::new(family).gguf();
        let engine = |speculate| {
            let limits = Limits { sequences: 8, ..limits(32, 64) };
            let engine = engine_with(&gguf, limits, config(), |_| {});
            (engine, speculate)
        };
        let turns = |(engine, speculate): (Engine, Speculate)| {
            let (mut all, mut cached, mut drafted) = (letters(4, 60), Vec::new(), 0);
            for turn in 0..4 {
                let request =
                    Request { prompt: all.clone(), ..asked(1, 70, warm(turn), speculate) };
                let answer = ask(&engine, request);
                all.extend(&answer.tokens);
                all.extend(letters(5 + turn, 9));
                cached.push(answer.done().cached_tokens);
                drafted += answer.done().drafted - answer.done().accepted;
                idle(&engine);
                // The very same again: what was published is what a plain run computes.
                let again = Request { prompt: all.clone(), ..asked(1, 30, greedy(), speculate) };
                cached.push(ask(&engine, again).done().cached_tokens);
            }
            (all, cached, drafted)
        };
        let (plain, plain_cached, _) = turns(engine(Speculate::Off));
        let (all, cached, wrong) = turns(engine(Speculate::On));
        assert!(wrong > 20, "{family:?}: {wrong}");
        assert_eq!(all, plain, "{family:?}");
        // Not the last page of an answer that a plain run has not finished either.
        assert_eq!(cached, plain_cached, "{family:?}");
    }
}

#[test]
fn cancelled_while_drafting() {
    let engine = engine_of(&gguf(), 32, 16, config(), |_| {});
    let expected = ask(&engine, asked(3, 60, warm(1), Speculate::Off)).tokens;
    for after in 0..40 {
        let mut told = Vec::new();
        let mut stream = engine.submit(asked(3, 60, warm(1), Speculate::On)).unwrap();
        while told.len() < after {
            if let Some(Event::Token { id, .. }) = stream.next() {
                told.push(id);
            }
        }
        drop(stream);
        assert!(expected.starts_with(&told));
        idle(&engine);
        assert_eq!(engine.status().available_pages, 16);
    }
    // A sink that has enough hears nothing more, though the step had further tokens.
    let (sender, events) = std::sync::mpsc::channel();
    let mut left = 30;
    let sink = move |event: Event| {
        left -= usize::from(matches!(event, Event::Token { .. }));
        sender.send(event).is_ok() && left > 0
    };
    engine.submit_to(asked(3, 60, warm(1), Speculate::On), Box::new(sink)).unwrap();
    let events: Vec<Event> = events.into_iter().collect();
    let tokens = events.iter().filter(|event| matches!(event, Event::Token { .. })).count();
    assert_eq!(tokens, 30);
    let Some(Event::Done(done)) = events.last() else { panic!() };
    assert_eq!((done.finish, done.generated_tokens), (Finish::Cancelled, 30));
    assert_eq!(ask(&engine, asked(3, 60, warm(1), Speculate::On)).tokens, expected);
}

#[test]
fn where_drafts_cannot_be_taken_back_there_are_none() {
    let gguf = Tiny::new(Family::Qwen35).gguf();
    let engine = engine_of(&gguf, 32, 64, config(), |_| {});
    assert!(engine.speculates().unwrap_err().contains("recurrent"));
    let plain = ask(&engine, asked(1, 30, greedy(), Speculate::Off));
    let answer = ask(&engine, asked(1, 30, greedy(), Speculate::On));
    assert_eq!((answer.tokens, answer.end.unwrap().drafted), (plain.tokens, 0));
    let one_row = engine_of(&common::gguf(), 1, 64, config(), |_| {});
    assert!(one_row.speculates().unwrap_err().contains("one row"));
    let encoder = engine_of(&Tiny::new(Family::Bert).gguf(), 64, 64, config(), |_| {});
    assert!(encoder.speculates().unwrap_err().contains("encoder"));
    assert_eq!(common::engine().speculates(), Ok(()));
    let answer = ask(&one_row, asked(1, 30, greedy(), Speculate::On));
    assert_eq!((answer.tokens.len(), answer.end.unwrap().drafted), (30, 0));
}

/// Chances of the three letters at temperature 0.8 after some tokens, from the model's own logits.
fn chances(runner: &mut hob_engine::Runner, tokens: &[u32]) -> [f64; 3] {
    let mut batch = Batch::new();
    batch.push(tokens, 0, &[0], Output::Last).unwrap();
    runner.step(&batch).unwrap();
    let logits = runner.logits(0..1).unwrap();
    let weights = LETTERS.map(|id| (f64::from(logits[id as usize]) / 0.8).exp());
    weights.map(|w| w / weights.iter().sum::<f64>())
}

#[test]
fn the_distribution_is_the_models_own() {
    const DRAWS: u64 = 4000;
    let prompt = letters(9, 31);
    let mut runner = runner_of(&gguf(), limits(64, 1), |_| {});
    let mut expected = std::collections::BTreeMap::new();
    let first = chances(&mut runner, &prompt);
    for (a, &x) in first.iter().zip(&LETTERS) {
        let second = chances(&mut runner, &[&prompt[..], &[x]].concat());
        for (b, &y) in second.iter().zip(&LETTERS) {
            let third = chances(&mut runner, &[&prompt[..], &[x, y]].concat());
            for (c, &z) in third.iter().zip(&LETTERS) {
                expected.insert([x, y, z], a * b * c * DRAWS as f64);
            }
        }
    }
    let engine = engine();
    let (mut counts, mut drafted, mut accepted) = (std::collections::BTreeMap::new(), 0, 0);
    for seed in 0..DRAWS {
        let sample = SampleOptions { top_k: 0, top_p: 1.0, ..warm(seed) };
        let request = Request { prompt: prompt.clone(), ..asked(0, 3, sample, Speculate::On) };
        let answer = ask(&engine, request);
        drafted += answer.done().drafted;
        accepted += answer.done().accepted;
        *counts.entry(answer.tokens).or_insert(0.0) += 1.0;
    }
    assert!(accepted > 300 && drafted - accepted > 300, "{accepted} of {drafted}");
    // Cells with less than five expected are one.
    let (mut chi, mut cells, mut rare) = (0.0, 0, (0.0, 0.0));
    for (tokens, expected) in &expected {
        let count = counts.get(&tokens[..]).copied().unwrap_or(0.0);
        match *expected < 5.0 {
            true => rare = (rare.0 + expected, rare.1 + count),
            false => (chi, cells) = (chi + (count - expected).powi(2) / expected, cells + 1),
        }
    }
    if rare.0 > 0.0 {
        (chi, cells) = (chi + (rare.1 - rare.0).powi(2) / rare.0, cells + 1);
    }
    // Mean and spread of the distribution of chi: four of the latter is one case in some ten thousand.
    let freedom = f64::from(cells - 1);
    assert!(cells > 10 && chi < freedom + 4.0 * (2.0 * freedom).sqrt(), "{chi} of {cells} cells");
}
