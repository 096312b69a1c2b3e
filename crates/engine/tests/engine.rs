//! What a caller of the engine relies on: answers do not depend on company or history, ends are what they say.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::*;
use hob_engine::{EngineError, Event, Failure, Finish, Mirostat, Request, SampleOptions};
use hob_testkit::{Family, Tiny};

#[test]
fn an_answer_does_not_depend_on_company() {
    let (prompts, samples): (Vec<_>, Vec<_>) = (0..8)
        .map(|i| {
            let sample = if i % 2 == 0 { greedy() } else { drawn(i) };
            (prompt(i, 5 + 23 * i as usize), sample)
        })
        .unzip();
    let requests = || prompts.iter().zip(&samples).map(|(p, s)| request(p.clone(), 20, s.clone()));
    let alone: Vec<_> = requests().map(|r| ask(&engine(), r).tokens).collect();
    assert!(alone.iter().all(|tokens| tokens.len() == 20));
    assert_ne!(alone[0], alone[2]);
    assert!(alone.iter().all(|tokens| tokens.windows(2).any(|w| w[0] != w[1])));
    // Rows: everything at once, chunks of a few, one at a time (sequences take turns).
    for (rows, mixed_rows) in [(256, 256), (32, 7), (3, 1)] {
        let config = hob_engine::EngineConfig { mixed_rows, ..config() };
        let engine = engine_of(&gguf(), rows, 64, config, move |batch| {
            assert!(batch.rows() <= rows);
        });
        let streams: Vec<_> = requests().map(|r| engine.submit(r).unwrap()).collect();
        let together: Vec<_> = streams.into_iter().map(|s| collect(s).tokens).collect();
        assert_eq!(together, alone, "{rows} rows");
    }
}

#[test]
fn a_reused_prefix_changes_nothing_but_time() {
    let engine = engine();
    let first = ask(&engine, request(prompt(1, 200), 30, greedy()));
    assert_eq!(first.done().cached_tokens, 0);
    // The conversation goes on: prompt, answer, and something new.
    let next = [prompt(1, 200), first.tokens.clone(), prompt(2, 20)].concat();
    let again = ask(&engine, request(next.clone(), 30, greedy()));
    let fresh = ask(&common::engine(), request(next.clone(), 30, greedy()));
    assert_eq!(again.done().cached_tokens, 192);
    assert_eq!(fresh.done().cached_tokens, 0);
    assert_eq!(again.tokens, fresh.tokens);
    // The very same prompt: its last tokens are computed again.
    let same = ask(&engine, request(next, 30, greedy()));
    assert_eq!((same.done().cached_tokens, same.tokens), (192, fresh.tokens));
}

#[test]
fn answers_end_at_their_length_and_at_the_contexts_end() {
    let engine = engine();
    let some = ask(&engine, request(prompt(1, 10), 7, greedy()));
    assert_eq!(
        (some.tokens.len(), some.done().finish, some.done().generated_tokens),
        (7, Finish::Length, 7)
    );
    let all = Request { max_tokens: None, ..request(prompt(1, 500), 0, greedy()) };
    let all = ask(&engine, all);
    assert_eq!((all.tokens.len(), all.done().finish), (12, Finish::Length));
    let none = ask(&engine, request(prompt(1, 10), 0, greedy()));
    assert_eq!((none.tokens.len(), none.done().finish), (0, Finish::Length));
    let last = ask(&engine, request(prompt(1, 511), 9, greedy()));
    assert_eq!((last.tokens.len(), last.done().finish), (1, Finish::Length));
}

