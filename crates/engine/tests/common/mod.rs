//! A tiny random model on the reference device, as runner and as engine.
#![allow(dead_code)] // each test file uses its part

use std::sync::Arc;
use std::time::{Duration, Instant};

use hob_engine::{
    Done, Engine, EngineConfig, Event, Failure, Request, Runner, SampleOptions, Stream,
};
use hob_gguf::Gguf;
use hob_model::{Batch, Limits, bind, describe};
use hob_testkit::{Family, RefOps, Rng, Tiny};
use hob_text::Tokenizer;

pub fn limits(rows: usize, pages: usize) -> Limits {
    Limits { logits: 4, states: 8, ..Limits::new(rows, pages) }
}

pub fn runner_of(
    gguf: &Gguf,
    limits: Limits,
    probe: impl FnMut(&Batch) + Send + 'static,
) -> Runner {
    let model = describe(gguf).unwrap();
    let bound = bind(&model, gguf).unwrap();
    let ops = RefOps::load(&model, gguf, &bound, &limits).with_probe(probe);
    Runner::with_ops(model, limits, ops).unwrap()
}

/// An engine whose device calls `probe` at every step.
pub fn engine_of(
    gguf: &Gguf,
    rows: usize,
    pages: usize,
    config: EngineConfig,
    probe: impl FnMut(&Batch) + Send + 'static,
) -> Engine {
    engine_with(gguf, limits(rows, pages), config, probe)
}

/// The same under any limits.
pub fn engine_with(
    gguf: &Gguf,
    limits: Limits,
    config: EngineConfig,
    probe: impl FnMut(&Batch) + Send + 'static,
) -> Engine {
    let tokenizer = Tokenizer::from_gguf(gguf.meta()).unwrap();
    Engine::start(runner_of(gguf, limits, probe), Arc::new(tokenizer), config).unwrap()
}

pub fn gguf() -> Gguf {
    Tiny::new(Family::Qwen2).gguf()
}

pub fn config() -> EngineConfig {
    EngineConfig { context: 512, sequences: 8, queue: 64, mixed_rows: 16 }
}

pub fn engine() -> Engine {
    engine_of(&gguf(), 32, 64, config(), |batch| assert!(batch.rows() <= 32))
}

/// Tokens of invented text.
pub fn prompt(seed: u64, n: usize) -> Vec<u32> {
    let mut rng = Rng::new(seed);
    (0..n).map(|_| 97 + rng.below(26) as u32).collect()
}

/// A request that answers in small letters.
pub fn request(prompt: Vec<u32>, max_tokens: usize, sample: SampleOptions) -> Request {
    let letters = 97..97 + 26;
    let others = (0..272).filter(|id| !letters.contains(id));
    let mut sample = sample;
    sample.logit_bias.extend(others.map(|id| (id, f32::NEG_INFINITY)));
    Request { prompt, max_tokens: Some(max_tokens), sample, ..Request::default() }
}

/// Always the likeliest token; the penalties keep a random model from saying one thing for ever.
pub fn greedy() -> SampleOptions {
    SampleOptions { frequency_penalty: 0.5, presence_penalty: 0.5, ..SampleOptions::greedy() }
}

pub fn drawn(seed: u64) -> SampleOptions {
    SampleOptions { temperature: 1.0, seed: Some(seed), ..SampleOptions::default() }
}

/// What a request came to.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub tokens: Vec<u32>,
    pub text: String,
    pub end: Result<Done, Failure>,
}

impl Answer {
    pub fn done(&self) -> &Done {
        self.end.as_ref().unwrap()
    }
}

pub fn collect(stream: Stream) -> Answer {
    let (mut tokens, mut text, mut end) = (Vec::new(), String::new(), None);
    for event in stream {
        match event {
            Event::Started { .. } => assert!(tokens.is_empty() && end.is_none()),
            Event::Token { id, text: part, .. } => {
                tokens.push(id);
                text += &part;
            }
            Event::Done(done) => {
                text += &done.text;
                end = Some(Ok(done));
            }
            Event::Failed(failure) => end = Some(Err(failure)),
        }
    }
    Answer { tokens, text, end: end.unwrap() }
}

pub fn ask(engine: &Engine, request: Request) -> Answer {
    collect(engine.submit(request).unwrap())
}

/// Waits until nothing runs or waits.
pub fn idle(engine: &Engine) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        let status = engine.status();
        if status.running == 0 && status.waiting == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("still busy: {:?}", engine.status());
}
