//! What a step costs beside the model, measured by hand: `cargo test -p hob-engine --lib -- --ignored bookkeeping`.

use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use hob_model::{Limits, bind, describe};
use hob_testkit::{Family, RefOps, Tiny};

use super::*;
use crate::request::{Cancel, Listener, Request};

const STEPS: u32 = 200;

fn job(id: u64, shared: &Arc<Shared>, client: u64) -> Work {
    shared.waiting.fetch_add(1, Ordering::Relaxed);
    let listener = Listener::new(Box::new(|_| true), Cancel::new(shared.clone()));
    let request = Request { prompt: vec![97; 600], client, ..Request::default() };
    let submitted = Instant::now();
    let follower = None;
    Work::Answer(Box::new(Job { id, request, follower, seed: id, limit: 700, listener, submitted }))
}

/// Time of all that a step does besides computing and sampling.
fn bookkeeping(worker: &mut Worker<'_>) -> Duration {
    let start = Instant::now();
    for _ in 0..STEPS {
        worker.now += 1;
        worker.drop_cancelled();
        worker.settle();
        worker.admit().unwrap();
        let chunks = schedule(&worker.state(), &worker.budget, worker.now);
        assert_eq!(chunks.len(), worker.running.len());
        worker.close_ended();
        worker.report();
    }
    start.elapsed() / STEPS
}

#[test]
#[ignore = "prints a measurement"]
fn bookkeeping_of_a_step() {
    let gguf = Tiny::new(Family::Qwen2).gguf();
    let model = describe(&gguf).unwrap();
    let limits = Limits { sequences: 40, ..Limits::new(4096, 355) };
    let ops = RefOps::load(&model, &gguf, &bind(&model, &gguf).unwrap(), &limits);
    let runner = Runner::with_ops(model, limits, ops).unwrap();
    let tokenizer = Tokenizer::from_gguf(gguf.meta()).unwrap();
    let (sender, inbox) = sync_channel(20_000);
    let shared = Arc::new(Shared::default());
    let budget = Budget { rows: 4096, mixed_rows: 4096, sequences: 36 };
    let speculator = Speculator::new(false, None);
    let mut worker = Worker::new(runner, &tokenizer, budget, speculator, inbox, shared.clone());
    (0..32).for_each(|id| sender.send(job(id, &shared, 0)).unwrap());
    worker.receive();
    worker.now += 1;
    worker.settle();
    worker.admit().unwrap();
    assert_eq!(worker.running.len(), 32);
    worker.running.iter_mut().for_each(|s| s.computed = s.tokens.len() - 1);
    println!("32 decode: {:?} per step", bookkeeping(&mut worker));
    // With slots free, but none that this client may have; then 10,000 clients with a request each, for all of which
    // there are no pages.
    (0..10_000).for_each(|i| sender.send(job(100 + i, &shared, 1)).unwrap());
    worker.receive();
    println!("and 10,000 of one client wait: {:?}", bookkeeping(&mut worker));
    worker.waiting.extract(|_| true);
    (0..10_000).for_each(|i| sender.send(job(20_000 + i, &shared, 1 + i)).unwrap());
    worker.receive();
    println!("and 10,000 of as many clients wait: {:?}", bookkeeping(&mut worker));
}