#[test]
fn end_tokens_end_unless_ignored() {
    let engine = engine();
    let eager = SampleOptions { logit_bias: vec![(Tiny::EOS, 100.0)], ..greedy() };
    let prompt = prompt(1, 10);
    let ends = Request { prompt: prompt.clone(), sample: eager.clone(), ..Request::default() };
    let answer = ask(&engine, ends.clone());
    assert_eq!(
        (answer.tokens.len(), answer.done().finish, answer.done().generated_tokens),
        (0, Finish::Stop, 1)
    );
    let answer = ask(&engine, Request { ignore_eos: true, max_tokens: Some(9), ..ends });
    assert_eq!((answer.tokens.len(), answer.done().finish), (9, Finish::Length));
    assert!(!answer.tokens.contains(&Tiny::EOS));
}

#[test]
fn stop_strings_end_and_are_never_shown() {
    let engine = engine();
    let base = request(prompt(5, 30), 40, drawn(3));
    let whole = ask(&engine, base.clone()).text;
    assert_eq!(whole.len(), 40);
    let cut = 17;
    let stop = whole[cut..cut + 4].to_owned();
    let at = whole.find(&stop).unwrap();
    let stopped = Request { stop: vec!["@@".to_owned(), stop], ..base.clone() };
    let mut shown = String::new();
    for event in engine.submit(stopped).unwrap() {
        match event {
            Event::Token { text, .. } => shown += &text,
            Event::Done(done) => {
                assert_eq!(done.finish, Finish::StopString(1));
                assert_eq!((done.text.as_str(), done.generated_tokens), ("", at + 4));
            }
            _ => {}
        }
        assert!(whole[..at].starts_with(&shown));
    }
    assert_eq!(shown, whole[..at]);
    // A stop string that begins at the very end is given out with the end.
    let half = format!("{}@", &whole[38..]);
    let answer = ask(&engine, Request { stop: vec![half], ..base });
    assert_eq!((answer.text.as_str(), answer.done().text.as_str()), (whole.as_str(), &whole[38..]));
}

#[test]
fn text_is_what_the_tokens_decode_to() {
    let gguf = gguf();
    let tokenizer = hob_text::Tokenizer::from_gguf(gguf.meta()).unwrap();
    // Any byte may come: characters are mostly broken, which must not lose anything.
    let request = Request {
        prompt: prompt(1, 10),
        max_tokens: Some(300),
        sample: SampleOptions { top_k: 0, top_p: 1.0, temperature: 3.0, ..drawn(1) },
        ignore_eos: true,
        ..Request::default()
    };
    let answer = ask(&engine(), request);
    assert_eq!(answer.tokens.len(), 300);
    assert_eq!(answer.text, tokenizer.decode(&answer.tokens));
}

#[test]
fn options_reach_the_sampler() {
    let engine = engine();
    let with = |sample: SampleOptions| ask(&engine, request(prompt(3, 40), 30, sample)).tokens;
    let plain = with(drawn(1));
    assert_eq!(plain, with(drawn(1)));
    assert_ne!(plain, with(drawn(2)));
    assert_ne!(
        plain,
        with(SampleOptions { mirostat: Mirostat::V2 { tau: 1.0, eta: 0.1 }, ..drawn(1) })
    );
    let forced = SampleOptions { logit_bias: vec![(98, 1000.0)], ..drawn(1) };
    assert_eq!(with(forced), [98; 30]);
    let logprobs = SampleOptions { top_logprobs: Some(3), ..greedy() };
    for event in engine.submit(request(prompt(3, 40), 5, logprobs)).unwrap() {
        if let Event::Token { id, logprobs, .. } = event {
            let logprobs = logprobs.unwrap();
            assert_eq!(logprobs.top.len(), 3);
            assert!(logprobs.top[0].1 >= logprobs.chosen && logprobs.chosen < 0.0);
            assert!(logprobs.top.iter().all(|t| t.0 != id || t.1 == logprobs.chosen));
        }
    }
}

