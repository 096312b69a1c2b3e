//! Many clients: a flood delays nobody else, priority goes first, what is cancelled in the queue is never computed.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use hob_engine::{Embed, Engine, EngineConfig, EngineError, Event, Finish, Request, Stream};
use hob_model::Limits;
use hob_testkit::{Family, Tiny};

/// An engine that waits at the start of every step until it is let go, and what its steps computed: their rows.
fn gated(config: EngineConfig, pages: usize) -> (Engine, Gate) {
    let (open, gate): (Sender<()>, Receiver<()>) = channel();
    let (begun, entered) = channel();
    let rows = Arc::new(AtomicUsize::new(0));
    let seen = rows.clone();
    let engine = engine_of(&gguf(), 32, pages, config, move |batch| {
        seen.fetch_add(batch.rows(), Ordering::Relaxed);
        let _ = begun.send(batch.rows());
        let _ = gate.recv();
    });
    (engine, Gate { open, entered, rows })
}

struct Gate {
    open: Sender<()>,
    entered: Receiver<usize>,
    rows: Arc<AtomicUsize>,
}

impl Gate {
    /// Waits for the next step to begin; it then waits for [`Gate::pass`].
    fn enter(&self) -> usize {
        self.entered.recv_timeout(Duration::from_secs(60)).unwrap()
    }

    fn pass(&self) {
        self.open.send(()).unwrap();
    }
}

fn of(client: u64, request: Request) -> Request {
    Request { client, ..request }
}

/// Whether it has had a token.
fn has_token(stream: &mut Stream) -> bool {
    std::iter::from_fn(|| stream.next_timeout(Duration::ZERO))
        .any(|event| matches!(event, Event::Token { .. }))
}

#[test]
fn one_client_with_many_requests_does_not_delay_another() {
    let config = EngineConfig { sequences: 8, mixed_rows: 24, ..config() };
    let (engine, gate) = gated(config, 64);
    let asked = |seed| request(prompt(seed, 100), 60, greedy());
    let flood: Vec<_> = (0..64).map(|i| engine.submit(of(1, asked(i))).unwrap()).collect();
    // All that may, decode, or are in their prefill.
    for _ in 0..30 {
        gate.enter();
        gate.pass();
    }
    gate.enter();
    assert_eq!(engine.status().running, 7);
    let mut single = engine.submit(of(2, request(prompt(99, 12), 5, greedy()))).unwrap();
    let mut steps = 0;
    while !has_token(&mut single) {
        gate.pass();
        gate.enter();
        steps += 1;
    }
    // The one in progress, and its own.
    assert_eq!(steps, 2);
    drop(gate);
    assert_eq!(collect(single).done().finish, Finish::Length);
    assert!(flood.into_iter().all(|stream| collect(stream).tokens.len() == 60));
}

#[test]
fn what_is_cancelled_in_the_queue_is_never_computed() {
    let config = EngineConfig { sequences: 2, queue: 200, ..config() };
    let (engine, gate) = gated(config, 64);
    let running: Vec<_> =
        (0..2).map(|i| engine.submit(request(prompt(i, 10), 10, greedy())).unwrap()).collect();
    gate.enter();
    while engine.status().waiting > 0 {
        gate.pass();
        gate.enter();
    }
    let asked = || request(prompt(7, 50), 10, greedy());
    let queued: Vec<_> = (0..200).map(|_| engine.submit(asked()).unwrap()).collect();
    assert!(matches!(engine.submit(asked()), Err(EngineError::Busy { limit: 200 })));
    let streams: Vec<_> = queued.into_iter().inspect(Stream::cancel).collect();
    // The step has not ended, and yet there is room.
    assert_eq!(engine.status().waiting, 0);
    let late = engine.submit(request(prompt(8, 10), 10, greedy())).unwrap();
    drop(gate.open);
    for stream in streams {
        let answer = collect(stream);
        assert_eq!((answer.done().finish, answer.tokens.len()), (Finish::Cancelled, 0));
    }
    assert!(running.into_iter().chain([late]).all(|s| collect(s).tokens.len() == 10));
    idle(&engine);
    let status = engine.status();
    assert_eq!((status.finished, status.cancelled, status.failed), (3, 200, 0));
    assert_eq!((status.prompt_tokens, status.generated_tokens), (30, 30));
    // The last token of each is not computed.
    assert_eq!(gate.rows.load(Ordering::Relaxed), 30 + 3 * 9);
}

