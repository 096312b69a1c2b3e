//! Answers with constraints, from random models and a real one, alone and beside others.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use std::path::PathBuf;
use std::sync::Arc;

use common::*;
use hob_engine::{
    Constraint, Engine, EngineConfig, EngineError, Event, Failure, Finish, Grammars, LoadOptions,
    Request, Rule, Runner, SampleOptions, Speculate,
};
use hob_gguf::Gguf;
use hob_text::Tokenizer;
use serde_json::{Value, json};

fn grammars() -> Grammars {
    let tokenizer = Tokenizer::from_gguf(gguf().meta()).unwrap();
    Grammars::new(&Arc::new(tokenizer)).unwrap()
}

fn constrained(rule: Rule, seed: u64) -> Request {
    let constraint = grammars().compile(&rule).unwrap();
    let (sample, prompt) = (drawn(seed), prompt(seed, 20));
    Request { prompt, sample, constraint: Some(constraint), ..Request::default() }
}

fn person() -> Value {
    json!({"type": "object", "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    }, "required": ["name", "age", "tags"], "additionalProperties": false})
}

#[test]
fn answers_follow_and_end_with_their_constraint() {
    let engine = engine();
    for seed in 0..6 {
        let answer = ask(&engine, constrained(Rule::Schema(person()), seed));
        assert_eq!(answer.done().finish, Finish::Stop);
        let value: Value = serde_json::from_str(&answer.text).unwrap();
        assert!(jsonschema::is_valid(&person(), &value), "{value}");
    }
    let word = || Rule::Regex("[a-c]{3}".to_owned());
    let greedy = Request { sample: greedy(), ..constrained(word(), 1) };
    let answer = ask(&engine, greedy.clone());
    let done = answer.done();
    assert_eq!((answer.text.len(), done.finish, done.generated_tokens), (3, Finish::Stop, 3));
    // The best of the allowed.
    let biased =
        SampleOptions { logit_bias: vec![(98, 50.0), (120, 90.0)], ..SampleOptions::greedy() };
    let answer = ask(&engine, Request { sample: biased, ..greedy.clone() });
    assert_eq!(answer.text, "bbb");
    // Shorter limits are kept.
    let answer = ask(&engine, Request { max_tokens: Some(2), ..greedy });
    assert_eq!((answer.text.len(), answer.done().finish), (2, Finish::Length));
}

#[test]
fn company_with_constraints_changes_no_answer() {
    let free = |i: u64| {
        request(prompt(i, 5 + 17 * i as usize), 24, if i % 2 == 0 { greedy() } else { drawn(i) })
    };
    let alone: Vec<_> = (0..4).map(|i| ask(&engine(), free(i))).collect();
    let bound = |i: u64| constrained(Rule::Schema(person()), i);
    let bound_alone: Vec<_> = (0..4).map(|i| ask(&engine(), bound(i))).collect();
    let engine = engine();
    let streams: Vec<_> = (0..4)
        .flat_map(|i| [engine.submit(bound(i)).unwrap(), engine.submit(free(i)).unwrap()])
        .collect();
    let together: Vec<_> = streams.into_iter().map(collect).collect();
    for i in 0..4 {
        assert_eq!(together[2 * i].tokens, bound_alone[i].tokens);
        assert_eq!(together[2 * i + 1].tokens, alone[i].tokens);
    }
}

#[test]
fn without_end_tokens_it_ends_where_nothing_can_follow() {
    let engine = engine();
    let ask_for = |rule: &str, seed| {
        let request = constrained(Rule::Regex(rule.to_owned()), seed);
        ask(&engine, Request { ignore_eos: true, max_tokens: Some(30), ..request })
    };
    let answer = ask_for("a{2,5}", 1);
    assert_eq!((answer.text.as_str(), answer.done().finish), ("aaaaa", Finish::Stop));
    let answer = ask_for("a*", 2);
    assert_eq!((answer.text.len(), answer.done().finish), (30, Finish::Length));
    let empty = ask_for("", 3);
    assert_eq!((empty.text.as_str(), empty.done().finish), ("", Finish::Stop));
}

#[test]
fn drafted_answers_follow_their_constraint_and_are_the_same() {
    let engine = engine();
    engine.speculates().unwrap();
    // Much repetition, so that drafts are right, and ends within drafts.
    let words = r"(ab|abc){3,9}(abcabc){2,4}\.";
    let list = json!({"type": "array", "items": {"enum": ["alpha", "beta"]}, "minItems": 6, "maxItems": 6});
    let (mut drafted, mut accepted) = (0, 0);
    for seed in 0..6 {
        for rule in [Rule::Regex(words.to_owned()), Rule::Schema(list.clone())] {
            let answer =
                |speculate| ask(&engine, Request { speculate, ..constrained(rule.clone(), seed) });
            let (plain, fast) = (answer(Speculate::Off), answer(Speculate::On));
            assert_eq!((&fast.tokens, &fast.text), (&plain.tokens, &plain.text));
            assert_eq!(fast.done().finish, Finish::Stop);
            drafted += fast.done().drafted;
            accepted += fast.done().accepted;
        }
    }
    assert!(0 < accepted && accepted < drafted, "{accepted} of {drafted}");
}

#[test]
fn log_probabilities_are_the_models_own() {
    let engine = engine();
    let ask_with = |constraint: Option<Constraint>| {
        let sample = SampleOptions { top_logprobs: Some(3), ..SampleOptions::greedy() };
        let request = Request {
            prompt: prompt(4, 30),
            sample,
            constraint,
            max_tokens: Some(1),
            ..Request::default()
        };
        let mut events = engine.submit(request).unwrap();
        events.find_map(|event| match event {
            Event::Token { id, logprobs, .. } => Some((id, logprobs.unwrap())),
            _ => None,
        })
    };
    let (free, own) = ask_with(None).unwrap();
    let other = if free == 97 { "b" } else { "a" };
    let rule = grammars().compile(&Rule::Regex(other.to_owned())).unwrap();
    let (bound, logprobs) = ask_with(Some(rule)).unwrap();
    assert_ne!(free, bound);
    assert_eq!(logprobs.top, own.top);
    assert!(logprobs.chosen < own.chosen);
}

#[test]
fn what_cannot_be_followed_fails_alone() {
    let engine = engine();
    let one = grammars().compile(&Rule::Regex("a".to_owned())).unwrap();
    let lost = one.clone().behind_thinking("<think>", "", false);
    let base = constrained(Rule::Json, 1);
    let error = engine.submit(Request { constraint: Some(lost), ..base.clone() }).err().unwrap();
    assert!(matches!(error, EngineError::Grammar(_)), "{error}");
    let beside = engine.submit(request(prompt(2, 9), 40, greedy())).unwrap();
    // The bias forbids all that the constraint allows.
    let sample = SampleOptions { logit_bias: vec![(97, f32::NEG_INFINITY)], ..greedy() };
    let failed = ask(&engine, Request { sample, constraint: Some(one), ..base });
    assert!(matches!(failed.end, Err(Failure::Sample(_))), "{:?}", failed.end);
    assert_eq!(collect(beside).tokens.len(), 40);
}

/// The starter model, if it was fetched.
fn smollm2() -> Option<Gguf> {
    let cache = std::env::var_os("HOB_ASSETS").map(PathBuf::from).or_else(|| {
        std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/hob-assets"))
    })?;
    let path = cache.join("smollm2.gguf");
    if path.is_file() {
        return Some(Gguf::open(&path).unwrap());
    }
    eprintln!("skipped: no {}; `cargo xtask assets` fetches it", path.display());
    None
}

#[test]
fn smollm2_fills_in_a_schema() {
    let Some(gguf) = smollm2() else { return };
    let tokenizer = Arc::new(Tokenizer::from_gguf(gguf.meta()).unwrap());
    let grammars = Grammars::new(&tokenizer).unwrap();
    let runner =
        Runner::load(Arc::new(gguf), &LoadOptions { threads: 2, limits: limits(64, 64) }).unwrap();
    let config = EngineConfig { context: 1024, sequences: 4, queue: 8, mixed_rows: 64 };
    let engine = Engine::start(runner, tokenizer.clone(), config).unwrap();
    let question = "<|im_start|>user\nName the capital of France and its country, as JSON.<|im_end|>\n<|im_start|>assistant\n";
    let options = hob_text::EncodeOptions { add_special: false, parse_special: true };
    let ask_for = |rule: Rule| {
        let request = Request {
            prompt: tokenizer.encode(question, options),
            sample: SampleOptions::greedy(),
            max_tokens: Some(200),
            constraint: Some(grammars.compile(&rule).unwrap()),
            ..Request::default()
        };
        ask(&engine, request)
    };
    let schema = json!({"type": "object", "properties": {"capital": {"type": "string"}, "country": {"type": "string"}},
        "required": ["capital", "country"], "additionalProperties": false});
    let answer = ask_for(Rule::Schema(schema.clone()));
    let value: Value = serde_json::from_str(&answer.text).unwrap();
    assert!(jsonschema::is_valid(&schema, &value) && answer.done().finish == Finish::Stop);
    assert!(value["capital"].as_str().unwrap().contains("Paris"), "{value}");
    let answer = ask_for(Rule::Json);
    assert!(serde_json::from_str::<Value>(&answer.text).unwrap().is_object(), "{}", answer.text);
    let answer = ask_for(Rule::Regex("(Paris|London)[.]".to_owned()));
    assert!(["Paris.", "London."].contains(&answer.text.as_str()), "{}", answer.text);
    assert_eq!(answer.done().finish, Finish::Stop);
}