#[test]
fn the_seed_of_a_draw_is_told() {
    let engine = engine();
    let unseeded = SampleOptions { seed: None, ..drawn(0) };
    let mut stream = engine.submit(request(prompt(3, 40), 30, unseeded.clone())).unwrap();
    let Some(Event::Started { seed, prompt_tokens: 40, .. }) = stream.next() else { panic!() };
    let tokens = collect(stream).tokens;
    assert_eq!(tokens, ask(&engine, request(prompt(3, 40), 30, drawn(seed))).tokens);
    assert_ne!(tokens, ask(&engine, request(prompt(3, 40), 30, unseeded)).tokens);
}

#[test]
fn what_cannot_run_is_refused_at_once() {
    let engine = engine();
    let submit = |request: Request| engine.submit(request).err().unwrap();
    assert!(matches!(submit(Request::default()), EngineError::EmptyPrompt));
    let long = submit(request(prompt(1, 512), 1, greedy()));
    assert!(matches!(long, EngineError::PromptTooLong { tokens: 512, context: 512 }));
    assert!(long.to_string().contains("512 tokens"));
    let foreign = Request { prompt: vec![272], ..Request::default() };
    assert!(matches!(submit(foreign), EngineError::Range { found: 272, .. }));
    let fine = Request { prompt: vec![1], ..Request::default() };
    let hot = SampleOptions { temperature: f32::NAN, ..SampleOptions::default() };
    assert!(matches!(submit(Request { sample: hot, ..fine.clone() }), EngineError::Option(_)));
    for stop in [vec![String::new()], vec!["x".repeat(1025)], vec!["x".to_owned(); 65]] {
        assert!(matches!(submit(Request { stop, ..fine.clone() }), EngineError::Range { .. }));
    }
}

#[test]
fn configurations_that_cannot_work_are_refused() {
    let gguf = gguf();
    let start = |change: fn(&mut hob_engine::EngineConfig)| {
        let tokenizer = std::sync::Arc::new(hob_text::Tokenizer::from_gguf(gguf.meta()).unwrap());
        let mut config = config();
        change(&mut config);
        let runner = runner_of(&gguf, limits(8, 8), |_| {});
        hob_engine::Engine::start(runner, tokenizer, config).err().map(|e| e.to_string())
    };
    assert_eq!(start(|_| {}), None);
    assert!(start(|c| c.context = 513).unwrap().contains("from 2 to 512"));
    assert!(start(|c| c.sequences = 0).is_some());
    assert!(start(|c| c.queue = 0).is_some());
    assert!(start(|c| c.mixed_rows = 0).is_some());
}

#[test]
fn more_requests_than_pages_wait_their_turn() {
    // Pages for two sequences at a time.
    let engine = engine_of(&gguf(), 32, 8, config(), |batch| assert!(batch.spans().len() <= 2));
    let requests = (0..10).map(|i| request(prompt(i, 150), 100, greedy()));
    let streams: Vec<_> = requests.map(|r| engine.submit(r).unwrap()).collect();
    for stream in streams {
        assert_eq!(collect(stream).tokens.len(), 100);
    }
    idle(&engine);
    assert_eq!(engine.status().available_pages, 8);
}

#[test]
fn one_broken_request_does_not_touch_the_others() {
    let tiny = Tiny::new(Family::Llama);
    let (mut bytes, gguf) = (tiny.bytes(), tiny.gguf());
    // The embedding of "!" is not a number.
    let place = gguf.tensor_place(gguf.tensor("token_embd.weight").unwrap()).unwrap();
    let row = place.start as usize + 33 * 64 * 4;
    bytes[row..row + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let gguf = hob_gguf::Gguf::from_bytes(bytes).unwrap();
    let engine = engine_of(&gguf, 32, 64, config(), |_| {});
    let good = engine.submit(request(prompt(1, 100), 20, greedy())).unwrap();
    let bad = engine.submit(request(vec![97, 33, 98], 20, greedy())).unwrap();
    assert!(matches!(collect(bad).end, Err(Failure::Sample(_))));
    assert_eq!(collect(good).tokens.len(), 20);
    idle(&engine);
    assert_eq!(engine.status().available_pages, 64);
}