#[test]
fn the_cancelled_of_one_step_are_bounded() {
    let config = EngineConfig { sequences: 1, queue: 4, ..config() };
    let (engine, gate) = gated(config, 64);
    let asked = || request(prompt(1, 10), 2, greedy());
    let running = engine.submit(asked()).unwrap();
    gate.enter();
    let mut taken = 0;
    while let Ok(stream) = engine.submit(asked()) {
        drop(stream);
        taken += 1;
    }
    assert_eq!(taken, 8);
    assert_eq!(engine.status().waiting, 0);
    drop(gate);
    assert_eq!(collect(running).tokens.len(), 2);
    idle(&engine);
    assert_eq!(ask(&engine, asked()).tokens.len(), 2);
}

#[test]
fn priority_decides_who_is_next() {
    let (engine, gate) = gated(EngineConfig { sequences: 1, ..config() }, 64);
    let order = Arc::new(Mutex::new(Vec::new()));
    let ask = |name: i8, client| {
        let order = order.clone();
        let request = Request { priority: name, ..of(client, request(prompt(1, 10), 2, greedy())) };
        let sink = move |event| {
            if matches!(event, Event::Started { .. }) {
                order.lock().unwrap().push((name, client));
            }
            true
        };
        engine.submit_to(request, Box::new(sink)).unwrap();
    };
    ask(0, 9);
    gate.enter();
    for (name, client) in [(0, 1), (-1, 2), (0, 1), (0, 3), (7, 1)] {
        ask(name, client);
    }
    drop(gate);
    idle(&engine);
    let order = order.lock().unwrap().clone();
    assert_eq!(order, [(0, 9), (7, 1), (0, 3), (0, 1), (0, 1), (-1, 2)]);
}

#[test]
fn a_request_that_needs_everything_gets_it_beside_a_stream_of_small_ones() {
    let config = EngineConfig { sequences: 4, ..config() };
    let engine = engine_of(&gguf(), 32, 8, config, |_| {});
    let small = |i| request(prompt(i, 20), 40, greedy());
    let mut streams: Vec<_> = (0..3).map(|i| engine.submit(small(i)).unwrap()).collect();
    let huge = Request { max_tokens: None, ..request(prompt(50, 30), 0, greedy()) };
    let huge = std::thread::spawn({
        let engine = engine.clone();
        move || ask(&engine, huge)
    });
    // Small ones never stop coming until it is done.
    for i in 3.. {
        streams.push(engine.submit(small(i)).unwrap());
        assert_eq!(collect(streams.remove(0)).tokens.len(), 40);
        if huge.is_finished() {
            break;
        }
    }
    assert_eq!(huge.join().unwrap().tokens.len(), 512 - 30);
    assert!(streams.into_iter().all(|stream| collect(stream).tokens.len() == 40));
}

#[test]
fn embeddings_of_one_client_do_not_delay_those_of_another() {
    let gguf = Tiny::new(Family::Bert).gguf();
    let (open, gate): (Sender<()>, Receiver<()>) = channel();
    let (begun, entered) = channel();
    let limits = Limits { sequences: 2, states: 2, ..limits(64, 24) };
    let engine = engine_with(&gguf, limits, config(), move |_| {
        let _ = begun.send(());
        let _ = gate.recv();
    });
    let asked = |client, priority, texts| {
        let texts = vec![prompt(client, 30); texts];
        engine.embed(Embed { texts, client, priority, ..Embed::default() }).unwrap()
    };
    let enter = || entered.recv_timeout(Duration::from_secs(60)).unwrap();
    let flood: Vec<_> = (0..20).map(|_| asked(1, 0, 3)).collect();
    enter();
    let single = asked(2, 0, 1);
    // Another client's, less urgent.
    let later = asked(3, -1, 1);
    open.send(()).unwrap();
    enter();
    open.send(()).unwrap();
    enter();
    // Two texts fit into a step: after two of the flood came the single one, and the third of the flood's first three.
    assert_eq!((engine.status().finished, engine.status().waiting), (2, 20));
    drop(open);
    assert!(single.wait().is_ok() && later.wait().is_ok());
    assert!(flood.into_iter().all(|embedding| embedding.wait().unwrap().len() == 3));
}

#[test]
fn what_has_been_done_is_counted() {
    let engine = engine();
    let asked = || request(prompt(1, 70), 10, greedy());
    assert_eq!(ask(&engine, asked()).tokens.len(), 10);
    assert_eq!(ask(&engine, asked()).tokens.len(), 10);
    // Not interested from the start: it has the one step that it began.
    engine.submit_to(request(prompt(2, 10), 400, greedy()), Box::new(|_| false)).unwrap();
    idle(&engine);
    let status = engine.status();
    assert_eq!((status.total_pages, status.available_pages), (64, 64));
    assert_eq!((status.finished, status.cancelled, status.failed), (2, 1, 0));
    assert_eq!((status.prompt_tokens, status.cached_tokens), (70 + 6 + 10, 64));
    assert_eq!(status.generated_tokens, 21);
    assert!(status.steps >= 20);
}
